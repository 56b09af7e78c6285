"""How large steps are: bounds of |A^H W A|, and the penalties that splitting algorithms start from."""

from __future__ import annotations

import torch
from torch import Tensor

from recon import norms
from recon.algebra import Composition
from recon.linear import LinearOperator, real_dtype
from recon.priors import Denoiser, Functional
from recon.problem import Problem
from recon.terms import Term


class _RootOfWeights(LinearOperator):
    """sqrt(w) y of data, for one row of weights."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__(weights.shape, weights.shape)
        self.root: Tensor
        self.register_buffer("root", weights.sqrt())
        self.nonnegative = True

    def _forward(self, x: Tensor) -> Tensor:
        return x * self.root.to(x.real if x.is_complex() else x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)


def squared_norm(problem: Problem) -> Tensor:
    """The largest eigenvalue of A^H W A, not below the true one, ``(B,)``; see `LinearOperator.norm`.

    With weights |sqrt(W) A| is measured for every row of weights that differs, as max(w) |A|^2 may lie far above
    it: by the bound of Collatz and Wielandt, to 2 %, where A has no negative entry.
    """
    operator, weights = problem.operator, problem.item_fidelity.weights
    if weights is None:
        return torch.full_like(problem.strength, max(operator.norm() ** 2, 1e-30))
    bounds = []
    for row in weights:
        weighted = Composition(_RootOfWeights(row.float()), operator)
        bound = (
            norms.collatz_wielandt_bound(weighted, tolerance=0.02)
            if operator.nonnegative
            else norms.lanczos_bound(weighted)
        )
        bounds.append(max(bound**2, 1e-30))
    return torch.tensor(bounds).to(problem.strength).expand(problem.items).clone()


def column_energy(problem: Problem) -> Tensor:
    """The mean diagonal of A^H W A of each item, ``(B,)``, from the image of random signs (Hutchinson 1990)."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, problem.operator.domain_shape, generator=generator).mul(2).sub(1)
    pixels = problem.visible(signs.unsqueeze(0)).numel()
    image = problem.operator(signs.to(problem.y.device, real_dtype(problem.y.dtype)).unsqueeze(0))
    energy = problem.item_fidelity.weighted_norm(image).square() / pixels
    return energy.to(problem.strength).expand(problem.items).clamp_min(1e-30)


def is_weighted(term: Term) -> bool:
    """Whether the term's prox thresholds by a weight: not a constraint, not a denoiser."""
    return isinstance(term.prior, Functional) and not term.constraint


def has_denoiser(problem: Problem) -> bool:
    """Whether a term is a denoiser."""
    return any(isinstance(term.prior, Denoiser) for term in problem.terms)


def leader(problem: Problem) -> Term | None:
    """The first weighted functional: constraints beside it take its scale."""
    return next((term for term in problem.terms if is_weighted(term)), None)


UNSCALED = 0.03
"""Penalty of a term without a scale, over |A^H W A| / |K|^2."""


def first_penalties(problem: Problem) -> list[Tensor]:
    """The penalty of every term in units of its weight, from which splitting algorithms start; see `recon.ADMM`."""
    by_scale = _by_scale(problem)
    first = leader(problem)
    plugged = has_denoiser(problem)
    penalties = []
    for term in problem.terms:
        if isinstance(term.prior, Denoiser) or (plugged and first is None):
            penalties.append(column_energy(problem))
        elif is_weighted(term):
            quadratic = isinstance(term.prior, Functional) and term.prior.quadratic
            penalties.append(torch.ones_like(by_scale) if quadratic else by_scale)
        elif first is not None:
            penalties.append(by_scale / 5)
        else:
            penalties.append(_unscaled(problem, term))
    return penalties


def _by_scale(problem: Problem) -> Tensor:
    """One over a tenth of the RMS of the first image, ``(B,)``."""
    rms = (problem.image_norm / problem.start[0].numel() ** 0.5).to(problem.strength)
    return 10 / torch.where(rms > 0, rms, torch.ones_like(rms))


def _unscaled(problem: Problem, term: Term) -> Tensor:
    """The penalty of a term to which no weight gives a scale, ``(B,)``."""
    return UNSCALED * problem.normal_norm / max(term.K.norm() ** 2, 1e-30)


def penalty_units(problem: Problem) -> list[Tensor]:
    """What the penalties of `first_penalties` are multiplied by: the weight, of the leader for constraints, or 1.

    A constraint beside a weak functional keeps at least the penalty that it would have alone: a constraint has no
    weight, and at the functional's the image would take hundreds of iterations to enter it. A denoiser's penalty has
    no weight in it: its noise level is sqrt(weight / penalty), that of the data in the image.
    """
    first = leader(problem)
    units = []
    for term in problem.terms:
        owner = term if is_weighted(term) else first
        if owner is None or isinstance(term.prior, Denoiser):
            units.append(torch.ones_like(problem.strength))
            continue
        weight = owner.weight(problem.strength, problem.strength)
        weight = torch.where(weight > 0, weight, torch.ones_like(weight))
        if term.constraint:
            weight = torch.maximum(weight, _unscaled(problem, term) * 5 / _by_scale(problem))
        units.append(weight)
    return units
