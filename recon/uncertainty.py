"""How far noise moves a reconstruction: the same solve repeated on data whose noise is drawn anew."""

from __future__ import annotations

import dataclasses
import numbers
import time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from recon.emission import Emission
from recon.lifting import lifted
from recon.linear import real_dtype
from recon.priors import Functional
from recon.problem import DEPENDS_ON_DATA, Problem
from recon.runner import run
from recon.transmission import PWLS
from recon.weight import spread

if TYPE_CHECKING:
    from recon.solution import Solution

LEVELS = (0.05, 0.5, 0.95)
Method = Literal["parametric", "residual"]
_LEAST_COUNT = 0.1  # that a ray without photons is given, as in `recon.simulate.PoissonNoise`


@dataclasses.dataclass(frozen=True, repr=False)
class Uncertainty:
    """What repeated solves say of an image: how far it moves with the noise.

    The bias of the reconstruction is not in it: what a prior smooths away, it smooths away in every sample.
    An interval of 90 % covers 90 % of the true pixels where the prior is weak; with a strong prior, less.

    Attributes:
        std: standard deviation over the samples, ``(*batch, *domain_shape)``, real; of complex images
            sqrt(mean |x - mean x|^2).
        shift: mean of the samples less the image: the bias that the method shows on its own image, an estimate of
            that on the true one.
        quantiles: of the samples, their magnitude where complex, ``(3, *batch, *domain_shape)``, at `levels`.
        levels: 0.05, 0.5 and 0.95.
        image: the image that it is about.
        samples: how many solves.
        converged: how many of the solves, each image of a batch counted, met the stopping rule.
        method: how the noise was drawn.
        noise_level: of each item, what a parametric bootstrap drew; None for another.
        seed: of the noise.
        seconds: wall time.
    """

    std: Tensor
    shift: Tensor
    quantiles: Tensor
    levels: tuple[float, ...]
    image: Tensor
    samples: int
    converged: int
    method: str
    noise_level: list[float] | None
    seed: int
    seconds: float

    def __repr__(self) -> str:
        return (
            f"Uncertainty(maps {tuple(self.std.shape)}, {self.samples} solves: std median "
            f"{float(self.std.median()):.3g}, largest {float(self.std.max()):.3g}, {self.seconds:.2f} s)"
        )

    def radius(self, level: float = 0.9) -> Tensor:
        """Half the width of the interval around every pixel that noise leaves with this probability.

        Student's t for the few samples, on real images; for complex ones the radius of a disc, for circular noise.
        """
        if not 0 < level < 1:
            raise ValueError(f"level is a probability between 0 and 1, got {level}")
        if self.image.is_complex():
            return self.std * float(np.sqrt(-np.log(1 - level)))
        return self.std * float(stdtrit(self.samples - 1, 0.5 + level / 2))

    def coverage(self, reference: Tensor, level: float = 0.9, item_ndim: int = 2) -> Tensor:
        """The part of the pixels whose true value lies within `radius` of the image, one number an image.

        Args:
            reference: the true image, broadcastable to the image.
            level: what would be covered if noise were the only error.
            item_ndim: how many trailing axes make one image.
        """
        inside = (self.image - reference.to(self.image.device)).abs() <= self.radius(level)
        return inside.flatten(inside.ndim - item_ndim).double().mean(-1)

    def record(self) -> dict[str, Any]:
        """What is not a map, as JSON can hold it."""
        names = ("levels", "samples", "converged", "method", "noise_level", "seed", "seconds")
        return {name: getattr(self, name) for name in names}

    def maps(self) -> dict[str, Tensor]:
        """The maps by name."""
        return {name: getattr(self, name) for name in ("std", "shift", "quantiles")}

    @classmethod
    def restored(cls, record: dict[str, Any], maps: dict[str, Any], image: Tensor) -> Uncertainty:
        """From what `record` and `maps` gave."""
        about = dict(record, levels=tuple(record["levels"]), image=image)
        return cls(**about, **maps)

    def in_words(self) -> list[str]:
        """What was done and what it leaves out, in sentences."""
        drawn = {
            "parametric": "noise drawn anew around the data that the image predicts",
            "residual": "the residual of every sample with a random sign",
        }[self.method]
        return [
            f"From {self.samples} solves with {drawn}, at the same weight (seed {self.seed}).",
            f"Median standard deviation {float(self.std.median()):.3g}, largest {float(self.std.max()):.3g}.",
            "It is the image's spread under noise; the bias of the prior is not in it.",
        ]


