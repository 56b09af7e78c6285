"""`solve`: any operator, any prior, one call."""

from __future__ import annotations

import dataclasses
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from recon import making, registry
from recon.choosing import Named, chosen_solver
from recon.explanation import facts_of
from recon.groups import items_at_once, out_of_memory, solve_in_groups
from recon.items import ItemSolver, searches_weight
from recon.lifting import lifted
from recon.linear import LinearOperator
from recon.memory import budget_of, peak_of, ran_out
from recon.priors import Functional, Generator, Prior, checked_weight
from recon.problem import Problem
from recon.provenance import describe, environment
from recon.runner import INTERRUPTED, STOPPED, Snapshot
from recon.solution import Solution
from recon.solvers.algorithm import Algorithm, own_stop, refuse_unused
from recon.stopping import MaxIterations, StoppingRule
from recon.values import as_numbers
from recon.weight_rules import RULES, is_rule, searcher


class ConvergenceWarning(UserWarning):
    """A solve ended by its iteration or time limit before its convergence rule fired."""


def solve(
    op: LinearOperator | Problem | Named,
    prior: Prior | Named | None,
    y: Any = None,
    *,
    solver: Algorithm | Named = "auto",
    fidelity: Any = "gaussian",
    weight: float | str | None = None,
    stop: StoppingRule | None = None,
    x0: Any = None,
    reference: Any = None,
    image_range: tuple[float, float] | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    callback: Callable[[Snapshot], bool | None] | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
    memory: int | str | None = None,
) -> Solution:
    """Minimise f(A x; y) + sum_i g_i(K_i x) over x.

    Args:
        op: forward operator: an object, a name, ``("name", {arguments})`` or ``"name:argument=value"``; or a
            `Problem`, which holds its own data.
        prior: prior in the same forms, several as ``"tv:weight=1e-3 + nonnegative"``, or None for none.
        y: data ``(*batch, *range_shape)``; every item of a batch is solved for itself, all at once.
        solver: an algorithm, a name, or ``"auto"``: direct without a prior, DIP for generators, feedforward
            for a network trained end to end, HQS for a denoiser of any noise level, else mostly ADMM, unless a plugin
            knows better.
        fidelity: data term: ``"gaussian"``, ``("gaussian", {"weights": w, "noise_level": s})``, for counted photons
            ``"pwls:photons=1e4"`` (weights from the counts) or ``"poisson:photons=1e4"`` (their likelihood), or an
            object.
        weight: weight of the prior: a number; ``"auto"``, chosen so that the residual is what noise explains;
            ``"sure"``, where the estimated error of the predicted data is least; ``"lcurve"``, at the corner of the
            L-curve, without the noise level; or None for the prior's own. Constraints in a sum have none; with
            several weighted priors it applies to those left at "auto".
        stop: stopping rule; None for the algorithm's own.
        x0: first image; None starts from ``op.pinv(y)``.
        reference: true image: the history then holds the PSNR (peak: largest magnitude of the reference).
        image_range: (low, high) of the image's values, which learned priors are mapped to their own range by; of a
            complex image's magnitude, from 0.
        seed: of everything random.
        device: where to solve; None: where the data lie.
        dtype: precision: float32 or float64; None: that of the data.
        callback: called with a `Snapshot` after every iteration; returning True stops.
        progress: show a progress bar; None: on a terminal.
        checkpoint: file that holds the whole state every 30 s and at the end, that of the search for the weight
            included; an existing one is resumed. A batch that is solved in groups has one a group beside it,
            ``NAME.items-0-15``.
        memory: most memory to use on the device, in bytes or as ``"4GiB"``: a batch is solved in groups of items
            that fit, which a short run of one and two items measures, with the results of all at once up to
            rounding. None: what `RECON_MEMORY` says, else most of what is free.

    Raises:
        ShapeError, TypeError, ValueError, LookupError: anything that does not fit, or that the solver cannot look at
            (a weight for a network that is applied once), before the first iteration.
        OutOfMemoryError: not even one item fits; it says what would.
        DivergenceError: NaN or a rising objective; it holds the last good image.
        NoCornerError: ``weight="lcurve"`` where the L-curve has none.
    """
    began = time.perf_counter()
    stated = posed(op, prior, y, fidelity, x0, reference, image_range, device, dtype)
    weight_rule = str(weight) if is_rule(weight) else "auto"
    stated = stated.with_prior(weighted(stated.prior, weight))
    stated.seed = seed
    problem = lifted(stated)
    choice_of_solver = chosen_solver(solver, problem)
    algorithm = choice_of_solver.algorithm
    refuse_unused(algorithm, weight=weight, stop=stop, x0=x0)
    getattr(algorithm, "check", lambda _problem: None)(problem)
    rule = own_stop(algorithm, problem) if stop is None else stop
    if not isinstance(rule, StoppingRule):
        raise TypeError(f"stop must be a stopping rule such as recon.MaxIterations(100), got {rule!r}")
    budget, place = budget_of(memory), None if checkpoint is None else Path(checkpoint)
    with torch.no_grad(), _progress(problem, rule, progress) as report:
        work = ItemSolver(algorithm, rule, searcher(weight_rule), seed, callback, report, place, began)
        try:
            size = items_at_once(problem, algorithm, budget, place)
            solved = solve_in_groups(problem, size, work)
        except Exception as error:
            if not ran_out(error):
                raise
            raise out_of_memory(problem, algorithm, error) from error
    outcome, rounds = solved.outcome, solved.rounds
    chosen = searches_weight(algorithm, problem)
    problem.strength = stated.strength = solved.strength
    single = not problem.batch_shape
    solution = Solution(
        image=problem.unflatten(outcome.image),
        item_ndim=len(stated.operator.domain_shape),
        history={
            name: [row[0] if single and isinstance(row, list) else row for row in column]
            for name, column in outcome.history.items()
        },
        reason="; ".join(dict.fromkeys(outcome.reasons)),
        reasons=outcome.reasons,
        converged=all(outcome.converged),
        iterations=max(outcome.iterations),
        seconds=outcome.seconds,
        weight=None if not chosen else problem.strength.tolist()[0] if single else problem.strength.tolist(),
        weight_search=rounds,
        provenance={
            "operator": describe("operator", stated.operator),
            "prior": [describe("prior", member) for member in problem.prior.members] if problem.prior else [],
            "solver": describe("solver", algorithm) | {"settings": repr(algorithm)},
            "fidelity": repr(problem.fidelity),
            "stop": repr(rule),
            "seed": seed,
            **({} if size == problem.items else {"items_at_once": size}),
            **environment(),
        },
        facts=facts_of(problem, choice_of_solver, rule, outcome, RULES[weight_rule][0] if chosen else None),
        problem=stated,
        algorithm=algorithm,
        stop=rule,
        peak_memory=peak_of(problem.y.device),
    )
    limited = [
        reason
        for reason, fine in zip(outcome.reasons, outcome.converged, strict=True)
        if not fine and reason not in (INTERRUPTED, STOPPED)  # those two the user knows
    ]
    if limited and any(member.means_converged for member in rule.members):
        warnings.warn(
            f"not converged: {limited[0]} came before {rule!r} was met"
            + (f" for {len(limited)} of {problem.items} items" if problem.items > 1 else "")
            + "; give more iterations (stop=recon.MaxIterations(...) | ...) or accept the image as it is",
            ConvergenceWarning,
            stacklevel=2,
        )
    registry.notify_solve_finished(solution)
    return solution


