"""Total generalised variation of second order: edges and slopes, no staircase."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from recon_operators.gradient import Gradient
from torch import Tensor

from recon.lifting import JointMap, Spectral
from recon.linear import LinearOperator, Step, real_dtype
from recon.parameters import Param
from recon.priors import Functional, Weight


class TotalGeneralizedVariation(Functional):
    """g(x) = weight * min over w of sum |D x - w| + ratio * sum |E w| (Bredies, Kunisch and Pock 2010).

    D are forward differences, w is a vector field, one value per axis and pixel, E w its symmetrised gradient
    by backward differences, |.| the Euclidean norm (Frobenius for E w) at each pixel, over the complex modulus
    for complex images. Where w = D x the cost is that of second derivatives, where w = 0 that of total
    variation: affine images cost nothing, edges what they cost there. Differences across the border do not
    exist and cost nothing.

    The image and the field are solved for together (`recon.lifting`): every solver of sums of functionals
    takes it. Called with a stack ``(B, 1 + axes, *shape)`` of image and field, it gives the value at that
    field, an upper bound of the minimum.

    Args:
        weight: strength, or ``"auto"``.
        ratio: cost of second derivatives over that of first ones, in pixels; large ratios approach affine
            images between edges, small ones second-order smoothness.
        boundary: ``"neumann"`` has no difference across the border; ``"periodic"`` wraps around, which gives
            Cartesian MRI and blur a closed-form step.
    """

    def __init__(
        self,
        weight: Annotated[Weight, Param("strength; auto: from the noise level", ge=0)] = "auto",
        ratio: Annotated[
            float, Param("cost of second derivatives over that of first ones", unit="px", gt=0)
        ] = 2.0,
        boundary: Annotated[
            Literal["neumann", "periodic"], Param("differences at the border: none, or around the image")
        ] = "neumann",
    ) -> None:
        super().__init__(weight)
        if not 0 < ratio < math.inf:
            raise ValueError(f"ratio must be > 0, got {ratio!r}")
        if boundary not in ("neumann", "periodic"):
            raise ValueError(f"boundary must be 'neumann' or 'periodic', got {boundary!r}")
        self.ratio, self.boundary = float(ratio), boundary

    def fields(self, shape: Sequence[int]) -> int:
        """One for every axis: the vector field w."""
        return len(shape)

    def K(self, shape: Sequence[int]) -> LinearOperator:
        """(x, w) to (D x - w, 3 E w); ``shape`` is that of the stack, ``(1 + axes, *image shape)``."""
        return SecondOrderMap(tuple(shape), self.boundary)

    def _parts(self, z: Tensor) -> tuple[Tensor, Tensor]:
        axes = z.ndim - 2
        return z[:, :axes], z[:, axes:]

    def _penalty(self, z: Tensor) -> Tensor:
        first, second = self._parts(z)
        return _length(first) + self.ratio / BALANCE * _length(second)

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        """Shrink the length of D x - w by the threshold, that of E w by ratio times it."""
        other = self.ratio / BALANCE * threshold
        first, second = self._parts(z)
        return torch.cat(
            [
                first * torch.clamp_min(1 - threshold / _length(first), 0),
                second * torch.clamp_min(1 - other / _length(second), 0),
            ],
            1,
        )

    def extra_repr(self) -> str:
        """Parameters for `repr`."""
        return f"weight={self.weight}, ratio={self.ratio}, boundary={self.boundary!r}"


TGV = TotalGeneralizedVariation

BALANCE = 3.0
"""Scale of E w beside D x - w in the split: ADMM then needs half the iterations that it needs with 1."""


class SecondOrderMap(JointMap):
    """(x, w) to (D x - w, E w): ``(1 + axes, *shape)`` to ``(axes + axes (axes + 1) / 2, *shape)``.

    (E w)_aa = 3 B_a w_a and, with the factor sqrt(2) of the Frobenius norm, 3 (B_a w_b + B_b w_a) / sqrt(2) for
    a < b, B_a the backward difference along axis a; the prior divides by 3 (`BALANCE`). With the Neumann
    boundary the last difference D_a x and the first B_a w are none, so that nothing is asked of w there.

    Raises:
        ValueError: a stack that is not of an image and one field per axis.
    """

    domain = "any"

    def __init__(self, shape: tuple[int, ...], boundary: str) -> None:
        space = shape[1:]
        if not space or shape[0] != 1 + len(space):
            raise ValueError(
                "total generalised variation acts on an image stacked with a vector field, of shape "
                f"(1 + axes, *image shape), got {shape}: recon.solve makes the field itself"
            )
        axes = len(space)
        self._pairs = tuple(itertools.combinations(range(axes), 2))
        super().__init__(shape, (2 * axes + len(self._pairs), *space))
        self.periodic = self.exact = boundary == "periodic"
        self.gradient = Gradient(space, boundary="periodic" if self.periodic else "neumann")
        for axis, side in enumerate(space):
            frequency = torch.arange(side, dtype=torch.float64) / side
            backward = BALANCE * (1 - torch.exp(-2j * math.pi * frequency))
            self.register_buffer(f"_backward_{axis}", backward, persistent=False)

    def _forward(self, x: Tensor) -> Tensor:
        axes = len(self.domain_shape) - 1
        stack = x.ndim - axes - 1
        image, field = x.select(stack, 0), x.narrow(stack, 1, axes).unbind(stack)
        first = self.gradient._run(image, adjoint=False).unbind(stack)
        result = [first[axis] - self._inner(field[axis], axis) for axis in range(axes)]
        result += [self._backward(field[axis], axis) for axis in range(axes)]
        result += [
            (self._backward(field[b], a) + self._backward(field[a], b)) / math.sqrt(2) for a, b in self._pairs
        ]
        return torch.stack(result, stack)

    def _adjoint(self, y: Tensor) -> Tensor:
        axes = len(self.domain_shape) - 1
        stack = y.ndim - axes - 1
        parts = y.unbind(stack)
        image = self.gradient._run(y.narrow(stack, 0, axes), adjoint=True)
        field = [
            self._backward_adjoint(parts[axes + axis], axis) - self._inner(parts[axis], axis)
            for axis in range(axes)
        ]
        for place, (a, b) in enumerate(self._pairs):
            mixed = parts[2 * axes + place] / math.sqrt(2)
            field[b] = field[b] + self._backward_adjoint(mixed, a)
            field[a] = field[a] + self._backward_adjoint(mixed, b)
        return torch.stack([image, *field], stack)

    def _inner(self, w: Tensor, axis: int) -> Tensor:
        """The component without its last value along its axis, where D x has no difference."""
        if self.periodic:
            return w
        dim = axis - len(self.domain_shape) + 1
        kept = w.clone()
        kept.narrow(dim, w.shape[dim] - 1, 1).zero_()
        return kept

    def _backward(self, w: Tensor, axis: int) -> Tensor:
        dim = axis - len(self.domain_shape) + 1
        if self.periodic:
            return BALANCE * (w - w.roll(1, dim))
        result = torch.zeros_like(w)
        last = w.shape[dim] - 1
        torch.sub(w.narrow(dim, 1, last), w.narrow(dim, 0, last), out=result.narrow(dim, 1, last))
        return result.mul_(BALANCE)

    def _backward_adjoint(self, y: Tensor, axis: int) -> Tensor:
        dim = axis - len(self.domain_shape) + 1
        if self.periodic:
            return BALANCE * (y - y.roll(-1, dim))
        result = y.clone()
        last = y.shape[dim] - 1
        result.narrow(dim, 0, 1).zero_()
        result.narrow(dim, 0, last).sub_(y.narrow(dim, 1, last))
        return result.mul_(BALANCE)

    def _norm(self) -> float:
        """The largest eigenvalue of [a^2 a; a 1 + 9 a^2], a = |D|, bounds L^H L, as |E| <= 3 |D|."""
        a = self.gradient.norm()
        first, second = a**2, 1 + (BALANCE * a) ** 2
        return math.sqrt((first + second) / 2 + math.hypot((first - second) / 2, a))

    # Elimination of w: R = 1 + E^H E has the symbol (1 + |b|^2/2) I + b b^H/2, with b that of three times the
    # backward differences, inverted by Sherman and Morrison; D has the symbol d = -conj(b)/3, and B = -D

    def couple(self, x: Tensor) -> Tensor:
        """-D x."""
        return -self.gradient._run(x, adjoint=False)

    def couple_adjoint(self, w: Tensor) -> Tensor:
        """-D^H w."""
        return -self.gradient._run(w, adjoint=True)

    def solve_fields(self, w: Tensor) -> Tensor:
        """(1 + E^H E)^-1 w of the periodic version."""
        axes = tuple(range(2 - w.ndim, 0))
        spectrum = torch.fft.fftn(w, dim=axes) if w.is_complex() else torch.fft.rfftn(w, dim=axes)
        symbols = self._symbols(spectrum.shape[-1], spectrum.dtype)
        square = _sum_of_squares(symbols)
        along = sum(b.conj() * part for b, part in zip(symbols, spectrum.unbind(1), strict=True))
        along = along / (2 * (1 + square))
        solved = torch.stack(
            [part - b * along for b, part in zip(symbols, spectrum.unbind(1), strict=True)], 1
        ) / (1 + square / 2)
        if w.is_complex():
            return torch.fft.ifftn(solved, dim=axes)
        return torch.fft.irfftn(solved, s=w.shape[2:], dim=axes)

    def reduced(self) -> LinearOperator:
        """|d|^2 - d^H R^-1 d."""
        symbols = self._symbols(self.domain_shape[-1], torch.complex128)
        square = _sum_of_squares(symbols)
        along = sum(b.square() for b in symbols)
        assert isinstance(along, Tensor)
        seen = (square - along.abs().square() / (2 * (1 + square))) / (1 + square / 2)
        return Spectral((square - seen).clamp_min(0) / BALANCE**2, self.exact)

    def _symbols(self, last: int, dtype: torch.dtype) -> list[Tensor]:
        """b of every axis, shaped to broadcast over frequencies, of which the last axis has the first few."""
        axes = len(self.domain_shape) - 1
        found = []
        for axis in range(axes):
            values = self.get_buffer(f"_backward_{axis}").to(dtype)
            values = values[:last] if axis == axes - 1 else values
            found.append(values.reshape(-1, *(1,) * (axes - 1 - axis)))
        return found


def _sum_of_squares(symbols: list[Tensor]) -> Tensor:
    total = torch.zeros((), dtype=real_dtype(symbols[0].dtype), device=symbols[0].device)
    for symbol in symbols:
        total = total + symbol.abs().square()
    return total


def _length(z: Tensor) -> Tensor:
    squares = z.real.square() + z.imag.square() if z.is_complex() else z.square()
    # held above zero, where the root has no finite derivative
    return squares.sum(1, keepdim=True).clamp_min(torch.finfo(squares.dtype).tiny).sqrt()
