"""Parallel-beam projections against closed forms, ASTRA and dense algebra; what the operator refuses."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_operators import astra_projector
from recon_operators.ct import ParallelBeam
from torch import Tensor

needs_astra = pytest.mark.skipif(not astra_projector.is_installed(), reason="ASTRA is an optional extra")


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


def detector_grid(op: ParallelBeam) -> tuple[Tensor, Tensor]:
    """Angle of the views and position of the elements."""
    return torch.tensor(op.geometry.angles)[:, None], torch.tensor(op.geometry.positions)[None]


@pytest.mark.parametrize(
    "scan",
    [
        {"shape": (128, 128), "angles": 30},
        {"shape": (90, 140), "pixel_size": 0.6, "angles": 17},
        {"shape": (140, 90), "pixel_size": 0.6, "detector_size": 0.9, "angles": [0.1, 1.0, 2.5, 4.0, -1.2]},
        {"shape": (100, 100), "pixel_size": 1.5, "detector_offset": 11.0, "angles": 12},
    ],
)
def test_a_gaussian_projects_to_its_closed_form(scan: dict) -> None:
    op = ParallelBeam(**scan)
    x, y = grid(op)
    theta, s = detector_grid(op)
    size = op.geometry.pixel_size
    sigma, cx, cy = 5 * size, 11 * size, -7 * size
    blob = torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
    middle = cx * theta.cos() + cy * theta.sin()
    expected = math.sqrt(2 * math.pi) * sigma * torch.exp(-((s - middle) ** 2) / (2 * sigma**2))
    # linear interpolation of a Gaussian of 5 pixels: its curvature / 8 = 0.5 %, half of it on average
    torch.testing.assert_close(op(blob), expected, atol=0.005 * float(expected.max()), rtol=0)


def test_a_disc_projects_to_its_chords() -> None:
    op = ParallelBeam((201, 201), pixel_size=0.5, angles=20)
    x, y = grid(op)
    theta, s = detector_grid(op)
    radius = 35.0
    offsets = ((torch.arange(8, dtype=torch.float64) + 0.5) / 8 - 0.5) * 0.5
    parts = [((x + dx) ** 2 + (y + dy) ** 2 <= radius**2).double() for dx in offsets for dy in offsets]
    disc = torch.stack(parts).mean(0)
    expected = 2 * (radius**2 - s**2).clamp_min(0).sqrt().expand(len(theta), -1)
    inside = (s.abs() < 0.95 * radius).expand_as(expected)
    # the edge crosses pixels: a fraction of one pixel at each end of the chord
    assert (op(disc) - expected)[inside].abs().max() < 0.3


@needs_astra
@pytest.mark.parametrize("shape", [(24, 24), (19, 33), (1, 12), (12, 1)])
@pytest.mark.parametrize("angles", [13, 40])
def test_order_and_orientation_are_astras(shape: tuple[int, int], angles: int) -> None:
    import astra

    op = ParallelBeam(shape, angles=angles)
    views, detectors = op.range_shape
    projector = astra.create_projector(
        "linear",
        astra.create_proj_geom("parallel", 1.0, detectors, np.arange(views) * np.pi / views),
        astra.create_vol_geom(*shape),
    )
    image, data = random(*shape), random(*op.range_shape)
    projected = astra.projector.direct_FP(
        projector, image.numpy(), out=np.zeros((views, detectors), np.float32)
    )
    spread = astra.projector.direct_BP(projector, data.numpy(), out=np.zeros(shape, np.float32))
    astra.projector.delete(projector)
    torch.testing.assert_close(
        op(image), torch.from_numpy(projected), atol=5e-4, rtol=0
    )  # their float32 steps
    torch.testing.assert_close(op.adjoint(data), torch.from_numpy(spread), atol=5e-4, rtol=0)


def test_lengths_are_in_mm() -> None:
    small = ParallelBeam((16, 16), pixel_size=1.0, angles=9)
    large = ParallelBeam((16, 16), pixel_size=3.0, angles=9)
    image = random(16, 16)
    torch.testing.assert_close(large(image), 3 * small(image))


def test_turning_the_image_turns_the_views() -> None:
    op = ParallelBeam((31, 31), angles=20)
    image = random(31, 31)
    sinogram, turned = op(image), op(torch.rot90(image, 1, (0, 1)))
    # a quarter turn to the left moves view i to i + 10; beyond 180 degrees the detector runs backwards
    torch.testing.assert_close(turned[10:], sinogram[:10], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(turned[:10], sinogram[10:].flip(-1), atol=1e-4, rtol=1e-4)


def test_mirroring_the_image_mirrors_the_views() -> None:
    theta = [0.2, 0.9, 2.3]
    op, mirrored = ParallelBeam((14, 21), angles=theta), ParallelBeam((14, 21), angles=[-t for t in theta])
    image = random(14, 21)
    torch.testing.assert_close(op(image.flip(0)), mirrored(image), atol=1e-4, rtol=1e-4)


def test_an_offset_detector_is_a_shifted_one() -> None:
    wide = ParallelBeam((20, 20), angles=7, detectors=51)
    shifted = ParallelBeam((20, 20), angles=7, detectors=41, detector_offset=3.0)
    image = random(20, 20)
    torch.testing.assert_close(wide(image)[:, 8:49], shifted(image), atol=1e-5, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    pixel_size=st.floats(0.3, 3.0),
    angles=st.one_of(st.integers(1, 9), st.lists(st.floats(-6.0, 6.0), min_size=1, max_size=5)),
    detectors=st.one_of(st.none(), st.integers(1, 20)),
    detector_size=st.one_of(st.none(), st.floats(0.3, 3.0)),
    offset=st.floats(-4.0, 4.0),
)
def test_the_adjoint_is_exact(
    shape: tuple[int, int],
    pixel_size: float,
    angles: int | list[float],
    detectors: int | None,
    detector_size: float | None,
    offset: float,
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the detector")
        op = ParallelBeam(shape, pixel_size, angles, detectors, detector_size, offset, backend="matrix")
    matrix = op.to_dense(torch.float64)
    transpose = op.H.to_dense(torch.float64)
    torch.testing.assert_close(transpose, matrix.T, atol=0, rtol=0)  # the same products, to the bit
    assert (matrix >= 0).all()
    image = random(*shape, dtype=torch.float64)
    torch.testing.assert_close(op.gram(image), op.adjoint(op(image)))


def test_the_float32_pair_passes_the_dot_test() -> None:
    op = ParallelBeam((64, 48), angles=40)
    image, data = random(5, 64, 48), random(5, *op.range_shape, seed=1)
    left = (op(image) * data).sum((1, 2))
    right = (image * op.adjoint(data)).sum((1, 2))
    scale = op(image).flatten(1).norm(dim=1) * data.flatten(1).norm(dim=1)
    assert ((left - right).abs() / scale).max() < 1e-6


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)  # torch's own forward mode
def test_gradients_of_first_and_second_order() -> None:
    op = ParallelBeam((4, 5), angles=3)
    image = torch.rand(2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(op, (image,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(op, (image,))
    data = torch.rand(2, *op.range_shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(op.adjoint, (data,), check_forward_ad=True)


def test_vmap_is_a_batch() -> None:
    op = ParallelBeam((9, 7), angles=6)
    images = random(4, 9, 7)
    torch.testing.assert_close(torch.vmap(op)(images), op(images))


@pytest.mark.parametrize("backend", ["matrix", "strip", "fourier", pytest.param("astra", marks=needs_astra)])
@pytest.mark.parametrize("batch", [(), (1,), (2,), (8,), (9,), (17,), (2, 3), (0,), (3, 0)])
def test_a_batch_is_a_loop(backend: str, batch: tuple[int, ...]) -> None:
    op = ParallelBeam((10, 13), angles=7, backend=backend)
    images = random(*batch, 10, 13)
    sinograms = op(images)
    assert sinograms.shape == (*batch, *op.range_shape)
    spread = op.adjoint(sinograms)
    assert spread.shape == images.shape
    flat = (images.flatten(0, -3), sinograms.flatten(0, -3), spread.flatten(0, -3)) if batch else ()
    for image, sinogram, back in zip(*flat, strict=True):
        torch.testing.assert_close(op(image), sinogram, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(op.adjoint(sinogram), back, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("backend", ["matrix", "strip", "fourier", pytest.param("astra", marks=needs_astra)])
def test_any_memory_layout_and_the_input_stays(backend: str) -> None:
    op = ParallelBeam((10, 13), angles=7, backend=backend)
    images = random(13, 3, 10).permute(1, 2, 0)
    before = images.clone()
    torch.testing.assert_close(op(images), op(images.contiguous()))
    torch.testing.assert_close(op(images[:1].expand(4, 10, 13))[3], op(images[0]))
    assert torch.equal(images, before)
    assert op(images).is_contiguous()


@pytest.mark.parametrize("backend", ["matrix", pytest.param("astra", marks=needs_astra)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_precision_of_the_input_is_kept(backend: str, dtype: torch.dtype) -> None:
    op = ParallelBeam((10, 13), angles=7, backend=backend)
    image = random(10, 13).to(dtype)
    assert op(image).dtype == op.adjoint(op(image)).dtype == op.pinv(op(image)).dtype == dtype
    exact = ParallelBeam((10, 13), angles=7)(image.double())
    rounding = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps if backend == "astra" else 0)
    assert (op(image) - exact).abs().max() < 50 * rounding * exact.abs().max()


@pytest.mark.parametrize(
    ("scan", "range_shape"),
    [
        ({"shape": (256, 256), "angles": 2}, (2, 363)),  # the diagonal of 256 pixels is 362.04
        ({"shape": (3, 4), "angles": 2}, (2, 5)),
        ({"shape": (3, 4), "angles": 2, "pixel_size": 2.0}, (2, 5)),
        ({"shape": (3, 4), "angles": 2, "pixel_size": 2.0, "detector_size": 0.5}, (2, 20)),
        ({"shape": (3, 4), "angles": 2, "detector_offset": -1.0}, (2, 7)),
        ({"shape": (1, 1), "angles": 1}, (1, 2)),
        ({"shape": [1, 7], "angles": [0.5]}, (1, 8)),
        ({"shape": np.array([6, 2]), "angles": np.int64(3), "detectors": np.int32(9)}, (3, 9)),
        ({"shape": torch.Size([6, 2]), "angles": torch.tensor([0.0, 1.0])}, (2, 7)),
        ({"shape": (6, 2), "angles": torch.tensor(4)}, (4, 7)),
        ({"shape": (6, 2), "angles": range(3)}, (3, 7)),
    ],
)
def test_the_default_detector_covers_the_image_at_every_angle(
    scan: dict, range_shape: tuple[int, int]
) -> None:
    op = ParallelBeam(**scan)  # a warning would be an error
    assert op.range_shape == range_shape
    ones = torch.ones(op.domain_shape, dtype=torch.float64)
    # each view of a covered image sees its whole area, up to how elements fall on footprints
    area = op(ones).sum(-1) * op.geometry.detector_size
    expected = ones.numel() * op.geometry.pixel_size**2
    torch.testing.assert_close(area, torch.full_like(area, expected), rtol=0.5, atol=0)


def test_views_of_an_integer_are_equally_spaced_over_half_a_turn() -> None:
    op = ParallelBeam((4, 4), angles=4)
    torch.testing.assert_close(op.angles, torch.arange(4) * math.pi / 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (4,)}, r"shape must be two positive integers \(rows, columns\), got \(4,\)"),
        ({"shape": 4}, "shape must be two positive integers"),
        ({"shape": (4, 0)}, r"got \(4, 0\)"),
        ({"shape": (4, 2.5)}, r"got \(4, 2.5\)"),
        ({"pixel_size": 0.0}, "pixel_size must be a length in mm > 0, got 0.0"),
        ({"pixel_size": -1}, "got -1"),
        ({"pixel_size": math.nan}, "pixel_size must be a length"),
        ({"detector_size": 0}, "detector_size must be a length in mm > 0, got 0"),
        ({"detector_offset": math.inf}, "detector_offset must be a finite length in mm, got inf"),
        ({"detectors": 0}, "detectors must be a positive integer .*, got 0"),
        ({"detectors": 2.5}, "got 2.5"),
        ({"angles": 0}, "angles must be a positive number of views or a list of angles in radians, got 0"),
        ({"angles": -3}, "got -3"),
        ({"angles": 2.5}, "got 2.5"),
        ({"angles": True}, "got True"),
        ({"angles": []}, "angles is empty: give the number of views"),
        ({"angles": [0.0, math.nan]}, "angles must be finite radians, got nan among them"),
        ({"backend": "cuda"}, "backend must be 'auto', 'matrix', 'strip', 'fourier' or 'astra', got 'cuda'"),
        ({"memory_limit": -1}, "memory_limit must be a number of bytes >= 0, got -1"),
    ],
)
def test_a_scan_that_cannot_be_is_refused_by_name(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParallelBeam(**{"shape": (4, 4), **arguments})


def test_angles_that_look_like_degrees_are_pointed_out() -> None:
    with pytest.warns(UserWarning, match=r"angles up to 179 .* look like degrees: pass radians") as caught:
        ParallelBeam((4, 4), angles=np.arange(180))
    assert caught[0].filename == __file__


def test_a_full_turn_is_not_taken_for_degrees() -> None:
    ParallelBeam((4, 4), angles=[-2 * math.pi, 0.0, 2 * math.pi])


@pytest.mark.parametrize(
    "detector",
    [{"detectors": 10}, {"detector_size": 0.5, "detectors": 15}, {"detectors": 15, "detector_offset": 2}],
)
def test_a_detector_that_misses_pixels_is_pointed_out(detector: dict) -> None:
    with pytest.warns(
        UserWarning, match=r"does not cover the image at every angle: .* elements cover it"
    ) as caught:
        op = ParallelBeam((10, 10), angles=8, **detector)
    assert caught[0].filename == __file__
    assert op(torch.ones(10, 10)).shape == op.range_shape


@pytest.mark.parametrize("batch", [1, 3])
def test_a_detector_beside_the_image_measures_nothing(batch: int) -> None:
    with pytest.warns(UserWarning, match="does not cover"):
        op = ParallelBeam((4, 4), angles=3, detectors=2, detector_offset=50.0)
    assert torch.equal(op(torch.ones(batch, 4, 4)), torch.zeros(batch, 3, 2))
    assert torch.equal(op.adjoint(torch.ones(batch, 3, 2)), torch.zeros(batch, 4, 4))


def test_a_narrow_detector_that_covers_the_views_it_has_is_fine() -> None:
    ParallelBeam((10, 4), angles=[0.0], detectors=4)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (torch.zeros(4, 5), ValueError, r"ParallelBeam needs image of shape \(\*batch, 4, 4\), got \(4, 5\)"),
        (torch.zeros(4, 4, dtype=torch.complex64), TypeError, "ParallelBeam acts on real images"),
        (torch.zeros(4, 4, dtype=torch.int32), TypeError, "floating-point"),
        (np.zeros((4, 4)), TypeError, "torch tensors"),
    ],
)
def test_wrong_images_are_refused(image: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ParallelBeam((4, 4), angles=2)(image)
