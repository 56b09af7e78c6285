"""Splitting of learned regularisation from inversion: a network and the data in turn, each with its own variable."""

from __future__ import annotations

import copy
import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from torch import Tensor

from recon.linear import Identity, real_dtype
from recon.parameters import Param
from recon.priors import Denoiser
from recon.problem import Problem
from recon.solvers.admm import ADMM
from recon.solvers.algorithm import norm, per_item, refuse_generator, refuse_without_prox
from recon.solvers.normal_equations import solve_normal, step_in_words
from recon.solvers.steps import first_penalties, penalty_units, squared_norm
from recon.stopping import MaxIterations, StoppingRule
from recon.terms import Term

Dual = Literal["x", "xhat"]
Returned = Literal["network", "x", "z"]
FIRST_ITERATIONS = 50  # of ADMM, for the image to start from


@dataclasses.dataclass
class SplittingState:
    """The variables of `Splitting`, all ``(B, *shape)`` but where said.

    Attributes:
        x: what the network sees.
        network: its image of x.
        z: the split that fits the data.
        normal_z: A^H W A z.
        b: scaled dual of x = z.
        w, d: splits and scaled duals of the functionals, ``(B, *K_i.range_shape)``.
        iteration: outer loops done, ``(B,)``.
        primal: |x - z| / |z|, ``(B,)``.
        dual: |z_k - z_(k-1)| / |z|, ``(B,)``.
    """

    x: Tensor
    network: Tensor
    z: Tensor
    normal_z: Tensor
    b: Tensor
    w: list[Tensor]
    d: list[Tensor]
    iteration: Tensor
    primal: Tensor
    dual: Tensor


