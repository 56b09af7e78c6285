"""What the views of a scan stand for: shares of the angles, gaps, and how often fan-beam rays are measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from recon_operators.scan_geometry import FanGeometry

_Array = np.ndarray[Any, Any]

_WEDGE = 4.0  # gaps this many times wider than every other one hold no views by design, not by chance
_MOST_GAPS = 0.1  # of the spaces between views
_BLEND = 4.0  # width of the blend at a shifted detector's end, in units of what one side is longer
_ROUNDING = 1e-9  # radian


@dataclass(frozen=True)
class Coverage:
    """The angles that views stand for: half the way to the neighbours, nothing in gaps.

    Attributes:
        before: for each view the angle below its own that it stands for [radian].
        after: the same above it.
        starts: where runs of views begin, in [0, period) and ascending; empty if there is no gap.
        lengths: how far each run reaches [radian].
        period: the angle after which views repeat [radian].
    """

    before: _Array
    after: _Array
    starts: _Array
    lengths: _Array
    period: float

    @staticmethod
    def of(angles: tuple[float, ...], period: float) -> Coverage:
        """The coverage of views that repeat after ``period``.

        Where a few gaps are all more than four times wider than every other space, no view stands for them;
        the views at their rims stand for as much outwards as inwards.
        """
        theta = np.mod(np.asarray(angles, dtype=np.float64), period)
        distinct, of_view, times = _distinct(theta, period)
        if distinct.size < theta.size:  # views that repeat share what one of them stands for
            once = Coverage.of(tuple(distinct), period)
            before, after = (part[of_view] / times[of_view] for part in (once.before, once.after))
            return Coverage(before, after, once.starts, once.lengths, period)
        if theta.size == 1:
            half = np.full(1, period / 2)
            return Coverage(half, half, np.empty(0), np.empty(0), period)
        order = np.argsort(theta, kind="stable")
        spaces = np.diff(theta[order], append=theta[order[0]] + period)
        gap = _gaps(spaces)
        usual = float(np.median(spaces[~gap]))
        above = np.where(gap, np.where(np.roll(gap, 1), usual, np.roll(spaces, 1)), spaces) / 2
        gap_below = np.roll(gap, 1)
        below = np.where(gap_below, np.where(gap, usual, spaces), np.roll(spaces, 1)) / 2
        before, after = np.empty_like(theta), np.empty_like(theta)
        before[order], after[order] = below, above
        first, last = np.flatnonzero(gap_below), np.flatnonzero(gap)
        if first.size and last[0] < first[0]:  # the run that began before 0
            last = np.roll(last, -1)
        begin, end = theta[order][first] - below[first], theta[order][last] + above[last]
        starts, lengths = np.mod(begin, period), np.mod(end - begin, period)
        ascending = np.argsort(starts)
        return Coverage(before, after, starts[ascending], lengths[ascending], period)

    @property
    def shares(self) -> _Array:
        """The angle that each view stands for [radian]."""
        return self.before + self.after

    @property
    def gaps(self) -> _Array:
        """Angles without views [radian], the widest first."""
        after = np.roll(self.starts, -1) - self.starts - self.lengths
        return np.sort(np.mod(after, self.period))[::-1]

    def depth(self, angles: _Array) -> _Array:
        """Distance of angles from the nearest gap [radian]; 0 inside one, the period where there is none."""
        if self.starts.size == 0:
            return np.full(np.shape(angles), self.period)
        angles = np.mod(angles, self.period)
        run = np.searchsorted(self.starts, angles, side="right") - 1
        into = np.mod(angles - self.starts[run], self.period)
        return np.maximum(np.minimum(into, self.lengths[run] - into), 0.0)


def view_weights(angles: tuple[float, ...], period: float = math.pi) -> _Array:
    """The part of the period [radian] that each view stands for: half the way to its two neighbours."""
    return Coverage.of(angles, period).shares


def redundancy_weights(geometry: FanGeometry) -> _Array:
    """Weights ``(views, detectors)`` that add up to 1 over the two rays that measure a line.

    The ray at view angle theta and fan angle gamma runs along the same line as that at theta + pi - 2 gamma
    and -gamma, from the other side. How far each of them is from the end of what was measured,

        c = distance of theta to the nearest gap (at most four times the largest fan angle)
            * distance of gamma to the end of the detector's shorter side (at most four times what the other
              side is longer),

    0 for a ray that was not measured, gives

        weight = sin^2(pi/2 * c / (c + c')),

    which changes slowly along the detector, as the ramp filter asks for. These are Parker's weights (Med.
    Phys. 9, 1982) for views over 180 degrees plus the fan, Wang's (Med. Phys. 29, 2002) for a detector of
    which one side is twice the other or more and a full turn, and 1/2 for a full turn; gaps of a scan are
    bridged by the rays from the other side.
    """
    return ray_weights(geometry, np.asarray(geometry.angles)[:, None], geometry.fan_angles)


def ray_weights(geometry: FanGeometry, theta: _Array, gamma: _Array) -> _Array:
    """The weights of `redundancy_weights` for any rays on lines that the scan measures."""
    own, other = _depth(geometry, theta, gamma), _depth(geometry, theta + math.pi - 2 * gamma, -gamma)
    total = own + other
    share = np.divide(own, total, out=np.ones_like(total), where=total > 0)  # equal views at a rim: no depth
    return np.sin(math.pi / 2 * share) ** 2


def measured_lines(geometry: FanGeometry, radius: float, samples: int = 256) -> float:
    """The share of the lines through a circle around the axis that the scan measures, from either side.

    Args:
        geometry: the scan.
        radius: of the circle [mm], less than source_origin.
        samples: directions, and distances from the axis, that are tried.
    """
    distance = radius * (2 * (np.arange(samples) + 0.5) / samples - 1)
    gamma = np.arcsin(distance / geometry.source_origin)
    theta = math.pi * (np.arange(samples)[:, None] + 0.5) / samples + gamma
    one, other = _depth(geometry, theta, gamma), _depth(geometry, theta + math.pi - 2 * gamma, -gamma)
    return float(np.mean((one > 0) | (other > 0)))


def _depth(geometry: FanGeometry, theta: _Array, gamma: _Array) -> _Array:
    """How far inside the measured rays a ray is; 0 if it was not measured."""
    first, last = geometry.fan_limits
    along_turn = Coverage.of(geometry.angles, 2 * math.pi).depth(theta)
    shorter, longer = sorted((-first, last))
    from_end = np.maximum((gamma - first if last > -first else last - gamma), 0.0)
    most = min(2 * shorter, _BLEND * (longer - shorter))
    along_detector = np.minimum(from_end / most, 1.0) if most > _ROUNDING else np.ones_like(gamma)
    measured = (gamma >= first) & (gamma <= last)
    return np.where(measured, np.minimum(along_turn, 4 * longer) * along_detector, 0.0)


def _distinct(theta: _Array, period: float) -> tuple[_Array, _Array, _Array]:
    """Angles without repetitions, which of them each view has, and how often each occurs."""
    order = np.argsort(theta, kind="stable")
    ascending = theta[order]
    group = np.concatenate([[0], np.cumsum(np.diff(ascending) > _ROUNDING)])
    if group[-1] > 0 and ascending[0] + period - ascending[-1] <= _ROUNDING:  # the same angle, a period apart
        group[group == group[-1]] = 0
    of_view = np.empty(theta.size, dtype=np.int64)
    of_view[order] = group
    first = np.unique(group, return_index=True)[1]
    return ascending[first], of_view, np.bincount(of_view)


def _gaps(spaces: _Array) -> _Array:
    """Which of the spaces between neighbouring views are gaps."""
    if spaces.size > 2:
        widest = np.sort(spaces)[::-1]
        for count in range(max(1, int(_MOST_GAPS * spaces.size)), 0, -1):
            if widest[count - 1] > _WEDGE * widest[count]:
                return spaces > _WEDGE * widest[count]
    return np.zeros(spaces.size, dtype=bool)
