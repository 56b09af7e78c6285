"""fastMRI files: k-space and reconstructions of one examination (Zbontar et al. 2018, arXiv:1811.08839)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import h5py

from recon.loading import Loaded, LoadError, reading, to_tensor
from recon.parameters import Param
from recon_data.hdf5 import check_heaps, check_size, numeric_datasets, read_values
from recon_data.mri_header import Encoding, read_encodings

HDF5 = "an HDF5 file"
ATTRIBUTES = ("acquisition", "max", "norm")  # patient_id is left out


def read_fastmri(
    path: Annotated[Path, Param("the .h5 file")],
    *,
    array: Annotated[str, Param("kspace, reconstruction_rss or reconstruction_esc")] = "kspace",
    slice_number: Annotated[int | None, Param("which slice, from 0; all unless given", ge=0)] = None,
) -> Loaded:
    """Read k-space `(slices, coils, rows, columns)` or images `(slices, rows, columns)`, or those of one slice.

    Single-coil k-space has no coil axis. K-space is centred and orthonormal, as this project's: rows are the
    readout, twice oversampled; columns are the phase encoding. `pixel_size` is that of the image which the
    inverse Fourier transform of the k-space gives, or of the reconstruction. `attributes` has the contrast
    ("acquisition"), what the challenge scales by ("max", "norm"), the sampling mask of a test file ("mask", a
    value a column), and from the header the matrix and field of view [mm], encoded and of the image.

    Raises:
        LoadError: no such file, damaged, or without that array or slice; the message lists the arrays.
    """
    with reading(path, HDF5) as remarks, h5py.File(path, "r") as file:
        dataset = file.get(array)
        if not isinstance(dataset, h5py.Dataset) or dataset.ndim < 3:
            listed = ", ".join(f"{name} {found.shape}" for name, found in numeric_datasets(file).items())
            raise LoadError(f"{path}: no array '{array}' of slices; the file has {listed or 'none'}")
        if slice_number is not None and slice_number >= len(dataset):
            raise LoadError(f"{path}: no slice {slice_number}; it has {len(dataset)}, from 0")
        values = read_values(dataset, path, () if slice_number is None else slice_number)
        encoding = read_header(file, path)
        attributes = _attributes(file, path, encoding)
    if remarks:
        attributes["warnings"] = tuple(remarks)
    return Loaded(
        data=to_tensor(values, f"{path}: '{array}'"),
        pixel_size=None if encoding is None else _pixel_size(encoding, array, values.shape),
        attributes=attributes,
        source=str(path),
    )


def read_header(file: h5py.File, path: Path) -> Encoding | None:
    """What the file's ISMRMRD header says; None if it has none.

    Raises:
        LoadError, ValueError: it is damaged.
    """
    if "ismrmrd_header" not in file:
        return None
    check_heaps(path)
    check_size(file["ismrmrd_header"], path)
    return read_encodings(file["ismrmrd_header"][()])[0]


def _attributes(file: h5py.File, path: Path, encoding: Encoding | None) -> dict[str, Any]:
    if any(file.attrs.get_id(name).dtype.hasobject for name in file.attrs):
        check_heaps(path)
    found: dict[str, Any] = {}
    for name in ATTRIBUTES:
        if name in file.attrs:
            value = file.attrs[name]
            found[name] = str(value) if isinstance(value, str) else float(value)
    if isinstance(file.get("mask"), h5py.Dataset):
        found["mask"] = tuple(bool(value) for value in read_values(file["mask"], path).ravel())
    if encoding is not None:
        found["encoded_matrix"], found["encoded_field_of_view"] = encoding.matrix, encoding.field_of_view
        found["image_matrix"] = encoding.recon_matrix
        found["image_field_of_view"] = encoding.recon_field_of_view
    return found


def _pixel_size(encoding: Encoding, array: str, shape: tuple[int, ...]) -> tuple[float, float] | None:
    """(rows, columns) [mm], where the array has the shape that the header says."""
    matrix, length = encoding.recon_matrix, encoding.recon_field_of_view
    if array == "kspace":
        matrix, length = encoding.matrix, encoding.field_of_view
    if shape[-2:] != matrix[:2]:
        return None
    return length[0] / matrix[0], length[1] / matrix[1]
