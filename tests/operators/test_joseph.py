"""The projection matrix builder against ASTRA's own matrix, and the properties its users rely on."""

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_operators.joseph import FanGeometry, ParallelGeometry, SparseRows, projection_matrix
from recon_operators.scan_geometry import ScanGeometry

angles = st.one_of(
    st.floats(-2 * math.pi, 2 * math.pi, allow_subnormal=False),
    st.integers(-8, 8).map(lambda eighths: eighths * math.pi / 4),
)
lengths = st.floats(0.25, 4.0)
geometries = st.builds(
    ParallelGeometry,
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    pixel_size=lengths,
    angles=st.lists(angles, min_size=1, max_size=5).map(tuple),
    detectors=st.integers(1, 17),
    detector_size=lengths,
    detector_offset=st.floats(-3.0, 3.0),
)
fans = st.builds(
    FanGeometry,
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    pixel_size=lengths,
    angles=st.lists(angles, min_size=1, max_size=5).map(tuple),
    detectors=st.integers(1, 17),
    detector_size=lengths,
    detector_offset=st.floats(-3.0, 3.0),
    weights=st.sampled_from(["joseph", "interpolation"]),
    source_origin=st.floats(40.0, 90.0),
    origin_detector=st.floats(0.0, 50.0),
)


def dense(rows: SparseRows) -> np.ndarray:
    return scipy.sparse.csr_array((rows.values, rows.columns, rows.starts), shape=rows.shape).toarray()


def astra_matrix(geometry: ParallelGeometry) -> np.ndarray:
    """ASTRA's matrix of its CPU projector `linear` in mm."""
    astra = pytest.importorskip("astra", reason="ASTRA is an optional extra")
    cosine, sine = np.cos(geometry.angles), np.sin(geometry.angles)
    offset = geometry.detector_offset / geometry.pixel_size
    step = geometry.detector_size / geometry.pixel_size
    vectors = np.stack([sine, -cosine, offset * cosine, offset * sine, step * cosine, step * sine], axis=1)
    projector = astra.create_projector(
        "linear",
        astra.create_proj_geom("parallel_vec", geometry.detectors, vectors),
        astra.create_vol_geom(*geometry.shape),
    )
    stored = astra.projector.matrix(projector)
    matrix = astra.matrix.get(stored).toarray() * geometry.pixel_size
    astra.matrix.delete(stored)
    astra.projector.delete(projector)
    return matrix


@settings(max_examples=150, deadline=None)
@given(geometry=geometries)
def test_every_entry_is_astras(geometry: ParallelGeometry) -> None:
    matrix, _ = projection_matrix(geometry, np.float64)
    # ASTRA adds up float32 steps along the ray: up to some 20 roundings at positions below 100 pixels
    tolerance = 20 * 100 * np.finfo(np.float32).eps * geometry.pixel_size * math.sqrt(2)
    np.testing.assert_allclose(dense(matrix), astra_matrix(geometry), atol=tolerance)


@pytest.mark.parametrize("views", [7, 8])
def test_the_plain_parallel_geometry_of_astra(views: int) -> None:
    astra = pytest.importorskip("astra", reason="ASTRA is an optional extra")
    theta = np.arange(views) * np.pi / views
    geometry = ParallelGeometry((12, 9), 1.0, tuple(theta), 17, 1.2)
    projector = astra.create_projector(
        "linear", astra.create_proj_geom("parallel", 1.2, 17, theta), astra.create_vol_geom(12, 9)
    )
    theirs = astra.matrix.get(astra.projector.matrix(projector)).toarray()
    astra.projector.delete(projector)
    ours, _ = projection_matrix(geometry, np.float64)
    np.testing.assert_allclose(dense(ours), theirs, atol=1e-5)  # ASTRA's float32


@settings(max_examples=60, deadline=None)
@given(geometry=st.one_of(geometries, fans), threads=st.integers(1, 4))
def test_the_transpose_is_the_transpose_to_the_bit(geometry: ScanGeometry, threads: int) -> None:
    matrix, transpose = projection_matrix(geometry, np.float32, threads)
    np.testing.assert_array_equal(dense(matrix).T, dense(transpose))


@settings(max_examples=60, deadline=None)
@given(geometry=st.one_of(geometries, fans))
def test_rows_are_sorted_distinct_and_positive(geometry: ScanGeometry) -> None:
    for rows in projection_matrix(geometry):
        assert rows.starts.dtype == rows.columns.dtype == np.int32
        assert rows.starts[0] == 0
        assert rows.starts[-1] == rows.columns.size == rows.values.size
        stored = scipy.sparse.csr_array((rows.values, rows.columns, rows.starts), shape=rows.shape)
        stored.check_format()
        assert stored.has_canonical_format
        assert (rows.values > 0).all()


