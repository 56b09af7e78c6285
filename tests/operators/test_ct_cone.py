"""Cone-beam projections against closed forms, fan beam and a plain Joseph; what the operators refuse and say."""

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_operators import ConeBeam, ConeBeamVectors, ConeGeometry, FanBeam, helical_geometry
from torch import Tensor

NEAR = {"source_origin": 120.0, "origin_detector": 60.0}


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Zero-mean noise, which shows an adjoint's errors where positive numbers hide them."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def grid(op: ConeBeam | ConeBeamVectors) -> tuple[Tensor, Tensor, Tensor]:
    """x to the right, y up and z along the slices of the voxels' middles, in mm."""
    depth, height, width = op.domain_shape
    size = op.geometry.pixel_size
    x = (torch.arange(width, dtype=torch.float64) - (width - 1) / 2) * size
    y = ((height - 1) / 2 - torch.arange(height, dtype=torch.float64)) * size
    z = (torch.arange(depth, dtype=torch.float64) - (depth - 1) / 2) * size
    return x[None, None], y[None, :, None], z[:, None, None]


def rays(op: ConeBeam | ConeBeamVectors) -> tuple[Tensor, Tensor]:
    """Source ``(1, views, 1, 3)`` and unit direction ``(rows, views, columns, 3)``, by the vectors."""
    vectors = torch.tensor(op.geometry.vectors, dtype=torch.float64)
    source, middle, across, down = (vectors[None, :, None, 3 * part : 3 * part + 3] for part in range(4))
    rows, columns = op.geometry.detectors
    row = (torch.arange(rows, dtype=torch.float64) - (rows - 1) / 2)[:, None, None, None]
    column = (torch.arange(columns, dtype=torch.float64) - (columns - 1) / 2)[None, None, :, None]
    return source, torch.nn.functional.normalize(middle + row * down + column * across - source, dim=3)


def helix(**changes: object) -> ConeBeamVectors:
    scan = {"shape": (50, 40, 44), "pitch": 20.0, "turns": 3.0, "views_per_turn": 9, **NEAR, **changes}
    return ConeBeamVectors.of(helical_geometry(**scan))


def tilted() -> ConeBeamVectors:
    """Sources all around, one straight above; detectors turned in their planes and not quite perpendicular."""
    generator = np.random.default_rng(3)
    views = []
    for direction in [*generator.normal(size=(5, 3)), np.array([0.0, 0.0, 1.0])]:
        direction = direction / np.linalg.norm(direction)
        across = np.cross(direction, generator.normal(size=3))
        across /= np.linalg.norm(across)
        down = np.cross(direction, across) + 0.1 * across + 0.15 * direction
        views.append(
            np.hstack([-90 * direction, 50 * direction + generator.normal(size=3), 1.3 * across, 1.1 * down])
        )
    return ConeBeamVectors((40, 36, 32), np.array(views), (70, 60), 0.9)


SCANS = {
    "circle": lambda: ConeBeam((44, 60, 52), angles=11, **NEAR),
    "small voxels": lambda: ConeBeam((30, 40, 40), 0.6, 7, detector_size=(0.7, 0.9), **NEAR),
    "shifted": lambda: ConeBeam((40, 40, 40), 1.5, 9, detector_offset=(6.0, 11.0), **NEAR),
    "helix": helix,
    "tilted": tilted,
}


@pytest.mark.parametrize("make", SCANS.values(), ids=SCANS)
def test_a_gaussian_projects_to_its_closed_form(make) -> None:
    op = make()
    x, y, z = grid(op)
    size = op.geometry.pixel_size
    sigma, centre = 4 * size, torch.tensor([3.0, -2.0, 2.0], dtype=torch.float64) * size
    blob = torch.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2) / (2 * sigma**2))
    source, direction = rays(op)
    distance = torch.linalg.cross(centre - source, direction, dim=3).norm(dim=3)
    expected = math.sqrt(2 * math.pi) * sigma * torch.exp(-(distance**2) / (2 * sigma**2))
    # linear interpolation of a Gaussian of 4 voxels: at most its curvature / 8 = 0.8 %, on two axes
    torch.testing.assert_close(op(blob), expected, atol=0.016 * float(expected.max()), rtol=0)
    assert expected.max() > 0.9 * math.sqrt(2 * math.pi) * sigma  # some ray passes the middle


