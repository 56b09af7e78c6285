"""Every registered operator with every registered functional and every solver that takes both: one objective.

The matrix makes itself from the registry, at the tiny sizes of the entries' examples: a new operator, prior or solver
joins it. A pair is solved by every solver whose `start` does not refuse it; all must reach the same objective and
improve on the direct reconstruction. Each prior also runs in a sum with x >= 0. A part of the pairs, in which every
operator and every prior occurs, runs by default, all of them as `slow`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch

import recon
from recon import registry
from recon.priors import Functional, Prior
from recon.problem import Problem
from recon.registry import Found
from recon.runner import run

QUICK = 30
"""Pairs by default, some 25 seconds on one core."""
STOP = recon.SmallResiduals(1e-5) | recon.MaxIterations(1500)
CLOSE = 5e-3
"""Of the smallest objective, or of a hundredth of the empty image's: first-order methods after 1500 iterations."""
NOISE = 0.05


def pairs() -> list[tuple[Found, int, Found, bool]]:
    """Operator, number of its example, prior, and whether x >= 0 is added."""
    found = []
    for operator in registry.items("operator"):
        for example in range(len(operator.entry.examples)):
            for prior in registry.items("prior"):
                found.append((operator, example, prior, False))
                if prior.entry.name != "nonnegative":
                    found.append((operator, example, prior, True))
    return found


def chosen() -> list[Any]:
    """The pairs as parameters: a diagonal of the product by default, the rest slow."""
    every = pairs()
    stride = max(1, math.ceil(len(every) / QUICK))
    while (
        math.gcd(stride, 2 * len(registry.items("prior")) - 1) > 1
    ):  # or the same few priors would come up again
        stride += 1
    found = []
    for place, (operator, example, prior, positive) in enumerate(every):
        name = f"{operator.entry.name}{example or ''}-{prior.entry.name}{'+nonnegative' if positive else ''}"
        marks = () if place % stride == 0 else (pytest.mark.slow,)
        found.append(pytest.param(operator, example, prior, positive, id=name, marks=marks))
    return found


@functools.cache
def operator_of(found: Found, example: int) -> recon.LinearOperator:
    """The operator of an example."""
    if missing := found.missing():
        pytest.skip(f"{found.name} needs {', '.join(missing)}")
    made: recon.LinearOperator = found.make(found.entry.examples[example].kwargs)
    return made


def prior_of(found: Found, positive: bool, complex_image: bool) -> Prior:
    """The prior of the first example, fitted to the images; skips what is no functional or no sum."""
    if missing := found.missing():
        pytest.skip(f"{found.name} needs {', '.join(missing)}")
    if reason := found.entry.examples[0].expected_failures.get("example"):
        pytest.skip(f"{found.name} has no example to make: {reason}")
    prior: Prior = found.make(found.entry.examples[0].kwargs)
    if not all(isinstance(member, Functional) for member in prior.members):
        pytest.skip("no functional: there is no objective to compare")
    members = [*prior.members, *([registry.make("prior", "nonnegative")] if positive else [])]
    fitted = [
        recon.RealAndImaginary(member) if complex_image and member.domain == "real" else member  # type: ignore[arg-type]
        for member in members
    ]
    if not complex_image and any(member.domain == "complex" for member in members):
        pytest.skip("for complex images, and these are real")
    return sum(fitted[1:], start=fitted[0])


def posed(operator: recon.LinearOperator, prior: Prior) -> Problem:
    """Noisy data of a random image of values in [0, 1], in double precision; skips shapes that the prior refuses."""
    generator = torch.Generator().manual_seed(0)
    gives_complex = operator.domain == "complex"
    x = torch.rand(operator.domain_shape, dtype=torch.float64, generator=generator)
    if gives_complex:
        x = torch.complex(x, torch.rand(x.shape, dtype=torch.float64, generator=generator))
    y = operator(x)
    noise = torch.randn(y.shape, dtype=y.dtype, generator=generator)
    problem = Problem(operator, y + NOISE * y.abs().mean() * noise, prior=prior)
    try:
        problem.penalty(problem.start)
    except (TypeError, ValueError) as error:
        pytest.skip(f"the prior refuses images of shape {operator.domain_shape}: {error}")
    return problem


@pytest.mark.parametrize(("found", "example", "prior", "positive"), chosen())
def test_all_solvers_reach_the_same_objective(
    found: Found, example: int, prior: Found, positive: bool
) -> None:
    operator = operator_of(found, example)
    problem = posed(operator, prior_of(prior, positive, operator.domain == "complex"))
    direct = float(problem.objective(problem.project(problem.start)))
    objectives: dict[str, float] = {}
    with torch.no_grad():
        for solver in registry.items("solver"):
            if "other objective" in solver.entry.tags:
                continue
            algorithm = solver.make({})
            try:
                algorithm.start(problem)
            except (TypeError, ValueError):
                continue
            image = run(problem, algorithm, stop=STOP).image
            objectives[solver.entry.name] = float(problem.objective(image))
    assert {"admm", "pdhg"} <= set(objectives), f"any sum of functionals is theirs: {objectives}"
    least = min(objectives.values())
    # where the data can be fitted exactly the smallest objective is no scale
    empty = float(problem.item_fidelity.value(torch.zeros_like(problem.y), problem.y))
    scale = max(abs(least), 1e-2 * empty)
    for name, objective in objectives.items():
        assert objective <= direct + 1e-6 * scale, f"{name} is worse than direct, {direct:.6g}: {objectives}"
        if isinstance(prior.entry, recon.PriorEntry) and prior.entry.convex:
            assert objective <= least + CLOSE * scale, f"{name} is not at the minimum: {objectives}"
