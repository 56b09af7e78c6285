"""Scans in files: solving the problem of one file, with the options that a command line has."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recon import making
from recon.choosing import chosen_solver
from recon.files import checksum
from recon.lifting import lifted
from recon.parameters import plain
from recon.priors import Prior
from recon.problem import Problem
from recon.solution import Solution
from recon.solvers.algorithm import Algorithm, looks_at, own_stop
from recon.solving import solve
from recon.stopping import AnyOf, MaxIterations, RelativeChange, SmallResiduals, StoppingRule, TimeLimit


class LimitError(ValueError):
    """A limit for a reconstruction that takes one step."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScanOptions:
    """How scans are solved; every scan of a study alike.

    Attributes:
        prior: a prior, the names of priors that are summed, or None.
        solver: algorithm or its name.
        weight: of the prior: a number, ``"auto"``, or None for the prior's own.
        limits: what replaces the algorithm's own limits: any of ``iterations``, ``tolerance``, ``time_limit``.
        stop: a rule in the place of the algorithm's own and of limits.
        fidelity: data term; None for that of the problem.
        noise_level: of the data; None for what the data term says.
        image_range: of the image's values; None for what the problem says.
        seed: of everything random.
        device: where to solve.
        memory: most memory to use, as for `recon.solve`.
    """

    prior: Prior | str | Sequence[str] | None = None
    solver: Any = "auto"
    weight: float | str | None = None
    limits: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stop: StoppingRule | None = None
    fidelity: Any = None
    noise_level: float | None = None
    image_range: tuple[float, float] | None = None
    seed: int = 0
    device: Any = None
    memory: int | str | None = None


def solve_file(file: Path, options: ScanOptions, **others: Any) -> Solution:
    """Solve the problem in a file; its name and checksum are in the solution's provenance.

    Args:
        file: of `Problem.save` or `recon simulate`.
        options: how.
        others: of `recon.solve`, such as ``checkpoint``.

    Raises:
        OSError, ValueError: no problem file.
        LimitError: limits, but nothing to iterate.
    """
    from h5py import is_hdf5

    prior = made_prior(options.prior)
    source = {"file": str(file.absolute()), "sha256": checksum(file)} if file.is_file() else {}
    if file.is_file() and not is_hdf5(file):
        raise ValueError(
            f"{file} is not HDF5, so it is no problem file: `recon simulate` makes one from an image, Problem.save "
            "from data in Python"
        )
    problem = Problem.load(file)
    problem.image_range = options.image_range or problem.image_range
    stated = problem.with_prior(prior)
    posed = lifted(stated)
    algorithm = chosen_solver(options.solver, posed).algorithm
    solution = solve(
        stated,
        prior,
        solver=options.solver,
        weight=options.weight,
        fidelity=_fidelity(problem, options.fidelity, options.noise_level),
        stop=options.stop or limited_stop(algorithm, posed, options.limits),
        seed=options.seed,
        device=options.device,
        memory=options.memory,
        **others,
    )
    solution.provenance["problem"] = {**source, "notes": plain(problem.notes)}
    return solution


def made_prior(prior: Prior | str | Sequence[str] | None) -> Prior | None:
    """The prior, made of its name or as the sum of several; no name is no prior."""
    if prior is None or isinstance(prior, Prior):
        return prior
    if not prior:
        return None
    return making.sum_of([making.prior(name) for name in ([prior] if isinstance(prior, str) else prior)])


def limited_stop(algorithm: Algorithm, problem: Problem, limits: Mapping[str, Any]) -> StoppingRule | None:
    """The algorithm's own rule for a problem with its limits replaced; None without any.

    Raises:
        LimitError: limits, but nothing to iterate.
    """
    if not limits:
        return None
    if not looks_at(algorithm, "stop"):
        name = type(algorithm).__name__.lower()
        remedy = "give a prior" if problem.prior is None else "say solver='admm'"
        raise LimitError(
            f"{next(iter(limits))}: the {name} reconstruction takes one step: {remedy}, or leave the limits out"
        )
    return stopping_rule(own_stop(algorithm, problem), limits)


def stopping_rule(default: StoppingRule, limits: Mapping[str, Any]) -> StoppingRule:
    """An algorithm's own rule with its limits replaced.

    Args:
        default: the algorithm's own rule.
        limits: any of `iterations`, `tolerance` and `time_limit`.
    """
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


def _fidelity(problem: Problem, fidelity: Any, noise_level: float | None) -> Any:
    """The problem's data term or the one that is named, with another noise level if one is given."""
    from recon.fidelity import as_fidelity

    term = problem.fidelity if fidelity is None else as_fidelity(fidelity)
    return term if noise_level is None else term.with_noise_level(noise_level)
