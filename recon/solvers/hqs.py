"""Half-quadratic splitting: denoise, fit the data, at noise levels that fall on a schedule."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Annotated, Literal

import torch
from torch import Tensor

from recon.linear import real_dtype
from recon.parameters import Param
from recon.priors import Denoiser
from recon.problem import Problem
from recon.solvers.algorithm import Iterative, norm, per_item, refuse_generator
from recon.solvers.normal_equations import solve_normal, step_in_words
from recon.solvers.steps import column_energy
from recon.stopping import Discrepancy, MaxIterations, StoppingRule


@dataclasses.dataclass
class HQSState:
    """Image and where the schedule is.

    Attributes:
        x: image ``(B, *shape)`` of the data step.
        normal_x: A^H W A x, kept up to date by the inner CG.
        z: what the terms made of x, one a term, ``(B, *K_i.range_shape)``; none where they come first.
        answer: the image that is given back, ``(B, *shape)``.
        first: noise level at which it starts, in the image's units, ``(B,)``.
        energy: mean diagonal of A^H W A, ``(B,)``.
        iteration: iterations done, ``(B,)``.
        primal: relative change of the image, ``(B,)``.
        dual: the same.
    """

    x: Tensor
    normal_x: Tensor
    z: list[Tensor]
    answer: Tensor
    first: Tensor
    energy: Tensor
    iteration: Tensor
    primal: Tensor
    dual: Tensor


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What `HQS` leaves to the denoiser.

    Attributes:
        iterations: K.
        first: sigma_1 over the RMS of the first image.
        last: sigma_K over the noise that the data leave in the image.
        pull: rho_k sigma_k^2 over the weight.
        denoised: the denoiser has the last word, and the schedule ends where its image fits the data.
    """

    iterations: int
    first: float
    last: float
    pull: float
    denoised: bool


class EndOfSchedule(MaxIterations):
    """Stops where a schedule of noise levels ends: all is done that was planned."""

    means_converged = True

    def __repr__(self) -> str:
        return f"end of the schedule ({self.iterations} iterations)"


CLASSICAL = Schedule(16, 0.3, 0.5, 1.0, denoised=False)
CONDITIONED = Schedule(28, 0.8, 0.25, 0.25, denoised=True)
FITTED = 0.98  # of the expected residual: the image itself takes up some of the noise


