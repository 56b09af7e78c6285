"""Limited-memory BFGS for many independent problems side by side: directions and a line search of each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

HALVINGS = 10
"""Of the step, before a line search gives up."""
DECREASE = 1e-4
"""Of the loss, relative to what the slope promises (Armijo)."""


def direction(gradient: Tensor, moves: Tensor, changes: Tensor) -> Tensor:
    """-H gradient of each item, H the inverse Hessian's approximation (Nocedal and Wright 2006, algorithm 7.4).

    Args:
        gradient: ``(B, P)``.
        moves: latest differences of weights ``(B, memory, P)``, the newest first; zeros where there are none yet.
        changes: those of the gradients.
    """
    curvature = torch.linalg.vecdot(moves, changes)
    inverse = torch.where(curvature > 0, 1 / curvature.clamp_min(1e-30), 0)
    memory = moves.shape[1]
    shares = []
    q = gradient
    for place in range(memory):
        share = inverse[:, place] * torch.linalg.vecdot(moves[:, place], q)
        q = q - share.unsqueeze(1) * changes[:, place]
        shares.append(share)
    energy = torch.linalg.vecdot(changes[:, 0], changes[:, 0])
    size = torch.where(energy > 0, curvature[:, 0] / energy.clamp_min(1e-30), 1.0)
    q = q * size.unsqueeze(1)
    for place in reversed(range(memory)):
        share = inverse[:, place] * torch.linalg.vecdot(changes[:, place], q)
        q = q + (shares[place] - share).unsqueeze(1) * moves[:, place]
    return -q


def remembered(moves: Tensor, changes: Tensor, move: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """The memory with a new pair in front; items whose pair has no positive curvature keep theirs."""
    size = torch.linalg.vector_norm(move, dim=1) * torch.linalg.vector_norm(change, dim=1)
    fine = (torch.linalg.vecdot(move, change) > 1e-10 * size).reshape(-1, 1, 1)
    newer = torch.cat([move.unsqueeze(1), moves[:, :-1]], 1)
    changed = torch.cat([change.unsqueeze(1), changes[:, :-1]], 1)
    return torch.where(fine, newer, moves), torch.where(fine, changed, changes)


def line_search(
    loss_at: Callable[[Tensor], Tensor], theta: Tensor, step: Tensor, loss: Tensor, slope: Tensor
) -> Tensor:
    """The length of each item's step: the first of 1, 1/2, 1/4, ... that lowers the loss enough; 0 where none does.

    Args:
        loss_at: loss ``(B,)`` of weights ``(B, P)``.
        theta: weights ``(B, P)``.
        step: full step ``(B, P)``.
        loss: at ``theta``, ``(B,)``.
        slope: of the loss along the step ``(B,)``.
    """
    length, found = torch.ones_like(loss), torch.zeros_like(loss, dtype=torch.bool)
    for _ in range(HALVINGS):
        tried = loss_at(theta + length.to(theta).unsqueeze(1) * step)
        found = found | (tried <= loss + DECREASE * length * slope)
        if bool(found.all()):
            break
        length = torch.where(found, length, length / 2)
    return torch.where(found, length, 0)
