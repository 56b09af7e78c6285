"""What the commands share: exit codes, tables, JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

OK, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: done; the work failed; the command line was wrong; stopped by Ctrl-C."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
"""The option of every command that can answer a program."""


def console() -> Console:
    """Return a rich console on stdout; tables keep their full width where nobody looks (a pipe, a file)."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)


def new_table(*columns: str) -> Table:
    """Return a borderless table with these columns."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def add_row(table: Table, *cells: str) -> None:
    """Add a row of plain text: brackets in it are no markup."""
    from rich.text import Text

    table.add_row(*(Text(cell) for cell in cells))


def print_json(value: Any) -> None:
    """Print a JSON value on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