class HQS(Iterative):
    """Plug-and-play by half-quadratic splitting (Geman and Yang 1995; Zhang, Li, Zuo et al. 2021, DPIR).

        sigma_k falls from sigma_1 to sigma_K, evenly in the logarithm
        z_i = K_i x denoised at sigma_k: prox_{g_i/rho_k}(K_i x)
        x   = argmin_x f(A x; y) + sum_i rho_k/2 |K_i x - z_i|^2,   rho_k = pull weight / sigma_k^2

    sigma_1 is a fraction of the first image's RMS; sigma_K is a fraction of sqrt(weight / d), d the mean diagonal
    of A^H W A: with the automatic weight, the noise variance of the data, that is the noise that the data alone
    leave in the image. If told to go on after K iterations, sigma_k falls as 1/sqrt(k), with which, and pull 1, the
    iterates tend to the minimiser of f + g where the denoiser is the proximal map of a convex g (Passty 1979).
    Least-squares data terms only. The x-step is the closed form of the operator or its preconditioned CG, as in
    `ADMM`. Beside denoisers it takes functionals of a fixed weight, split at the penalty rho_k too.

    What is "auto" depends on the denoiser. One that knows noise up to most of the range of the images
    (`Denoiser.conditioned`) starts far above the noise of the data, for what undersampling leaves in the first image
    is larger, and falls far below it. Its pull is 1/4: of the data's noise sigma, an x-step lets
    sigma s/(s^2 + rho) <= sigma/(2 sqrt(rho)) into a component of singular value s, which then is at most sigma_k,
    what the denoiser is told (0.23 in DPIR); a larger pull weighs the prior more and costs iterations. Its image z is
    the result, and the schedule ends before K where that fits the data to within their noise (Morozov 1966), as
    images at still lower levels would hold that noise.

    Args:
        iterations: K; each costs one pass of the denoiser; ``"auto"``: 16, for conditioned denoisers 28.
        first: sigma_1 over the RMS of the first image; ``"auto"``: 0.3, for conditioned denoisers 0.8.
        last: sigma_K over the noise that the data leave in the image; ``"auto"``: 0.5, for conditioned denoisers
            0.25.
        pull: of the denoised image, beside the data; ``"auto"``: 1, for conditioned denoisers 1/4.
        inner: CG iterations in an x-step without a closed form.
    """

    def __init__(
        self,
        iterations: Annotated[
            int | Literal["auto"],
            Param("iterations of the schedule, one pass of the denoiser each", ge=2),
        ] = "auto",
        first: Annotated[
            float | Literal["auto"], Param("first noise level, over the RMS of the first image", gt=0)
        ] = "auto",
        last: Annotated[
            float | Literal["auto"], Param("last noise level, over the noise that the data leave", gt=0)
        ] = "auto",
        pull: Annotated[
            float | Literal["auto"], Param("pull of the denoised image beside the data", gt=0)
        ] = "auto",
        inner: Annotated[int, Param("CG iterations in a step without a closed form", ge=1)] = 4,
    ) -> None:
        for name, whole, least in (("iterations", iterations, 2), ("inner", inner, 1)):
            if whole == "auto" and name == "iterations":
                continue
            if not isinstance(whole, numbers.Real) or int(whole) != whole or whole < least:
                raise ValueError(f"{name} must be a whole number >= {least}, got {whole!r}")
        for name, value in (("first", first), ("last", last), ("pull", pull)):
            if value != "auto" and not (isinstance(value, numbers.Real) and 0 < value < math.inf):
                raise ValueError(f"{name} must be > 0 or 'auto', got {value!r}")
        self.iterations, self.first, self.last, self.pull, self.inner = iterations, first, last, pull, inner

    def schedule(self, problem: Problem) -> Schedule:
        """The settings for the problem's denoiser."""
        conditioned = any(
            isinstance(term.prior, Denoiser) and term.prior.conditioned for term in problem.terms
        )
        own = CONDITIONED if conditioned else CLASSICAL
        said = {
            name: value
            for name in ("iterations", "first", "last", "pull")
            if (value := getattr(self, name)) != "auto"
        }
        return dataclasses.replace(own, **said)

    def start(self, problem: Problem) -> HQSState:
        """The first image; a conditioned denoiser's image of it."""
        refuse_generator(problem, "hqs")
        check_denoisers(problem, "hqs")
        x, plan = problem.start, self.schedule(problem)
        rms = (problem.image_norm / problem.visible(x)[0].numel() ** 0.5).to(problem.strength)
        none = torch.zeros_like(problem.strength)
        state = HQSState(
            x, problem.normal(x), [], x, plan.first * rms, column_energy(problem), none, none + 1, none + 1
        )
        if not plan.denoised:
            return state
        return self._denoised(problem, state, self._penalty(problem, state, none))

    def reweighted(self, problem: Problem, state: HQSState) -> HQSState:
        """The schedule follows the weight: it begins anew."""
        return self.start(problem)

    def step(self, problem: Problem, state: HQSState) -> HQSState:
        """One pass of the denoiser and one data step."""
        plan = self.schedule(problem)
        rho = self._penalty(problem, state, state.iteration + 1 if plan.denoised else state.iteration)
        new = state if plan.denoised else self._denoised(problem, state, rho)
        pull = per_item(plan.pull * rho, state.x).to(real_dtype(state.x.dtype))
        b = problem.backprojection
        for term, z in zip(problem.terms, new.z, strict=True):
            b = b + pull * term.K._run(z, adjoint=True)
        x, normal_x = solve_normal(
            problem,
            [pull] * len(problem.terms),
            [term.K for term in problem.terms],
            b,
            state.x,
            state.normal_x,
            self.inner,
        )
        new = dataclasses.replace(state, x=x, normal_x=normal_x, answer=x, iteration=state.iteration + 1)
        if plan.denoised:
            new = self._denoised(problem, new, rho)
        moved = norm(new.answer - state.answer) / norm(new.answer).clamp_min(1e-30)
        change = moved.to(state.primal)
        return dataclasses.replace(new, primal=change, dual=change)

    def _denoised(self, problem: Problem, state: HQSState, rho: Tensor) -> HQSState:
        """The state with what every term makes of its image x; the denoiser's is the answer."""
        splits, answer = [], state.answer
        for term in problem.terms:
            mapped = term.K._run(state.x, adjoint=False)
            step = 1 / per_item(rho, mapped).to(real_dtype(mapped.dtype))
            splits.append(term.prox(mapped, step, problem.strength))
            if isinstance(term.prior, Denoiser):
                answer = splits[-1]
        return dataclasses.replace(state, z=splits, answer=answer)

    def _penalty(self, problem: Problem, state: HQSState, place: Tensor) -> Tensor:
        """weight / sigma^2 at a place of the schedule, ``(B,)``."""
        weight = _denoiser_weight(problem)
        return weight / self._noise_level(problem, state, weight, place).clamp_min(1e-30).square()

    def _noise_level(self, problem: Problem, state: HQSState, weight: Tensor, place: Tensor) -> Tensor:
        """sigma at a place of the schedule, ``(B,)``."""
        plan = self.schedule(problem)
        last = plan.last * (weight / state.energy).sqrt()
        first = torch.maximum(state.first, last)
        end = plan.iterations if plan.denoised else plan.iterations - 1
        beyond = ((end + 1) / (place + 1)).clamp_max(1).sqrt()
        return first * (last / first.clamp_min(1e-30)).clamp_min(1e-30) ** (place / end).clamp_max(1) * beyond

    def image(self, state: HQSState) -> Tensor:
        """The image x, or a conditioned denoiser's z."""
        return state.answer

    def default_stop(self) -> StoppingRule:
        """The end of the schedule."""
        return EndOfSchedule(CLASSICAL.iterations if self.iterations == "auto" else self.iterations)

    def stop_for(self, problem: Problem) -> StoppingRule:
        """The end of the schedule; with a conditioned denoiser also data that are fitted."""
        plan = self.schedule(problem)
        end = EndOfSchedule(plan.iterations)
        return Discrepancy(FITTED) | end if plan.denoised else end

    def account(self, problem: Problem, state: HQSState) -> list[str]:
        """The schedule in sentences."""
        plan, weight = self.schedule(problem), _denoiser_weight(problem)
        done = state.iteration if plan.denoised else (state.iteration - 1).clamp_min(0)
        levels = [
            float(self._noise_level(problem, state, weight, place)[0])
            for place in (torch.zeros_like(weight), done)
        ]
        pull = plan.pull * per_item(self._penalty(problem, state, done), state.x)
        pull, maps = pull.to(real_dtype(state.x.dtype)), [term.K for term in problem.terms]
        return [
            f"The denoiser's noise level fell from {levels[0]:.3g} to {levels[1]:.3g} in the units of the image"
            f"{'' if problem.items == 1 else ', of the first image that ran last'}, over a schedule of "
            f"{plan.iterations} iterations.",
            f"The penalty of a data step was {plan.pull:g} times the weight over the square of that level.",
            step_in_words(problem, [pull] * len(maps), maps, state.x, self.inner),
        ]

    def __repr__(self) -> str:
        return (
            f"HQS(iterations={self.iterations!r}, first={self.first!r}, last={self.last!r}, pull={self.pull!r}, "
            f"inner={self.inner})"
        )


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
