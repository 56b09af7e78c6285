"""Operators written as matrices in double precision, and the systems that data steps solve."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recon.linear import Identity, LinearOperator
from recon.testing.measuring import DOUBLE, TINY, inner
from recon.testing.ways import both_ways

LARGEST_MATRIX = 4_000_000
"""Elements of the largest matrix that the dense checks write down."""
_GENERIC_RHO = 0.1
"""Weight of a term relative to |A|^2 / |K|^2: neither side of the system dominates."""


def require_small(operator: LinearOperator) -> None:
    """Raise ValueError if the operator is too large to be written as a matrix."""
    rows, columns = math.prod(operator.range_shape), math.prod(operator.domain_shape)
    if rows * columns > LARGEST_MATRIX:
        raise ValueError(
            f"{type(operator).__name__} {operator.domain_shape} -> {operator.range_shape} is too large to be "
            f"written as a matrix of {rows} x {columns}: check a smaller instance"
        )


def dense(operator: LinearOperator) -> Tensor:
    """The matrix in double precision; complex data of real images as real, then imaginary rows."""
    require_small(operator)
    matrix = operator.to_dense(torch.complex128 if operator.domain == "complex" else torch.float64)
    return (
        torch.cat([matrix.real, matrix.imag]) if operator.domain == "real" and matrix.is_complex() else matrix
    )


def dense_adjoint(operator: LinearOperator) -> Tensor:
    """The matrix of the adjoint, columns as the rows of `dense`."""
    adjoint = both_ways(operator)[1]
    size, dtype = math.prod(operator.range_shape), DOUBLE[adjoint.dtypes[-1]]
    units = torch.eye(size, dtype=dtype, device=operator.device)
    if operator.domain == "real" and dtype.is_complex:
        units = torch.cat([units, 1j * units])
    with torch.no_grad():
        return operator.adjoint(units.reshape(-1, *operator.range_shape)).flatten(1).T


@dataclass(frozen=True)
class System:
    """The matrix A^H A + sum_i rho_i K_i^H K_i, dense and in double precision, for any rho."""

    maps: list[LinearOperator]
    rho: list[float]
    parts: list[Tensor]

    def matrix(self, rho: Sequence[float]) -> Tensor:
        """The matrix for these weights."""
        total = self.parts[0].clone()
        for weight, part in zip(rho, self.parts[1:], strict=True):
            total = total + weight * part
        return total

    def __str__(self) -> str:
        names = ", ".join(
            f"{weight:.2g} {type(K).__name__}" for weight, K in zip(self.rho, self.maps, strict=True)
        )
        return f"with {names}"


def systems(operator: LinearOperator, terms: Sequence[LinearOperator]) -> Iterator[System]:
    """The operator with the identity, with every term, and with all of them, where that is well posed."""
    identity = Identity(operator.domain_shape).to(operator.device)
    matrix = dense(operator)
    squared = float(torch.linalg.matrix_norm(matrix, 2)) ** 2
    normal = matrix.mH @ matrix
    choices: list[list[LinearOperator]] = [[identity], *([term] for term in terms), [identity, *terms]]
    for maps in choices:
        parts = [normal]
        for term in maps:
            factor = dense(term).to(normal)
            parts.append(factor.mH @ factor)
        rho = [_GENERIC_RHO * squared / max(term.norm() ** 2, TINY) for term in maps]
        system = System(maps, rho, parts)
        values = torch.linalg.eigvalsh(system.matrix(rho))
        if float(values[0]) > 1e-6 * float(values[-1]):
            yield system


class Differences(LinearOperator):
    """Forward differences along every axis: the map inside total variation, as a term of data steps.

    ``domain_shape`` to ``(axes, *domain_shape)``; either around the image, or none across its border.
    """

    def __init__(self, shape: Sequence[int], periodic: bool = False) -> None:
        super().__init__(shape, (len(shape), *shape))
        self.periodic = periodic

    def _forward(self, x: Tensor) -> Tensor:
        axes = range(-len(self.domain_shape), 0)
        return torch.stack([self._inside(x.roll(-1, axis) - x, axis) for axis in axes], -1 + axes.start)

    def _adjoint(self, y: Tensor) -> Tensor:
        axes = range(-len(self.domain_shape), 0)
        total = torch.zeros_like(y.select(-1 + axes.start, 0))
        for axis, part in zip(axes, y.unbind(-1 + axes.start), strict=True):
            kept = self._inside(part, axis)
            total = total + kept.roll(1, axis) - kept
        return total

    def _inside(self, part: Tensor, axis: int) -> Tensor:
        """Without the difference across the border."""
        if self.periodic:
            return part
        inside = torch.ones(part.shape[axis], dtype=part.dtype, device=part.device)
        inside[-1] = 0
        return part * inside.reshape(-1, *(1,) * (-1 - axis))

    def fourier_symbol(self) -> Tensor | None:
        """sum over axes of (2 sin(pi k / n))^2 where the differences go around the image."""
        if not self.periodic:
            return None
        total = torch.zeros(())
        for axis, side in enumerate(self.domain_shape):
            values = (2 * torch.sin(math.pi * torch.arange(side) / side)) ** 2
            total = total + values.reshape(-1, *(1,) * (len(self.domain_shape) - axis - 1))
        return total


def conjugate_gradient_iterations(
    matrix: Tensor, preconditioner: Tensor | None = None, tolerance: float = 1e-2, most: int = 1000
) -> int:
    """Count the conjugate gradient steps that bring |x - x*|_M to `tolerance` |x*|_M, in double precision.

    Args:
        matrix: M, Hermitian positive definite ``(n, n)``.
        preconditioner: approximate inverse of M ``(n, n)``, or None.
        tolerance: where to stop.
        most: the answer if that many iterations are not enough.
    """
    matrix = matrix.to(DOUBLE.get(matrix.dtype, matrix.dtype))
    steer = torch.eye(len(matrix)).to(matrix) if preconditioner is None else preconditioner.to(matrix)
    truth = torch.randn(len(matrix), generator=torch.Generator().manual_seed(0)).to(matrix)
    x, residual = torch.zeros_like(truth), matrix @ truth
    goal = tolerance**2 * float(inner(truth, residual).real)
    direction = steered = steer @ residual
    product = inner(residual, steered).real
    for iteration in range(1, most + 1):
        image = matrix @ direction
        alpha = product / inner(direction, image).real
        x, residual = x + alpha * direction, residual - alpha * image
        if float(inner(truth - x, matrix @ (truth - x)).real) <= goal:
            return iteration
        steered = steer @ residual
        previous, product = product, inner(residual, steered).real
        direction = steered + product / previous * direction
    return most
