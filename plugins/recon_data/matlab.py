"""MATLAB files, version 4 to 7.3: one numeric variable, or one field of a struct."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import h5py
import numpy as np
import scipy.io

from recon.loading import Loaded, LoadError, describe, read_head, reading, to_tensor
from recon.parameters import Param
from recon_data import mat5
from recon_data.hdf5 import plain_attributes, read_values
from recon_data.mat5 import NUMERIC

MAT5, MAT73 = "a MATLAB 5 file", "a MATLAB 7.3 file"

LISTED = 12


def read_matlab(
    path: Annotated[Path, Param("the .mat file")],
    *,
    variable: Annotated[
        str | None, Param("name of the variable, or struct.field; needed if the file has several arrays")
    ] = None,
) -> Loaded:
    """Read one numeric variable, in MATLAB's own shape and class (a double stays float64).

    Raises:
        LoadError: no MATLAB file, damaged, no such variable, one that is no array of numbers (a struct, cell,
            text, sparse matrix), or none named where the file has several; the message lists what it has.
    """
    with reading(path, MAT5, MAT73) as remarks:
        if h5py.is_hdf5(path):
            name, array = _read_73(path, variable)
        elif describe(read_head(path)) == MAT5:
            name, array = _read_5(path, variable)
        else:
            name, array = _read_4(path, variable)
    return Loaded(
        data=to_tensor(array, f"{path}: variable '{name}'"),
        attributes={"variable": name} | ({"warnings": tuple(remarks)} if remarks else {}),
        source=str(path),
    )


@dataclass
class Contents:
    """What a file has: a description of each variable, by its name."""

    arrays: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)  # arrays inside a struct: "struct.field"
    others: dict[str, str] = field(default_factory=dict)

    def choose(self, variable: str | None, path: Path) -> str:
        """The variable asked for, or the only array; an array inside a struct is never chosen unasked."""
        if variable is None and len(self.arrays) == 1:
            return next(iter(self.arrays))
        if variable in self.arrays or variable in self.fields:
            return variable
        listed = [f"{name} ({what})" for name, what in (self.arrays | self.others | self.fields).items()]
        more = f", and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
        has = f"the file has {', '.join(listed[:LISTED]) or 'no variables'}{more}"
        if variable is None:
            remedy = "; choose one with variable=" if self.arrays or self.fields else ", no array of numbers"
            raise LoadError(f"{path}: which variable? {has}{remedy}")
        if variable in self.others:
            what = f"a {self.others[variable]}, not an array of numbers"
            raise LoadError(f"{path}: '{variable}' is {what}; {has}")
        raise LoadError(f"{path}: no variable '{variable}'; {has}")


# Version 4


def _read_4(path: Path, variable: str | None) -> tuple[str, np.ndarray]:
    contents = Contents()
    with path.open("rb") as file:
        for name, shape, kind in scipy.io.whosmat(file):
            if math.prod(shape) > path.stat().st_size:  # a value takes at least one byte
                raise LoadError(f"{path}: damaged: '{name}' declares the shape {shape}")
            (contents.arrays if kind in NUMERIC else contents.others)[name] = f"{kind} {shape}"
        name = contents.choose(variable, path)
        file.seek(0)
        return name, scipy.io.loadmat(file, variable_names=[name])[name]


# Version 5 to 7


def _read_5(path: Path, variable: str | None) -> tuple[str, np.ndarray]:
    found = mat5.variables(path.read_bytes())
    contents = Contents()
    for name, item in found.items():
        (contents.arrays if item.kind in NUMERIC else contents.others)[name] = str(item)
    fields: dict[str, mat5.Variable] = {}
    for name, item in found.items():
        asked = variable.startswith(f"{name}.") if variable else len(contents.arrays) != 1
        fields |= _fields(item) if asked else {}
    contents.fields = {name: str(item) for name, item in fields.items()}
    name = contents.choose(variable, path)
    return name, (found | fields)[name].values()


def _fields(item: mat5.Variable) -> dict[str, mat5.Variable]:
    """The arrays inside a 1 x 1 struct, at any depth, by their dotted names; no single numbers."""
    found: dict[str, mat5.Variable] = {}
    for inner in item.fields().values():
        if inner.kind in NUMERIC and math.prod(inner.shape) > 1:
            found[inner.name] = inner
        found |= _fields(inner)
    return found


# Version 7.3: HDF5, with the axes of every array reversed


def _read_73(path: Path, variable: str | None) -> tuple[str, np.ndarray]:
    with h5py.File(path, "r") as file:
        contents = _contents_73(file, path)
        name = contents.choose(variable, path)
        array = read_values(file[name.replace(".", "/")], path)
    if array.dtype.names:
        parts = array
        array = np.empty(parts.shape, np.result_type(parts.dtype["real"], np.complex64))
        array.real, array.imag = parts["real"], parts["imag"]
    return name, array.T


def _contents_73(file: h5py.File, path: Path) -> Contents:
    contents = Contents()
    sparse: list[str] = []

    def collect(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if name.startswith("#"):  # #refs#, #subsystem#: where the insides of cells and objects are kept
            return
        kind = str(plain_attributes(item, path).get("MATLAB_class", ""))
        dotted = name.replace("/", ".")
        if "MATLAB_sparse" in item.attrs:
            sparse.append(name)
            contents.others[dotted] = f"sparse {kind}"
        elif isinstance(item, h5py.Group):
            contents.others[dotted] = kind or "group"
        elif name.rpartition("/")[0] in sparse:
            return
        elif kind in NUMERIC and "MATLAB_empty" not in item.attrs:
            if "/" not in name:
                contents.arrays[dotted] = f"{kind} {item.shape[::-1]}"
            elif item.size > 1:
                contents.fields[dotted] = f"{kind} {item.shape[::-1]}"
        else:
            contents.others[dotted] = kind or str(item.dtype)

    file.visititems(collect)
    return contents
