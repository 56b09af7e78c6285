"""What lies already where a command is going to write, and whether it may be replaced."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

PROBLEM, SOLUTION = "recon problem", "recon solution"


def kind_of(path: Path) -> str:
    """What recon wrote into an HDF5 file, of any version: `PROBLEM`, `SOLUTION`, or "" for every other file."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            written = str(file.attrs.get("format", ""))
    except (OSError, RuntimeError, KeyError):  # what h5py raises for damaged files
        return ""
    return next((kind for kind in (PROBLEM, SOLUTION) if written.startswith(f"{kind} ")), "")


def check_file(
    path: Path, ours: Callable[[Path], bool], *, force: bool, inputs: tuple[Path, ...] = ()
) -> None:
    """Refuse to write a file where something else would be lost; before any work is done.

    Args:
        path: the file to write.
        ours: whether an existing file is one that the same command wrote, which it may replace.
        force: replace any file.
        inputs: files that are read: never replaced.

    Raises:
        OSError: a folder, an input or a foreign file is there, or the place cannot be written to.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it, such as {path / 'scan.h5'}")
    if path.exists():
        if any(name.exists() and path.samefile(name) for name in inputs):
            raise FileExistsError(f"{path} is the input itself: choose another name for the output")
        if not (force or ours(path)):
            raise FileExistsError(
                f"{path} exists and this command did not write it: choose another name, or say --force"
            )
    _check_writable(path.parent)


def check_folder(folder: Path, ours: Callable[[Path], bool], *, force: bool) -> None:
    """Refuse to write results into a folder that holds other things; before any work is done.

    Files in the folder that the command does not write itself are never touched, with or without `force`.

    Args:
        folder: where results go.
        ours: whether an existing folder holds an earlier result of the same command, which it may replace.
        force: write into any folder.

    Raises:
        OSError: a file is there, the folder holds something else, or it cannot be written to.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, but results go into a folder: choose another name")
    if folder.is_dir() and not force and not ours(folder):
        there = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
        if there:
            shown = ", ".join(there[:3]) + (f" and {len(there) - 3} more" if len(there) > 3 else "")
            raise FileExistsError(
                f"{folder} is not empty and holds no earlier result ({shown}): choose another name, or say "
                "--force"
            )
    _check_writable(folder)


def _check_writable(folder: Path) -> None:
    """Raise if a file could not be written into a folder that may still have to be made."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(f"cannot make the folder {folder}: {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"cannot write into {place}: no permission")
