"""`recon solve`: reconstruct the image of a problem file."""

from __future__ import annotations

import math
import sys
import textwrap
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.commands.existing import SOLUTION, check_folder, kind_of
from recon.commands.scores import metrics_for, score_as_dict, score_row
from recon.parameters import plain
from recon.terminal import INTERRUPTED, AsJson, add_row, console, new_table, print_json

if TYPE_CHECKING:
    import torch

    from recon.metrics import Metric, Score
    from recon.solution import Solution


def solve_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A problem: of `recon simulate` or `Problem.save`.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="The folder for the results.")
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
        typer.Option(
            metavar="NUMBER|auto|sure|lcurve",
            help="Weight of the prior, or how to choose it: auto and sure from the noise level, lcurve without; the "
            "prior's own unless given.",
        ),
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, metavar="N", help="Most iterations.")] = None,
    tolerance: Annotated[
        float | None, typer.Option(metavar="T", help="Relative tolerance that counts as converged.")
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(metavar="TIME", help="Most wall time: 90s, 5min, 2h.")
    ] = None,
    fidelity: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Data term: gaussian, or pwls:photons=1e4 or poisson:photons=1e4 for counted photons.",
        ),
    ] = None,
    noise_level: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="STD",
            help="Noise standard deviation of the data; estimated from them unless given.",
        ),
    ] = None,
    image_range: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH",
            help="Range of the image's values, for learned priors; unless given, that which the problem holds.",
        ),
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Also write report.html.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what was chosen, from what, and why it stopped.")
    ] = False,
    uncertainty: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="N",
            help="Also solve N times on data with new noise: how far noise moves the image, as maps.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Holds the whole state every 30 s; an existing one is resumed."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="Where to solve: cpu, cuda, cuda:1.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Most memory to use, such as 4GiB: a batch is solved in groups that fit; RECON_MEMORY unless given.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of everything random.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder that holds other things.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Reconstruct the image of a problem file.

    Writes solution.h5 and image.png into a folder. Ctrl-C ends the iteration: the image so far is written,
    marked as interrupted, and the exit code is 130.
    """
    with redirect_stdout(sys.stderr):
        from recon import runner
        from recon.scans import LimitError, ScanOptions, solve_file

        limits = _limits(iterations, tolerance, time_limit)
        strength = _weight(weight)
        place = usable_device(device)
        check_folder(output, _holds_solution, force=force)
        replaces = _holds_solution(output)
        options = ScanOptions(
            prior=prior,
            solver=solver,
            weight=strength,
            limits=limits,
            fidelity=fidelity,
            noise_level=noise_level,
            image_range=_image_range(image_range),
            device=place,
            seed=seed,
            memory=_memory(memory),
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
        written = [output / "solution.h5", output / "image.png"]
        solution.save(output)
        scored, missing = _scored(solution, unit, notes.get("water"))
        scores = [score for _, score in scored]
        if report:
            written.append(output / "report.html")
            metrics = [metric for metric, _ in scored] or None
            solution.report(written[-1], unit=unit, metrics=metrics, title=f"Reconstruction of {file.name}")
        elif replaces:
            (output / "report.html").unlink(missing_ok=True)  # that of the result just replaced
    for message in missing:
        typer.secho(f"warning: {message}", fg="yellow", err=True)
    if as_json:
        print_json(_as_dict(solution, scores, written))
    else:
        _print(solution, scores, unit, written)
        if explain:
            typer.echo(f"\n{solution.explain()}")
    if runner.INTERRUPTED in solution.reasons:
        raise typer.Exit(INTERRUPTED)


def _image_range(text: str | None) -> tuple[float, float] | None:
    """The two numbers of ``--image-range``."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.strip("()[]").split(","))
    except ValueError:
        low, high = math.nan, math.nan
    if not low < high:
        raise typer.BadParameter(
            f"give the lowest and the highest value, such as 0,0.04, not {text!r}", param_hint="--image-range"
        )
    return low, high


def _limits(iterations: int | None, tolerance: float | None, time_limit: str | None) -> dict[str, Any]:
    """The limits that were given, each of them one that a rule can be made of."""
    from recon.stopping import TimeLimit

    given = {"iterations": iterations, "tolerance": tolerance, "time_limit": time_limit}
    if tolerance is not None and not tolerance > 0:
        raise typer.BadParameter(f"must be a number > 0, got {tolerance:g}", param_hint="--tolerance")
    if time_limit is not None:
        try:
            TimeLimit(time_limit)
        except ValueError:
            text = f"must be a time > 0 such as 90s, 5min or 2h, got {time_limit!r}"
            raise typer.BadParameter(text, param_hint="--time-limit") from None
    return {name: value for name, value in given.items() if value is not None}


def _weight(text: str | None) -> float | str | None:
    from recon.weight_rules import RULES

    if text is None or text in RULES:
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise typer.BadParameter(
            f"must be a number >= 0 or 'auto', 'sure' or 'lcurve', got {text!r}", param_hint="--weight"
        )
    return value


def _memory(text: str | None) -> int | None:
    """The bytes of ``--memory``."""
    from recon.memory import as_bytes

    try:
        return None if text is None else as_bytes(text)
    except ValueError:
        raise typer.BadParameter(
            f"must be a size such as 4GiB or 500MB, got {text!r}", param_hint="--memory"
        ) from None


def usable_device(name: str | None) -> torch.device | None:
    """The device of that name, if it is there."""
    import torch

    if name is None:
        return None
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        reason = textwrap.shorten(str(error), 80, placeholder=" ...")
        raise typer.BadParameter(
            f"{name!r} cannot be used here ({reason}); there is {', '.join(there)}", param_hint="--device"
        ) from None
    return device


def _holds_solution(folder: Path) -> bool:
    return kind_of(folder / "solution.h5") == SOLUTION


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
