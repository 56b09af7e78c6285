"""The other libraries: imported when a bridge to them is used, with what to do where one is missing."""

from __future__ import annotations

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
        ImportError: it is not installed; the message holds the command that installs it.
    """
    try:
        with np.printoptions():  # ODL changes how NumPy prints for the whole process
            return import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name != package:
            raise  # the library is there, one that it needs is not: its own message says which
        raise ImportError(
            f"this bridge needs {package}, which is not installed: {_INSTALL[package]}"
        ) from None
