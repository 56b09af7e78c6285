"""Priors with fields of their own, g(x) = min over w of h(L (x, w)): solved for the image and the fields at once.

The problem of the stacked unknown (x, w) is one like any other, so every algorithm takes it as it is. Where the
operator has a closed form or a preconditioner for images, eliminating w extends it to the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from recon.algebra import Combination
from recon.linear import Identity, LinearOperator, Step, real_dtype
from recon.priors import Functional
from recon.problem import DEPENDS_ON_DATA, Problem
from recon.terms import Term


class JointMap(LinearOperator):
    """The linear map L of a prior with fields: ``(1 + fields, *shape)``, the image first, to what h looks at.

    Its normal operator is written in blocks, with x the image and w the fields,

        L^H L = [P  B^H]
                [B  R  ],

    of which an author states B, (an approximation of) the inverse of R, and P - B^H R^-1 B, in which w is
    eliminated.

    Attributes:
        exact: `solve_fields` and `reduced` are exact, not only near.
    """

    exact: bool = False

    def couple(self, x: Tensor) -> Tensor:
        """B x: images ``(B, *shape)`` to fields ``(B, fields, *shape)``."""
        raise TypeError(f"{type(self).__name__} has no couple: write B x")

    def couple_adjoint(self, w: Tensor) -> Tensor:
        """B^H w."""
        raise TypeError(f"{type(self).__name__} has no couple_adjoint: write B^H w")

    def solve_fields(self, w: Tensor) -> Tensor:
        """R^-1 w, or a positive definite approximation."""
        raise TypeError(f"{type(self).__name__} has no solve_fields: write R^-1 w")

    def reduced(self) -> LinearOperator:
        """An operator on images whose normal operator is P - B^H R^-1 B, known by its symbol."""
        raise TypeError(f"{type(self).__name__} has no reduced operator")


class Spectral(LinearOperator):
    """The operator with this symbol: F^H diag(symbol)^(1/2) F on images of the symbol's shape.

    Args:
        symbol: eigenvalues of its normal operator on the unshifted FFT grid, even in the frequency, >= 0.
        exact: whether closed forms may use it, or preconditioners alone.
    """

    def __init__(self, symbol: Tensor, exact: bool) -> None:
        super().__init__(symbol.shape, symbol.shape)
        self.exact = exact
        self.symbol: Tensor
        self.register_buffer("symbol", symbol, persistent=False)

    def _forward(self, x: Tensor) -> Tensor:
        axes = tuple(range(-self.symbol.ndim, 0))
        root = self.symbol.clamp_min(0).sqrt().to(real_dtype(x.dtype))
        filtered = torch.fft.ifftn(torch.fft.fftn(x, dim=axes) * root, dim=axes)
        return filtered if x.is_complex() else filtered.real

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)

    def fourier_symbol(self) -> Tensor | None:
        """The symbol, where it is exact."""
        return self.symbol if self.exact else None

    def approximate_symbol(self) -> Tensor:
        """The symbol."""
        return self.symbol


class Lifted(Combination):
    """A on the first of the stacked images ``(1 + fields, *shape)``; the others it does not see."""

    def __init__(self, operator: LinearOperator, fields: int) -> None:
        super().__init__((1 + fields, *operator.domain_shape), operator.range_shape)
        self.operator, self.fields = operator, fields
        self.domain, self.nonnegative = operator.domain, operator.nonnegative

    def _image(self, v: Tensor) -> Tensor:
        return v.select(-len(self.domain_shape), 0)

    def lift(self, x: Tensor) -> Tensor:
        """The image ``(*batch, *shape)`` with fields that are zero."""
        batch = x.ndim - len(self.operator.domain_shape)
        v = x.new_zeros((*x.shape[:batch], *self.domain_shape))
        self._image(v).copy_(x)
        return v

    def _forward(self, x: Tensor) -> Tensor:
        return self.operator(self._image(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._joined(self.operator.adjoint(y))

    def _gram(self, x: Tensor) -> Tensor:
        return self._joined(self.operator._run_gram(self._image(x)))

    def _norm(self) -> float:
        return self.operator.norm()

    def _pinv(self, y: Tensor, **options: Any) -> Tensor:
        return self._joined(self.operator.pinv(y, **options))

    def _joined(self, x: Tensor, w: Tensor | None = None) -> Tensor:
        """(x, w) as one tensor, differentiable; without w, zeros."""
        axis = x.ndim - len(self.operator.domain_shape)
        x = x.unsqueeze(axis)
        if w is None:
            w = x.new_zeros((*x.shape[:axis], self.fields, *x.shape[axis + 1 :]))
        return torch.cat([x, w], axis)

    def solve_gram(self, b: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator]) -> Tensor | None:
        """By elimination of w, where the operator has a closed form for what is left."""
        parts = self._eliminated(rho, terms)
        if parts is None or not parts[0].exact:
            return None
        joint, weight, weights, maps = parts
        q = joint.solve_fields(b[:, 1:])
        x = self.operator.solve_gram(b[:, 0] - joint.couple_adjoint(q), weights, maps)
        if x is None:
            return None
        return self._joined(x, q / weight - joint.solve_fields(joint.couple(x)))

    def preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator]
    ) -> Callable[[Tensor], Tensor] | None:
        """The same elimination with the operator's preconditioner: a block triangular factorisation."""
        parts = self._eliminated(rho, terms)
        if parts is None:
            return None
        joint, weight, weights, maps = parts
        inverse = self.operator.preconditioner(weights, maps)
        if inverse is None:
            return None

        def apply(residual: Tensor) -> Tensor:
            q = joint.solve_fields(residual[:, 1:])
            x = inverse(residual[:, 0] - joint.couple_adjoint(q))
            return self._joined(x, q / weight - joint.solve_fields(joint.couple(x)))

        return apply

    def _eliminated(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator]
    ) -> tuple[JointMap, Step, list[Step], list[LinearOperator]] | None:
        """The map with fields, its weight, and weights and maps of the problem for x alone."""
        joint = [
            (weight, term) for weight, term in zip(rho, terms, strict=True) if isinstance(term, JointMap)
        ]
        if len(joint) != 1:
            return None
        weights: list[Step] = []
        maps: list[LinearOperator] = []
        for weight, term in zip(rho, terms, strict=True):
            # one axis less: what broadcasts against stacks, against images
            weights.append(weight[:, 0] if isinstance(weight, Tensor) and weight.ndim > 1 else weight)
            if isinstance(term, JointMap):
                maps.append(term.reduced())
            elif isinstance(term, Lifted):
                maps.append(term.operator)
            else:
                return None
        return joint[0][1], joint[0][0], weights, maps

    @property
    def sample_mask(self) -> Tensor | None:
        """That of A."""
        return self.operator.sample_mask

    def noise_level(self, y: Tensor) -> Tensor:
        """That of A."""
        return self.operator.noise_level(y)


