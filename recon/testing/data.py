"""Checks of file readers and datasets: clear errors for what cannot be read, and data without a network."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from recon.entries import ReaderEntry
from recon.loading import Loaded, LoadError
from recon.registry import Found
from recon.testing.measuring import Checks, require


def reader_checks(found: Found) -> Checks:
    """The checks of a reader."""
    return {
        "path_parameter": lambda: check_path_parameter(found),
        "missing_file": lambda: check_missing_file(found),
        "foreign_file": lambda: check_foreign_file(found),
    }


def dataset_checks(found: Found, made: Any) -> Checks:
    """The checks of a dataset."""
    return {"sample": lambda: check_sample(made), "offline": lambda: check_offline(found)}


def check_path_parameter(found: Found) -> None:
    """A reader takes the file as `path`; everything else has a default."""
    parameters = {parameter.name: parameter for parameter in found.parameters()}
    require(
        "path" in parameters,
        f"{found.entry.factory} has no parameter 'path', by which recon.load names the file",
    )
    needed = [name for name, parameter in parameters.items() if parameter.required and name != "path"]
    require(
        not needed,
        f"{found.entry.factory} cannot read a file by its path alone, it needs {', '.join(needed)}: give defaults",
    )


def check_missing_file(found: Found) -> None:
    """A file that is not there raises an OSError or a LoadError that names it."""
    with tempfile.TemporaryDirectory() as folder:
        for suffix in _suffixes(found):
            path = Path(folder) / f"absent{suffix}"
            try:
                found.make({"path": path})
            except (OSError, LoadError) as error:
                require(
                    "absent" in str(error),
                    f"the error for the missing file {path.name} does not name it: {error}",
                )
            else:
                raise AssertionError(
                    f"the missing file {path.name} gives something, expected FileNotFoundError"
                )


def check_foreign_file(found: Found) -> None:
    """A file of noise under the reader's suffix raises a LoadError that names it, whatever the parser raises."""
    content = bytes(range(1, 256)) * 8
    with tempfile.TemporaryDirectory() as folder:
        for suffix in _suffixes(found):
            path = Path(folder) / f"noise{suffix}"
            path.write_bytes(content)
            try:
                found.make({"path": path})
            except LoadError as error:
                require(
                    "noise" in str(error),
                    f"the error for the damaged file {path.name} does not name it: {error}",
                )
            except Exception as error:
                raise AssertionError(
                    f"a {suffix} file of noise raises {type(error).__name__} ({error}), expected a LoadError: "
                    "parse inside `with recon.loading.reading(path, ...)`"
                ) from error


def check_sample(made: Any) -> None:
    """The dataset has data: a `Loaded`, or a sequence whose first item can be read; its numbers are finite."""
    if not isinstance(made, Loaded):
        try:
            require(len(made) > 0, f"the {type(made).__name__} is empty")
            made = made[0]
        except TypeError as error:
            raise AssertionError(
                f"the factory makes a {type(made).__name__}, expected a recon.Loaded or a sequence of samples"
            ) from error
    data = made.data if isinstance(made, Loaded) else made
    if isinstance(data, torch.Tensor):
        require(data.numel() > 0, "the sample is empty")
        require(bool(torch.isfinite(data).all()), "the sample holds NaN or infinite values")


def check_offline(found: Found) -> None:
    """An example loads without the network: examples and tests must run anywhere."""
    with _no_network():
        for example in found.entry.examples:
            found.make(example.kwargs)


@contextlib.contextmanager
def _no_network() -> Iterator[None]:
    """Inside the block, connecting raises."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError(
            "the example of the dataset wants the network, expected data that are on this machine"
        )

    before = socket.socket.connect
    socket.socket.connect = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        socket.socket.connect = before  # type: ignore[method-assign]


def _suffixes(found: Found) -> tuple[str, ...]:
    assert isinstance(found.entry, ReaderEntry)
    return found.entry.suffixes
