"""SIRT: simultaneous iterative reconstruction, with weights of rows and columns."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
from torch import Tensor

from recon.linear import Identity
from recon.parameters import Param
from recon.problem import Problem
from recon.solvers.algorithm import refuse_generator
from recon.stopping import MaxIterations, RelativeChange, StoppingRule


@dataclasses.dataclass
class SIRTState:
    """Image ``(B, *shape)``, inverse row sums ``(B, *range_shape)`` and inverse column sums ``(B, *shape)``."""

    x: Tensor
    rows: Tensor
    columns: Tensor


class SIRT:
    """Minimise |A x - y|_R^2 with the weights R = diag(1 / A 1) of the rows (Gilbert 1972; Gregor and Benson 2008).

        x = P(x + relaxation C A^T R (y - A x)),  C = diag(1 / A^T R A 1)

    C R-weighted steps need no norm: A^T R A is at most diag(A^T R A 1) for a matrix without negative entries, so that
    it converges for a relaxation in (0, 2). P projects onto a constraint, if there is one. Weights of the data term are
    multiplied into R, and C follows. It is a classic that regularises by being stopped early: the minimum is not
    that of `LSQR`, for the rows are weighted. Takes one constraint on the image (`NonNegative`, `Box`) or no prior.

    Args:
        relaxation: factor on every step, in (0, 2).
    """

    def __init__(self, relaxation: Annotated[float, Param("factor on every step", gt=0, lt=2)] = 1.0) -> None:
        if not 0 < float(relaxation) < 2:
            raise ValueError(f"relaxation must lie in (0, 2), got {relaxation!r}")
        self.relaxation = float(relaxation)

    def start(self, problem: Problem) -> SIRTState:
        """x0, or zeros, as is its custom: early iterates are smooth."""
        refuse_generator(problem, "sirt")
        operator = problem.operator
        if not problem.item_fidelity.quadratic:
            raise ValueError(
                f"solver='sirt' takes quadratic data terms only, got {problem.item_fidelity.name!r}: use solver='osem' "
                "for emission counts without a prior, else 'pdhg'"
            )
        if not operator.nonnegative:
            raise ValueError(
                f"solver='sirt' needs an operator without negative entries, which {type(operator).__name__} does not "
                "promise (`nonnegative`): without a prior use solver='lsqr'"
            )
        bounds = [term for term in problem.terms if term.constraint and isinstance(term.K, Identity)]
        if len(bounds) < len(problem.terms) or len(bounds) > 1:
            raise ValueError(
                f"solver='sirt' takes one constraint on the image as its prior, got {type(problem.prior).__name__}: "
                "use solver='admm'"
            )
        ones = torch.ones_like(problem.start)
        sums = operator(ones)
        rows = _inverse(sums)
        weighted = problem.item_fidelity.weighted(rows)
        columns = _inverse(operator.adjoint(weighted * sums))
        x = torch.zeros_like(ones) if problem.x0 is None else problem.start
        return SIRTState(x, weighted.expand_as(problem.y).clone(), columns)

    def step(self, problem: Problem, state: SIRTState) -> SIRTState:
        """One update of all pixels at once."""
        back = problem.operator.adjoint(state.rows * (problem.y - problem.operator(state.x)))
        x = problem.project(state.x + self.relaxation * state.columns * back)
        return SIRTState(x, state.rows, state.columns)

    def image(self, state: SIRTState) -> Tensor:
        """The image x."""
        return state.x

    def account(self, problem: Problem, state: SIRTState) -> list[str]:
        """Steps and relaxation."""
        met = state.columns[0][state.columns[0] > 0]
        span = f" (from {float(met.min()):.3g} to {float(met.max()):.3g})" if met.numel() else ""
        return [
            f"Every pixel has the step {self.relaxation:g} over its column sum{span}, every sample the weight one over "
            "its row sum: no norm is needed. It regularises by being stopped early."
        ]

    def default_stop(self) -> StoppingRule:
        """A relative change below 1e-3, or 200 iterations."""
        return RelativeChange(1e-3) | MaxIterations(200)

    def __repr__(self) -> str:
        return f"SIRT(relaxation={self.relaxation:g})"


def _inverse(sums: Tensor) -> Tensor:
    """1 / sums; 0 for rows that meet no pixel and pixels that no ray meets."""
    return torch.where(sums > 0, 1 / sums.clamp_min(1e-30), 0)
