"""ADMM: the alternating direction method of multipliers with one split for every prior."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Annotated, Literal

import torch
from torch import Tensor

from recon.linear import Step, real_dtype
from recon.parameters import Param
from recon.problem import Problem
from recon.solvers.algorithm import Iterative, norm, per_item, refuse_generator, refuse_without_prox
from recon.solvers.normal_equations import solve_normal, step_in_words
from recon.solvers.steps import first_penalties, has_denoiser, leader, penalty_units


@dataclasses.dataclass
class ADMMState:
    """Image, splits, scaled duals, penalties and residuals.

    Attributes:
        x: image ``(B, *shape)``.
        normal_x: A^H W A x, kept up to date by the inner CG so that its first residual costs nothing.
        z, u: one split z_i = K_i x and one scaled dual u_i a term, ``(B, *K_i.range_shape)``.
        data: split and scaled dual of A x where the data term is not quadratic, ``(B, *range_shape)``; else none.
        rho: one penalty a term, ``(B,)``, in units of the weight (see `ADMM`).
        iteration: iterations done, ``(B,)``.
        primal: |K_i x - z_i| / max(|K_i x|, |z_i|, 1e-3 |K_i| |x|), the largest of all terms, ``(B,)``.
        dual: |rho (z_k - z_(k-1))| / |rho u| over all terms together, ``(B,)``.
    """

    x: Tensor
    normal_x: Tensor
    z: list[Tensor]
    u: list[Tensor]
    data: list[Tensor]
    rho: list[Tensor]
    iteration: Tensor
    primal: Tensor
    dual: Tensor


class ADMM(Iterative):
    """Minimise f(A x; y) + sum_i g_i(K_i x) by splitting z_i = K_i x (Boyd et al. 2011, section 3).

        x   = argmin_x f(A x; y) + sum_i rho_i/2 |K_i x - z_i + u_i|^2
        v_i = relaxation K_i x + (1 - relaxation) z_i
        z_i = prox_{g_i/rho_i}(v_i + u_i)
        u_i = u_i + v_i - z_i

    A data term that is not quadratic is split too, z_0 = A x, in the metric W of its expansion around the data:

        x   = argmin_x 1/2 |A x - z_0 + u_0|_W^2 + sum_i rho_i/2 |K_i x - z_i + u_i|^2
        z_0 = argmin_z f(z; y) + 1/2 |z - v_0 - u_0|_W^2

    The x-step is the operator's closed form where it has one, else warm-started conjugate gradients with the
    operator's preconditioner.

    A denoiser takes the place of a proximal map (plug-and-play: Venkatakrishnan, Bouman and Wohlberg 2013), at the
    noise level sqrt(weight / rho). Its automatic penalty is the mean diagonal of A^H W A, so that with its automatic
    weight, the noise variance, it sees the noise that the data alone leave in the image. As no convex function need
    be behind a denoiser, nor a fixed point exist, the relaxation falls as 20/k after 20 iterations (averaged
    iterations, Krasnosel'skii and Mann), and both residuals are the larger relative change of x and of the splits.

    The automatic penalty of a weighted functional is weight / (a tenth of the RMS of the first image): its
    proximal map then thresholds at a tenth of the image's scale, which was within a factor 2 of the best
    number of iterations in denoising, inpainting, super-resolution, CT and MRI, whatever the units. It
    follows the weight when that changes; the scaled duals stay, as the duals scale with the weight too. A
    quadratic takes its weight, terms without any scale 0.03 |A|^2/|K_i|^2, and a constraint a fifth of its neighbour's
    penalty, but no less than that. Later the relative primal and dual residuals are kept within a factor 10 of each
    other (Wohlberg 2017).

    Args:
        rho: penalty of every term, or ``"auto"``.
        relaxation: over-relaxation in (0, 2); ``"auto"`` is 1.8, and with a denoiser 1, then 20/k.
        inner: CG iterations in an x-step without a closed form; ``"auto"`` is 2 with a preconditioner, else
            8.
    """

    def __init__(
        self,
        rho: Annotated[float | Literal["auto"], Param("penalty of every term", gt=0)] = "auto",
        relaxation: Annotated[
            float | Literal["auto"],
            Param("over-relaxation; auto: 1.8, and with a denoiser 1, then 20/k", gt=0, lt=2),
        ] = "auto",
        inner: Annotated[
            int | Literal["auto"], Param("CG iterations in a step without a closed form", ge=1)
        ] = "auto",
    ) -> None:
        if rho != "auto" and not (isinstance(rho, numbers.Real) and 0 < rho < math.inf):
            raise ValueError(f"rho must be > 0 or 'auto', got {rho!r}")
        if relaxation != "auto" and not (isinstance(relaxation, numbers.Real) and 0 < relaxation < 2):
            raise ValueError(f"relaxation must lie in (0, 2) or be 'auto', got {relaxation!r}")
        if inner != "auto" and not (isinstance(inner, numbers.Integral) and inner >= 1):
            raise ValueError(f"inner must be a whole number >= 1 or 'auto', got {inner!r}")
        self.rho, self.relaxation, self.inner = rho, relaxation, inner

    def searching(self) -> ADMM:
        """The algorithm for the search for a weight: automatic penalties, which follow the weight."""
        return self if self.rho == "auto" else ADMM("auto", self.relaxation, self.inner)

    def start(self, problem: Problem) -> ADMMState:
        """Splits at K_i x0, zero duals."""
        refuse_generator(problem, "admm")
        refuse_without_prox(problem, "admm")
        if not problem.terms:
            raise ValueError("solver='admm' needs a prior; without one use solver='direct' or 'cg'")
        x = problem.start
        z = [term.K._run(x, adjoint=False) for term in problem.terms]
        rho = self._first_penalties(problem)
        none = torch.zeros_like(problem.strength)
        duals = [torch.zeros_like(split) for split in z]
        data = [] if problem.item_fidelity.quadratic else [problem.y.clone(), torch.zeros_like(problem.y)]
        return ADMMState(x, problem.normal(x), z, duals, data, rho, none, none + 1, none + 1)

    def step(self, problem: Problem, state: ADMMState) -> ADMMState:
        """One x-, z- and u-update."""
        terms = problem.terms
        penalties = self._penalties(problem, state)
        rho = [per_item(penalty, state.x).to(real_dtype(state.x.dtype)) for penalty in penalties]
        b = problem.backprojection if not state.data else self._pull(problem, state.data)
        for term, weight, z, u in zip(terms, rho, state.z, state.u, strict=True):
            b = b + weight * term.K._run(z - u, adjoint=True)
        x, normal_x = self._image_update(problem, state, rho, b)
        relaxation = self._present_relaxation(problem, state)
        splits, duals = [], []
        primal = step = force = torch.zeros_like(state.primal)
        # a constant image under total variation, an empty one under l1: their splits vanish, the image's
        # scale stays
        scale = 1e-3 * torch.maximum(norm(x), problem.image_norm)
        for term, weight, z, u in zip(terms, penalties, state.z, state.u, strict=True):
            mapped = term.K._run(x, adjoint=False)
            v = _relaxed(z, mapped, relaxation) + u
            new_z = term.prox(v, 1 / per_item(weight, v).to(real_dtype(v.dtype)), problem.strength)
            new_u = v - new_z
            size = torch.maximum(torch.maximum(norm(mapped), norm(new_z)), term.K.norm() * scale)
            primal = torch.maximum(primal, (norm(mapped - new_z) / size.clamp_min(1e-30)).to(primal))
            step = step + (weight * norm(new_z - z)).to(primal).square()
            force = force + (weight * norm(new_u)).to(primal).square()
            splits.append(new_z)
            duals.append(new_u)
        # a constraint that does not bind has no dual: the data's own pull keeps the scale from vanishing
        force = torch.maximum(force.sqrt(), 1e-3 * norm(problem.backprojection).to(force))
        dual = step.sqrt() / force.clamp_min(1e-30)
        data = state.data
        if data:
            data, misfit, drift = self._data_update(problem, x, state)
            primal, dual = torch.maximum(primal, misfit.to(primal)), torch.maximum(dual, drift.to(dual))
        plugged = has_denoiser(problem)
        if plugged:
            primal = dual = torch.maximum(
                _change(x, state.x, problem.image_norm).to(primal),
                torch.stack([_change(new, old, norm(new)) for new, old in zip(splits, state.z, strict=True)])
                .amax(0)
                .to(primal),
            )
        new = ADMMState(x, normal_x, splits, duals, data, state.rho, state.iteration + 1, primal, dual)
        return self._balanced(new) if self.rho == "auto" and not plugged else new

    def image(self, state: ADMMState) -> Tensor:
        """The image x."""
        return state.x

    def account(self, problem: Problem, state: ADMMState) -> list[str]:
        """Penalties, relaxation and the x-step, in sentences."""
        penalties = self._penalties(problem, state)
        origin = "as given"
        if self.rho == "auto":
            first = leader(problem)
            origin = (
                "0.03 |A|^2/|K|^2 at first, as no weight sets a scale"
                if first is None
                else "at first the weight over a tenth of the first image's RMS"
            ) + ", then kept where primal and dual residual fall alike"
        values = ", ".join(
            f"{float(penalty[0]):.3g} for {type(term.prior).__name__}"
            for term, penalty in zip(problem.terms, penalties, strict=True)
        )
        rho = [per_item(penalty, state.x).to(real_dtype(state.x.dtype)) for penalty in penalties]
        maps = [term.K for term in problem.terms]
        return [
            f"Penalties at the end{'' if problem.items == 1 else ', of the first image that ran last'}: {values} "
            f"({origin}); over-relaxation {self._relaxation(problem):g}.",
            step_in_words(problem, rho, maps, state.x, self.inner),
        ]

    def _first_penalties(self, problem: Problem) -> list[Tensor]:
        """Penalties in units of the weight."""
        if self.rho != "auto":
            return [torch.full_like(problem.strength, float(self.rho)) for _ in problem.terms]
        return first_penalties(problem)

    def _penalties(self, problem: Problem, state: ADMMState) -> list[Tensor]:
        """Penalties as they enter the algorithm: a weighted functional's follow its weight."""
        if self.rho != "auto":
            return state.rho
        return [rho * unit for rho, unit in zip(state.rho, penalty_units(problem), strict=True)]

    def _relaxation(self, problem: Problem) -> float:
        """Over-relaxation of the first iterations."""
        if self.relaxation != "auto":
            return float(self.relaxation)
        return 1.0 if has_denoiser(problem) else 1.8

    def _present_relaxation(self, problem: Problem, state: ADMMState) -> Step:
        """Over-relaxation; with a denoiser it falls, and each item has its own, ``(B,)``."""
        first = self._relaxation(problem)
        if self.relaxation != "auto" or not has_denoiser(problem):
            return first
        return first * (UNRELAXED / state.iteration.clamp_min(1)).clamp_max(1)

    def _image_update(
        self, problem: Problem, state: ADMMState, rho: list[Tensor], b: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Solve (A^H W A + sum_i rho_i K_i^H K_i) x = b: closed form, else warm-started CG."""
        maps = [term.K for term in problem.terms]
        return solve_normal(problem, rho, maps, b, state.x, state.normal_x, self.inner)

    def _pull(self, problem: Problem, data: list[Tensor]) -> Tensor:
        """A^H W (z_0 - u_0), in the place of A^H W y."""
        z, u = data
        return problem.operator.adjoint(problem.item_fidelity.weighted(z - u))

    def _data_update(
        self, problem: Problem, x: Tensor, state: ADMMState
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Split and dual of the data term, and their relative primal and dual residuals in the metric W."""
        z, u = state.data
        term, relaxation = problem.item_fidelity, self._present_relaxation(problem, state)
        assert term.weights is not None
        predicted = problem.operator(x)
        v = _relaxed(z, predicted, relaxation) + u
        new_z = term.prox(v, problem.y, 1 / term.weights)
        new_u = v - new_z
        scale = term.weighted_norm(problem.y).clamp_min(1e-30)
        force = torch.maximum(term.weighted_norm(new_u), 1e-3 * scale)
        return (
            [new_z, new_u],
            term.weighted_norm(predicted - new_z) / scale,
            term.weighted_norm(new_z - z) / force,
        )

    def _balanced(self, state: ADMMState) -> ADMMState:
        """Every tenth iteration, move rho towards equal relative residuals; the scaled duals follow.

        The steps shrink as 1/k, so that rho settles, as convergence asks.
        """
        ratio = (state.primal / state.dual.clamp_min(1e-30)).clamp_min(1e-30)
        due = (state.iteration % 10 == 0) & ((ratio > 10) | (ratio < 0.1))
        if not bool(due.any()):
            return state
        limit = 1 + 10 / state.iteration.clamp_min(1).sqrt()
        factor = torch.where(
            due, torch.minimum(torch.maximum(ratio.sqrt(), 1 / limit), limit), torch.ones_like(ratio)
        )
        return dataclasses.replace(
            state,
            rho=[rho * factor for rho in state.rho],
            u=[u / per_item(factor, u).to(real_dtype(u.dtype)) for u in state.u],
        )

    def __repr__(self) -> str:
        return f"ADMM(rho={self.rho!r}, relaxation={self.relaxation!r}, inner={self.inner!r})"


UNRELAXED = 20
"""Iterations with a denoiser before the relaxation falls: by then most problems are near their end."""


def _relaxed(z: Tensor, mapped: Tensor, relaxation: Step) -> Tensor:
    """relaxation * mapped + (1 - relaxation) z."""
    if isinstance(relaxation, Tensor):
        return z + per_item(relaxation, z).to(real_dtype(z.dtype)) * (mapped - z)
    return torch.lerp(z, mapped, relaxation) if relaxation != 1 else mapped


def _change(new: Tensor, old: Tensor, scale: Tensor) -> Tensor:
    """|new - old| of each item relative to the larger of |new| and a thousandth of the scale."""
    return norm(new - old) / torch.maximum(norm(new), 1e-3 * scale.to(norm(new))).clamp_min(1e-30)
