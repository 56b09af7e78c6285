"""Conjugate gradients for least squares, alone or with quadratic priors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from recon.parameters import Param
from recon.priors import Functional
from recon.problem import Problem
from recon.solvers.algorithm import inner, norm, per_item, refuse_generator
from recon.stopping import MaxIterations, SmallResiduals, StoppingRule


@dataclasses.dataclass
class CGState:
    """Iterate, residual of the normal equations, search direction, <r, P r>; the relative residual of each item."""

    x: Tensor
    residual: Tensor
    direction: Tensor
    squared: Tensor
    primal: Tensor
    dual: Tensor


class CG:
    """Minimise 1/2 |A x - y|_W^2 + sum_i w_i/2 |K_i x|^2 by conjugate gradients on its normal equations.

    M x = b with M = A^H W A + sum_i w_i K_i^H K_i and b = A^H W y (Hestenes and Stiefel 1952), P near M^-1:

        alpha = <r, P r> / <p, M p>;  x += alpha p;  r -= alpha M p;  beta = <r, P r>_new / <r, P r>;  p = P r + beta p

    P is the operator's `preconditioner` (the ramp filter for CT, a circulant for MRI and blur) beside a prior. Without
    one P = 1: then the number of iterations regularises, and P would bring high frequencies, and noise, first. Takes
    quadratic priors only (`Tikhonov`), or none. `primal` is |r| / |b|.

    Args:
        preconditioned: whether to use the operator's preconditioner beside a prior.
    """

    def __init__(
        self,
        preconditioned: Annotated[bool, Param("use the operator's preconditioner beside a prior")] = True,
    ) -> None:
        self.preconditioned = bool(preconditioned)

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
        residual, steered, squared = self._restarted(problem, x)
        relative = norm(residual) / norm(problem.backprojection).clamp_min(1e-30)
        return CGState(x, residual, steered, squared, relative, torch.zeros_like(relative))

    def reweighted(self, problem: Problem, state: CGState) -> CGState:
        """A new start from the iterate: residual and directions belong to the matrix of one weight."""
        residual, steered, squared = self._restarted(problem, state.x)
        return dataclasses.replace(state, residual=residual, direction=steered, squared=squared)

    def step(self, problem: Problem, state: CGState) -> CGState:
        """One CG iteration; items already solved to rounding stay."""
        image = self._matrix(problem, state.direction)
        # below the rounding of the right-hand side the residual is noise, which the matrix may not even see
        energy = inner(state.residual, state.residual)
        level = torch.finfo(energy.dtype).eps * norm(problem.backprojection)
        alpha = state.squared / inner(state.direction, image).clamp_min(1e-30)
        alpha = torch.where(energy > level.square(), alpha, 0)
        x = state.x + per_item(alpha, state.x) * state.direction
        residual = state.residual - per_item(alpha, state.x) * image
        steered = self._steer(problem)(residual)
        squared = inner(residual, steered)
        beta = squared / state.squared.clamp_min(1e-30)
        relative = norm(residual) / norm(problem.backprojection).clamp_min(1e-30)
        direction = steered + per_item(beta, state.x) * state.direction
        return CGState(x, residual, direction, squared, relative, torch.zeros_like(relative))

    def image(self, state: CGState) -> Tensor:
        """The iterate."""
        return state.x

    def account(self, problem: Problem, state: CGState) -> list[str]:
        """Where the step lengths come from."""
        by = "with the operator's preconditioner" if self._steers(problem) else "without a preconditioner"
        return [
            f"Every step length is the exact minimum along its direction, {by}: there is no step size to choose."
        ]

    def default_stop(self) -> StoppingRule:
        """Relative residual of the normal equations below 1e-5, or 200 iterations."""
        return SmallResiduals(1e-5) | MaxIterations(200)

    def _restarted(self, problem: Problem, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Residual, the first direction and <r, P r> at an iterate."""
        residual = problem.backprojection - self._matrix(problem, x)
        steered = self._steer(problem)(residual)
        return residual, steered, inner(residual, steered)

    def _steer(self, problem: Problem) -> Callable[[Tensor], Tensor]:
        """P, for the weights as they are; the identity without a preconditioner."""
        return self._steers(problem) or (lambda residual: residual)

    def _steers(self, problem: Problem) -> Callable[[Tensor], Tensor] | None:
        if not (self.preconditioned and problem.terms):
            return None
        weights = [term.weight(problem.strength, problem.start) for term in problem.terms]
        return problem.preconditioner(weights, [term.K for term in problem.terms])

    def _matrix(self, problem: Problem, x: Tensor) -> Tensor:
        total = problem.normal(x)
        for term in problem.terms:
            weight = term.weight(problem.strength, x)
            total = total + weight * term.K._run_gram(x)
        return total

    def __repr__(self) -> str:
        return "CG()" if self.preconditioned else "CG(preconditioned=False)"
