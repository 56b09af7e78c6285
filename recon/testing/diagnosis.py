"""Names the most likely mistake behind an adjoint that is wrong, from two dense matrices."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

Move = Callable[[Tensor], Tensor]

_SAME = 1e-4
"""Relative error under which two matrices count as the same: the operator may compute in single precision."""


def describe_adjoint(
    forward: Tensor, adjoint: Tensor, domain_shape: Sequence[int], range_shape: Sequence[int]
) -> str:
    """One sentence on how the matrix B of a wrong adjoint is related to A^H.

    Tried in this order, each up to a constant factor: A^H itself, without the conjugate, A itself; the image or
    the data flipped along an axis, rolled around it, shifted along it, with two axes swapped; the inverse; a
    factor for every pixel or datum. If none fits, where the two differ.

    Args:
        forward: A, ``(m, n)``, real or complex.
        adjoint: B, ``(n, m)``.
        domain_shape: the image's shape, n pixels.
        range_shape: the shape of the data, m numbers.

    Raises:
        ValueError: matrices and shapes that do not fit together.
    """
    m, n = math.prod(range_shape), math.prod(domain_shape)
    if tuple(forward.shape) != (m, n) or tuple(adjoint.shape) != (n, m):
        raise ValueError(
            f"A must be {(m, n)} and B {(n, m)} for images {tuple(domain_shape)} and data {tuple(range_shape)}, "
            f"got {tuple(forward.shape)} and {tuple(adjoint.shape)}"
        )
    common = torch.promote_types(forward.dtype, adjoint.dtype)
    right, wrong = forward.mH.to(common), adjoint.to(common)
    if not bool(torch.isfinite(wrong).all()):
        return (
            f"{int((~torch.isfinite(wrong)).sum())} of the {wrong.numel()} entries of B are NaN or infinite."
        )
    if not bool(wrong.any()):
        return "B is zero: the adjoint gives nothing."
    if (factor := _factor(wrong, right)) is not None:
        return _scaled(
            factor,
            tuple(domain_shape),
            float(torch.linalg.vector_norm(wrong - right) / torch.linalg.vector_norm(right)),
        )
    for candidate, words in _candidates(right, tuple(domain_shape), tuple(range_shape)):
        factor = _factor(wrong, candidate)
        if factor is not None:
            return (
                f"{words}."
                if abs(factor - 1) <= _SAME
                else f"{words}, times {_number(factor)}{_origin(factor, tuple(domain_shape))}."
            )
    if m >= n and _is_inverse(forward.to(common), wrong):
        return "B A is the identity: the adjoint is the inverse of A, expected its conjugate transpose."
    return _diagonal(right, wrong) or _place(right, wrong, tuple(domain_shape), tuple(range_shape))


def _scaled(factor: complex, shape: tuple[int, ...], error: float) -> str:
    """B = c A^H."""
    if abs(factor - 1) <= 1e-6:
        return (
            f"B equals A^H but for a relative error of {error:.1e}: is something computed in lower precision?"
        )
    if isinstance(factor, float) and abs(factor + 1) <= _SAME:
        return "B equals -A^H: the sign is wrong."
    return (
        f"B equals {_number(factor)} A^H: a scale factor is missing or superfluous{_origin(factor, shape)}."
    )


def _candidates(
    right: Tensor, domain_shape: tuple[int, ...], range_shape: tuple[int, ...]
) -> Iterator[tuple[Tensor, str]]:
    """What B may be instead of A^H, and how to say so; `right` is A^H, pixels by data."""
    is_complex = right.is_complex() and bool(right.imag.any())
    if is_complex:
        yield right.conj(), "B equals A^T, not A^H: the conjugate is missing"
    if right.shape[0] == right.shape[1]:
        yield right.mH, "B equals A itself: the adjoint repeats the forward operator"
    matrices = [(right, "")] + ([(right.conj(), ", and the conjugate is missing")] if is_complex else [])
    for matrix, more in matrices:
        for move, _, words in _moves(domain_shape, "image"):
            yield (
                move(matrix.reshape(*domain_shape, -1)).reshape(matrix.shape),
                f"B equals A^H but for the image, which the adjoint gives {words}{more}",
            )
        for _, transposed, words in _moves(range_shape, "data"):
            yield (
                transposed(matrix.T.reshape(*range_shape, -1)).reshape(matrix.T.shape).T,
                f"B equals A^H but for the data, which the adjoint takes {words}{more}",
            )


def _moves(shape: tuple[int, ...], name: str) -> Iterator[tuple[Move, Move, str]]:
    """Rearrangements of the leading axes of a tensor: each, its transpose as a matrix, and its words."""
    for axis, side in enumerate(shape):
        if side > 1:
            flip = functools.partial(torch.flip, dims=(axis,))
            yield flip, flip, f"flipped along {name} axis {axis}"
    for change, words in ((torch.roll, "rolled"), (_shifted, "shifted")):
        for axis, side in enumerate(shape):
            shifts = range(-((side - 1) // 2), side // 2 + 1)
            for shift in sorted((shift for shift in shifts if shift), key=abs):
                there, back = (functools.partial(change, shifts=s, dims=axis) for s in (shift, -shift))
                yield there, back, f"{words} by {shift:+d} along {name} axis {axis}"
    for first, second in itertools.combinations(range(len(shape)), 2):
        if shape[first] == shape[second] > 1:
            swap = functools.partial(torch.transpose, dim0=first, dim1=second)
            yield swap, swap, f"with {name} axes {first} and {second} swapped"


def _shifted(x: Tensor, shifts: int, dims: int) -> Tensor:
    """As `torch.roll`, but zeros come in at the border."""
    rolled, side = x.roll(shifts, dims), x.shape[dims]
    rolled.narrow(dims, 0 if shifts > 0 else side + shifts, abs(shifts)).zero_()
    return rolled


def _factor(wrong: Tensor, candidate: Tensor) -> complex | None:
    """c with B = c candidate, or None."""
    energy = float(candidate.abs().square().sum())
    if energy == 0:
        return None
    factor = (candidate.conj() * wrong).sum() / energy
    if _differs(wrong, factor * candidate):
        return None
    value = complex(factor)
    return value.real if abs(value.imag) <= _SAME * abs(value) else value


def _differs(wrong: Tensor, candidate: Tensor) -> bool:
    error, size = torch.linalg.vector_norm(wrong - candidate), torch.linalg.vector_norm(wrong)
    return float(error) > _SAME * float(size)


def _is_inverse(forward: Tensor, wrong: Tensor) -> bool:
    product = wrong @ forward
    unit = torch.eye(len(product), dtype=product.dtype, device=product.device)
    return float(torch.linalg.vector_norm(product - unit)) <= _SAME * len(product) ** 0.5


def _number(factor: complex) -> str:
    if isinstance(factor, complex):
        return f"({factor.real:.4g}{factor.imag:+.4g}i)"
    return f"{factor:.6g}"


def _origin(factor: complex, shape: tuple[int, ...]) -> str:
    """Where a factor that belongs to the image's shape usually comes from."""
    counts = {math.prod(shape): "the number of pixels"}
    counts |= {
        side: f"the length of image axis {axis}" for axis, side in enumerate(shape) if side not in counts
    }
    for count, words in counts.items():
        for value, named in ((count, words), (math.sqrt(count), f"the root of {words}")):
            for wanted, power in ((value, ""), (1 / value, "one over ")):
                if wanted not in (1, 2, 0.5) and abs(factor / wanted - 1) <= _SAME:  # 2 has many causes
                    return f" ({power}{named}: is there an FFT without norm='ortho'?)"
    return ""