class LiftedProblem(Problem):
    """A problem whose unknown is the image with the fields of one prior; made by `lifted`."""

    @cached_property
    def terms(self) -> list[Term]:
        """The priors: the one with fields sees all, the others the image."""
        assert isinstance(self.operator, Lifted)
        image_shape = self.operator.operator.domain_shape
        terms = []
        for member in self.members:
            whole = isinstance(member, Functional) and member.fields(image_shape) > 0
            term = Term(member, self.operator.domain_shape if whole else image_shape, self.image_range)
            if not whole:
                term.K = Lifted(term.K, self.operator.fields)
            terms.append(self.checked_term(term))
        return terms

    def project(self, x: Tensor) -> Tensor:
        """The image inside every constraint that acts on the image itself; the fields as they are."""
        for term in self.terms:
            if term.constraint and isinstance(term.K, Lifted) and isinstance(term.K.operator, Identity):
                image = term.prox(x[:, 0], 1.0, self.strength)
                x = torch.cat([image.unsqueeze(1), x[:, 1:]], 1)
        return x

    def visible(self, x: Tensor) -> Tensor:
        """The image without the fields."""
        return x[:, 0]

    def unflatten(self, x: Tensor) -> Tensor:
        """Images in the batch shape of the data, without the fields."""
        return self.visible(x).reshape(*self.batch_shape, *self.operator.domain_shape[1:])


def lifted(problem: Problem) -> Problem:
    """The problem that algorithms solve: itself, or with the fields of its prior where that has some.

    Raises:
        ValueError: several priors with fields.
    """
    shape = problem.operator.domain_shape
    joint = [
        member for member in problem.members if isinstance(member, Functional) and member.fields(shape) > 0
    ]
    if not joint or isinstance(problem, LiftedProblem):
        return problem
    if len(joint) > 1:
        names = ", ".join(type(member).__name__ for member in joint)
        raise ValueError(
            f"one prior with auxiliary fields can be solved for at a time, got {names}: keep one"
        )
    operator = Lifted(problem.operator, joint[0].fields(shape))
    whole = object.__new__(LiftedProblem)
    known = ("terms", *DEPENDS_ON_DATA)
    whole.__dict__.update({name: value for name, value in problem.__dict__.items() if name not in known})
    whole.operator = operator
    whole.x0 = None if problem.x0 is None else operator.lift(problem.x0)
    return whole
