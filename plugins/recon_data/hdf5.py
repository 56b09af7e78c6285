"""HDF5 files (also Data Exchange): one dataset of them, with its attributes."""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np

from recon.loading import Loaded, LoadError, reading, to_tensor
from recon.parameters import Param

# No common filter packs tighter (deflate: 1032 to 1), so a damaged size is found before memory is taken.
LARGEST_COMPRESSION = 1100
LISTED = 12

# What only files of a known layout have, and the reader of that layout.
LAYOUTS = {"ismrmrd_header": "fastmri", "dataset/xml": "ismrmrd"}


def read_hdf5(
    path: Annotated[Path, Param("the HDF5 file")],
    *,
    dataset: Annotated[
        str | None,
        Param("path of the dataset, such as exchange/data; needed if the file has several"),
    ] = None,
) -> Loaded:
    """Read one dataset of numbers.

    The unit is the dataset's attribute `units`, if it has one. `attributes` are those of the file and of the
    dataset.

    Raises:
        LoadError: no HDF5 file, damaged, no such dataset, or none named where the file has several; the
            message lists those it has.
    """
    with reading(path, "an HDF5 file") as remarks, h5py.File(path, "r") as file:
        name = _only_dataset(file, path) if dataset is None else dataset
        chosen = file.get(name)
        if not isinstance(chosen, h5py.Dataset):
            raise LoadError(f"{path}: no dataset '{name}'; {_listing(numeric_datasets(file))}")
        array = read_values(chosen, path)
        attributes = plain_attributes(file, path) | plain_attributes(chosen, path)
    if remarks:
        attributes["warnings"] = tuple(remarks)
    unit = attributes.get("units", "")
    return Loaded(
        data=to_tensor(array, f"{path}: dataset '{name}'"),
        unit=unit if isinstance(unit, str) else "",
        attributes=attributes,
        source=str(path),
    )


def _only_dataset(file: h5py.File, path: Path) -> str:
    datasets = numeric_datasets(file)
    if len(datasets) != 1:
        known = next((f"; or reader='{reader}'" for name, reader in LAYOUTS.items() if name in file), "")
        raise LoadError(f"{path}: which dataset? {_listing(datasets)}; choose one with dataset={known}")
    return next(iter(datasets))


def _listing(datasets: dict[str, h5py.Dataset]) -> str:
    if not datasets:
        return "the file has no arrays of numbers"
    shown = [f"{name} {found.shape} {found.dtype}" for name, found in list(datasets.items())[:LISTED]]
    more = f", and {len(datasets) - LISTED} more" if len(datasets) > LISTED else ""
    return f"the file has {', '.join(shown)}{more}"


def numeric_datasets(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Every dataset below `group` that is an array of numbers (scalars and texts are not), by its path."""
    found: dict[str, h5py.Dataset] = {}

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape and item.dtype.kind in "biufc":
            found[name] = item

    group.visititems(collect)
    return found


def read_values(dataset: h5py.Dataset, path: Path, place: Any = ()) -> np.ndarray:
    """The values of a dataset, after a check that the file holds as many bytes as its declared shape needs.

    `place` is the part to read, all of it unless given.

    Numbers, or real and imaginary parts as MATLAB 7.3 stores complex numbers.
    """
    dtype = dataset.dtype
    if dtype.kind not in "biufc" and dtype.names != ("real", "imag"):
        text = h5py.check_string_dtype(dtype) is not None
        raise LoadError(f"{path}: dataset '{dataset.name}' holds {'text' if text else dtype}, not numbers")
    check_size(dataset, path)
    return np.asarray(dataset[place])


def check_size(dataset: h5py.Dataset, path: Path) -> None:
    """Refuse a dataset that declares more bytes than the file holds for it.

    Raises:
        LoadError: never written, or damaged.
    """
    held, needed = dataset.id.get_storage_size(), dataset.nbytes
    elsewhere = dataset.is_virtual or dataset.external is not None
    if needed > held * (1 if dataset.chunks is None else LARGEST_COMPRESSION) and not elsewhere:
        raise LoadError(
            f"{path}: dataset '{dataset.name}' declares {needed} bytes in shape {dataset.shape}, "
            f"but the file holds {held} for it: never written, or damaged"
        )


def plain_attributes(item: h5py.Group | h5py.Dataset, path: Path) -> dict[str, Any]:
    """The attributes that are numbers or texts, as plain values."""
    dtypes = {name: item.attrs.get_id(name).dtype for name in item.attrs}
    if any(dtype.hasobject for dtype in dtypes.values()):
        check_heaps(path)
    return {
        name: _plain(item.attrs[name])
        for name, dtype in dtypes.items()
        if dtype.kind in "biufc" or h5py.check_string_dtype(dtype) is not None
    }


def check_heaps(path: Path) -> None:
    """Refuse a damaged global heap, where texts lie: libhdf5 would read it for ever (HDFGroup/hdf5#1707).

    A heap is a signature, its size, and objects: a number, and the size that leads to the next. Number 0 is
    the free space, whose size counts its head.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for heap in re.finditer(rb"GCOL\x01", content):
            position = heap.start()
            end = position + struct.unpack_from("<Q", content, position + 8)[0]
            position += 16
            while position + 16 <= end:
                number, size = struct.unpack_from("<H6xQ", content, position)
                step = 16 + -(-size // 8) * 8 if number else size
                if step < 16:
                    raise LoadError(f"{path}: an HDF5 file, damaged at byte {position}")
                position += step


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, np.ndarray):
        return tuple(_plain(entry) for entry in value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, list):
        return tuple(_plain(entry) for entry in value)
    return value
