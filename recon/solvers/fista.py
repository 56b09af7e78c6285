"""FISTA: accelerated proximal gradients with adaptive restart."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from recon.linear import Identity, real_dtype
from recon.priors import Denoiser, Functional
from recon.problem import Problem
from recon.solvers.admm import ADMM
from recon.solvers.algorithm import Iterative, inner, norm, per_item, refuse_generator
from recon.solvers.steps import squared_norm
from recon.stopping import MaxIterations, SmallResiduals, StoppingRule
from recon.terms import Term


@dataclasses.dataclass
class FISTAState:
    """Image, the point ahead of it, and what is known of both.

    Attributes:
        x: image ``(B, *shape)``.
        ahead: the point v from which the next step goes.
        predicted: A x and A v where the data term is not quadratic; else none.
        momentum: t of each item, ``(B,)``.
        lipschitz: L of the data term, ``(B,)``.
        primal: L |v - x| / |gradient at v|, a bound of what is left of the optimality condition at x, ``(B,)``.
        dual: zero, for there is no second residual.
    """

    x: Tensor
    ahead: Tensor
    predicted: list[Tensor]
    momentum: Tensor
    lipschitz: Tensor
    primal: Tensor
    dual: Tensor


class FISTA(Iterative):
    """Minimise f(A x; y) + q(x) + g(x), q quadratic and g with a proximal map (Beck and Teboulle 2009).

        x' = prox_{g/L}(v - (A^H f'(A v; y) + q'(v)) / L)
        t' = (1 + sqrt(1 + 4 t^2)) / 2
        v' = x' + (t - 1)/t' (x' - x)

    with the momentum let go, t' = 1 and v' = x', where it points uphill: <v - x', x' - x> > 0 (O'Donoghue and Candes
    2015). L is |A^H W A| + sum_i w_i |K_i|^2 of guaranteed norms for least squares. For a data term that is not
    quadratic that is the first guess, of its expansion around the data. Then L shrinks by 5 % an iteration, and is
    doubled until

        <f'(A x') - f'(A v), A x' - A v> <= L/2 |x' - v|^2.

    The product, in which nothing cancels, is at least what f lies above its tangent at v (compare Becker, Candes and
    Grant 2011, 5.3), so that the step is a sufficient one.

    Takes any number of quadratic priors (`Tikhonov`) and besides them one term whose proximal map it can take of the
    image itself: a functional of the image (`L1`, a constraint), a functional of an orthonormal transform
    (decimated wavelets), or a denoiser (plug-and-play). On real images, bounds may be added to a functional of every
    pixel alone, as prox and projection then are one after the other. Anything else it refuses.
    """

    def default_stop(self) -> StoppingRule:
        """A relative residual below 1e-3, or 2000 iterations."""
        return SmallResiduals(1e-3) | MaxIterations(2000)

    def searching(self) -> ADMM:
        """ADMM finds an automatic weight: it follows a change within the few iterations between two looks."""
        return ADMM()

    def check(self, problem: Problem) -> None:
        """Refuse priors and data terms that it does not take."""
        refuse_generator(problem, "fista")
        _sorted(problem)
        if not problem.item_fidelity.smooth:
            raise ValueError(
                "solver='fista' needs a data term with a gradient everywhere, which fidelity "
                f"{problem.item_fidelity.name!r} has not: use solver='pdhg', 'admm', or 'osem' without a prior"
            )

    def start(self, problem: Problem) -> FISTAState:
        """The first image, at rest."""
        self.check(problem)
        x = problem.start
        predicted = [] if problem.item_fidelity.quadratic else [problem.operator(x)] * 2
        none = torch.zeros_like(problem.strength)
        return FISTAState(x, x, predicted, none + 1, squared_norm(problem), none + 1, none)

    def reweighted(self, problem: Problem, state: FISTAState) -> FISTAState:
        """At rest again: the momentum belongs to another objective."""
        return dataclasses.replace(
            state,
            ahead=state.x,
            predicted=state.predicted[:1] * 2,
            momentum=torch.ones_like(state.momentum),
        )

    def step(self, problem: Problem, state: FISTAState) -> FISTAState:
        """One proximal gradient step from the point ahead, and the next point."""
        smooth, own = _sorted(problem)
        v = state.ahead
        lipschitz = state.lipschitz if not state.predicted else 0.95 * state.lipschitz
        slope = _gradient(problem, state)
        curvature = torch.zeros_like(lipschitz)
        for term in smooth:
            slope = slope + term.weight(problem.strength, v) * term.K._run_gram(v)
            curvature = curvature + term.weight(problem.strength, problem.strength) * term.K.norm() ** 2
        for _ in range(_MOST_TRIALS):
            total = per_item(lipschitz + curvature, v).to(real_dtype(v.dtype))
            x = _proximal(own, v - slope / total, 1 / total, problem.strength)
            predicted, bent = _tried(problem, state, x, lipschitz)
            if not bool(bent.any()):
                break
            lipschitz = torch.where(bent, 2 * lipschitz, lipschitz)
        moved = v - x
        scale = torch.maximum(norm(slope), 1e-3 * norm(problem.backprojection)).clamp_min(1e-30)
        uphill = inner(moved, x - state.x) > 0
        momentum = (1 + torch.sqrt(1 + 4 * state.momentum.square())) / 2
        push = torch.where(uphill, 0, (state.momentum - 1) / momentum)
        return FISTAState(
            x,
            _beyond(x, state.x, push),
            [part for new in predicted for part in (new, _beyond(new, state.predicted[0], push))],
            torch.where(uphill, 1, momentum),
            lipschitz,
            (norm(total * moved) / scale).to(lipschitz),
            torch.zeros_like(lipschitz),
        )

    def image(self, state: FISTAState) -> Tensor:
        """The image x."""
        return state.x

    def account(self, problem: Problem, state: FISTAState) -> list[str]:
        """The step and where it comes from."""
        curvature = state.lipschitz[:1].clone()
        for term in _sorted(problem)[0]:
            weight = term.weight(problem.strength, problem.strength)
            curvature = curvature + (weight * term.K.norm() ** 2)[:1]
        origin = (
            "found by trying: longer where the data term's gradient allows it, halved where not"
            if state.predicted
            else "one over a guaranteed bound of the curvature of data term and quadratic priors"
        )
        return [
            f"Step size {1 / float(curvature[0]):.3g} ({origin}); the momentum is let go where it points uphill."
        ]

    def __repr__(self) -> str:
        return "FISTA()"


_MOST_TRIALS = 60  # doublings: from the smallest number of float32 to beyond any curvature


def _gradient(problem: Problem, state: FISTAState) -> Tensor:
    """A^H f'(A v; y)."""
    if not state.predicted:
        return problem.normal(state.ahead) - problem.backprojection
    return problem.operator.adjoint(problem.item_fidelity.gradient(state.predicted[1], problem.y))


