"""`recon batch`: reconstruct every scan of a study, on this machine or on many."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recon.commands.existing import check_folder
from recon.commands.options import (
    Again,
    Device,
    Fidelity,
    Force,
    ImageRange,
    Iterations,
    Memory,
    NoiseLevel,
    Prior,
    Scheduler,
    Seed,
    Solver,
    TimeLimit,
    Tolerance,
    Weight,
    Workers,
    given,
)
from recon.commands.wording import typist
from recon.terminal import FAILED, INTERRUPTED, AsJson, add_row, console, new_table, print_json

if TYPE_CHECKING:
    from recon.study import Scan, Study


def batch_command(
    context: typer.Context,
    study: Annotated[
        Path,
        typer.Argument(
            metavar="STUDY", help="A folder of problem files: of `recon simulate` or `Problem.save`."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="The folder for the results, one inside for a scan."
        ),
    ],
    prior: Prior = None,
    solver: Solver = "auto",
    weight: Weight = None,
    iterations: Iterations = None,
    tolerance: Tolerance = None,
    time_limit: TimeLimit = None,
    fidelity: Fidelity = None,
    noise_level: NoiseLevel = None,
    image_range: ImageRange = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    device: Device = None,
    memory: Memory = None,
    seed: Seed = 0,
    report: Annotated[bool, typer.Option("--report", help="Also write a report.html for each scan.")] = False,
    again: Again = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Reconstruct every scan of a study.

    A scan that fails is reported and the others go on; run again, the command goes on where it stopped, and skips the
    scans whose file and options are those of their result. Writes batch.json, batch.csv and index.html beside
    the results. The exit code is 1 if a scan failed.
    """
    if scheduler is not None and workers is not None:
        raise typer.BadParameter(
            "a running scheduler has its own workers: leave one out", param_hint="--workers"
        )
    with redirect_stdout(sys.stderr):
        from recon.study import solve_all

        check_folder(output, lambda folder: (folder / "batch.json").is_file(), force=force)
        result = solve_all(
            study,
            output,
            prior,
            solver=solver,
            weight=weight,
            fidelity=fidelity,
            noise_level=noise_level,
            image_range=image_range,
            limits=given(iterations=iterations, tolerance=tolerance, time_limit=time_limit),
            seed=seed,
            device=device,
            memory=memory,
            scheduler=scheduler,
            workers=workers,
            report=report,
            again=again,
            tell=partial(_tell, typist(context.command)),
        )
    if as_json:
        print_json(_as_dict(result))
    else:
        _print(result, typist(context.command))
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)
    if result.failed:
        raise typer.Exit(FAILED)


def _tell(typed: Callable[[str], str], scan: Scan, done: int, total: int) -> None:
    said = typed(scan.error) if scan.status == "failed" else f"{scan.reason}, {scan.seconds:.2f} s"
    typer.echo(f"{done}/{total} {scan.name}: {scan.status}, {said}", err=True)


def _as_dict(study: Study) -> dict[str, object]:
    return {
        "interrupted": study.interrupted,
        "seconds": study.seconds,
        "scans": [dataclasses.asdict(scan) for scan in study.scans],
        "written": [str(study.output / name) for name in ("batch.json", "batch.csv", "index.html")],
    }


def _print(study: Study, typed: Callable[[str], str]) -> None:
    metrics = list(dict.fromkeys(name for scan in study.scans for name in scan.scores))
    table = new_table("scan", "status", *metrics, "iterations", "seconds", "stopped by")
    for scan in study.scans:
        status = f"{scan.status} before" if scan.skipped else scan.status
        scores = [f"{scan.scores[name]:.4g}" if name in scan.scores else "" for name in metrics]
        if scan.status == "finished":
            facts = [str(scan.iterations), f"{scan.seconds:.2f}", scan.reason]
        else:
            facts = ["", "", typed(scan.error)]
        add_row(table, scan.name, status, *scores, *facts)
    console().print(table)
    typer.echo(f"written: {study.output}: batch.json, batch.csv, index.html")
