"""DICOM writer: an image or a volume as a derived series of its own."""

from __future__ import annotations

import copy
import datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from recon.archive import array_of
from recon.loading import Loaded, folder_files, reading
from recon.parameters import Param
from recon_data.dicom import DICOM
from recon_data.dicom_geometry import LPS_TO_RAS, SAME_DIRECTION

LARGEST_STORED = 2**16 - 1

# Who was examined, when and where: only with `keep_identifiers`, so that the series lies beside its source.
IDENTIFIERS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "InstitutionName",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "PatientPosition",
)
# Of `Loaded.attributes`: the description of the acquisition that still holds for what was derived from it.
DESCRIPTION = ("BodyPartExamined", "KVP", "SliceThickness")


def write_dicom(
    path: Annotated[Path, Param("the file to write, or an empty folder for the slices of a volume")],
    image: Annotated[Loaded, Param("the image and what is known of it")],
    *,
    keep_identifiers: Annotated[
        bool, Param("take over the patient and the study from the DICOM file of like")
    ] = False,
    water: Annotated[float, Param("attenuation of water that makes HU of 1/mm", unit="1/mm", gt=0)] = 0.02,
    description: Annotated[str, Param("SeriesDescription")] = "recon, derived",
    window: Annotated[tuple[float, float] | None, Param("values shown black and white")] = None,
) -> Path:
    """Write a derived image, or a series of them, one file a slice, with UIDs of its own.

    `ImageType` is DERIVED, SECONDARY. An image without a place in the patient gets a frame of reference of its
    own, in which it is axial and begins at the origin.

    A unit of "HU", or of "1/mm" converted with `water`, gives CT images in HU; any other a secondary capture.
    Values are stored in 16 bits over the range of the image: they come back within half a step, which is
    range / 65535 (0.03 HU for 4096 HU). Padding is stored as PixelPaddingValue.

    Nothing that identifies the patient is written unless `keep_identifiers` is set: then patient, study and
    frame of reference are those of the DICOM file, or folder, that `like` was read from.

    Raises:
        ValueError: complex or NaN values, another shape, a volume for a single file, no identifiers to keep.
    """
    values = array_of(image.data)
    if image.data.is_complex():
        raise ValueError("the image is complex, DICOM is not: save its .abs()")
    if values.ndim not in (2, 3):
        raise ValueError(f"a DICOM series is (rows, columns) or (slices, rows, columns), not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} values are NaN or infinite")
    if values.ndim == 3 and not path.is_dir():
        raise ValueError(
            "a volume is a DICOM file a slice: give the name of a new folder and writer='dicom', "
            "or take one slice"
        )
    unit = image.unit
    if unit == "1/mm":
        values, unit = array_of(image.hounsfield(water=water)), "HU"
    series = _series(image, unit, description, keep_identifiers)
    affine = _affine(image, unit, own_frame=not keep_identifiers)
    if window is not None:
        series.WindowCenter, series.WindowWidth = _ds(sum(window) / 2), _ds(window[1] - window[0])
    slices = values.reshape(-1, *values.shape[-2:])
    valid = None if image.valid is None else image.valid.numpy().reshape(slices.shape)
    for place, plane in enumerate(slices):
        file = path / f"{place + 1:04d}.dcm" if path.is_dir() else path
        padding = None if valid is None or valid[place].all() else ~valid[place]
        _write_slice(file, series, place, plane, padding, affine=affine, pixel_size=image.pixel_size)
    return path


