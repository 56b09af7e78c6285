"""Compiled loops of cone-beam CT: Joseph's method along rays and its transpose, and voxel-driven addition of views.

Importing this file imports numba. Volumes and views have a margin of one zero around them, so that the loops
check no bounds. Positions are in voxels, in the order (slice, row, column), and computed in double precision by
the same expressions in a loop and in its transpose, so that both have the same weights to the bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from recon_operators.joseph_kernels import compiled

_Array = np.ndarray[Any, Any]


@compiled
def _inside(start: float, slope: float, step: int, least: int, most: int) -> bool:
    # with the 1 of the margin, as in the loops: the sum may round up into the next voxel
    return least < math.floor(start + slope * step + 1.0) <= most


@compiled
def narrowed(first: int, last: int, start: float, slope: float, least: int, most: int) -> tuple[int, int]:
    """The part of the steps ``range(first, last)`` at which floor(start + slope * step) is in [least, most)."""
    if first >= last:
        return first, first
    if abs(slope) * (last - first) > 1e-9:
        one, other = (least - start) / slope, (most - start) / slope
        begin = max(first, math.ceil(min(max(min(one, other), first - 1.0), last + 1.0)))
        end = min(last, math.floor(max(min(max(one, other), last + 1.0), first - 1.0)) + 1)
    else:
        begin, end = first, last
    # rounding is put right step by step, so that every piece of a volume decides alike
    while begin > first and _inside(start, slope, begin - 1, least, most):
        begin -= 1
    while begin < end and not _inside(start, slope, begin, least, most):
        begin += 1
    while begin < end < last and _inside(start, slope, end, least, most):
        end += 1
    while begin < end and not _inside(start, slope, end - 1, least, most):
        end -= 1
    return begin, max(begin, end)


@compiled
def _direction(f: _Array, up: float, along: float) -> tuple[float, float, float]:
    """From the source to the place on the detector that is so many rows and columns from its middle."""
    return (
        f[1, 0] + up * f[3, 0] + along * f[2, 0] - f[0, 0],
        f[1, 1] + up * f[3, 1] + along * f[2, 1] - f[0, 1],
        f[1, 2] + up * f[3, 2] + along * f[2, 2] - f[0, 2],
    )


@compiled
def _slices_met(
    s: tuple[float, float, float],
    one: tuple[float, float, float],
    other: tuple[float, float, float],
    shape: tuple[int, int, int],
) -> tuple[float, float]:
    """Bounds of the slices in which the rays between two directions of a detector row meet the volume.

    The volume lies in a ball, whose distance from the source bounds the length of the rays.
    """
    radius = 0.5 * math.sqrt(shape[0] ** 2 + shape[1] ** 2 + shape[2] ** 2) + 2.0
    away, length_one, length_other, overlap, apart = 0.0, 0.0, 0.0, 0.0, 0.0
    for axis in range(3):
        away += (s[axis] - 0.5 * (shape[axis] - 1)) ** 2
        length_one += one[axis] ** 2
        length_other += other[axis] ** 2
        overlap += one[axis] * (one[axis] - other[axis])
        apart += (one[axis] - other[axis]) ** 2
    share = min(max(overlap / apart, 0.0), 1.0) if apart > 0 else 0.0
    shortest = 0.0
    for axis in range(3):
        shortest += (one[axis] + share * (other[axis] - one[axis])) ** 2
    shortest, longest = math.sqrt(shortest), math.sqrt(max(length_one, length_other))
    near, far = max(math.sqrt(away) - radius, 0.0), math.sqrt(away) + radius
    lowest, highest = min(one[0], other[0]), max(one[0], other[0])
    fall = lowest / shortest if lowest < 0 else lowest / longest
    rise = highest / shortest if highest > 0 else highest / longest
    return s[0] + min(fall * near, fall * far), s[0] + max(rise * near, rise * far)


@compiled
def _steps(
    s: tuple[float, float, float],
    d: tuple[float, float, float],
    low: tuple[int, int, int],
    high: tuple[int, int, int],
) -> tuple[int, int, int, float, float, float, float]:
    """Steps of Joseph's method for a ray: axis, first and last step, and the positions on the other two axes.

    Args:
        s: the source.
        d: the direction to the element.
        low: the first voxel of the piece of the volume on each axis.
        high: the voxel behind the last one.
    """
    if abs(d[0]) > abs(d[1]) and abs(d[0]) > abs(d[2]):
        axis, a, b = 0, 1, 2
    elif abs(d[1]) >= abs(d[2]):
        axis, a, b = 1, 0, 2
    else:
        axis, a, b = 2, 0, 1
    slope_a, slope_b = d[a] / d[axis], d[b] / d[axis]
    start_a, start_b = s[a] - s[axis] * slope_a, s[b] - s[axis] * slope_b
    first, last = narrowed(low[axis], high[axis], start_a, slope_a, low[a] - 1, high[a])
    first, last = narrowed(first, last, start_b, slope_b, low[b] - 1, high[b])
    if first < last and ((first + last - 1) * 0.5 - s[axis]) * d[axis] < 0:
        last = first  # behind the source
    return axis, first, last, start_a, slope_a, start_b, slope_b


@compiled
def _strides(axis: int, height: int, width: int) -> tuple[int, int, int]:
    """Distances in memory of neighbours along the axis of the steps and the other two, with the margin."""
    plane, row = (height + 2) * (width + 2), width + 2
    if axis == 0:
        return plane, row, 1
    if axis == 1:
        return row, plane, 1
    return 1, plane, row


@compiled
def project(
    volume: _Array,
    shape: tuple[int, int, int],
    frames: _Array,
    voxel: float,
    first: int,
    last: int,
    data: _Array,
) -> None:
    """Integrate along the rays of some lines of the data; line number = row * views + view.

    Args:
        volume: with its margin, flat.
        shape: of the volume without margin.
        frames: `ConeGeometry.voxel_frames`.
        voxel: side of a voxel [mm].
        first: first line.
        last: the line behind the last one.
        data: ``(rows, views, columns)``, written.
    """
    rows, views, columns = data.shape
    for line in range(first, last):
        row, view = line // views, line % views
        f = frames[view]
        s = (f[0, 0], f[0, 1], f[0, 2])
        up = row - (rows - 1) * 0.5
        for column in range(columns):
            along = column - (columns - 1) * 0.5
            d = _direction(f, up, along)
            axis, begin, end, start_a, slope_a, start_b, slope_b = _steps(s, d, (0, 0, 0), shape)
            along_axis, along_a, along_b = _strides(axis, shape[1], shape[2])
            next_a, next_b = np.uint64(along_a), np.uint64(along_b)
            total = 0.0
            for step in range(begin, end):
                a, b = start_a + slope_a * step + 1.0, start_b + slope_b * step + 1.0
                whole_a, whole_b = int(a), int(b)
                a, b = a - whole_a, b - whole_b
                place = np.uint64((step + 1) * along_axis + whole_a * along_a + whole_b * along_b)
                total += (
                    volume[place] * ((1.0 - a) * (1.0 - b))
                    + volume[place + next_b] * ((1.0 - a) * b)
                    + volume[place + next_a] * (a * (1.0 - b))
                    + volume[place + next_a + next_b] * (a * b)
                )
            data[row, view, column] = total * (
                voxel * math.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]) / abs(d[axis])
            )


@compiled
def spread(
    data: _Array,
    shape: tuple[int, int, int],
    frames: _Array,
    voxel: float,
    first: int,
    last: int,
    piece: _Array,
) -> None:
    """Add what the transpose of `project` gives to some slices of the volume.

    Args:
        data: ``(rows, views, columns)``.
        shape: of the whole volume without margin.
        frames: `ConeGeometry.voxel_frames`.
        voxel: side of a voxel [mm].
        first: first slice.
        last: the slice behind the last one.
        piece: these slices with a margin, flat; the margin takes what belongs to the neighbours.
    """
    rows, views, columns = data.shape
    low, high = (first, 0, 0), (last, shape[1], shape[2])
    plane = (shape[1] + 2) * (shape[2] + 2)
    for line in range(rows * views):
        row, view = line // views, line % views
        f = frames[view]
        s = (f[0, 0], f[0, 1], f[0, 2])
        up = row - (rows - 1) * 0.5
        half = (columns - 1) * 0.5
        lowest, highest = _slices_met(s, _direction(f, up, -half), _direction(f, up, half), shape)
        if highest < first - 2.0 or lowest > last + 1.0:
            continue
        for column in range(columns):
            along = column - (columns - 1) * 0.5
            d = _direction(f, up, along)
            axis, begin, end, start_a, slope_a, start_b, slope_b = _steps(s, d, low, high)
            along_axis, along_a, along_b = _strides(axis, shape[1], shape[2])
            next_a, next_b = np.uint64(along_a), np.uint64(along_b)
            value = data[row, view, column] * (
                voxel * math.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]) / abs(d[axis])
            )
            for step in range(begin, end):
                a, b = start_a + slope_a * step + 1.0, start_b + slope_b * step + 1.0
                whole_a, whole_b = int(a), int(b)
                a, b = a - whole_a, b - whole_b
                place = np.uint64(
                    (step + 1) * along_axis + whole_a * along_a + whole_b * along_b - first * plane
                )
                piece[place] += value * ((1.0 - a) * (1.0 - b))
                piece[place + next_b] += value * ((1.0 - a) * b)
                piece[place + next_a] += value * (a * (1.0 - b))
                piece[place + next_a + next_b] += value * (a * b)


@compiled
def add_views(
    views: _Array,
    pixels: _Array,
    rises: _Array,
    foot: float,
    first: int,
    last: int,
    volume: _Array,
) -> None:
    """Add up the views at the voxels of some rows of all slices, each interpolated linearly and weighted.

    Args:
        views: with their margin, ``(views, columns + 2, rows + 2)``.
        pixels: for each view and pixel of a slice its column in the view and its nearness (source_origin / depth),
            as coefficients of (1, row, column): ``(views, 2, 3)``, the first times the depth; depth in
            source_origin.
        rises: detector rows per slice at nearness 1, and the row of slice 0 there relative to ``foot``, ``(2,)``.
        foot: detector row in which the source's plane is seen.
        first: first row.
        last: the row behind the last one.
        volume: ``(height, width, slices)``, written.
    """
    width, slices = volume.shape[1:]
    columns, rows = views.shape[1] - 2, views.shape[2] - 2
    for y in range(first, last):
        for x in range(width):
            volume[y, x] = 0
        for view in range(views.shape[0]):
            p = pixels[view]
            for x in range(width):
                depth = p[1, 0] + p[1, 1] * y + p[1, 2] * x
                if depth <= 0.0:
                    continue  # behind the source
                nearness = 1.0 / depth
                u = (p[0, 0] + p[0, 1] * y + p[0, 2] * x) * nearness + 1.0
                if not 0.0 <= u < columns + 1:
                    continue
                below = int(u)
                share = u - below
                one, other = views[view, below], views[view, below + 1]
                weight = nearness * nearness
                left, right = weight * (1.0 - share), weight * share
                start, slope = foot + rises[1] * nearness, rises[0] * nearness
                begin, end = narrowed(0, slices, start, slope, -1, rows)
                for z in range(begin, end):
                    v = start + slope * z + 1.0
                    row = int(v)
                    part = v - row
                    volume[y, x, z] += (1.0 - part) * (left * one[row] + right * other[row]) + part * (
                        left * one[row + 1] + right * other[row + 1]
                    )


@compiled
def spread_to_views(
    volume: _Array,
    pixels: _Array,
    rises: _Array,
    foot: float,
    first: int,
    last: int,
    views: _Array,
) -> None:
    """The transpose of `add_views`, for some views: adds to ``views``."""
    height, width, slices = volume.shape
    columns, rows = views.shape[1] - 2, views.shape[2] - 2
    for view in range(first, last):
        p = pixels[view]
        for y in range(height):
            for x in range(width):
                depth = p[1, 0] + p[1, 1] * y + p[1, 2] * x
                if depth <= 0.0:
                    continue  # behind the source
                nearness = 1.0 / depth
                u = (p[0, 0] + p[0, 1] * y + p[0, 2] * x) * nearness + 1.0
                if not 0.0 <= u < columns + 1:
                    continue
                below = int(u)
                share = u - below
                one, other = views[view, below], views[view, below + 1]
                weight = nearness * nearness
                left, right = weight * (1.0 - share), weight * share
                start, slope = foot + rises[1] * nearness, rises[0] * nearness
                begin, end = narrowed(0, slices, start, slope, -1, rows)
                for z in range(begin, end):
                    v = start + slope * z + 1.0
                    row = int(v)
                    part = v - row
                    value = volume[y, x, z]
                    one[row] += left * (1.0 - part) * value
                    one[row + 1] += left * part * value
                    other[row] += right * (1.0 - part) * value
                    other[row + 1] += right * part * value