def test_threads_change_nothing() -> None:
    geometry = ParallelGeometry((33, 20), 0.7, tuple(np.linspace(0, 3, 13)), 40, 0.9, 0.3)
    one, several = projection_matrix(geometry, threads=1), projection_matrix(geometry, threads=3)
    for a, b in zip(one, several, strict=True):
        for part_a, part_b in zip(a, b, strict=True):
            np.testing.assert_array_equal(part_a, part_b)


def test_float32_values_are_the_rounded_float64_ones() -> None:
    geometry = ParallelGeometry((11, 14), 0.7, (0.1, 1.0, 2.0), 25, 0.8)
    single, double = projection_matrix(geometry, np.float32)[0], projection_matrix(geometry, np.float64)[0]
    assert single.values.dtype == np.float32
    np.testing.assert_array_equal(single.values, double.values.astype(np.float32))


@pytest.mark.parametrize("spacing", [0.4, 1.0, 1.7])
def test_the_entries_are_estimated_before_building(spacing: float) -> None:
    theta = tuple(np.arange(30) * np.pi / 30)
    geometry = ParallelGeometry((40, 50), 1.0, theta, math.ceil(65 / spacing), spacing)
    # exact in the mean; the fraction of a footprint that falls on an element varies
    assert projection_matrix(geometry)[0].values.size == pytest.approx(geometry.entries, rel=0.03)


@pytest.mark.parametrize("weights", ["joseph", "interpolation"])
@pytest.mark.parametrize("spacing", [0.7, 1.6])
def test_the_entries_of_a_fan_are_estimated_before_building(weights: str, spacing: float) -> None:
    theta = tuple(np.arange(30) * np.pi / 15)
    distances = {"source_origin": 90.0, "origin_detector": 50.0}
    geometry = FanGeometry((40, 50), 1.0, theta, math.ceil(112 / spacing), spacing, 0.0, weights, **distances)
    assert projection_matrix(geometry)[0].values.size == pytest.approx(geometry.entries, rel=0.03)


@pytest.mark.parametrize("offset", [0.0, 2.2])
def test_a_fan_is_interpolated_at_each_pixel_and_weighted_by_its_distance(offset: float) -> None:
    distances = {"source_origin": 30.0, "origin_detector": 12.0}
    geometry = FanGeometry((5, 4), 1.5, (0.4, 2.0, 5.0), 40, 0.9, offset, "interpolation", **distances)
    _, transpose = projection_matrix(geometry, np.float64)
    ramp = np.tile(geometry.positions, 3)  # interpolating it gives the position itself
    theta = np.array(geometry.angles)
    x, y = (np.arange(4) - 1.5) * 1.5, (2 - np.arange(5)[:, None]) * 1.5
    expected = np.zeros((5, 4))
    for cosine, sine in zip(np.cos(theta), np.sin(theta), strict=True):
        depth = 30 - x * sine + y * cosine
        expected += (30 / depth) ** 2 * 42 * (x * cosine + y * sine) / depth
    np.testing.assert_allclose((dense(transpose) @ ramp).reshape(5, 4), expected, atol=1e-5)


def test_a_matrix_too_large_for_int32_is_refused_before_it_is_built() -> None:
    geometry = ParallelGeometry((4096, 4096), 1.0, tuple(np.linspace(0, 3, 200)), 5800, 1.0)
    with pytest.raises(ValueError, match=r"more than int32 indices can count .*backend='astra'"):
        projection_matrix(geometry)


def test_a_detector_beside_the_image_sees_nothing() -> None:
    matrix, transpose = projection_matrix(ParallelGeometry((4, 4), 1.0, (0.3,), 3, 1.0, 100.0))
    assert matrix.values.size == transpose.values.size == 0
    assert matrix.starts.size == 4


def test_the_next_process_finds_the_kernels_compiled() -> None:
    program = (
        "import numpy as np\n"
        "from recon_operators.joseph import ParallelGeometry, projection_matrix\n"
        "projection_matrix(ParallelGeometry((4, 4), 1.0, (0.3,), 6, 1.0), np.float32)\n"
        "from recon_operators import joseph_kernels as k\n"
        "for kernel in (k.count_rays, k.fill_rays, k.count_columns, k.fill_columns):\n"
        "    assert sum(kernel.stats.cache_misses.values()) == 0, kernel\n"
    )
    projection_matrix(ParallelGeometry((4, 4), 1.0, (0.3,), 6, 1.0), np.float32)
    subprocess.run([sys.executable, "-c", program], check=True)


def test_importing_the_builder_imports_neither_numba_nor_astra() -> None:
    program = "import sys, recon_operators.joseph\nassert not {'numba', 'astra', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
