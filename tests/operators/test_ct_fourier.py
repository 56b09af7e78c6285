"""Parallel-beam projections in the Fourier domain: against strips, against themselves, and what they are good for."""

import pickle
import sys

import numpy as np
import pytest
import torch
from recon_operators import astra_projector
from recon_operators.ct import ParallelBeam
from recon_operators.fourier_projector import is_convolution
from recon_priors import TotalVariation
from torch import Tensor

import recon

needs_astra = pytest.mark.skipif(not astra_projector.is_installed(), reason="ASTRA is an optional extra")

# the whole image seen: an even and an odd number of elements, elements of a pixel and narrower
COVERED = [
    {"shape": (40, 40), "angles": 25},
    {"shape": (33, 48), "angles": [0.1, 0.8, 2.0, 4.0, -1.2], "pixel_size": 0.7, "detector_size": 0.5},
    {"shape": (48, 33), "angles": 3, "pixel_size": 1.3, "detector_offset": 4.1},
    {"shape": (20, 21), "angles": 1, "detectors": 47, "detector_offset": -3.0},
]
# views that miss a part of the image, elements wider than pixels, and both
TRUNCATED = [
    {"shape": (40, 40), "angles": 9, "detectors": 40},
    {"shape": (33, 48), "angles": 7, "pixel_size": 0.7, "detectors": 50, "detector_offset": 9.0},
    {"shape": (40, 41), "angles": 11, "detector_size": 2.7, "detectors": 14, "detector_offset": 1.3},
]
COARSE = [{"shape": (40, 41), "angles": 11, "detector_size": 2.0}]
SCANS = COVERED + TRUNCATED + COARSE

pytestmark = pytest.mark.filterwarnings("ignore:the detector .* does not cover")


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Zero-mean noise, which shows an adjoint's errors where positive numbers hide them."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def blob(op: ParallelBeam, width: float = 2.5) -> Tensor:
    """A Gaussian off the middle, with nothing beyond the sampling limits of pixels and elements."""
    height, columns = op.domain_shape
    down = torch.arange(height, dtype=torch.float64)[:, None] - 0.55 * height
    right = torch.arange(columns, dtype=torch.float64) - 0.4 * columns
    return torch.exp(-(down.square() + right.square()) / (2 * width**2))


def strips(op: ParallelBeam, image: Tensor) -> Tensor:
    """ASTRA's ``strip``: the area of each element's strip in each pixel, over the element's width."""
    import astra

    geometry, theta = op.geometry, np.asarray(op.geometry.angles)
    along = np.stack([np.cos(theta), np.sin(theta)], axis=1) / geometry.pixel_size
    rays = np.stack([np.sin(theta), -np.cos(theta)], axis=1)
    vectors = np.hstack([rays, along * geometry.detector_offset, along * geometry.detector_size])
    projector = astra.create_projector(
        "strip",
        astra.create_proj_geom("parallel_vec", geometry.detectors, vectors),
        astra.create_vol_geom(*geometry.shape),
    )
    sinogram = np.zeros(op.range_shape, dtype=np.float32)
    astra.projector.direct_FP(projector, image.to(torch.float32).numpy(), out=sinogram)
    astra.projector.delete(projector)
    return torch.from_numpy(sinogram).double() * geometry.pixel_size


@needs_astra
@pytest.mark.parametrize("arguments", SCANS)
@pytest.mark.parametrize(("backend", "error"), [("strip", 1e-3), ("fourier", 5e-3)])
def test_a_smooth_image_projects_to_its_strips(arguments: dict, backend: str, error: float) -> None:
    op = ParallelBeam(**arguments, backend=backend)
    expected = strips(op, blob(op))
    # near the image's axes strips alias the steps between pixels, which "fourier" leaves out
    assert (op(blob(op)) - expected).norm() < error * expected.norm()


