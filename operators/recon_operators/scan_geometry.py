"""The geometries of 2-D scans, parallel and fan beam: where the rays, the pixels and their footprints lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Array = np.ndarray[Any, Any]


class Footprints(NamedTuple):
    """Weights of pixels in rays: ``peak * max(0, 1 - |across * column + down * row + offset|)``, per ray.

    All arrays are ``(views, detectors)``; ``peak`` is in mm for line integrals.
    """

    across: _Array
    down: _Array
    offset: _Array
    peak: _Array


@dataclass(frozen=True)
class ScanGeometry:
    """What every scan of one slice has; two equal geometries have the same matrix.

    x runs to the right, y up, the origin is the rotation axis in the middle of the image. The detector line
    of a view at angle theta runs along (cos theta, sin theta), as in ASTRA.

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
    def positions(self) -> _Array:
        """Middles of the detector elements along the detector line [mm]."""
        middle = (self.detectors - 1) / 2
        return (np.arange(self.detectors) - middle) * self.detector_size + self.detector_offset

    @property
    def detector_size_at_axis(self) -> float:
        """Spacing of the rays where they pass the rotation axis [mm]."""
        return self.detector_size

    @property
    def rays(self) -> tuple[_Array, _Array]:
        """The line x cos(phi) + y sin(phi) = s of each ray: phi [radian] and s [mm], ``(views, detectors)``."""
        raise NotImplementedError

    @property
    def entries(self) -> int:
        """Entries of the matrix, to a few per cent."""
        raise NotImplementedError

    def footprints(self) -> Footprints:
        """The footprints of the pixels in each ray by Joseph's method; see `projection_matrix`."""
        angle, distance = self.rays
        cosine, sine = np.cos(angle), np.sin(angle)
        steepest = np.maximum(np.abs(cosine), np.abs(sine))
        return self._footprints(
            cosine, sine, distance, steepest * self.pixel_size, self.pixel_size / steepest
        )

    def _footprints(
        self, cosine: _Array, sine: _Array, distance: _Array, reach: _Array, peak: _Array
    ) -> Footprints:
        """Triangles of half base ``reach`` [mm] and height ``peak`` around rays of that normal and distance."""
        height, width = self.shape
        across, down = cosine * self.pixel_size / reach, -sine * self.pixel_size / reach
        offset = -across * (width - 1) / 2 - down * (height - 1) / 2 - distance / reach
        arrays = np.broadcast_arrays(across, down, offset, peak)
        return Footprints(*(np.ascontiguousarray(array, dtype=np.float64) for array in arrays))


