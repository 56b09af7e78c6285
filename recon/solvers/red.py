"""Regularisation by denoising: a denoiser's residual as the gradient of the prior."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

import torch
from torch import Tensor

from recon.linear import real_dtype
from recon.parameters import Param
from recon.problem import Problem
from recon.solvers.algorithm import Iterative, norm, per_item, refuse_generator
from recon.solvers.hqs import HQSState, check_denoisers
from recon.solvers.normal_equations import solve_normal, step_in_words
from recon.solvers.steps import column_energy
from recon.stopping import MaxIterations, SmallResiduals, StoppingRule


class RED(Iterative):
    """Find x with A^H W (A x - y) + rho (x - D(x)) = 0 by fixed points (Romano, Elad and Milanfar 2017).

        x = argmin_x f(A x; y) + rho/2 |x - D(x_before)|^2

    with D the denoiser at one noise level sigma and rho = weight / sigma^2, so that a weight
    means what it means in `ADMM` and `HQS`. For a denoiser of symmetric Jacobian that is homogeneous this is the
    minimiser of f + rho/2 x^H (x - D(x)); where D is the proximal map of a convex g at sigma^2, that of f plus
    g's Moreau envelope. The noise level is `level` times sqrt(weight / d), d the mean diagonal of A^H W A: with the
    automatic weight, the noise variance, the noise that the data alone leave in the image. Least-squares data terms
    and one denoiser, nothing else.

    Args:
        level: noise level over the noise that the data leave in the image.
        inner: CG iterations in a step without a closed form.
    """

    def __init__(
        self,
        level: Annotated[float, Param("noise level, over the noise that the data leave", gt=0)] = 0.5,
        inner: Annotated[int, Param("CG iterations in a step without a closed form", ge=1)] = 4,
    ) -> None:
        if not 0 < level < math.inf:
            raise ValueError(f"level must be > 0, got {level!r}")
        if int(inner) != inner or inner < 1:
            raise ValueError(f"inner must be a whole number >= 1, got {inner!r}")
        self.level, self.inner = level, inner

    def start(self, problem: Problem) -> HQSState:
        """The first image."""
        refuse_generator(problem, "red")
        check_denoisers(problem, "red")
        if len(problem.terms) > 1:
            names = " + ".join(type(term.prior).__name__ for term in problem.terms)
            raise ValueError(
                f"solver='red' takes one denoiser and no other prior, got {names}: use solver='admm'"
            )
        x = problem.start
        none = torch.zeros_like(problem.strength)
        return HQSState(x, problem.normal(x), [], x, none, column_energy(problem), none, none + 1, none + 1)

    def step(self, problem: Problem, state: HQSState) -> HQSState:
        """One pass of the denoiser and one data step."""
        # rho = weight / sigma^2 with sigma^2 = level^2 weight / d
        rho = per_item(state.energy / self.level**2, state.x).to(real_dtype(state.x.dtype))
        (term,) = problem.terms
        z = term.prox(state.x, 1 / rho, problem.strength)
        b = problem.backprojection + rho * z
        x, normal_x = solve_normal(problem, [rho], [term.K], b, state.x, state.normal_x, self.inner)
        change = (norm(x - state.x) / norm(x).clamp_min(1e-30)).to(state.primal)
        return dataclasses.replace(
            state, x=x, normal_x=normal_x, answer=x, iteration=state.iteration + 1, primal=change, dual=change
        )

    def image(self, state: HQSState) -> Tensor:
        """The image x."""
        return state.x

    def account(self, problem: Problem, state: HQSState) -> list[str]:
        """Noise level, penalty and the x-step."""
        (term,) = problem.terms
        weight = term.weight(problem.strength, problem.strength)
        sigma = self.level * (weight / state.energy).sqrt()
        rho = per_item(state.energy / self.level**2, state.x).to(real_dtype(state.x.dtype))
        return [
            f"The denoiser's noise level is {float(sigma[0]):.3g}, {self.level:g} of the noise that the data leave in "
            f"the image; penalty {float(rho.flatten()[0]):.3g}, the weight over its square.",
            step_in_words(problem, [rho], [term.K], state.x, self.inner),
        ]

    def default_stop(self) -> StoppingRule:
        """A relative change below 1e-3, or 200 iterations."""
        return SmallResiduals(1e-3) | MaxIterations(200)

    def __repr__(self) -> str:
        return f"RED(level={self.level}, inner={self.inner})"
