"""Conformance checks for solvers: the right solution where one is known, and the rules of the runner.

In a test::

    from recon.testing import check_solver

    def test_my_solver_conforms():
        check_solver(Landweber(), needs=("adjoint",))

A solver need not take every problem; one that it does not take it must refuse in `start` with a ValueError or
TypeError that says so. Of the problems in `recon.testing.closed_forms` it must take one at least, and those that
its `needs` promise.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import unittest
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from recon.priors import Prior
from recon.problem import Problem
from recon.runner import DivergenceError, run
from recon.solvers.algorithm import reweighted, select
from recon.stopping import MaxIterations, RelativeChange, StoppingRule, TimeLimit
from recon.testing.closed_forms import (
    SCALES,
    WEIGHT,
    Known,
    Squares,
    constant_images,
    known_problems,
)
from recon.testing.kinds import ALGORITHM_METHODS
from recon.testing.measuring import Check, Checks, bound, relative_error, require, require_close
from recon.testing.running import require_all

CLOSE_TO_SOLUTION = 1e-3
"""Relative error after thousands of iterations: what first-order methods reach on a condition number of 9."""
BY_DEFAULT = 2e-2
"""Relative error at the algorithm's own stopping rule: usual rules ask for residuals of 1e-3."""
SETTLED = 1e-9
"""Relative change of an image that will not change any more."""
KNOWN_NEEDS = ("adjoint", "prox", "generator")
PROMISED = {"prox": ("ridge", "soft_threshold"), "generator": ("grey_values",)}
"""Which problems a solver takes that has a need."""
REFUSALS = (TypeError, ValueError)


