"""Where DICOM slices lie in the patient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydicom.dataset import Dataset
from torch import Tensor

# Cosines are written with few digits; beyond this, an orientation is no orientation or differs from another.
SAME_DIRECTION = 1e-3
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class NoGeometryError(ValueError):
    """A file does not say where its image lies."""


def directions(orientation: Sequence[float]) -> np.ndarray:
    """(3, 2): unit vectors along which the rows and the columns of an image are counted, in DICOM's axes.

    Args:
        orientation: ImageOrientationPatient: along a row (counting columns), then along a column.

    Raises:
        NoGeometryError: they are not two perpendicular directions.
    """
    vectors = np.array([float(value) for value in orientation]).reshape(-1, 3)
    if vectors.shape != (2, 3) or not np.isfinite(vectors).all():
        stated = f"is {tuple(orientation)}, expected six cosines" if orientation else "is missing"
        raise NoGeometryError(f"ImageOrientationPatient {stated}")
    lengths = np.linalg.norm(vectors, axis=1)
    if np.abs(lengths - 1).max() > SAME_DIRECTION or abs(vectors[0] @ vectors[1]) > SAME_DIRECTION:
        raise NoGeometryError(
            f"ImageOrientationPatient {list(orientation)} is not two perpendicular directions"
        )
    along_row, along_column = vectors / lengths[:, None]
    return np.stack([along_column, along_row], axis=1)


def normal_of(in_plane: np.ndarray) -> np.ndarray:
    """The direction in which slices are counted: row direction x column direction; to the head if axial."""
    return np.cross(in_plane[:, 1], in_plane[:, 0])


def position_of(value: Sequence[float] | None) -> np.ndarray:
    """ImagePositionPatient: the centre of the first pixel [mm]."""
    position = np.array([float(coordinate) for coordinate in value or ()])
    if position.shape != (3,) or not np.isfinite(position).all():
        stated = f"is {tuple(value)}, expected three coordinates in mm" if value else "is missing"
        raise NoGeometryError(f"ImagePositionPatient {stated}")
    return position


def affine_of(
    in_plane: np.ndarray, spacing: tuple[float, float], first: np.ndarray, step: np.ndarray
) -> Tensor:
    """The affine of `recon.Loaded` (RAS+) of slices whose first pixels lie `step` [mm] apart."""
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1:3] = in_plane * spacing
    affine[:3, 3] = first
    return torch.from_numpy(LPS_TO_RAS @ affine)


def affine_of_slice(dataset: Dataset, spacing: tuple[float, float] | None) -> Tensor | None:
    """The affine of a single slice, its thickness standing for the distance to the next; None if unknown."""
    if spacing is None or not dataset.get("ImagePositionPatient"):
        return None
    try:
        in_plane = directions(dataset.get("ImageOrientationPatient") or ())
        position = position_of(dataset.ImagePositionPatient)
    except (ValueError, TypeError):  # DICOM files are full of such; the image is fine without
        return None
    return affine_of(in_plane, spacing, position, distance_of(dataset) * normal_of(in_plane))


def distance_of(dataset: Dataset) -> float:
    """From a slice to the next [mm], as far as one file can say: their spacing, else the thickness, else 1."""
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        try:
            distance = abs(float(dataset.get(keyword) or 0))  # some scanners count spacing against the normal
        except (ValueError, TypeError):
            continue
        if 0 < distance < float("inf"):
            return distance
    return 1.0
