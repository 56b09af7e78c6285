"""Total variation against images worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from recon_priors import TV, Tikhonov, TotalVariation

STEP = torch.zeros(1, 4, 4, dtype=torch.float64)
STEP[:, :, 2:] = 3.0  # an edge of height 3 down the whole image

CORNER = torch.zeros(1, 4, 4, dtype=torch.float64)
CORNER[:, 2:, 2:] = 1.0  # at (1, 2), (1, 3), (2, 1), (3, 1) one difference of 1; none where two meet


@pytest.mark.parametrize(
    ("prior", "image", "value"),
    [
        (TV(1.0), STEP, 4 * 3),
        (TV(0.5), STEP, 0.5 * 12),
        (TV(1.0, isotropic=False), STEP, 12),
        (TV(1.0, boundary="periodic"), STEP, 24),
        (TV(1.0), CORNER, 4),
        (TV(1.0, isotropic=False), CORNER, 4),
        (TV(1.0), CORNER.flip(1, 2), math.sqrt(2) + 2),
        (TV(1.0, isotropic=False), CORNER.flip(1, 2), 4),
        (TV(1.0), 1j * STEP, 12),
        (TV(1.0), STEP + 1j * STEP, 12 * math.sqrt(2)),
        (TV(1.0), STEP + 1j * STEP.mT, None),
        (Tikhonov(1.0, of="gradient"), STEP, 0.5 * 4 * 9),
        (Tikhonov(2.0), STEP, 8 * 9),
    ],
)
def test_values_worked_out_by_hand(prior: TV, image: torch.Tensor, value: float | None) -> None:
    if value is None:  # a cross: 3 edge pixels with |3|, 3 with |3i|, and the crossing with |(3, 3i)|
        value = 3 * 3 + 3 * 3 + math.sqrt(18)
    assert float(prior(image)) == pytest.approx(value, abs=1e-12)


def test_a_constant_image_has_none() -> None:
    assert float(TV(1.0)(torch.full((1, 3, 5), 7.0))) == pytest.approx(0, abs=1e-15)


def test_real_and_imaginary_parts_share_their_edges() -> None:
    """The joint prox shrinks both by one factor; separate ones would not."""
    z = torch.tensor([[[3.0 + 4.0j], [0.0]]], dtype=torch.complex128)
    torch.testing.assert_close(TV(1.0).prox(z, 2.0), z * (1 - 2 / 5))
    torch.testing.assert_close(TV(1.0, isotropic=False).prox(z, 2.0), z * (1 - 2 / 5))


def test_isotropic_shrinks_the_vector_anisotropic_its_components() -> None:
    z = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    torch.testing.assert_close(TV(1.0).prox(z, 2.0).flatten(), torch.tensor([3.0, 4.0]) * 0.6)
    torch.testing.assert_close(TV(1.0, isotropic=False).prox(z, 2.0).flatten(), torch.tensor([1.0, 2.0]))
    assert torch.equal(TV(1.0).prox(z, 5.0).flatten(), torch.zeros(2))


def test_volumes_and_signals() -> None:
    volume = torch.zeros(1, 3, 3, 3)
    volume[0, 1, 1, 1] = 1.0
    assert float(TV(1.0)(volume)) == pytest.approx(math.sqrt(3) + 3)
    assert float(TV(1.0)(torch.tensor([[0.0, 2.0, -1.0]]))) == pytest.approx(5)


def test_the_value_does_not_know_how_often_it_was_asked() -> None:
    """Rotating the image by 90 degrees keeps the anisotropic value."""
    x = torch.rand(1, 5, 5, dtype=torch.float64)
    prior = TotalVariation(1.0, isotropic=False)
    torch.testing.assert_close(prior(x), prior(x.rot90(1, (1, 2))))
