"""Cone-beam scans of any path: where source and flat detector stand in each view, and which paths are circles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from recon_operators.scan_geometry import FanGeometry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Array = np.ndarray[Any, Any]

_SAME = 1e-6  # of the distance between source and detector; vectors written to six digits still make a circle


@dataclass(frozen=True)
class ConeGeometry:
    """A point source and a flat detector in every view; two equal geometries have the same rays.

    x runs to the right, y up and z along the slices of the volume, whose middle is the origin: row 0 of a slice
    is its top, as in fan beam, and slice 0 is the lowest.

    Attributes:
        shape: volume (slices, rows, columns).
        pixel_size: side of a cubic voxel [mm].
        detectors: detector elements (rows, columns).
        vectors: for each view the 12 numbers of ASTRA's ``cone_vec``, in mm: the source, the middle of the
            detector, the step from one detector column to the next, and that from one row to the next.
    """

    shape: tuple[int, int, int]
    pixel_size: float
    detectors: tuple[int, int]
    vectors: tuple[tuple[float, ...], ...]

    @property
    def views(self) -> int:
        """Number of views."""
        return len(self.vectors)

    @cached_property
    def frames(self) -> _Array:
        """The vectors as an array ``(views, 4, 3)``: source, detector middle, column step, row step; x, y, z."""
        return np.asarray(self.vectors, dtype=np.float64).reshape(-1, 4, 3)

    @property
    def voxel_frames(self) -> _Array:
        """`frames` in voxels, in the order and direction of the volume's indices (slice, row, column)."""
        frames = self.frames[:, :, ::-1] * np.array([1.0, -1.0, 1.0]) / self.pixel_size
        frames[:, :2] += (np.asarray(self.shape) - 1) / 2
        return frames

    @property
    def half_sides(self) -> _Array:
        """Half the volume's extent along x, y and z [mm]."""
        return np.asarray(self.shape[::-1]) * self.pixel_size / 2

    @cached_property
    def orbit(self) -> CircularOrbit | None:
        """The circle on which the source runs, with the detector opposite; None for any other path."""
        return CircularOrbit.of(self)

    def shadow(self, points: _Array) -> tuple[_Array, _Array]:
        """Where points are seen: detector row and column, as fractional indices ``(views, points)``.

        Args:
            points: x, y, z [mm], ``(points, 3)``. A point behind the source has NaN for both.
        """
        source, middle, across, down = self.frames.transpose(1, 0, 2)[:, :, None]
        normal = np.cross(across, down)
        towards = points - source
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.sum(normal * (middle - source), axis=2) / np.sum(normal * towards, axis=2)
            scale = np.where(scale > 0, scale, np.nan)
        place = source + scale[..., None] * towards - middle
        basis = np.stack([down[:, 0], across[:, 0]], axis=1)
        # least squares on the two steps, which need not be at right angles
        gram = np.linalg.inv(basis @ basis.transpose(0, 2, 1))
        row, column = np.moveaxis(place @ basis.transpose(0, 2, 1) @ gram, 2, 0)
        rows, columns = self.detectors
        return row + (rows - 1) / 2, column + (columns - 1) / 2

    def seen(self, points: _Array) -> _Array:
        """Whether points lie in the cone of each view, ``(views, points)``; see `shadow`."""
        row, column = self.shadow(points)
        rows, columns = self.detectors
        slack = 1e-6  # of an element: rounding
        with np.errstate(invalid="ignore"):
            inside = (np.abs(row - (rows - 1) / 2) <= rows / 2 + slack) & (
                np.abs(column - (columns - 1) / 2) <= columns / 2 + slack
            )
        return np.asarray(inside)

    def plot(self, figure: Figure | None = None) -> Figure:
        """Draw the scan from above and from the side: source path, detector and rays of one view, volume."""
        from recon_operators.scan_plot import plot_cone

        return plot_cone(self, figure)


