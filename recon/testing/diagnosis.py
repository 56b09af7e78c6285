"""Names the most likely mistake behind an adjoint that is wrong, from two dense matrices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_SAME = 1e-4
"""Relative error under which two matrices count as the same: the operator may compute in single precision."""


def describe_adjoint(
    forward: Tensor, adjoint: Tensor, domain_shape: Sequence[int], range_shape: Sequence[int]
) -> str:
    """One sentence on how the matrix B of a wrong adjoint is related to A^H.

    Tried in this order, each up to a constant factor: the conjugate is missing, A itself, the inverse, axes
    swapped, an image or data axis flipped, shifted around or shifted with zeros, a factor a pixel or a datum.
    If none fits, where the difference lies.

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
    for candidate, words in _candidates(right, tuple(domain_shape), tuple(range_shape)):
        factor = _factor(wrong, candidate)
        if factor is None:
            continue
        if abs(factor - 1) <= _SAME:
            return words + "."
        return f"{words}, times {_number(factor)}{_origin(factor, n)}."
    if forward.shape[0] >= n and _is_inverse(forward.to(common), wrong):
        return "B A is the identity: the adjoint is the inverse of A; the adjoint of A is A^H."
    return _diagonal(right, wrong, tuple(domain_shape), tuple(range_shape)) or _place(
        right, wrong, tuple(domain_shape), tuple(range_shape)
    )


def _candidates(
    right: Tensor, domain_shape: tuple[int, ...], range_shape: tuple[int, ...]
) -> Iterator[tuple[Tensor, str]]:
    """What B may be instead of A^H, and how to say so; `right` is A^H, pixels by data."""
    complex_ = right.is_complex() and bool(right.imag.any())
    yield right, "B is A^H"
    if complex_:
        yield right.conj(), "B equals A^T, not A^H: the conjugate is missing"
    if right.shape[0] == right.shape[1]:
        yield right.mH, "B equals A itself: the adjoint repeats the forward operator"
    for name, shape, axis_of in (("image", domain_shape, 0), ("data", range_shape, 1)):
        for change, words in _changes(name, shape):
            moved = change(right.T if axis_of else right)
            moved = moved.T if axis_of else moved
            yield moved, words
            if complex_:
                yield moved.conj(), f"{words}, and the conjugate is missing"


def _changes(name: str, shape: tuple[int, ...]) -> Iterator[tuple[_Change, str]]:
    """Rearrangements of the first index of a matrix, which runs over the pixels of `shape`."""
    what = "gives the right image" if name == "image" else "reads the right data"
    for axis, side in enumerate(shape):
        if side > 1:
            yield (
                _Change(shape, lambda x, axis=axis: x.flip(axis)),
                f"the adjoint {what} flipped along {name} axis {axis}: B equals A^H after that flip",
            )
    for axis, side in enumerate(shape):
        for shift in sorted(range(-((side - 1) // 2), side // 2 + 1), key=abs):
            if shift:
                yield (
                    _Change(shape, lambda x, axis=axis, shift=shift: x.roll(shift, axis)),
                    f"the adjoint {what} rolled by {shift:+d} along {name} axis {axis}: B equals A^H after "
                    "that shift",
                )
    for axis, side in enumerate(shape):
        for shift in (1, -1) if side > 1 else ():
            yield (
                _Change(shape, lambda x, axis=axis, shift=shift: _shifted(x, shift, axis)),
                f"the adjoint {what} shifted by {shift:+d} along {name} axis {axis}, zeros coming in: B equals "
                "A^H after that shift",
            )
    for first, second in itertools.combinations(range(len(shape)), 2):
        if shape[first] == shape[second] > 1:
            yield (
                _Change(shape, lambda x, first=first, second=second: x.transpose(first, second)),
                f"the adjoint {what} with {name} axes {first} and {second} swapped",
            )


class _Change:
    """A rearrangement of images, applied to every column of a matrix."""

    def __init__(self, shape: tuple[int, ...], change: object) -> None:
        self.shape, self.change = shape, change

    def __call__(self, matrix: Tensor) -> Tensor:
        images = matrix.reshape(*self.shape, matrix.shape[1])
        changed: Tensor = self.change(images)  # type: ignore[operator]
        return changed.reshape(matrix.shape)


def _shifted(x: Tensor, shift: int, axis: int) -> Tensor:
    rolled = x.roll(shift, axis)
    rolled.narrow(axis, 0 if shift > 0 else x.shape[axis] - 1, 1).zero_()
    return rolled


def _factor(wrong: Tensor, candidate: Tensor) -> complex | None:
    """c with B = c candidate, or None."""
    energy = float(candidate.abs().square().sum())
    if energy == 0:
        return None
    factor = (candidate.conj() * wrong).sum() / energy
    error = float(torch.linalg.vector_norm(wrong - factor * candidate))
    if error > _SAME * float(torch.linalg.vector_norm(wrong)):
        return None
    value = complex(factor)
    return value.real if abs(value.imag) <= _SAME * abs(value) else value


def _is_inverse(forward: Tensor, wrong: Tensor) -> bool:
    product = wrong @ forward
    unit = torch.eye(len(product), dtype=product.dtype, device=product.device)
    return float(torch.linalg.vector_norm(product - unit)) <= _SAME * len(product) ** 0.5


def _number(factor: complex) -> str:
    if isinstance(factor, complex):
        return f"({factor.real:.4g}{factor.imag:+.4g}i)"
    return f"{factor:.6g}"


def _origin(factor: complex, n: int) -> str:
    """Where a well-known factor usually comes from; n is the number of pixels."""
    if isinstance(factor, complex):
        return ""
    if abs(factor + 1) <= _SAME:
        return ": the sign is wrong"
    for value, words in ((n, "the number of pixels"), (math.sqrt(n), "the root of the number of pixels")):
        if n > 1 and min(abs(factor / value - 1), abs(factor * value - 1)) <= _SAME:
            power = "" if abs(factor / value - 1) <= _SAME else "one over "
            return f" ({power}{words}: is an FFT without norm='ortho'?)"
    return ""


def _diagonal(
    right: Tensor, wrong: Tensor, domain_shape: tuple[int, ...], range_shape: tuple[int, ...]
) -> str:
    """B = D A^H or B = A^H D with a diagonal D that is not constant."""
    for matrix, target, name in ((right, wrong, "pixel"), (right.T, wrong.T, "datum")):
        energy = matrix.abs().square().sum(1)
        if int((energy > 0).sum()) == 0 or matrix.shape[1] < 2:
            continue
        factors = (matrix.conj() * target).sum(1) / energy.clamp_min(1e-300)
        error = float(torch.linalg.vector_norm(target - factors[:, None] * matrix))
        if error <= _SAME * float(torch.linalg.vector_norm(target)):
            sizes = factors[energy > 0]
            sizes = sizes.real if not sizes.is_complex() or not bool(sizes.imag.any()) else sizes.abs()
            side = "B = D A^H" if name == "pixel" else "B = A^H D"
            return (
                f"{side} with a factor of its own for every {name}, from {float(sizes.min()):.4g} to "
                f"{float(sizes.max()):.4g}: a weighting is applied in one direction only."
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
