"""Half-quadratic splitting: denoise, fit the data, at noise levels that fall on a schedule."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

import torch
from torch import Tensor

from recon.linear import real_dtype
from recon.parameters import Param
from recon.priors import Denoiser
from recon.problem import Problem
from recon.solvers.algorithm import Iterative, norm, per_item, refuse_generator
from recon.solvers.normal_equations import solve_normal, step_in_words
from recon.solvers.steps import column_energy
from recon.stopping import MaxIterations, StoppingRule


@dataclasses.dataclass
class HQSState:
    """Image and where the schedule is.

    Attributes:
        x: image ``(B, *shape)``.
        normal_x: A^H W A x, kept up to date by the inner CG.
        first: noise level at which it starts, in the image's units, ``(B,)``.
        energy: mean diagonal of A^H W A, ``(B,)``.
        iteration: iterations done, ``(B,)``.
        primal: relative change of the image, ``(B,)``.
        dual: the same.
    """

    x: Tensor
    normal_x: Tensor
    first: Tensor
    energy: Tensor
    iteration: Tensor
    primal: Tensor
    dual: Tensor


class HQS(Iterative):
    """Plug-and-play by half-quadratic splitting (Geman and Yang 1995; Zhang, Li, Zuo et al. 2021, DPIR).

        sigma_k falls from sigma_1 to sigma_K, evenly in the logarithm
        z_i = K_i x denoised at sigma_k: prox_{g_i/rho_k}(K_i x)
        x   = argmin_x f(A x; y) + sum_i rho_k/2 |K_i x - z_i|^2,   rho_k = weight / sigma_k^2

    sigma_1 is a fraction of the first image's RMS; sigma_K is a fraction of sqrt(weight / d), d the mean diagonal
    of A^H W A: with the automatic weight, the noise variance of the data, that is the noise that the data alone
    leave in the image. After K iterations it stops; if told to go on, sigma_k falls as 1/sqrt(k), with which the
    iterates tend to the minimiser of f + g where the denoiser is the proximal map of a convex g (Passty 1979).
    Least-squares data terms only. The x-step is the closed form of the operator or its preconditioned CG, as in
    `ADMM`. Beside denoisers it takes functionals of a fixed weight, split at the penalty rho_k too.

    Args:
        iterations: K; each costs one pass of the denoiser.
        first: sigma_1 over the RMS of the first image.
        last: sigma_K over the noise that the data leave in the image.
        inner: CG iterations in an x-step without a closed form.
    """

    def __init__(
        self,
        iterations: Annotated[
            int, Param("iterations of the schedule, one pass of the denoiser each", ge=2)
        ] = 16,
        first: Annotated[float, Param("first noise level, over the RMS of the first image", gt=0)] = 0.3,
        last: Annotated[float, Param("last noise level, over the noise that the data leave", gt=0)] = 0.5,
        inner: Annotated[int, Param("CG iterations in a step without a closed form", ge=1)] = 4,
    ) -> None:
        for name, whole, least in (("iterations", iterations, 2), ("inner", inner, 1)):
            if int(whole) != whole or whole < least:
                raise ValueError(f"{name} must be a whole number >= {least}, got {whole!r}")
        for name, value in (("first", first), ("last", last)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be > 0, got {value!r}")
        self.iterations, self.first, self.last, self.inner = iterations, first, last, inner

    def start(self, problem: Problem) -> HQSState:
        """The first image."""
        refuse_generator(problem, "hqs")
        check_denoisers(problem, "hqs")
        x = problem.start
        rms = (problem.image_norm / problem.visible(x)[0].numel() ** 0.5).to(problem.strength)
        none = torch.zeros_like(problem.strength)
        return HQSState(
            x, problem.normal(x), self.first * rms, column_energy(problem), none, none + 1, none + 1
        )

    def step(self, problem: Problem, state: HQSState) -> HQSState:
        """One pass of the denoiser and one data step."""
        weight = _denoiser_weight(problem)
        sigma = self._noise_level(state, weight).clamp_min(1e-30)
        rho = per_item(weight / sigma.square(), state.x).to(real_dtype(state.x.dtype))
        b = problem.backprojection
        for term in problem.terms:
            mapped = term.K._run(state.x, adjoint=False)
            z = term.prox(mapped, 1 / rho.reshape(-1, *(1,) * (mapped.ndim - 1)), problem.strength)
            b = b + rho * term.K._run(z, adjoint=True)
        x, normal_x = solve_normal(
            problem,
            [rho] * len(problem.terms),
            [term.K for term in problem.terms],
            b,
            state.x,
            state.normal_x,
            self.inner,
        )
        change = (norm(x - state.x) / norm(x).clamp_min(1e-30)).to(state.primal)
        return dataclasses.replace(
            state, x=x, normal_x=normal_x, iteration=state.iteration + 1, primal=change, dual=change
        )

    def _noise_level(self, state: HQSState, weight: Tensor) -> Tensor:
        """sigma of the coming iteration."""
        last = self.last * (weight / state.energy).sqrt()
        first = torch.maximum(state.first, last)
        place = (state.iteration / (self.iterations - 1)).clamp_max(1)
        beyond = (self.iterations / (state.iteration + 1)).clamp_max(1).sqrt()
        return first * (last / first.clamp_min(1e-30)).clamp_min(1e-30) ** place * beyond

    def image(self, state: HQSState) -> Tensor:
        """The image x."""
        return state.x

    def account(self, problem: Problem, state: HQSState) -> list[str]:
        """The schedule and the x-step."""
        weight = _denoiser_weight(problem)
        last = self.last * (weight / state.energy).sqrt()
        first = torch.maximum(state.first, last)
        sigma = self._noise_level(state, weight).clamp_min(1e-30)
        rho = per_item(weight / sigma.square(), state.x).to(real_dtype(state.x.dtype))
        maps = [term.K for term in problem.terms]
        return [
            f"The denoiser's noise level falls from {float(first[0]):.3g} ({self.first:g} of the first image's RMS) to "
            f"{float(last[0]):.3g} ({self.last:g} of the noise that the data leave in the image) in {self.iterations} "
            "iterations.",
            step_in_words(problem, [rho] * len(maps), maps, state.x, self.inner),
        ]

    def default_stop(self) -> StoppingRule:
        """The end of the schedule."""
        return MaxIterations(self.iterations)

    def __repr__(self) -> str:
        return f"HQS(iterations={self.iterations}, first={self.first}, last={self.last}, inner={self.inner})"


def check_denoisers(problem: Problem, name: str) -> None:
    """Raise ValueError unless the problem has one denoiser and a quadratic data term."""
    names = " + ".join(type(term.prior).__name__ for term in problem.terms) or "none"
    if sum(isinstance(term.prior, Denoiser) for term in problem.terms) != 1:
        raise ValueError(
            f"solver={name!r} needs one denoiser among the priors, got {names}: use solver='admm'"
        )
    if not problem.item_fidelity.quadratic:
        raise ValueError(
            f"solver={name!r} takes quadratic data terms only, got {problem.item_fidelity.name!r} (with the prior "
            f"{names}): use solver='admm', or fidelity 'pwls'"
        )


def _denoiser_weight(problem: Problem) -> Tensor:
    """The weight of the denoiser, ``(B,)``."""
    term = next(term for term in problem.terms if isinstance(term.prior, Denoiser))
    return term.weight(problem.strength, problem.strength).clamp_min(1e-30)
