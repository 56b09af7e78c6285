"""Non-Cartesian MRI against the sum that defines it, Cartesian MRI, and a blob whose k-space is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_operators import CartesianMRI, NonCartesianMRI, RadialMRI
from recon_operators.mri_nonuniform import radial_trajectory
from recon_operators.nufft import density_compensation

import recon


def random(*shape, dtype=torch.complex128, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def matrix(shape, trajectory):
    """The defining sum as a matrix (samples, pixels) in double precision."""
    positions = np.stack(np.meshgrid(*[np.arange(side) - side // 2 for side in shape], indexing="ij"), -1)
    phase = trajectory.reshape(-1, len(shape)) @ (positions.reshape(-1, len(shape)) / np.array(shape)).T
    return np.exp(-2j * np.pi * phase) / math.sqrt(math.prod(shape))


@given(st.lists(st.integers(2, 9), min_size=2, max_size=3), st.integers(1, 20), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_it_is_the_sum_over_the_pixels(shape, samples, seed):
    points = (np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, len(shape)))) * np.array(shape)
    points[0] = np.array(shape) / 2  # far out, so that no warning asks for the unit
    dense = matrix(shape, points)
    operator, x = NonCartesianMRI(tuple(shape), points), random(2, *shape, seed=seed)
    expected = dense @ x.reshape(2, -1).numpy().T
    # the accuracy asked of the transform, 1e-6, times a few for the norm of single samples
    assert np.allclose(operator(x).numpy(), expected.T, atol=1e-5)
    normal = (dense.conj().T @ expected).T.reshape(x.shape)
    assert np.allclose(operator.gram(x).numpy(), normal, atol=1e-5 * max(1, np.abs(normal).max()))


@pytest.mark.parametrize("shape", [(8, 6), (5, 7)])
@pytest.mark.parametrize("coils", [None, 3])
def test_on_the_points_of_the_grid_it_is_cartesian_mri(shape, coils):
    grid = torch.stack(torch.meshgrid(*[torch.arange(side) - side // 2 for side in shape], indexing="ij"), -1)
    maps = None if coils is None else random(coils, *shape, seed=1)
    other = NonCartesianMRI(shape, grid.double(), maps)
    cartesian, x = CartesianMRI(torch.ones(shape), maps), random(2, *shape)
    assert torch.allclose(other(x), cartesian(x), atol=1e-5)  # the transform's 1e-6, relative to the maximum
    assert torch.allclose(other.gram(x), cartesian.gram(x), atol=1e-9)  # its kernel is computed to 1e-12
    assert torch.allclose(density_compensation(grid.double().reshape(-1, 2), shape), torch.ones(1).double())


WIDTH = 5.0


def blob_samples(trajectory, shape):
    """k-space of the blob exp(-r^2 / 2 WIDTH^2): its Fourier integral, f in cycles per pixel."""
    squared = np.square(trajectory / np.array(shape)).sum(-1)
    integral = 2 * np.pi * WIDTH**2 * np.exp(-2 * (np.pi * WIDTH) ** 2 * squared)
    return torch.from_numpy(integral / math.sqrt(math.prod(shape))).to(torch.complex128)


def distance_from_centre(shape):
    rows, columns = torch.meshgrid(*[torch.arange(side) - side // 2 for side in shape], indexing="ij")
    return torch.hypot(rows.double(), columns.double())


@pytest.mark.parametrize("order", ["golden", "uniform"])
def test_gridding_of_a_full_radial_scan_gives_the_image_back(order):
    shape, spokes = (64, 64), 102  # pi/2 times the side: no sector is left out
    operator = RadialMRI(shape, spokes, order=order)
    image = operator.pinv(blob_samples(radial_trajectory(shape, spokes, order=order).numpy(), shape))
    distance = distance_from_centre(shape)
    truth = torch.exp(-(distance**2) / (2 * WIDTH**2))
    # golden angles are unequal: their densest and sparsest sectors are weighted to within a per cent or two
    assert float((image - truth).abs()[distance < 31].max()) < 0.02


def test_spokes_go_through_the_centre_from_edge_to_edge():
    points = radial_trajectory((8, 6), 4, samples=16, order="uniform")
    assert torch.equal(points[:, 8], torch.zeros(4, 2).double())
    assert torch.allclose(points[0, 0], torch.tensor([0.0, -3.0]).double())
    assert torch.allclose(points[2, 0], torch.tensor([-4.0, 0.0]).double(), atol=1e-12)
    golden = radial_trajectory((6, 6), 3, samples=4)
    angle = torch.atan2(*golden[1, 0].abs())
    assert math.isclose(math.degrees(float(angle)), 180 - 111.246, abs_tol=1e-3)


def test_undersampled_radial_scans_of_several_coils_are_solved_by_total_variation_and_wavelets():
    shape = (48, 48)
    rows, columns = torch.meshgrid(*[torch.linspace(-1, 1, side) for side in shape], indexing="ij")
    truth = ((rows**2 + columns**2 < 0.7) + 1.0 * ((rows - 0.2) ** 2 + columns**2 < 0.1)).to(torch.complex64)
    maps = torch.stack(
        [torch.exp(-((rows - r) ** 2) - (columns - c) ** 2) for r, c in [(-1, 0), (1, 1), (0, -1)]]
    )
    operator = RadialMRI(shape, spokes=15, coil_maps=maps)
    y = operator.measure(truth, noise="complex_gaussian:std=0.02", seed=0)

    def error(prior):
        return float((recon.solve(operator, prior, y).image - truth).norm() / truth.norm())

    direct = error(None)
    assert error("tv") < 0.5 * direct
    assert error("wavelet:wavelet=haar") < 0.7 * direct


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("level", [1e-4, 1e-2])
def test_spokes_that_are_oversampled_show_the_noise_whatever_the_object(coils, level):
    """Beyond the image, where edges of any sharpness and objects of any size leave nothing."""
    maps = None if coils == 1 else torch.rand(coils, 64, 64, dtype=torch.complex128)
    operator = RadialMRI((64, 64), 40, coil_maps=maps)
    image = (torch.rand(64, 64, generator=torch.Generator().manual_seed(1)) > 0.5).to(torch.complex128)
    y = recon.noise("complex_gaussian", std=level)(operator(image), item_ndim=2 + (coils > 1), seed=0)
    # a third of 40 x 128 samples a coil
    assert math.isclose(float(operator.noise_level(y[None])), level, rel_tol=0.06)


def test_bent_trajectories_and_tight_spokes_keep_to_the_outermost_samples():
    generator = torch.Generator().manual_seed(0)
    scattered = 32 * (torch.rand(20, 60, 2, generator=generator, dtype=torch.float64) - 0.5)
    for operator in (NonCartesianMRI((64, 64), scattered), RadialMRI((64, 64), 60, samples=64)):
        clean = blob_samples(operator.trajectory.numpy(), (64, 64))
        y = recon.noise("complex_gaussian", std=0.05)(clean, item_ndim=2, seed=0)
        assert math.isclose(float(operator.noise_level(y[None])), 0.05, rel_tol=0.12)


def test_the_noise_level_is_that_of_the_outer_samples():
    operator = RadialMRI((64, 64), 60)
    clean = blob_samples(radial_trajectory((64, 64), 60).numpy(), (64, 64))
    y = recon.noise("complex_gaussian", std=0.05)(clean, item_ndim=2, seed=0)
    # the median of 384 squared magnitudes has a spread of 7 %, its root of half that
    assert math.isclose(float(operator.noise_level(y[None])), 0.05, rel_tol=0.1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"shape": (8, 8), "trajectory": [[0.0, 5.0]]}, "reaches 5 cycles per field of view along axis 1"),
        ({"shape": (8, 8), "trajectory": [[0.0, 1.0, 2.0]]}, "must be real, of shape \\(..., 2\\)"),
        ({"shape": (8,), "trajectory": [[4.0]]}, "two or three axes"),
        ({"shape": (4, 4), "trajectory": [[2.0, 2.0]], "coil_maps": torch.ones(2, 4, 3)}, "must be \\(coils"),
        ({"shape": (4, 4), "trajectory": [[2.0, 2.0]], "density": [1.0, 1.0]}, "one weight >= 0 a sample"),
        ({"shape": (4, 4), "trajectory": [[2.0, math.nan]]}, "NaN"),
    ],
)
def test_what_is_no_scan_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        NonCartesianMRI(**arguments)


def test_a_trajectory_in_cycles_per_pixel_is_warned_about():
    with pytest.warns(UserWarning, match="multiply cycles per pixel"):
        NonCartesianMRI((64, 64), torch.rand(20, 2) - 0.5)


@pytest.mark.gpu
def test_the_gpu_gives_what_the_cpu_gives():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pytest.importorskip("cufinufft", reason="cufinufft is not installed")
    operator, x = RadialMRI((32, 32), 20), random(2, 32, 32, dtype=torch.complex64)
    y = operator(x)
    # both to the transform's accuracy in single precision
    assert torch.allclose(operator.cuda()(x.cuda()).cpu(), y, atol=1e-4)
    assert torch.allclose(operator.adjoint(y.cuda()).cpu(), operator.cpu().adjoint(y), atol=1e-3)
