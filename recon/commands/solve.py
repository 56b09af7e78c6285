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
from recon.commands.images import checksum
from recon.commands.scores import metrics_for, score_as_dict, score_row
from recon.parameters import plain
from recon.terminal import INTERRUPTED, AsJson, add_row, console, new_table, print_json

if TYPE_CHECKING:
    import torch

    from recon.metrics import Metric, Score
    from recon.priors import Prior
    from recon.problem import Problem
    from recon.solution import Solution
    from recon.stopping import StoppingRule


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

        limits = _limits(iterations, tolerance, time_limit)
        strength = _weight(weight)
        place = _device(device)
        check_folder(output, _holds_solution, force=force)
        replaces = _holds_solution(output)
        solution, notes = _solved(
            file,
            prior or [],
            solver,
            strength,
            limits,
            fidelity,
            noise_level,
            image_range=_image_range(image_range),
            checkpoint=checkpoint,
            device=place,
            seed=seed,
        )
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


def stopping_rule(default: StoppingRule, limits: dict[str, Any]) -> StoppingRule:
    """An algorithm's own rule with its limits replaced.

    Args:
        default: the algorithm's own rule.
        limits: any of `iterations`, `tolerance` and `time_limit`.
    """
    from recon.stopping import AnyOf, MaxIterations, RelativeChange, SmallResiduals, TimeLimit

    rules = list(default.rules) if isinstance(default, AnyOf) else [default]
    if "iterations" in limits:
        rules = [rule for rule in rules if not isinstance(rule, MaxIterations)]
        rules.append(MaxIterations(limits["iterations"]))
    if "tolerance" in limits:
        kind = next(
            (type(rule) for rule in rules if isinstance(rule, RelativeChange | SmallResiduals)),
            SmallResiduals,
        )
        rules = [rule for rule in rules if not isinstance(rule, RelativeChange | SmallResiduals)]
        rules.insert(0, kind(limits["tolerance"]))
    if "time_limit" in limits:
        rules.append(TimeLimit(limits["time_limit"]))
    return rules[0] if len(rules) == 1 else AnyOf(rules)


def _solved(
    file: Path,
    priors: list[str],
    solver: str,
    weight: float | str | None,
    limits: dict[str, Any],
    fidelity: str | None,
    noise_level: float | None,
    **options: Any,
) -> tuple[Solution, dict[str, Any]]:
    """The solution, with its problem's file in its provenance, and the problem's notes."""
    from h5py import is_hdf5

    from recon import registry
    from recon.choosing import chosen_solver
    from recon.problem import Problem
    from recon.solvers.direct import Direct
    from recon.solving import solve

    prior: Prior | None = None
    for name in priors:
        made = registry.make("prior", name)
        prior = made if prior is None else prior + made
    source = {"file": str(file.absolute()), "sha256": checksum(file)} if file.is_file() else {}
    if file.is_file() and not is_hdf5(file):
        raise ValueError(
            f"{file} is not HDF5, so it is no problem file: `recon simulate` makes one from an image, Problem.save "
            "from data in Python"
        )
    problem = Problem.load(file)
    problem.image_range = options.pop("image_range") or problem.image_range
    posed = problem.with_prior(prior)
    algorithm = chosen_solver(solver, posed).algorithm
    if isinstance(algorithm, Direct) and limits:
        raise typer.BadParameter(
            "the direct reconstruction takes one step: give a --prior, or leave the limits out",
            param_hint=f"--{next(iter(limits)).replace('_', '-')}",
        )
    solution = solve(
        posed,
        prior,
        solver=solver,
        weight=weight,
        fidelity=_fidelity(problem, fidelity, noise_level),
        stop=stopping_rule(algorithm.default_stop(), limits),
        **options,
    )
    solution.provenance["problem"] = {**source, "notes": plain(problem.notes)}
    return solution, problem.notes


def _fidelity(problem: Problem, fidelity: str | None, noise_level: float | None) -> Any:
    """The problem's data term or the one that is named, with another noise level if one is given."""
    from recon.fidelity import as_fidelity

    term = problem.fidelity if fidelity is None else as_fidelity(fidelity)
    return term if noise_level is None else term.with_noise_level(noise_level)


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


def _device(name: str | None) -> torch.device | None:
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
    members = solution.problem.prior.members if solution.problem and solution.problem.prior else []
    return ", ".join(f"{member.weight:.4g}" for member in members if not getattr(member, "constraint", False))


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
        "provenance": plain(solution.provenance),
        "uncertainty": None if solution.error_bars is None else solution.error_bars.record(),
        "explanation": [
            {"heading": heading, "sentences": sentences} for heading, sentences in explanation(solution)
        ],
        "written": [str(path) for path in written],
    }


def _print(solution: Solution, scores: list[Score], unit: str, written: list[Path]) -> None:
    table = new_table("", "", "")
    table.show_header = False
    for score in scores:
        add_row(table, *score_row(score, unit))
    add_row(table, "iterations", str(solution.iterations), "")
    add_row(table, "seconds", f"{solution.seconds:.2f}", "")
    add_row(table, "stopped by", solution.reason, "converged" if solution.converged else "not converged")
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
