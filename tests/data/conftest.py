"""Files for the readers' tests, written by the libraries that define the formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid


@pytest.fixture
def write_dicom(tmp_path: Path) -> Callable[..., Path]:
    """Write a small DICOM file of the given stored pixels; keyword arguments are its other elements."""

    def write(
        pixels: np.ndarray, *, implicit: bool = False, name: str = "image.dcm", **elements: Any
    ) -> Path:
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset = FileDataset(None, Dataset(), file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        dataset.Modality = "CT"
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.Rows, dataset.Columns = pixels.shape[-2:]
        dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        dataset.PixelData = pixels.tobytes()
        for keyword, value in elements.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        path = tmp_path / name
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def write_series(write_dicom: Callable[..., Path], tmp_path: Path) -> Callable[..., list[Path]]:
    """Write a volume as DICOM slices whose names say nothing about their order; returns the files in order."""

    def write(
        volume: np.ndarray,
        folder: str = "series",
        *,
        orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
        origin: tuple[float, ...] = (0, 0, 0),
        spacing: tuple[float, float] = (1, 1),
        step: tuple[float, ...] = (0, 0, 2),
        uid: str | None = None,
        suffix: str = ".dcm",
        **elements: Any,
    ) -> list[Path]:
        (tmp_path / folder).mkdir(exist_ok=True, parents=True)
        uid = uid or generate_uid()
        paths = []
        for place, pixels in enumerate(volume):
            there = len(list((tmp_path / folder).iterdir()))
            name = f"{folder}/{7919 * (there + 1) % 10007:05d}{suffix}"
            position = [float(o + place * s) for o, s in zip(origin, step, strict=True)]
            about = {"RescaleSlope": 1, "RescaleIntercept": -1024, "SeriesNumber": 7, "InstanceNumber": 1}
            about |= {"ImagePositionPatient": position, "ImageOrientationPatient": list(orientation)}
            about |= {"PixelSpacing": list(spacing), "SeriesInstanceUID": uid}
            about |= {
                key: value[place] if isinstance(value, list) else value for key, value in elements.items()
            }
            about = {key: value for key, value in about.items() if value is not None}
            paths.append(write_dicom(pixels, name=name, **about))
        return paths

    return write


def write_matlab_73(path: Path, fill: Callable[[h5py.File], None]) -> Path:
    """Write a MATLAB 7.3 file as MATLAB does: HDF5 behind a block of 512 bytes that opens with a text."""
    with h5py.File(path, "w", userblock_size=512) as file:
        fill(file)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def put_matlab_73(group: h5py.Group, name: str, values: np.ndarray, matlab_class: str) -> None:
    """Add a numeric array as MATLAB 7.3 stores it: axes reversed, complex numbers as pairs (real, imag)."""
    values = values.T
    if np.iscomplexobj(values):
        pairs = np.empty(values.shape, [("real", values.real.dtype), ("imag", values.imag.dtype)])
        pairs["real"], pairs["imag"] = values.real, values.imag
        values = pairs
    group.create_dataset(name, data=values).attrs["MATLAB_class"] = np.bytes_(matlab_class)


@pytest.fixture
def matlab_73() -> tuple[Callable[..., Path], Callable[..., None]]:
    """The two functions that write MATLAB 7.3 files."""
    return write_matlab_73, put_matlab_73