def _diagonal(right: Tensor, wrong: Tensor) -> str:
    """B = D A^H or B = A^H D with a diagonal D that is not constant."""
    for matrix, target, product, name in (
        (right, wrong, "B = D A^H", "pixel"),
        (right.T, wrong.T, "B = A^H D", "datum"),
    ):
        energy = matrix.abs().square().sum(1)
        if matrix.shape[1] < 2 or not bool(energy.any()):
            continue  # a single number is always a multiple of another
        factors = (matrix.conj() * target).sum(1) / energy.clamp_min(torch.finfo(energy.dtype).tiny)
        if _differs(target, factors[:, None] * matrix):
            continue
        sizes = factors[energy > 0]
        sizes = sizes.real if not sizes.is_complex() or not bool(sizes.imag.any()) else sizes.abs()
        return (
            f"{product} with a factor of its own for every {name}, from {float(sizes.min()):.4g} to "
            f"{float(sizes.max()):.4g}: a weighting is missing in one direction."
        )
    return ""


def _place(right: Tensor, wrong: Tensor, domain_shape: tuple[int, ...], range_shape: tuple[int, ...]) -> str:
    """Where B and A^H differ: the largest difference, and whether it is on the border of the image only."""
    difference = (wrong - right).abs()
    pixel, datum = divmod(int(difference.argmax()), difference.shape[1])
    rows = difference.amax(1) > _SAME * float(right.abs().max())
    places = [_index(int(row), domain_shape) for row in rows.nonzero().flatten()]
    border = [
        axis
        for axis, side in enumerate(domain_shape)
        if side > 2 and places and all(place[axis] in (0, side - 1) for place in places)
    ]
    where = f", all on the border of image axis {border[0]}: check the boundary condition" if border else ""
    return (
        f"B has no simple relation to A^H; they differ in {len(places)} of {len(rows)} pixels{where}, most at "
        f"pixel {_index(pixel, domain_shape)}, datum {_index(datum, range_shape)}: "
        f"B has {_entry(wrong[pixel, datum])}, A^H has {_entry(right[pixel, datum])}."
    )


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    index = []
    for side in reversed(shape):
        flat, rest = divmod(flat, side)
        index.append(rest)
    return tuple(reversed(index))


def _entry(value: Tensor) -> str:
    number = complex(value)
    return _number(number if number.imag else number.real)