def check_solver(
    solver: Any,
    *,
    needs: Sequence[str] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[str]:
    """Run every check on a solver and return their names.

    Args:
        solver: the algorithm.
        needs: what its entry says that it asks of operator and prior: with "prox" or "generator" it must take the
            problems with one. None: it must take one problem, whichever.
        expected_failures: name of a check to the reason why it is known to fail. Such a check must fail.

    Raises:
        AssertionError: naming every check that failed, or that passed although it was expected to fail.
        ValueError: an expected failure names no check.
    """
    return require_all(type(solver).__name__, solver_checks(solver, needs=needs), expected_failures)


def solver_checks(solver: Any, *, needs: Sequence[str] | None = None) -> Checks:
    """The checks of a solver by name; `needs` as in `check_solver`."""
    if missing := [name for name in ALGORITHM_METHODS if not callable(getattr(solver, name, None))]:

        def check_methods() -> None:
            raise AssertionError(f"{type(solver).__name__} has no method {', '.join(missing)}: write it")

        return {"methods": check_methods}
    checks: Checks = {
        name: functools.partial(check_solution, solver, known) for name, known in known_problems().items()
    }
    return {**checks, **bound(CHECKS, solver, needs=needs)}


def check_solution(solver: Any, known: Known) -> None:
    """The solution is the closed form, or the problem is refused."""
    if _refusal(solver, known.pose()) is not None:
        return
    stop = RelativeChange(SETTLED) | MaxIterations(5000) | TimeLimit("20s")
    image, iterations = _solved(solver, known.pose(), stop)
    error = _error(image, known.solve(WEIGHT), known.data)
    require(error <= CLOSE_TO_SOLUTION, _wrong_solution(known, image, error, iterations))


def check_needs(solver: Any, needs: Sequence[str] | None) -> None:
    """It takes one of the known problems; if it needs a prox or a generator, those with one."""
    refused = {name: _refusal(solver, known.pose()) for name, known in known_problems().items()}
    taken = [name for name, error in refused.items() if error is None]
    if not taken and set(needs or ()) - set(KNOWN_NEEDS):
        raise unittest.SkipTest(f"needs {', '.join(needs or ())}: no problem with a closed form has it")
    require(
        bool(taken),
        "it refuses every known problem, least squares too: "
        + "; ".join(f"{name}: {error}" for name, error in refused.items()),
    )
    for need in needs or ():
        for name in PROMISED.get(need, ()):
            require(
                refused[name] is None,
                f"it needs a {need}, so that every prior with one will do, but it refuses {name}: {refused[name]}",
            )


def check_refusals(solver: Any) -> None:
    """What it does not take it refuses in `start`, in words about the prior."""
    for name, known in known_problems().items():
        problem = known.pose()
        error = _refusal(solver, problem)
        if error is not None:
            _require_clear(error, name, problem)


def check_generator(solver: Any) -> None:
    """A generator is used or refused, alone and beside another prior; it is no term, so it is easily ignored."""
    least_squares = known_problems()["least_squares"]
    for name, prior in (
        ("a generator", constant_images()),
        ("a generator beside squares", constant_images() + Squares(WEIGHT)),
    ):
        problem = dataclasses.replace(least_squares, prior=functools.partial(_given, prior)).pose()
        error = _refusal(solver, problem)
        if error is not None:
            _require_clear(error, name, problem)
            continue
        image = _stepped(solver, problem, 5)
        spread = relative_error(image, image.mean((1, 2), keepdim=True).expand_as(image))
        require(
            spread <= CLOSE_TO_SOLUTION,
            f"given {name} of constant images, it gives others: the generator is ignored. Refuse in `start` where "
            "problem.generator is not None",
        )


def _require_clear(error: Exception, name: str, problem: Problem) -> None:
    """The error names the prior, or at least says that it is about priors."""
    prior = "no prior" if problem.prior is None else type(problem.prior).__name__
    require(
        any(word in str(error).lower() for word in ("prior", prior.lower())),
        f"it refuses {name} with {type(error).__name__}({str(error)!r}), which does not mention the prior: say which "
        f"priors it takes, and what to use for {prior}",
    )


def check_state(solver: Any) -> None:
    """A state is a dataclass of tensors with one leading item axis, or lists of such; `image` is an image."""
    for name, known in _taken(solver):
        problem = known.pose()
        state = solver.start(problem)
        for moment in ("start", "step"):
            require(
                dataclasses.is_dataclass(state) and not isinstance(state, type),
                f"{moment} gives a {type(state).__name__}, expected a dataclass of tensors (it is stored in "
                "checkpoints and cut to the items that still run)",
            )
            for label, value in _fields(state):
                require(
                    isinstance(value, Tensor) and value.ndim >= 1 and value.shape[0] == problem.items,
                    f"{moment} on {name}: {label} is {_shown(value)}, expected a tensor with "
                    f"{problem.items} items first",
                )
            image = solver.image(state)
            wanted = (problem.items, *problem.operator.domain_shape)
            require(
                isinstance(image, Tensor) and tuple(image.shape) == wanted,
                f"image after {moment} on {name} is {_shown(image)}, expected a tensor of shape {wanted}",
            )
            state = solver.step(problem, state)


def check_step_keeps_state(solver: Any) -> None:
    """`step` leaves the old state and the problem as they were: the runner may go back to them."""
    for name, known in _taken(solver):
        problem = known.pose()
        assert problem.x0 is not None
        data, start = problem.y.clone(), problem.x0.clone()
        state = solver.start(problem)
        for _ in range(3):
            before = copy.deepcopy(state)
            new = solver.step(problem, state)
            for (label, old), (_, now) in zip(_fields(before), _fields(state), strict=True):
                require(
                    torch.equal(old, now),
                    f"step on {name} changes {label} of the state it is given: compute a new tensor instead of an "
                    "in-place operation",
                )
            state = new
        require(torch.equal(problem.y, data), f"the data of {name} are changed")
        require(torch.equal(problem.x0, start), f"the first image of {name} is changed")


def check_items_independent(solver: Any) -> None:
    """An item's image is the same alone, in a batch of other scales, and in what is left of a batch."""
    for name, known in _taken(solver):
        together = _stepped(solver, known.pose(), 6)
        for item in range(len(SCALES)):
            alone = _stepped(solver, known.pose([item]), 6)
            require_close(
                together[item],
                alone[0],
                f"item {item} of {name} depends on its mates (batch of three against alone, 6 steps): is a step size, "
                "a norm or an inner product taken over the whole batch?",
                1e-8,
            )
        problem, places = known.pose(), torch.tensor([0, 2])
        state = solver.start(problem)
        for _ in range(3):
            state = solver.step(problem, state)
        problem, state = problem.select(places), select(state, places)
        for _ in range(3):
            state = solver.step(problem, state)
        what = (
            f"{name} goes on differently once an item has stopped: does the state hold all that step needs?"
        )
        require_close(solver.image(state), together[places], what, 1e-8)


def check_weight_per_item(solver: Any) -> None:
    """An automatic weight is `problem.strength`, one an item, and may change on the way."""
    strengths = (0.1, 1.0, 0.5)
    for name, known in _taken(solver):
        if name not in ("ridge", "soft_threshold"):
            continue
        problem = known.pose(weight="auto")
        state = solver.start(problem)
        for _ in range(5):
            state = solver.step(problem, state)
        problem.strength = torch.tensor(strengths)
        state = reweighted(solver, problem, state)
        for _ in range(3000):
            before, state = solver.image(state), solver.step(problem, state)
            if relative_error(solver.image(state), before) < SETTLED:
                break
        image = solver.image(state)
        for item, strength in enumerate(strengths):
            error = _error(image[item], known.solve(strength)[item], known.data[item])
            require(
                error <= CLOSE_TO_SOLUTION,
                f"{name} with the weight of each item in problem.strength {strengths}, changed after 5 steps: item "
                f"{item} is {error:.1e} from its solution, expected at most {CLOSE_TO_SOLUTION:.0e}. Take weights "
                "from term.weight(problem.strength, x) in each step; a state that depends on them needs `reweighted`",
            )


def check_same_seed(solver: Any) -> None:
    """With the same seed the same images, to the last bit."""
    for name, known in _taken(solver):
        torch.manual_seed(0)
        first = _stepped(solver, known.pose(), 5)
        torch.manual_seed(0)
        second = _stepped(solver, known.pose(), 5)
        require(torch.equal(first, second), f"two runs on {name} with the same seed differ")


def check_default_stop(solver: Any) -> None:
    """It stops by its own rule within 30 seconds, near the solution."""
    rule = solver.default_stop()
    require(
        isinstance(rule, StoppingRule),
        f"default_stop gives {rule!r}, expected a rule such as recon.RelativeChange(1e-4) | recon.MaxIterations(500)",
    )
    for name, known in _taken(solver):
        image, iterations = _solved(solver, known.pose(), rule | TimeLimit("30s"))
        solution = known.solve(WEIGHT)
        for item in range(len(SCALES)):
            error = _error(image[item], solution[item], known.data[item])
            require(
                error <= BY_DEFAULT,
                f"{name} stops by {rule!r} after {iterations} iterations {error:.1e} from the solution of item {item}, "
                f"expected at most {BY_DEFAULT:.0e}: the rule fires too early, or the algorithm is not done",
            )


CHECKS: tuple[Check, ...] = (
    check_needs,
    check_refusals,
    check_generator,
    check_state,
    check_step_keeps_state,
    check_items_independent,
    check_weight_per_item,
    check_same_seed,
    check_default_stop,
)


def _given(prior: Prior, weight: float | str) -> Prior:
    """A prior that has its weight already."""
    return prior


def _taken(solver: Any) -> list[tuple[str, Known]]:
    """The problems that the solver takes."""
    return [
        (name, known) for name, known in known_problems().items() if _refusal(solver, known.pose()) is None
    ]


def _refusal(solver: Any, problem: Problem) -> Exception | None:
    """The error with which `start` refuses the problem, or None."""
    try:
        with torch.no_grad():
            solver.start(problem)
    except REFUSALS as error:
        return error
    return None


def _solved(solver: Any, problem: Problem, stop: StoppingRule) -> tuple[Tensor, int]:
    try:
        with torch.no_grad():
            outcome = run(problem, solver, stop=stop)
    except DivergenceError as error:
        raise AssertionError(f"it diverges on a problem of condition number 9: {error}") from error
    return outcome.image, max(outcome.iterations)


def _stepped(solver: Any, problem: Problem, steps: int) -> Tensor:
    with torch.no_grad():
        state = solver.start(problem)
        for _ in range(steps):
            state = solver.step(problem, state)
        image: Tensor = solver.image(state)
    return image


def _wrong_solution(known: Known, image: Tensor, error: float, iterations: int) -> str:
    """The message, with the other problem that the image solves, if it is a likely one."""
    text = (
        f"on {known.words} with weight {WEIGHT} it is {error:.1e} from the closed form after {iterations} "
        f"iterations, expected at most {CLOSE_TO_SOLUTION:.0e}"
    )
    likely = {
        0.0: "the prior is ignored: refuse in `start` what it does not take",
        2 * WEIGHT: "twice the weight is used (1/2 |Ax - y|^2 has the half)",
        WEIGHT / 2: "half the weight is used (1/2 |Ax - y|^2 has the half)",
        WEIGHT**2: "the weight is used twice",
        1.0: "the weight is ignored",
    }
    for weight, cause in likely.items():
        if _error(image, known.solve(weight), known.data) <= CLOSE_TO_SOLUTION:
            return f"{text}. It solves the problem with weight {weight:g}: {cause}"
    return f"{text}. It stops elsewhere, or needs more iterations: compare the objective with that of the closed form"


def _error(image: Tensor, solution: Tensor, data: Tensor) -> float:
    """|image - solution| relative to the solution or a tenth of the data: a solution may be zero."""
    size = max(float(solution.norm()), 0.1 * float(data.norm()))
    difference = float((image - solution).norm())
    return difference / size if math.isfinite(difference) else math.inf


def _fields(state: Any) -> list[tuple[str, Any]]:
    """The tensors of a state with their names, lists spelt out."""
    found: list[tuple[str, Any]] = []
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if isinstance(value, list):
            found += [(f"{field.name}[{place}]", item) for place, item in enumerate(value)]
        else:
            found.append((field.name, value))
    return found


def _shown(value: Any) -> str:
    return (
        f"a tensor of shape {tuple(value.shape)}"
        if isinstance(value, Tensor)
        else f"a {type(value).__name__}"
    )
