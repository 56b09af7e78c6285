"""Computed tomography in 3-D cone-beam geometry: `ConeBeam` on a circle, `ConeBeamVectors` along any path."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Self

from recon.linear import LinearOperator
from recon.parameters import Param
from recon.subsets import Subset
from recon_operators.arrays import ArrayLike
from recon_operators.cone_geometry import ConeGeometry
from recon_operators.cone_scans import circular_geometry, vector_geometry
from recon_operators.cone_tomography import (
    ConeBackend,
    ConeTomography,
    warn_of_unmeasured,
)
from recon_operators.view_subsets import interleaved_views


class ConeBeam(ConeTomography):
    """Line integrals of a volume along the rays of a point source on a circle: a 3-D cone-beam scan.

    Volumes ``(*batch, slices, rows, columns)`` in 1/mm become data ``(*batch, detector rows, views, detector columns)``
    without unit, ASTRA's order, and the adjoint of data is in mm times their unit. A slice lies as in `FanBeam`, x to
    the right and y up (row 0 is the top); slice 0 is the lowest. The rotation axis runs along z through the middle of
    the volume and the source in its middle plane, where the scan is that of `FanBeam`; see `circular_geometry`.
    Rays are integrated by Joseph's method.

    `pinv` is the filtered back-projection of Feldkamp, Davis and Kress (``filter``, ``cutoff`` as in parallel beam),
    with the weights of `FanBeam` for short scans and shifted detectors. A circle measures the middle plane
    completely, but not the frequencies along z of what lies off it: edges across the axis fade with the cone angle, in
    every reconstruction.

    Backends:
        joseph: compiled loops on the CPU that hold no matrix. Exact adjoint, float32 and float64.
        astra: the ASTRA toolbox on a GPU, in float32, whose adjoint is approximate (`adjoint_kind`).
        auto: joseph on a CPU, astra on a GPU.

    Raises:
        ValueError: a shape, size, distance, angle or backend that makes no scan; the message names it.
        ImportError: ASTRA is needed and not installed.

    Warns:
        UserWarning: lines in the middle plane that no ray measures, as `FanBeam`; slices that the detector's rows do
            not see in every view; angles beyond 2 pi, which look like degrees.
    """

    def __init__(
        self,
        shape: Annotated[Sequence[int], Param("volume slices, rows and columns", ge=1)],
        pixel_size: Annotated[float, Param("side of a cubic voxel", unit="mm", gt=0)] = 1.0,
        angles: Annotated[
            int | Sequence[float],
            Param("number of views, equally spaced over 360 degrees, or their angles in radians"),
        ] = 360,
        *,
        source_origin: Annotated[float, Param("source to rotation axis", unit="mm", gt=0)],
        origin_detector: Annotated[float, Param("rotation axis to detector", unit="mm", ge=0)],
        detectors: Annotated[
            Sequence[int] | None,
            Param("detector rows and columns; none: as many as cover the volume", ge=1),
        ] = None,
        detector_size: Annotated[
            float | Sequence[float] | None,
            Param(
                "spacing of the elements, or of (rows, columns); none: of a magnified voxel", unit="mm", gt=0
            ),
        ] = None,
        detector_offset: Annotated[
            float | Sequence[float],
            Param("position of the detector's middle along the columns, or along (z, columns)", unit="mm"),
        ] = 0.0,
        backend: Annotated[ConeBackend, Param("what computes the projections")] = "auto",
    ) -> None:
        geometry = circular_geometry(
            shape,
            pixel_size,
            angles,
            source_origin=source_origin,
            origin_detector=origin_detector,
            detectors=detectors,
            detector_size=detector_size,
            detector_offset=detector_offset,
        )
        super().__init__(geometry, backend)
        warn_of_unmeasured(geometry, stacklevel=2)

    def subsets(self, count: int) -> list[Subset]:
        """Interleaved views; see `recon_operators.view_subsets`."""
        return _subsets(self, count)


class ConeBeamVectors(ConeTomography):
    """Line integrals of a volume along the rays of a point source on any path, to a flat detector of any pose.

    As `ConeBeam`, with the pose of each view given by the 12 numbers of ASTRA's ``cone_vec``, in mm: the source, the
    middle of the detector, the step from one column to the next, and that from one row to the next, as x, y, z from
    the middle of the volume (y up: row 0 of a slice is at the largest y). Make them with `helical_geometry`, take
    them from a calibration, or from ASTRA with `from_astra`.

    `pinv` recognises a circle and is then Feldkamp's algorithm; other paths, a helix among them, have no direct
    reconstruction here, and get the adjoint scaled to fit the data (`direct_reconstruction` tells which).

    Raises:
        ValueError: vectors or detector counts that make no scan; the message names the view.
        ImportError: ASTRA is needed and not installed.

    Warns:
        UserWarning: parts of the volume that no view sees; of a circle around its middle, what `ConeBeam` warns of.
    """

    def __init__(
        self,
        shape: Annotated[Sequence[int], Param("volume slices, rows and columns", ge=1)],
        vectors: Annotated[
            ArrayLike,
            Param("source, detector middle, column step, row step of each view, (views, 12)", unit="mm"),
        ],
        detectors: Annotated[Sequence[int], Param("detector rows and columns", ge=1)],
        pixel_size: Annotated[float, Param("side of a cubic voxel", unit="mm", gt=0)] = 1.0,
        *,
        backend: Annotated[ConeBackend, Param("what computes the projections")] = "auto",
    ) -> None:
        geometry = vector_geometry(shape, vectors, detectors, pixel_size)
        super().__init__(geometry, backend)
        warn_of_unmeasured(geometry, stacklevel=2)

    @classmethod
    def of(cls, geometry: ConeGeometry, *, backend: ConeBackend = "auto") -> Self:
        """The operator of a geometry, such as that of `helical_geometry`."""
        return cls(geometry.shape, geometry.vectors, geometry.detectors, geometry.pixel_size, backend=backend)

    def subsets(self, count: int) -> list[Subset]:
        """Interleaved views; see `recon_operators.view_subsets`."""
        return _subsets(self, count)


def _subsets(scan: ConeBeam | ConeBeamVectors, count: int) -> list[Subset]:
    geometry = scan.geometry

    def scan_of(views: slice) -> LinearOperator:
        part = dataclasses.replace(geometry, vectors=geometry.vectors[views])
        return ConeBeamVectors.of(part, backend=scan.backend)

    return interleaved_views(scan, count, 1, scan_of)
