"""The geometry of a 2-D parallel-beam scan, its projection matrix (Joseph's method) and the transpose."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

_Array = np.ndarray[Any, Any]
_MOST_ENTRIES = 2**31 - 1  # what int32 row pointers can count


@dataclass(frozen=True)
class ParallelGeometry:
    """A parallel-beam scan of one slice; two equal geometries have the same matrix.

    The detector line of a view at angle theta runs along (cos theta, sin theta), x to the right and y up,
    through the middle of the image; the rays run across it. This is ASTRA's ``parallel`` geometry.

    Attributes:
        shape: image (rows, columns); row 0 is the top.
        pixel_size: side of a square pixel [mm].
        angles: view angles theta [radian].
        detectors: detector elements per view.
        detector_size: spacing of the detector elements [mm].
        detector_offset: position of the detector's middle along the detector line [mm].
        weights: ``"joseph"`` for line integrals, or ``"interpolation"`` for the weights with which a view is
            interpolated linearly at a pixel's middle, which filtered back-projection asks for.
    """

    shape: tuple[int, int]
    pixel_size: float
    angles: tuple[float, ...]
    detectors: int
    detector_size: float
    detector_offset: float = 0.0
    weights: Literal["joseph", "interpolation"] = "joseph"

    @property
    def views(self) -> int:
        """Number of views."""
        return len(self.angles)

    @property
    def entries(self) -> int:
        """Entries of the matrix, to a few per cent: how many elements lie in the footprints of the pixels."""
        cosine, sine = np.abs(np.cos(self.angles)), np.abs(np.sin(self.angles))
        reach, _ = self._triangle
        across = np.maximum(cosine * self.shape[1], 1e-3) * self.pixel_size
        along = np.maximum(sine * self.shape[0], 1e-3) * self.pixel_size
        line = self.detectors * self.detector_size
        start, end = self.detector_offset - line / 2, self.detector_offset + line / 2
        seen = _share_before(end, across, along) - _share_before(start, across, along)
        met = np.minimum(2 * reach / self.detector_size, self.detectors)
        return int(math.prod(self.shape) * float((seen * met).sum()))

    @property
    def _triangle(self) -> tuple[_Array, _Array]:
        """Half the base [mm] and the height of the triangle that a pixel's weights form in each view."""
        if self.weights == "interpolation":
            return np.full(self.views, self.detector_size), np.ones(self.views)
        steepest = np.maximum(np.abs(np.cos(self.angles)), np.abs(np.sin(self.angles)))
        return steepest * self.pixel_size, self.pixel_size / steepest

    @property
    def positions(self) -> _Array:
        """Middles of the detector elements along the detector line [mm]."""
        middle = (self.detectors - 1) / 2
        return (np.arange(self.detectors) - middle) * self.detector_size + self.detector_offset


class SparseRows(NamedTuple):
    """A sparse matrix by rows: row i has columns[starts[i]:starts[i+1]], ascending, with those values."""

    starts: _Array
    columns: _Array
    values: _Array
    shape: tuple[int, int]


