"""Steps of the weights of many networks side by side, rows of one matrix: Adam, and L-BFGS."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recon.solvers.algorithm import per_item
from recon.solvers.lbfgs import direction, line_search, remembered

MEMORY = 10
"""Pairs of differences that L-BFGS keeps."""
FIRST, SECOND, TINY = 0.9, 0.999, 1e-8
"""Adam's forgetting factors of the gradient and its square, and what keeps a quotient finite."""


def where(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """``new`` where an item's mask is set."""
    return torch.where(per_item(mask, new), new, old)


def adam_step(
    theta: Tensor, moments: tuple[Tensor, Tensor, Tensor], gradient: Tensor, rate: Tensor, clip: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights, moments and count after a step (Kingma and Ba 2015), each item's gradient clipped.

    Args:
        theta: weights ``(B, P)``.
        moments: mean of the gradient and of its square ``(B, P)``, and the steps since they were zero ``(B,)``.
        gradient: ``(B, P)``.
        rate: learning rate of each item ``(B,)``.
        clip: largest norm of an item's gradient; 0 for none.
    """
    mean, square, steps = moments
    if clip:
        size = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        gradient = gradient * (clip / size.clamp_min(clip))
    steps = steps + 1
    mean = torch.lerp(gradient, mean, FIRST)
    square = torch.lerp(gradient.square(), square, SECOND)
    corrected = (square / (1 - SECOND**steps).to(square).unsqueeze(1)).sqrt().add_(TINY)
    length = (rate / (1 - FIRST**steps)).to(mean).unsqueeze(1)
    return theta - length * mean / corrected, mean, square, steps


def no_curvature(theta: Tensor) -> list[Tensor]:
    """The memory of L-BFGS before the first step: differences of weights and gradients, gradient and weights."""
    pairs = theta.new_zeros(len(theta), MEMORY, theta.shape[1])
    return [pairs, pairs.clone(), torch.zeros_like(theta), torch.zeros_like(theta)]


def with_latest(curvature: list[Tensor], theta: Tensor, gradient: Tensor) -> list[Tensor]:
    """The memory of L-BFGS with the latest step and change of the gradient."""
    moves, changes, before, theta_before = curvature
    known = before.any(1)
    move = where(known, theta - theta_before, torch.zeros_like(theta))
    moves, changes = remembered(moves, changes, move, gradient - before)
    return [moves, changes, gradient, theta]


def lbfgs_step(
    theta: Tensor, curvature: list[Tensor], loss: Tensor, loss_at: Callable[[Tensor], Tensor]
) -> Tensor:
    """Weights after a step of L-BFGS with a line search that halves; ``loss`` is ``loss_at(theta)``."""
    moves, changes, gradient, _ = curvature
    step = direction(gradient, moves, changes)
    slope = torch.linalg.vecdot(gradient, step).double()
    length = line_search(loss_at, theta, step, loss, slope)
    return theta + length.to(step).unsqueeze(1) * step
