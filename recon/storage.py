"""Problems as HDF5 files that hold everything to solve and to judge, and open on another machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from recon import registry
from recon.algebra import Adjoint, Combination, Composition, Gram, Scaled, Stack, Sum
from recon.archive import FormatError, read_archive, write_archive
from recon.channelwise import Channelwise
from recon.linear import LinearOperator
from recon.problem import Problem
from recon.provenance import environment, identify

__all__ = ["FORMAT", "FormatError", "load_problem", "save_problem"]

FORMAT = "recon problem 2"

# Operators made of others, by their names in a file.
COMBINATIONS: dict[str, type[Combination]] = {
    "adjoint": Adjoint,
    "channelwise": Channelwise,
    "composition": Composition,
    "gram": Gram,
    "scaled": Scaled,
    "stack": Stack,
    "sum": Sum,
}


def save_problem(problem: Problem, path: str | Path) -> Path:
    """Write operator, data, data term, start, reference and notes.

    The operator is stored by its registered name and arguments (arrays and the contents of files named among
    them included), so it must be a registered one, or a sum, product, stack, multiple, adjoint or Gram operator
    of such. The prior is not stored: a file poses the problem, `solve` answers it.

    Raises:
        TypeError: an operator that is not registered by any plugin, or an argument or note that cannot be stored.
    """
    path = Path(path)
    arrays = {"data": problem.data}
    for label in ("x0", "reference"):
        image = getattr(problem, label)
        if image is not None:
            arrays[label] = problem.unflatten(image)
    for label, value in problem.fidelity.parameters().items():
        if isinstance(value, torch.nn.Module):
            raise TypeError(
                f"the data term {problem.fidelity.name!r} holds a network, which a problem file does not store: pose "
                "the problem anew where it is solved"
            )
        if value is not None:
            arrays[f"fidelity/{label}"] = torch.as_tensor(value)
    operator = _operator_record(arrays, "operator", problem.operator)
    try:
        json.dumps(problem.notes)
    except (TypeError, ValueError) as error:
        raise TypeError(f"the problem's notes cannot be stored: {error}; keep plain values there") from None
    record = {
        "operator": operator,
        "fidelity": problem.fidelity.name,
        "image_range": problem.image_range,
        "notes": problem.notes,
        "environment": environment(),
    }
    write_archive(path, FORMAT, record, arrays)
    return path


def load_problem(path: str | Path) -> Problem:
    """Read what `save_problem` wrote; the operator is made by the installed plugin of that name.

    Raises:
        FileNotFoundError: no such file.
        FormatError: not such a file, or a damaged one.
        LookupError: the plugin that has the operator is not installed.
        TypeError, ValueError: the installed one does not take these arguments.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    record, arrays = read_archive(path, FORMAT)
    terms = {
        name.removeprefix("fidelity/"): value
        for name, value in arrays.items()
        if name.startswith("fidelity/")
    }
    bounds = record["image_range"]
    problem = Problem(
        _operator_of(record["operator"], arrays),
        arrays["data"],
        fidelity=(record["fidelity"], terms),
        x0=arrays.get("x0"),
        reference=arrays.get("reference"),
        image_range=None if bounds is None else (bounds[0], bounds[1]),
    )
    problem.notes = record["notes"]
    return problem


def open_problem(
    file: h5py.File, path: Path
) -> tuple[LinearOperator, h5py.Dataset, Any, dict[str, Any], tuple[float, float] | None]:
    """Operator, data, data term, notes and range of the images of an open file, the data left where they are.

    Nothing compares the checksum: that would read all of the file.

    Raises:
        FormatError: not a problem file of this version.
    """
    if file.attrs.get("format") != FORMAT:
        raise FormatError(f"{path} is HDF5 but not a recon problem of this version")
    record = json.loads(str(file["record"].asstr()[()]))
    arrays: dict[str, Tensor] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and name.partition("/")[0] in ("operator", "fidelity"):
            arrays[name] = torch.from_numpy(np.asarray(item[()]))

    file["arrays"].visititems(keep)
    terms = {
        name.removeprefix("fidelity/"): value
        for name, value in arrays.items()
        if name.startswith("fidelity/")
    }
    operator = _operator_of(record["operator"], arrays)
    bounds = record["image_range"]
    image_range = None if bounds is None else (bounds[0], bounds[1])
    return operator, file["arrays/data"], (record["fidelity"], terms), record["notes"], image_range


