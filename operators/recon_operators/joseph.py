"""The projection matrix of a 2-D scan (Joseph's method) and its transpose."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from recon_operators.scan_geometry import FanGeometry, ParallelGeometry, ScanGeometry

__all__ = ["FanGeometry", "ParallelGeometry", "SparseRows", "projection_matrix"]

_Array = np.ndarray[Any, Any]
_Real = type[np.floating[Any]]
_MOST_ENTRIES = 2**31 - 1  # what int32 row pointers can count
_COLUMNS_AT_ONCE = 2**15  # of a transpose: few enough places written to at a time for the cache


class SparseRows(NamedTuple):
    """A sparse matrix by rows: row i has columns[starts[i]:starts[i+1]], ascending, with those values."""

    starts: _Array
    columns: _Array
    values: _Array
    shape: tuple[int, int]


def projection_matrix(
    geometry: ScanGeometry, dtype: _Real = np.float32, threads: int = 1
) -> tuple[SparseRows, SparseRows]:
    """The projection matrix (views * detectors, height * width) in mm, and its transpose.

    Joseph's method (IEEE Trans. Med. Imaging 1, 1982) steps along the axis nearest to the ray and
    interpolates linearly on the other. A pixel whose centre lies at distance d from the ray, which has the
    normal (cos phi, sin phi), then has the weight

        pixel_size / m * max(0, 1 - |d| / (m * pixel_size)),    m = max(|cos phi|, |sin phi|),

    in parallel beam the matrix of ASTRA's CPU projector ``linear``. With the weights of interpolation the
    transpose adds up the views at the pixels, in fan beam times (source_origin / depth)^2, the depth being the
    distance of the pixel from the source along the central ray.

    Args:
        geometry: the scan.
        dtype: np.float32 or np.float64, precision of the values; indices are int32.
        threads: threads that share the work.

    Raises:
        ValueError: the matrix has more entries than int32 row pointers can count.
    """
    _check_entries(geometry.entries)
    if isinstance(geometry, FanGeometry) and geometry.weights == "interpolation":
        transpose = _fan_interpolation(geometry, dtype, threads)
        return _transposed(transpose, threads), transpose
    matrix = _along_rays(geometry, dtype, threads)
    return matrix, _transposed(matrix, threads)


def _along_rays(geometry: ScanGeometry, dtype: _Real, threads: int) -> SparseRows:
    from recon_operators import joseph_kernels as kernels

    *lines, peak = (array.reshape(-1) for array in geometry.footprints())
    counts = np.zeros(peak.size, dtype=np.int32)
    size = geometry.shape
    share_work(lambda a, b: kernels.count_rays(*lines, *size, a, b, counts), counts.size, threads)
    matrix = _allocated(counts, size[0] * size[1], dtype)
    share_work(lambda a, b: kernels.fill_rays(*lines, peak, *size, a, b, *matrix[:3]), counts.size, threads)
    return matrix


def _fan_interpolation(geometry: FanGeometry, dtype: _Real, threads: int) -> SparseRows:
    """The transpose, by pixels."""
    from recon_operators import joseph_kernels as kernels

    height, width = geometry.shape
    scan = (
        np.cos(geometry.angles),
        np.sin(geometry.angles),
        (np.arange(width) - (width - 1) / 2) * geometry.pixel_size,
        ((height - 1) / 2 - np.arange(height)) * geometry.pixel_size,
        geometry.source_origin,
        geometry.source_detector / geometry.detector_size,
        (geometry.detectors - 1) / 2 - geometry.detector_offset / geometry.detector_size,
        geometry.detectors,
    )
    counts = np.zeros(height * width, dtype=np.int32)
    share_work(lambda a, b: kernels.count_fan_pixels(*scan, a, b, counts), height, threads)
    transpose = _allocated(counts, geometry.views * geometry.detectors, dtype)
    share_work(lambda a, b: kernels.fill_fan_pixels(*scan, a, b, *transpose[:3]), height, threads)
    return transpose


def _transposed(matrix: SparseRows, threads: int) -> SparseRows:
    """The same entries by columns, so that both agree to the bit."""
    from recon_operators import joseph_kernels as kernels

    starts, columns, values, (height, width) = matrix
    counts = np.zeros(width, dtype=np.int32)
    share_work(lambda a, b: kernels.count_columns(starts, columns, a, b, counts), width, threads)
    result = _allocated(counts, height, values.dtype.type)
    places = result.starts[:-1].copy()
    share_work(
        lambda a, b: kernels.fill_columns(
            starts, columns, values, a, b, places, result.columns, result.values
        ),
        width,
        threads,
        at_least=-(-width // _COLUMNS_AT_ONCE),
    )
    return result


def _allocated(counts: _Array, columns: int, dtype: _Real) -> SparseRows:
    """Unwritten rows with the given number of entries each."""
    ends = np.cumsum(counts, dtype=np.int64)
    entries = int(ends[-1])
    _check_entries(entries)
    starts = np.zeros(ends.size + 1, dtype=np.int32)
    starts[1:] = ends
    return SparseRows(
        starts, np.empty(entries, dtype=np.int32), np.empty(entries, dtype=dtype), (counts.size, columns)
    )


def _check_entries(entries: int) -> None:
    if entries > _MOST_ENTRIES:
        raise ValueError(
            f"the projection matrix has {entries} entries, more than int32 indices can count "
            f"({_MOST_ENTRIES}): use backend='astra', or fewer pixels or views"
        )


def share_work(work: Callable[[int, int], None], size: int, threads: int, at_least: int = 1) -> None:
    """Run ``work(first, last)`` over the range of ``size`` in pieces, several at a time.

    The compiled loops release the interpreter lock, so plain threads suffice; numba's own pools cannot be
    entered from two threads at once, nor after a fork.
    """
    ranges = _ranges(size, max(4 * threads if threads > 1 else 1, at_least))
    if threads == 1 or len(ranges) == 1:
        for first, last in ranges:
            work(first, last)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, first, last) for first, last in ranges]:
            done.result()


def _ranges(size: int, count: int) -> Sequence[tuple[int, int]]:
    edges = np.linspace(0, size, min(count, size) + 1).astype(int).tolist()
    return list(itertools.pairwise(edges))
