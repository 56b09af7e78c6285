"""`recon solve`: reconstruct the image of a problem file."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.commands.existing import SOLUTION, check_folder, kind_of
from recon.commands.options import (
    Device,
    Fidelity,
    Force,
    ImageRange,
    Iterations,
    Memory,
    NoiseLevel,
    Output,
    Prior,
    Seed,
    Solver,
    TimeLimit,
    Tolerance,
    Weight,
    given,
    usable_device,
)
from recon.commands.scores import metrics_for, score_as_dict, score_row
from recon.commands.wording import typist
from recon.parameters import plain
from recon.terminal import INTERRUPTED, AsJson, add_row, console, new_table, print_json

if TYPE_CHECKING:
    from recon.metrics import Metric, Score
    from recon.solution import Solution


def solve_command(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A problem: of `recon simulate` or `Problem.save`.")
    ],
    output: Output,
    prior: Prior = None,
    solver: Solver = "auto",
    weight: Weight = None,
    iterations: Iterations = None,
    tolerance: Tolerance = None,
    time_limit: TimeLimit = None,
    fidelity: Fidelity = None,
    noise_level: NoiseLevel = None,
    image_range: ImageRange = None,
    report: Annotated[bool, typer.Option("--report", help="Also write report.html.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what was chosen, from what, and why it stopped.")
    ] = False,
    uncertainty: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="N",
            help="Also solve N times on data with new noise: how far noise moves the image, in uncertainty.png, in the "
            "report and as maps in solution.h5.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Holds the whole state every 30 s; an existing one is resumed."),
    ] = None,
    device: Device = None,
    memory: Memory = None,
    seed: Seed = 0,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Reconstruct the image of a problem file.

    Writes solution.h5 and image.png into a folder, with --uncertainty also uncertainty.png. Ctrl-C ends the
    iteration: the image so far is written, marked as interrupted, and the exit code is 130.
    """
    with redirect_stdout(sys.stderr):
        from recon import runner
        from recon.scans import LimitError, ScanOptions, solve_file

        place = usable_device(device)
        check_folder(output, _holds_solution, force=force)
        replaces = _holds_solution(output)
        options = ScanOptions(
            prior=prior,
            solver=solver,
            weight=weight,
            limits=given(iterations=iterations, tolerance=tolerance, time_limit=time_limit),
            fidelity=fidelity,
            noise_level=noise_level,
            image_range=image_range,
            device=place,
            seed=seed,
            memory=memory,
        )
        try:
            solution = solve_file(file, options, checkpoint=checkpoint)
        except LimitError as error:
            name, _, text = str(error).partition(": ")
            raise typer.BadParameter(text, param_hint=f"--{name.replace('_', '-')}") from None
        notes = solution.provenance["problem"]["notes"]
        if uncertainty is not None and runner.INTERRUPTED not in solution.reasons:
            solution.uncertainty(uncertainty, seed=seed)
        unit = str(notes.get("unit", ""))
        solution.save(output)
        scored, missing = _scored(solution, unit, notes.get("water"))
        scores = [score for _, score in scored]
        if report:
            metrics = [metric for metric, _ in scored] or None
            title = f"Reconstruction of {file.name}"
            solution.report(output / "report.html", unit=unit, metrics=metrics, title=title)
        written = _written(solution, output, report=report, replaces=replaces)
    for message in missing:
        typer.secho(f"warning: {message}", fg="yellow", err=True)
    if as_json:
        print_json(_as_dict(solution, scores, written))
    else:
        _print(solution, scores, unit, written)
        if explain:
            typer.echo(f"\n{typist(context.command)(solution.explain())}")
    if runner.INTERRUPTED in solution.reasons:
        raise typer.Exit(INTERRUPTED)


def _holds_solution(folder: Path) -> bool:
    return kind_of(folder / "solution.h5") == SOLUTION


def _written(solution: Solution, folder: Path, *, report: bool, replaces: bool) -> list[Path]:
    """What was written; what else is there of the result just replaced goes."""
    pictures = solution.item_ndim in (2, 3)
    made = {
        "solution.h5": True,
        "image.png": pictures,
        "uncertainty.png": pictures and solution.error_bars is not None,
        "report.html": report,
    }
    for name in (name for name, now in made.items() if replaces and not now):
        (folder / name).unlink(missing_ok=True)
    return [folder / name for name, now in made.items() if now]


def _scored(
    solution: Solution, unit: str, water: float | None
) -> tuple[list[tuple[Metric, Score]], list[str]]:
    """The metrics and scores against the problem's reference, and why some could not be had."""
    problem = solution.problem
    if problem is None or problem.reference is None:
        return [], []
    reference = problem.unflatten(problem.reference)
    scored, missing = [], []
    for metric in metrics_for(problem.operator.domain_shape, unit, water):
        try:
            score = metric.score(solution.image, reference, item_ndim=solution.item_ndim)
        except ValueError as error:
            missing.append(str(error))
        else:
            scored.append((metric, score))
    return scored, missing


def _weights_in_words(solution: Solution) -> str:
    """The weights of the priors, chosen or given."""
    if solution.weight is not None:
        values = solution.weight if isinstance(solution.weight, list) else [solution.weight]
        origin = {"sure": "by SURE", "lcurve": "by the L-curve"}.get(
            solution.facts["weight_rule"], "from the noise level"
        )
        return f"{', '.join(f'{value:.4g}' for value in values)} ({origin})"
    given = [member["weight"] for member in solution.facts["priors"]]
    return ", ".join(f"{weight:.4g}" for weight in given if weight is not None)


def _as_dict(solution: Solution, scores: list[Score], written: list[Path]) -> dict[str, Any]:
    from recon.explanation import explanation

    return {
        "image_shape": list(solution.image.shape),
        "scores": [score_as_dict(score) for score in scores],
        "iterations": solution.iterations,
        "seconds": solution.seconds,
        "reason": solution.reason,
        "converged": solution.converged,
        "weight": plain(solution.weight),
        "peak_memory": solution.peak_memory,
        "provenance": plain(solution.provenance),
        "uncertainty": None if solution.error_bars is None else solution.error_bars.record(),
        "explanation": [
            {"heading": heading, "sentences": sentences} for heading, sentences in explanation(solution)
        ],
        "written": [str(path) for path in written],
    }


def _print(solution: Solution, scores: list[Score], unit: str, written: list[Path]) -> None:
    from recon.memory import in_words

    table = new_table("", "", "")
    table.show_header = False
    for score in scores:
        add_row(table, *score_row(score, unit))
    add_row(table, "iterations", str(solution.iterations), "")
    add_row(table, "seconds", f"{solution.seconds:.2f}", "")
    add_row(table, "stopped by", solution.reason, "converged" if solution.converged else "not converged")
    if solution.peak_memory is not None:
        at_once = solution.provenance.get("items_at_once")
        add_row(
            table,
            "memory",
            f"{in_words(solution.peak_memory)} at most",
            f"{at_once} items at once" if at_once else "",
        )
    weights = _weights_in_words(solution)
    if weights:
        add_row(table, "weight", weights, "")
    if solution.error_bars is not None:
        std = solution.error_bars.std
        add_row(
            table,
            "std by noise",
            f"median {float(std.median()):.3g}, largest {float(std.max()):.3g}",
            f"{solution.error_bars.samples} solves; without the bias of the prior",
        )
    add_row(table, "written", str(written[0].parent), ", ".join(path.name for path in written))
    console().print(table)