class Splitting:
    """A network f and the data in turn, by ADMM on x = z (Liu, Kuang and Zhang 2018, equation 13).

        z    = argmin_z J(z) + rho/2 |x - z + b|^2,   J(z) = eta |A z - y|_W^2 + sum_i g_i(K_i z)
        xhat = f(x)
        x    = (xhat + rho (z - b)) / (1 + rho)
        b    = b + x - z

    with A divided by its norm, from the x that minimises J and b = 0. The prior is a sum of one denoiser or
    learned network, f, and any functionals, such as total variation; J without functionals is least squares,
    and then x starts from the direct reconstruction. The weights of the functionals are those of `recon.solve`,
    in which the data term is 1/2 |A z - y|^2; they shrink by `decay` from loop to loop. The z-step is the
    operator's closed form where it has one, else conjugate gradients; with functionals a few iterations of ADMM,
    warm-started.

    As printed in the publication, the dual takes xhat for x, whose fixed points are not those of the problem:
    ``dual="xhat"``. A prior with a method ``at(loop)`` gives each outer loop its own network.

    Args:
        rho: penalty of the split, beside 1 for the distance from the network's image.
        eta: weight of the data.
        dual: ``"x"``, or ``"xhat"`` as printed.
        returned: the image that is given back: of the network, x or z.
        decay: factor of the functionals' weights from one outer loop to the next.
        inner: iterations of ADMM in a z-step with functionals.
        loops: outer loops if no stopping rule is given.
    """

    def __init__(
        self,
        rho: Annotated[float, Param("penalty of the split", gt=0)] = 0.5,
        eta: Annotated[float, Param("weight of the data, A divided by its norm", gt=0)] = 5.0,
        dual: Annotated[Dual, Param("what moves the dual: x, or xhat as printed")] = "x",
        returned: Annotated[Returned, Param("the image given back: network, x or z")] = "network",
        decay: Annotated[float, Param("factor of the functionals' weights a loop", gt=0, le=1)] = 1.0,
        inner: Annotated[int, Param("iterations of a data step with functionals", ge=1)] = 10,
        loops: Annotated[int, Param("outer loops if no stopping rule is given", ge=1)] = 5,
    ) -> None:
        for name, value in (("rho", rho), ("eta", eta), ("decay", decay)):
            if not (isinstance(value, numbers.Real) and 0 < value < math.inf):
                raise ValueError(f"{name} must be a number > 0, got {value!r}")
        for name, count in (("inner", inner), ("loops", loops)):
            if not (isinstance(count, numbers.Integral) and count >= 1):
                raise ValueError(f"{name} must be a whole number >= 1, got {count!r}")
        if dual not in ("x", "xhat"):
            raise ValueError(f"dual must be 'x' or 'xhat', got {dual!r}")
        if returned not in ("network", "x", "z"):
            raise ValueError(f"returned must be 'network', 'x' or 'z', got {returned!r}")
        self.rho, self.eta, self.dual, self.returned = float(rho), float(eta), dual, returned
        self.decay, self.inner, self.loops = float(decay), int(inner), int(loops)

    def default_stop(self) -> StoppingRule:
        """The outer loops."""
        return MaxIterations(self.loops)

    def start(self, problem: Problem) -> SplittingState:
        """x = z = argmin J, b = 0."""
        refuse_generator(problem, "splitting")
        refuse_without_prox(problem, "splitting")
        denoiser = _denoiser(problem)
        for term in problem.terms:
            if term.automatic:
                raise ValueError(
                    "solver='splitting' has no rule for an automatic weight: give that of "
                    f"{type(term.prior).__name__} (weight=1 for a network that ignores the noise level)"
                )
        return self.first(problem, lambda x, loop: _apply(denoiser, problem, x, loop, self.rho))

    def step(self, problem: Problem, state: SplittingState) -> SplittingState:
        """One outer loop."""
        denoiser = _denoiser(problem)
        return self.loop(problem, state, lambda x, loop: _apply(denoiser, problem, x, loop, self.rho))

    def image(self, state: SplittingState) -> Tensor:
        """The image that was asked for."""
        found: Tensor = getattr(state, self.returned)
        return found

    def account(self, problem: Problem, state: SplittingState) -> list[str]:
        """Weights, the z-step, the dual, and which image is given back."""
        functionals = _without_network(problem)
        norms = squared_norm(problem)
        pull = self._pull(norms, state.z)
        returned = {"network": "the network's image", "x": "x", "z": "z, which fits the data"}[self.returned]
        said = [
            f"The data weigh {self.eta:g} with A divided by its norm {float(norms[0].sqrt()):.3g}, the split "
            f"{self.rho:g}: beside 1/2 |A z - y|^2 its penalty is {float(pull.flatten()[0]):.3g}.",
            f"The dual is moved by {'x' if self.dual == 'x' else 'the network image, as printed'}; {returned} is given "
            "back.",
        ]
        if functionals.terms:
            names = " + ".join(type(term.prior).__name__ for term in functionals.terms)
            shrink = "" if self.decay == 1 else f", whose weights shrink by {self.decay:g} a loop"
            return [*said, f"Every z-step takes {self.inner} iterations of ADMM with {names}{shrink}."]
        maps = [Identity(problem.operator.domain_shape)]
        return [*said, step_in_words(problem, [pull], maps, state.z, self.inner, variable="z")]

    def first(self, problem: Problem, network: Callable[[Tensor, int], Tensor]) -> SplittingState:
        """The first state for a network ``network(x, loop)``; a denoiser in the problem is left out."""
        functionals = _without_network(problem)
        x = problem.start
        if functionals.terms:
            admm = ADMM()
            state = admm.start(functionals)
            for _ in range(FIRST_ITERATIONS):
                state = admm.step(functionals, state)
            x = admm.image(state)
        w = [term.K._run(x, adjoint=False) for term in functionals.terms]
        none = torch.zeros_like(problem.strength)
        return SplittingState(
            x=x,
            network=network(x, 0),
            z=x,
            normal_z=problem.normal(x),
            b=torch.zeros_like(x),
            w=w,
            d=[torch.zeros_like(split) for split in w],
            iteration=none,
            primal=none + 1,
            dual=none + 1,
        )

    def loop(
        self, problem: Problem, state: SplittingState, network: Callable[[Tensor, int], Tensor]
    ) -> SplittingState:
        """One outer loop with a network ``network(x, loop)``."""
        new = self.fit_data(problem, state)
        x = (state.network + self.rho * (new.z - state.b)) / (1 + self.rho)
        b = state.b + (x if self.dual == "x" else state.network) - new.z
        return self.moved(new, state.z, x, b, network(x, int(state.iteration.max()) + 1))

    def _pull(self, norms: Tensor, z: Tensor) -> Tensor:
        """Penalty of the split beside 1/2 |A z - y|^2, shaped to multiply images."""
        return per_item(self.rho / (2 * self.eta) * norms, z).to(real_dtype(z.dtype))

    def fit_data(self, problem: Problem, state: SplittingState) -> SplittingState:
        """The z-step: closed form, conjugate gradients, or ADMM with the functionals."""
        functionals = _without_network(problem)
        v, z, normal_z = state.x + state.b, state.z, state.normal_z
        norms = squared_norm(problem).clamp_min(1e-30)
        pull = self._pull(norms, z)
        right = problem.backprojection + pull * v
        maps = [Identity(problem.operator.domain_shape), *(term.K for term in functionals.terms)]
        if not functionals.terms:
            z, normal_z = solve_normal(problem, [pull], maps, right, z, normal_z, self.inner)
            return dataclasses.replace(state, z=z, normal_z=normal_z)
        scales = first_penalties(functionals)
        units = penalty_units(functionals)
        rho = [per_item(a * b, z).to(pull.dtype) for a, b in zip(scales, units, strict=True)]
        shrink = self.decay ** int(state.iteration.max())
        w, d = list(state.w), list(state.d)
        for _ in range(self.inner):
            b = right
            for weight, term, split, dual in zip(rho, functionals.terms, w, d, strict=True):
                b = b + weight * term.K._run(split - dual, adjoint=True)
            z, normal_z = solve_normal(problem, [pull, *rho], maps, b, z, normal_z)
            for place, term in enumerate(functionals.terms):
                mapped = term.K._run(z, adjoint=False) + d[place]
                step = shrink / per_item(rho[place].flatten(), mapped)
                w[place] = term.prox(mapped, step, problem.strength)
                d[place] = mapped - w[place]
        return dataclasses.replace(state, z=z, normal_z=normal_z, w=w, d=d)

    @staticmethod
    def moved(state: SplittingState, before: Tensor, x: Tensor, b: Tensor, network: Tensor) -> SplittingState:
        """The state after the x- and the dual step; ``before`` is the z of the loop before."""
        size = norm(state.z).clamp_min(1e-30)
        return dataclasses.replace(
            state,
            x=x,
            b=b,
            network=network,
            iteration=state.iteration + 1,
            primal=(norm(x - state.z) / size).to(state.primal),
            dual=(norm(state.z - before) / size).to(state.dual),
        )

    def __repr__(self) -> str:
        return (
            f"Splitting(rho={self.rho:g}, eta={self.eta:g}, dual={self.dual!r}, returned={self.returned!r}, "
            f"decay={self.decay:g}, inner={self.inner}, loops={self.loops})"
        )


def _denoiser(problem: Problem) -> Term:
    found = [term for term in problem.terms if isinstance(term.prior, Denoiser)]
    if len(found) != 1:
        raise ValueError(
            f"solver='splitting' needs one denoiser or learned network among the priors, got {len(found)}: "
            "use solver='admm' for functionals alone"
        )
    return found[0]


def _without_network(problem: Problem) -> Problem:
    """The problem with its functionals alone."""
    part = object.__new__(Problem)
    part.__dict__.update(problem.__dict__)
    part.__dict__["terms"] = [term for term in problem.terms if not isinstance(term.prior, Denoiser)]
    return part


def _apply(term: Term, problem: Problem, x: Tensor, loop: int, rho: float) -> Tensor:
    """The network's image; a denoiser that takes a noise level gets that of its proximal map at step 1/rho."""
    at = getattr(term.prior, "at", None)
    if at is not None:
        term = copy.copy(term)
        term.prior = at(loop)
    return term.prox(x, 1 / rho, problem.strength)
