"""The symmetry of a scan: a part of the matrix and turned images give what the whole matrix gives."""

import dataclasses
import math
import time

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_operators.joseph import projection_matrix
from recon_operators.scan_geometry import FanGeometry, ParallelGeometry, ScanGeometry
from recon_operators.scan_symmetry import find_symmetry
from recon_operators.sparse_projector import sparse_projector


def scan(
    shape: tuple[int, int], angles: int | list[float], spacing: float = 1.0, offset: float = 0.0
) -> ParallelGeometry:
    theta = [i * math.pi / angles for i in range(angles)] if isinstance(angles, int) else angles
    return ParallelGeometry(
        shape, 1.0, tuple(theta), math.ceil(math.hypot(*shape) / spacing), spacing, offset
    )


def fan(
    shape: tuple[int, int], angles: int | list[float], offset: float = 0.0, weights: str = "joseph"
) -> FanGeometry:
    theta = [i * 2 * math.pi / angles for i in range(angles)] if isinstance(angles, int) else angles
    distances = {"source_origin": 30.0, "origin_detector": 12.0}
    return FanGeometry(shape, 1.0, tuple(theta), 15, 1.3, offset, weights, **distances)


def whole_matrix(geometry: ScanGeometry) -> np.ndarray:
    rows, _ = projection_matrix(geometry, np.float64)
    return scipy.sparse.csr_array((rows.values, rows.columns, rows.starts), shape=rows.shape).toarray()


scans = st.one_of(
    st.builds(scan, st.tuples(st.integers(1, 8), st.integers(1, 8)), st.integers(1, 24), st.floats(0.4, 2.0)),
    st.builds(lambda n, views: scan((n, n), views), st.integers(2, 9), st.sampled_from([20, 24, 32, 40, 44])),
    st.builds(
        scan,
        st.tuples(st.integers(1, 8), st.integers(1, 8)),
        st.lists(
            st.one_of(st.floats(-7, 7), st.integers(-16, 16).map(lambda k: k * math.pi / 8)),
            min_size=1,
            max_size=9,
        ),
        st.floats(0.4, 2.0),
        st.sampled_from([0.0, 0.3]),
    ),
)
fans = st.builds(
    fan,
    st.one_of(st.tuples(st.integers(1, 8), st.integers(1, 8)), st.integers(2, 9).map(lambda n: (n, n))),
    st.one_of(
        st.integers(1, 24),
        st.sampled_from([20, 24, 32]),
        st.lists(st.integers(-16, 16).map(lambda k: 0.1 + k * math.pi / 8), min_size=1, max_size=9),
    ),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from(["joseph", "interpolation"]),
)


@settings(max_examples=80, deadline=None)
@given(geometry=st.one_of(scans, fans))
def test_the_part_and_its_turns_are_the_whole_matrix(geometry: ScanGeometry) -> None:
    projector = sparse_projector(geometry, torch.float64)
    matrix = whole_matrix(geometry)
    rays, pixels = matrix.shape
    units = torch.eye(pixels, dtype=torch.float64).reshape(pixels, *geometry.shape)
    forward = projector.forward(units).reshape(pixels, rays).T
    # mirrored angles have cosines that differ in the last digits
    np.testing.assert_allclose(forward.numpy(), matrix, atol=1e-9)
    data = torch.eye(rays, dtype=torch.float64).reshape(rays, geometry.views, geometry.detectors)
    adjoint = projector.adjoint(data).reshape(rays, pixels)
    assert torch.equal(adjoint, forward)


@pytest.mark.parametrize(
    ("geometry", "turns", "part_views"),
    [
        (scan((16, 16), 180), 8, 46),  # 0 to 45 degrees
        (scan((16, 16), 182), 8, 46),
        (scan((16, 16), 181), 4, 91),  # no quarter turns
        (scan((16, 24), 180), 4, 91),
        (scan((16, 16), [0.1, 0.7, 1.9, 2.2]), 2, 4),
        (scan((16, 16), [k * math.pi / 90 for k in range(180)]), 8, 23),  # a full turn
        (scan((16, 16), 180, offset=0.5), 1, 180),
    ],
)
def test_equally_spaced_views_of_a_square_need_an_eighth(
    geometry: ParallelGeometry, turns: int, part_views: int
) -> None:
    symmetry = find_symmetry(geometry)
    assert (len(symmetry.turns), symmetry.part.views) == (turns, part_views)
    assert symmetry.part.detectors == (geometry.detectors if turns == 1 else (geometry.detectors + 1) // 2)


@pytest.mark.parametrize(
    ("geometry", "turns", "part_views"),
    [
        (fan((16, 16), 360), 8, 46),
        (fan((16, 16), 362), 4, 91),  # no quarter turns
        (fan((16, 16), 360, offset=0.5), 4, 90),  # no mirrorings
        (fan((16, 24), 360), 4, 91),
        (fan((16, 24), 360, offset=0.5), 2, 180),
        (fan((16, 16), [0.1, 0.7, 1.9, 2.2]), 1, 4),
        (fan((16, 16), [k * math.pi / 180 for k in range(270)]), 8, 46),  # a quarter missing: still worth it
        (fan((16, 16), [k * math.pi / 180 for k in range(210)]), 1, 210),
    ],
)
def test_a_full_turn_of_fan_beams_needs_an_eighth(geometry: FanGeometry, turns: int, part_views: int) -> None:
    symmetry = find_symmetry(geometry)
    assert (len(symmetry.turns), symmetry.part.views) == (turns, part_views)
    assert symmetry.part.detectors == geometry.detectors


@settings(max_examples=60, deadline=None)
@given(geometry=scans)
def test_hardly_more_rays_are_computed_than_there_are(geometry: ParallelGeometry) -> None:
    symmetry = find_symmetry(geometry)
    computed = len(symmetry.turns) * symmetry.part.views * symmetry.part.detectors
    assert computed <= 1.15 * geometry.views * geometry.detectors


def test_many_irregular_views_are_examined_quickly() -> None:
    theta = np.random.default_rng(0).uniform(0, np.pi, 3000)
    geometry = dataclasses.replace(scan((512, 512), 1), angles=tuple(theta.tolist()))
    start = time.perf_counter()
    find_symmetry(geometry)
    assert time.perf_counter() - start < 2  # a tenth of a second, on a busy machine too


def test_angles_measured_to_seven_digits_still_match_or_fall_back_exactly() -> None:
    theta = [round(i * math.pi / 24, 7) for i in range(24)]
    geometry = scan((9, 9), theta)
    assert len(find_symmetry(geometry).turns) == 2  # half a turn always holds; the mirrored angles do not
    images = torch.rand(2, 9, 9, dtype=torch.float64)
    expected = images.flatten(1).numpy() @ whole_matrix(geometry).T
    np.testing.assert_allclose(sparse_projector(geometry, torch.float64).forward(images).flatten(1), expected)
