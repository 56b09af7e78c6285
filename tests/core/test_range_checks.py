"""A range in another unit than the image's is warned of, whatever kind of prior maps the image by it."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import recon
from recon.learned import LearnedPrior

SHAPE = (12, 12)
UNITS = {"HU": (-1000.0, 1500.0), "1/mm": (0.0, 0.05), "grey levels": (0.0, 255.0), "0 to 1": (0.0, 1.0)}
ONCE = recon.MaxIterations(1)


class Identical(recon.Denoiser):
    """A denoiser for values between 0 and 1."""

    value_range = (0.0, 1.0)

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return x


class Sigmoid(nn.Module):
    """A generator's network, with values between 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.free = nn.Parameter(torch.zeros(1, *SHAPE))

    def forward(self, fixed: Tensor) -> Tensor:
        return torch.sigmoid(self.free) + 0 * fixed


def generator() -> recon.Generator:
    made = recon.Generator(Sigmoid(), torch.zeros(1, *SHAPE))
    made.value_range = (0.0, 1.0)
    return made


PRIORS = {
    "denoiser": (lambda: Identical(weight=1.0), recon.ADMM()),
    "network": (lambda: LearnedPrior(nn.Conv2d(1, 1, 1), weight=1.0), recon.ADMM()),
    "generator": (generator, recon.DIP(iterations=1)),
}


def image_in(unit: str) -> Tensor:
    low, high = UNITS[unit]
    return low + (high - low) * torch.rand(*SHAPE, generator=torch.Generator().manual_seed(0))


def solve(kind: str, unit: str, image_range: tuple[float, float]) -> None:
    prior, solver = PRIORS[kind]
    recon.solve(
        recon.Identity(SHAPE), prior(), image_in(unit), solver=solver, image_range=image_range, stop=ONCE
    )


@pytest.mark.filterwarnings("ignore::recon.solving.ConvergenceWarning")
@pytest.mark.parametrize("kind", list(PRIORS))
@pytest.mark.parametrize(
    ("unit", "said"), [("HU", "0 to 1"), ("0 to 1", "grey levels"), ("1/mm", "HU"), ("grey levels", "1/mm")]
)
def test_another_unit_is_warned_of(kind: str, unit: str, said: str) -> None:
    low, high = UNITS[said]
    with pytest.warns(RuntimeWarning, match="does not fit this image") as caught:
        solve(kind, unit, (low, high))
    text = str(next(w.message for w in caught if w.category is RuntimeWarning))
    image = image_in(unit)
    assert f"image_range=({low:g}, {high:g})" in text
    darker = UNITS[unit][1] < high  # no range is proposed for an image that may be dark
    assert ("here perhaps image_range=(" in text) != darker
    assert f"from {float(image.min()):.3g} to {float(image.max()):.3g}" in text


@pytest.mark.filterwarnings("ignore::recon.solving.ConvergenceWarning")
@pytest.mark.parametrize("kind", list(PRIORS))
@pytest.mark.parametrize("unit", list(UNITS))
def test_the_image_s_own_unit_is_not(kind: str, unit: str) -> None:
    low, high = UNITS[unit]
    solve(kind, unit, (low, high))
    solve(kind, unit, (low - (high - low), high + (high - low)))  # a generous one: the scanner's, the file's


@pytest.mark.filterwarnings("ignore::recon.solving.ConvergenceWarning")
def test_a_network_s_own_range_is_checked_too() -> None:
    prior = LearnedPrior(nn.Conv2d(1, 1, 1), image_range=(0.0, 0.05), unit="1/mm", weight=1.0)
    with pytest.warns(
        RuntimeWarning, match=r"the range \(0, 0.05\) 1/mm that this prior was trained on does not"
    ):
        recon.solve(recon.Identity(SHAPE), prior, image_in("HU"), solver=recon.ADMM(), stop=ONCE)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        recon.solve(recon.Identity(SHAPE), prior, image_in("1/mm"), solver=recon.ADMM(), stop=ONCE)


@pytest.mark.filterwarnings("ignore::recon.solving.ConvergenceWarning")
def test_a_complex_image_is_judged_by_its_magnitude() -> None:
    image = torch.polar(image_in("0 to 1"), 6.28 * image_in("0 to 1"))
    with pytest.warns(RuntimeWarning, match="does not fit"):
        recon.solve(
            recon.Identity(SHAPE),
            Identical(weight=1.0),
            image,
            image_range=(0.0, 1e4),
            solver=recon.ADMM(),
            stop=ONCE,
        )
    recon.solve(
        recon.Identity(SHAPE),
        Identical(weight=1.0),
        image,
        image_range=(0.0, 1.0),
        solver=recon.ADMM(),
        stop=ONCE,
    )


def told_of(image: Tensor, image_range: tuple[float, float], **given: Any) -> list[str]:
    """The warnings that solving for the image itself gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        recon.solve(
            recon.Identity(SHAPE),
            Identical(weight=1.0),
            image,
            image_range=image_range,
            solver=recon.ADMM(),
            stop=ONCE,
            **given,
        )
    return [str(w.message) for w in caught if "does not fit" in str(w.message)]


@pytest.mark.filterwarnings("ignore::recon.solving.ConvergenceWarning")
def test_a_first_image_is_not_what_the_data_give() -> None:
    """A common start of small noise says nothing of the image's unit; the data do, x0 given or not."""
    start = 1e-3 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    assert told_of(image_in("0 to 1"), (0.0, 1.0), x0=start) == []
    assert len(told_of(image_in("HU"), (0.0, 1.0), x0=image_in("0 to 1"))) == 1


@pytest.mark.filterwarnings("ignore::recon.solving.ConvergenceWarning")
def test_the_direct_reconstruction_is_made_once() -> None:
    class Counting(recon.Identity):
        made = 0

        def _pinv(self, y: Tensor, **options: Any) -> Tensor:
            type(self).made += 1
            return super()._pinv(y, **options)

    for start in (None, torch.zeros(SHAPE)):
        Counting.made = 0
        recon.solve(
            Counting(SHAPE),
            Identical(1.0),
            image_in("0 to 1"),
            image_range=(0, 1),
            x0=start,
            solver=recon.ADMM(),
            stop=ONCE,
        )
        assert Counting.made == 1


@pytest.mark.parametrize(
    ("low", "high", "image_range"),
    [
        (0.4999, 0.5001, (0.0, 1.0)),  # flat
        (0.0, 3.0, (0.0, 255.0)),  # dark
        (-1000.0, -999.9, (-1000.0, 2000.0)),  # air
        (0.0, 0.0, (0.0, 1.0)),
    ],
)
def test_flat_and_dark_images_are_in_their_unit(
    low: float, high: float, image_range: tuple[float, float]
) -> None:
    assert told_of(low + (high - low) * image_in("0 to 1"), image_range) == []


@pytest.mark.parametrize(
    ("low", "high", "image_range"),
    [(-1000.0, 2000.0, (0.0, 1.0)), (0.0, 1.0, (0.0, 4000.0)), (0.0, 0.03, (0.0, 2000.0))],
)
def test_the_item_of_a_batch_is_named(low: float, high: float, image_range: tuple[float, float]) -> None:
    right = image_range[0] + (image_range[1] - image_range[0]) * image_in("0 to 1")
    batch = torch.stack([right, low + (high - low) * image_in("0 to 1"), right])
    (text,) = told_of(batch, image_range)
    assert "does not fit item 1 of the batch" in text
