"""What solvers ask of parallel-beam CT: norm, preconditioner, direct reconstruction, noise level."""

import math
from pathlib import Path

import numpy as np
import pytest
import recon_data
import torch
from recon_operators import astra_projector
from recon_operators.ct import ParallelBeam
from recon_operators.gradient import Gradient
from torch import Tensor

from recon.linear import Identity, LinearOperator
from recon.loading import load

SAMPLES = Path(recon_data.__file__).parent / "samples"


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Zero-mean noise, which shows an adjoint's errors where positive numbers hide them."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def grid(op: ParallelBeam) -> tuple[Tensor, Tensor]:
    """x to the right and y up of the pixels' middles, in mm."""
    height, width = op.domain_shape
    size = op.geometry.pixel_size
    x = (torch.arange(width, dtype=torch.float64) - (width - 1) / 2) * size
    y = ((height - 1) / 2 - torch.arange(height, dtype=torch.float64)) * size
    return x[None], y[:, None]


def slice_of_a_chest(size: int) -> tuple[Tensor, float]:
    """A real CT slice as attenuation, and its pixel size in mm."""
    loaded = load(SAMPLES / "ct_sbu_A002304_axial_19010112-135.dcm")
    image = loaded.attenuation().to(torch.float32)
    assert loaded.pixel_size is not None
    factor = image.shape[-1] // size
    coarse = torch.nn.functional.avg_pool2d(image[None], factor)[0]
    return coarse, loaded.pixel_size[0] * factor


@pytest.mark.parametrize("pixel_size", [1.0, 0.3])
def test_the_norm_is_a_tight_upper_bound(pixel_size: float) -> None:
    op = ParallelBeam((14, 20), pixel_size=pixel_size, angles=15)
    true = float(torch.linalg.matrix_norm(op.to_dense(torch.float64), 2))
    assert true <= op.norm() <= 1.002 * true


def preconditioned_iterations(
    op: ParallelBeam, term: LinearOperator, rho: float, preconditioned: bool, tolerance: float = 1e-5
) -> int:
    """CG iterations to a relative residual, for (A^T A + rho K^T K) x = A^T y of noisy data."""
    x, y = grid(op)
    radius = 0.5 * op.domain_shape[0] * op.geometry.pixel_size
    image = (torch.hypot(x, y) < 0.8 * radius).float() + (
        torch.hypot(x - 0.2 * radius, y) < 0.3 * radius
    ).float()
    b = op.adjoint(op(image) + 0.05 * float(op(image).max()) * random(*op.range_shape))[None]
    precondition = op.preconditioner([rho], [term]) if preconditioned else lambda r: r
    assert precondition is not None
    residual = b.clone()
    steered = direction = precondition(residual)
    product = (residual * steered).sum()
    for iteration in range(1, 500):
        image_of_direction = op.gram(direction) + rho * term.gram(direction)
        alpha = product / (direction * image_of_direction).sum()
        residual = residual - alpha * image_of_direction
        if residual.norm() <= tolerance * b.norm():
            return iteration
        steered = precondition(residual)
        product, previous = (residual * steered).sum(), product
        direction = steered + product / previous * direction
    return 500


@pytest.mark.parametrize(
    ("fraction", "plain_at_least", "at_most"), [(1e-1, 9, 8), (1e-2, 18, 11), (1e-3, 42, 18)]
)
def test_the_ramp_preconditioner_saves_iterations(fraction: float, plain_at_least: int, at_most: int) -> None:
    op = ParallelBeam((128, 128), pixel_size=0.7, angles=180)
    rho, identity = fraction * op.norm() ** 2, Identity((128, 128))
    assert preconditioned_iterations(op, identity, rho, preconditioned=False) >= plain_at_least
    assert preconditioned_iterations(op, identity, rho, preconditioned=True) <= at_most