@dataclass(frozen=True, eq=False)
class CircularOrbit:
    """A source on a circle around an axis along z, and a detector along z whose normal meets the axis.

    In the view at angle theta the source lies at axis + source_origin * (sin theta, -cos theta), as in fan beam.

    Attributes:
        angles: theta of each view [radian].
        axis: x and y of the rotation axis [mm].
        height: z of the source [mm].
        source_origin: distance of the source from the axis [mm].
        source_detector: distance of the source from the detector [mm].
        spacing: distance of neighbouring detector (rows, columns) [mm].
        offset: position of the detector's middle along its rows' and columns' steps, relative to the foot of the
            perpendicular from the source [mm].
        mirrored: the columns run along -(cos theta, sin theta).
        upwards: the rows run along z, not against it.
    """

    angles: _Array
    axis: _Array
    height: float
    source_origin: float
    source_detector: float
    spacing: tuple[float, float]
    offset: tuple[float, float]
    mirrored: bool
    upwards: bool

    @staticmethod
    def of(geometry: ConeGeometry) -> CircularOrbit | None:
        """The orbit of a geometry, or None where source or detector leave the circle."""
        source, middle, across, down = geometry.frames.transpose(1, 0, 2)
        lengths = np.linalg.norm(down, axis=1), np.linalg.norm(across, axis=1)
        normal = np.cross(across, down)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        normal *= np.sign(_dots(normal, middle - source))[:, None]
        away = _dots(normal, middle - source)
        along = np.stack([normal[:, 1], -normal[:, 0]], axis=1)  # (cos, sin) of the view's angle
        # the axis: where the perpendiculars from the source to the detector meet
        axis = np.linalg.lstsq(along, _dots(along, source[:, :2]), rcond=1e-9)[0]
        to_axis = axis - source[:, :2]
        directions = down / lengths[0][:, None], across / lengths[1][:, None]
        offsets = [_dots(direction, middle - source) for direction in directions]
        sense = _dots(directions[1][:, :2], along)
        tolerance = _SAME * float(away.max())
        constant = [source[:, 2], away, *offsets, *(length * max(geometry.detectors) for length in lengths)]
        fine = (
            all(float(np.ptp(values)) <= tolerance for values in constant)
            and bool(np.all(np.abs(directions[0][:, :2]) <= _SAME))
            and bool(np.all(np.abs(directions[1][:, 2]) <= _SAME))
            and float(np.ptp(directions[0][:, 2])) <= _SAME
            and bool(np.all(np.abs(np.abs(sense) - 1) <= _SAME))
            and float(np.ptp(sense)) <= _SAME
            and float(np.ptp(_dots(normal[:, :2], to_axis))) <= tolerance
            and bool(np.all(np.abs(_dots(along, to_axis)) <= tolerance))
            and float(np.mean(_dots(normal[:, :2], to_axis))) > tolerance
        )
        if not fine:
            return None
        return CircularOrbit(
            angles=np.arctan2(-normal[:, 0], normal[:, 1]),
            axis=axis,
            height=float(source[:, 2].mean()),
            source_origin=float(_dots(normal[:, :2], to_axis).mean()),
            source_detector=float(away.mean()),
            spacing=(float(lengths[0].mean()), float(lengths[1].mean())),
            offset=(float(offsets[0].mean()), float(offsets[1].mean())),
            mirrored=bool(sense[0] < 0),
            upwards=bool(directions[0][0, 2] > 0),
        )

    def fan(self, geometry: ConeGeometry) -> FanGeometry:
        """The fan-beam scan in the plane of the circle; a mirrored detector is turned around."""
        return FanGeometry(
            geometry.shape[1:],
            geometry.pixel_size,
            tuple(self.angles.tolist()),
            geometry.detectors[1],
            self.spacing[1],
            -self.offset[1] if self.mirrored else self.offset[1],
            source_origin=self.source_origin,
            origin_detector=self.source_detector - self.source_origin,
        )


def _dots(one: _Array, other: _Array) -> _Array:
    """Scalar products of the rows of two arrays."""
    return np.asarray(np.sum(one * other, axis=-1))


def rim(radius: float, half_height: float, count: int = 24) -> _Array:
    """Points on the upper and lower edge of a cylinder around the z axis, x, y, z, ``(2 * count, 3)``."""
    turn = np.arange(count) * 2 * math.pi / count
    circle = radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    heights = np.repeat([[half_height], [-half_height]], count, axis=0)
    return np.hstack([np.vstack([circle, circle]), heights])
