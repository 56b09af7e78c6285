"""The checks of solvers pass the faultless ones and catch the fault that each is there for, in words."""

import dataclasses
import re

import pytest
import torch

import recon
from recon.priors import Functional
from recon.solvers.algorithm import inner, per_item
from recon.stopping import MaxIterations, RelativeChange
from recon.testing import check_solver, solver_checks
from recon.testing.closed_forms import known_problems
from recon.testing.running import judge


@dataclasses.dataclass
class State:
    """The iterate."""

    x: torch.Tensor


class ProximalGradient:
    """x = prox_{t g}(x - t A^H (A x - y)) with t = 1/|A|^2: slow and simple, a faultless solver to spoil."""

    def start(self, problem):
        for term in problem.terms:
            if not isinstance(term.prior, Functional) or not isinstance(term.K, recon.Identity):
                raise ValueError(
                    f"proximal gradients take one functional of the image, got prior {term.prior}"
                )
        if len(problem.terms) > 1 or self.generates(problem):
            raise ValueError("proximal gradients take at most one prior")
        return State(problem.start)

    def generates(self, problem):
        return problem.generator is not None

    def step(self, problem, state):
        size = self.size(problem, state)
        x = state.x - size * (problem.normal(state.x) - problem.backprojection)
        return State(self.prox(problem, x, size))

    def size(self, problem, state):
        return 1 / problem.operator.norm() ** 2

    def prox(self, problem, x, size):
        for term in problem.terms:
            x = term.prox(x, size, problem.strength)
        return x

    def image(self, state):
        return state.x

    def default_stop(self):
        return RelativeChange(1e-6) | MaxIterations(2000)


class IgnoresPrior(ProximalGradient):
    def prox(self, problem, x, size):
        return x


class AcceptsAll(IgnoresPrior):
    def start(self, problem):
        return State(problem.start)


class WrongSide(ProximalGradient):
    def prox(self, problem, x, size):
        return -super().prox(problem, -x, size)


class IgnoresGenerator(ProximalGradient):
    def generates(self, problem):
        return False


class TwiceTheWeight(ProximalGradient):
    def prox(self, problem, x, size):
        return super().prox(problem, x, 2 * size)


class TooLongSteps(ProximalGradient):
    def size(self, problem, state):
        return 2.5 / problem.operator.norm() ** 2


class InPlace(ProximalGradient):
    def step(self, problem, state):
        state.x.copy_(super().step(problem, state).x)
        return State(state.x.clone())


class ChangesData(ProximalGradient):
    def step(self, problem, state):
        new = super().step(problem, state)
        problem.y.mul_(0.999)
        return new


class ChangesStart(ProximalGradient):
    def step(self, problem, state):
        problem.x0.add_(1)
        return super().step(problem, state)


class CoupledItems(ProximalGradient):
    """A line search with one step for the whole batch."""

    def size(self, problem, state):
        gradient = problem.normal(state.x) - problem.backprojection
        image = problem.operator(gradient)
        return float(inner(gradient, gradient).sum() / inner(image, image).sum().clamp_min(1e-30)) * 0.3


class CountsInItself(ProximalGradient):
    """Steps that shrink with a count kept outside the state: wrong once an item has left, or on resuming."""

    def start(self, problem):
        self.count = 0
        return super().start(problem)

    def size(self, problem, state):
        self.count += len(state.x)
        return super().size(problem, state) / (1 + self.count / 100)


class Random(ProximalGradient):
    def size(self, problem, state):
        return super().size(problem, state) * (0.5 + 0.5 * torch.rand((), generator=self.generator))

    generator = torch.Generator().manual_seed(0)


class TupleState(ProximalGradient):
    def start(self, problem):
        return (super().start(problem).x,)

    def step(self, problem, state):
        return (super().step(problem, State(state[0])).x,)

    def image(self, state):
        return state[0]


@dataclasses.dataclass
class CountedState(State):
    """The iterate and a plain number."""

    iteration: int = 0


class NumberInState(ProximalGradient):
    def start(self, problem):
        return CountedState(super().start(problem).x)


class FlatImage(ProximalGradient):
    def image(self, state):
        return state.x.flatten(1)


class StopsAtOnce(ProximalGradient):
    def default_stop(self):
        return MaxIterations(1)


class NoRule(ProximalGradient):
    def default_stop(self):
        return 100


class RudeRefusal(ProximalGradient):
    def start(self, problem):
        try:
            return super().start(problem)
        except ValueError:
            raise ValueError("no") from None


class FailsLate(ProximalGradient):
    def start(self, problem):
        return State(problem.start)

    def step(self, problem, state):
        super().start(problem)
        return super().step(problem, state)


class RefusesAll(ProximalGradient):
    def start(self, problem):
        raise ValueError("this prior is not for me")


class QuadraticOnly(ProximalGradient):
    def start(self, problem):
        if any(not term.prior.quadratic for term in problem.terms if isinstance(term.prior, Functional)):
            raise ValueError("only quadratic priors")
        return super().start(problem)


class WeightFromStart(ProximalGradient):
    """The weight is taken once, at the start, and one for all items."""

    def start(self, problem):
        self.strength = problem.strength[:1].clone()
        return super().start(problem)

    def prox(self, problem, x, size):
        for term in problem.terms:
            x = term.prox(x, size, self.strength.expand(len(x)))
        return x


class NoImage:
    def start(self, problem):
        return State(problem.start)

    def step(self, problem, state):
        return state