@pytest.mark.parametrize("make", [SCANS["circle"], SCANS["helix"]], ids=["circle", "helix"])
def test_an_ellipsoid_projects_to_its_chords(make) -> None:
    op = make()
    half = torch.tensor([17.0, 12.0, 14.0], dtype=torch.float64)
    centre = torch.tensor([2.0, -3.0, 4.0], dtype=torch.float64)
    offsets = ((torch.arange(5, dtype=torch.float64) + 0.5) / 5 - 0.5) * op.geometry.pixel_size
    x, y, z = grid(op)
    ellipsoid = torch.zeros(op.domain_shape, dtype=torch.float64)
    for dx in offsets:
        for dy in offsets:
            for dz in offsets:
                shares = ((x + dx - centre[0]) / half[0]) ** 2 + ((y + dy - centre[1]) / half[1]) ** 2
                ellipsoid += (shares + ((z + dz - centre[2]) / half[2]) ** 2 <= 1) / 125
    source, direction = rays(op)
    start, step = (source - centre) / half, direction / half
    a, b, c = step.square().sum(3), (start * step).sum(3), start.square().sum(3) - 1
    root = b.square() - a * c
    expected = 2 * root.clamp_min(0).sqrt() / a
    inside = root > 0.1 * root.max()
    assert inside.any()
    difference = (op(ellipsoid) - expected)[inside]
    # the surface crosses voxels of 1 mm: half a voxel at each end; blur along the surface keeps the mean
    assert difference.abs().max() < 1.0
    assert (op(ellipsoid) - expected).mean().abs() < 1e-3 * expected.mean()


def plain_joseph(volume: np.ndarray, op: ConeBeam | ConeBeamVectors) -> np.ndarray:
    """Ray by ray: steps of one voxel along the steepest axis, bilinear interpolation in the layer."""
    source, direction = (part.numpy() for part in rays(op))
    size, shape = op.geometry.pixel_size, np.array(volume.shape)
    flip = np.array([1.0, -1.0, 1.0])  # z, y, x: rows run down
    result = np.zeros(op.range_shape)
    for row, view, column in np.ndindex(*op.range_shape):
        start = source[0, view, 0][::-1] * flip / size + (shape - 1) / 2
        step = direction[row, view, column][::-1] * flip
        axis = int(np.argmax(np.abs(step)))
        a, b = (other for other in range(3) if other != axis)
        for layer in range(shape[axis]):
            place = start + step * (layer - start[axis]) / step[axis]
            low = np.floor(place).astype(int)
            for da in (0, 1):
                for db in (0, 1):
                    index = [0, 0, 0]
                    index[axis], index[a], index[b] = layer, low[a] + da, low[b] + db
                    if (np.array(index) >= 0).all() and (np.array(index) < shape).all():
                        weight = (1 - abs(place[a] - index[a])) * (1 - abs(place[b] - index[b]))
                        result[row, view, column] += weight * volume[tuple(index)]
        result[row, view, column] *= size / abs(step[axis])
    return result


@pytest.mark.filterwarnings("ignore:about")  # a small detector, all the rays of which meet voxels
@pytest.mark.parametrize("shape", [(5, 7, 6), (6, 4, 9)])
def test_the_weights_are_josephs(shape: tuple[int, int, int]) -> None:
    vectors = tilted().geometry.vectors
    op = ConeBeamVectors(shape, vectors, (9, 8), 2.1)
    volume = random(*shape, dtype=torch.float64)
    torch.testing.assert_close(op(volume).numpy(), plain_joseph(volume.numpy(), op), atol=1e-9, rtol=0)


