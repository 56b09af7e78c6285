"""DICOM files: CT in Hounsfield units with the padding marked, MR and others as stored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydicom
import torch
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels import apply_modality_lut, get_decoder
from pydicom.pixels.utils import get_expected_length

from recon.loading import Loaded, LoadError, folder_files, reading, to_tensor
from recon.parameters import Param
from recon_data.dicom_geometry import affine_of_slice

DICOM = "a DICOM file"

# No measurement is lower; scanners that write no PixelPaddingValue pad with -2000, -2048, -3024, ...
LOWEST_MEASURED_HU = -1500.0

# Beyond that of an empty image in JPEG 2000, so that a damaged size is found before memory is taken.
LARGEST_COMPRESSION = 10_000

# What describes the image and its acquisition; nothing that identifies a person, a place or a date.
ATTRIBUTES = (
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "BodyPartExamined",
    "ImageType",
    "PhotometricInterpretation",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ImagerPixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "WindowCenter",
    "WindowWidth",
    "KVP",
    "XRayTubeCurrent",
    "Exposure",
    "ConvolutionKernel",
    "ReconstructionDiameter",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "MagneticFieldStrength",
)


@dataclass(frozen=True)
class Image:
    """The image of one file: values in `unit`, and where they are padding."""

    values: np.ndarray
    unit: str
    padding: np.ndarray | None


def read_dicom(
    path: Annotated[Path, Param("the DICOM file, or a folder of slices")],
    *,
    series: Annotated[
        str | None, Param("SeriesInstanceUID, or its end; needed if the folder has several")
    ] = None,
) -> Loaded:
    """Read the image of a DICOM file, or a folder of slices as a volume (see `read_series`).

    Values are rescaled as the file says (slope and intercept, per frame in enhanced files, or a modality
    look-up table). The unit is "HU" for CT images that carry a rescale, "Bq/mL" where PET says so, and ""
    otherwise: MR has no unit. `pixel_size` is PixelSpacing; a radiograph's ImagerPixelSpacing, measured at
    the detector, stays in `attributes`. Several frames give `(frames, rows, columns)`, colour `(3, rows,
    columns)`.

    Padding, marked in `valid`: pixels of PixelPaddingValue (up to PixelPaddingRangeLimit if present), and in
    CT without such pixels the constant lowest value, if it is at most -1500 HU, which is no measurement.

    Raises:
        LoadError: no DICOM file, damaged, without an image, or compressed and no decoder for it installed.
    """
    if path.is_dir():
        from recon_data.dicom_series import read_series

        return read_series(folder_files(path), series=series, source=str(path))
    if series is not None:
        raise LoadError(f"{path}: a single file; series= chooses in a folder")
    with reading(path, DICOM) as remarks:
        with path.open("rb") as file:
            dataset = pydicom.dcmread(file)
        image = image_of(dataset, path)
        pixel_size = pixel_size_of(dataset, path)
        attributes = attributes_of(dataset)
        affine = affine_of_slice(dataset, pixel_size) if image.values.ndim == 2 else None
    if remarks:
        attributes["warnings"] = tuple(remarks)
    padding = image.padding
    return Loaded(
        data=to_tensor(image.values, f"{path}: its image"),
        unit=image.unit,
        pixel_size=pixel_size,
        valid=None if padding is None or not padding.any() else torch.from_numpy(~padding),
        affine=affine,
        attributes=attributes,
        source=str(path),
    )


def image_of(dataset: Dataset, path: Path) -> Image:
    """The image of a file that was read whole."""
    stored = _stored_values(dataset, path)
    colour = int(dataset.SamplesPerPixel) > 1
    values, rescaled = _rescale(dataset, stored, path)
    unit = _unit(dataset, rescaled)
    padding = None if colour else _padding(dataset, stored, values if unit == "HU" else None)
    return Image(np.moveaxis(values, -1, -3) if colour else values, unit, padding)


def _stored_values(dataset: Dataset, path: Path) -> np.ndarray:
    """The pixels as stored: (rows, columns), (frames, rows, columns), each with a trailing 3 if in colour."""
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise LoadError(f"{path}: a DICOM file without an image (modality {dataset.get('Modality')})")
    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    if not decoder.is_available:
        raise LoadError(
            f"{path}: compressed as {syntax.name}, and no decoder for it is installed; pip install "
            f"'recon[dicom]', or one of: {'; '.join(decoder.missing_dependencies)}"
        )
    if get_expected_length(dataset) > LARGEST_COMPRESSION * path.stat().st_size:
        raise LoadError(
            f"{path}: damaged: it declares {_frames(dataset)} frames of {dataset.Rows} x {dataset.Columns} pixels in "
            f"{path.stat().st_size} bytes"
        )
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        raise LoadError(f"{path}: a palette colour image, whose values are no measurements")
    if not syntax.is_compressed and "PixelData" in dataset:
        length, expected = len(dataset.PixelData), get_expected_length(dataset)
        row = expected // (int(dataset.Rows) * _frames(dataset))
        if length - expected >= max(row, 2):  # one byte is the standard's padding to an even length
            raise LoadError(
                f"{path}: damaged: {dataset.Rows} x {dataset.Columns} pixels need {expected} bytes, "
                f"it has {length}"
            )
    return dataset.pixel_array


def _frames(dataset: Dataset) -> int:
    return max(int(dataset.get("NumberOfFrames") or 1), 1)


def _groups(dataset: Dataset, keyword: str) -> Iterator[Dataset]:
    """The item `keyword` of every frame, or the one shared by all frames (enhanced CT, MR, PET)."""
    for sequence in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in dataset.get(sequence) or ():
            if group.get(keyword):
                yield group[keyword][0]


def _rescale(dataset: Dataset, stored: np.ndarray, path: Path) -> tuple[np.ndarray, Dataset | None]:
    """The values in their unit, and the part of the file that says how to rescale (None: not at all)."""
    if "ModalityLUTSequence" in dataset:
        return apply_modality_lut(stored, dataset), dataset.ModalityLUTSequence[0]
    if "RescaleSlope" in dataset and "RescaleIntercept" in dataset:
        items = [dataset]
    else:
        items = list(_groups(dataset, "PixelValueTransformationSequence"))
    if not items:
        return stored, None
    if len(items) not in (1, _frames(dataset)):
        raise LoadError(f"{path}: damaged: {_frames(dataset)} frames, but {len(items)} rescales")
    slopes = np.array([float(item.RescaleSlope) for item in items])
    intercepts = np.array([float(item.RescaleIntercept) for item in items])
    if not (np.isfinite(slopes).all() and np.isfinite(intercepts).all() and slopes.all()):
        raise LoadError(f"{path}: rescale slope {slopes} and intercept {intercepts} give no image")
    per_frame = (-1,) + (1,) * (stored.ndim - 1)
    if len(items) > 1:
        slopes, intercepts = slopes.reshape(per_frame), intercepts.reshape(per_frame)
    values = stored * slopes + intercepts  # in float64, so that one rounding to float32 remains
    return values.astype(np.float32 if stored.dtype.itemsize <= 2 else np.float64), items[0]


def _unit(dataset: Dataset, rescaled: Dataset | None) -> str:
    """The unit: HU only where the file means it, in a CT image (no scout view) rescaled to HU or unnamed."""
    if rescaled is None:
        return ""
    kind = str(rescaled.get("RescaleType") or rescaled.get("ModalityLUTType") or "").upper()
    modality = dataset.get("Modality")
    scout = "LOCALIZER" in (dataset.get("ImageType") or ())
    if kind == "HU" or (modality == "CT" and not kind and not scout):
        return "HU"
    return "Bq/mL" if modality == "PT" and dataset.get("Units") == "BQML" else ""


def _padding(dataset: Dataset, stored: np.ndarray, hounsfield: np.ndarray | None) -> np.ndarray | None:
    value = dataset.get("PixelPaddingValue")
    if value is not None and stored.dtype.kind in "iu":
        # Files declare it signed or unsigned whatever the pixels are: take its bits as the pixels' type.
        limit = dataset.get("PixelPaddingRangeLimit", value)
        bounds = np.array([int(value), int(limit)]).astype(stored.dtype)
        padding = (stored >= bounds.min()) & (stored <= bounds.max())
        if padding.any():
            return padding
    if hounsfield is not None and hounsfield.min() <= LOWEST_MEASURED_HU:
        return hounsfield == hounsfield.min()
    return None


def pixel_size_of(dataset: Dataset, path: Path) -> tuple[float, float] | None:
    """PixelSpacing (rows, columns) [mm], also where an enhanced file keeps it."""
    spacing = dataset.get("PixelSpacing")
    if not spacing:
        spacings = {tuple(item.PixelSpacing) for item in _groups(dataset, "PixelMeasuresSequence")}
        if len(spacings) != 1:
            return None
        (spacing,) = spacings
    rows_and_columns = tuple(float(distance) for distance in spacing)
    if len(rows_and_columns) != 2 or not all(math.isfinite(d) and d > 0 for d in rows_and_columns):
        raise LoadError(f"{path}: damaged: PixelSpacing is {spacing}, expected two distances in mm")
    return rows_and_columns[0], rows_and_columns[1]


def attributes_of(dataset: Dataset) -> dict[str, Any]:
    """What describes the image and identifies nobody."""
    values = {keyword: dataset.get(keyword) for keyword in ATTRIBUTES}
    return {keyword: _plain(value) for keyword, value in values.items() if value not in (None, "")}


def _plain(value: Any) -> Any:
    if isinstance(value, MultiValue):
        return tuple(_plain(item) for item in value)
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else str(value)
