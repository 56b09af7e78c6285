"""Total variation of images with channels: colours, contrasts or energies that share their edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from recon_operators.gradient import Gradient
from torch import Tensor

from recon.channelwise import Channelwise
from recon.linear import LinearOperator, Step, real_dtype
from recon.parameters import Param
from recon.priors import Functional, Weight

Coupling = Literal["nuclear", "joint", "separate"]


class VectorialTV(Functional):
    """g(D x) = weight * sum over pixels of |J|, with J the Jacobian of the channels: channels x axes.

    One axis of the image holds the channels; differences are taken along the others. |J| is

    - ``"nuclear"``: the sum of the singular values, which asks for edges in the same place and direction in all
      channels (total nuclear variation: Holt 2014; Duran, Moeller, Sbert and Cremers 2016);
    - ``"joint"``: the Frobenius norm: edges in the same place (Bresson and Chan 2008);
    - ``"separate"``: the sum of the channels' own gradient lengths: each channel for itself.

    The channels should be of one scale: bring them to a like range before. An operator on single channels acts
    on all of them as ``recon.Channelwise(op, channels)``.

    Args:
        weight: strength, or ``"auto"``.
        coupling: the norm of the Jacobian.
        axis: the channel axis of the image, 0 for ``(channels, height, width)``, -1 for the last.
        boundary: ``"neumann"`` has no difference across the border; ``"periodic"`` wraps around, which gives
            Cartesian MRI and blur a closed-form step.
    """

    def __init__(
        self,
        weight: Annotated[Weight, Param("strength; auto: from the noise level", ge=0)] = "auto",
        coupling: Annotated[
            Coupling, Param("norm of the Jacobian: nuclear, joint (Frobenius) or separate channels")
        ] = "nuclear",
        axis: Annotated[int, Param("the channel axis of the image")] = 0,
        boundary: Annotated[
            Literal["neumann", "periodic"], Param("differences at the border: none, or around the image")
        ] = "neumann",
    ) -> None:
        super().__init__(weight)
        if coupling not in ("nuclear", "joint", "separate"):
            raise ValueError(f"coupling must be 'nuclear', 'joint' or 'separate', got {coupling!r}")
        if boundary not in ("neumann", "periodic"):
            raise ValueError(f"boundary must be 'neumann' or 'periodic', got {boundary!r}")
        self.coupling, self.axis, self.boundary = coupling, int(axis), boundary

    def K(self, shape: Sequence[int]) -> LinearOperator:
        """Forward differences of every channel, ``(channels, axes, *space)``."""
        shape = tuple(shape)
        if len(shape) < 2 or not -len(shape) <= self.axis < len(shape):
            raise ValueError(
                f"vectorial total variation needs a channel axis and another one, got axis={self.axis} for images of "
                f"shape {shape}: use total variation for images without channels"
            )
        place = self.axis % len(shape)
        space = shape[:place] + shape[place + 1 :]
        return Channelwise(Gradient(space, boundary=self.boundary), shape[place], place)

    def _penalty(self, z: Tensor) -> Tensor:
        if self.coupling == "nuclear":
            return sum_of_singular_values(z)
        return _length(z, (1, 2) if self.coupling == "joint" else (2,))

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        """Shrink lengths, or singular values, by the threshold."""
        if self.coupling == "nuclear":
            return shrink_singular_values(z, threshold)
        length = _length(z, (1, 2) if self.coupling == "joint" else (2,))
        return z * torch.clamp_min(1 - threshold / length, 0)

    def extra_repr(self) -> str:
        """Parameters for `repr`."""
        return (
            f"weight={self.weight}, coupling={self.coupling!r}, axis={self.axis}, boundary={self.boundary!r}"
        )


def _length(z: Tensor, axes: tuple[int, ...]) -> Tensor:
    squares = z.real.square() + z.imag.square() if z.is_complex() else z.square()
    # held above zero, where the root has no finite derivative
    return squares.sum(axes, keepdim=True).clamp_min(torch.finfo(squares.dtype).tiny).sqrt()


def sum_of_singular_values(z: Tensor) -> Tensor:
    """The nuclear norm of the matrices along axes 1 and 2 of ``z`` (B, rows, columns, ...); ``(B, ...)``."""
    z = _narrow(z)[0]
    if z.shape[2] == 1:
        return _length(z, (1, 2))[:, 0, 0]
    if z.shape[2] > 2:
        values: Tensor = torch.linalg.svdvals(z.movedim((1, 2), (-2, -1))).sum(-1)
        return values
    scale = _largest(z)
    trace, root, _ = _invariants(z / scale)
    return scale[:, 0, 0] * (trace + 2 * root).sqrt()


def shrink_singular_values(z: Tensor, threshold: Step) -> Tensor:
    """U max(S - threshold, 0) V^H for the matrices U S V^H along axes 1 and 2 of ``z``: the nuclear norm's prox.

    With two rows or columns in closed form: J f(J^H J), f(s^2) = max(1 - threshold/s, 0), of the 2 x 2 matrix
    by its eigenvalues; accurate to rounding, as s1 s2 is the length of the vector of minors.
    """
    narrow, turned = _narrow(z)
    scale = _largest(narrow)
    narrow = narrow / scale
    # shaped like one entry of the matrix; beyond a million times the largest entry everything is shrunk to zero
    t = (threshold / scale).clamp_max(1e6)
    if narrow.shape[2] == 1:
        shrunk = narrow * torch.clamp_min(1 - t / _length(narrow, (1, 2)), 0)
    elif narrow.shape[2] > 2:
        U, S, Vh = torch.linalg.svd(narrow.movedim((1, 2), (-2, -1)), full_matrices=False)
        kept = torch.clamp_min(S - t[:, 0, 0].unsqueeze(-1), 0)
        shrunk = torch.where(t > 0, ((U * kept.unsqueeze(-2).to(U)) @ Vh).movedim((-2, -1), (1, 2)), narrow)
    else:
        shrunk = _shrink_two_columns(narrow, t[:, 0, 0])
    shrunk = shrunk * scale
    return shrunk.transpose(1, 2) if turned else shrunk


def _shrink_two_columns(J: Tensor, t: Tensor) -> Tensor:
    trace, root, half_gap = _invariants(J)
    total = (trace + 2 * root).sqrt()  # s1 + s2
    smallest = torch.finfo(trace.dtype).eps
    large = ((total + 2 * half_gap / total) / 2).clamp_min(smallest)
    small = (root / large).clamp_min(smallest)
    keep_large, keep_small = torch.clamp_min(1 - t / large, 0), torch.clamp_min(1 - t / small, 0)
    # divided difference of f between s1^2 and s2^2, in a form that does not cancel where both stay
    gap = (2 * half_gap).clamp_min(torch.finfo(trace.dtype).tiny)
    slope = torch.where(small > t, t / (large * small * total), (keep_large - keep_small) / gap)
    first, second = J[:, :, 0], J[:, :, 1]
    cross = (first.conj() * second).sum(1)
    difference = (_squares(first).sum(1) - _squares(second).sum(1)) / 2
    middle = (keep_large + keep_small) / 2
    f11, f22, f12 = middle + slope * difference, middle - slope * difference, slope * cross
    return torch.stack(
        (
            first * f11.unsqueeze(1) + second * f12.conj().unsqueeze(1),
            first * f12.unsqueeze(1) + second * f22.unsqueeze(1),
        ),
        2,
    )


def _invariants(J: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """s1^2 + s2^2, s1 s2 and (s1^2 - s2^2)/2 of matrices of two columns, none below rounding."""
    first, second = J[:, :, 0], J[:, :, 1]
    one, two = _squares(first).sum(1), _squares(second).sum(1)
    cross = (first.conj() * second).sum(1)
    rows = J.shape[1]
    minors = [
        _squares(first[:, i] * second[:, j] - first[:, j] * second[:, i])
        for i in range(rows)
        for j in range(i + 1, rows)
    ]
    tiny = torch.finfo(one.dtype).tiny
    root = torch.stack(minors).sum(0).clamp_min(tiny).sqrt()
    half_gap = (((one - two) / 2).square() + _squares(cross)).clamp_min(tiny).sqrt()
    return (one + two).clamp_min(tiny), root, half_gap


def _squares(z: Tensor) -> Tensor:
    return z.real.square() + z.imag.square() if z.is_complex() else z.square()


def _narrow(z: Tensor) -> tuple[Tensor, bool]:
    """The matrices, turned where they have fewer rows than columns."""
    return (z.transpose(1, 2), True) if z.shape[1] < z.shape[2] else (z, False)


def _largest(z: Tensor) -> Tensor:
    """The largest entry of each matrix, 1 where all are zero; a constant for gradients."""
    if z.numel() == 0:
        return z.new_ones((z.shape[0], 1, 1, *z.shape[3:]), dtype=real_dtype(z.dtype))
    largest = z.detach().abs().amax((1, 2), keepdim=True)
    return torch.where(largest > 0, largest, torch.ones_like(largest))
