"""`recon batch`: reconstruct every scan of a study, on this machine or on many."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recon.commands.existing import check_folder
from recon.commands.solve import _image_range, _limits, _memory, _weight
from recon.terminal import FAILED, INTERRUPTED, AsJson, add_row, console, new_table, print_json

if TYPE_CHECKING:
    from recon.study import Scan, Study


def batch_command(
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
    prior: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="Prior, such as tv (recon list priors); several are summed. Direct without one.",
        ),
    ] = None,
    solver: Annotated[
        str, typer.Option(metavar="SPEC", help="Algorithm, such as admm:rho=0.5 (recon list solvers).")
    ] = "auto",
    weight: Annotated[
        str | None,
        typer.Option(metavar="NUMBER|auto", help="Weight of the prior; the prior's own unless given."),
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, metavar="N", help="Most iterations.")] = None,
    tolerance: Annotated[
        float | None, typer.Option(metavar="T", help="Relative tolerance that counts as converged.")
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(metavar="TIME", help="Most wall time for a scan: 90s, 5min, 2h.")
    ] = None,
    fidelity: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC", help="Data term, such as pwls:photons=1e4; each problem's own unless given."
        ),
    ] = None,
    noise_level: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="STD", help="Noise standard deviation of the data of all scans."),
    ] = None,
    image_range: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Range of the images' values, for learned priors."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="A running dask scheduler, tcp://host:8786; its workers must see the same files under the same names.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Worker processes on this machine; one a core unless given."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="Where the workers solve: cpu, cuda, cuda:1.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Most memory that a worker uses for a scan, such as 4GiB."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of everything random.")] = 0,
    report: Annotated[bool, typer.Option("--report", help="Also write a report.html for each scan.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Solve scans that are finished too.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder that holds other things.")
    ] = False,
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

        limits = _limits(iterations, tolerance, time_limit)
        check_folder(output, lambda folder: (folder / "batch.json").is_file(), force=force)
        result = solve_all(
            study,
            output,
            prior,
            solver=solver,
            weight=_weight(weight),
            fidelity=fidelity,
            noise_level=noise_level,
            image_range=_image_range(image_range),
            limits=limits,
            seed=seed,
            device=device,
            memory=_memory(memory),
            scheduler=scheduler,
            workers=workers,
            report=report,
            again=again,
            tell=_tell,
        )
    if as_json:
        print_json(_as_dict(result))
    else:
        _print(result)
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)
    if result.failed:
        raise typer.Exit(FAILED)


def _tell(scan: Scan, done: int, total: int) -> None:
    said = scan.error if scan.status == "failed" else f"{scan.reason}, {scan.seconds:.2f} s"
    typer.echo(f"{done}/{total} {scan.name}: {scan.status}, {said}", err=True)


def _as_dict(study: Study) -> dict[str, object]:
    return {
        "interrupted": study.interrupted,
        "seconds": study.seconds,
        "scans": [dataclasses.asdict(scan) for scan in study.scans],
        "written": [str(study.output / name) for name in ("batch.json", "batch.csv", "index.html")],
    }


def _print(study: Study) -> None:
    metrics = list(dict.fromkeys(name for scan in study.scans for name in scan.scores))
    table = new_table("scan", "status", *metrics, "iterations", "seconds", "stopped by")
    for scan in study.scans:
        status = f"{scan.status} before" if scan.skipped else scan.status
        scores = [f"{scan.scores[name]:.4g}" if name in scan.scores else "" for name in metrics]
        if scan.status == "finished":
            facts = [str(scan.iterations), f"{scan.seconds:.2f}", scan.reason]
        else:
            facts = ["", "", scan.error]
        add_row(table, scan.name, status, *scores, *facts)
    console().print(table)
    typer.echo(f"written: {study.output}: batch.json, batch.csv, index.html")
