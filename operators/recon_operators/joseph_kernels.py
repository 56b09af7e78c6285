"""Compiled loops that count and write the rows of Joseph's projection matrix.

Importing this file imports numba. Lengths are in detector elements. A pixel centre projects to
u = across[view, column] + along[view, row] on the detector line, element t lies at t, and the pixel has the
weight peak[view] * max(0, 1 - |u - t| / reach[view]) in its ray. Fractions at or below `CUTOFF` are rounding,
not geometry, and are left out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

CUTOFF = 1e-7

_Array = np.ndarray[Any, Any]


def _compiled(function: Any) -> Any:
    """Compile with the result kept on disk, so that the next process starts at once."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba finds no folder that it may write to
        return njit(nogil=True)(function)


@_compiled
def count_rays(across: _Array, along: _Array, reach: _Array, first: int, last: int, counts: _Array) -> None:
    """Count the pixels that each ray of some views meets, into ``counts`` (views, detectors)."""
    detectors = counts.shape[1]
    for view in range(first, last):
        distance, inverse = reach[view], 1.0 / reach[view]
        for row in range(along.shape[1]):
            for column in range(across.shape[1]):
                u = across[view, column] + along[view, row]
                for t in range(max(math.ceil(u - distance), 0), min(math.floor(u + distance) + 1, detectors)):
                    if 1.0 - abs(u - t) * inverse > CUTOFF:
                        counts[view, t] += 1


@_compiled
def fill_rays(
    across: _Array,
    along: _Array,
    reach: _Array,
    peak: _Array,
    first: int,
    last: int,
    starts: _Array,
    columns: _Array,
    values: _Array,
) -> None:
    """Write the rows of the matrix that belong to some views; ``starts`` (views, detectors) is used up."""
    detectors = starts.shape[1]
    width = across.shape[1]
    for view in range(first, last):
        distance, inverse = reach[view], 1.0 / reach[view]
        for row in range(along.shape[1]):
            for column in range(width):
                u = across[view, column] + along[view, row]
                for t in range(max(math.ceil(u - distance), 0), min(math.floor(u + distance) + 1, detectors)):
                    fraction = 1.0 - abs(u - t) * inverse
                    if fraction > CUTOFF:
                        position = starts[view, t]
                        starts[view, t] = position + 1
                        columns[position] = row * width + column
                        values[position] = peak[view] * fraction


@_compiled
def count_pixels(
    across: _Array, along: _Array, reach: _Array, detectors: int, first: int, last: int, counts: _Array
) -> None:
    """Count the rays that meet each pixel of some image rows, into ``counts`` (height, width)."""
    for row in range(first, last):
        for view in range(across.shape[0]):
            distance, inverse = reach[view], 1.0 / reach[view]
            for column in range(across.shape[1]):
                u = across[view, column] + along[view, row]
                for t in range(max(math.ceil(u - distance), 0), min(math.floor(u + distance) + 1, detectors)):
                    if 1.0 - abs(u - t) * inverse > CUTOFF:
                        counts[row, column] += 1


@_compiled
def fill_pixels(
    across: _Array,
    along: _Array,
    reach: _Array,
    peak: _Array,
    detectors: int,
    first: int,
    last: int,
    starts: _Array,
    columns: _Array,
    values: _Array,
) -> None:
    """Write the rows of the transpose for some image rows; ``starts`` (height, width) is used up."""
    for row in range(first, last):
        for view in range(across.shape[0]):
            distance, inverse = reach[view], 1.0 / reach[view]
            for column in range(across.shape[1]):
                u = across[view, column] + along[view, row]
                for t in range(max(math.ceil(u - distance), 0), min(math.floor(u + distance) + 1, detectors)):
                    fraction = 1.0 - abs(u - t) * inverse
                    if fraction > CUTOFF:
                        position = starts[row, column]
                        starts[row, column] = position + 1
                        columns[position] = view * detectors + t
                        values[position] = peak[view] * fraction
