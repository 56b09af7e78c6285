"""DICOM series: slices sorted by where they lie in the patient, never by file name."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pydicom
import torch
from pydicom.dataset import Dataset
from torch import Tensor

from recon.loading import (
    Loaded,
    LoadError,
    LoadWarning,
    describe,
    folder_ending,
    read_head,
    reading,
    to_tensor,
)
from recon.parameters import Param
from recon_data.dicom import DICOM, attributes_of, image_of, pixel_size_of, read_dicom
from recon_data.dicom_geometry import (
    SAME_DIRECTION,
    NoGeometryError,
    affine_of,
    directions,
    distance_of,
    normal_of,
    position_of,
)

SUFFIXES = (".dcm", ".dicom", ".ima")
TAGS = [
    "SeriesInstanceUID",
    "SeriesNumber",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SpacingBetweenSlices",
    "SliceThickness",
]
# Positions are written with few digits; closer slices are the same, and gaps that differ less are equal.
SAME_POSITION = 1e-3  # mm
EQUAL_GAPS = 0.02  # of the gap
LISTED = 6


@dataclass(frozen=True)
class Slice:
    """One file of a series, and what its header says: the series, and where the slice is, as far as stated."""

    path: Path
    series: str
    number: str
    modality: str
    shape: tuple[int, int]
    frames: int
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    pixel_size: tuple[float, float] | None
    distance: float

    @staticmethod
    def of(header: Dataset, path: Path) -> Slice:
        """What the header says, as plain values: pydicom reads them only when they are asked for."""
        return Slice(
            path,
            series=str(header.get("SeriesInstanceUID", "")),
            number=str(header.get("SeriesNumber", "?")),
            modality=str(header.get("Modality", "?")),
            shape=(int(header.get("Rows", 0)), int(header.get("Columns", 0))),
            frames=int(header.get("NumberOfFrames") or 1),
            orientation=tuple(float(value) for value in header.get("ImageOrientationPatient") or ()),
            position=tuple(float(value) for value in header.get("ImagePositionPatient") or ()),
            pixel_size=pixel_size_of(header, path),
            distance=distance_of(header),
        )


@dataclass(frozen=True)
class Stack:
    """The slices of one series in order, with their geometry.

    Attributes:
        slices: sorted along the normal of the slices.
        positions: of each slice along that normal [mm].
        pixel_size: (slices, rows, columns) [mm]; (rows, columns) if the slices are not evenly spaced.
        affine: as in `recon.Loaded`; None if they are not.
        remarks: what is odd, in words.
    """

    slices: tuple[Slice, ...]
    positions: tuple[float, ...]
    pixel_size: tuple[float, ...]
    affine: Tensor | None
    remarks: tuple[str, ...]


def read_series(
    files: Annotated[Sequence[Path], Param("the DICOM files, in any order")],
    *,
    series: Annotated[str | None, Param("SeriesInstanceUID, or its end")] = None,
    source: Annotated[str, Param("what to call them; the first file's folder")] = "",
) -> Loaded:
    """Read the slices of one series as a volume `(slices, rows, columns)`, from the feet to the head if axial.

    Slices are sorted by ImagePositionPatient along the normal of ImageOrientationPatient, each is rescaled with
    its own slope and intercept, and `affine` keeps an oblique orientation. `attributes["SlicePositions"]` are
    the positions along the normal [mm]. Slices that are not evenly spaced, such as where one is missing, are
    read with a `LoadWarning` that names the gaps; they have no `affine`. Other files in the folder are remarked.

    Raises:
        LoadError: no series, several and none chosen (the message lists them), slices of different shape or
            orientation or in the same place, without a position, or a damaged file.
    """
    files = [Path(file) for file in files]
    source = source or (str(files[0].parent) if files else "no files")
    found, ignored = headers(files)
    chosen = _choose(found, series, source)
    if len(chosen) == 1 and chosen[0].frames > 1:
        return read_dicom(chosen[0].path)
    stack = sort_slices(chosen, source)
    loaded = read_stack(stack, source)
    remarks = (*stack.remarks, *_remark_ignored(ignored), *loaded.attributes.get("warnings", ()))
    for remark in stack.remarks:
        warnings.warn(LoadWarning(f"{source}: {remark}"), stacklevel=2)
    return loaded if not remarks else _with_remarks(loaded, remarks)


def headers(files: Iterable[Path]) -> tuple[list[Slice], list[Path]]:
    """The DICOM images among files, without their pixels, and the other files.

    Raises:
        LoadError: a file that is named as DICOM and is none, or is damaged.
    """
    found, ignored = [], []
    for path in files:
        named = folder_ending(path) in SUFFIXES
        if not named and (path.stat().st_size == 0 or describe(read_head(path)) != DICOM):
            ignored.append(path)
            continue
        with reading(path, DICOM), path.open("rb") as file:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=TAGS)
            item = Slice.of(header, path)
        if min(item.shape) > 0:
            found.append(item)
        else:
            ignored.append(path)
    return found, ignored


def by_series(found: Iterable[Slice]) -> dict[str, list[Slice]]:
    """The slices of each SeriesInstanceUID."""
    series: dict[str, list[Slice]] = {}
    for item in found:
        series.setdefault(item.series, []).append(item)
    return series


def _choose(found: list[Slice], series: str | None, source: str) -> list[Slice]:
    groups = by_series(found)
    if not groups:
        raise LoadError(f"{source}: no DICOM images")
    matching = [uid for uid in groups if series is None or uid == series or uid.endswith(f".{series}")]
    if len(matching) == 1:
        return groups[matching[0]]
    listed = "; ".join(
        f"{uid} ({items[0].modality}, series {items[0].number}, {len(items)} of {items[0].shape[0]} x "
        f"{items[0].shape[1]})"
        for uid, items in list(groups.items())[:LISTED]
    )
    more = f"; and {len(groups) - LISTED} more" if len(groups) > LISTED else ""
    if series is None:
        raise LoadError(f"{source}: {len(groups)} series, choose one with series=: {listed}{more}")
    problem = "no series" if not matching else f"{len(matching)} series end in"
    raise LoadError(f"{source}: {problem} '{series}'; there are {listed}{more}")


def sort_slices(slices: Sequence[Slice], source: str) -> Stack:
    """Sort the slices of one series and find their geometry.

    Raises:
        LoadError: they are no stack: see `read_series`.
    """
    in_plane, spacing, corners = _common_geometry(slices, source)
    normal = normal_of(in_plane)
    order = np.argsort(corners @ normal, kind="stable")
    corners, slices = corners[order], [slices[place] for place in order]
    positions = corners @ normal
    gaps = np.diff(positions)
    if (gaps < SAME_POSITION).any():
        place = int(np.argmax(gaps < SAME_POSITION))
        raise LoadError(
            f"{source}: slices that lie where another lies: {int((gaps < SAME_POSITION).sum())}, such as "
            f"{slices[place].path.name} and {slices[place + 1].path.name} at {positions[place]:.3f} mm: "
            "duplicates, or several phases or echoes in one series; read one of them with read_series(files)"
        )
    if len(slices) == 1:
        single = affine_of(in_plane, spacing, corners[0], slices[0].distance * normal)
        return Stack(tuple(slices), tuple(positions.tolist()), spacing, single, ())
    step = (corners[-1] - corners[0]) / (len(slices) - 1)
    remarks = _uneven(positions, gaps)
    pixel_size: tuple[float, ...] = spacing
    evenly = np.abs(corners - (corners[0] + np.arange(len(slices))[:, None] * step)).max()
    affine: Tensor | None = None
    if not remarks and evenly > EQUAL_GAPS * np.linalg.norm(step):
        remarks = (f"the slices are shifted against each other by up to {evenly:.3g} mm, unevenly",)
    if not remarks:
        affine = affine_of(in_plane, spacing, corners[0], step)
        pixel_size = (float(np.linalg.norm(step)), *spacing)
        if normal @ step < np.linalg.norm(step) * (1 - SAME_DIRECTION):
            remarks = ("the slices are tilted (as by a CT's gantry): rows are not perpendicular to slices",)
    return Stack(tuple(slices), tuple(positions.tolist()), pixel_size, affine, remarks)


def _common_geometry(
    slices: Sequence[Slice], source: str
) -> tuple[np.ndarray, tuple[float, float], np.ndarray]:
    """Directions in the slices, their pixel size, and the first corner of each."""
    first = slices[0]
    for item in slices:
        if item.shape != first.shape:
            shapes = sorted({f"{rows} x {columns}" for rows, columns in (other.shape for other in slices)})
            raise LoadError(f"{source}: slices of {len(shapes)} sizes in one series: {', '.join(shapes)}")
    try:
        planes = np.stack([directions(item.orientation) for item in slices])
        corners = np.stack([position_of(item.position) for item in slices])
    except NoGeometryError as error:
        raise LoadError(
            f"{source}: its slices cannot be put in order, because a file does not say where it lies: {error}"
        ) from error
    spacings = {item.pixel_size for item in slices}
    usual = np.median(planes, axis=0)  # that of most slices
    different = np.abs(planes - usual).max(axis=(1, 2)) > SAME_DIRECTION
    if different.any():
        raise LoadError(
            f"{source}: {int(different.sum())} of {len(slices)} slices have another orientation, such as "
            f"{slices[int(different.argmax())].path.name}: a scout or another plane in the same series?"
        )
    if len(spacings) != 1 or None in spacings:
        raise LoadError(f"{source}: slices with different or no PixelSpacing: {spacings}")
    return usual, next(spacing for spacing in spacings if spacing is not None), corners


def _uneven(positions: np.ndarray, gaps: np.ndarray) -> tuple[str, ...]:
    """What is said of gaps that differ from the usual one."""
    usual = float(np.median(gaps))
    wrong = np.flatnonzero(np.abs(gaps - usual) > max(EQUAL_GAPS * usual, 2 * SAME_POSITION))
    if not len(wrong):
        return ()
    places = ", ".join(f"{positions[at]:.2f} to {positions[at + 1]:.2f} mm" for at in wrong[:LISTED])
    more = f" and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
    whole = all(abs(gaps[at] / usual - round(gaps[at] / usual)) < EQUAL_GAPS for at in wrong)
    missing = round(sum(gaps[at] / usual - 1 for at in wrong))
    what = f"missing slices: {missing}" if whole and missing > 0 else "the slices are not evenly spaced"
    return (f"{what}; gaps unlike the usual {usual:.3g} mm: {places}{more}",)


def read_stack(stack: Stack, source: str) -> Loaded:
    """The values of sorted slices."""
    volume: list[Tensor] = []
    masks: list[Tensor] = []
    units: set[str] = set()
    remarks: list[str] = []
    for item in stack.slices:
        values, valid, unit, heard = read_slice(item)
        volume.append(values)
        masks.append(valid)
        units.add(unit)
        remarks.extend(heard)
    if len(units) > 1:
        raise LoadError(f"{source}: slices in different units: {', '.join(sorted(map(repr, units)))}")
    with reading(stack.slices[0].path, DICOM), stack.slices[0].path.open("rb") as file:
        attributes = attributes_of(pydicom.dcmread(file, stop_before_pixels=True))
    attributes.pop("ImagePositionPatient", None)
    attributes["SlicePositions"] = stack.positions
    if remarks:
        attributes["warnings"] = tuple(dict.fromkeys(remarks))
    valid = torch.stack(masks)
    dtype = max((values.dtype for values in volume), key=lambda dtype: dtype.itemsize)
    return Loaded(
        data=torch.stack([values.to(dtype) for values in volume]),
        unit=units.pop(),
        pixel_size=stack.pixel_size,
        valid=None if valid.all() else valid,
        affine=stack.affine,
        attributes=attributes,
        source=source,
    )


def read_slice(item: Slice) -> tuple[Tensor, Tensor, str, list[str]]:
    """Values, where they are no padding, their unit, and the parser's remarks."""
    with reading(item.path, DICOM) as remarks:
        with item.path.open("rb") as file:
            dataset = pydicom.dcmread(file)
        image = image_of(dataset, item.path)
        if image.values.shape != item.shape:
            raise LoadError(f"{item.path}: an image of shape {image.values.shape} among slices {item.shape}")
    values = to_tensor(image.values, f"{item.path}: its image")
    valid = torch.ones_like(values, dtype=torch.bool)
    if image.padding is not None:
        valid = torch.from_numpy(~image.padding)
    return values, valid, image.unit, remarks


def _remark_ignored(ignored: list[Path]) -> tuple[str, ...]:
    if not ignored:
        return ()
    names = ", ".join(path.name for path in ignored[:LISTED])
    return (f"{len(ignored)} other files are no DICOM images: {names}",)


def _with_remarks(loaded: Loaded, remarks: tuple[str, ...]) -> Loaded:
    return replace(loaded, attributes={**loaded.attributes, "warnings": remarks})