def _series(image: Loaded, unit: str, description: str, keep_identifiers: bool) -> Dataset:
    """What all slices have in common."""
    now = datetime.datetime.now()
    series = Dataset()
    hounsfield = unit == "HU"
    series.SOPClassUID = CTImageStorage if hounsfield else SecondaryCaptureImageStorage
    series.Modality = "CT" if hounsfield else str(image.attributes.get("Modality", "OT"))
    series.ImageType = ["DERIVED", "SECONDARY", *(["AXIAL"] if hounsfield else [])]
    if not hounsfield:
        series.ConversionType = "WSD"
    series.SeriesInstanceUID = generate_uid(prefix=None)
    series.SeriesDescription = description
    series.SeriesNumber = 1
    series.Manufacturer = "recon"
    series.ContentDate, series.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    series.SamplesPerPixel, series.PhotometricInterpretation = 1, "MONOCHROME2"
    series.BitsAllocated = series.BitsStored = 16
    series.HighBit, series.PixelRepresentation = 15, 0
    series.RescaleType = "HU" if hounsfield else "US"
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
        setattr(series, name, "")
    for name in ("StudyID", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"):
        setattr(series, name, "")
    series.StudyInstanceUID, series.FrameOfReferenceUID = generate_uid(prefix=None), generate_uid(prefix=None)
    for name in DESCRIPTION:
        if name in image.attributes:
            setattr(series, name, image.attributes[name])
    if hounsfield:
        for name in ("KVP", "AcquisitionNumber"):
            if name not in series:
                setattr(series, name, None)
    if keep_identifiers:
        for name, value in _identifiers(image).items():
            setattr(series, name, value)
    else:
        series.PatientIdentityRemoved = "YES"
        series.DeidentificationMethod = "no identifying element was copied"
    return series


def _identifiers(image: Loaded) -> dict[str, Any]:
    """Those of the DICOM file, or the first of the folder, that the image's grid comes from."""
    source = Path(image.source) if image.source else None
    if source is None or not source.exists():
        raise ValueError(
            "keep_identifiers needs like= to be a DICOM image whose file is still there, "
            f"not {image.source or 'nothing'}"
        )
    if source.is_dir():
        files = folder_files(source)
        if not files:
            raise ValueError(f"keep_identifiers: there are no files in {source}")
        source = files[0]
    with reading(source, DICOM), source.open("rb") as file:
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        return {name: dataset[name].value for name in IDENTIFIERS if name in dataset}


def _write_slice(
    file: Path,
    series: Dataset,
    place: int,
    plane: np.ndarray,
    padding: np.ndarray | None,
    *,
    affine: np.ndarray | None,
    pixel_size: tuple[float, ...] | None,
) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = series.SOPClassUID
    meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    dataset = copy.deepcopy(series)
    dataset.file_meta = meta
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.InstanceNumber = place + 1
    dataset.Rows, dataset.Columns = plane.shape
    _put_pixels(dataset, plane, padding)
    if affine is not None:
        _put_place(dataset, affine, place)
    elif pixel_size is not None:
        dataset.PixelSpacing = [_ds(size) for size in pixel_size[-2:]]
    dataset.save_as(file, enforce_file_format=True)


def _put_pixels(dataset: Dataset, plane: np.ndarray, padding: np.ndarray | None) -> None:
    """Store the values in 16 bits; 0 is padding if there is any."""
    measured = plane if padding is None else plane[~padding]
    low, high = (float(measured.min()), float(measured.max())) if measured.size else (0.0, 1.0)
    first = 0 if padding is None else 1
    steps = LARGEST_STORED - first
    # As the file will say them, with 16 characters: the stored numbers are made with these.
    slope = float(_ds((high - low) / steps if high > low else 1.0))
    intercept = float(_ds(low - first * slope))
    stored = np.clip(np.round((plane.astype(np.float64) - intercept) / slope), first, LARGEST_STORED)
    if padding is not None:
        stored[padding] = 0
        dataset.PixelPaddingValue = 0
    dataset.RescaleSlope, dataset.RescaleIntercept = _ds(slope), _ds(intercept)
    dataset.PixelData = stored.astype("<u2").tobytes()


def _affine(image: Loaded, unit: str, *, own_frame: bool) -> np.ndarray | None:
    """Where the slices lie in DICOM's axes; None for a picture that need not say.

    Raises:
        ValueError: a CT image or a series that cannot say where its slices lie.
    """
    if image.affine is not None:
        affine = LPS_TO_RAS @ image.affine.numpy()
        rows, columns = (affine[:3, axis] / np.linalg.norm(affine[:3, axis]) for axis in (1, 2))
        if abs(rows @ columns) > SAME_DIRECTION:
            raise ValueError(
                "the rows and columns of a DICOM image are perpendicular, those of this one are not"
            )
        return affine
    sizes = image.pixel_size or ()
    if len(sizes) < image.data.ndim or not own_frame:
        if image.data.ndim == 2 and unit != "HU" and own_frame:
            return None
        wanted = "(rows, columns)" if image.data.ndim == 2 else "(slices, rows, columns)"
        raise ValueError(
            "a DICOM series in its patient's frame says where its slices lie: give like= with an affine"
            if not own_frame
            else f"this DICOM series needs the size of a pixel: give like=, or pixel_size={wanted} in mm"
        )
    slices, rows, columns = (1.0, *sizes)[-3:]
    axial = np.diag([columns, rows, slices, 1.0])
    return axial[:, [2, 1, 0, 3]]


def _put_place(dataset: Dataset, affine: np.ndarray, place: int) -> None:
    along_slices, along_column, along_row = (affine[:3, axis] for axis in range(3))
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    cosines = [*(along_row / sizes[2]), *(along_column / sizes[1])]
    dataset.ImageOrientationPatient = [_ds(value) for value in cosines]
    dataset.ImagePositionPatient = [_ds(value) for value in affine[:3, 3] + place * along_slices]
    dataset.PixelSpacing = [_ds(sizes[1]), _ds(sizes[2])]
    dataset.SpacingBetweenSlices = _ds(sizes[0])
    if "SliceThickness" not in dataset:
        dataset.SliceThickness = _ds(sizes[0])


def _ds(value: float) -> str:
    """A decimal string of DICOM: 16 characters at most."""
    return format_number_as_ds(float(value) + 0.0)  # no negative zero