def posed(
    op: Any,
    prior: Any,
    y: Any,
    fidelity: Any,
    x0: Any,
    reference: Any,
    image_range: tuple[float, float] | None,
    device: Any,
    dtype: torch.dtype | None,
) -> Problem:
    """The problem on its device and in its precision, everything checked."""
    if isinstance(prior, str | tuple):
        prior = making.prior(prior)
    if isinstance(op, Problem):
        if y is not None:
            raise TypeError("the problem holds its own data: leave y out")
        operator, y = op.operator, op.data
        fidelity = op.fidelity if fidelity == "gaussian" else fidelity
        x0 = op.unflatten(op.x0) if x0 is None and op.x0 is not None else x0
        reference = (
            op.unflatten(op.reference) if reference is None and op.reference is not None else reference
        )
        image_range, notes = image_range or op.image_range, op.notes
    else:
        operator = registry.make("operator", op) if isinstance(op, str | tuple) else op
        notes = {}
        if y is None:
            raise TypeError("solve needs the data y: recon.solve(op, prior, y)")
    y = as_numbers(y, "the data")
    if dtype is not None:
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype is the precision, torch.float32 or torch.float64, got {dtype}")
        y = y.to(torch.promote_types(dtype, torch.complex32) if y.is_complex() else dtype)
    if device is not None:
        _check_device(device)
        y, operator = y.to(device), operator.to(device)
        prior = prior.to(device) if isinstance(prior, Prior) else prior
    problem = Problem(
        operator, y, prior=prior, fidelity=fidelity, x0=x0, reference=reference, image_range=image_range
    )
    problem.notes = dict(notes)
    return problem


