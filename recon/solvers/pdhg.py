"""PDHG, the primal-dual hybrid gradient method of Chambolle and Pock."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

import torch
from torch import Tensor

from recon.linear import Identity, real_dtype
from recon.parameters import Param
from recon.problem import Problem
from recon.solvers.admm import ADMM
from recon.solvers.algorithm import (
    Iterative,
    norm,
    per_item,
    refuse_denoisers,
    refuse_generator,
    refuse_without_prox,
)
from recon.solvers.steps import first_penalties, penalty_units, squared_norm
from recon.stopping import MaxIterations, SmallResiduals, StoppingRule
from recon.terms import Term

Data = Literal["auto", "split", "prox"]


@dataclasses.dataclass
class PDHGState:
    """Image, duals and what is known of them.

    Attributes:
        image: x', the last value of the image's proximal map, ``(B, *shape)``: what the residuals are of.
        x: the image that is iterated, beyond x' by the relaxation.
        u: one dual a split, ``(B, *K_i.range_shape)``; the data term's, in its metric, is the first.
        mapped: K_i x of every split.
        pull: sum_i K_i^H u_i, ``(B, *shape)``.
        sigma: dual step of every split in units of the weight, ``(B,)``.
        bound: bound of |A^H W A|, 0 where the data term is not split, ``(B,)``.
        iteration: iterations done, ``(B,)``.
        primal: the largest of all splits' |z_i - K_i x| / max(|K_i x|, |z_i|), z_i where the dual is optimal, ``(B,)``.
        dual: |what is left of the image's optimality condition| / its largest part, ``(B,)``.
    """

    image: Tensor
    x: Tensor
    u: list[Tensor]
    mapped: list[Tensor]
    pull: Tensor
    sigma: list[Tensor]
    bound: Tensor
    iteration: Tensor
    primal: Tensor
    dual: Tensor


class DataSplit:
    """f(A x; y), its dual in the metric W of the term's weights: u = W q, and the step is sigma W."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.term = problem, problem.item_fidelity
        self.unit = torch.ones_like(problem.strength)

    def map(self, x: Tensor) -> Tensor:
        """A x."""
        return self.problem.operator(x)

    def back(self, q: Tensor) -> Tensor:
        """A^H W q."""
        return self.problem.operator.adjoint(self.term.weighted(q))

    def resolvent(self, v: Tensor, sigma: Tensor) -> Tensor:
        """argmin of sigma f* + 1/2 |. - v|^2 in the metric; of squares (v - sigma y) / (1 + sigma)."""
        y = self.problem.y
        if self.term.quadratic:
            return (v - sigma * y) / (1 + sigma)
        assert self.term.weights is not None
        return v - sigma * self.term.prox(v / sigma, y, 1 / (sigma * self.term.weights))

    def first_dual(self, predicted: Tensor) -> Tensor:
        """The dual at which the first image is optimal: the residual, of squares."""
        if self.term.quadratic:
            return predicted - self.problem.y
        assert self.term.weights is not None
        if not self.term.smooth:  # the first image may lie where the data term is infinite
            return torch.zeros_like(predicted)
        return self.term.gradient(predicted, self.problem.y) / self.term.weights

    def squared_norm(self, bound: Tensor) -> Tensor:
        """|A^H W A|."""
        return bound

    def size(self, z: Tensor) -> Tensor:
        """Norm in the metric."""
        return self.term.weighted_norm(z)

    def least_size(self, scale: Tensor) -> Tensor:
        """Data of this size pass for zero."""
        return 1e-3 * self.term.weighted_norm(self.problem.y)


