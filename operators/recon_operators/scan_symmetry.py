"""Mirrorings and turns of the image that leave a scan as it is and make most of its matrix redundant."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon_operators.scan_geometry import FanGeometry, ScanGeometry

_SAME_DIRECTION = 1e-9  # radian
_MOST_WASTE = 1.15  # computed rays per ray of the scan
_MOST_WASTE_FAN = 1.5  # measured scans have gaps; several right-hand sides at once still make up for this

_Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Turn:
    """One of the eight ways to lay a square on itself: transposition first, then flips."""

    transpose: bool
    flip_rows: bool
    flip_columns: bool

    @property
    def matrix(self) -> _Array:
        """Where a point (x, y), x to the right and y up, goes."""
        flips = np.diag([-1.0 if self.flip_columns else 1.0, -1.0 if self.flip_rows else 1.0])
        return flips @ np.array([[0.0, -1.0], [-1.0, 0.0]]) if self.transpose else flips

    @property
    def mirrors(self) -> bool:
        """Whether left and right are exchanged, which turning alone cannot do."""
        return (self.transpose + self.flip_rows + self.flip_columns) % 2 == 1

    @property
    def opposite(self) -> Turn:
        """The same followed by half a turn."""
        return Turn(self.transpose, not self.flip_rows, not self.flip_columns)

    def apply(self, images: Tensor) -> Tensor:
        """Turn images ``(..., rows, columns)``."""
        return self._flipped(images.mT if self.transpose else images)

    def undo(self, images: Tensor) -> Tensor:
        """Turn images back; also the transpose of `apply`."""
        flipped = self._flipped(images)
        return flipped.mT if self.transpose else flipped

    def _flipped(self, images: Tensor) -> Tensor:
        axes = [axis for axis, flip in ((-2, self.flip_rows), (-1, self.flip_columns)) if flip]
        return images.flip(axes) if axes else images


@dataclass(frozen=True, eq=False)
class ScanSymmetry:
    """A part of a scan from which the whole follows by turning the image.

    The line integral of x along any ray of the scan is that of a turned x along a ray of the part. In parallel
    beam half a turn makes one half of the detector suffice, and with the mirrorings and quarter turns of a
    square image and equally spaced views an eighth of the rays. In fan beam turns exchange whole views, and
    mirrorings also the ends of the detector.

    Attributes:
        part: the scan whose matrix is needed.
        turns: the turns of the image; one alone means that the part is the whole.
        turn_of: for each view of the scan the number of the turn that gives it (parallel beam: the first half
            of its detector).
        part_view_of: for each view of the scan the view of the part.
    """

    part: ScanGeometry
    turns: tuple[Turn, ...]
    turn_of: _Array
    part_view_of: _Array

    def rays(self, detectors: int) -> Tensor:
        """For each ray of the scan its place in ``(turns, views, detectors)`` of the part.

        Rays that a parallel scan sees from both sides share their place.
        """
        turn, element = self.turn_of[:, None], np.arange(detectors)
        last = detectors - 1 - element
        if isinstance(self.part, FanGeometry):
            mirrored = np.array([turn.mirrors for turn in self.turns])
            place = np.where(mirrored[turn], last, element)
        else:  # the second half of a view is the first half of the view from the other side
            opposite = np.array([self.turns.index(turn.opposite) for turn in self.turns])
            turn = np.where(element < self.part.detectors, turn, opposite[turn])
            place = np.minimum(element, last)
        rays = (turn * self.part.views + self.part_view_of[:, None]) * self.part.detectors + place
        return torch.from_numpy(rays.reshape(-1))


@functools.lru_cache(maxsize=64)
def find_symmetry(geometry: ScanGeometry) -> ScanSymmetry:
    """The largest symmetry of a scan that does not compute many more rays than the scan has."""
    fan = isinstance(geometry, FanGeometry)
    theta = np.asarray(geometry.angles)
    # what a turn of the image moves: the fan's source, or the direction of the detector line
    pointing = theta - np.pi / 2 if fan else theta
    half = (geometry.detectors + 1) // 2
    most = (_MOST_WASTE_FAN if fan else _MOST_WASTE) * geometry.views * geometry.detectors
    for turns in _fan_groups(geometry) if fan else _parallel_groups(geometry):
        chosen, turn_of, part_view_of = _cover(pointing, turns)
        if len(turns) * chosen.size * (geometry.detectors if fan else half) <= most:
            part: ScanGeometry = dataclasses.replace(geometry, angles=tuple(theta[chosen].tolist()))
            if not fan:
                offset = float(geometry.positions[:half].mean())
                part = dataclasses.replace(part, detectors=half, detector_offset=offset)
            return ScanSymmetry(part, turns, turn_of, part_view_of)
    views = np.arange(geometry.views)
    return ScanSymmetry(geometry, (_TURNS[0],), np.zeros_like(views), views)


_TURNS = tuple(Turn(*choice) for choice in itertools.product((False, True), repeat=3))
_MIRRORINGS = tuple(turn for turn in _TURNS if not turn.transpose)
_ROTATIONS = tuple(turn for turn in _TURNS if not turn.mirrors)
_HALF_TURN = tuple(turn for turn in _MIRRORINGS if not turn.mirrors)


def _parallel_groups(geometry: ScanGeometry) -> list[tuple[Turn, ...]]:
    """Groups of turns to try, the largest first."""
    if geometry.detector_offset != 0:
        return []
    return [_TURNS, _MIRRORINGS, _HALF_TURN] if _is_square(geometry) else [_MIRRORINGS, _HALF_TURN]


def _fan_groups(geometry: ScanGeometry) -> list[tuple[Turn, ...]]:
    """Groups of turns to try, the largest first; a shifted detector is not its own mirror image."""
    mirrored = geometry.detector_offset == 0
    square = _is_square(geometry)
    allowed = (
        (_TURNS, square and mirrored),
        (_ROTATIONS, square),
        (_MIRRORINGS, mirrored),
        (_HALF_TURN, True),
    )
    return [turns for turns, fits in allowed if fits]


def _is_square(geometry: ScanGeometry) -> bool:
    return geometry.shape[0] == geometry.shape[1]


def _cover(theta: _Array, turns: tuple[Turn, ...]) -> tuple[_Array, _Array, _Array]:
    """Views from which all follow, and for each view the turn and the chosen view that give it.

    A view is known by a direction u at angle theta that turns with the image: the view of the turned image
    at u shows the image at M^T u, M being the turn's matrix.
    """
    direction_of, directions = _distinct(theta)
    pointing = np.stack([np.cos(directions), np.sin(directions)])
    shown = [
        _nearest(np.arctan2(up, across), directions).tolist()
        for across, up in (turn.matrix.T @ pointing for turn in turns)
    ]
    first_view = np.unique(direction_of, return_index=True)[1]
    turn_of, part_view_of = [-1] * directions.size, [-1] * directions.size
    chosen: list[int] = []
    for direction in range(directions.size):
        if turn_of[direction] >= 0:
            continue
        for number, seen in enumerate(shown):
            other = seen[direction]
            if other >= 0 and turn_of[other] < 0:
                turn_of[other], part_view_of[other] = number, len(chosen)
        chosen.append(int(first_view[direction]))
    return np.array(chosen), np.array(turn_of)[direction_of], np.array(part_view_of)[direction_of]


def _distinct(theta: _Array) -> tuple[_Array, _Array]:
    """For each angle the number of its direction, and the sorted distinct directions in [0, 2 pi)."""
    angles = np.mod(theta, 2 * np.pi)
    order = np.argsort(angles, kind="stable")
    ascending = angles[order]
    numbers = np.cumsum(np.diff(ascending, prepend=-1.0) > _SAME_DIRECTION) - 1
    directions = ascending[np.unique(numbers, return_index=True)[1]]
    if directions.size > 1 and directions[0] + 2 * np.pi - directions[-1] < _SAME_DIRECTION:
        numbers[numbers == numbers[-1]] = 0
        directions = directions[:-1]
    direction_of = np.empty_like(numbers)
    direction_of[order] = numbers
    return direction_of, directions


def _nearest(angles: _Array, directions: _Array) -> _Array:
    """The number of the direction that each angle is, or -1."""
    wrapped = np.mod(angles, 2 * np.pi)
    above = np.searchsorted(directions, wrapped) % directions.size
    found = np.full(angles.shape, -1)
    for candidate in (above, above - 1):
        apart = np.abs(np.mod(wrapped - directions[candidate] + np.pi, 2 * np.pi) - np.pi)
        found = np.where(apart < _SAME_DIRECTION, candidate % directions.size, found)
    return found
