"""Partial Fourier: exact where conjugate symmetry is, near the truth for smooth phases, against least squares."""

import math

import pytest
import torch
from recon_operators import CartesianMRI, KnownPhase
from recon_operators.partial_fourier import homodyne, low_resolution_phase, pocs
from recon_operators.sampling import make_mask, partial_fourier

import recon


def grid(shape):
    sides = [torch.arange(side, dtype=torch.float64) / side - 0.5 for side in shape]
    return torch.meshgrid(*sides, indexing="ij")


def phantom(shape):
    """A real image with sharp edges, positive."""
    radius = sum(axis.square() for axis in grid(shape)).sqrt()
    image = 0.05 + 1.0 * (radius < 0.42) - 0.6 * (radius < 0.3) + 0.5 * (radius < 0.1)
    stripes = torch.sin(2 * math.pi * shape[-1] / 5 * grid(shape)[-1])
    return image * (1 + 0.2 * stripes)


def smooth_phase(shape):
    axes = grid(shape)
    return 0.7 + 2.0 * axes[-1] + 1.5 * axes[-2] ** 2 - 3 * axes[-1] ** 2


def scan(shape, fraction, phase, axis=-1, from_the_end=False):
    mask = partial_fourier(shape, fraction, axis)
    mask = mask.flip(axis) if from_the_end else mask
    truth = torch.polar(phantom(shape), phase)
    full = CartesianMRI(torch.ones(shape))
    return truth, mask, full(truth) + 5 * (1 - mask)  # what is not measured must not matter


def error(image, truth):
    return float((image - truth).norm() / truth.norm())