class PriorSplit:
    """g(K x) with the dual of K x."""

    def __init__(self, term: Term, unit: Tensor, problem: Problem) -> None:
        self.term, self.unit, self.strength = term, unit, problem.strength

    def map(self, x: Tensor) -> Tensor:
        """K x."""
        return self.term.K._run(x, adjoint=False)

    def back(self, u: Tensor) -> Tensor:
        """K^H u."""
        return self.term.K._run(u, adjoint=True)

    def resolvent(self, v: Tensor, sigma: Tensor) -> Tensor:
        """The proximal map of sigma g*, by Moreau's identity."""
        return v - sigma * self.term.prox(v / sigma, 1 / sigma, self.strength)

    def first_dual(self, mapped: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(mapped)

    def squared_norm(self, bound: Tensor) -> Tensor:
        """|K|^2."""
        return torch.full_like(bound, max(self.term.K.norm() ** 2, 1e-30))

    def size(self, z: Tensor) -> Tensor:
        """Norm."""
        return norm(z)

    def least_size(self, scale: Tensor) -> Tensor:
        """Splits of this size pass for zero in images of that scale."""
        return self.term.K.norm() * scale


Split = DataSplit | PriorSplit


class PDHG(Iterative):
    """Minimise f(A x; y) + h(x) + sum_i g_i(K_i x) by its saddle point (Chambolle and Pock 2011).

    With K_0 = A, g_0 = f(.; y), and h one functional of the image itself (a constraint, if there is one):

        x' = prox_{tau h}(x - tau sum_i K_i^H u_i)
        u_i' = prox_{sigma_i g_i*}(u_i + sigma_i K_i (2 x' - x))
        (x, u) = (x, u) + relaxation ((x', u') - (x, u))

    and prox_{sigma g*}(v) = v - sigma prox_{g/sigma}(v/sigma). It converges for tau |sum_i sigma_i K_i^H K_i| <= 1 and
    relaxation in (0, 2) (Condat 2013, He and Yuan 2012): tau = 1 / sum_i sigma_i |K_i|^2 of guaranteed norms. The data
    term is split in the metric W of its weights, or of its expansion around the data: u_0 = W q_0, step sigma_0 W. An
    iteration costs one A and one A^H, whatever the number of terms: K_i x and K_i^H u_i are kept. Where the operator
    solves (A^H A + I/tau) x = b in closed form (masks, blur, Cartesian MRI) a least-squares data term takes the place
    of h, and nothing of the data is split.

    A dual step is to a prior what the penalty is to `ADMM`, weight / (a tenth of the RMS of the first image), and five
    times that beside a data term that is split, whose step is 1 in its metric. As the right ratio of tau to sigma
    decides how fast it goes, the steps are moved towards
    equal relative primal and dual residuals while they are more than a factor 3 apart, by less and less (Goldstein et
    al. 2015). With (x', u') these residuals are those of the optimality conditions, exactly:

        (x - x')/tau - sum_i K_i^H (u_i - u_i')   and   (u_i - u_i')/sigma_i - K_i (x - x').

    Args:
        ratio: factor on every dual step, and through tau the inverse on the primal one.
        relaxation: over-relaxation in (0, 2).
        data: ``"split"``, ``"prox"`` in closed form, or ``"auto"``: in closed form where there is one.
        adaptive: whether the steps follow the residuals.
    """

    def __init__(
        self,
        ratio: Annotated[float, Param("factor on the dual steps, the primal one shrinks by it", gt=0)] = 1.0,
        relaxation: Annotated[float, Param("over-relaxation", gt=0, lt=2)] = 1.8,
        data: Annotated[Data, Param("the data term: split, or a proximal map in closed form")] = "auto",
        adaptive: Annotated[bool, Param("move the steps towards equal residuals")] = True,
    ) -> None:
        if not 0 < float(ratio) < math.inf:
            raise ValueError(f"ratio must be a number > 0, got {ratio!r}")
        if not 0 < float(relaxation) < 2:
            raise ValueError(f"relaxation must lie in (0, 2), got {relaxation!r}")
        if data not in ("auto", "split", "prox"):
            raise ValueError(f"data must be 'auto', 'split' or 'prox', got {data!r}")
        self.ratio, self.relaxation = float(ratio), float(relaxation)
        self.data: Data = data
        self.adaptive = bool(adaptive)

    def default_stop(self) -> StoppingRule:
        """Relative residuals below 1e-3, or 2000 iterations, which are cheap."""
        return SmallResiduals(1e-3) | MaxIterations(2000)

    def searching(self) -> ADMM:
        """ADMM finds an automatic weight: it follows a change within the few iterations between two looks."""
        return ADMM()

    def check(self, problem: Problem) -> None:
        """Refuse generators and denoisers."""
        refuse_generator(problem, "pdhg")
        refuse_without_prox(problem, "pdhg")
        refuse_denoisers(problem, "pdhg")

    def start(self, problem: Problem) -> PDHGState:
        """The first image; the data's dual is its residual, the others are zero."""
        self.check(problem)
        x, closed = problem.start, self._closed(problem)
        bound = squared_norm(problem)
        first = first_penalties(problem)
        own = None if closed else own_term(problem)
        sigma = [
            self.ratio * step for term, step in zip(problem.terms, first, strict=True) if term is not own
        ]
        if closed:
            bound = torch.zeros_like(bound)
        else:
            sigma = [torch.full_like(bound, self.ratio), *(_BESIDE_DATA * step for step in sigma)]
        splits = _splits(problem, closed)
        mapped = [split.map(x) for split in splits]
        duals = [split.first_dual(image) for split, image in zip(splits, mapped, strict=True)]
        pull = torch.zeros_like(x)
        for split, dual in zip(splits, duals, strict=True):
            pull = pull + split.back(dual)
        none = torch.zeros_like(bound)
        return PDHGState(x, x, duals, mapped, pull, sigma, bound, none, none + 1, none + 1)

    def step(self, problem: Problem, state: PDHGState) -> PDHGState:
        """One iteration."""
        x, closed = state.x, not bool((state.bound > 0).any())
        splits = _splits(problem, closed)
        sigma = [step * split.unit for split, step in zip(splits, state.sigma, strict=True)]
        squares = [step * split.squared_norm(state.bound) for split, step in zip(splits, sigma, strict=True)]
        tau = per_item(1 / torch.stack(squares).sum(0), x).to(real_dtype(x.dtype))
        new_x = self._image_update(problem, x - tau * state.pull, tau, closed)
        # a constant image under total variation, an empty one under l1: their splits vanish, the image's scale stays
        scale = 1e-3 * torch.maximum(norm(new_x), problem.image_norm)
        force = 1e-3 * norm(problem.backprojection).to(state.primal)
        primal, pull = torch.zeros_like(state.primal), torch.zeros_like(x)
        duals, images = [], []
        for split, step, u, image in zip(splits, sigma, state.u, state.mapped, strict=True):
            dual_step = per_item(step, u).to(tau.dtype)
            mapped = split.map(new_x)
            new_u = split.resolvent(u + dual_step * (2 * mapped - image), dual_step)
            missed = (u - new_u) / dual_step - (image - mapped)
            size = torch.maximum(split.size(mapped), split.size(mapped + missed))
            size = torch.maximum(size, split.least_size(scale)).clamp_min(1e-30)
            primal = torch.maximum(primal, (split.size(missed) / size).to(primal))
            part = split.back(new_u)
            force = torch.maximum(force, norm(part).to(force))
            pull = pull + part
            duals.append(torch.lerp(u, new_u, self.relaxation))
            images.append(torch.lerp(image, mapped, self.relaxation))
        left = norm((x - new_x) / tau - state.pull + pull).to(force)
        new = PDHGState(
            new_x,
            torch.lerp(x, new_x, self.relaxation),
            duals,
            images,
            torch.lerp(state.pull, pull, self.relaxation),
            state.sigma,
            state.bound,
            state.iteration + 1,
            primal,
            left / force.clamp_min(1e-30),
        )
        return self._balanced(new) if self.adaptive else new

    def image(self, state: PDHGState) -> Tensor:
        """The image x', inside the constraint if there is one."""
        return state.image

    def account(self, problem: Problem, state: PDHGState) -> list[str]:
        """Steps, relaxation and what becomes of the data term."""
        closed = not bool((state.bound > 0).any())
        splits = _splits(problem, closed)
        sigma = [float((step * split.unit)[0]) for split, step in zip(splits, state.sigma, strict=True)]
        squares = [
            step * float(split.squared_norm(state.bound)[0])
            for split, step in zip(splits, sigma, strict=True)
        ]
        names = [
            type(split.term.prior).__name__ if isinstance(split, PriorSplit) else "the data"
            for split in splits
        ]
        duals = ", ".join(f"{step:.3g} for {name}" for step, name in zip(sigma, names, strict=True))
        moved = "then moved towards equal residuals" if self.adaptive else "kept"
        return [
            f"Steps at the end: {1 / max(sum(squares), 1e-30):.3g} of the image, one over the sum of the dual steps "
            f"times guaranteed |K|^2; dual steps {duals} (at first from the weights and the image's scale, {moved}); "
            f"over-relaxation {self.relaxation:g}.",
            "The data term is taken in closed form by the operator."
            if closed
            else "The data term is split off.",
        ]

    def _image_update(self, problem: Problem, v: Tensor, tau: Tensor, closed: bool) -> Tensor:
        """The proximal map of h, or of the data term in closed form."""
        if closed:
            identity = Identity(problem.operator.domain_shape)
            solved = problem.operator.solve_gram(problem.backprojection + v / tau, [1 / tau], [identity])
            assert solved is not None
            return solved
        own = own_term(problem)
        return v if own is None else own.prox(v, tau, problem.strength)

    def _closed(self, problem: Problem) -> bool:
        """Whether the data term has its proximal map in closed form, and is to use it."""
        if self.data == "split" or not problem.terms:
            return False
        term, operator = problem.item_fidelity, problem.operator
        closed = (
            term.quadratic
            and term.weights is None
            and operator.solve_gram(problem.start, [1.0], [Identity(operator.domain_shape)]) is not None
        )
        if not closed and self.data == "prox":
            raise ValueError(
                f"data='prox' needs least squares without weights that {type(operator).__name__} solves in closed form "
                f"(solve_gram), which fidelity {term.name!r} does not offer: use data='split'"
            )
        return closed

    def _balanced(self, state: PDHGState) -> PDHGState:
        """Every tenth iteration, move the steps towards equal relative residuals, by less and less."""
        ratio = (state.primal / state.dual.clamp_min(1e-30)).clamp_min(1e-30)
        due = (state.iteration % 10 == 0) & ((ratio > 3) | (ratio < 1 / 3))
        if not bool(due.any()):
            return state
        limit = 1 + 10 / state.iteration.clamp_min(1)
        factor = torch.where(due, torch.minimum(torch.maximum(ratio.sqrt(), 1 / limit), limit), 1)
        return dataclasses.replace(state, sigma=[sigma * factor for sigma in state.sigma])

    def __repr__(self) -> str:
        return (
            f"PDHG(ratio={self.ratio:g}, relaxation={self.relaxation:g}, data={self.data!r}, "
            f"adaptive={self.adaptive})"
        )


_BESIDE_DATA = 5.0  # least iterations of TV and wavelets in CT, of 0.5 to 50; with the data's step at 1


def own_term(problem: Problem) -> Term | None:
    """The functional whose proximal map is taken of the image itself: a constraint if there is one."""
    own = [term for term in problem.terms if isinstance(term.K, Identity)]
    return next((term for term in own if term.constraint), own[0] if own else None)


def _splits(problem: Problem, closed: bool) -> list[Split]:
    """What is split: the data term, if its proximal map is not the image's, and the priors but for the image's own."""
    units = penalty_units(problem)
    if closed:
        return [PriorSplit(term, unit, problem) for term, unit in zip(problem.terms, units, strict=True)]
    own = own_term(problem)
    pairs = [(term, unit) for term, unit in zip(problem.terms, units, strict=True) if term is not own]
    return [DataSplit(problem), *(PriorSplit(term, unit, problem) for term, unit in pairs)]