@dataclass(frozen=True)
class ParallelGeometry(ScanGeometry):
    """A parallel-beam scan: the rays of a view run across its detector line. ASTRA's ``parallel``."""

    @property
    def rays(self) -> tuple[_Array, _Array]:
        """phi is the view's angle and s the element's position."""
        angle, distance = np.broadcast_arrays(np.asarray(self.angles)[:, None], self.positions)
        return angle, distance

    @property
    def shadow(self) -> float:
        """Half the width of the widest projection of the image [mm]; every projection is centred on the axis."""
        cosine, sine = np.abs(np.cos(self.angles)), np.abs(np.sin(self.angles))
        return float((cosine * self.shape[1] + sine * self.shape[0]).max()) * self.pixel_size / 2

    @property
    def elements_missing(self) -> tuple[int, int]:
        """How many elements the detector lacks before its first and after its last one to see the whole image."""
        half = self.detectors * self.detector_size / 2
        reaches = half - self.detector_offset, half + self.detector_offset
        before, after = (math.ceil((self.shadow - reach) / self.detector_size - 1e-6) for reach in reaches)
        return max(0, before), max(0, after)

    @property
    def covers_image(self) -> bool:
        """Whether every view sees the whole image."""
        return self.elements_missing == (0, 0)

    @property
    def entries(self) -> int:
        """Entries of the matrix, to a few per cent: how many elements lie in the footprints of the pixels."""
        cosine, sine = np.abs(np.cos(self.angles)), np.abs(np.sin(self.angles))
        if self.weights == "interpolation":
            reach = np.full(self.views, self.detector_size)
        else:
            reach = np.maximum(cosine, sine) * self.pixel_size
        across = np.maximum(cosine * self.shape[1], 1e-3) * self.pixel_size
        along = np.maximum(sine * self.shape[0], 1e-3) * self.pixel_size
        line = self.detectors * self.detector_size
        start, end = self.detector_offset - line / 2, self.detector_offset + line / 2
        seen = _share_before(end, across, along) - _share_before(start, across, along)
        met = np.minimum(2 * reach / self.detector_size, self.detectors)
        return int(math.prod(self.shape) * float((seen * met).sum()))

    def footprints(self) -> Footprints:
        """The footprints of the pixels in each ray, of either kind of weights."""
        if self.weights == "joseph":
            return super().footprints()
        angle, distance = self.rays
        spacing = np.full_like(distance, self.detector_size)
        return self._footprints(np.cos(angle), np.sin(angle), distance, spacing, np.ones_like(distance))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the scan: detector, rays of the first view, image, and what every view covers."""
        from recon_operators.scan_plot import plot_parallel

        return plot_parallel(self, ax)


@dataclass(frozen=True)
class FanGeometry(ScanGeometry):
    """A fan-beam scan with a flat detector. ASTRA's ``fanflat``.

    In the view at angle theta the source lies at source_origin * (sin theta, -cos theta), the detector's
    middle on the other side of the axis at origin_detector * (-sin theta, cos theta), shifted along the
    detector line by detector_offset. The ray to the position u has the fan angle
    gamma = arctan(u / (source_origin + origin_detector)) and is the line

        x cos(theta - gamma) + y sin(theta - gamma) = source_origin * sin(gamma).

    Attributes beside those of `ScanGeometry`:
        source_origin: distance of the source from the rotation axis [mm].
        origin_detector: distance of the rotation axis from the detector line [mm].
    """

    source_origin: float = math.nan
    origin_detector: float = math.nan

    @property
    def source_detector(self) -> float:
        """Distance of the source from the detector line [mm]."""
        return self.source_origin + self.origin_detector

    @property
    def magnification(self) -> float:
        """How much larger than itself an object on the axis is seen."""
        return self.source_detector / self.source_origin

    @property
    def detector_size_at_axis(self) -> float:
        """Spacing of the rays where they pass the rotation axis [mm]."""
        return self.detector_size / self.magnification

    @property
    def fan_angles(self) -> _Array:
        """Fan angle gamma of each element [radian], ``(detectors,)``."""
        return np.arctan(self.positions / self.source_detector)

    @property
    def fan_limits(self) -> tuple[float, float]:
        """Fan angles of the detector's two ends [radian]."""
        half = self.detectors * self.detector_size / 2
        first, last = self.detector_offset - half, self.detector_offset + half
        return math.atan(first / self.source_detector), math.atan(last / self.source_detector)

    @property
    def field_of_view(self) -> float:
        """Radius of the circle around the axis that every view sees whole [mm]; 0 for none."""
        first, last = self.fan_limits
        return max(0.0, self.source_origin * math.sin(min(-first, last)))

    @property
    def rays(self) -> tuple[_Array, _Array]:
        """The line x cos(phi) + y sin(phi) = s of each ray: phi [radian] and s [mm], ``(views, detectors)``."""
        gamma = self.fan_angles
        angle = np.asarray(self.angles)[:, None] - gamma
        return angle, np.broadcast_to(self.source_origin * np.sin(gamma), angle.shape)

    @property
    def entries(self) -> int:
        """Entries of the matrix, to a few per cent: two a step of a ray, or two a pixel and view."""
        if self.weights == "interpolation":
            return min(2, self.detectors) * math.prod(self.shape) * self.views
        angle, distance = self.rays
        cosine, sine = np.cos(angle), np.sin(angle)
        steps = _chords(cosine, sine, distance, self) * np.maximum(np.abs(cosine), np.abs(sine))
        return int(2 * float(steps.sum()) / self.pixel_size)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the scan: source path, detector and rays of the first view, image, and what every view covers."""
        from recon_operators.scan_plot import plot_fan

        return plot_fan(self, ax)


def _share_before(position: float, across: _Array, along: _Array) -> _Array:
    """The share of a rectangle's area that projects below a position; its shadow's profile is a trapezium."""
    corners = [
        (sign, np.maximum(position + (across_sign * across + along_sign * along) / 2, 0))
        for across_sign, along_sign, sign in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
    ]
    return sum(sign * corner**2 for sign, corner in corners) / (2 * across * along)


def _chords(cosine: _Array, sine: _Array, distance: _Array, geometry: ScanGeometry) -> _Array:
    """Length of each line inside the image [mm]."""
    half_height, half_width = (side * geometry.pixel_size / 2 for side in geometry.shape)
    starts, ends = np.full(distance.shape, -np.inf), np.full(distance.shape, np.inf)
    # a point of the line is s (cos, sin) + t (-sin, cos)
    for foot, slope, half in ((cosine, -sine, half_width), (sine, cosine, half_height)):
        slope = np.where(np.abs(slope) < 1e-12, 1e-12, slope)
        one, other = (-half - distance * foot) / slope, (half - distance * foot) / slope
        starts, ends = np.maximum(starts, np.minimum(one, other)), np.minimum(ends, np.maximum(one, other))
    return np.maximum(ends - starts, 0.0)