def bootstrap(
    solution: Solution,
    samples: int = 16,
    seed: int = 0,
    method: Method = "parametric",
    at_once: int | None = None,
) -> Uncertainty:
    """Solve again on data with new noise, all samples as one batch.

    ``"parametric"``: y* = A x + noise at the level that was given or estimated, 1/sqrt(w) times it where the data term
    has weights, counts drawn anew where it counts photons (Efron and Tibshirani 1993, 6.5). As good as the noise model;
    a level that is estimated too high widens everything with it.
    ``"residual"``: y* = A x + (y - A x) with random signs, sample by sample (the wild bootstrap, Wu 1986): no noise
    model and no level is needed, uneven noise is kept; but residuals are smaller than the noise by sqrt(1 - df/m), as
    the image has been fitted to some of it, and hold what the model cannot explain.

    Samples start from the image where the minimum is one, else as the solve itself did. The weight stays that of the
    solution: what its choice adds is not in the result.

    Args:
        solution: of a solve in this session.
        samples: how many, at least 2.
        seed: of the noise; every item of a batch is given the same draws.
        method: as above.
        at_once: how many samples are solved as one batch; None for all. Memory grows with it.

    Raises:
        ValueError: a loaded solution, which does not know its problem; no whole number of samples >= 2.
    """
    problem, algorithm, stop = solution.problem, solution.algorithm, solution.stop
    if problem is None or algorithm is None or stop is None:
        raise ValueError(
            "a solution from a file does not know its problem: solve again, then ask for the uncertainty"
        )
    for name, value, least in (("samples", samples, 2), ("at_once", at_once, 1), ("seed", seed, 0)):
        if value is None and name == "at_once":
            continue
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")
    if method not in ("parametric", "residual"):
        raise ValueError(f"method must be 'parametric' or 'residual', got {method!r}")
    began = time.perf_counter()
    found, converged = [], 0
    with torch.no_grad():
        image = solution.image.reshape(problem.items, *problem.operator.domain_shape)
        predicted = problem.operator(image)
        first_image = image if solution.converged and _has_one_minimum(problem) else problem.x0
        for first in range(0, samples, at_once or samples):
            chosen = range(first, min(first + (at_once or samples), samples))
            part = lifted(_redrawn(problem, first_image, predicted, chosen, seed, method))
            outcome = run(part, algorithm, stop=stop)
            converged += sum(outcome.converged)
            found.append(part.visible(outcome.image).reshape(len(chosen), *solution.image.shape))
    images = torch.cat(found)
    mean = images.mean(0)
    variance = (images - mean).abs().square().sum(0) / (samples - 1)
    plain = images.abs() if images.is_complex() else images
    levels = torch.tensor(LEVELS, dtype=plain.dtype, device=plain.device)
    return Uncertainty(
        std=variance.sqrt(),
        shift=mean - solution.image,
        quantiles=_quantiles(plain, levels),
        levels=LEVELS,
        image=solution.image,
        samples=samples,
        converged=converged,
        method=method,
        noise_level=problem.noise_level.tolist() if method == "parametric" else None,
        seed=seed,
        seconds=time.perf_counter() - began,
    )


