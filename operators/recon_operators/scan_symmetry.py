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

from recon_operators.joseph import ParallelGeometry

_SAME_DIRECTION = 1e-9  # radian
_MOST_WASTE = 1.15  # computed rays per ray of the scan

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

    The line integral of x along any ray of the scan is that of a turned x along a ray of the part. By half a
    turn one half of the detector suffices, and with the mirrorings and quarter turns of a square image and
    equally spaced views an eighth of the rays.

    Attributes:
        part: the scan whose matrix is needed.
        turns: the turns of the image; one alone means that the part is the whole.
        turn_of: for each view of the scan the number of the turn that gives the first half of its detector.
        part_view_of: for each view of the scan the view of the part.
    """

    part: ParallelGeometry
    turns: tuple[Turn, ...]
    turn_of: _Array
    part_view_of: _Array

    def rays(self, detectors: int) -> Tensor:
        """For each ray of the scan its place in ``(turns, views, detectors)`` of the part.

        The second half of a view is the first half of the view from the other side. Rays that a scan sees
        from both sides share their place.
        """
        opposite = np.array([self.turns.index(turn.opposite) for turn in self.turns])
        half, element = self.part.detectors, np.arange(detectors)
        turn = np.where(element < half, self.turn_of[:, None], opposite[self.turn_of][:, None])
        place = np.minimum(element, detectors - 1 - element)
        rays = (turn * self.part.views + self.part_view_of[:, None]) * half + place
        return torch.from_numpy(rays.reshape(-1))


@functools.lru_cache(maxsize=64)
def find_symmetry(geometry: ParallelGeometry) -> ScanSymmetry:
    """The largest symmetry of a scan that computes hardly more rays than the scan has."""
    theta = np.asarray(geometry.angles)
    half = (geometry.detectors + 1) // 2
    for turns in _groups(geometry):
        chosen, turn_of, part_view_of = _cover(theta, turns)
        if len(turns) * chosen.size * half <= _MOST_WASTE * geometry.views * geometry.detectors:
            part = dataclasses.replace(
                geometry,
                angles=tuple(theta[chosen].tolist()),
                detectors=half,
                detector_offset=float(geometry.positions[:half].mean()),
            )
            return ScanSymmetry(part, turns, turn_of, part_view_of)
    views = np.arange(geometry.views)
    return ScanSymmetry(geometry, (Turn(False, False, False),), np.zeros_like(views), views)


def _groups(geometry: ParallelGeometry) -> list[tuple[Turn, ...]]:
    """Groups of turns to try, the largest first."""
    if geometry.detector_offset != 0:
        return []
    turns = tuple(Turn(*choice) for choice in itertools.product((False, True), repeat=3))
    mirrorings = tuple(turn for turn in turns if not turn.transpose)
    half_turn = tuple(turn for turn in mirrorings if turn.flip_rows == turn.flip_columns)
    square = geometry.shape[0] == geometry.shape[1]
    return [turns, mirrorings, half_turn] if square else [mirrorings, half_turn]


def _cover(theta: _Array, turns: tuple[Turn, ...]) -> tuple[_Array, _Array, _Array]:
    """Views from which all follow, and for each view the turn and the chosen view that give it.

    The view of the turned image in direction u shows the image in direction M^T u, M being the turn's matrix.
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