@pytest.mark.parametrize("slices", [8, 9])
@pytest.mark.parametrize("angles", [12, [0.2 + 0.5 * k for k in range(13)]])
def test_the_middle_row_of_equal_slices_is_the_fan_beam(slices: int, angles: int | list[float]) -> None:
    scan = {"pixel_size": 0.8, "angles": angles, "detector_size": 1.3, "detector_offset": 2.0, **NEAR}
    fan = FanBeam((24, 31), detectors=44, **scan)
    cone = ConeBeam((slices, 24, 31), detectors=(15, 44), **{**scan, "detector_offset": (0.0, 2.0)})
    image = random(24, 31, dtype=torch.float64)
    # the same method: fan beam leaves weights below 1e-7 out
    torch.testing.assert_close(cone(image.expand(slices, 24, 31))[7], fan(image), atol=1e-5, rtol=0)


def test_turning_the_volume_turns_the_views() -> None:
    op = ConeBeam((9, 21, 21), angles=12, detectors=(14, 40), **NEAR)
    volume = random(9, 21, 21, dtype=torch.float64)
    turned = op(torch.rot90(volume, 1, (1, 2)))
    torch.testing.assert_close(turned, op(volume).roll(3, 1), atol=1e-9, rtol=1e-9)


def test_mirroring_the_volume_mirrors_the_detector() -> None:
    theta = [0.5 * k for k in range(13)]
    op = ConeBeam((8, 14, 21), angles=theta, detector_offset=(2.0, 3.0), detectors=(20, 50), **NEAR)
    other = ConeBeam(
        (8, 14, 21), angles=[-t for t in theta], detector_offset=(-2.0, -3.0), detectors=(20, 50), **NEAR
    )
    volume = random(8, 14, 21, dtype=torch.float64)
    torch.testing.assert_close(op(volume.flip(0, 2)), other(volume).flip(0, 2), atol=1e-9, rtol=1e-9)


def test_lengths_are_in_mm() -> None:
    small = ConeBeam((6, 8, 8), 1.0, 9, **NEAR)
    large = ConeBeam((6, 8, 8), 3.0, 9, **{name: 3 * value for name, value in NEAR.items()})
    volume = random(6, 8, 8)
    torch.testing.assert_close(large(volume), 3 * small(volume))


