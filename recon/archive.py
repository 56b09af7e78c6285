"""HDF5 files of one JSON record and named arrays, with a checksum: what solutions and problems are kept in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from recon.files import written_whole


class FormatError(ValueError):
    """A file is not of the format it should be, or damaged."""


def write_archive(path: Path, form: str, record: Mapping[str, Any], arrays: Mapping[str, Tensor]) -> None:
    """Write a file, whole or not at all.

    Args:
        path: the file.
        form: name and version of the format, an attribute of the file.
        record: what JSON can hold.
        arrays: name (``/`` makes groups) to tensor.
    """
    text = json.dumps(record)
    values = {name: array_of(tensor) for name, tensor in arrays.items()}
    with written_whole(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = form
        file.attrs["checksum"] = _checksum(text, values)
        file["record"] = text
        for name, array in values.items():
            file[f"arrays/{name}"] = array


def read_archive(path: Path, form: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write_archive` wrote: the record and the arrays.

    Raises:
        FormatError: not HDF5, another format, or damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            found = file.attrs.get("format")
            if found != form:
                kind = form.rpartition(" ")[0]
                raise FormatError(f"{path} is HDF5 but not a {kind} (its format is {found!r}, not {form!r})")
            text = str(file["record"].asstr()[()])
            values: dict[str, Any] = {}
            if "arrays" in file:
                file["arrays"].visititems(
                    lambda name, item: (
                        values.update({name: np.asarray(item[()])})
                        if isinstance(item, h5py.Dataset)
                        else None
                    )
                )
            whole = file.attrs["checksum"] == _checksum(text, values)
    except FormatError:
        raise
    # HDF5 reports damage in as many ways as there are bytes
    except (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError) as error:
        raise FormatError(f"{path} cannot be read as HDF5 ({error}): is it complete?") from None
    if not whole:
        raise FormatError(f"{path} is damaged: its checksum does not fit its contents")
    return json.loads(text), {name: torch.from_numpy(array) for name, array in values.items()}


def write_archive_in_parts(
    path: Path, form: str, record: Mapping[str, Any], name: str, shape: Sequence[int], parts: Iterable[Tensor]
) -> None:
    """Write a file with one array that does not fit into memory, whole or not at all.

    Args:
        path: the file.
        form: name and version of the format.
        record: what JSON can hold.
        name: of the array.
        shape: of the array.
        parts: of the array along its first axis, one after the other, all of one dtype.
    """
    text = json.dumps(record)
    digest = hashlib.sha256(text.encode())
    with written_whole(path) as temporary, h5py.File(temporary, "w") as file:
        place, data = 0, None
        for part in parts:
            array = np.ascontiguousarray(array_of(part))
            if data is None:
                data = file.create_dataset(f"arrays/{name}", shape=tuple(shape), dtype=array.dtype)
                digest.update(f"{name} {array.dtype} {tuple(shape)}".encode())
            data[place : place + len(array)] = array
            digest.update(array.tobytes())
            place += len(array)
        if place != shape[0]:
            raise ValueError(f"{place} of {shape[0]} rows of the array {name!r} were given")
        file.attrs["format"] = form
        file.attrs["checksum"] = digest.hexdigest()
        file["record"] = text


def read_record(path: Path, form: str) -> dict[str, Any]:
    """Only the record of what `write_archive` wrote; the arrays are not read, nor is the checksum compared.

    Raises:
        FormatError: not HDF5, another format, or damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != form:
                raise FormatError(f"{path} is HDF5 but not a {form.rpartition(' ')[0]} of this version")
            found: dict[str, Any] = json.loads(str(file["record"].asstr()[()]))
            return found
    except FormatError:
        raise
    except (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise FormatError(f"{path} cannot be read as HDF5 ({error}): is it complete?") from None


def array_of(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The tensor's values as an array on the CPU."""
    return tensor.detach().cpu().resolve_conj().resolve_neg().numpy()


def _checksum(text: str, arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
