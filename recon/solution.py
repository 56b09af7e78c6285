"""What a solve gives back: the image, how it came about, and why it stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from recon.archive import read_archive, write_archive
from recon.problem import Problem

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
        problem: what was solved; None after `load`.
        peak_memory: most bytes that the process had held by the end of the solve: resident in memory, or on a GPU in
            tensors; None if unknown.
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
    problem: Problem | None = None
    peak_memory: int | None = None

    def save(self, folder: str | Path) -> Path:
        """Write ``solution.h5`` (everything) and ``image.png`` (to look at) into a folder; returns the folder.

        There is no picture of images with one axis or more than three.
        """
        from recon.report import save_png

        folder = Path(folder)
        record = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("image", "problem")
        }
        write_archive(folder / "solution.h5", FORMAT, record, {"image": self.image})
        if self.item_ndim in (2, 3):
            save_png(folder / "image.png", self.image.resolve_conj(), item_ndim=self.item_ndim)
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
        return Solution(image=arrays["image"], **record)

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
        weight = "" if self.weight is None else f", weight {_short(self.weight)}"
        return (
            f"Solution(image {tuple(self.image.shape)}, {end}: {self.reason} after {self.iterations} iterations, "
            f"{self.seconds:.2f} s{weight})"
        )


def _short(weight: float | list[float]) -> str:
    return f"{weight:.3g}" if isinstance(weight, float) else ", ".join(f"{value:.3g}" for value in weight[:4])