@needs_astra
@pytest.mark.parametrize(("backend", "share"), [("strip", 0.35), ("fourier", 2.0)])
def test_edges_project_to_their_strips_better_or_little_worse_than_by_josephs_method(
    backend: str, share: float
) -> None:
    down, right = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    image = ((down - 0.3 * right - 40).abs() < 15).double() * ((right - 60).abs() < 20)
    ours, joseph = (ParallelBeam((128, 128), angles=41, backend=name) for name in (backend, "matrix"))
    expected = strips(ours, image)
    error, other = ((op(image) - expected).norm() for op in (ours, joseph))
    assert error < share * other


@pytest.mark.parametrize("arguments", SCANS)
@pytest.mark.parametrize("backend", ["fourier", "strip"])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_the_adjoint_is_the_transpose_to_rounding(
    arguments: dict, backend: str, dtype: torch.dtype, rounding: float
) -> None:
    op = ParallelBeam(**arguments, backend=backend)
    x, y = random(3, *op.domain_shape, dtype=dtype), random(3, *op.range_shape, seed=1, dtype=dtype)
    image, back = op(x), op.adjoint(y)
    assert abs(float((image * y).sum() - (x * back).sum())) < rounding * float(image.norm() * y.norm())
    assert op.adjoint_kind == "exact"


@pytest.mark.parametrize("arguments", COVERED)
def test_the_gram_of_a_covered_image_is_one_convolution(arguments: dict) -> None:
    op = ParallelBeam(**arguments, backend="fourier")
    x = random(2, *op.domain_shape)
    assert is_convolution(op.geometry)
    pair = op.adjoint(op(x))
    assert (op.gram(x) - pair).norm() < 1e-11 * pair.norm()  # the accuracy of the transforms is 1e-12
    single = op.gram(x.float()).double()
    assert (single - pair).norm() < 1e-5 * pair.norm()
    loop = torch.stack([op.gram(item) for item in x])
    assert torch.equal(op.gram(x), loop)


@pytest.mark.parametrize("arguments", TRUNCATED + COARSE)
def test_other_grams_are_the_pair_of_projections(arguments: dict) -> None:
    op = ParallelBeam(**arguments, backend="fourier")
    x = random(2, *op.domain_shape)
    assert not is_convolution(op.geometry)
    assert torch.equal(op.gram(x), op.adjoint(op(x)))
    assert torch.equal(op(x), ParallelBeam(**arguments, backend="strip")(x))


def test_a_truncated_view_is_a_part_of_the_whole_view() -> None:
    whole = ParallelBeam((30, 30), angles=8, detectors=60, backend="strip")
    part = ParallelBeam((30, 30), angles=8, detectors=20, detector_offset=2.0, backend="strip")
    x = blob(whole)
    # elements 22 to 41 of 60; the two periods ripple differently, by what the blob has beyond the last frequency
    torch.testing.assert_close(part(x), whole(x)[:, 22:42], atol=2e-3 * float(whole(x).max()), rtol=0)


def test_the_norm_bounds_the_dense_matrix() -> None:
    op = ParallelBeam((12, 13), angles=5, backend="fourier")
    assert not op.nonnegative
    truth = float(torch.linalg.matrix_norm(op.to_dense(torch.float64), 2))
    assert truth <= op.norm() < 1.05 * truth