@pytest.mark.parametrize("detector_size", [0.6, 1.0, 1.5])
def test_it_saves_iterations_with_the_gradient_too(detector_size: float) -> None:
    op = ParallelBeam((96, 96), angles=90, detector_size=detector_size)
    gradient = Gradient((96, 96))
    rho = 1e-3 * op.norm() ** 2
    plain = preconditioned_iterations(op, gradient, rho, preconditioned=False)
    assert preconditioned_iterations(op, gradient, rho, preconditioned=True) <= 0.55 * plain


@pytest.mark.parametrize(
    "scan",
    [
        {"angles": 180},
        {"angles": 60},
        {"angles": 90, "pixel_size": 0.4},
        {"angles": 90, "pixel_size": 2.0, "detector_size": 1.0},
    ],
)
def test_the_symbol_has_the_right_size(scan: dict) -> None:
    op = ParallelBeam((96, 96), **scan)
    x, y = grid(op)
    size = op.geometry.pixel_size
    # a wave packet in the middle sees one frequency of A^T A
    frequency = 0.5 / size
    packet = torch.exp(-(x**2 + y**2) / (2 * (12 * size) ** 2)) * torch.cos(frequency * (0.8 * x + 0.6 * y))
    predicted = torch.fft.ifft2(torch.fft.fft2(packet) * op.approximate_symbol()).real
    measured = float((packet * op.gram(packet)).sum())
    assert float((packet * predicted).sum()) == pytest.approx(measured, rel=0.06)


def test_the_preconditioner_is_symmetric_positive_definite() -> None:
    op = ParallelBeam((9, 12), angles=5)
    precondition = op.preconditioner([0.3], [Identity((9, 12))])
    assert precondition is not None
    columns = precondition(torch.eye(108).reshape(108, 9, 12)).reshape(108, 108)
    torch.testing.assert_close(columns, columns.T, atol=1e-6, rtol=1e-5)
    assert torch.linalg.eigvalsh(columns.double()).min() > 0


def test_each_item_of_a_batch_may_have_its_own_rho() -> None:
    op, identity = ParallelBeam((9, 12), angles=5), Identity((9, 12))
    residual = random(2, 9, 12)
    both = op.preconditioner([torch.tensor([0.1, 5.0]).reshape(2, 1, 1)], [identity])
    assert both is not None
    for item, rho in enumerate((0.1, 5.0)):
        single = op.preconditioner([rho], [identity])
        assert single is not None
        torch.testing.assert_close(both(residual)[item], single(residual[item : item + 1])[0])


def test_a_term_without_a_symbol_counts_with_its_mean_eigenvalue() -> None:
    class Diagonal(LinearOperator):
        def __init__(self, weights: Tensor) -> None:
            super().__init__(weights.shape, weights.shape)
            self.register_buffer("weights", weights)

        def _forward(self, x: Tensor) -> Tensor:
            return self.weights * x

    op = ParallelBeam((9, 12), angles=5)
    weights = 1 + torch.rand(9, 12, generator=torch.Generator().manual_seed(0))
    unknown = op.preconditioner([2.0], [Diagonal(weights)])
    known = op.preconditioner([2.0 * float(weights.square().mean())], [Identity((9, 12))])
    assert unknown is not None
    assert known is not None
    residual = random(1, 9, 12)
    torch.testing.assert_close(unknown(residual), known(residual))


def test_pinv_is_filtered_backprojection_and_takes_its_options() -> None:
    image, pixel_size = slice_of_a_chest(128)
    op = ParallelBeam((128, 128), pixel_size=pixel_size, angles=180)
    data = op(torch.stack([image, 2 * image]))
    sharp, smooth = op.pinv(data), op.pinv(data, filter="hann", cutoff=0.5)
    assert sharp.shape == (2, 128, 128)
    assert (sharp[0] - image).norm() < 0.08 * image.norm()  # its own edges
    torch.testing.assert_close(sharp[1], 2 * sharp[0], atol=1e-5, rtol=1e-4)
    assert (smooth[0] - image).norm() > (sharp[0] - image).norm()
    with pytest.raises(ValueError, match="filter must be one of ram-lak"):
        op.pinv(data, filter="ram")