@pytest.mark.filterwarnings("ignore:about")
def test_what_lies_behind_the_source_is_not_seen() -> None:
    towards = [0, -30, 0, 0, 60, 0, 1, 0, 0, 0, 0, 1]
    away = [0, -30, 0, 0, -60, 0, 1, 0, 0, 0, 0, 1]
    op = ConeBeamVectors((8, 8, 8), [towards, away], (9, 9))
    data = op(torch.ones(8, 8, 8))
    assert data[:, 0].min() > 0
    assert (data[:, 1] == 0).all()


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 7)),
    pixel_size=st.floats(0.3, 3.0),
    angles=st.one_of(st.integers(1, 5), st.lists(st.floats(-6.0, 6.0), min_size=1, max_size=4)),
    distances=st.tuples(st.floats(33.0, 300.0), st.floats(0.0, 200.0)),
    detectors=st.one_of(st.none(), st.tuples(st.integers(1, 6), st.integers(1, 7))),
    offset=st.tuples(st.floats(-4.0, 4.0), st.floats(-4.0, 4.0)),
)
def test_the_adjoint_is_exact(shape, pixel_size, angles, distances, detectors, offset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        op = ConeBeam(
            shape,
            pixel_size,
            angles,
            source_origin=distances[0],
            origin_detector=distances[1],
            detectors=detectors,
            detector_offset=offset,
        )
    if math.prod(op.range_shape) > 4000:
        return
    matrix, transpose = op.to_dense(torch.float64), op.H.to_dense(torch.float64)
    torch.testing.assert_close(transpose, matrix.T, atol=0, rtol=1e-13)  # the same products, in another order
    assert (matrix >= 0).all()


@pytest.mark.parametrize("make", SCANS.values(), ids=SCANS)
def test_the_float32_pair_passes_the_dot_test(make) -> None:
    op = make()
    volume, data = random(*op.domain_shape), random(*op.range_shape, seed=1)
    left, right = (op(volume) * data).sum(), (volume * op.adjoint(data)).sum()
    assert abs(left - right) < 1e-6 * op(volume).norm() * data.norm()


def test_a_position_that_rounding_lifts_out_of_the_margin_is_left_out() -> None:
    from recon_operators.cone_kernels import narrowed

    just_below = math.nextafter(16.0, 0.0)
    assert math.floor(just_below) == 15
    assert math.floor(just_below + 1.0) == 17  # where memory of others begins
    assert narrowed(0, 3, just_below, 0.0, -1, 16) == (3, 3)  # none
    assert narrowed(0, 3, 15.9, 0.0, -1, 16) == (0, 3)
    assert narrowed(0, 9, -3.5, 1.0, -1, 4) == (3, 8)
    assert narrowed(0, 9, 3.5, -1.0, -1, 4) == (0, 5)


@pytest.mark.parametrize("make", [helix, tilted])
def test_results_do_not_depend_on_the_number_of_threads(make) -> None:
    op = make()
    volume, data = random(2, *op.domain_shape), random(2, *op.range_shape)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append((op(volume), op.adjoint(data)))
    finally:
        torch.set_num_threads(before)
    for forward, adjoint in found[1:]:
        assert torch.equal(forward, found[0][0])
        assert torch.equal(adjoint, found[0][1])


@pytest.mark.parametrize(
    ("scan", "range_shape"),
    [
        # magnified 1.5: 142 diagonals of the fan; 40 voxels nearest at 1000 - 70.7 mm: 40 * 1000 / 929.3 = 43.1
        ({"shape": (40, 100, 100), "source_origin": 1000.0, "origin_detector": 500.0}, (44, 2, 142)),
        ({"shape": (3, 4, 5), "detector_size": 0.5, **NEAR}, (10, 2, 20)),
        ({"shape": (3, 4, 5), "detector_size": (0.5, 1.5), **NEAR}, (10, 2, 7)),
        ({"shape": (3, 4, 5), "detectors": (np.int32(6), 9), **NEAR}, (6, 2, 9)),
        ({"shape": (3, 4, 5), "detector_offset": (1.6, 0.0), **NEAR}, (6, 2, 7)),
        ({"shape": (3, 4, 5), "detector_offset": -1.6, **NEAR}, (4, 2, 9)),
    ],
)
def test_the_default_detector_covers_the_volume(scan: dict, range_shape: tuple[int, ...]) -> None:
    op = ConeBeam(**{"angles": 2, **scan})  # a warning would be an error
    assert op.range_shape == range_shape
    half = op.geometry.half_sides
    corners = np.array([half * [a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)])
    assert op.geometry.seen(corners).all()


def test_geometries_are_equal_by_value_and_vectors_are_the_circle() -> None:
    circle, again = (ConeBeam((8, 9, 10), 0.7, 6, detector_offset=(1.0, 2.0), **NEAR) for _ in range(2))
    vectors = ConeBeamVectors.of(circle.geometry)
    assert circle.geometry == again.geometry == vectors.geometry
    assert hash(circle.geometry) == hash(vectors.geometry)
    assert circle.geometry != ConeBeam((8, 9, 10), 0.7, 7, **NEAR).geometry
    volume = random(8, 9, 10)
    data = circle(volume)
    assert torch.equal(vectors(volume), data)
    assert torch.equal(vectors.pinv(data), circle.pinv(data))
    assert isinstance(circle.geometry, ConeGeometry)


def test_a_circle_is_found_in_its_vectors() -> None:
    geometry = ConeBeam((8, 9, 10), angles=[0.3, 1.0, 2.5, 5.0], detector_offset=(1.0, 2.0), **NEAR).geometry
    orbit = geometry.orbit
    assert orbit is not None
    np.testing.assert_allclose(np.mod(orbit.angles, 2 * math.pi), [0.3, 1.0, 2.5, 5.0])
    assert (orbit.source_origin, orbit.source_detector) == pytest.approx((120.0, 180.0))
    assert orbit.offset == pytest.approx((1.0, 2.0))
    assert orbit.spacing == pytest.approx((1.5, 1.5))
    assert (orbit.mirrored, orbit.upwards) == (False, True)
    for place in range(
        12
    ):  # any one number of one view changed by 0.1 mm, along the detector's own line or not
        vectors = np.array(geometry.vectors)
        vectors[1, place] += 0.1
        assert ConeGeometry(geometry.shape, 1.0, geometry.detectors, tuple(map(tuple, vectors))).orbit is None


def test_a_helix_rises_by_its_pitch() -> None:
    scan = helical_geometry((60, 20, 20), pitch=12.0, turns=6.0, views_per_turn=40, **NEAR)
    source = scan.frames[:, 0]
    np.testing.assert_allclose(source[40:, 2] - source[:-40, 2], 12.0)
    np.testing.assert_allclose(source[40:, :2], source[:-40, :2], atol=1e-9)
    np.testing.assert_allclose(np.hypot(source[:, 0], source[:, 1]), 120.0)
    assert source[0, 2] == -36.0
    assert scan.orbit is None
    # an object moved up by the pitch is seen a turn later as it was
    op = ConeBeamVectors.of(scan)
    volume = torch.zeros(60, 20, 20, dtype=torch.float64)
    volume[12:36] = random(24, 20, 20, dtype=torch.float64)
    torch.testing.assert_close(op(volume.roll(12, 0))[:, 40:], op(volume)[:, :-40], atol=1e-9, rtol=1e-9)


def test_the_default_detector_of_a_helix_is_the_tam_danielsson_window() -> None:
    scan = helical_geometry((200, 40, 40), pitch=30.0, turns=8.0, views_per_turn=90, **NEAR)
    turn = np.arange(16) * math.pi / 8
    circle = math.hypot(20, 20) * np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1)
    seen = scan.seen(circle).sum(axis=0)
    assert seen.min() >= 45  # every point over 180 degrees, seen from it, which is more as seen from the axis
    window = (scan.detectors[0] - 4, scan.detectors[1])
    narrower = ConeGeometry(scan.shape, 1.0, window, scan.vectors)
    assert narrower.seen(circle).sum(axis=0).min() < 45 + 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (4, 4)}, r"shape must be three positive integers \(slices, rows, columns\), got \(4, 4\)"),
        ({"pixel_size": 0.0}, "pixel_size must be a length in mm > 0, got 0.0"),
        ({"source_origin": 3.0}, r"outside the volume, which reaches 2.82843 mm .* got 3.0"),
        ({"origin_detector": -1.0}, "origin_detector must be a length in mm >= 0, got -1.0"),
        ({"angles": []}, "angles is empty"),
        ({"detectors": (3, 0)}, r"detectors must be two positive integers \(rows, columns\), got \(3, 0\)"),
        ({"detectors": 7}, "detectors must be two positive integers"),
        ({"detector_size": (1.0, -2.0)}, "detector_size must be a length in mm > 0, got -2.0"),
        ({"detector_size": (1.0, 2.0, 3.0)}, r"one length in mm, or one for \(rows, columns\)"),
        ({"detector_offset": (math.nan, 0.0)}, "detector_offset must be a finite length in mm, got nan"),
        ({"backend": "matrix"}, "backend must be 'auto', 'joseph' or 'astra', got 'matrix'"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConeBeam(**{"shape": (4, 4, 4), **NEAR, **arguments})


VIEW = [0, -30, 0, 0, 60, 0, 1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((3, 6)), r"vectors must be \(views, 12\).*got \(3, 6\)"),
        (np.zeros((0, 12)), r"vectors must be \(views, 12\)"),
        ([VIEW, [math.inf, *VIEW[1:]]], "finite lengths in mm, .* in view 1"),
        ([VIEW, [*VIEW[:9], 2, 0, 0]], "view 1 span no detector"),
        ([[*VIEW[:3], 5, -30, 0, *VIEW[6:]]], "runs through the source in view 0"),
        (
            [VIEW, [0, -2, 0, *VIEW[3:]]],
            r"source of view 1 at \[0.0, -2.0, 0.0\] mm must lie outside the volume",
        ),
    ],
)
def test_wrong_vectors_are_refused_by_view(vectors: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConeBeamVectors((4, 4, 4), vectors, (5, 5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pitch": 0.0}, "pitch must be a length in mm other than 0, got 0.0"),
        ({"turns": -1.0}, "turns must be a positive number, got -1.0"),
        ({"views_per_turn": 2.5}, "views_per_turn must be a positive integer, got 2.5"),
    ],
)
def test_wrong_helices_are_refused_by_name(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        helical_geometry(**{"shape": (4, 4, 4), "pitch": 2.0, "turns": 2.0, **NEAR, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"detectors": (60, 36)}, r"% of the lines through the circle inside the image .* too short"),
        (
            {"angles": np.arange(180) * math.pi / 180},
            r"leave gaps of 180.0 degrees: \d+.\d degrees without a gap",
        ),
        (
            {"detectors": (30, 100)},  # 15 rows of 1.5 mm / 180 * (120 - 20) on either side
            r"^the detector's 30 rows are too few for the slices from -20 to 20 mm: only those from -12.5 to 12.5 mm "
            r"are seen in every view \(within 20 mm of the axis\); 48 rows see them all",
        ),
        ({"detector_offset": (60.0, 0.0), "detectors": (20, 100)}, "none is seen in every view"),
        ({"angles": np.arange(360)}, r"look like degrees"),
        (
            {"detectors": (48, 60), "detector_offset": 20.0},
            None,
        ),  # the long side sees what the short one does not
    ],
)
def test_what_a_scan_does_not_measure_is_pointed_out(arguments: dict, message: str | None) -> None:
    scan = {"shape": (40, 40, 40), "angles": 90, **NEAR, **arguments}
    if message is None:
        ConeBeam(**scan)  # a warning would be an error
        return
    with pytest.warns(UserWarning, match=message) as caught:
        ConeBeam(**scan)
    assert {warning.filename for warning in caught} == {__file__}


