"""NumPy files: .npy, and one array of an .npz; pickled objects are never loaded."""

from __future__ import annotations

import math
import zipfile
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Annotated, cast

import numpy as np

from recon.loading import Loaded, LoadError, reading, to_tensor
from recon.parameters import Param

NPY, ZIP = "a NumPy array file", "a zip archive"


def read_numpy(
    path: Annotated[Path, Param("the .npy or .npz file")],
    *,
    array: Annotated[str | None, Param("name of the array in an .npz; needed if it holds several")] = None,
) -> Loaded:
    """Read an array of numbers.

    Raises:
        LoadError: no NumPy file, truncated or damaged, Python objects inside, no such array, or none named
            where an .npz has several; the message lists those it has.
    """
    with reading(path, NPY, ZIP) as remarks:
        if zipfile.is_zipfile(path):
            name, values = _from_archive(path, array)
        elif array is not None:
            raise LoadError(f"{path}: holds a single array; array='{array}' is for .npz files")
        else:
            with path.open("rb") as file:
                name, values = "its array", _read_array(file, path.stat().st_size, f"{path}: its array")
    return Loaded(
        data=to_tensor(values, f"{path}: {name}"),
        attributes={"warnings": tuple(remarks)} if remarks else {},
        source=str(path),
    )


def _from_archive(path: Path, array: str | None) -> tuple[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if array is None:
            listing, names = [], []
            for name, info in members.items():
                with archive.open(info) as file:
                    shape, _, dtype = _read_header(file)
                if shape and dtype.kind in "biufc":
                    names.append(name)
                    listing.append(f"{name} {shape} {dtype}")
            if len(names) != 1:
                remedy = "; choose one with array=" if names else ""
                has = ", ".join(listing) or "no arrays of numbers"
                raise LoadError(f"{path}: which array? the file has {has}{remedy}")
            array = names[0]
        if array not in members:
            raise LoadError(f"{path}: no array '{array}'; it has {', '.join(members) or 'none'}")
        name = f"array '{array}'"
        with archive.open(members[array]) as file:
            return name, _read_array(file, members[array].file_size, f"{path}: {name}")


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in column-major order, and dtype; versions 1 and 2 hold all plain numbers."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version} of the NumPy format is not for plain numbers")


def _read_array(file: IO[bytes], size: int, what: str) -> np.ndarray:
    """The one array of a .npy stream of `size` bytes, which must be exactly as long as its header says."""
    shape, column_major, dtype = _read_header(file)
    if dtype.hasobject:
        raise LoadError(f"{what} holds pickled Python objects, never loaded because they can run any code")
    held, needed = size - file.tell(), math.prod(shape) * dtype.itemsize
    if held != needed or min(shape, default=0) < 0:
        raise LoadError(
            f"{what} of shape {shape} and type {dtype} needs {needed} bytes, the file holds {held}: "
            "truncated or damaged"
        )
    values = np.empty(math.prod(shape), dtype)
    if needed and cast(BufferedIOBase, file).readinto(values.data.cast("B")) != needed:
        raise LoadError(f"{what} ends before its {needed} bytes")
    return values.reshape(shape, order="F" if column_major else "C")
