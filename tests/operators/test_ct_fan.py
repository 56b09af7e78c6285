"""Fan-beam projections against closed forms, ASTRA and a plain Joseph; what the operator refuses and says."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_operators import astra_projector
from recon_operators.ct_fan import FanBeam
from recon_operators.scan_geometry import FanGeometry
from torch import Tensor

needs_astra = pytest.mark.skipif(not astra_projector.is_installed(), reason="ASTRA is an optional extra")
NEAR = {"source_origin": 250.0, "origin_detector": 150.0}


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Zero-mean noise, which shows an adjoint's errors where positive numbers hide them."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def grid(op: FanBeam) -> tuple[Tensor, Tensor]:
    """x to the right and y up of the pixels' middles, in mm."""
    height, width = op.domain_shape
    size = op.geometry.pixel_size
    x = (torch.arange(width, dtype=torch.float64) - (width - 1) / 2) * size
    y = ((height - 1) / 2 - torch.arange(height, dtype=torch.float64)) * size
    return x[None], y[:, None]


def rays(op: FanBeam) -> tuple[Tensor, Tensor, Tensor]:
    """Source ``(views, 1, 2)``, detector element and direction ``(views, detectors, 2)``, by the definition."""
    scan = op.geometry
    theta = torch.tensor(scan.angles, dtype=torch.float64)[:, None, None]
    along, across = torch.cat([theta.cos(), theta.sin()], 2), torch.cat([-theta.sin(), theta.cos()], 2)
    source = -scan.source_origin * across
    element = scan.origin_detector * across + torch.tensor(scan.positions)[None, :, None] * along
    return source, element, torch.nn.functional.normalize(element - source, dim=2)


def distance_from(op: FanBeam, point: tuple[float, float]) -> Tensor:
    """Distance of every ray from a point."""
    source, _, direction = rays(op)
    to_point = torch.tensor(point, dtype=torch.float64) - source
    return (to_point[..., 0] * direction[..., 1] - to_point[..., 1] * direction[..., 0]).abs()


SCANS = [
    {"shape": (128, 128), "angles": 30, **NEAR},
    {"shape": (90, 140), "pixel_size": 0.6, "angles": 17, "source_origin": 90.0, "origin_detector": 0.0},
    {"shape": (140, 90), "pixel_size": 0.6, "detector_size": 0.9, "angles": 25, **NEAR},
    {"shape": (100, 100), "pixel_size": 1.5, "detector_offset": 11.0, "angles": 12, **NEAR},
]


@pytest.mark.parametrize("scan", SCANS)
def test_a_gaussian_projects_to_its_closed_form(scan: dict) -> None:
    op = FanBeam(**scan)
    x, y = grid(op)
    size = op.geometry.pixel_size
    sigma, cx, cy = 5 * size, 11 * size, -7 * size
    blob = torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
    expected = (
        math.sqrt(2 * math.pi) * sigma * torch.exp(-(distance_from(op, (cx, cy)) ** 2) / (2 * sigma**2))
    )
    # linear interpolation of a Gaussian of 5 pixels: its curvature / 8 = 0.5 %, half of it on average
    torch.testing.assert_close(op(blob), expected, atol=0.005 * float(expected.max()), rtol=0)


def test_an_ellipse_projects_to_its_chords() -> None:
    op = FanBeam((201, 201), pixel_size=0.5, angles=20, **NEAR)
    x, y = grid(op)
    half_x, half_y, cx, cy = 35.0, 18.0, 6.0, -9.0
    offsets = ((torch.arange(8, dtype=torch.float64) + 0.5) / 8 - 0.5) * 0.5
    parts = [
        (((x + dx - cx) / half_x) ** 2 + ((y + dy - cy) / half_y) ** 2 <= 1).double()
        for dx in offsets
        for dy in offsets
    ]
    ellipse = torch.stack(parts).mean(0)
    source, _, direction = rays(op)
    scale = torch.tensor([half_x, half_y], dtype=torch.float64)
    start, step = (source - torch.tensor([cx, cy], dtype=torch.float64)) / scale, direction / scale
    a, b, c = step.square().sum(2), (start * step).sum(2), start.square().sum(2) - 1
    root = b.square() - a * c
    expected = 2 * root.clamp_min(0).sqrt() / a
    well_inside = root > 0.1 * root.max()
    # the edge crosses pixels of 0.5 mm: a fraction of one pixel at each end of the chord
    assert (op(ellipse) - expected)[well_inside].abs().max() < 0.3
    # in the mean the lengths are right to 1e-4
    assert (op(ellipse) - expected)[well_inside].mean().abs() < 1e-4 * expected.max()


