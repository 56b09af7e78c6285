"""Operators made of operators: adjoint, gram, multiples, products, sums and stacks."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recon.linear import Field, LinearOperator, ShapeError, Step, second_difference_noise
from recon.subsets import Subset


class Combination(LinearOperator):
    """An operator made of others: its adjoint is as good as theirs, wherever they lie now."""

    @property
    def parts(self) -> list[LinearOperator]:
        """The operators it is made of."""
        found: list[Any] = []
        for child in self._modules.values():  # children() would name an operator once that occurs twice
            found += list(child) if isinstance(child, nn.ModuleList) else [child]
        return found

    @property
    def adjoint_kind(self) -> Literal["exact", "approximate"]:  # type: ignore[override]
        """Approximate if the adjoint of a part is."""
        return "approximate" if any(part.adjoint_kind == "approximate" for part in self.parts) else "exact"

    @property
    def adjoint_tolerance(self) -> float:  # type: ignore[override]
        """Sum of the parts' tolerances."""
        return sum(part.adjoint_tolerance for part in self.parts)


class Adjoint(Combination):
    """A^H as an operator of its own."""

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__(operator.range_shape, operator.domain_shape)
        self.operator = operator
        self.nonnegative = operator.nonnegative

    @property
    def domain(self) -> Field:  # type: ignore[override]
        """The field of A's data."""
        spectrum = self.operator.domain == "real" and self.operator._gives_complex_data()
        return "any" if spectrum else self.operator.domain

    def _forward(self, x: Tensor) -> Tensor:
        return self.operator.adjoint(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.operator(y)

    def _checked(self, x: Tensor, *, adjoint: bool) -> Tensor:
        return self.operator._checked(x, adjoint=not adjoint)

    def _run(self, x: Tensor, *, adjoint: bool) -> Tensor:
        return self.operator._run(x, adjoint=not adjoint)

    def _norm(self) -> float:
        return self.operator.norm()

    @property
    def H(self) -> LinearOperator:
        return self.operator


class Gram(Combination):
    """A^H A, by the operator's own shortcut where it has one."""

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__(operator.domain_shape, operator.domain_shape)
        self.operator = operator
        self.domain, self.nonnegative = operator.domain, operator.nonnegative

    def _forward(self, x: Tensor) -> Tensor:
        return self.operator._run_gram(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.operator._run_gram(y)

    def _norm(self) -> float:
        return self.operator.norm() ** 2


class Scaled(Combination):
    """c A."""

    def __init__(self, operator: LinearOperator, factor: complex) -> None:
        _check_is_operator(operator, "scale")
        factor = checked_factor(factor)
        super().__init__(operator.domain_shape, operator.range_shape)
        self.operator, self.factor = operator, factor
        if isinstance(factor, complex) and operator.domain == "real":
            raise TypeError(
                f"cannot scale the real operator {type(operator).__name__} by the complex {factor}"
            )
        self.domain = operator.domain
        self.nonnegative = operator.nonnegative and not isinstance(factor, complex) and factor >= 0

    def _forward(self, x: Tensor) -> Tensor:
        return self.factor * self.operator(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.factor.conjugate() * self.operator.adjoint(y)

    def _gram(self, x: Tensor) -> Tensor:
        return abs(self.factor) ** 2 * self.operator.gram(x)

    def _norm(self) -> float:
        return abs(self.factor) * self.operator.norm()

    def _pinv(self, y: Tensor, **options: Any) -> Tensor:
        return self.operator.pinv(y, **options) / self.factor

    def solve_gram(self, b: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator]) -> Tensor | None:
        """The operator's own, with everything divided by |c|^2."""
        square = abs(self.factor) ** 2
        if square == 0:
            return None
        return self.operator.solve_gram(b / square, [weight / square for weight in rho], terms)

    def preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator]
    ) -> Callable[[Tensor], Tensor] | None:
        """The operator's own, with everything divided by |c|^2."""
        square = abs(self.factor) ** 2
        inverse = None if square == 0 else self.operator.preconditioner([w / square for w in rho], terms)
        return None if inverse is None else lambda residual: inverse(residual / square)

    @property
    def sample_mask(self) -> Tensor | None:
        return self.operator.sample_mask

    def noise_level(self, y: Tensor) -> Tensor:
        return self.operator.noise_level(y)


