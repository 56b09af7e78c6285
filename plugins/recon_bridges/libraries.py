"""The other libraries: imported when a bridge to them is used, with what to do where one is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

_INSTALL = {
    "cupy": "pip install cupy-cuda12x",
    "deepinv": "pip install 'recon[deepinv]'",
    "odl": "pip install 'recon[odl]'",
    "pylops": "pip install 'recon[pylops]'",
    "sigpy": "pip install 'recon[sigpy]'",
    "transformers": "pip install 'recon[huggingface]'",
}


def library(name: str) -> Any:
    """The library, or a module of it, imported now.

    Raises:
        ImportError: it is not installed, and the message holds the command that installs it; or it does not
            fit the installed torch.
    """
    try:
        with _unchanged_process():
            return import_module(name)
    except RuntimeError as error:
        if "torchvision" not in str(error):
            raise
        raise ImportError(
            f"{name} imports torchvision, and the one that is installed does not fit torch {torch_version()} "
            f"({error}): install the torchvision that was made for it"
        ) from error
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name != package:
            raise  # the library is there, one that it needs is not: its own message says which
        raise ImportError(
            f"this bridge needs {package}, which is not installed: {_INSTALL[package]}"
        ) from None


def torch_version() -> str:
    """The version of torch, with its build."""
    import torch

    return str(torch.__version__)


@contextmanager
def _unchanged_process() -> Iterator[None]:
    """Keep what importing ODL changes for the whole process: NumPy's printing, SciPy's array interface."""
    variable = "SCIPY_ARRAY_API"
    before = os.environ.get(variable)
    import_module("scipy.fft")  # SciPy reads the variable once
    with np.printoptions():
        try:
            yield
        finally:
            if before is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = before
