"""Folders that hold what a program made, and are made anew when the program or recon has changed."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "docs"
RECORD = "record.json"
SWITCH = "DOCS_RUN"
_LIMIT = 600  # s, for one program


def may_run() -> bool:
    """Whether programs are run for this build; ``DOCS_RUN=0`` takes what the cache still holds, and nothing else."""
    return os.environ.get(SWITCH, "1") not in ("", "0")


@functools.cache
def sources() -> str:
    """A checksum of everything that an example's result depends on, the libraries apart."""
    total = hashlib.sha256()
    for folder in ("recon", "operators", "plugins"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            total.update(path.relative_to(ROOT).as_posix().encode())
            total.update(path.read_bytes())
    return total.hexdigest()


def made(name: str, command: Sequence[str | Path], program: str) -> Path | None:
    """The folder in which `command` has run, or None if it has not and may not.

    Args:
        name: of the folder.
        command: what to run, in the folder, on one thread.
        program: text that decides together with recon's sources whether it must run again.

    Raises:
        RuntimeError: the program failed; the message ends with what it said.
    """
    folder = CACHE / name
    key = hashlib.sha256(f"{program}\0{sources()}".encode()).hexdigest()
    if _key(folder) == key:
        return folder
    if not may_run():
        return None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
    )
    if done.returncode != 0:
        raise RuntimeError(f"{name} failed with exit code {done.returncode}:\n{done.stderr[-3000:]}")
    (folder / RECORD).write_text(
        json.dumps({"key": key, "printed": done.stdout.replace(f"{ROOT}/", "")}), "utf-8"
    )
    return folder


def printed(folder: Path) -> str:
    """What the program wrote to its standard output."""
    record: dict[str, Any] = json.loads((folder / RECORD).read_text("utf-8"))
    return str(record["printed"])


def python() -> str:
    """The interpreter that builds the site."""
    return sys.executable


def _key(folder: Path) -> str:
    try:
        return str(json.loads((folder / RECORD).read_text("utf-8"))["key"])
    except (OSError, ValueError, KeyError):
        return ""
