"""Checks of image metrics: best for equal images, worse with noise, every item for itself."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from recon.metrics import Metric
from recon.testing.measuring import EXACT, Check, Checks, bound, require, require_close

SIZE = 48
"""Side of the test images: larger than the windows of structural metrics."""


def metric_checks(metric: Metric, *, higher_is_better: bool) -> Checks:
    """The checks of a metric by name."""
    return bound(CHECKS, metric, higher_is_better=higher_is_better)


def check_identity(metric: Metric, higher_is_better: bool) -> None:
    """No image scores better than the reference itself; the score of equal images is no NaN."""
    reference = _images(1)
    same = float(metric(reference, reference)[0])
    require(same == same, "the score of equal images is NaN")
    for size in (1e-4, -1e-4, 0.01, -0.01, 0.1, -0.1):
        other = float(metric(reference + size * _noise(1), reference)[0])
        fine = same >= other if higher_is_better else same <= other
        require(
            fine,
            f"an image with noise of {size:g} scores {other:.6g}, the reference itself {same:.6g}, "
            f"although {'higher' if higher_is_better else 'lower'} is better",
        )


def check_direction(metric: Metric, higher_is_better: bool) -> None:
    """More noise, of either sign, scores worse in the direction that the entry states."""
    reference = _images(1)
    for levels in ((0.01, 0.05, 0.2), (-0.01, -0.05, -0.2)):
        scores = [float(metric(reference + level * _noise(1), reference)[0]) for level in levels]
        worse = [a > b if higher_is_better else a < b for a, b in itertools.pairwise(scores)]
        require(
            all(worse),
            f"noise of {levels} scores {', '.join(f'{score:.4g}' for score in scores)}: "
            f"not worse and worse, although {'higher' if higher_is_better else 'lower'} is better. "
            "Is higher_is_better the wrong way round?",
        )


def check_batch_equals_loop(metric: Metric) -> None:
    """One float64 number an item, each as if it were alone; one reference may serve a whole batch."""
    images, references = (
        _images(4) + 0.05 * _noise(4),
        _images(4) * torch.tensor([1.0, 0.5, 0.8, 0.2]).reshape(4, 1, 1),
    )
    batch = metric(images.reshape(2, 2, SIZE, SIZE), references.reshape(2, 2, SIZE, SIZE))
    require(tuple(batch.shape) == (2, 2), f"the scores of a (2, 2) batch have shape {tuple(batch.shape)}")
    require(batch.dtype == torch.float64, f"the scores are {batch.dtype}, expected torch.float64")
    loop = torch.stack(
        [metric(image, reference) for image, reference in zip(images, references, strict=True)]
    )
    require_close(
        batch.reshape(4), loop.reshape(4), "the scores of a batch differ from a loop over its items", EXACT
    )
    shared = torch.stack([metric(image, references[0]) for image in images])
    require_close(
        metric(images, references[0]), shared, "one reference for a batch differs from a loop", EXACT
    )


def check_empty_batch(metric: Metric) -> None:
    """A batch of no items gives no scores."""
    score = metric(_images(1)[:0], _images(1)[:0])
    require(
        tuple(score.shape) == (0,), f"the scores of no items have shape {tuple(score.shape)}, expected (0,)"
    )


def check_convention(metric: Metric) -> None:
    """The score says its convention in words: a number without it cannot be compared."""
    score = metric.score(_images(1), _images(1) + 0.1)
    require(bool(score.convention.strip()), "the convention is empty: say peak, region, units")
    require("\n" not in score.convention, "the convention is more than one line")


def check_input_unchanged(metric: Metric) -> None:
    """The images stay as they are."""
    image, reference = _images(2), _images(2) + 0.1
    before = image.clone(), reference.clone()
    metric(image, reference)
    require(
        torch.equal(image, before[0]) and torch.equal(reference, before[1]), "the metric changes its images"
    )


def check_deterministic(metric: Metric) -> None:
    """The same images give the same score, to the last bit."""
    image, reference = _images(2) + 0.1 * _noise(2), _images(2)
    require(torch.equal(metric(image, reference), metric(image, reference)), "two calls give two scores")


CHECKS: tuple[Check, ...] = (
    check_identity,
    check_direction,
    check_batch_equals_loop,
    check_empty_batch,
    check_convention,
    check_input_unchanged,
    check_deterministic,
)


def _images(items: int) -> Tensor:
    """Smooth positive images below 1, float64, no two alike."""
    axis = torch.linspace(0, 3, SIZE, dtype=torch.float64)
    waves = [
        0.5 + 0.2 * torch.sin(axis[:, None] * (1 + i)) + 0.2 * torch.cos(axis * (2 + i)) for i in range(items)
    ]
    return torch.stack(waves)


def _noise(items: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((items, SIZE, SIZE), generator=generator, dtype=torch.float64)
