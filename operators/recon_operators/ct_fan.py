"""Computed tomography in 2-D fan-beam geometry with a flat detector: the operator `FanBeam`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from torch import Tensor

from recon.parameters import Param
from recon_operators.angular_noise import lower_noise, noise_beside_the_fans_bow_tie
from recon_operators.filtered_backprojection import add_up_views, weighted_fan_views
from recon_operators.line_integrals import full_precision
from recon_operators.scan_geometry import FanGeometry
from recon_operators.tomography import (
    Backend,
    Tomography,
    detector_count,
    finite_offset,
    image_shape,
    length,
    radians,
)
from recon_operators.view_coverage import Coverage, measured_lines

_NEGLIGIBLE = 0.002  # of all lines: what rounding leaves at the rim of the circle


class FanBeam(Tomography):
    """Line integrals of an image along the rays of a point source: the sinogram of a 2-D fan-beam scan.

    Images ``(*batch, rows, columns)`` in 1/mm become sinograms ``(*batch, views, detectors)`` without unit,
    and the adjoint of a sinogram is in mm times its unit. Order and orientation are those of ASTRA's
    ``fanflat``: x to the right, y up (row 0 is the top), the rotation axis in the middle of the image. In the
    view at angle theta the source lies at source_origin * (sin theta, -cos theta), and the flat detector
    beyond the axis, running along (cos theta, sin theta); see `FanGeometry`. Rays are integrated by Joseph's
    method.

    Backends:
        matrix: the projection matrix and its transpose, built at the first use, shared between operators of
            equal geometry and not saved with the operator. Exact adjoint, float32 and float64, CPU and GPU.
            The scan's symmetry is used: a full turn of equally spaced views needs an eighth of it for a
            square image.
        astra: the ASTRA toolbox, which holds no matrix, in float32. On the CPU its ``line_fanflat``, which
            weights pixels by the length of the ray inside; on the GPU one call an image, whose adjoint is
            approximate (`adjoint_kind`), too much so for many conjugate gradient steps.
        auto: the matrix while it fits `memory_limit`, else ASTRA.

    Raises:
        ValueError: a shape, size, distance, angle or backend that makes no scan; the message names it.
        ImportError: ASTRA is needed and not installed.

    Warns:
        UserWarning: lines through the circle inside the image that no ray measures, because the detector is
            too short, the views span less than 180 degrees plus the fan, or they leave gaps; angles beyond
            2 pi, which look like degrees; a matrix over the memory limit.
    """

    geometry: FanGeometry

    def __init__(
        self,
        shape: Annotated[Sequence[int], Param("image rows and columns", ge=1)],
        pixel_size: Annotated[float, Param("side of a square pixel", unit="mm", gt=0)] = 1.0,
        angles: Annotated[
            int | Sequence[float],
            Param("number of views, equally spaced over 360 degrees, or their angles in radians"),
        ] = 360,
        *,
        source_origin: Annotated[float, Param("source to rotation axis", unit="mm", gt=0)],
        origin_detector: Annotated[float, Param("rotation axis to detector", unit="mm", ge=0)],
        detectors: Annotated[
            int | None, Param("detector elements per view; none: as many as cover the image", ge=1)
        ] = None,
        detector_size: Annotated[
            float | None,
            Param("spacing of the detector elements; none: of a magnified pixel", unit="mm", gt=0),
        ] = None,
        detector_offset: Annotated[
            float, Param("position of the detector's middle relative to the central ray", unit="mm")
        ] = 0.0,
        backend: Annotated[Backend, Param("what computes the projections")] = "auto",
        memory_limit: Annotated[
            int, Param("most that backend='auto' spends on a matrix in memory", unit="bytes", ge=0)
        ] = 2 * 1024**3,
    ) -> None:
        geometry = _geometry(
            shape,
            pixel_size,
            angles,
            (source_origin, origin_detector),
            detectors,
            detector_size,
            detector_offset,
        )
        super().__init__(geometry, backend, memory_limit)
        warn_if_incomplete(geometry, stacklevel=2)

    def extra_repr(self) -> str:
        """Geometry for `repr`."""
        geometry = self.geometry
        distances = (
            f"source {geometry.source_origin:g} mm, detector {geometry.origin_detector:g} mm from the axis"
        )
        return f"{super().extra_repr()}, {distances}"

    def noise_level(self, y: Tensor) -> Tensor:
        """Root mean square over each sinogram of its noise's standard deviation.

        From differences along the detector (`sinogram_noise`) or, where that is lower, from the frequencies at which
        no object has power (`angular_noise`): views equally spaced over 360 degrees that see the whole image.
        """
        return lower_noise(super().noise_level(y), noise_beside_the_fans_bow_tie(y, self.geometry))

    def _pinv(self, y: Tensor, *, filter: str = "ram-lak", cutoff: float = 1.0) -> Tensor:  # type: ignore[override]  # noqa: A002
        """Filtered back-projection; see `recon_operators.filtered_backprojection`.

        Redundancy weights make it right for full, short and longer scans, shifted detectors and scans with
        gaps (Parker's and Wang's weights are cases of them).
        """
        views = weighted_fan_views(full_precision(y), self.geometry, filter, cutoff)
        return add_up_views(views, self.geometry, self.memory_limit).to(y.dtype)


def _geometry(
    shape: Sequence[int],
    pixel_size: float,
    angles: int | Sequence[float],
    distances: tuple[float, float],
    detectors: int | None,
    detector_size: float | None,
    detector_offset: float,
) -> FanGeometry:
    height, width = image_shape(shape)
    pixel_size = length("pixel_size", pixel_size)
    source_origin = length("source_origin", distances[0])
    origin_detector = length("origin_detector", distances[1], least=0.0)
    radius = math.hypot(height, width) * pixel_size / 2
    if source_origin <= radius + pixel_size:
        raise ValueError(
            f"source_origin must keep the source outside the image, which reaches {radius:g} mm from the axis "
            f"(and a pixel more), got {source_origin!r}"
        )
    whole = source_origin + origin_detector
    magnified = pixel_size * whole / source_origin
    detector_size = magnified if detector_size is None else length("detector_size", detector_size)
    offset = finite_offset(detector_offset)
    return FanGeometry(
        (height, width),
        pixel_size,
        radians(angles, 2 * math.pi),
        detector_count(detectors, _needed(radius, source_origin, whole, detector_size, offset)),
        detector_size,
        offset,
        source_origin=source_origin,
        origin_detector=origin_detector,
    )


def _needed(radius: float, source_origin: float, whole: float, detector_size: float, offset: float) -> float:
    """How many elements see a circle of that radius around the axis."""
    reach = whole * math.tan(math.asin(radius / source_origin))
    return 2 * (reach + abs(offset)) / detector_size


def warn_if_incomplete(geometry: FanGeometry, stacklevel: int) -> None:
    """Tell which share of the lines through the image a scan does not measure, and why."""
    radius = min(geometry.shape) * geometry.pixel_size / 2
    missing = 1 - measured_lines(geometry, radius)
    if missing <= _NEGLIGIBLE:
        return
    reasons = []
    edge = max(abs(limit) for limit in geometry.fan_limits)
    if geometry.source_origin * math.sin(edge) < radius * (1 - 1e-6):
        distances = geometry.source_origin, geometry.source_detector
        needed = _needed(radius, *distances, geometry.detector_size, geometry.detector_offset)
        reasons.append(
            f"the detector ({geometry.detectors} elements of {geometry.detector_size:g} mm, offset "
            f"{geometry.detector_offset:g} mm) is too short: {math.ceil(needed - 1e-6)} elements see the circle"
        )
    coverage = Coverage.of(geometry.angles, 2 * math.pi)
    if coverage.gaps.size:
        fan = math.degrees(2 * math.asin(radius / geometry.source_origin))
        gaps = ", ".join(f"{gap:.1f}" for gap in np.rad2deg(coverage.gaps[:4]))
        reasons.append(
            f"the views stand for {math.degrees(coverage.shares.sum()):.1f} degrees and leave gaps of {gaps} "
            f"degrees: {180 + fan:.1f} degrees without a gap (180 plus the fan) suffice"
        )
    warnings.warn(
        f"{max(missing, 0.001):.1%} of the lines through the circle inside the image (radius {radius:g} mm) are "
        f"measured from neither side; {'; '.join(reasons) or 'the detector is shifted too far'}",
        stacklevel=stacklevel + 1,
    )
