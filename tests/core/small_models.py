"""Small operators and priors, given by their matrix or formula, for the tests of the core: no plugin is needed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

import recon


class Matrix(recon.LinearOperator):
    """A dense matrix between flattened images and flattened data."""

    def __init__(
        self, matrix: Tensor, domain_shape: Sequence[int] = (), range_shape: Sequence[int] = ()
    ) -> None:
        super().__init__(domain_shape or matrix.shape[1:], range_shape or matrix.shape[:1])
        self.register_buffer("matrix", matrix)

    def _forward(self, x: Tensor) -> Tensor:
        return _product(self.matrix, x, self.domain_shape, self.range_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        return _product(self.matrix.mH, y, self.range_shape, self.domain_shape)


class MatrixForward(Matrix):
    """The same without an adjoint of its own: the base class differentiates."""

    _adjoint = recon.LinearOperator._adjoint


class RealMatrix(Matrix):
    """On real images only."""

    domain = "real"


class ComplexMatrix(Matrix):
    """On complex images only."""

    domain = "complex"


class NonNegativeMatrix(Matrix):
    """A matrix without negative entries, which says so."""

    nonnegative = True


class Masked(recon.LinearOperator):
    """Measured pixels; knows where its data exist."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape, mask.shape)
        self.register_buffer("mask", mask)

    def _forward(self, x: Tensor) -> Tensor:
        return x * self.mask

    _adjoint = _forward

    @property
    def sample_mask(self) -> Tensor:
        """The mask."""
        return self.mask


class MaskedFourier(recon.LinearOperator):
    """Some frequencies of a complex image: Cartesian MRI without coils, with its closed form."""

    domain = "complex"

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape, mask.shape)
        self.register_buffer("mask", mask)

    def _forward(self, x: Tensor) -> Tensor:
        return self.mask * torch.fft.fft2(x, norm="ortho")

    def _adjoint(self, y: Tensor) -> Tensor:
        return torch.fft.ifft2(self.mask * y, norm="ortho")

    def solve_gram(self, b, rho, terms):  # type: ignore[no-untyped-def]
        """Division in the Fourier domain."""
        return recon.linear.solve_in_fourier(self.mask, b, rho, terms)

    @property
    def sample_mask(self) -> Tensor:
        """The mask."""
        return self.mask


class Blur(recon.LinearOperator):
    """Periodic convolution with a 3x3 binomial kernel; no adjoint is written."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape, shape)

    def _forward(self, x: Tensor) -> Tensor:
        for axis in (-2, -1):
            x = 0.5 * x + 0.25 * (x.roll(1, axis) + x.roll(-1, axis))
        return x


class Gradient(recon.LinearOperator):
    """Periodic or Neumann forward differences of an image (H, W), components first."""

    def __init__(self, shape: Sequence[int], periodic: bool = False) -> None:
        super().__init__(shape, (len(shape), *shape))
        self.periodic = periodic

    def _forward(self, x: Tensor) -> Tensor:
        parts = []
        for axis in range(-len(self.domain_shape), 0):
            part = x.roll(-1, axis) - x
            if not self.periodic:
                part.narrow(axis, part.shape[axis] - 1, 1).zero_()
            parts.append(part)
        return torch.stack(parts, -1 - len(self.domain_shape))

    def _adjoint(self, y: Tensor) -> Tensor:
        total = torch.zeros_like(y.select(-1 - len(self.domain_shape), 0))
        for axis, part in zip(
            range(-len(self.domain_shape), 0), y.unbind(-1 - len(self.domain_shape)), strict=True
        ):
            if not self.periodic:
                part = part.clone()
                part.narrow(axis, part.shape[axis] - 1, 1).zero_()
            total = total + part.roll(1, axis) - part
        return total

    def fourier_symbol(self) -> Tensor | None:
        """Known for the periodic boundary."""
        if not self.periodic:
            return None
        total = torch.zeros(())
        for axis, side in enumerate(self.domain_shape):
            values = (2 * torch.sin(math.pi * torch.arange(side) / side)) ** 2
            total = total + values.reshape(-1, *(1,) * (len(self.domain_shape) - axis - 1))
        return total


class L1(recon.Functional):
    """weight |x|_1."""

    def _penalty(self, z: Tensor) -> Tensor:
        return z.abs()

    def _prox(self, z: Tensor, threshold: float | Tensor) -> Tensor:
        size = z.abs()
        return torch.where(size > threshold, z - threshold * z / size.clamp_min(1e-30), torch.zeros_like(z))


class Ridge(recon.Functional):
    """weight/2 |K x|^2; K is the identity, or the periodic gradient."""

    quadratic = True

    def __init__(self, weight: float | str = "auto", gradient: bool = False) -> None:
        super().__init__(weight)
        self.gradient = gradient

    def K(self, shape: Sequence[int]) -> recon.LinearOperator:
        """The identity, or the gradient."""
        return Gradient(shape, periodic=True) if self.gradient else recon.Identity(shape)

    def _penalty(self, z: Tensor) -> Tensor:
        return 0.5 * z.abs().square()

    def _prox(self, z: Tensor, threshold: float | Tensor) -> Tensor:
        return z / (1 + threshold)


class TV(recon.Functional):
    """Isotropic total variation."""

    def __init__(self, weight: float | str = "auto", periodic: bool = False) -> None:
        super().__init__(weight)
        self.periodic = periodic

    def K(self, shape: Sequence[int]) -> recon.LinearOperator:
        """The gradient."""
        return Gradient(shape, self.periodic)

    def _penalty(self, z: Tensor) -> Tensor:
        return torch.linalg.vector_norm(z, dim=1)

    def _prox(self, z: Tensor, threshold: float | Tensor) -> Tensor:
        size = torch.linalg.vector_norm(z, dim=1, keepdim=True)
        return z * (1 - threshold / size.clamp_min(1e-30)).clamp_min(0)


class NonNegative(recon.Functional):
    """x >= 0."""

    domain = "real"
    constraint = True

    def __init__(self) -> None:
        super().__init__(1.0)

    def _penalty(self, z: Tensor) -> Tensor:
        return torch.where(z < 0, torch.inf, 0.0)

    def _prox(self, z: Tensor, threshold: float | Tensor) -> Tensor:
        return z.clamp_min(0)


class Smoother(recon.Denoiser):
    """A linear denoiser with a known matrix: the Wiener filter of white images, x sigma-independent shrink."""

    def __init__(self, weight: float | str = 1.0, value_range: tuple[float, float] | None = None) -> None:
        super().__init__(weight)
        self.value_range = value_range

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x + sigma^2 mean(x), over 1 + sigma^2: pulls every pixel to the image's mean."""
        sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
        mean = x.flatten(1).mean(1).reshape(-1, *(1,) * (x.ndim - 1))
        return (x + sigma**2 * mean) / (1 + sigma**2)


def _product(matrix: Tensor, x: Tensor, source: Sequence[int], target: Sequence[int]) -> Tensor:
    batch = x.shape[: x.ndim - len(source)]
    dtype = torch.promote_types(matrix.dtype, x.dtype)
    flat = x.reshape(*batch, -1).to(dtype)
    return (flat @ matrix.to(dtype).mT).reshape(*batch, *target)
