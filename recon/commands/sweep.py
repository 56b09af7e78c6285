"""`recon sweep`: vary parameters, one at a time or all of them, over seeds."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.commands.options import Again, Device, Force, Output, Scheduler, Workers
from recon.commands.wording import typist
from recon.terminal import FAILED, INTERRUPTED, AsJson, add_row, console, new_table, print_json

if TYPE_CHECKING:
    from recon.sweeps.cells import Cell
    from recon.sweeps.running import Sweep


def sweep_command(
    context: typer.Context,
    problem: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A sweep as TOML, or a problem of `recon simulate` or `Problem.save`."
        ),
    ],
    output: Output,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE,...",
            help="A variable and its values, such as lr=0.001,0.01 or prior.scales=3,4,5: any declared parameter "
            "(recon show solver dip), or iterations. May be repeated.",
        ),
    ] = None,
    prior: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC", help="Prior of the base configuration, such as dip or 'dip + tv'; all are summed."
        ),
    ] = None,
    solver: Annotated[
        str | None, typer.Option(metavar="SPEC", help="Algorithm of the base configuration.")
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Length of every run; as the solver stops unless given."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How many seeds, from 0 on; 1 unless given.")
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Every combination of the values, not one variable at a time.")
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="A size of the TOML file: small, unless given, or full, for a GPU."
        ),
    ] = None,
    peak: Annotated[
        float | None,
        typer.Option(
            metavar="VALUE",
            help="Peak of PSNR, of image and data; the largest magnitude of each unless given.",
        ),
    ] = None,
    device: Device = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    again: Again = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Vary parameters of prior, solver, operator or noise, and see what becomes of the image.

    Options replace what a TOML file says. Run again, the command goes on where it stopped, and skips the runs whose
    measurement and settings are those of their result. Writes table.md, table.csv, sweep.json, curves.csv, a picture
    for each variable and index.html. The exit code is 1 if a run failed.
    """
    typed = typist(context.command)
    with redirect_stdout(sys.stderr):
        from recon.sweeps.running import sweep

        result = sweep(
            problem,
            output,
            _vary(vary) if vary else None,
            prior=prior or None,
            solver=solver,
            iterations=iterations,
            seeds=seeds,
            grid=grid or None,
            peak=peak,
            size=size,
            device=device,
            workers=workers,
            scheduler=scheduler,
            again=again,
            force=force,
            tell=partial(_tell, typed),
        )
    if as_json:
        print_json(_as_dict(result))
    else:
        _print(result, typed)
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)
    if result.failed:
        raise typer.Exit(FAILED)


def _vary(options: list[str]) -> dict[str, Any]:
    """The variables of ``--vary``, their values still as text."""
    from recon.parameters import SpecError, values_of

    found: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        name = name.strip()
        try:
            values = values_of(text) if equals and name else []
        except SpecError as error:
            raise typer.BadParameter(str(error), param_hint="--vary") from None
        if not values:
            raise typer.BadParameter(f"{option!r} is not of the form name=value,value", param_hint="--vary")
        if name in found:
            raise typer.BadParameter(f"{name} is given twice", param_hint="--vary")
        found[name] = values
    return found


def _tell(typed: Callable[[str], str], cell: Cell, done: int, total: int) -> None:
    said = typed(cell.error) if cell.status == "failed" else f"{cell.reason}, {cell.seconds:.1f} s"
    score = f", PSNR {cell.scores['psnr']:.2f} dB" if "psnr" in cell.scores else ""
    typer.echo(
        f"{done}/{total} {cell.configuration}, seed {cell.seed}: {cell.status}, {said}{score}", err=True
    )


def _as_dict(result: Sweep) -> dict[str, Any]:
    from recon.parameters import plain
    from recon.report.sweep import summary

    cells = [{**dataclasses.asdict(cell), "settings": plain(cell.settings)} for cell in result.cells]
    for cell in cells:
        del cell["curves"]
    return {
        "title": result.title,
        "size": result.size,
        "interrupted": result.interrupted,
        "seconds": result.seconds,
        "configurations": [{**row, "settings": plain(row["settings"])} for row in summary(result)],
        "cells": cells,
        "written": str(result.output),
    }


def _print(result: Sweep, typed: Callable[[str], str]) -> None:
    from rich.markup import escape

    from recon.report.sweep import cell_text, columns_of, heading, summary, titles_of

    rows, titles = summary(result), titles_of(result)
    scores = columns_of(rows)
    table = new_table("configuration", "runs", *(escape(heading(name, titles)) for name in scores))
    for row in rows:
        add_row(table, row["configuration"], str(row["runs"]), *(cell_text(row, name) for name in scores))
    console().print(table)
    for cell in result.failed:
        typer.echo(f"{cell.configuration}, seed {cell.seed}: {typed(cell.error)}")
    typer.echo(f"written: {result.output}: index.html, table.md, table.csv, sweep.json, curves.csv, pictures")
