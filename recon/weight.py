"""The weight of a prior from the noise level: the residual that is left should be what noise can explain."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recon.linear import real_dtype
from recon.problem import Problem
from recon.solvers.algorithm import Algorithm, inner, norm, per_item, select

ROUNDS = 14
FIRST_STEPS = 24  # iterations before the first look
STEPS = 8  # iterations between two looks
CLOSE = 0.02  # relative distance from the target that ends the search


@dataclasses.dataclass
class WeightChoice:
    """What the search found.

    Attributes:
        strength: weight of each item, ``(B,)``.
        state: the algorithm's state at that weight, to go on from.
        rounds: one record a look: lists of weight, residual (relative to the noise) and target, a value an item.
    """

    strength: Tensor
    state: Any
    rounds: list[dict[str, list[float]]]


def choose_weight(problem: Problem, algorithm: Algorithm, seed: int = 0) -> WeightChoice:
    """Choose the weight of the automatic priors by a discrepancy principle that counts degrees of freedom.

    Morozov's principle asks |A x - y|^2 = m sigma^2. But a reconstruction with df effective degrees of freedom
    has absorbed df of the m noise values, so at the right weight E|A x - y|^2 = (m - df) sigma^2; asking for m
    smooths too much. Here df = trace of the map y -> A x, estimated from a twin of every item whose data are
    perturbed (Ramani, Blu and Unser 2008), which runs beside it. The algorithm is never restarted: between two
    looks it goes on from where it is, and the weight moves by a bracketed secant step in the logarithm.

    Args:
        problem: with at least one prior of automatic weight.
        algorithm: what will solve it.
        seed: of the perturbation.
    """
    items = problem.items
    sigma = problem.noise_level.clamp_min(
        1e-6 * norm(problem.y).to(problem.strength) / problem.y[0].numel() ** 0.5
    )
    noise = problem.noise_norm.clamp_min(1e-30)
    probe = _probe(problem, seed)
    size = per_item(0.3 * sigma, probe).to(real_dtype(problem.y.dtype))
    twins = problem.beside(problem.y + size * probe)
    strength = _first_guess(problem, sigma)
    search = _Bracket(torch.log(strength))
    twins.strength = strength.repeat(2)
    state = algorithm.start(twins)
    rounds: list[dict[str, list[float]]] = []
    settled = torch.zeros_like(strength, dtype=torch.bool)
    for look in range(ROUNDS):
        for _ in range(STEPS if look else FIRST_STEPS):
            state = algorithm.step(twins, state)
        predicted = problem.operator(twins.project(algorithm.image(state)))
        residual = twins.item_fidelity.weighted_norm(predicted - twins.y)[:items] / noise
        freedom = inner(probe, predicted[items:] - predicted[:items]) / (0.3 * sigma)
        share = (freedom / (noise / sigma).square()).clamp(0, 0.99)
        target = torch.sqrt(1 - share)
        rounds.append(
            {
                "weight": search.position.exp().tolist(),
                "residual": residual.tolist(),
                "target": target.tolist(),
            }
        )
        gap = torch.log(residual.clamp_min(1e-6) / target)
        close = gap.abs() <= CLOSE
        if bool((close & settled).all()):
            break
        settled = close  # the iterate is still moving: a target must be met twice
        search.move(gap)
        twins.strength = search.position.exp().repeat(2)
    return WeightChoice(
        search.position.exp(), select(state, torch.arange(items, device=problem.y.device)), rounds
    )


class _Bracket:
    """Root of an increasing function of the log weight, one item each, from noisy evaluations."""

    def __init__(self, start: Tensor) -> None:
        self.position = start
        self.low = torch.full_like(start, -torch.inf)
        self.high = torch.full_like(start, torch.inf)
        self.before: tuple[Tensor, Tensor] | None = None

    def move(self, gap: Tensor) -> None:
        """One step: secant where two evaluations give a sane slope, else 2 gap; inside the bracket, at most 10x."""
        here = self.position
        self.low = torch.where(gap < 0, torch.maximum(self.low, here), self.low)
        self.high = torch.where(gap > 0, torch.minimum(self.high, here), self.high)
        slope = torch.full_like(gap, 0.5)
        if self.before is not None:
            position, value = self.before
            distance = here - position
            measured = (gap - value) / torch.where(distance.abs() > 1e-4, distance, torch.inf)
            slope = torch.where(measured > 0, measured.clamp(0.15, 3.0), slope)
        step = (-gap / slope).clamp(-2.3, 2.3)
        target = here + torch.where(gap.abs() <= CLOSE, torch.zeros_like(step), step)
        # evaluations are of a moving iterate: the bracket is a guide, widened a little, not a wall
        self.before = (here, gap)
        self.position = torch.minimum(torch.maximum(target, self.low - 0.7), self.high + 0.7)


def _probe(problem: Problem, seed: int) -> Tensor:
    """Random signs where data exist (their trace estimate varies least: Hutchinson 1990).

    The same for every item: an item's weight does not depend on its mates. Signs from a stream of their own, for a
    probe that equals the noise of the data, drawn from the same seed, would measure the noise instead.
    """
    generator = torch.Generator().manual_seed(0x5164F + seed)
    y, shape = problem.y, problem.operator.range_shape
    probe = _signs(shape, generator).to(y.device, real_dtype(y.dtype))
    if y.is_complex():
        probe = torch.complex(probe, _signs(shape, generator).to(probe))
    mask = problem.operator.sample_mask
    if mask is not None:
        probe = probe * mask.to(probe.device)
    return probe.expand_as(y)


def _signs(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, tuple(shape), generator=generator).mul(2).sub(1)


def _first_guess(problem: Problem, sigma: Tensor) -> Tensor:
    """Noise level times the mean column norm of A: what the gradient of the data term holds of noise."""
    generator = torch.Generator().manual_seed(0)
    signs = _signs(problem.operator.domain_shape, generator)
    image = problem.operator(signs.to(problem.y.device, real_dtype(problem.y.dtype)).unsqueeze(0))
    column = norm(image) / signs.numel() ** 0.5
    return (sigma * column.to(sigma)).clamp_min(1e-30)
