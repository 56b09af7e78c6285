"""The package's priors inside `recon.solve`: by object, by name, on real and complex images, in sums."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recon_operators import Blur, CartesianMRI, Mask
from recon_priors import L1, TV, Box, NonNegative, Tikhonov
from torch import Tensor

import recon


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


SHAPE = (12, 14)


@pytest.mark.parametrize(
    "prior",
    [
        "tv:weight=0.2",
        ("tv", {"weight": 0.2}),
        recon.prior("tv", weight=0.2),
        TV(0.2),
        TV(0.2, isotropic=True),
    ],
)
def test_a_prior_is_an_object_a_name_or_a_name_with_arguments(prior: Any) -> None:
    y, stop = random(*SHAPE), recon.MaxIterations(20)
    expected = recon.solve(recon.Identity(SHAPE), TV(0.2), y, stop=stop)
    solution = recon.solve(
        "identity:shape=(12, 14)" if isinstance(prior, str) else recon.Identity(SHAPE), prior, y, stop=stop
    )
    assert torch.equal(solution.image, expected.image)


def test_the_record_holds_the_weight_that_was_used() -> None:
    y = random(*SHAPE)
    for prior in ("tv", ("tv", {"weight": 0.7})):
        solution = recon.solve(recon.Identity(SHAPE), prior, y, weight=0.2, stop=recon.MaxIterations(2))
        (record,) = solution.provenance["prior"]
        assert record["name"] == "recon/tv" and record["arguments"]["weight"] == 0.2


def test_periodic_total_variation_has_a_closed_form_step_in_mri_and_agrees_with_conjugate_gradients() -> None:
    class Plain(CartesianMRI):
        solve_gram = recon.LinearOperator.solve_gram
        preconditioner = recon.LinearOperator.preconditioner

    mask = (random(*SHAPE) > -0.3).float()
    truth = random(*SHAPE, dtype=torch.complex128)
    stop = recon.SmallResiduals(1e-6) | recon.MaxIterations(2000)
    images = []
    for make in (CartesianMRI, Plain):
        operator = make(mask)
        solution = recon.solve(operator, TV(0.1, boundary="periodic"), operator(truth), stop=stop)
        assert solution.converged
        images.append(solution.image)
    torch.testing.assert_close(images[0], images[1], rtol=0, atol=1e-4)


def test_total_variation_of_a_complex_image_is_invariant_to_its_phase() -> None:
    """Joint over real and imaginary part: turning the data turns the image."""
    mask, turn = (random(*SHAPE) > -0.3).float(), torch.exp(torch.tensor(1j))
    operator = CartesianMRI(mask)
    y = operator(random(*SHAPE, dtype=torch.complex64))
    images = [
        recon.solve(operator, TV(0.1), data, stop=recon.MaxIterations(50)).image for data in (y, turn * y)
    ]
    torch.testing.assert_close(images[1], turn * images[0], rtol=0, atol=1e-5)


def test_priors_on_real_images_meet_complex_ones_through_adapters() -> None:
    operator = CartesianMRI(torch.ones(SHAPE))
    y = operator(random(*SHAPE, dtype=torch.complex64))
    with pytest.raises(
        TypeError, match=r"NonNegative is defined on real images.*recon.Magnitude or recon.RealAndImaginary"
    ):
        recon.solve(operator, NonNegative(), y)
    image = recon.solve(operator, recon.RealAndImaginary(NonNegative()) + TV(0.05), y).image
    assert float(image.real.min()) >= 0 and float(image.imag.min()) >= 0
    image = recon.solve(operator, recon.Magnitude(Box(0.0, 0.5)) + TV(0.05), y).image
    assert float(image.abs().max()) <= 0.5 + 1e-6


def test_bounds_hold_and_do_not_disturb_where_they_do_not_bind() -> None:
    blur = Blur(SHAPE, kernel=[[0.0, 0.1, 0.0], [0.1, 0.6, 0.1], [0.0, 0.1, 0.0]])
    truth = torch.zeros(SHAPE)
    truth[3:8, 4:10] = 1.0
    y = blur(truth) + 0.02 * random(*SHAPE)
    stop = recon.SmallResiduals(1e-5) | recon.MaxIterations(2000)
    free = recon.solve(blur, TV(0.02), y, stop=stop).image
    wide = recon.solve(blur, TV(0.02) + Box(-10, 10), y, stop=stop).image
    torch.testing.assert_close(wide, free, rtol=0, atol=1e-3)
    tight = recon.solve(blur, TV(0.02) + Box(0, 0.9) + NonNegative(), y, stop=stop).image
    assert float(tight.min()) >= 0 and float(tight.max()) <= 0.9


@pytest.mark.parametrize(
    "prior",
    [TV(), TV(isotropic=False), L1(), Tikhonov(), Tikhonov(of="gradient"), TV() + NonNegative()],
    ids=repr,
)
def test_automatic_weights_denoise(prior: recon.Prior) -> None:
    """Whatever the prior, the result lies nearer to the truth than the data do."""
    truth = torch.zeros(SHAPE)
    truth[3:8, 4:10] = 1.0
    y = truth + 0.3 * random(*SHAPE)
    solution = recon.solve(recon.Identity(SHAPE), prior, y, fidelity=("gaussian", {"noise_level": 0.3}))
    assert isinstance(solution.weight, float) and solution.weight > 0
    assert float((solution.image - truth).norm()) < 0.9 * float((y - truth).norm())


def test_holes_are_filled() -> None:
    truth = torch.zeros(SHAPE)
    truth[3:8, 4:10] = 1.0
    mask = (random(*SHAPE) > -0.5).float()
    solution = recon.solve(Mask(mask), TV(0.01), mask * truth)
    assert float((solution.image - truth).abs().mean()) < 0.03