def _check_device(device: str | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {str(device)!r} cannot be used here ({reason}): leave it out, or give 'cpu'"
        ) from None


def weighted(prior: Prior | None, weight: float | str | None) -> Prior | None:
    """The prior with its weight replaced; the caller's object stays as it is."""
    if weight is None or prior is None:
        if weight is not None:
            raise ValueError(f"weight={weight!r} was given, but there is no prior to weigh")
        return prior
    weight = "auto" if is_rule(weight) else checked_weight(weight, "weight")
    import copy

    changed = copy.deepcopy(prior)
    free = [m for m in changed.members if not (isinstance(m, Functional) and m.constraint)]
    free = [m for m in free if not isinstance(m, Generator)]
    if not free:
        raise ValueError("weight was given, but the prior is a constraint or a generator, which has none")
    chosen = [m for m in free if m.weight == "auto"] or free
    if len(chosen) > 1 and weight != "auto":
        raise ValueError(
            f"weight={weight} fits several priors ({', '.join(type(m).__name__ for m in chosen)}): "
            "give each its own, as in 'tv:weight=1e-3 + l1:weight=1e-4'"
        )
    for member in chosen:
        member.weight = weight
        origin = getattr(member, "recon_origin", None)
        if origin is not None and "weight" in origin.arguments:  # the record names what was used
            arguments = {**origin.arguments, "weight": weight}
            object.__setattr__(member, "recon_origin", dataclasses.replace(origin, arguments=arguments))
    return changed


class _progress:  # noqa: N801
    """A rich progress bar on a terminal, filled at the most iterations the rule allows; silent elsewhere."""

    def __init__(self, problem: Problem, rule: StoppingRule, show: bool | None) -> None:
        limits = [member.iterations for member in rule.members if isinstance(member, MaxIterations)]
        self.most = min(limits, default=None)
        self.show = sys.stderr.isatty() if show is None else show
        self.title = type(problem.operator).__name__

    def __enter__(self) -> Callable[[int, str], None]:
        if not self.show:
            return lambda _iteration, _text: None
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("iteration {task.completed}" + (f"/{self.most}" if self.most else "")),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self.bar.start()
        task = self.bar.add_task(self.title, total=None, text="")
        # without a total the bar pulses: the search for the weight has no known end
        return lambda iteration, text: self.bar.update(
            task, completed=iteration, total=self.most if iteration else None, text=text
        )

    def __exit__(self, *_: object) -> None:
        if self.show:
            self.bar.stop()