FAULTS = [
    (IgnoresPrior, "ridge", "It solves the problem with weight 0: the prior is ignored"),
    (AcceptsAll, "tikhonov", "It solves the problem with weight 0: the prior is ignored"),
    (AcceptsAll, "denoiser", "It solves the problem with weight 0: the prior is ignored"),
    (IgnoresPrior, "soft_threshold", "It solves the problem with weight 0: the prior is ignored"),
    (WrongSide, "projection", r"on denoising under x >= 0 with weight 0.3 it is .* from the closed form"),
    (TwiceTheWeight, "ridge", r"It solves the problem with weight 0\.6: twice the weight is used"),
    (TwiceTheWeight, "soft_threshold", r"It solves the problem with weight 0\.6: twice the weight is used"),
    (TwiceTheWeight, "complex_ridge", r"It solves the problem with weight 0\.6: twice the weight is used"),
    (TooLongSteps, "least_squares", "it diverges on a problem of condition number 9"),
    (InPlace, "step_keeps_state", "step on least_squares changes x of the state it is given"),
    (ChangesData, "step_keeps_state", "the data of least_squares are changed"),
    (ChangesStart, "step_keeps_state", "the first image of least_squares is changed"),
    (CoupledItems, "items_independent", r"depends on its mates \(batch of three against alone, 6 steps\)"),
    (
        CountsInItself,
        "items_independent",
        "depends on its mates|goes on differently once an item has stopped",
    ),
    (Random, "same_seed", "two runs on least_squares with the same seed differ"),
    (TupleState, "state", "start gives a tuple, expected a dataclass of tensors"),
    (
        NumberInState,
        "state",
        "start on least_squares: iteration is a int, expected a tensor with 3 items first",
    ),
    (
        FlatImage,
        "state",
        r"image after start on least_squares is a tensor of shape \(3, 6\), expected .*\(3, 2, 3\)",
    ),
    (
        StopsAtOnce,
        "default_stop",
        r"stops by MaxIterations\(1\) after 1 iterations .* from the solution of item 0",
    ),
    (NoRule, "default_stop", r"default_stop gives 100, expected a rule such as recon\.RelativeChange"),
    (
        RudeRefusal,
        "refusals",
        r"it refuses tikhonov with ValueError\('no'\), which does not mention the prior",
    ),
    (
        IgnoresGenerator,
        "generator",
        "given a generator of constant images, it gives others: the generator is ignored",
    ),
    (
        IgnoresGenerator,
        "grey_values",
        "on least squares over images of one grey value, .* from the closed form",
    ),
    (FailsLate, "denoiser", "ValueError: proximal gradients take one functional"),
    (RefusesAll, "needs", "it refuses every known problem, least squares too"),
    (
        QuadraticOnly,
        "needs",
        "needs a prox, so that every prior .* but it refuses soft_threshold: only quadratic",
    ),
    (WeightFromStart, "weight_per_item", "Take weights from term.weight"),
    (NoImage, "methods", "NoImage has no method image, default_stop"),
]


@pytest.mark.parametrize(
    ("solver", "needs"),
    [
        (ProximalGradient(), ("adjoint", "prox")),
        (recon.ADMM(), ("adjoint", "prox")),
        (recon.ADMM(rho=2.0, relaxation=1.0), ("adjoint", "prox")),
        (recon.CG(), ("adjoint",)),
        (recon.Direct(), ()),
        (recon.DIP(), ("adjoint", "generator")),
    ],
    ids=["ProximalGradient", "ADMM", "ADMM with a fixed rho", "CG", "Direct", "DIP"],
)
def test_a_faultless_solver_passes_every_check(solver, needs):
    assert check_solver(solver, needs=needs) == list(solver_checks(solver))


@pytest.mark.parametrize(("fault", "check", "said"), FAULTS)
def test_a_fault_is_caught_by_its_check(fault, check, said):
    verdict = judge(solver_checks(fault(), needs=("adjoint", "prox"))[check])
    assert verdict.status == "failed"
    assert re.search(said, verdict.message)


def test_every_check_has_a_fault_that_it_catches():
    assert {check for _, check, _ in FAULTS} - {"methods"} == set(solver_checks(recon.CG()))


def test_a_solver_with_needs_that_no_closed_form_has_is_skipped_not_failed():
    verdict = judge(solver_checks(RefusesAll(), needs=("phase",))["needs"])
    assert verdict.status == "skipped"
    assert verdict.message == "needs phase: no problem with a closed form has it"


@pytest.mark.parametrize("name", sorted(known_problems()))
def test_the_closed_forms_are_minima(name):
    """Independent of any solver: the objective is higher at every point near by."""
    known = known_problems()[name]
    problem, solution = known.pose(), known.solve(0.3)
    if name == "denoiser":  # it has no objective; its fixed point is checked instead
        size = 1 / problem.operator.norm() ** 2
        moved = solution - size * (problem.normal(solution) - problem.backprojection)
        (term,) = problem.terms
        torch.testing.assert_close(term.prox(moved, size, problem.strength), solution, rtol=1e-6, atol=1e-6)
        return
    best = problem.objective(solution)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-1):
        for _ in range(20):
            change = torch.randn(solution.shape, generator=generator, dtype=solution.dtype)
            if problem.generator is not None:  # its images are all there are
                change = change.mean((1, 2), keepdim=True).expand_as(change)
            other = problem.project(solution + size * change)
            assert bool((problem.objective(other) >= best - 1e-12 * best.abs()).all())


def test_the_items_of_a_problem_differ_in_scale():
    for known in known_problems().values():
        sizes = known.data.flatten(1).norm(dim=1)
        assert float(sizes.max() / sizes.min()) > 10
        assert float(per_item(sizes, known.data).min()) > 0