def plain_joseph(image: np.ndarray, scan: FanGeometry) -> np.ndarray:
    """Ray by ray from source to element: steps of one row or column, linear interpolation between pixels."""
    height, width = scan.shape
    result = np.zeros((scan.views, scan.detectors))
    for view, theta in enumerate(scan.angles):
        along, across = np.array([np.cos(theta), np.sin(theta)]), np.array([-np.sin(theta), np.cos(theta)])
        source = -scan.source_origin * across
        for t, u in enumerate(scan.positions):
            dx, dy = scan.origin_detector * across + u * along - source
            steep = abs(dy) >= abs(dx)
            lines, size = (image, width) if steep else (image.T, height)
            total = 0.0
            for number, line in enumerate(lines):
                if steep:
                    y = ((height - 1) / 2 - number) * scan.pixel_size
                    place = (source[0] + (y - source[1]) * dx / dy) / scan.pixel_size + (width - 1) / 2
                else:
                    x = (number - (width - 1) / 2) * scan.pixel_size
                    place = (height - 1) / 2 - (source[1] + (x - source[0]) * dy / dx) / scan.pixel_size
                below = math.floor(place)
                for neighbour, share in ((below, below + 1 - place), (below + 1, place - below)):
                    if 0 <= neighbour < size:
                        total += share * line[neighbour]
            result[view, t] = total * scan.pixel_size * math.hypot(dx, dy) / max(abs(dx), abs(dy))
    return result


