"""Compiled loops that count and write the rows of projection matrices, and transpose them.

Importing this file imports numba. A pixel has the weight peak * max(0, 1 - |across * column + down * row +
offset|) in a ray. Fractions at or below `CUTOFF` are rounding, not geometry, and are left out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

CUTOFF = 1e-7
_LEVEL = 1e-9  # slopes below this are along the image's rows

_Array = np.ndarray[Any, Any]


def compiled(function: Any) -> Any:
    """Compile with the result kept on disk, so that the next process starts at once."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba finds no folder that it may write to
        return njit(nogil=True)(function)


@compiled
def _met_columns(across: float, at_first: float, width: int) -> tuple[int, int]:
    """The range of columns in which |across * column + at_first| may be below 1."""
    if abs(at_first) - abs(across) * (width - 1) >= 1.0:
        return 0, 0
    if abs(across) < _LEVEL:
        return 0, width
    middle, reach = -at_first / across, 1.0 / abs(across)
    return max(math.ceil(middle - reach), 0), min(math.floor(middle + reach) + 1, width)


@compiled
def count_rays(
    across: _Array,
    down: _Array,
    offset: _Array,
    height: int,
    width: int,
    first: int,
    last: int,
    counts: _Array,
) -> None:
    """Count the pixels that some rays meet, into ``counts`` (rays,)."""
    for ray in range(first, last):
        slope = across[ray]
        for row in range(height):
            at_first = down[ray] * row + offset[ray]
            start, stop = _met_columns(slope, at_first, width)
            for column in range(start, stop):
                if 1.0 - abs(slope * column + at_first) > CUTOFF:
                    counts[ray] += 1


@compiled
def fill_rays(
    across: _Array,
    down: _Array,
    offset: _Array,
    peak: _Array,
    height: int,
    width: int,
    first: int,
    last: int,
    starts: _Array,
    columns: _Array,
    values: _Array,
) -> None:
    """Write the rows of the matrix that belong to some rays."""
    for ray in range(first, last):
        slope, position = across[ray], starts[ray]
        for row in range(height):
            at_first = down[ray] * row + offset[ray]
            start, stop = _met_columns(slope, at_first, width)
            for column in range(start, stop):
                fraction = 1.0 - abs(slope * column + at_first)
                if fraction > CUTOFF:
                    columns[position] = row * width + column
                    values[position] = peak[ray] * fraction
                    position += 1


@compiled
def count_fan_pixels(
    cosine: _Array,
    sine: _Array,
    x: _Array,
    y: _Array,
    source: float,
    focus: float,
    middle: float,
    detectors: int,
    first: int,
    last: int,
    counts: _Array,
) -> None:
    """Count the elements between which each pixel of some image rows is seen, into ``counts`` (pixels,)."""
    width = x.size
    for pixel in range(first * width, last * width):
        across, up = x[pixel % width], y[pixel // width]
        for view in range(cosine.size):
            depth = source - across * sine[view] + up * cosine[view]
            u = focus * (across * cosine[view] + up * sine[view]) / depth + middle
            below = math.floor(u)
            if 0 <= below < detectors and 1.0 - (u - below) > CUTOFF:
                counts[pixel] += 1
            if 0 <= below + 1 < detectors and u - below > CUTOFF:
                counts[pixel] += 1


@compiled
def fill_fan_pixels(
    cosine: _Array,
    sine: _Array,
    x: _Array,
    y: _Array,
    source: float,
    focus: float,
    middle: float,
    detectors: int,
    first: int,
    last: int,
    starts: _Array,
    columns: _Array,
    values: _Array,
) -> None:
    """Write the rows of the transpose for some image rows: shares of two elements times (source / depth)^2.

    x, y, source and depth are in any one length, focus and middle in detector elements.
    """
    width = x.size
    for pixel in range(first * width, last * width):
        across, up = x[pixel % width], y[pixel // width]
        position = starts[pixel]
        for view in range(cosine.size):
            depth = source - across * sine[view] + up * cosine[view]
            u = focus * (across * cosine[view] + up * sine[view]) / depth + middle
            below = math.floor(u)
            nearness = (source / depth) ** 2
            if 0 <= below < detectors and 1.0 - (u - below) > CUTOFF:
                columns[position] = view * detectors + below
                values[position] = nearness * (1.0 - (u - below))
                position += 1
            if 0 <= below + 1 < detectors and u - below > CUTOFF:
                columns[position] = view * detectors + below + 1
                values[position] = nearness * (u - below)
                position += 1


@compiled
def _first_from(columns: _Array, start: int, stop: int, least: int) -> int:
    """The first place in ``columns[start:stop]``, ascending, whose number is ``least`` or more."""
    while start < stop:
        middle = (start + stop) // 2
        if columns[middle] < least:
            start = middle + 1
        else:
            stop = middle
    return start


@compiled
def count_columns(starts: _Array, columns: _Array, first: int, last: int, counts: _Array) -> None:
    """Count the entries of some columns of a matrix by rows, into ``counts`` (columns,)."""
    for row in range(starts.size - 1):
        stop = starts[row + 1]
        entry = _first_from(columns, starts[row], stop, first)
        while entry < stop and columns[entry] < last:
            counts[columns[entry]] += 1
            entry += 1


@compiled
def fill_columns(
    starts: _Array,
    columns: _Array,
    values: _Array,
    first: int,
    last: int,
    places: _Array,
    rows: _Array,
    transposed: _Array,
) -> None:
    """Write some columns of a matrix by rows as rows of its transpose; ``places`` (columns,) is used up."""
    for row in range(starts.size - 1):
        stop = starts[row + 1]
        entry = _first_from(columns, starts[row], stop, first)
        while entry < stop and columns[entry] < last:
            column = columns[entry]
            place = places[column]
            places[column] = place + 1
            rows[place] = row
            transposed[place] = values[entry]
            entry += 1
