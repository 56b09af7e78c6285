"""Inpainting: what is measured stays, what is not is filled, and the data steps."""

import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_operators import Gradient, Mask
from recon_operators.mask import fill_holes

from recon.linear import Identity
from recon.testing.dense import conjugate_gradient_iterations


def random_mask(*shape, share=0.5, seed=0):
    mask = (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share).float()
    mask.view(-1)[0] = 1
    return mask


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.floats(0, 1), st.booleans(), st.integers(0, 9))
@settings(max_examples=80, deadline=None)
def test_filling_keeps_what_is_measured_and_constants(shape, share, is_complex, seed):
    mask = random_mask(*shape, share=share, seed=seed)
    dtype = torch.complex128 if is_complex else torch.float64
    x = torch.randn(2, *shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    filled = Mask(mask).pinv(x * mask)
    assert filled.dtype == dtype
    assert torch.equal(filled * mask, x * mask)
    low, high = (x.real * mask).amin().clamp_max(0), (x.real * mask).amax().clamp_min(0)
    assert bool(
        ((filled.real >= low - 1e-9) & (filled.real <= high + 1e-9)).all()
    )  # means of what is measured
    constant = torch.full((2, *shape), 0.7, dtype=dtype)
    assert torch.allclose(fill_holes(constant * mask, mask), constant, atol=1e-12)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_filling_a_photograph_beats_the_nearest_pixel(share, photograph):
    mask = random_mask(128, 128, share=share)
    nearest = scipy.ndimage.distance_transform_edt(mask == 0, return_distances=False, return_indices=True)
    copied = photograph[tuple(torch.from_numpy(nearest))]
    error = float((Mask(mask).pinv(photograph * mask) - photograph).square().mean())
    assert error < 0.8 * float((copied - photograph).square().mean())


def test_a_hole_in_a_ramp_is_filled_with_the_ramp():
    ramp = torch.arange(64.0).expand(64, -1).contiguous()
    mask = torch.ones(64, 64)
    mask[30:34, 30:34] = 0
    assert float((fill_holes(ramp * mask, mask) - ramp).abs().max()) < 1.0  # of a height of 63


def test_values_in_the_holes_do_not_matter():
    mask = random_mask(16, 16)
    x = torch.randn(16, 16)
    assert torch.equal(fill_holes(x, mask), fill_holes(x * mask, mask))


def test_gram_is_the_mask_and_the_norm_is_one():
    mask = random_mask(5, 6)
    op, x = Mask(mask), torch.randn(5, 6)
    assert torch.equal(op(x), op.gram(x))
    assert op.norm() == 1
    assert torch.equal(op.sample_mask, mask)
    assert op.fourier_symbol() is None
    assert torch.equal(Mask(torch.ones(5, 6)).fourier_symbol(), torch.ones(5, 6))


def test_the_data_step_with_identities_is_pixel_by_pixel():
    op, identity = Mask(random_mask(5, 6)), Identity((5, 6))
    x = torch.randn(2, 5, 6, dtype=torch.complex128)
    rho = torch.tensor([0.1, 0.4], dtype=torch.float64).reshape(2, 1, 1)
    assert torch.allclose(
        op.solve_gram(op.gram(x) + (rho + 0.2) * x, [rho, 0.2], [identity] * 2), x, atol=1e-12
    )
    assert op.solve_gram(x, [0.1], [Gradient((5, 6))]) is None
    assert op.solve_gram(x, [0.0], [identity]) is None  # nothing determines the holes


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
@pytest.mark.parametrize("rho", [0.01, 0.1, 1.0])
def test_the_preconditioner_cuts_the_iterations(share, rho):
    mask = random_mask(24, 24, share=share)
    op, K = Mask(mask), Gradient((24, 24))
    D = K.to_dense(torch.float64)
    M = torch.diag(mask.flatten().double()) + rho * D.T @ D
    P = op.preconditioner([rho], [K])(torch.eye(576, dtype=torch.float64).reshape(576, 24, 24)).reshape(
        576, 576
    )
    plain, steered = conjugate_gradient_iterations(M, None, 1e-3), conjugate_gradient_iterations(M, P, 1e-3)
    assert steered <= 0.75 * plain, (plain, steered)


def test_a_mask_from_a_list_or_a_colour_image():
    assert Mask([[1, 0], [0, 1]]).domain_shape == (2, 2)
    image = torch.rand(3, 8, 8)
    mask = random_mask(8, 8)
    assert torch.equal(Mask(mask)(image), image * mask)
    assert Mask(mask.expand(3, 8, 8)).domain_shape == (3, 8, 8)


def test_a_mask_that_is_not_zero_and_one_is_refused():
    with pytest.raises(ValueError, match=r"mask must hold only 0 .* got 0\.5: threshold it first"):
        Mask([[0.5, 1]])
    with pytest.raises(ValueError, match="nothing is measured"):
        Mask([[0, 0]])