def _quantiles(images: Tensor, levels: Tensor) -> Tensor:
    """Of the samples at every pixel, a million pixels at a time: torch's quantile takes no more than 16 million."""
    flat = images.reshape(len(images), -1)
    step = max(1, 10_000_000 // len(images))
    parts = [torch.quantile(part, levels, dim=0) for part in flat.split(step, dim=1)]
    return torch.cat(parts, 1).reshape(len(levels), *images.shape[1:])


def _has_one_minimum(problem: Problem) -> bool:
    """Whether a converged solve does not show where it began: convex functionals alone, and not constraints alone.

    What is regularised by its schedule or by being stopped (denoisers, networks, SIRT) must begin where it did.
    """
    members = [] if problem.prior is None else problem.prior.members
    convex = all(isinstance(member, Functional) and member.convex for member in members)
    return convex and any(isinstance(member, Functional) and not member.constraint for member in members)


def _redrawn(
    problem: Problem, first_image: Tensor | None, predicted: Tensor, chosen: range, seed: int, method: Method
) -> Problem:
    """The problem with other noise, a block of all items a sample."""
    count = len(chosen)
    part = problem.select(torch.arange(problem.items, device=problem.y.device).repeat(count))
    clean = predicted.repeat(count, *(1,) * (predicted.ndim - 1))
    part.x0 = None if first_image is None else first_image.repeat(count, *(1,) * (first_image.ndim - 1))
    part.reference = None
    for name in DEPENDS_ON_DATA:
        part.__dict__.pop(name, None)
    if method == "parametric":
        part.noise_level = problem.noise_level.repeat(count)
    if method == "parametric" and isinstance(part.item_fidelity, Emission):
        _draw_counts(part, clean, chosen, seed, problem.items)
        return part
    if method == "parametric" and isinstance(problem.fidelity, PWLS):
        _recount(part, clean, chosen, seed, problem.items)
        return part
    draws = torch.stack([_draw(problem, seed, sample, method) for sample in chosen])
    noise = draws.repeat_interleave(problem.items, 0).to(problem.y.device)
    if method == "residual":
        part.y = clean + noise.to(real_dtype(clean.dtype)) * (part.y - clean)
        return part
    size = part.noise_level.reshape(-1, *(1,) * (clean.ndim - 1)).to(real_dtype(clean.dtype)) * spread(part)
    part.y = clean + size * noise.to(clean.dtype)
    return part


def _draw(problem: Problem, seed: int, sample: int, method: Method) -> Tensor:
    """White noise or random signs for one item's data; noise only where data exist."""
    generator, shape = _generator(seed, sample), problem.operator.range_shape
    if method == "residual":
        return torch.randint(0, 2, shape, generator=generator).mul(2).sub(1).double()
    parts = torch.randn((*shape, 2), generator=generator, dtype=torch.float64)
    noise = torch.view_as_complex(parts) if problem.y.is_complex() else parts[..., 0].clone()
    mask = problem.operator.sample_mask
    return noise if mask is None else noise * mask.to(noise.device)


def _recount(part: Problem, clean: Tensor, chosen: range, seed: int, items: int) -> None:
    """Counts of photons drawn anew, and the line integrals and the data term that they make."""
    term = part.item_fidelity
    assert isinstance(term, PWLS)
    expected = (term.photons * torch.exp(-clean)).double().cpu()
    counts = torch.empty_like(expected)
    for place in range(len(expected)):
        generator = _generator(seed, chosen[place // items])
        counts[place] = torch.poisson(expected[place], generator=generator)
        if term.electronic:
            counts[place] += term.electronic * torch.randn(
                counts[place].shape, generator=generator, dtype=torch.float64
            )
    counts = counts.clamp_min(0).to(clean)
    part.y = -torch.log(counts.clamp_min(_LEAST_COUNT) / term.photons)
    arguments = term.parameters() | {"photons": term.photons.expand(clean.shape), "counts": counts}
    part.fidelity = type(term)(**arguments)
    part.item_fidelity = part.fidelity.for_items(part.y, (len(clean),))
    part.batch_shape = (len(clean),)


def _draw_counts(part: Problem, clean: Tensor, chosen: range, seed: int, items: int) -> None:
    """Emission counts drawn anew, and the weights that belong to them."""
    term = part.item_fidelity
    assert isinstance(term, Emission)
    expected = (clean + term.background).clamp_min(0).double().cpu()
    counts = [
        torch.poisson(one, generator=_generator(seed, chosen[place // items]))
        for place, one in enumerate(expected)
    ]
    part.y = torch.stack(counts).to(clean)
    part.fidelity = part.item_fidelity = term.for_items(part.y, (len(clean),))


def _generator(seed: int, sample: int) -> torch.Generator:
    """A stream of its own for each sample."""
    state = np.random.SeedSequence((seed, sample, 0xB007)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
