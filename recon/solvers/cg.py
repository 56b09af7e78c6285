"""Conjugate gradients for least squares, alone or with quadratic priors."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from recon.priors import Functional
from recon.problem import Problem
from recon.solvers.algorithm import inner, norm, per_item, refuse_generator
from recon.stopping import MaxIterations, SmallResiduals, StoppingRule


@dataclasses.dataclass
class CGState:
    """Iterate, residual of the normal equations and search direction; the relative residual of each item."""

    x: Tensor
    residual: Tensor
    direction: Tensor
    primal: Tensor
    dual: Tensor


class CG:
    """Minimise 1/2 |A x - y|_W^2 + sum_i w_i/2 |K_i x|^2 by conjugate gradients on its normal equations.

    M x = b with M = A^H W A + sum_i w_i K_i^H K_i and b = A^H W y (Hestenes and Stiefel 1952):

        alpha = <r, r> / <p, M p>;  x += alpha p;  r -= alpha M p;  beta = <r, r>_new / <r, r>;  p = r + beta p

    Takes quadratic priors only (`Tikhonov`), or none. `primal` is |r| / |b|.
    """

    def start(self, problem: Problem) -> CGState:
        """The operator's direct reconstruction, or x0."""
        refuse_generator(problem, "cg")
        if not problem.item_fidelity.quadratic:
            raise ValueError(
                f"solver='cg' takes quadratic data terms only, got {problem.item_fidelity.name!r}: use solver='admm', "
                "or fidelity 'pwls'"
            )
        for term in problem.terms:
            if not (isinstance(term.prior, Functional) and term.prior.quadratic):
                raise ValueError(
                    f"solver='cg' takes quadratic priors only, got {type(term.prior).__name__}: use solver='admm'"
                )
        x = problem.start
        residual = problem.backprojection - self._matrix(problem, x)
        relative = norm(residual) / norm(problem.backprojection).clamp_min(1e-30)
        return CGState(x, residual, residual, relative, torch.zeros_like(relative))

    def reweighted(self, problem: Problem, state: CGState) -> CGState:
        """A new start from the iterate: residual and directions belong to the matrix of one weight."""
        residual = problem.backprojection - self._matrix(problem, state.x)
        return dataclasses.replace(state, residual=residual, direction=residual)

    def step(self, problem: Problem, state: CGState) -> CGState:
        """One CG iteration; items already solved to rounding stay."""
        image = self._matrix(problem, state.direction)
        squared = inner(state.residual, state.residual)
        # below the rounding of the right-hand side the residual is noise, which the matrix may not even see
        level = torch.finfo(squared.dtype).eps * norm(problem.backprojection)
        alpha = squared / inner(state.direction, image).clamp_min(1e-30)
        alpha = torch.where(squared > level.square(), alpha, 0)
        x = state.x + per_item(alpha, state.x) * state.direction
        residual = state.residual - per_item(alpha, state.x) * image
        new_squared = inner(residual, residual)
        beta = new_squared / squared.clamp_min(1e-30)
        relative = new_squared.sqrt() / norm(problem.backprojection).clamp_min(1e-30)
        return CGState(
            x,
            residual,
            residual + per_item(beta, state.x) * state.direction,
            relative,
            torch.zeros_like(relative),
        )

    def image(self, state: CGState) -> Tensor:
        """The iterate."""
        return state.x

    def account(self, problem: Problem, state: CGState) -> list[str]:
        """Where the step lengths come from."""
        return [
            "Every step length is the exact minimum along its direction: there is no step size to choose, and no "
            "preconditioner is used."
        ]

    def default_stop(self) -> StoppingRule:
        """Relative residual of the normal equations below 1e-5, or 200 iterations."""
        return SmallResiduals(1e-5) | MaxIterations(200)

    def _matrix(self, problem: Problem, x: Tensor) -> Tensor:
        total = problem.normal(x)
        for term in problem.terms:
            weight = term.weight(problem.strength, x)
            total = total + weight * term.K._run_gram(x)
        return total

    def __repr__(self) -> str:
        return "CG()"
