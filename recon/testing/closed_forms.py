"""Tiny problems whose solution is known in closed form, for the checks of solvers.

Each is well conditioned (cond(A) is about 3), in double precision, of three items of different scale, and starts
from zero; A has an exact `pinv`, so that a direct reconstruction is the least-squares solution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recon.linear import Identity, LinearOperator, Step
from recon.priors import Denoiser, Functional, Generator, Prior
from recon.problem import Problem
from recon.testing.dense import Differences, dense

SHAPE = (2, 3)
WEIGHT = 0.3
SCALES = (1.0, 0.2, 5.0)
"""Size of each item: an algorithm that couples the items is found out by their scale."""


@dataclass(frozen=True)
class Known:
    """A problem with its solution.

    Attributes:
        words: what it is.
        pose: the problem for some of the items, the weight of its prior given or left to `strength`.
        solve: the solution ``(B, *shape)`` for a weight.
    """

    words: str
    operator: LinearOperator
    data: Tensor
    prior: Callable[[float | str], Prior | None]
    solve: Callable[[float], Tensor]

    def pose(self, items: Sequence[int] = (0, 1, 2), weight: float | str = WEIGHT) -> Problem:
        """The problem with some of its items."""
        shape = (len(items), *self.operator.domain_shape)
        start = torch.zeros(shape, dtype=self.data.dtype)
        return Problem(self.operator, self.data[list(items)], prior=self.prior(weight), x0=start)


class Dense(LinearOperator):
    """A matrix as an operator on images of two axes, with its pseudo-inverse."""

    def __init__(self, matrix: Tensor, shape: Sequence[int]) -> None:
        super().__init__(shape, matrix.shape[:1])
        self.matrix: Tensor
        self.register_buffer("matrix", matrix)
        if matrix.is_complex():
            self.domain = "complex"

    def _forward(self, x: Tensor) -> Tensor:
        return x.flatten(-len(self.domain_shape)) @ self.matrix.to(x.dtype).mT

    def _adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix.to(y.dtype).conj()).reshape(*y.shape[:-1], *self.domain_shape)

    def _pinv(self, y: Tensor, **options: object) -> Tensor:
        inverse = torch.linalg.pinv(self.matrix).to(y.dtype)
        return (y @ inverse.mT).reshape(*y.shape[:-1], *self.domain_shape)


class Squares(Functional):
    """weight/2 |K x|^2, K the identity or periodic differences."""

    quadratic = True

    def __init__(self, weight: float | str, differences: bool = False) -> None:
        super().__init__(weight)  # type: ignore[arg-type]
        self.differences = differences

    def K(self, shape: Sequence[int]) -> LinearOperator:
        """The identity, or differences."""
        return Differences(shape, periodic=True) if self.differences else Identity(shape)

    def _penalty(self, z: Tensor) -> Tensor:
        return 0.5 * z.abs().square()

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        return z / (1 + threshold)


class Magnitudes(Functional):
    """weight |x|_1."""

    def _penalty(self, z: Tensor) -> Tensor:
        return z.abs()

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        return soft_threshold(z, threshold)


class Positive(Functional):
    """x >= 0."""

    constraint = True
    domain = "real"

    def __init__(self) -> None:
        super().__init__(1.0)

    def _penalty(self, z: Tensor) -> Tensor:
        return torch.where(z < 0, torch.inf, 0.0)

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        return z.clamp_min(0)


class Shrinking(Denoiser):
    """x / (1 + sigma^2): the Wiener filter of white images, and the proximal map of squares."""

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Shrink, each item by its own sigma."""
        sigma = torch.as_tensor(sigma, dtype=x.real.dtype, device=x.device).reshape(-1, *(1,) * (x.ndim - 1))
        return x / (1 + sigma**2)


