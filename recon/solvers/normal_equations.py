"""The data step of splitting algorithms: normal equations with quadratic terms, solved exactly or nearly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from recon.linear import LinearOperator
from recon.problem import Problem
from recon.solvers.algorithm import inner, per_item


def solve_normal(
    problem: Problem,
    rho: Sequence[Tensor],
    maps: Sequence[LinearOperator],
    b: Tensor,
    x: Tensor,
    normal_x: Tensor,
    iterations: int | Literal["auto"] = "auto",
) -> tuple[Tensor, Tensor]:
    """Solve (A^H W A + sum_i rho_i K_i^H K_i) x = b: the operator's closed form, else warm-started CG.

    Args:
        problem: A and W.
        rho: one penalty a map, shaped to multiply images.
        maps: K_i.
        b: right-hand side ``(B, *shape)``.
        x: where conjugate gradients start.
        normal_x: A^H W A x of that.
        iterations: of conjugate gradients; ``"auto"`` is 2 with a preconditioner, else 8.

    Returns:
        the solution, and A^H W A of it, which costs conjugate gradients nothing; after a closed form, `normal_x`
        as it came.
    """
    if problem.item_fidelity.weights is None:
        solved = problem.operator.solve_gram(b, rho, maps)
        if solved is not None:
            return solved, normal_x
    precondition = problem.preconditioner(rho, maps)
    steps = inner_iterations(iterations, precondition is not None)

    def terms(direction: Tensor) -> Tensor:
        return _weighted_grams(rho, maps, direction)

    return conjugate_gradients(problem.normal, terms, b, x, normal_x, steps, precondition)


def conjugate_gradients(
    normal: Callable[[Tensor], Tensor],
    terms: Callable[[Tensor], Tensor],
    b: Tensor,
    x: Tensor,
    normal_x: Tensor,
    iterations: int,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """A number of conjugate gradient steps (Hestenes and Stiefel 1952) for (N + T) x = b, each item for itself.

    Every step can be differentiated, as far as `normal` and `terms` can.

    Args:
        normal: N, symmetric positive semidefinite on items ``(B, *shape)``.
        terms: T, likewise.
        b: right-hand side ``(B, *shape)``.
        x: where to start.
        normal_x: N x of that.
        iterations: how many steps.
        precondition: an approximation of (N + T)^-1, or None.

    Returns:
        x, and N x of it.
    """
    residual = b - normal_x - terms(x)
    direction = squared = None
    for _ in range(iterations):
        steered = residual if precondition is None else precondition(residual)
        new_squared = inner(residual, steered)
        if direction is None or squared is None:
            direction = steered
        else:
            direction = steered + per_item(new_squared / squared.clamp_min(1e-30), x) * direction
        squared = new_squared
        seen = normal(direction)
        image = seen + terms(direction)
        alpha = per_item(squared / inner(direction, image).clamp_min(1e-30), x)
        x = x + alpha * direction
        normal_x = normal_x + alpha * seen
        residual = residual - alpha * image
    return x, normal_x


def inner_iterations(asked: int | Literal["auto"], preconditioned: bool) -> int:
    """Conjugate gradient steps of a data step: those asked for, or 2 with a preconditioner and 8 without."""
    return asked if asked != "auto" else (2 if preconditioned else 8)


def step_in_words(
    problem: Problem,
    rho: Sequence[Tensor],
    maps: Sequence[LinearOperator],
    x: Tensor,
    iterations: int | Literal["auto"],
    variable: str = "x",
) -> str:
    """How `solve_normal` solves for images like ``x`` with these penalties, for accounts."""
    unweighted = problem.item_fidelity.weights is None
    if unweighted and problem.operator.solve_gram(torch.zeros_like(x), rho, maps) is not None:
        return f"Every {variable}-step is solved in closed form by the operator."
    preconditioned = problem.preconditioner(rho, maps) is not None
    steps = inner_iterations(iterations, preconditioned)
    how = "with the operator's preconditioner" if preconditioned else "without a preconditioner"
    return f"Every {variable}-step takes {steps} warm-started conjugate gradient steps, {how}."


def _weighted_grams(rho: Sequence[Tensor], maps: Sequence[LinearOperator], x: Tensor) -> Tensor:
    total = rho[0] * maps[0]._run_gram(x)
    for weight, K in zip(rho[1:], maps[1:], strict=True):
        total = total + weight * K._run_gram(x)
    return total
