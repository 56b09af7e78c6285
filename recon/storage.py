"""Problems as HDF5 files that hold everything to solve and to judge, and open on another machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from recon import registry
from recon.files import written_whole
from recon.problem import Problem
from recon.provenance import environment, identify

FORMAT = "recon problem 1"


class FormatError(ValueError):
    """A file is not a problem that `save_problem` wrote."""


def save_problem(problem: Problem, path: str | Path) -> Path:
    """Write operator, data, data term, start, reference and notes.

    The operator is stored by its registered name and arguments (arrays and the contents of files named among
    them included), so it must be a registered one; the prior is not stored: a file poses the problem, `solve`
    answers it.

    Raises:
        TypeError: an operator that is not registered by any plugin, or an argument that cannot be stored.
    """
    known = identify("operator", problem.operator)
    if known is None:
        raise TypeError(
            f"{type(problem.operator).__name__} is not registered by a plugin, so a file could not name it: "
            "register it (recon.OperatorEntry), or save the data alone"
        )
    name, version, arguments = known
    path = Path(path)
    with written_whole(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["environment"] = json.dumps(environment())
        file.attrs["notes"] = json.dumps(problem.notes)
        file["data"] = problem.data.cpu().numpy()
        for label in ("x0", "reference"):
            image = getattr(problem, label)
            if image is not None:
                file[label] = problem.unflatten(image).cpu().numpy()
        if problem.image_range is not None:
            file.attrs["image_range"] = problem.image_range
        group = file.create_group("operator")
        group.attrs["name"], group.attrs["version"] = name, version
        group.attrs["arguments"] = json.dumps({key: _store(group, key, arguments[key]) for key in arguments})
        fidelity = file.create_group("fidelity")
        fidelity.attrs["name"] = problem.fidelity.name
        for label in ("weights", "noise_level"):
            value = getattr(problem.fidelity, label)
            if value is not None:
                fidelity[label] = value.cpu().numpy()
    return path


def load_problem(path: str | Path) -> Problem:
    """Read what `save_problem` wrote; the operator is made by the installed plugin of that name.

    Raises:
        FileNotFoundError: no such file.
        FormatError: not such a file, or a damaged one.
        LookupError: the plugin that has the operator is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise FormatError(
                    f"{path} is HDF5 but not a recon problem (its format is {file.attrs.get('format')!r}): "
                    "read plain HDF5 with recon.load"
                )
            contents = _read(file)
    except OSError as error:
        raise FormatError(f"{path} cannot be read as HDF5 ({error}): is it complete?") from None
    except (KeyError, json.JSONDecodeError) as error:
        raise FormatError(f"{path} is damaged: {error}") from None
    operator = registry.make("operator", (contents.pop("operator"), contents.pop("arguments")))
    problem = Problem(operator, contents.pop("data"), **contents.pop("options"))
    problem.notes = contents.pop("notes")
    return problem


def _read(file: h5py.File) -> dict[str, Any]:
    group, fidelity = file["operator"], file["fidelity"]
    stored = json.loads(group.attrs["arguments"])
    terms = {key: torch.from_numpy(np.asarray(fidelity[key])) for key in fidelity}
    options: dict[str, Any] = {
        key: torch.from_numpy(file[key][()]) for key in ("x0", "reference") if key in file
    }
    if "image_range" in file.attrs:
        options["image_range"] = tuple(float(value) for value in file.attrs["image_range"])
    return {
        "operator": str(group.attrs["name"]),
        "arguments": {key: _restore(group, value) for key, value in stored.items()},
        "data": torch.from_numpy(file["data"][()]),
        "options": {"fidelity": (str(fidelity.attrs["name"]), terms), **options},
        "notes": json.loads(file.attrs["notes"]),
    }


def _store(group: h5py.Group, key: str, value: Any) -> Any:
    """A JSON value for an argument; arrays, and files it names, become datasets beside it."""
    if isinstance(value, str) and Path(value).is_file():
        from recon.loading import load

        value = load(value).data
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        group[key] = value
        return {"dataset": key}
    if isinstance(value, list | tuple):
        return [_store(group, f"{key}.{place}", item) for place, item in enumerate(value)]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"operator argument {key} of type {type(value).__name__} cannot be stored in a file")


def _restore(group: h5py.Group, value: Any) -> Any:
    if isinstance(value, dict):
        return torch.from_numpy(group[value["dataset"]][()])
    if isinstance(value, list):
        return tuple(_restore(group, item) for item in value)
    return value