def test_a_circle_in_vectors_is_warned_of_as_a_circle() -> None:
    scan = {"shape": (40, 40, 40), "angles": np.arange(180) * math.pi / 180, "detectors": (30, 100), **NEAR}
    with pytest.warns(UserWarning) as caught:
        geometry = ConeBeam(**scan).geometry
    with pytest.warns(UserWarning) as again:
        ConeBeamVectors((40, 40, 40), geometry.vectors, (30, 100))
    assert [str(one.message) for one in again] == [str(one.message) for one in caught]
    assert len(again) == 2
    assert {warning.filename for warning in again} == {__file__}


def test_what_no_view_sees_is_pointed_out() -> None:
    with pytest.warns(
        UserWarning, match=r"^about \d+% of the cylinder .*is seen in no view, such as"
    ) as caught:
        helix(turns=1.0, pitch=10.0)
    assert len(caught) == 1
    helix(turns=3.0, pitch=20.0)


def test_drawings(tmp_path) -> None:
    for scan in (ConeBeam((8, 9, 10), angles=7, **NEAR).geometry, helix().geometry, tilted().geometry):
        figure = scan.plot()
        above, side = figure.axes
        assert (above.get_title(), side.get_title()) == ("from above", "from the side")
        labels = {text.get_text() for text in figure.legends[0].get_texts()}
        assert labels == {"volume", "detector, first view", "source, first view", "source, every view"}
        figure.savefig(tmp_path / "scan.png")
        assert (tmp_path / "scan.png").stat().st_size > 5000


def test_the_operators_and_their_geometry_load_no_astra() -> None:
    code = (
        "import sys, torch\nfrom recon_operators import ConeBeam\n"
        "op = ConeBeam((3, 3, 3), angles=2, source_origin=9.0, origin_detector=1.0)\nop(torch.ones(3, 3, 3))\n"
        "assert 'astra' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
