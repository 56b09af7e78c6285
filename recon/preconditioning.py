"""The approximate inverse of the normal equations: with the weights of the samples, and kept between iterations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recon.linear import LinearOperator, Step

if TYPE_CHECKING:
    from recon.problem import Problem


def data_inverse(
    problem: Problem, rho: Sequence[Step], maps: Sequence[LinearOperator]
) -> Callable[[Tensor], Tensor] | None:
    """The operator's approximate inverse of A^H W A + sum_i rho_i K_i^H K_i; see `Problem.preconditioner`."""
    weights = problem.item_fidelity.weights
    if weights is None:
        return problem.operator.preconditioner(rho, maps)
    if problem.item_fidelity.quadratic and problem.weights_seen is not None:
        weighted = problem.operator.weighted_preconditioner(rho, maps, problem.weights_seen)
        if weighted is not None:
            return weighted
    mean = weights.flatten(1).mean(1).clamp_min(1e-30).reshape(-1, *(1,) * len(problem.operator.domain_shape))
    inverse = problem.operator.preconditioner([weight / mean for weight in rho], maps)
    return None if inverse is None else lambda residual: inverse(residual) / mean


class KeptInverse:
    """The last approximate inverse that was made, for as long as the penalties and maps that it is for stay."""

    def __init__(self) -> None:
        self._for: tuple[tuple[Step, ...], tuple[LinearOperator, ...]] | None = None
        self._inverse: Callable[[Tensor], Tensor] | None = None

    def get(
        self,
        rho: Sequence[Step],
        maps: Sequence[LinearOperator],
        make: Callable[[], Callable[[Tensor], Tensor] | None],
    ) -> Callable[[Tensor], Tensor] | None:
        """The one that is kept, if it is for these, else what `make` makes."""
        if any(isinstance(weight, Tensor) and weight.requires_grad for weight in rho):
            return make()  # a graph must not outlive the iteration it belongs to
        if self._for is not None:
            before, of = self._for
            same = len(rho) == len(before) and all(map(_same, rho, before))
            if same and len(maps) == len(of) and all(a is b for a, b in zip(maps, of, strict=True)):
                return self._inverse
        self._for, self._inverse = (tuple(rho), tuple(maps)), make()
        return self._inverse

    def __reduce__(self) -> tuple[type[KeptInverse], tuple[()]]:
        return KeptInverse, ()  # copies begin empty: a closure travels to no other process


def _same(a: Step, b: Step) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a is b or (a.dtype == b.dtype and a.device == b.device and torch.equal(a, b))
    return not isinstance(a, Tensor) and not isinstance(b, Tensor) and a == b
