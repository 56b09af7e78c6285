"""Cone-beam scans from what a scanner's data sheet says: circles and helices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from recon_operators.cone_geometry import ConeGeometry
from recon_operators.tomography import detector_count, finite_offset, length, radians

_Pair = tuple[float, float]


def circular_geometry(
    shape: Sequence[int],
    pixel_size: float = 1.0,
    angles: int | Sequence[float] = 360,
    *,
    source_origin: float,
    origin_detector: float,
    detectors: Sequence[int] | None = None,
    detector_size: float | Sequence[float] | None = None,
    detector_offset: float | Sequence[float] = 0.0,
) -> ConeGeometry:
    """A source on a circle in the middle plane of the volume, a detector opposite. ASTRA's ``cone``.

    In the view at angle theta the source lies at source_origin * (sin theta, -cos theta, 0) and the detector's
    middle at origin_detector * (-sin theta, cos theta, 0), shifted by the offset; its columns run along
    (cos theta, sin theta, 0), its rows along z.

    Args:
        shape: volume (slices, rows, columns).
        pixel_size: side of a cubic voxel [mm].
        angles: number of views, equally spaced over 360 degrees, or their angles [radian].
        source_origin: source to rotation axis [mm].
        origin_detector: rotation axis to detector [mm].
        detectors: detector elements (rows, columns); None for as many as cover the volume.
        detector_size: spacing of the elements, or of (rows, columns) [mm]; None for that of a magnified voxel.
        detector_offset: position of the detector's middle relative to the central ray along its columns, or along
            (z, columns) [mm].

    Raises:
        ValueError: a shape, size, distance or angle that makes no scan; the message names it.
    """
    volume = volume_shape(shape)
    theta = np.asarray(radians(angles, 2 * math.pi))
    pixel_size, source_origin, whole = _distances(volume, pixel_size, source_origin, origin_detector)
    spacing = _spacing(detector_size, pixel_size * whole / source_origin)
    offset = _offset(detector_offset)
    radius = math.hypot(*volume[1:]) * pixel_size / 2
    magnified = whole / (source_origin - radius)  # of the volume's edge nearest to the source
    tall = magnified * volume[0] * pixel_size / 2
    elements = _elements(detectors, tall, _wide(radius, source_origin, whole), spacing, offset)
    vectors = circular_vectors(theta, (source_origin, whole - source_origin), spacing, offset)
    return ConeGeometry(volume, pixel_size, elements, _frozen(vectors))


def helical_geometry(
    shape: Sequence[int],
    pixel_size: float = 1.0,
    *,
    pitch: float,
    turns: float,
    views_per_turn: int = 360,
    source_origin: float,
    origin_detector: float,
    detectors: Sequence[int] | None = None,
    detector_size: float | Sequence[float] | None = None,
    detector_offset: float | Sequence[float] = 0.0,
) -> ConeGeometry:
    """A source on a helix: the circle of `circular_geometry`, rising by ``pitch`` in every turn.

    The views are centred on the volume: the first has the angle 0 and the height -pitch * turns / 2.

    Args:
        shape: as of `circular_geometry`, like the sizes and distances below.
        pixel_size: side of a cubic voxel [mm].
        pitch: rise of the source along z per turn [mm]; negative to descend.
        turns: number of turns.
        views_per_turn: number of views in a turn.
        source_origin: from the source to the axis [mm].
        origin_detector: from the axis to the detector [mm].
        detectors: detector elements (rows, columns); None for as many as cover the volume's width, and the
            Tam-Danielsson window (Tam, Samarasekera and Sauer, Phys. Med. Biol. 43, 1998), which sees every point of
            the cylinder around the volume over half a turn or more.
        detector_size: spacing of the elements [mm], one or (rows, columns).
        detector_offset: shift of the detector [mm], one along the columns or (rows, columns).

    Raises:
        ValueError: as of `circular_geometry`.
    """
    volume = volume_shape(shape)
    pixel_size, source_origin, whole = _distances(volume, pixel_size, source_origin, origin_detector)
    if not math.isfinite(pitch) or pitch == 0:
        raise ValueError(f"pitch must be a length in mm other than 0, got {pitch!r}: a circle is ct_cone")
    if not (math.isfinite(turns) and turns > 0):
        raise ValueError(f"turns must be a positive number, got {turns!r}")
    if isinstance(views_per_turn, bool) or views_per_turn != int(views_per_turn) or views_per_turn < 1:
        raise ValueError(f"views_per_turn must be a positive integer, got {views_per_turn!r}")
    spacing = _spacing(detector_size, pixel_size * whole / source_origin)
    offset = _offset(detector_offset)
    radius = math.hypot(*volume[1:]) * pixel_size / 2
    fan = math.asin(radius / source_origin)
    # the window's edges are the neighbouring turns, seen on the detector; highest at the end of the fan
    window = abs(pitch) * whole / (2 * math.pi * source_origin) * (math.pi / 2 + fan) / math.cos(fan) ** 2
    elements = _elements(detectors, window, _wide(radius, source_origin, whole), spacing, offset)
    theta = np.arange(max(1, round(turns * views_per_turn))) * 2 * math.pi / views_per_turn
    rise = pitch * (theta / (2 * math.pi) - turns / 2)
    vectors = circular_vectors(theta, (source_origin, whole - source_origin), spacing, offset, rise)
    return ConeGeometry(volume, pixel_size, elements, _frozen(vectors))


def vector_geometry(
    shape: Sequence[int],
    vectors: Any,
    detectors: Sequence[int],
    pixel_size: float = 1.0,
) -> ConeGeometry:
    """A scan along any path, from the vectors of ASTRA's ``cone_vec``; see `ConeGeometry`.

    Args:
        shape: volume (slices, rows, columns).
        vectors: ``(views, 12)`` in mm: source, detector middle, step between columns, step between rows.
        detectors: detector elements (rows, columns).
        pixel_size: side of a cubic voxel [mm].

    Raises:
        ValueError: vectors that are not finite or not 12 a view, a detector without area or through the source,
            or a source inside the volume; the message names the view.
    """
    volume = volume_shape(shape)
    pixel_size = length("pixel_size", pixel_size)
    given = np.asarray(vectors.detach().cpu() if hasattr(vectors, "detach") else vectors, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] != 12 or len(given) == 0:
        raise ValueError(
            f"vectors must be (views, 12): source, detector middle, column step, row step, got {given.shape}"
        )
    if not np.isfinite(given).all():
        view = int(np.argmin(np.isfinite(given).all(axis=1)))
        raise ValueError(f"vectors must be finite lengths in mm, got {given[view].tolist()} in view {view}")
    elements = _counts(detectors)
    geometry = ConeGeometry(volume, pixel_size, elements, _frozen(given))
    _require_views(geometry)
    return geometry


def volume_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Slices, rows and columns of a volume.

    Raises:
        ValueError: not three positive integers.
    """
    sides: list[Any] = np.asarray(shape).reshape(-1).tolist()
    if len(sides) != 3 or any(side != int(side) or side < 1 for side in sides):
        raise ValueError(f"shape must be three positive integers (slices, rows, columns), got {shape!r}")
    depth, height, width = (int(side) for side in sides)
    return depth, height, width


