"""What `Solution.explain` says is what happened."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import L1, TV, Masked, Matrix, NonNegative, NonNegativeMatrix, Ridge, Smoother
from torch import Tensor

import recon
from recon.explanation import explanation


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def noisy_steps() -> Tensor:
    """A piecewise constant image with noise of 0.1."""
    return random(4, 4, seed=1).repeat_interleave(6, 0).repeat_interleave(6, 1) + 0.1 * random(24, 24)


def told(solution: recon.Solution, heading: str) -> str:
    return " ".join(dict(explanation(solution)).get(heading, []))


def test_the_noise_level_is_named_with_its_source() -> None:
    y = noisy_steps()
    given = recon.solve(recon.Identity((24, 24)), TV(), y, fidelity=("gaussian", {"noise_level": 0.1}))
    assert "0.1, as given" in told(given, "Noise level")
    estimated = recon.solve(recon.Identity((24, 24)), TV(), y)
    level = float(estimated.problem.noise_level[0])  # type: ignore[union-attr]
    words = told(estimated, "Noise level")
    assert f"{level:.4g}, estimated from the data (Identity.noise_level: " in words
    assert "follows the noise level" in told(estimated, "What to try")
    unused = recon.solve(recon.Identity((24, 24)), TV(0.1), y)
    assert "not needed" in told(unused, "Noise level")


class Halved(recon.Gaussian):
    """A data term of somebody else, which knows its noise no better than least squares do."""

    def for_items(self, y: Tensor, batch_shape: Any) -> Halved:
        part = Halved()
        part.noise_level = super().for_items(y, batch_shape).noise_level
        return part

    def select(self, items: Tensor) -> Halved:
        part = Halved()
        part.noise_level = None if self.noise_level is None else self.noise_level[items]
        return part


def test_only_counts_are_told_as_the_source_of_the_noise_level() -> None:
    y, stop = noisy_steps().abs() + 0.1, recon.MaxIterations(5)
    identity = recon.Identity((24, 24))
    own = recon.solve(identity, TV(), y, fidelity=Halved(), stop=stop)
    assert "estimated from the data" in told(own, "Noise level")
    given = recon.solve(identity, TV(), y, fidelity=Halved(noise_level=0.1), stop=stop)
    assert "0.1, as given" in told(given, "Noise level")
    counted = recon.solve(identity, TV(), y, fidelity="pwls:photons=1e3", stop=stop)
    assert "Known from the counts" in told(counted, "Noise level")


def test_the_weight_and_its_search_are_told() -> None:
    solution = recon.solve(recon.Identity((24, 24)), TV(), noisy_steps())
    words = told(solution, "Weight")
    assert words.startswith(f"{solution.weight:.4g}, chosen ")
    last = solution.weight_search[-1]
    assert f"{len(solution.weight_search)} looks" in words
    assert f"{last['residual'][0]:.3g} against {last['target'][0]:.3g}" in words
    fixed = recon.solve(recon.Identity((24, 24)), TV(0.2) + L1(0.1) + NonNegative(), noisy_steps())
    assert told(fixed, "Weight") == "Given: 0.2 for TV, 0.1 for L1."
    assert "Constraint: NonNegative." in told(fixed, "What was solved")


@pytest.mark.parametrize(
    ("prior", "solver", "why"),
    [
        (None, "Direct()", "there is no prior"),
        (Ridge(0.1), "CG()", "one linear system"),
        (TV(0.1), "ADMM(", "not quadratic"),
        (Smoother(0.1), "ADMM(", "not quadratic"),
    ],
)
def test_the_solver_is_told_with_the_reason(prior: Any, solver: str, why: str) -> None:
    operator = Matrix(random(20, 12), (3, 4))
    words = told(recon.solve(operator, prior, random(20, seed=1)), "Solver")
    assert words.startswith(solver) and why in words
    if prior is not None:
        asked = recon.solve(operator, prior, random(20, seed=1), solver=recon.ADMM(rho=0.5))
        words = told(asked, "Solver")
        assert "it was asked for" in words and re.search(r"Penalties at the end: 0\.5 .*as given", words)


def test_the_x_step_is_told_as_it_is_done() -> None:
    mask = (random(12, 12) > 0).float()
    iterated = told(recon.solve(Matrix(random(20, 12)), L1(0.1), random(20), solver=recon.ADMM()), "Solver")
    assert "8 warm-started conjugate gradient steps, without a preconditioner" in iterated

    class Known(Masked):
        def solve_gram(self, b, rho, terms):  # type: ignore[no-untyped-def]
            return b / (self.mask + rho[0])

    closed = told(recon.solve(Known(mask), L1(0.1), mask * random(12, 12)), "Solver")
    assert "in closed form" in closed


@pytest.mark.filterwarnings("ignore::recon.ConvergenceWarning")
def test_why_it_stopped_is_told_of_every_image() -> None:
    y = torch.stack([noisy_steps(), torch.zeros(24, 24)])
    solution = recon.solve(
        recon.Identity((24, 24)), TV(0.1), y, stop=recon.SmallResiduals(1e-4) | recon.MaxIterations(3)
    )
    words = told(solution, "Why it stopped")
    for item, reason in enumerate(solution.reasons):
        assert f"{reason} after {solution.facts['iterations'][item]} iteration" in words
    assert solution.reasons[0] != solution.reasons[1], "the test needs two different ends"
    assert "1 of 2 images converged" in words


@pytest.mark.filterwarnings("ignore::recon.ConvergenceWarning")
def test_the_forecast_of_iterations_comes_true() -> None:
    """A linear rate, so that the extrapolation is right within a factor two."""
    A = Matrix(random(40, 24))
    y = random(40, seed=1)
    rule = recon.SmallResiduals(1e-5)
    first = recon.solve(A, L1(2.0), y, solver=recon.ADMM(rho=60.0), stop=rule | recon.MaxIterations(20))
    words = told(first, "What to try")
    assert "where 1e-05 was asked for" in words
    found = re.search(r"some (\d+) iterations more", words)
    assert found is not None, words
    whole = recon.solve(A, L1(2.0), y, solver=recon.ADMM(rho=60.0), stop=rule | recon.MaxIterations(5000))
    assert whole.converged
    assert 0.5 < int(found[1]) / (whole.iterations - 20) < 2


@pytest.mark.filterwarnings("ignore::recon.ConvergenceWarning")
def test_a_run_that_stands_still_is_not_told_to_go_on() -> None:
    """Single precision cannot reach 1e-12."""
    solution = recon.solve(
        Matrix(random(40, 24)),
        L1(2.0),
        random(40),
        solver=recon.ADMM(),
        stop=recon.SmallResiduals(1e-12) | recon.MaxIterations(400),
    )
    assert "more iterations will hardly help" in told(solution, "What to try")


def test_a_loaded_solution_explains_itself_alike(tmp_path: Path) -> None:
    solution = recon.solve(recon.Identity((24, 24)), TV() + L1(0.01), noisy_steps())
    solution.save(tmp_path)
    assert recon.Solution.load(tmp_path).explain() == solution.explain()


def test_a_solution_without_record_says_so() -> None:
    solution = recon.solve(recon.Identity((24, 24)), None, noisy_steps())
    solution.facts = {}
    with pytest.raises(ValueError, match="earlier version"):
        solution.explain()


def test_an_algorithm_whose_account_fails_does_not_cost_the_image() -> None:
    class Silent(recon.ADMM):
        def account(self, problem: recon.Problem, state: Any) -> list[str]:
            raise RuntimeError("nothing to say")

    solution = recon.solve(recon.Identity((24, 24)), TV(0.1), noisy_steps(), solver=Silent())
    assert "RuntimeError: nothing to say" in told(solution, "Solver")


def number(words: str, before: str) -> float:
    """The number after this text."""
    found = re.search(re.escape(before) + r"(-?[\d.]+(?:e[-+]?\d+)?)", words)
    assert found is not None, words
    return float(found[1].rstrip("."))


def steps_told(prior: Any, solver: Any, operator: Any = None, **options: Any) -> str:
    operator = Matrix(random(20, 12), (3, 4)) if operator is None else operator
    y = options.pop("y", random(20, seed=1))
    stop = None if isinstance(solver, recon.Direct) else recon.MaxIterations(3)
    return told(recon.solve(operator, prior, y, solver=solver, stop=stop, **options), "Solver")


def test_the_step_of_fista_is_below_that_of_the_norm() -> None:
    norm = float(torch.linalg.matrix_norm(random(20, 12), 2))
    step = number(steps_told(L1(0.1) + Ridge(2.0), recon.FISTA()), "Step size ")
    assert 0.9 < step * (norm**2 + 2.0) < 1.01  # a bound of the norm, three digits


def test_the_steps_of_pdhg_satisfy_its_condition() -> None:
    words = steps_told(TV(0.1), recon.PDHG(adaptive=False))
    norm = float(torch.linalg.matrix_norm(random(20, 12), 2))
    primal, data, prior = (number(words, text) for text in ("at the end: ", "dual steps ", "for the data, "))
    squared = (
        4 - 2 * math.cos(2 * math.pi / 3) - 2 * math.cos(3 * math.pi / 4)
    )  # of differences of 3 x 4 pixels
    assert data == 1 and 0.9 < primal * (norm**2 + prior * squared) < 1.02  # bounds of the norms
    assert "The data term is split off" in words


def test_noise_levels_of_plug_and_play_are_those_of_the_data() -> None:
    """A^H A = 4: noise of 0.2 in the data leaves 0.1 in the image."""
    operator = Matrix(2 * torch.eye(144), (12, 12), (12, 12))
    options = {"operator": operator, "y": noisy_steps()[:12, :12], "weight": 0.04}
    words = steps_told(Smoother(), recon.RED(level=0.5), **options)
    assert number(words, "noise level is ") == pytest.approx(0.05, rel=0.01)
    assert number(words, "penalty ") == pytest.approx(0.04 / 0.05**2, rel=0.01)
    words = steps_told(Smoother(), recon.HQS(iterations=3, last=1.0), **options)
    assert number(words, " to ") == pytest.approx(0.1, rel=0.01) and "a schedule of 3 iterations" in words
    words = steps_told(Smoother(0.1), recon.Splitting(rho=0.5, eta=2.0), operator, y=options["y"])
    assert number(words, "its penalty is ") == pytest.approx(0.5 / 4 * 4, rel=0.05)  # of a bound of the norm
    assert "the network's image is given back" in words


def test_what_needs_no_choice_says_so() -> None:
    assert "Matrix.pinv, applied once" in steps_told(None, recon.Direct())
    assert "exact minimum along its direction" in steps_told(Ridge(0.1), recon.CG())
    assert "follow from the bidiagonalisation" in steps_told(Ridge(0.1), recon.LSQR())
    operator = NonNegativeMatrix(random(20, 12).abs(), (3, 4))
    words = steps_told(None, recon.SIRT(relaxation=1.5), operator)
    rows = random(20, 12).abs()
    columns = (rows / rows.sum(1, keepdim=True) * rows.sum(1, keepdim=True)).sum(0)
    assert "the step 1.5 over its column sum" in words
    assert number(words, "(from ") == pytest.approx(float(1 / columns.max()), rel=0.01)
    counts = torch.poisson(operator(torch.ones(3, 4)), generator=torch.Generator().manual_seed(0))
    words = steps_told(None, recon.MLEM(), operator, y=counts, fidelity="emission")
    assert "all data at once" in words


def test_one_application_is_told_without_a_weight() -> None:
    solution = recon.solve(
        recon.Identity((24, 24)), Smoother(), noisy_steps(), solver=recon.Feedforward(sigma=0.1)
    )
    assert "applied once to the direct reconstruction" in told(solution, "Solver")
    assert "the weight that was chosen" not in told(solution, "What was solved")


def test_a_search_for_the_weight_is_not_counted_as_iterations() -> None:
    words = told(recon.solve(recon.Identity((24, 24)), TV(), noisy_steps()), "Why it stopped")
    assert "not counting those of the search for the weight" in words
    fixed = told(recon.solve(recon.Identity((24, 24)), TV(0.1), noisy_steps()), "Why it stopped")
    assert "search" not in fixed