class Constant(nn.Module):
    """Images of one grey value: a network with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.grey = nn.Parameter(torch.ones(1, 1, 1, dtype=torch.float64))

    def forward(self, fixed_input: Tensor) -> Tensor:
        """The images; the fixed input only gives their size."""
        return self.grey * fixed_input


def soft_threshold(z: Tensor, threshold: Step) -> Tensor:
    """z max(0, 1 - threshold/|z|)."""
    size = z.abs()
    return torch.where(size > threshold, z * (1 - threshold / size.clamp_min(1e-300)), torch.zeros_like(z))


def known_problems() -> dict[str, Known]:
    """The problems by the name of their check."""
    real, imaginary = _generic(8, 6, 0), _generic(8, 6, 1)
    square, complex_ = Dense(real, SHAPE), Dense(torch.complex(real, imaginary), SHAPE)
    y, y_complex = _data(square), _data(complex_)
    identity = Identity(SHAPE)
    noisy = torch.stack([scale * _normal(SHAPE, 20 + i) for i, scale in enumerate(SCALES)])
    return {
        "least_squares": Known(
            "least squares without a prior", square, y, lambda w: None, lambda w: _ridge(square, y, 0.0, None)
        ),
        "ridge": Known(
            "ridge regression", square, y, lambda w: Squares(w), lambda w: _ridge(square, y, w, None)
        ),
        "tikhonov": Known(
            "Tikhonov regularisation of differences",
            square,
            y,
            lambda w: Squares(w, differences=True),
            lambda w: _ridge(square, y, w, Differences(SHAPE, periodic=True)),
        ),
        "complex_ridge": Known(
            "ridge regression of complex images",
            complex_,
            y_complex,
            lambda w: Squares(w),
            lambda w: _ridge(complex_, y_complex, w, None),
        ),
        "soft_threshold": Known(
            "denoising with the l1 norm",
            identity,
            noisy,
            lambda w: Magnitudes(w),  # type: ignore[arg-type]
            lambda w: soft_threshold(noisy, w),
        ),
        "projection": Known(
            "denoising under x >= 0", identity, noisy, lambda w: Positive(), lambda w: noisy.clamp_min(0)
        ),
        "denoiser": Known(
            "plug-and-play with a denoiser that is the proximal map of squares",
            square,
            y,
            lambda w: Shrinking(w),  # type: ignore[arg-type]
            lambda w: _ridge(square, y, w, None),
        ),
        "grey_values": Known(
            "least squares over images of one grey value, made by a generator",
            square,
            y,
            lambda w: constant_images(),
            lambda w: _constants(square, y),
        ),
    }


def constant_images() -> Generator:
    """A generator of constant images: no other closed form here is one, so that ignoring it shows."""
    return Generator(Constant(), torch.ones(1, *SHAPE, dtype=torch.float64))


def _constants(operator: Dense, y: Tensor) -> Tensor:
    """The constant image that fits each item's data best: <A 1, y> / |A 1|^2."""
    ones = torch.ones(1, *operator.domain_shape, dtype=y.dtype)
    profile = operator(ones)[0]
    return (y @ profile / (profile @ profile)).reshape(-1, 1, 1) * ones


def _ridge(operator: Dense, y: Tensor, weight: float, K: LinearOperator | None) -> Tensor:
    """(A^H A + w K^H K)^-1 A^H y of every item."""
    A = operator.matrix
    factor = torch.eye(A.shape[1]).to(A) if K is None else dense(K).to(A)
    normal = A.mH @ A + weight * factor.mH @ factor
    return torch.linalg.solve(normal, A.mH @ y.T).T.reshape(len(y), *operator.domain_shape)


def _data(operator: Dense) -> Tensor:
    """A x of images of three scales, with noise."""
    dtype = operator.matrix.dtype
    items = []
    for place, scale in enumerate(SCALES):
        x = _normal(operator.domain_shape, 30 + place).to(dtype)
        noise = 0.1 * _normal(operator.range_shape, 40 + place).to(dtype)
        if dtype.is_complex:
            x, noise = x * torch.exp(1j * _normal(x.shape, 50 + place)), noise * (1 + 1j)
        items.append(scale * (operator(x) + noise))
    return torch.stack(items)


def _generic(rows: int, columns: int, seed: int) -> Tensor:
    """A matrix with singular values from 1 to 3."""
    left, _, right = torch.linalg.svd(_normal((rows, columns), seed), full_matrices=False)
    return left @ torch.diag(torch.linspace(1.0, 3.0, columns, dtype=torch.float64)) @ right


def _normal(shape: Sequence[int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64)