class Composition(Combination):
    """A B: first B, then A."""

    def __init__(self, left: LinearOperator, right: LinearOperator) -> None:
        if not isinstance(right, LinearOperator):
            raise TypeError(f"op @ other composes operators, got {type(right).__name__}: apply with op(x)")
        if left.domain_shape != right.range_shape:
            raise ShapeError(
                f"cannot compose {type(left).__name__} @ {type(right).__name__}: the left acts on "
                f"{left.domain_shape}, the right gives {right.range_shape}"
            )
        super().__init__(right.domain_shape, left.range_shape)
        self.left, self.right = left, right
        self.domain = right.domain if right.domain != "any" else left.domain
        self.nonnegative = left.nonnegative and right.nonnegative

    def _forward(self, x: Tensor) -> Tensor:
        return self.left(self.right(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.right.adjoint(self._between(self.left.adjoint(y)))

    def _gram(self, x: Tensor) -> Tensor:
        return self.right.adjoint(self._between(self.left.gram(self.right(x))))

    def _between(self, image: Tensor) -> Tensor:
        """What B^H is applied to: where B gives real data and A takes complex images, the real part."""
        if image.is_complex() and self.right.domain == "real" and not self.right._gives_complex_data():
            return image.real
        return image

    @property
    def sample_mask(self) -> Tensor | None:
        return self.left.sample_mask

    def noise_level(self, y: Tensor) -> Tensor:
        return self.left.noise_level(y)


class Sum(Combination):
    """A + B + ..."""

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        first = operators[0]
        for other in operators[1:]:
            _check_is_operator(other, "add")
            if (other.domain_shape, other.range_shape) != (first.domain_shape, first.range_shape):
                raise ShapeError(
                    f"cannot add {type(other).__name__} {other.domain_shape} -> {other.range_shape} to "
                    f"{type(first).__name__} {first.domain_shape} -> {first.range_shape}"
                )
        super().__init__(first.domain_shape, first.range_shape)
        self.operators = nn.ModuleList(operators)
        self.domain = _common_field(operators)
        self.nonnegative = all(operator.nonnegative for operator in operators)

    def _forward(self, x: Tensor) -> Tensor:
        return _add(operator(x) for operator in self._members())

    def _adjoint(self, y: Tensor) -> Tensor:
        return _add(operator.adjoint(y) for operator in self._members())

    def _members(self) -> list[LinearOperator]:
        return list(self.operators)  # type: ignore[arg-type]


class Stack(Combination):
    """Several operators that look at one image; see `stack`."""

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        if not operators:
            raise ValueError("stack needs at least one operator, got an empty list")
        first = operators[0]
        for other in operators:
            _check_is_operator(other, "stack")
            if other.domain_shape != first.domain_shape:
                raise ShapeError(
                    f"stacked operators must act on one image shape: {type(first).__name__} acts on "
                    f"{first.domain_shape}, {type(other).__name__} on {other.domain_shape}"
                )
        uniform = all(operator.range_shape == first.range_shape for operator in operators)
        sizes = [math.prod(operator.range_shape) for operator in operators]
        super().__init__(
            first.domain_shape, (len(operators), *first.range_shape) if uniform else (sum(sizes),)
        )
        self.operators = nn.ModuleList(operators)
        self.sizes = sizes
        self.domain = _common_field(operators)
        self.nonnegative = all(operator.nonnegative for operator in operators)

    def _forward(self, x: Tensor) -> Tensor:
        parts = [operator(x) for operator in self.operators]
        if self._is_uniform():
            return torch.stack(parts, dim=-len(self.range_shape))
        batch = x.shape[: x.ndim - len(self.domain_shape)]
        return torch.cat([part.reshape(*batch, -1) for part in parts], dim=-1)

    def _adjoint(self, y: Tensor) -> Tensor:
        return _add(
            operator.adjoint(part) for operator, part in zip(self._members(), self.split(y), strict=True)
        )

    def _gram(self, x: Tensor) -> Tensor:
        return _add(operator.gram(x) for operator in self._members())

    def split(self, y: Tensor) -> list[Tensor]:
        """The members' own data, in their own shapes."""
        if self._is_uniform():
            return list(y.unbind(dim=-len(self.range_shape)))
        batch = y.shape[:-1]
        parts = y.split(self.sizes, dim=-1)
        return [
            part.reshape(*batch, *operator.range_shape)
            for operator, part in zip(self._members(), parts, strict=True)
        ]

    def _is_uniform(self) -> bool:
        return len({operator.range_shape for operator in self._members()}) == 1

    def _members(self) -> list[LinearOperator]:
        return list(self.operators)  # type: ignore[arg-type]

    @property
    def sample_mask(self) -> Tensor | None:
        masks = [operator.sample_mask for operator in self._members()]
        if all(mask is None for mask in masks):
            return None
        filled = [
            (torch.ones(operator.range_shape, device=self.device) if mask is None else mask).expand(
                operator.range_shape
            )
            for operator, mask in zip(self._members(), masks, strict=True)
        ]
        return torch.stack(filled) if self._is_uniform() else torch.cat([mask.reshape(-1) for mask in filled])


class Restricted(Combination):
    """M A: the samples of A where a mask is 1, zero elsewhere; see `LinearOperator.restricted`."""

    mask: Tensor

    def __init__(self, operator: LinearOperator, mask: Tensor) -> None:
        super().__init__(operator.domain_shape, operator.range_shape)
        self.operator = operator
        self.register_buffer("mask", checked_samples(operator, mask))
        self.domain, self.nonnegative = operator.domain, operator.nonnegative

    def _forward(self, x: Tensor) -> Tensor:
        return self.mask * self.operator(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.operator.adjoint(self.mask * y)

    def _norm(self) -> float:
        return self.operator.norm()

    def _pinv(self, y: Tensor, **options: Any) -> Tensor:
        """The mean of the direct reconstructions of the subsets that stay whole, else A^+ M y."""
        kept = self._kept_subsets()
        if not kept:
            return self.operator.pinv(self.mask * y, **options)
        sizes = [math.prod(part.operator.range_shape) for part in kept]
        images = (part.operator.pinv(part.of(y), **options) for part in kept)
        return _add(image * (size / sum(sizes)) for image, size in zip(images, sizes, strict=True))

    def _kept_subsets(self) -> list[Subset]:
        """The operator's subsets that the mask is made of; none where it is not."""
        mask = self.mask.bool().expand(self.range_shape)
        for axis in range(mask.ndim):
            lines = mask.movedim(axis, 0).flatten(1)
            period = _period(lines[:, 0])
            if period is None or not bool((lines == lines[:, :1]).all()):
                continue
            try:
                parts = self.operator.subsets(period)
            except (TypeError, ValueError):  # it has none, or along another axis
                continue
            shares = [(part, part.of(mask)) for part in parts]
            if all(bool(share.all()) or not bool(share.any()) for _, share in shares):
                return [part for part, share in shares if bool(share.all())]
        return []

    @property
    def sample_mask(self) -> Tensor:
        """The mask."""
        return self.mask

    def noise_level(self, y: Tensor) -> Tensor:
        """As `LinearOperator.noise_level`, from the samples that stay."""
        return second_difference_noise(y, self, f"masked {type(self.operator).__name__}")


def _period(kept: Tensor) -> int | None:
    """After how many places, at most half of all, a pattern repeats itself; None if it does not, or is all one."""
    if bool(kept.all()):
        return None
    periods = (step for step in range(2, len(kept) // 2 + 1) if torch.equal(kept[step:], kept[:-step]))
    return next(periods, None)


def checked_samples(operator: LinearOperator, mask: Tensor) -> Tensor:
    """A mask of samples that an operator measures, as float32 of its `range_shape`'s trailing axes.

    Raises:
        ValueError: other values than 0 and 1, a shape that does not broadcast to the data, nothing left.
    """
    name, shape = type(operator).__name__, tuple(operator.range_shape)
    sides = zip(mask.shape[::-1], shape[::-1], strict=False)
    if mask.ndim > len(shape) or any(side not in (1, whole) for side, whole in sides):
        raise ValueError(f"a mask of shape {tuple(mask.shape)} does not fit the data {shape} of {name}")
    chosen = mask.to(operator.device, torch.float32)
    if not bool(((chosen == 0) | (chosen == 1)).all()):
        raise ValueError(
            f"a mask of samples is 1 where they stay and 0 elsewhere, this one of {name} has others"
        )
    own = operator.sample_mask
    chosen = chosen if own is None else chosen * own.to(chosen)
    if not bool(chosen.any()):
        raise ValueError(f"the mask leaves no sample of {name}: nothing is measured")
    return chosen


def stack(operators: Sequence[LinearOperator]) -> LinearOperator:
    """Operators that look at one image, as one operator.

    Members of equal range shape give data ``(*batch, members, *range_shape)``; members of different range
    shapes give their flattened data joined along one axis (`Stack.split` takes them apart).
    """
    return Stack(list(operators))


def _check_is_operator(thing: Any, verb: str) -> None:
    if not isinstance(thing, LinearOperator):
        raise TypeError(f"can only {verb} operators (recon.LinearOperator), got {type(thing).__name__}")


def checked_factor(factor: Any) -> float | complex:
    """A number that an operator may be multiplied by; TypeError for anything else."""
    if not isinstance(factor, numbers.Complex):
        raise TypeError(
            f"an operator is multiplied by a number, got {type(factor).__name__}: compose with @, apply with op(x)"
        )
    return float(factor) if isinstance(factor, numbers.Real) else complex(factor)


def _common_field(operators: Sequence[LinearOperator]) -> Field:
    fields = {operator.domain for operator in operators} - {"any"}
    if fields == {"real", "complex"}:
        raise TypeError("cannot join an operator on real images with one on complex images")
    return fields.pop() if fields else "any"


def _add(tensors: Any) -> Tensor:
    iterator = iter(tensors)
    total: Tensor = next(iterator)
    for tensor in iterator:
        total = total + tensor
    return total
