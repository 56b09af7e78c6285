"""LSQR: least squares by Golub-Kahan bidiagonalisation."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from recon.linear import real_dtype
from recon.priors import Functional
from recon.problem import Problem
from recon.solvers.algorithm import norm, per_item, refuse_generator
from recon.stopping import MaxIterations, SmallResiduals, StoppingRule


@dataclasses.dataclass
class LSQRState:
    """Iterate and bidiagonalisation; scalars are ``(B,)``.

    Attributes:
        x: image ``(B, *shape)``.
        w: direction of the next step.
        v: right vector of the bidiagonalisation.
        u: left vector, its part of the data first, then one of every prior.
        alpha, rho, phi: its last diagonal entry, and rho-bar and phi-bar of the rotations.
        primal: |M^H r| / |A^H W y|, relative residual of the normal equations.
        dual: zero.
    """

    x: Tensor
    w: Tensor
    v: Tensor
    u: list[Tensor]
    alpha: Tensor
    rho: Tensor
    phi: Tensor
    primal: Tensor
    dual: Tensor


class LSQR:
    """Minimise 1/2 |A x - y|_W^2 + sum_i w_i/2 |K_i x|^2 (Paige and Saunders 1982).

    That is min |M d - r|^2 with M = (W^(1/2) A; w_i^(1/2) K_i), r = (W^(1/2) y; 0) - M x0 and x = x0 + d, so that any
    first image leads to the same solution:

        beta u = M v - alpha u;  alpha v = M^H u - beta v
        one plane rotation, x += (phi/rho) w,  w = v - (theta/rho) w

    In exact arithmetic the iterates are those of `CG` on the normal equations; in single precision they stay accurate
    where the condition number squared is too large for those. Takes quadratic priors only (`Tikhonov`), or none.
    """

    def start(self, problem: Problem) -> LSQRState:
        """The operator's direct reconstruction, or x0."""
        refuse_generator(problem, "lsqr")
        if not problem.item_fidelity.quadratic:
            raise ValueError(
                f"solver='lsqr' takes quadratic data terms only, got {problem.item_fidelity.name!r}: use solver='pdhg'"
            )
        for term in problem.terms:
            if not (isinstance(term.prior, Functional) and term.prior.quadratic):
                raise ValueError(
                    f"solver='lsqr' takes quadratic priors only, got the prior {type(term.prior).__name__}: use "
                    "solver='admm'"
                )
        return self._from(problem, problem.start)

    def reweighted(self, problem: Problem, state: LSQRState) -> LSQRState:
        """A new start from the iterate: the bidiagonalisation belongs to the matrix of one weight."""
        return self._from(problem, state.x)

    def step(self, problem: Problem, state: LSQRState) -> LSQRState:
        """One step of the bidiagonalisation and of the solution."""
        u = [_minus(a, state.alpha, b) for a, b in zip(_forward(problem, state.v), state.u, strict=True)]
        u, beta = _normalised(u)
        v = _minus(_adjoint(problem, u), beta, state.v)
        (v,), alpha = _normalised([v])
        rho = torch.sqrt(state.rho.square() + beta.square()).clamp_min(1e-30)
        cosine, sine = state.rho / rho, beta / rho
        theta, phi, rest = sine * alpha, cosine * state.phi, sine * state.phi
        x = _minus(state.x, -phi / rho, state.w)
        w = _minus(v, theta / rho, state.w)
        new_rho = -cosine * alpha
        primal = (rest * alpha * cosine).abs() / _scale(problem, state.phi)
        return LSQRState(x, w, v, u, alpha, new_rho, rest, primal.to(state.primal), state.dual)

    def image(self, state: LSQRState) -> Tensor:
        """The image x."""
        return state.x

    def account(self, problem: Problem, state: LSQRState) -> list[str]:
        """Where the step lengths come from."""
        return [
            "Step lengths follow from the bidiagonalisation: there is no step size to choose, and no preconditioner "
            "is used."
        ]

    def default_stop(self) -> StoppingRule:
        """Relative residual of the normal equations below 1e-5, or 200 iterations."""
        return SmallResiduals(1e-5) | MaxIterations(200)

    def _from(self, problem: Problem, x: Tensor) -> LSQRState:
        predicted, *mapped = _forward(problem, x)
        rest = [_root(problem, problem.y) - predicted, *(-part for part in mapped)]
        u, beta = _normalised(rest)
        (v,), alpha = _normalised([_adjoint(problem, u)])
        none = torch.zeros_like(problem.strength)
        primal = (alpha * beta / _scale(problem, beta)).to(none)
        return LSQRState(x, v, v, u, alpha, alpha, beta, primal, none)

    def __repr__(self) -> str:
        return "LSQR()"


def _root(problem: Problem, z: Tensor) -> Tensor:
    """W^(1/2) z."""
    weights = problem.item_fidelity.weights
    return z if weights is None else z * weights.sqrt().to(z.real if z.is_complex() else z)


def _forward(problem: Problem, x: Tensor) -> list[Tensor]:
    """M x, part by part."""
    parts = [_root(problem, problem.operator(x))]
    for term in problem.terms:
        mapped = term.K._run(x, adjoint=False)
        parts.append(term.weight(problem.strength, mapped).sqrt() * mapped)
    return parts


def _adjoint(problem: Problem, u: list[Tensor]) -> Tensor:
    """M^H u."""
    x = problem.operator.adjoint(_root(problem, u[0]))
    for term, part in zip(problem.terms, u[1:], strict=True):
        x = x + term.K._run(term.weight(problem.strength, part).sqrt() * part, adjoint=True)
    return x


def _normalised(parts: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """The parts of a vector over its norm, and the norm; a zero stays zero."""
    size = torch.stack([norm(part).square() for part in parts]).sum(0).sqrt()
    inverse = torch.where(size > 0, 1 / size.clamp_min(1e-30), 0)
    return [part * per_item(inverse, part).to(real_dtype(part.dtype)) for part in parts], size


def _minus(a: Tensor, factor: Tensor, b: Tensor) -> Tensor:
    return a - per_item(factor, b).to(real_dtype(b.dtype)) * b


def _scale(problem: Problem, like: Tensor) -> Tensor:
    return norm(problem.backprojection).to(like).clamp_min(1e-30)