@pytest.mark.skipif(not astra_projector.is_installed(), reason="ASTRA is an optional extra")
def test_pinv_with_astra_backprojects_by_the_adjoint() -> None:
    image, pixel_size = slice_of_a_chest(128)
    scan = {"pixel_size": pixel_size, "angles": 180, "detector_size": 0.8 * pixel_size}
    matrix, astra = (ParallelBeam((128, 128), **scan, backend=name) for name in ("matrix", "astra"))
    data = matrix(image)
    # the adjoint's footprints ripple by some per cent on sharp detail
    assert (astra.pinv(data) - matrix.pinv(data)).norm() < 0.02 * image.norm()


def test_gradients_flow_through_pinv() -> None:
    op = ParallelBeam((5, 4), angles=3)
    data = torch.rand(2, *op.range_shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(op.pinv, (data,))


def test_pinv_inverts_in_physical_units() -> None:
    image, pixel_size = slice_of_a_chest(64)
    scan = {"angles": 120, "detector_size": 1.3 * pixel_size, "detector_offset": 4.0}
    op = ParallelBeam((64, 64), pixel_size=pixel_size, **scan)
    assert float(op.pinv(op(image)).mean()) == pytest.approx(float(image.mean()), rel=0.01)


@pytest.mark.parametrize("fraction", [0.01, 0.05])
def test_the_level_of_gaussian_noise_on_a_real_slice(fraction: float) -> None:
    image, pixel_size = slice_of_a_chest(256)
    op = ParallelBeam((256, 256), pixel_size=pixel_size, angles=60)
    clean = op(image)
    std = fraction * float(clean.max())
    found = op.noise_level((clean + std * random(*clean.shape))[None])
    assert found.shape == (1,)
    assert float(found) == pytest.approx(std, rel=0.06)


@pytest.mark.parametrize(("size", "views", "photons"), [(256, 60, 1e3), (256, 60, 1e4), (512, 30, 1e5)])
def test_the_root_mean_square_level_of_photon_noise_on_a_real_slice(
    size: int, views: int, photons: float
) -> None:
    image, pixel_size = slice_of_a_chest(size)
    op = ParallelBeam((size, size), pixel_size=pixel_size, angles=views)
    clean = op(image).double().numpy()
    counts = np.random.default_rng(0).poisson(photons * np.exp(-clean)).astype(float)
    noisy = -np.log(np.where(counts == 0, 0.1, counts) / photons)
    true = math.sqrt(np.mean((noisy - clean) ** 2))
    found = float(op.noise_level(torch.from_numpy(noisy)[None]))
    # the few rays through bone and table carry most of the noise, so few samples decide
    assert found == pytest.approx(true, rel=0.1)


def test_each_item_has_its_own_level() -> None:
    op = ParallelBeam((64, 64), angles=60)
    levels = torch.tensor([0.1, 0.5, 2.0])
    data = op(torch.ones(64, 64)) * 0.01 + levels[:, None, None] * random(3, *op.range_shape)
    torch.testing.assert_close(op.noise_level(data), levels, rtol=0.05, atol=0)


def test_isolated_bad_samples_do_not_count_as_noise() -> None:
    op = ParallelBeam((128, 128), angles=90)
    data = 0.1 * random(1, *op.range_shape)
    for view, element in ((3, 20), (30, 100), (71, 150)):
        data[0, view, element] = -80.0
    assert float(op.noise_level(data)) == pytest.approx(0.1, rel=0.05)


def test_too_few_samples_are_refused_with_a_remedy() -> None:
    op = ParallelBeam((2, 2), angles=2)
    with pytest.raises(ValueError, match=r"cannot be estimated from 2 x 3 samples: give it"):
        op.noise_level(torch.zeros(1, 2, 3))