def circular_vectors(
    theta: np.ndarray,
    distances: tuple[float, float],
    spacing: tuple[float, float],
    offset: tuple[float, float] = (0.0, 0.0),
    rise: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Vectors ``(views, 12)`` of a source and a detector that turn around the z axis.

    Args:
        theta: angle of each view [radian].
        distances: source to axis, axis to detector [mm].
        spacing: of the detector's (rows, columns) [mm].
        offset: of the detector's middle along (z, columns) [mm].
        rise: height of source and detector in each view [mm].
    """
    nothing = np.zeros_like(theta)
    along = np.stack([np.cos(theta), np.sin(theta), nothing], axis=1)
    towards_source = np.stack([np.sin(theta), -np.cos(theta), nothing], axis=1)
    up = np.array([0.0, 0.0, 1.0])
    lift = np.broadcast_to(rise, theta.shape)[:, None] * up
    source = distances[0] * towards_source + lift
    middle = -distances[1] * towards_source + lift + offset[1] * along + offset[0] * up
    return np.hstack([source, middle, spacing[1] * along, np.broadcast_to(spacing[0] * up, along.shape)])


def _frozen(vectors: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, vectors.tolist()))


def _distances(
    volume: tuple[int, int, int], pixel_size: float, source_origin: float, origin_detector: float
) -> tuple[float, float, float]:
    pixel_size = length("pixel_size", pixel_size)
    source_origin = length("source_origin", source_origin)
    radius = math.hypot(*volume[1:]) * pixel_size / 2
    if source_origin <= radius + pixel_size:
        raise ValueError(
            f"source_origin must keep the source outside the volume, which reaches {radius:g} mm from the axis "
            f"(and a voxel more), got {source_origin!r}"
        )
    return pixel_size, source_origin, source_origin + length("origin_detector", origin_detector, least=0.0)


def _wide(radius: float, source_origin: float, whole: float) -> float:
    """How far from the central ray a circle around the axis is seen [mm]."""
    return whole * math.tan(math.asin(radius / source_origin))


def _spacing(given: float | Sequence[float] | None, magnified: float) -> _Pair:
    if given is None:
        return magnified, magnified
    rows, columns = _pair("detector_size", given, twice=True)
    return length("detector_size", rows), length("detector_size", columns)


def _offset(given: float | Sequence[float]) -> _Pair:
    rows, columns = _pair("detector_offset", given, twice=False)
    return finite_offset(rows), finite_offset(columns)


def _pair(name: str, given: float | Sequence[float], *, twice: bool) -> _Pair:
    """(rows, columns) of what may be given once: for both, or for the columns alone."""
    values = np.asarray(given, dtype=np.float64).reshape(-1).tolist()
    if len(values) == 1:
        return (values[0] if twice else 0.0), values[0]
    if len(values) != 2:
        raise ValueError(f"{name} must be one length in mm, or one for (rows, columns), got {given!r}")
    return values[0], values[1]


def _elements(
    detectors: Sequence[int] | None, tall: float, wide: float, spacing: _Pair, offset: _Pair
) -> tuple[int, int]:
    if detectors is not None:
        return _counts(detectors)
    rows, columns = (
        detector_count(None, 2 * (reach + abs(shift)) / size)
        for reach, shift, size in zip((tall, wide), offset, spacing, strict=True)
    )
    return rows, columns


def _counts(detectors: Sequence[int]) -> tuple[int, int]:
    counts: list[Any] = np.asarray(detectors).reshape(-1).tolist()
    if len(counts) != 2 or any(count != int(count) or count < 1 for count in counts):
        raise ValueError(f"detectors must be two positive integers (rows, columns), got {detectors!r}")
    return int(counts[0]), int(counts[1])


def _require_views(geometry: ConeGeometry) -> None:
    """Refuse detectors without area or through the source, and sources within a voxel of the volume."""
    source, middle, across, down = geometry.frames.transpose(1, 0, 2)
    normal = np.cross(across, down)
    area = np.linalg.norm(normal, axis=1)
    flat = area <= 1e-9 * np.linalg.norm(across, axis=1) * np.linalg.norm(down, axis=1)
    if flat.any():
        view = int(np.argmax(flat))
        raise ValueError(
            f"the steps between columns {across[view].tolist()} and rows {down[view].tolist()} of view {view} span "
            "no detector: they must point in two directions"
        )
    distance = np.abs(np.sum(normal * (middle - source), axis=1)) / area
    if (distance <= 1e-9 * geometry.pixel_size).any():
        view = int(np.argmin(distance))
        raise ValueError(f"the detector's plane runs through the source in view {view}: no ray meets it")
    inside = (np.abs(source) < geometry.half_sides + geometry.pixel_size).all(axis=1)
    if inside.any():
        view = int(np.argmax(inside))
        raise ValueError(
            f"the source of view {view} at {source[view].tolist()} mm must lie outside the volume, which reaches "
            f"{geometry.half_sides.tolist()} mm from its middle (and a voxel more)"
        )
