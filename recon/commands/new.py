"""`recon new`: the package of a new operator, prior or solver."""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from recon.suggestions import did_you_mean


def new_command(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="operator, prior or solver.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the package, such as my-prior.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FOLDER", help="Where the package's own folder is made."),
    ] = Path(),
) -> None:
    """Write the package of a new plugin: a working example to put your own in the place of.

    It holds the class, the entry point by which recon finds it, and tests of everything that recon promises
    its users of such an item. Nothing is installed.
    """
    with redirect_stdout(sys.stderr):
        from recon.scaffold import KINDS, NameNotPossibleError, Names, write_package

        if kind not in KINDS:
            known = ", ".join(KINDS)
            raise typer.BadParameter(
                f"{kind!r} is none of {known}{did_you_mean(kind, KINDS)}", param_hint="KIND"
            )
        try:
            folder = write_package(kind, name, output)
        except NameNotPossibleError as error:
            raise typer.BadParameter(str(error), param_hint="NAME") from None
    typer.echo(f"{folder} holds {KINDS[kind].article} {kind}, its tests and all that pip needs. Next:\n")
    place = str(folder) if folder.is_absolute() else f"./{folder}"  # pip looks for a bare name in its index
    typer.echo(f"  pip install -e {shlex.quote(place)}")
    typer.echo(f"  recon show {kind} {Names(name).module}")
    typer.echo(f"  recon check {name}")