def _operator_record(arrays: dict[str, Tensor], name: str, operator: LinearOperator) -> dict[str, Any]:
    """The registered name and arguments of an operator, or the combination that it is; arrays go beside it."""
    kind = next((label for label, found in COMBINATIONS.items() if type(operator) is found), None)
    if kind is not None:
        assert isinstance(operator, Combination)
        parts = [
            _operator_record(arrays, f"{name}/{place}", part) for place, part in enumerate(operator.parts)
        ]
        own: dict[str, Any] = {}
        if isinstance(operator, Scaled):
            own = {"factor": _store(arrays, name, operator.factor)}
        elif isinstance(operator, Channelwise):
            own = {"channels": operator.channels, "axis": operator.axis}
        return {"combination": kind, "parts": parts, **own}
    known = identify("operator", operator)
    if known is None:
        raise TypeError(
            f"{type(operator).__name__} is not registered by a plugin, so a file could not name it: "
            "register it (recon.OperatorEntry), or save the data alone"
        )
    registered, version, arguments = known
    stored = {key: _store(arrays, f"{name}/{key}", value) for key, value in arguments.items()}
    return {"name": registered, "version": version, "arguments": stored}


def _operator_of(record: Mapping[str, Any], arrays: Mapping[str, Tensor]) -> LinearOperator:
    """The operator of an `_operator_record`."""
    if "combination" not in record:
        arguments = {key: _restore(arrays, value) for key, value in record["arguments"].items()}
        made: LinearOperator = registry.make("operator", (record["name"], arguments))
        return made
    kind, parts = record["combination"], [_operator_of(part, arrays) for part in record["parts"]]
    if kind == "scaled":
        return Scaled(parts[0], _restore(arrays, record["factor"]))
    if kind == "channelwise":
        return Channelwise(parts[0], record["channels"], record["axis"])
    if kind == "composition":
        return Composition(parts[0], parts[1])
    if kind in ("sum", "stack"):
        return Sum(parts) if kind == "sum" else Stack(parts)
    if kind in ("adjoint", "gram"):
        return Adjoint(parts[0]) if kind == "adjoint" else Gram(parts[0])
    raise FormatError(
        f"an operator that is a {kind!r} of others; this version knows {', '.join(COMBINATIONS)}"
    )


def _store(arrays: dict[str, Tensor], name: str, value: Any) -> Any:
    """A JSON value for an argument; arrays, and the contents of files it names, go beside it."""
    if _is_file(value):
        from recon.loading import load

        value = load(value).data
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        value = torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C"))
    if hasattr(value, "tocsr") or (isinstance(value, Tensor) and value.layout != torch.strided):
        return _store_sparse(arrays, name, value)
    if isinstance(value, Tensor):
        arrays[name] = value.detach()
        return {"array": name}
    if isinstance(value, list | tuple):
        return [_store(arrays, f"{name}.{place}", item) for place, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {"mapping": {str(key): _store(arrays, f"{name}.{key}", item) for key, item in value.items()}}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    argument = name.rpartition("/")[2].partition(".")[0]
    raise TypeError(f"operator argument {argument} of type {type(value).__name__} cannot be stored in a file")


def _store_sparse(arrays: dict[str, Tensor], name: str, value: Any) -> Any:
    """A sparse tensor, or a sparse matrix of SciPy, as its entries and their rows and columns."""
    if isinstance(value, Tensor):
        entries = value.detach().cpu().to_sparse_coo().coalesce()
        arrays[f"{name}.indices"], arrays[f"{name}.values"] = entries.indices(), entries.values()
    else:
        matrix = value.tocoo()
        rows, columns = (torch.from_numpy(axis.astype(np.int64)) for axis in (matrix.row, matrix.col))
        arrays[f"{name}.indices"] = torch.stack([rows, columns])
        # what sparse tensors know: whole numbers of one kind, and no more than double precision
        kind = {"c": np.complex128, "f": np.float64}.get(matrix.dtype.kind, np.int64)
        plain = matrix.dtype in (np.float32, np.float64, np.complex64, np.complex128)
        arrays[f"{name}.values"] = torch.from_numpy(matrix.data if plain else matrix.data.astype(kind))
    return {"sparse": [name, list(value.shape)]}


def _restore_sparse(arrays: Mapping[str, Tensor], name: str, shape: list[int]) -> Tensor:
    return torch.sparse_coo_tensor(
        arrays[f"{name}.indices"], arrays[f"{name}.values"], shape, check_invariants=True
    )


def _is_file(value: Any) -> bool:
    """Whether an argument names a file; a name without suffix ("box") is a name, whatever lies in the folder."""
    return isinstance(value, str | Path) and Path(value).suffix != "" and Path(value).is_file()


def _restore(arrays: Mapping[str, Tensor], value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_restore(arrays, item) for item in value)
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return arrays[content]
    if kind == "sparse":
        return _restore_sparse(arrays, *content)
    if kind == "complex":
        return complex(*content)
    return {key: _restore(arrays, item) for key, item in content.items()}
