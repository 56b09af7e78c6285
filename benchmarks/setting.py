"""What every benchmark prints with its figures: versions, machine, date, command."""

from __future__ import annotations

import datetime
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import torch
from rich.console import Console
from rich.table import Table


def environment() -> dict[str, str]:
    """Versions, machine, date and command of this run."""
    found = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "command": " ".join(sys.argv)}
    for package in (
        "recon",
        "torch",
        "numpy",
        "scipy",
        "numba",
        "finufft",
        "astra-toolbox",
        "deepinv",
        "odl",
        "sigpy",
    ):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return found | {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {device}",
    }


def print_table(rows: list[dict]) -> None:
    """Rows of equal keys as a table, under the environment."""
    console = Console(width=140)
    console.print(" | ".join(f"{key} {value}" for key, value in environment().items()), style="dim")
    table = Table(*(str(key) for key in rows[0]))
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
