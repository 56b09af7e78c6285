"""The finite-difference gradient of an image, its divergence and its Laplacian."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from recon.linear import LinearOperator, Step, solve_in_fourier
from recon.parameters import Param
from recon_operators.arrays import Derived
from recon_operators.circulant import circulant_inverse


class Gradient(LinearOperator):
    """Forward differences along every axis: (G x)_a[i] = (x[i + e_a] - x[i]) / spacing_a.

    Images ``(*batch, *shape)`` become ``(*batch, axes, *shape)``, component a along axis a of `shape`. At the
    last index ``"neumann"`` sets the difference to 0 (the image goes on constantly), ``"periodic"`` takes the
    first index as the neighbour. The adjoint is minus the divergence by backward differences.

    Raises:
        ValueError: unknown boundary, or spacings that are not positive, one for all axes or one for each.
    """

    domain = "any"

    def __init__(
        self,
        shape: Annotated[tuple[int, ...], Param("image shape", unit="px", ge=1)],
        boundary: Annotated[
            Literal["neumann", "periodic"], Param("what follows the last pixel: itself, or the first one")
        ] = "neumann",
        spacing: Annotated[
            float | tuple[float, ...], Param("distance of neighbouring pixels, one or one per axis", gt=0)
        ] = 1.0,
    ) -> None:
        shape = tuple(shape)
        super().__init__(shape, (len(shape), *shape))
        if boundary not in ("neumann", "periodic"):
            raise ValueError(f"boundary must be 'neumann' or 'periodic', got {boundary!r}")
        self.boundary = boundary
        self.spacing = _per_axis(spacing, len(shape))
        self._derived = Derived()
        for axis, (side, step) in enumerate(zip(self.domain_shape, self.spacing, strict=True)):
            frequency = torch.arange(side, dtype=torch.float64) / side
            eigenvalues = (2 * torch.sin(math.pi * frequency) / step) ** 2
            self.register_buffer(f"_eigenvalues_{axis}", eigenvalues, persistent=False)

    def _forward(self, x: Tensor) -> Tensor:
        batch = x.shape[: x.ndim - len(self.domain_shape)]
        result = x.new_empty((*batch, *self.range_shape))
        for axis, component in enumerate(result.unbind(len(batch))):
            dim = len(batch) + axis
            last = x.shape[dim] - 1
            torch.sub(x.narrow(dim, 1, last), x.narrow(dim, 0, last), out=component.narrow(dim, 0, last))
            end = component.narrow(dim, last, 1)
            if self.boundary == "periodic":
                torch.sub(x.narrow(dim, 0, 1), x.narrow(dim, last, 1), out=end)
            else:
                end.zero_()
            if self.spacing[axis] != 1:
                component.div_(self.spacing[axis])
        return result

    def _adjoint(self, y: Tensor) -> Tensor:
        dims = y.ndim - len(self.range_shape)
        result: Tensor | None = None
        for axis, component in enumerate(y.unbind(dims)):
            dim, step = dims + axis, 1 / self.spacing[axis]
            last = component.shape[dim] - 1
            if result is None:
                # the first axis writes the whole image: differences inside, then the two edges
                result = torch.empty_like(component)
                before, here = component.narrow(dim, 0, last), component.narrow(dim, 1, last)
                torch.sub(before, here, out=result.narrow(dim, 1, last))
                torch.neg(component.narrow(dim, 0, 1), out=result.narrow(dim, 0, 1))
                if step != 1:
                    result.mul_(step)
            else:
                result.sub_(component, alpha=step)
                result.narrow(dim, 1, last).add_(component.narrow(dim, 0, last), alpha=step)
            # the last difference leads back to the first pixel, or does not exist
            end = last if self.boundary == "neumann" else 0
            result.narrow(dim, end, 1).add_(component.narrow(dim, last, 1), alpha=step)
        assert result is not None
        return result

    def _gram(self, x: Tensor) -> Tensor:
        dims = x.ndim - len(self.domain_shape)
        steps = [1 / spacing**2 for spacing in self.spacing]
        result = x * (2 * sum(steps))
        for axis, step in enumerate(steps):
            dim = dims + axis
            last = x.shape[dim] - 1
            result.narrow(dim, 1, last).sub_(x.narrow(dim, 0, last), alpha=step)
            result.narrow(dim, 0, last).sub_(x.narrow(dim, 1, last), alpha=step)
            # the neighbour beyond the edge: the other edge, or the edge pixel itself
            first, final = (last, 0) if self.boundary == "periodic" else (0, last)
            result.narrow(dim, 0, 1).sub_(x.narrow(dim, first, 1), alpha=step)
            result.narrow(dim, last, 1).sub_(x.narrow(dim, final, 1), alpha=step)
        return result

    def _norm(self) -> float:
        """Closed form: the largest eigenvalue along an axis is (2 sin(pi k / n) / h)^2."""
        total = 0.0
        for side, step in zip(self.domain_shape, self.spacing, strict=True):
            highest = side // 2 if self.boundary == "periodic" else (side - 1) / 2
            total += (2 * math.sin(math.pi * highest / side) / step) ** 2
        return math.sqrt(total)

    def _pinv(self, y: Tensor) -> Tensor:  # type: ignore[override]
        """The image of mean zero whose gradient is nearest to `y`: a Poisson equation, solved by FFT.

        With the Neumann boundary the even extension of the image to twice its size is periodic.
        """
        divergence = self._adjoint(y)
        axes = tuple(range(divergence.ndim - len(self.domain_shape), divergence.ndim))
        eigenvalues = [self.get_buffer(f"_eigenvalues_{axis}") for axis in range(len(axes))]
        if self.boundary == "neumann":
            for position, axis in enumerate(axes):
                divergence = torch.cat([divergence, divergence.flip(axis)], axis)
                side, step = self.domain_shape[position], self.spacing[position]
                frequency = torch.arange(2 * side, dtype=torch.float64, device=y.device) / (2 * side)
                eigenvalues[position] = (2 * torch.sin(math.pi * frequency) / step) ** 2
        total = _outer_sum(eigenvalues)
        total.view(-1)[0] = math.inf  # the mean, which the gradient does not see
        spectrum = torch.fft.fftn(divergence, dim=axes)
        image = torch.fft.ifftn(spectrum / total.to(spectrum.real.dtype), dim=axes)
        for axis, side in zip(axes, self.domain_shape, strict=True):
            image = image.narrow(axis, 0, side)
        return image if y.is_complex() else image.real

    def fourier_symbol(self) -> Tensor | None:
        """sum_a (2 sin(pi k_a / n_a) / spacing_a)^2 with the periodic boundary, else None."""
        return self.approximate_symbol() if self.boundary == "periodic" else None

    def approximate_symbol(self) -> Tensor:
        """The eigenvalues of the periodic version, whatever the boundary."""
        eigenvalues = [self.get_buffer(f"_eigenvalues_{axis}") for axis in range(len(self.domain_shape))]
        symbol: Tensor = self._derived.get("symbol", eigenvalues[0], lambda: _outer_sum(eigenvalues))
        return symbol

    def solve_gram(self, b: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator]) -> Tensor | None:
        """Division in the Fourier domain where the FFT diagonalises the gradient and every term."""
        symbol = self.fourier_symbol()
        return None if symbol is None else solve_in_fourier(symbol, b, rho, terms)

    def preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator]
    ) -> Callable[[Tensor], Tensor] | None:
        """The inverse of the periodic version."""
        return circulant_inverse(self.approximate_symbol(), rho, terms)


def _per_axis(spacing: float | Sequence[float], axes: int) -> tuple[float, ...]:
    values = (spacing,) * axes if isinstance(spacing, int | float) else tuple(spacing)
    if len(values) != axes or not all(0 < value < math.inf for value in values):
        raise ValueError(f"spacing must be one positive number, or {axes} of them, got {spacing}")
    return tuple(float(value) for value in values)


def _outer_sum(vectors: Sequence[Tensor]) -> Tensor:
    total = vectors[0]
    for vector in vectors[1:]:
        total = total.unsqueeze(-1) + vector
    return total.clone()