@pytest.mark.parametrize("scan", SCANS)
def test_the_matrix_is_josephs(scan: dict) -> None:
    shape = tuple(side // 10 for side in scan["shape"])
    op = FanBeam(**{**scan, "shape": shape, "angles": (0.0, 0.3, 1.1, math.pi / 2, 2.9, 4.0, 5.5)})
    image = random(*shape, dtype=torch.float64)
    torch.testing.assert_close(op(image).numpy(), plain_joseph(image.numpy(), op.geometry), atol=1e-6, rtol=0)


@needs_astra
@pytest.mark.parametrize("kernel", ["line_fanflat", "strip_fanflat"])
@pytest.mark.parametrize("shape", [(48, 48), (40, 66)])
def test_order_and_orientation_are_astras(kernel: str, shape: tuple[int, int]) -> None:
    import astra

    op = FanBeam(shape, angles=13, source_origin=90.0, origin_detector=60.0, detector_size=1.7)
    views, detectors = op.range_shape
    projector = astra.create_projector(
        kernel,
        astra.create_proj_geom("fanflat", 1.7, detectors, np.arange(views) * 2 * np.pi / views, 90.0, 60.0),
        astra.create_vol_geom(*shape),
    )
    x, y = grid(op)
    image = torch.exp(-((x - 8) ** 2 + (y - 5) ** 2) / 18) + torch.exp(-((x + 9) ** 2 + (y + 12) ** 2) / 40)
    projected = astra.projector.direct_FP(
        projector, image.float().numpy(), out=np.zeros((views, detectors), np.float32)
    )
    astra.projector.delete(projector)
    theirs = torch.from_numpy(projected).double()
    # other footprints of a pixel (a line through it, a strip): 2 % of the largest on blobs of 3 pixels; a
    # mirrored detector or a turned source is off by 100 %
    assert (op(image) - theirs).abs().max() < 0.02 * theirs.max()
    assert (op(image) - theirs.flip(1)).abs().max() > 0.5 * theirs.max()


@needs_astra
def test_the_astra_backend_takes_the_offset_and_lengths_in_mm() -> None:
    scan = {"shape": (64, 48), "pixel_size": 0.7, "angles": 25, "detector_offset": 9.0, **NEAR}
    matrix, astra = (FanBeam(**scan, backend=name) for name in ("matrix", "astra"))
    x, y = grid(matrix)
    image = torch.exp(-((x - 4) ** 2 + (y - 9) ** 2) / 12).float().expand(3, 64, 48)
    data = matrix(image)
    # lengths inside pixels against linear interpolation: 1.2 % on a blob of 3.5 pixels, 3.5 % spread back
    assert (data - astra(image)).norm() < 0.02 * data.norm()
    assert (matrix.adjoint(data) - astra.adjoint(data)).norm() < 0.05 * matrix.adjoint(data).norm()
    assert (matrix.backend, astra.backend) == ("matrix", "astra")
    noise, image = random(2, *astra.range_shape), random(2, 64, 48)
    left, right = (astra(image) * noise).sum(), (image * astra.adjoint(noise)).sum()
    assert abs(left - right) < 1e-5 * astra(image).norm() * noise.norm()
    assert astra.adjoint_kind == "exact"
    torch.testing.assert_close(astra.pinv(data), matrix.pinv(data))


@needs_astra
def test_over_the_memory_limit_astra_is_used_and_says_so() -> None:
    op = FanBeam((12, 12), angles=8, **NEAR, memory_limit=1000)
    assert op.backend == "astra"
    with pytest.warns(UserWarning, match=r"over the memory_limit .* ASTRA's CPU projector is used"):
        op(torch.ones(12, 12))


def test_lengths_are_in_mm() -> None:
    small = FanBeam((16, 16), 1.0, 9, **NEAR)
    large = FanBeam((16, 16), 3.0, 9, **{name: 3 * value for name, value in NEAR.items()})
    image = random(16, 16)
    torch.testing.assert_close(large(image), 3 * small(image))


@pytest.mark.parametrize("offset", [0.0, 2.3])
def test_turning_the_image_turns_the_views(offset: float) -> None:
    theta = [0.2 + 0.5 * k for k in range(12)]  # no symmetry for the matrix to use
    scan = {"detector_offset": offset, "detectors": 75, **NEAR}
    op = FanBeam((31, 31), angles=theta, **scan)
    turned_by = FanBeam((31, 31), angles=[t - math.pi / 2 for t in theta], **scan)
    image = random(31, 31)
    turned = torch.rot90(image, 1, (0, 1))  # a quarter to the left; turned back, the views lie a quarter less
    torch.testing.assert_close(op(turned), turned_by(image), atol=1e-4, rtol=1e-4)


def test_a_full_turn_of_views_is_shifted_by_a_turned_image() -> None:
    op = FanBeam((31, 31), angles=40, **NEAR)
    image = random(31, 31)
    turned = op(torch.rot90(image, 1, (0, 1)))
    torch.testing.assert_close(turned, op(image).roll(10, 0), atol=1e-4, rtol=1e-4)


def test_mirroring_the_image_mirrors_the_views_and_the_detector() -> None:
    theta = [0.5 * k for k in range(12)]
    op = FanBeam((14, 21), angles=theta, **NEAR, detector_offset=3.0)
    mirrored = FanBeam((14, 21), angles=[-t for t in theta], **NEAR, detector_offset=-3.0)
    image = random(14, 21)
    torch.testing.assert_close(op(image.flip(1)), mirrored(image).flip(-1), atol=1e-4, rtol=1e-4)


def test_a_far_source_is_a_parallel_beam() -> None:
    from recon_operators.ct import ParallelBeam

    theta = [0.1, 1.0, 2.0, 3.0, 4.0, 5.0]
    far = FanBeam((24, 20), angles=theta, source_origin=1e7, origin_detector=1.0, detectors=40)
    parallel = ParallelBeam((24, 20), angles=theta, detectors=40)
    image = random(24, 20, dtype=torch.float64)
    # the rays of a fan of 4e-6 radian
    torch.testing.assert_close(far(image), parallel(image), atol=1e-3, rtol=0)


def test_an_offset_detector_is_a_shifted_one() -> None:
    wide = FanBeam((20, 20), angles=7, detectors=61, detector_size=1.0, **NEAR)
    shifted = FanBeam((20, 20), angles=7, detectors=51, detector_size=1.0, detector_offset=3.0, **NEAR)
    image = random(20, 20)
    torch.testing.assert_close(wide(image)[:, 8:59], shifted(image), atol=1e-5, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    pixel_size=st.floats(0.3, 3.0),
    angles=st.one_of(st.integers(1, 9), st.lists(st.floats(-6.0, 6.0), min_size=1, max_size=5)),
    distances=st.tuples(st.floats(33.0, 300.0), st.floats(0.0, 200.0)),
    detectors=st.one_of(st.none(), st.integers(1, 20)),
    detector_size=st.one_of(st.none(), st.floats(0.3, 3.0)),
    offset=st.floats(-4.0, 4.0),
)
def test_the_adjoint_is_exact(
    shape: tuple[int, int],
    pixel_size: float,
    angles: int | list[float],
    distances: tuple[float, float],
    detectors: int | None,
    detector_size: float | None,
    offset: float,
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* measured from neither side")
        op = FanBeam(
            shape,
            pixel_size,
            angles,
            source_origin=distances[0],
            origin_detector=distances[1],
            detectors=detectors,
            detector_size=detector_size,
            detector_offset=offset,
            backend="matrix",
        )
    matrix = op.to_dense(torch.float64)
    transpose = op.H.to_dense(torch.float64)
    torch.testing.assert_close(transpose, matrix.T, atol=0, rtol=0)  # the same products, to the bit
    assert (matrix >= 0).all()
    image = random(*shape, dtype=torch.float64)
    torch.testing.assert_close(op.gram(image), op.adjoint(op(image)))


def test_the_float32_pair_passes_the_dot_test() -> None:
    op = FanBeam((64, 48), angles=40, **NEAR)
    image, data = random(5, 64, 48), random(5, *op.range_shape, seed=1)
    left, right = (op(image) * data).sum((1, 2)), (image * op.adjoint(data)).sum((1, 2))
    scale = op(image).flatten(1).norm(dim=1) * data.flatten(1).norm(dim=1)
    assert ((left - right).abs() / scale).max() < 1e-6


@pytest.mark.parametrize("batch", [(), (1,), (9,), (2, 3), (0,)])
def test_a_batch_is_a_loop(batch: tuple[int, ...]) -> None:
    op = FanBeam((10, 10), angles=8, **NEAR)
    images = random(*batch, 10, 10)
    sinograms = op(images)
    assert sinograms.shape == (*batch, *op.range_shape)
    flat = (images.flatten(0, -3), sinograms.flatten(0, -3)) if batch else ()
    for image, sinogram in zip(*flat, strict=True):
        torch.testing.assert_close(op(image), sinogram, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("scan", "range_shape"),
    [
        ({"shape": (100, 100), "angles": 2, "source_origin": 1000.0, "origin_detector": 500.0}, (2, 142)),
        ({"shape": (3, 4), "angles": 2, "pixel_size": 2.0, **NEAR}, (2, 6)),
        ({"shape": (3, 4), "angles": torch.tensor(4), "detector_size": 0.5, **NEAR}, (4, 17)),
        ({"shape": (3, 4), "angles": 5, "detectors": np.int32(9), **NEAR}, (5, 9)),
        ({"shape": (3, 4), "angles": range(5), "detector_offset": -1.6, **NEAR}, (5, 8)),
    ],
)
def test_the_default_detector_covers_the_image(scan: dict, range_shape: tuple[int, int]) -> None:
    op = FanBeam(**scan)  # a warning would be an error
    assert op.range_shape == range_shape
    assert op.geometry.field_of_view >= math.hypot(*op.domain_shape) * op.geometry.pixel_size / 2 - 1e-9


def test_the_default_elements_see_a_pixel_each_and_views_span_a_full_turn() -> None:
    op = FanBeam((8, 8), 0.5, 4, **NEAR)
    assert op.geometry.detector_size == pytest.approx(0.5 * 400 / 250)
    assert op.geometry.detector_size_at_axis == pytest.approx(0.5)
    torch.testing.assert_close(op.angles, torch.arange(4) * math.pi / 2)


def test_geometries_are_equal_by_value_and_tell_the_fan() -> None:
    one, other = (FanBeam((8, 8), 1.0, 5, **NEAR).geometry for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != FanBeam((8, 8), 1.0, 5, source_origin=250.0, origin_detector=151.0).geometry
    scan = FanGeometry((8, 8), 1.0, (0.0,), 101, 2.0, 30.0, source_origin=100.0, origin_detector=100.0)
    first, last = scan.fan_limits
    assert (math.tan(first), math.tan(last)) == (pytest.approx(-71 / 200), pytest.approx(131 / 200))
    assert scan.field_of_view == pytest.approx(100 * math.sin(math.atan(71 / 200)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (4,)}, r"shape must be two positive integers \(rows, columns\), got \(4,\)"),
        ({"pixel_size": 0.0}, "pixel_size must be a length in mm > 0, got 0.0"),
        ({"source_origin": -1.0}, "source_origin must be a length in mm > 0, got -1.0"),
        ({"source_origin": 3.0}, r"source outside the image, which reaches 2.82843 mm .*, got 3.0"),
        ({"source_origin": math.inf}, "source_origin must be a length"),
        ({"origin_detector": -0.1}, "origin_detector must be a length in mm >= 0, got -0.1"),
        ({"detector_size": 0}, "detector_size must be a length in mm > 0, got 0"),
        ({"detector_offset": math.nan}, "detector_offset must be a finite length in mm, got nan"),
        ({"detectors": 0}, "detectors must be a positive integer .*, got 0"),
        ({"angles": 0}, "angles must be a positive number of views or a list of angles in radians, got 0"),
        ({"angles": []}, "angles is empty: give the number of views"),
        ({"backend": "cuda"}, "backend must be 'auto', 'matrix' or 'astra', got 'cuda'"),
        ({"memory_limit": -1}, "memory_limit must be a number of bytes >= 0, got -1"),
    ],
)
def test_a_scan_that_cannot_be_is_refused_by_name(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FanBeam(**{"shape": (4, 4), **NEAR, **arguments})


def test_the_distances_must_be_given() -> None:
    with pytest.raises(TypeError, match="source_origin"):
        FanBeam((4, 4))


def test_angles_that_look_like_degrees_are_pointed_out() -> None:
    with pytest.warns(UserWarning, match=r"look like degrees: pass radians") as caught:
        FanBeam((4, 4), angles=np.arange(360), **NEAR)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"detectors": 80},  # a circle of 250 sin(arctan(64 / 400)) = 39.5 mm
            r"^38\.\d% of the lines through the circle inside the image \(radius 64 mm\) are measured from "
            r"neither side; the detector \(80 elements of 1.6 mm, offset 0 mm\) is too short: 133 elements",
        ),
        (
            {"angles": np.arange(180) * math.pi / 180},  # twice the fan angle on one side: 0.13 / pi
            r"^4\.\d% .*views stand for 180.0 degrees and leave gaps of 180.0 degrees: 209.7 degrees without a gap",
        ),
        ({"angles": np.arange(211) * math.pi / 180}, None),
        ({"detector_offset": 40.0, "detectors": 140}, None),  # the long side sees what the short one does not
    ],
)
def test_what_a_scan_does_not_measure_is_pointed_out(arguments: dict, message: str | None) -> None:
    scan = {"shape": (128, 128), "angles": 90, **NEAR, **arguments}
    if message is None:
        FanBeam(**scan)  # a warning would be an error
        return
    with pytest.warns(UserWarning, match=message) as caught:
        FanBeam(**scan)
    assert caught[0].filename == __file__


def test_scans_are_drawn(tmp_path) -> None:
    from recon_operators.ct import ParallelBeam

    for scan in (FanBeam((8, 9), angles=7, **NEAR).geometry, ParallelBeam((8, 9), angles=7).geometry):
        ax = scan.plot()
        labels = {text.get_text().partition(" (")[0] for text in ax.get_legend().get_texts()}
        assert {"image", "detector, first view", "seen whole in every view"} <= labels
        ax.figure.savefig(tmp_path / "scan.png")
        assert (tmp_path / "scan.png").stat().st_size > 5000
        assert scan.plot(ax) is ax