@pytest.mark.parametrize("shape", [(12, 64), (8, 63), (3, 6, 40)])
@pytest.mark.parametrize("fraction", [0.55, 0.75])
def test_a_constant_phase_is_recovered_exactly(shape, fraction):
    phase = torch.full(shape, 0.7, dtype=torch.float64)
    truth, mask, kspace = scan(shape, fraction, phase)
    assert error(CartesianMRI(mask).pinv(kspace), truth) > 0.05
    assert torch.allclose(low_resolution_phase(kspace, mask), phase, atol=1e-12)
    assert torch.allclose(homodyne(kspace, mask), truth, atol=1e-12)
    # the distance shrinks by a half an iteration: the samples come back, those in phase stay
    assert torch.allclose(pocs(kspace, mask, iterations=50), truth, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("from_the_end", [False, True])
@pytest.mark.parametrize("reconstruct", [homodyne, pocs])
def test_a_smooth_phase_leaves_a_fraction_of_the_error_of_zeros(axis, from_the_end, reconstruct):
    shape = (96, 96)
    truth, mask, kspace = scan(shape, 0.625, smooth_phase(shape), axis, from_the_end)
    zero_filled = CartesianMRI(mask).pinv(kspace)
    assert error(reconstruct(kspace, mask).abs(), truth.abs()) < 0.4 * error(zero_filled.abs(), truth.abs())


def test_coils_and_batches_are_reconstructed_one_by_one():
    shape = (24, 32)
    _, mask, first = scan(shape, 0.7, smooth_phase(shape))
    _, _, second = scan(shape, 0.7, -2 * smooth_phase(shape))
    for reconstruct in (homodyne, pocs, low_resolution_phase):
        both = reconstruct(torch.stack([first, second])[None], mask)
        # transforms of several images add in another order
        assert torch.allclose(both[0, 0], reconstruct(first, mask), atol=1e-10)
        assert torch.allclose(both[0, 1], reconstruct(second, mask), atol=1e-10)


def test_pocs_agrees_with_every_measured_sample():
    shape = (20, 30)
    _, mask, kspace = scan(shape, 0.6, smooth_phase(shape))
    completed = CartesianMRI(torch.ones(shape))(pocs(kspace, mask, iterations=3))
    assert torch.allclose(completed * mask, kspace * mask, atol=1e-12)


def test_with_the_true_phase_pocs_and_the_operator_find_the_real_image():
    shape = (5, 16)
    phase = smooth_phase(shape)
    mask = make_mask("partial_fourier:fraction=0.75", shape)
    mask[:, 3] = 0  # seen through its mirror image alone
    op = CartesianMRI(mask) @ KnownPhase(phase)
    image, signed = phantom(shape), phantom(shape) - 0.5
    for real in (image, signed):
        y = CartesianMRI(mask)(torch.polar(torch.ones_like(phase), phase) * real)
        matrix = torch.view_as_real(op.to_dense(torch.float64)).movedim(-1, 0).flatten(0, 1)
        samples = torch.view_as_real(y.flatten()).T.flatten()
        found = torch.linalg.lstsq(matrix, samples).solution.reshape(shape)
        assert torch.allclose(found, real, atol=1e-9)
        completed = pocs(y, mask, phase, iterations=2000)
        assert torch.allclose(KnownPhase(phase).adjoint(completed), found, atol=1e-6)
        solution = recon.solve(op, "tikhonov:weight=1e-10", y)
        assert solution.image.dtype == torch.float64
        assert torch.allclose(solution.image, found, atol=1e-3)  # where conjugate gradients stop


def test_total_variation_of_real_images_uses_the_symmetry():
    shape = (64, 64)
    phase = smooth_phase(shape)
    truth = torch.polar(phantom(shape), phase)
    mri = CartesianMRI("random_1d:acceleration=1.5,centre_fraction=0.15 * partial_fourier", shape=shape)
    y = mri.measure(truth, noise="complex_gaussian:std=0.01", seed=0)
    known = ("gaussian", {"noise_level": 0.01})
    symmetric = recon.solve(mri @ KnownPhase(phase), "tv", y, fidelity=known).image
    free = recon.solve(mri, "tv", y, fidelity=known).image
    assert error(symmetric, truth.abs()) < 0.8 * error(free.abs(), truth.abs())


def test_everything_measured_needs_no_symmetry():
    kspace = torch.randn(6, 8, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    full = torch.ones(6, 8)
    for reconstruct in (homodyne, pocs):
        assert torch.allclose(reconstruct(kspace, full), CartesianMRI(full).pinv(kspace), atol=1e-12)


KSPACE = torch.ones(8, 8, dtype=torch.complex64)
GAPS = torch.tensor([1.0, 0, 1, 1, 1, 1, 0, 0]).expand(8, 8)


@pytest.mark.parametrize(
    ("reconstruct", "arguments", "kind", "said"),
    [
        (homodyne, (KSPACE.real, GAPS), TypeError, "must be a complex torch tensor, got torch.float32"),
        (homodyne, (KSPACE, GAPS), ValueError, "needs all lines from one end"),
        (homodyne, (KSPACE, GAPS[0]), ValueError, r"mask must be .* got \(8,\)"),
        (pocs, (KSPACE, GAPS * GAPS.T), ValueError, "varies along several axes"),
        (pocs, (KSPACE, 1 - GAPS), ValueError, "line 4, the zero frequency, is not measured"),
        (pocs, (KSPACE, GAPS, None, 0), ValueError, "iterations must be at least 1, got 0"),
        (pocs, (KSPACE, GAPS, KSPACE), TypeError, "phase must be a torch tensor of real angles"),
        (pocs, (KSPACE, GAPS, GAPS[:7]), ValueError, r"last axes of kspace \(8, 8\), got \(7, 8\)"),
        (pocs, (KSPACE * math.nan, GAPS), ValueError, "NaN or infinite"),
        (KnownPhase, (KSPACE,), ValueError, "must be real angles in radians"),
    ],
)
def test_what_conjugate_symmetry_cannot_complete_is_refused(reconstruct, arguments, kind, said):
    with pytest.raises(kind, match=said):
        reconstruct(*arguments)