@pytest.mark.parametrize(
    "arguments", [{"angles": 90}, {"angles": 90, "detector_size": 0.6, "detectors": 120}]
)
def test_filtered_back_projection_is_that_of_the_matrix(arguments: dict) -> None:
    fourier, matrix = (ParallelBeam((48, 48), **arguments, backend=name) for name in ("fourier", "matrix"))
    y = matrix(blob(matrix)) + 0.01 * random(*matrix.range_shape)
    expected = matrix.pinv(y, filter="hann")
    # linear interpolation aliases a little of the noise
    assert (fourier.pinv(y, filter="hann") - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_precision_of_the_input_is_kept(dtype: torch.dtype) -> None:
    op = ParallelBeam((10, 13), angles=7, backend="fourier")
    image = random(10, 13).to(dtype)
    assert op(image).dtype == op.adjoint(op(image)).dtype == op.pinv(op(image)).dtype == dtype
    exact = op(image.double())
    assert (op(image) - exact).abs().max() < 50 * torch.finfo(dtype).eps * exact.abs().max()


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)  # torch's own, in forward mode
def test_gradients_of_both_orders() -> None:
    op = ParallelBeam((4, 5), angles=3, backend="fourier")
    image = torch.rand(2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(op, (image,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(op, (image,))
    assert torch.autograd.gradcheck(op.gram, (image,))


def test_copies_carry_the_geometry_only() -> None:
    op = ParallelBeam((30, 20), angles=40, backend="fourier")
    image = random(30, 20)
    expected = op(image), op.gram(image)
    stored = pickle.dumps(op)
    assert len(stored) < 5000
    again = pickle.loads(stored)
    assert torch.equal(again(image), expected[0])
    assert torch.equal(again.gram(image), expected[1])


def test_auto_takes_the_matrix_where_it_is_small_and_says_what_it_took() -> None:
    small, large = ParallelBeam((64, 64), angles=30), ParallelBeam((512, 512), angles=360, memory_limit=2**20)
    assert (small.backend, large.backend) == ("matrix", "strip")
    assert "backend='strip' (auto)" in repr(large)
    assert "backend='matrix' (auto)" in repr(small)
    assert "(auto)" not in repr(ParallelBeam((64, 64), angles=30, backend="matrix"))


def test_a_result_says_which_backend_made_it() -> None:
    op = recon.operator("ct_parallel", shape=(16, 16), angles=8)
    solution = recon.solve(op, "tv", op(torch.ones(16, 16)), weight=0.1, stop=recon.MaxIterations(2))
    assert solution.provenance["operator"]["backend"] == "matrix"


def test_without_finufft_auto_takes_the_matrix_and_fourier_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "finufft", None)
    with pytest.raises(ImportError, match="needs finufft: pip install finufft"):
        ParallelBeam((8, 8), angles=4, backend="fourier")(torch.ones(8, 8))


@needs_astra
def test_total_variation_on_strip_data() -> None:
    """Data by ASTRA's strips, with noise: the error of the image, against that of the matrix."""
    truth = torch.zeros(96, 96)
    truth[20:70, 25:45], truth[30:40, 50:80] = 1.0, 0.5
    errors = {}
    for name in ("matrix", "fourier", "strip"):
        op = ParallelBeam((96, 96), angles=60, backend=name)
        clean = strips(op, truth).float()
        y = clean + 0.005 * float(clean.max()) * random(*clean.shape, dtype=torch.float32)
        image = recon.solve(op, TotalVariation(2.0), y, stop=recon.MaxIterations(60)).image
        errors[name] = float((image - truth).square().mean().sqrt())
    assert errors["strip"] < errors["matrix"]
    # edges on the pixels' own are the matrix's best case and the sampling limit's worst
    assert errors["fourier"] < 1.1 * errors["matrix"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("arguments", SCANS)
def test_on_a_gpu_it_is_the_same(arguments: dict) -> None:
    pytest.importorskip("cufinufft", reason="the transform on a GPU is cuFINUFFT's")
    host = ParallelBeam(**arguments, backend="fourier")
    device = ParallelBeam(**arguments, backend="fourier").to("cuda")
    x, y = random(3, *host.domain_shape), random(3, *host.range_shape, seed=1)
    for ours, expected in (
        (device(x.cuda()), host(x)),
        (device.adjoint(y.cuda()), host.adjoint(y)),
        (device.gram(x.cuda()), host.gram(x)),
        (device.pinv(y.cuda()), host.pinv(y)),
    ):
        assert (ours.cpu() - expected).norm() < 1e-10 * expected.norm()
