"""What made a result: names, versions and arguments of operator, prior and solver, and of the libraries."""

from __future__ import annotations

import datetime
import inspect
import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon import registry


def identify(kind: str, thing: Any) -> tuple[str, str, dict[str, Any]] | None:
    """The registered name (``dist/name``), version and arguments that make ``thing`` again, or None.

    Found by the mark the registry leaves, else by the class and the constructor's arguments.
    """
    origin = getattr(thing, "recon_origin", None)
    if origin is not None:
        return origin.name, origin.version, dict(origin.arguments)
    arguments = getattr(thing, "constructor_arguments", None)
    found = registry.find_by_factory(kind, f"{type(thing).__module__}:{type(thing).__qualname__}")
    if found is None or arguments is None:
        return None
    bound = inspect.signature(type(thing)).bind(*arguments[0], **arguments[1])
    return found.name, found.version, dict(bound.arguments)


def describe(kind: str, thing: Any) -> dict[str, Any]:
    """A record of ``thing`` for people and JSON; arrays are named by shape and dtype, not copied."""
    if thing is None:
        return {"name": "none"}
    known = identify(kind, thing) if registry.installed() is not None else None
    if known is None:
        return {"name": f"{type(thing).__module__}.{type(thing).__qualname__}", "text": repr(thing)}
    name, version, arguments = known
    record = {
        "name": name,
        "version": version,
        "arguments": {key: plain(value) for key, value in arguments.items()},
    }
    backend = getattr(thing, "backend", None)  # what computed it, where the arguments leave that open
    return record if backend is None else record | {"backend": plain(backend)}


def plain(value: Any) -> Any:
    """A value that JSON can hold; arrays become a short text."""
    if isinstance(value, Tensor | np.ndarray):
        if (value.size if isinstance(value, np.ndarray) else value.numel()) != 1:
            return f"array {tuple(value.shape)} {value.dtype}"
        value = value.item()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value] if len(value) <= 16 else f"{len(value)} values"
    if isinstance(value, PurePath):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def environment() -> dict[str, str]:
    """Versions, machine, time and command line."""
    from importlib.metadata import version

    return {
        "recon": version("recon"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": _command(),
    }


def _command() -> str:
    """The command line as it was typed, fit for a shell; of the program only its name."""
    program, *arguments = sys.argv or [""]
    name = PurePath(program).name
    if name == "ipykernel_launcher.py":  # its argument is a file in the home folder
        return "a notebook"
    return shlex.join([name, *arguments])
