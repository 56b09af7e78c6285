"""Which solver ``solver="auto"`` takes, for which reason, and what a plugin may say to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_models import L1, TV, MaskedFourier, Matrix, NonNegative, Ridge, Smoother
from torch import Tensor, nn

import recon
from recon.choosing import chosen_solver, has_closed_form, preferred

ALL = frozenset({"direct", "cg", "admm", "fista", "pdhg", "dip", "feedforward"})
FEW = frozenset({"direct", "cg", "admm"})


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def problem(prior: Any, operator: Any = None, fidelity: Any = "gaussian") -> recon.Problem:
    operator = Matrix(random(30, 20).abs(), (4, 5)) if operator is None else operator
    return recon.Problem(
        operator, operator(random(*operator.domain_shape).abs()), prior=prior, fidelity=fidelity
    )


class Trained(Smoother):
    """A network that was trained end to end says so."""

    end_to_end = True


class Wavelike(L1):
    """l1 of an orthonormal transform."""

    def K(self, shape: Any) -> recon.LinearOperator:
        """The image read backwards, which says that it is orthonormal."""
        K = Matrix(torch.eye(20).flip(0), (4, 5), (4, 5))
        K.orthonormal = True
        return K


class NonConvex(L1):
    """Not convex."""

    convex = False


FOURIER = MaskedFourier((random(4, 5) > 0).float())


@pytest.mark.parametrize(
    ("prior", "operator", "with_all", "with_few"),
    [
        (None, None, "direct", "direct"),
        (Ridge(0.1), None, "cg", "cg"),
        (Ridge(0.1) + Ridge(0.1, gradient=True), None, "cg", "cg"),
        (L1(0.1), None, "fista", "admm"),
        (L1(0.1) + Ridge(0.1), None, "fista", "admm"),
        (NonNegative(), None, "fista", "admm"),
        (Wavelike(0.1), None, "fista", "admm"),
        (NonConvex(0.1), None, "admm", "admm"),
        (L1(0.1), FOURIER, "admm", "admm"),  # a closed form
        (L1(0.1) + NonNegative(), None, "admm", "admm"),
        (TV(0.1), None, "admm", "admm"),
        (TV(0.1) + NonNegative(), None, "admm", "admm"),
        (Smoother(0.1), None, "admm", "admm"),
        (Trained(0.1), None, "feedforward", "admm"),
        (recon.Generator(nn.Identity(), torch.zeros(1, 4, 5)), None, "dip", "dip"),
    ],
)
def test_the_rule(prior: Any, operator: Any, with_all: str, with_few: str) -> None:
    posed = problem(prior, operator)
    for known, expected in ((ALL, with_all), (FEW, with_few)):
        name, why = preferred(posed, known)
        assert name == expected and len(why) > 20


def test_weights_in_the_data_term_take_the_closed_form_away() -> None:
    weighted = ("gaussian", {"weights": torch.linspace(1, 2, 20).reshape(4, 5)})
    assert has_closed_form(problem(L1(0.1), FOURIER)) and not has_closed_form(
        problem(L1(0.1), FOURIER, weighted)
    )
    assert preferred(problem(L1(0.1), FOURIER, weighted), ALL)[0] == "fista"


def test_counted_photons_are_left_to_admm() -> None:
    term = "poisson:photons=1e4"
    assert preferred(problem(L1(0.1), fidelity=term), ALL)[0] == "admm"
    assert preferred(problem(Ridge(0.1), fidelity=term), ALL)[0] == "admm"


@pytest.mark.parametrize(
    "prior", [None, Ridge(0.1), L1(0.1), TV(0.1), TV(0.1) + NonNegative(), Smoother(0.1)]
)
def test_what_is_chosen_takes_the_problem(prior: Any) -> None:
    """No choice ends in a refusal."""
    posed = problem(prior)
    choice = chosen_solver("auto", posed)
    state = choice.algorithm.step(posed, choice.algorithm.start(posed))
    assert bool(torch.isfinite(choice.algorithm.image(state)).all())
    assert choice.asked == "auto"


def test_the_choice_is_in_the_record() -> None:
    operator = Matrix(random(30, 20), (4, 5))
    solution = recon.solve(operator, TV(0.1), operator(random(4, 5)))
    name, why = preferred(problem(TV(0.1)), FEW)
    assert name == "admm" and why in solution.explain() and solution.facts["solver"]["asked"] == "auto"
