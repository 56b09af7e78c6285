"""Operators from ASTRA's own geometries: `from_astra`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from recon_operators.cone_scans import circular_vectors
from recon_operators.ct import ParallelBeam
from recon_operators.ct_cone import ConeBeamVectors
from recon_operators.ct_fan import FanBeam
from recon_operators.tomography import Tomography

_TAKEN = "parallel, fanflat, parallel3d with one detector row for each slice, cone and cone_vec"
_SAME = 1e-9  # relative


def from_astra(
    projection_geometry: Mapping[str, Any], volume_geometry: Mapping[str, Any], **options: Any
) -> Tomography | ConeBeamVectors:
    """The operator of a scan that is described for ASTRA; its images and data are ASTRA's arrays as they are.

    ``parallel`` becomes a `ParallelBeam` and ``fanflat`` a `FanBeam`; ``cone`` and ``cone_vec`` become a
    `ConeBeamVectors` (ASTRA's 3-D volumes have their rows along y, where those of `ConeBeam` run down: the vectors
    are mirrored). ``parallel3d`` with a detector row at the height of each slice becomes a `ParallelBeam` of
    which the slices are a batch. ASTRA itself need not be installed.

    Args:
        projection_geometry: what ``astra.create_proj_geom`` returns; lengths are taken as mm.
        volume_geometry: what ``astra.create_vol_geom`` returns.
        options: further arguments of the operator, such as ``backend``.

    Raises:
        ValueError: a geometry that these operators cannot represent exactly; the message says why.
    """
    kind = projection_geometry.get("type")
    volume = _Window.of(volume_geometry)
    if kind in ("parallel", "fanflat"):
        shape = volume.centred(2, str(kind))
        arguments: dict[str, Any] = {
            "shape": shape,
            "pixel_size": volume.size,
            "angles": _angles(projection_geometry),
            "detectors": int(projection_geometry["DetectorCount"]),
            "detector_size": float(projection_geometry["DetectorWidth"]),
        }
        if kind == "parallel":
            return ParallelBeam(**arguments, **options)
        source_origin, origin_detector = _distances(projection_geometry)
        return FanBeam(**arguments, source_origin=source_origin, origin_detector=origin_detector, **options)
    if kind == "parallel3d":
        return _stack_of_slices(projection_geometry, volume, options)
    if kind in ("cone", "cone_vec"):
        vectors = _circle(projection_geometry) if kind == "cone" else projection_geometry["Vectors"]
        frames = np.array(vectors, dtype=np.float64).reshape(-1, 4, 3)
        frames[:, :2] -= volume.middle
        frames[:, :, 1] *= -1
        detectors = int(projection_geometry["DetectorRowCount"]), int(projection_geometry["DetectorColCount"])
        shape = volume.shape_of(3, str(kind))
        return ConeBeamVectors(shape, frames.reshape(-1, 12), detectors, volume.size, **options)
    raise ValueError(f"from_astra takes the geometries {_TAKEN}, got {kind!r}")


class _Window:
    """The grid of a volume geometry: shape, side of a voxel, middle (x, y, z; z of a 2-D grid is 0)."""

    def __init__(self, shape: tuple[int, ...], size: float, middle: np.ndarray) -> None:
        self.shape, self.size, self.middle = shape, size, middle

    @staticmethod
    def of(geometry: Mapping[str, Any]) -> _Window:
        counts = [int(geometry["GridColCount"]), int(geometry["GridRowCount"])]
        if "GridSliceCount" in geometry:
            counts.append(int(geometry["GridSliceCount"]))
        window = geometry.get("option", {})
        low, high = (
            np.array(
                [
                    float(window.get(f"Window{end}{axis}", sign * count / 2))
                    for axis, count in zip("XYZ", counts, strict=False)
                ]
            )
            for end, sign in (("Min", -1), ("Max", 1))
        )
        sizes = (high - low) / counts
        if not (sizes > 0).all() or float(np.ptp(sizes)) > _SAME * float(sizes[0]):
            raise ValueError(
                f"the volume's voxels must be cubes (pixels squares), got sides of {sizes.tolist()} along x, y"
                f"{', z' if len(counts) == 3 else ''}"
            )
        middle = np.zeros(3)
        middle[: len(counts)] = (low + high) / 2
        return _Window(tuple(reversed(counts)), float(sizes[0]), middle)

    def shape_of(self, axes: int, kind: str) -> tuple[int, ...]:
        """The shape, which must have so many axes."""
        if len(self.shape) != axes:
            raise ValueError(f"{kind} needs a volume geometry of {axes} axes, got shape {self.shape}")
        return self.shape

    def centred(self, axes: int, kind: str) -> tuple[int, ...]:
        """The shape; the middle must be the rotation axis."""
        if float(np.abs(self.middle).max()) > _SAME * self.size:
            raise ValueError(
                f"the volume of a {kind} scan must have its middle on the rotation axis, and this one has it at "
                f"{self.middle[:axes].tolist()}: only cone and cone_vec may be off it"
            )
        return self.shape_of(axes, kind)


def _stack_of_slices(geometry: Mapping[str, Any], volume: _Window, options: dict[str, Any]) -> ParallelBeam:
    slices, *shape = volume.centred(3, "parallel3d")
    rows, spacing = int(geometry["DetectorRowCount"]), float(geometry["DetectorSpacingY"])
    if rows != slices or abs(spacing - volume.size) > _SAME * volume.size:
        raise ValueError(
            f"parallel3d needs one detector row for each slice, got {rows} rows {spacing:g} apart for {slices} slices "
            f"of {volume.size:g}"
        )
    return ParallelBeam(
        shape,
        volume.size,
        tuple(-angle for angle in _angles(geometry)),  # rows of a slice along y, seen mirrored
        detectors=int(geometry["DetectorColCount"]),
        detector_size=float(geometry["DetectorSpacingX"]),
        **options,
    )


def _circle(geometry: Mapping[str, Any]) -> np.ndarray:
    """The vectors of ASTRA's ``cone``."""
    spacing = float(geometry["DetectorSpacingY"]), float(geometry["DetectorSpacingX"])
    return circular_vectors(np.asarray(_angles(geometry)), _distances(geometry), spacing)


def _angles(geometry: Mapping[str, Any]) -> tuple[float, ...]:
    """The angles, brought below a turn."""
    theta = np.asarray(geometry["ProjectionAngles"], dtype=np.float64).reshape(-1)
    return tuple(np.where(np.abs(theta) > 2 * math.pi, np.mod(theta, 2 * math.pi), theta).tolist())


def _distances(geometry: Mapping[str, Any]) -> tuple[float, float]:
    return float(geometry["DistanceOriginSource"]), float(geometry["DistanceOriginDetector"])