def _tried(problem: Problem, state: FISTAState, x: Tensor, lipschitz: Tensor) -> tuple[list[Tensor], Tensor]:
    """A x, where the data term is not quadratic, and the items for which the step was too long."""
    if not state.predicted:
        return [], torch.zeros_like(lipschitz, dtype=torch.bool)
    term, before = problem.item_fidelity, state.predicted[1]
    predicted = problem.operator(x)
    difference, slope = predicted - before, term.gradient(before, problem.y)
    turn = term.gradient(predicted, problem.y) - slope
    moved = x - state.ahead
    # where the iteration has nearly ended, the last digits say nothing of the curvature
    rounding = torch.finfo(real_dtype(x.dtype)).eps * (
        norm(slope) * norm(difference) + norm(turn) * norm(predicted)
    )
    allowed = lipschitz / 2 * inner(moved, moved).to(lipschitz) + 10 * rounding.to(lipschitz)
    return [predicted], ~(inner(turn, difference).to(lipschitz) <= allowed)


def _proximal(own: list[Term], z: Tensor, step: Tensor, strength: Tensor) -> Tensor:
    """The proximal maps, one after the other; through an orthonormal K as K^H prox(K z) + (z - K^H K z)."""
    for term in own:
        if isinstance(term.K, Identity):
            z = term.prox(z, step, strength)
        else:
            mapped = term.K._run(z, adjoint=False)
            z = z + term.K._run(term.prox(mapped, step, strength) - mapped, adjoint=True)
    return z


def _beyond(new: Tensor, old: Tensor, push: Tensor) -> Tensor:
    return new + per_item(push, new).to(real_dtype(new.dtype)) * (new - old)


def _sorted(problem: Problem) -> tuple[list[Term], list[Term]]:
    """The quadratic terms, and those whose proximal maps are taken one after the other, bounds last.

    Raises:
        ValueError: a prior, or a sum of priors, that FISTA does not take.
    """
    smooth, own = [], []
    for term in problem.terms:
        prior = term.prior
        if isinstance(prior, Functional) and prior.quadratic:
            smooth.append(term)
        elif isinstance(prior, Denoiser) or isinstance(term.K, Identity) or term.K.orthonormal:
            own.append(term)
        else:
            raise ValueError(
                f"solver='fista' takes priors on the image itself, got the prior {type(prior).__name__}, which looks "
                f"at it through {type(term.K).__name__}: use solver='admm' or 'pdhg'"
            )
    bounds = [term for term in own if _is_separable(term) and term.constraint]
    others = [term for term in own if term not in bounds]
    exact = not others or not bounds or (_is_separable(others[0]) and not problem.is_complex)
    if len(others) > 1 or not exact or (len(bounds) > 1 and problem.is_complex):
        names = " + ".join(type(term.prior).__name__ for term in own)
        raise ValueError(
            "solver='fista' takes one prior with a proximal map, beside quadratic ones, and on real images bounds "
            f"beside a functional of every pixel alone; got the priors {names}: use solver='admm' or 'pdhg'"
        )
    return smooth, [*others, *bounds]


def _is_separable(term: Term) -> bool:
    return isinstance(term.prior, Functional) and term.prior.separable and isinstance(term.K, Identity)