def projection_matrix(
    geometry: ParallelGeometry, dtype: type[np.floating[Any]] = np.float32, threads: int = 1
) -> tuple[SparseRows, SparseRows]:
    """The projection matrix (views * detectors, height * width) in mm, and its transpose.

    Joseph's method (IEEE Trans. Med. Imaging 1, 1982) steps along the axis nearest to the ray and
    interpolates linearly on the other. A pixel whose centre projects to s, at distance d = s - s_t from ray
    t, then has the weight

        pixel_size / m * max(0, 1 - |d| / (m * pixel_size)),    m = max(|cos theta|, |sin theta|),

    which is the matrix of ASTRA's CPU projector ``linear``. Because the weight needs only the pixel and the
    ray, the rows of the matrix and of its transpose are written independently, each by several threads, and
    agree to the bit.

    Args:
        geometry: the scan.
        dtype: np.float32 or np.float64, precision of the values; indices are int32.
        threads: threads that share the work.

    Raises:
        ValueError: the matrix has more entries than int32 row pointers can count.
    """
    _check_entries(geometry.entries)
    from recon_operators import joseph_kernels as kernels

    height, width = geometry.shape
    theta = np.asarray(geometry.angles, dtype=np.float64)
    cosine, sine = np.cos(theta), np.sin(theta)
    reach, peak = geometry._triangle
    elements_per_pixel = geometry.pixel_size / geometry.detector_size
    x = (np.arange(width) - (width - 1) / 2) * elements_per_pixel
    y = ((height - 1) / 2 - np.arange(height)) * elements_per_pixel
    middle = (geometry.detectors - 1) / 2 - geometry.detector_offset / geometry.detector_size
    projected = (cosine[:, None] * x + middle, sine[:, None] * y, reach / geometry.detector_size)

    rays = np.zeros((geometry.views, geometry.detectors), dtype=np.int32)
    _share(lambda a, b: kernels.count_rays(*projected, a, b, rays), geometry.views, threads)
    matrix, starts = _allocated(rays, height * width, dtype)
    _share(
        lambda a, b: kernels.fill_rays(*projected, peak, a, b, starts, matrix.columns, matrix.values),
        geometry.views,
        threads,
    )

    detectors = geometry.detectors
    pixels = np.zeros((height, width), dtype=np.int32)
    _share(lambda a, b: kernels.count_pixels(*projected, detectors, a, b, pixels), height, threads)
    transpose, firsts = _allocated(pixels, rays.size, dtype)
    _share(
        lambda a, b: kernels.fill_pixels(
            *projected, peak, detectors, a, b, firsts, transpose.columns, transpose.values
        ),
        height,
        threads,
    )
    return matrix, transpose


def _allocated(counts: _Array, columns: int, dtype: type[np.floating[Any]]) -> tuple[SparseRows, _Array]:
    """Unwritten rows with the given number of entries each, and a writable table of where each row starts."""
    ends = np.cumsum(counts.reshape(-1), dtype=np.int64)
    entries = int(ends[-1])
    _check_entries(entries)
    starts = np.zeros(ends.size + 1, dtype=np.int32)
    starts[1:] = ends
    rows = SparseRows(
        starts, np.empty(entries, dtype=np.int32), np.empty(entries, dtype=dtype), (counts.size, columns)
    )
    return rows, starts[:-1].reshape(counts.shape).copy()


def _share_before(position: float, across: _Array, along: _Array) -> _Array:
    """The share of a rectangle's area that projects below a position; its shadow's profile is a trapezium."""
    corners = [
        (sign, np.maximum(position + (across_sign * across + along_sign * along) / 2, 0))
        for across_sign, along_sign, sign in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
    ]
    return sum(sign * corner**2 for sign, corner in corners) / (2 * across * along)


def _check_entries(entries: int) -> None:
    if entries > _MOST_ENTRIES:
        raise ValueError(
            f"the projection matrix has {entries} entries, more than int32 indices can count "
            f"({_MOST_ENTRIES}): use backend='astra', or fewer pixels or views"
        )


def _share(work: Callable[[int, int], None], size: int, threads: int) -> None:
    """Run ``work(first, last)`` over the range of ``size`` in pieces, several at a time.

    The compiled loops release the interpreter lock, so plain threads suffice; numba's own pools cannot be
    entered from two threads at once, nor after a fork.
    """
    pieces = _pieces(size, 4 * threads if threads > 1 else 1)
    if len(pieces) == 1:
        work(*pieces[0])
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, first, last) for first, last in pieces]:
            done.result()


def _pieces(size: int, count: int) -> Sequence[tuple[int, int]]:
    edges = np.linspace(0, size, min(count, size) + 1).astype(int).tolist()
    return list(itertools.pairwise(edges))
