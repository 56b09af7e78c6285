"""What a solve gives back: the image, how it came about, and why it stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from recon.archive import read_archive, write_archive
from recon.problem import Problem
from recon.solvers.algorithm import Algorithm
from recon.stopping import StoppingRule

if TYPE_CHECKING:
    from recon.uncertainty import Uncertainty

FORMAT = "recon solution 2"


@dataclasses.dataclass
class Solution:
    """A reconstruction and its record.

    Attributes:
        image: ``(*batch, *domain_shape)``.
        item_ndim: how many trailing axes make one image.
        history: name -> one entry a record: a number for a single image, a list of numbers for a batch.
            Always
            there: ``iteration``, ``seconds``, ``objective`` f(Ax; y) + sum g_i(K_i x), ``residual`` |Ax -
                y|_w and
            ``change`` |x_k - x_(k-1)| / |x_k|; splitting algorithms add ``primal`` and ``dual``, a reference
            adds ``psnr``.
        reason: the rule that fired, or "interrupted"; for a batch, each different one once.
        reasons: the same for each item of the flattened batch.
        converged: whether every item's rule means that the problem is solved (not that time was up).
        iterations: of the item that took longest.
        seconds: wall time, the search for the weight included.
        weight: the weight chosen for priors of automatic weight: a number, or one an item; None if none was.
        weight_search: what the search saw, a record a look.
        provenance: operator, prior, solver with their versions and arguments, seed, environment.
        facts: what else was decided and found, which `explain` puts into words.
        problem: what was solved; None after `load`.
        algorithm: what solved it; None after `load`.
        stop: when it was to stop; None after `load`.
        peak_memory: most bytes that the process had held by the end of the solve: resident in memory, or on a GPU in
            tensors; None if unknown.
        error_bars: what `uncertainty` found, once it was asked for; kept by `save` and shown by `report`.
    """

    image: Tensor
    item_ndim: int
    history: dict[str, list[Any]]
    reason: str
    reasons: list[str]
    converged: bool
    iterations: int
    seconds: float
    weight: float | list[float] | None
    weight_search: list[dict[str, Any]]
    provenance: dict[str, Any]
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    problem: Problem | None = None
    peak_memory: int | None = None
    algorithm: Algorithm | None = None
    stop: StoppingRule | None = None
    error_bars: Uncertainty | None = None

    def uncertainty(
        self,
        samples: int = 16,
        seed: int = 0,
        method: Literal["parametric", "residual"] = "parametric",
        at_once: int | None = None,
    ) -> Uncertainty:
        """How far noise moves the image: the solve repeated on data with new noise; see `recon.uncertainty.bootstrap`.

        Args:
            samples: how many solves, all of them one batch.
            seed: of the noise.
            method: ``"parametric"`` draws noise at the level that is known or estimated, ``"residual"`` gives the
                residuals random signs.
            at_once: most samples in one batch, where memory is short.

        Raises:
            ValueError: a solution from a file, or samples that are no whole number >= 2.
        """
        from recon.uncertainty import bootstrap

        self.error_bars = bootstrap(self, samples, seed, method, at_once)
        return self.error_bars

    def explain(self) -> str:
        """What was solved, by which solver and why, where the weight and the steps came from, why it stopped.

        Plain text of what was recorded during the solve; what to try where it did not converge.

        Raises:
            ValueError: loaded from a file of an earlier version, which recorded less.
        """
        from recon.explanation import explanation, text_of

        return text_of(explanation(self))

    def record(self) -> dict[str, Any]:
        """All of it but for images and what lives in this session alone, as JSON can hold it."""
        left_out = ("image", "problem", "algorithm", "stop", "error_bars")
        fields = (field.name for field in dataclasses.fields(self) if field.name not in left_out)
        return {name: getattr(self, name) for name in fields}

    def save(self, folder: str | Path) -> Path:
        """Write ``solution.h5`` (everything) and ``image.png`` (to look at) into a folder; returns the folder.

        After `uncertainty` also ``uncertainty.png``, its standard deviation from 0, black, to what 99.5 % of the pixels
        stay below. There are no pictures of images with one axis or more than three.
        """
        from recon.report.figures import save_png, window_from_zero

        folder, record = Path(folder), self.record()
        arrays = {"image": self.image}
        if self.error_bars is not None:
            record["uncertainty"] = self.error_bars.record()
            arrays |= {f"uncertainty/{name}": part for name, part in self.error_bars.maps().items()}
        write_archive(folder / "solution.h5", FORMAT, record, arrays)
        if self.item_ndim in (2, 3):
            save_png(folder / "image.png", self.image.resolve_conj(), item_ndim=self.item_ndim)
            if self.error_bars is not None:
                std = self.error_bars.std
                first = std.reshape(-1, *std.shape[std.ndim - self.item_ndim :])[0]
                save_png(folder / "uncertainty.png", std, window_from_zero(first), item_ndim=self.item_ndim)
        return folder

    @staticmethod
    def load(path: str | Path) -> Solution:
        """Read what `save` wrote: the folder, or its ``solution.h5``.

        Raises:
            FileNotFoundError: nothing there.
            FormatError: not a solution, or a damaged one.
        """
        path = Path(path)
        file_path = path / "solution.h5" if path.is_dir() else path
        if not file_path.is_file():
            raise FileNotFoundError(f"there is no solution at {path}")
        record, arrays = read_archive(file_path, FORMAT)
        about = record.pop("uncertainty", None)
        solution = Solution(image=arrays["image"], **record)
        if about is not None:
            from recon.uncertainty import Uncertainty

            maps = {name.partition("/")[2]: part for name, part in arrays.items() if name != "image"}
            solution.error_bars = Uncertainty.restored(about, maps, solution.image)
        return solution

    def report(
        self,
        path: str | Path,
        reference: Any = None,
        compare: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Path:
        """Write one self-contained HTML page: images under a divider, differences, metrics, curves, provenance.

        Args:
            path: where to.
            reference: true image; None takes the problem's own, if it has one.
            compare: name -> another `Solution` or image of the same shape, to set beside this one.
            options: of `recon.report.solution_report` and `comparison_report`, such as ``name="TV"``,
                ``unit="1/mm"`` or ``window=(0, 0.03)``.
        """
        from recon.report import solution_report

        if reference is None and self.problem is not None and self.problem.reference is not None:
            reference = self.problem.unflatten(self.problem.reference)
        return solution_report(self, path, reference=reference, compare=compare, **options)

    def __repr__(self) -> str:
        end = "converged" if self.converged else "not converged"
        counted = f"{self.iterations} iteration{'' if self.iterations == 1 else 's'}"
        weight = "" if self.weight is None else f", weight {_short(self.weight)}"
        return (
            f"Solution(image {tuple(self.image.shape)}, {end}: {self.reason} after {counted}, "
            f"{self.seconds:.2f} s{weight})"
        )


def _short(weight: float | list[float]) -> str:
    if isinstance(weight, float):
        return f"{weight:.3g}"
    return ", ".join(f"{value:.3g}" for value in weight[:4]) + (", ..." if len(weight) > 4 else "")
