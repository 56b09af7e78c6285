"""Solutions of small problems in float64 with a certificate, by a method that shares nothing with the solvers here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Projection = Callable[[Tensor], Tensor]


@dataclass
class Reference:
    """An image, its objective, and how far both can be from the optimum.

    Attributes:
        x: the image.
        objective: f(A x) + sum g_i(K_i x).
        gap: the optimum lies in [objective - gap, objective].
        error: |x - x*| is at most this.
    """

    x: Tensor
    objective: float
    gap: float
    error: float


def dual_reference(
    A: Tensor,
    y: Tensor,
    maps: list[Tensor],
    projections: list[Projection],
    objective: Callable[[Tensor], Tensor],
    feasible: Projection = lambda x: x,
    iterations: int = 20_000,
    gap: float = 1e-13,
) -> Reference:
    """Minimise 1/2 |A x - y|^2 + sum_i g_i(K_i x) by accelerated projected gradients on its dual.

    With g_i(z) = sup over w in C_i of Re <w, z> the dual is: maximise 1/2 |y|^2 - 1/2 b^H M^-1 b with
    b = A^H y - sum_i K_i^H w_i and M = A^H A, w_i in C_i; then x = M^-1 b (Beck and Teboulle 2009, with
    restarts). The primal is strongly convex with M, so the gap bounds the distance to the solution.

    Args:
        A: dense matrix of full column rank, float64 or complex128.
        y: data, one axis.
        maps: dense K_i.
        projections: onto C_i.
        objective: the primal objective of an image, as one number.
        feasible: puts an image inside the constraints, so that its objective is finite.
    """
    normal = A.mH @ A
    inverse = torch.linalg.inv(normal)
    K = torch.cat(maps)
    sizes = [len(part) for part in maps]
    back = A.mH @ y
    step = 1 / float(torch.linalg.matrix_norm(K @ inverse @ K.mH, 2))
    w = torch.zeros(len(K), dtype=K.dtype)
    ahead, momentum = w, 1.0
    scale = float(0.5 * y.abs().square().sum())
    best: Reference | None = None
    for iteration in range(iterations):
        x = inverse @ (back - K.mH @ ahead)
        moved = ahead + step * (K @ x)
        new = torch.cat(
            [project(part) for project, part in zip(projections, moved.split(sizes), strict=True)]
        )
        if float(((ahead - new).conj() * (new - w)).real.sum()) > 0:
            momentum = 1.0  # restart: the momentum points uphill
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / following * (new - w)
        w, momentum = new, following
        if iteration % 50 == 49:
            b = back - K.mH @ w
            x = inverse @ b
            inside = feasible(x)
            primal = float(objective(inside))
            dual = scale - 0.5 * float((b.conj() * x).real.sum())
            difference = primal - dual
            if best is None or difference < best.gap:
                smallest = float(torch.linalg.eigvalsh(normal)[0])
                best = Reference(inside, primal, difference, (2 * max(difference, 0.0) / smallest) ** 0.5)
            if difference <= gap * max(scale, 1.0):
                break
    assert best is not None
    return best


def in_ball(radius: float, components: int) -> Projection:
    """Onto vectors whose `components` (the slow axis) have joint length at most `radius`, pixel by pixel."""

    def project(w: Tensor) -> Tensor:
        fields = w.reshape(components, -1)
        length = fields.abs().square().sum(0).sqrt()
        return (fields * (radius / length.clamp_min(radius))).reshape(-1)

    return project


def not_positive(w: Tensor) -> Tensor:
    """For the constraint x >= 0, which is the supremum of <w, x> over w <= 0."""
    return w.clamp_max(0)
