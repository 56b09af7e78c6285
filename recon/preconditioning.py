"""The approximate inverse of the normal equations: with the weights of the samples, and kept between iterations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recon.linear import LinearOperator, Step, state_of

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


Inverse = Callable[[Tensor], Tensor]


class KeptInverse:
    """The last approximate inverse that was made, for as long as everything that it is for stays as it was."""

    def __init__(self) -> None:
        self._last: _Made | None = None  # one thing, replaced at once: threads may share a problem

    def get(
        self,
        rho: Sequence[Step],
        operators: Sequence[LinearOperator],
        make: Callable[[Sequence[Step]], Inverse | None],
        weights: Tensor | None = None,
    ) -> Inverse | None:
        """The one that is kept, if it is for these, else what `make` makes.

        Args:
            rho: the penalties.
            operators: A and the maps K_i, of which buffers and parameters may change in place.
            make: the inverse for penalties like rho, which it may keep.
            weights: of the samples.
        """
        used = [tensor for operator in operators for tensor in (*operator.buffers(), *operator.parameters())]
        used += [] if weights is None else [weights]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in used):
            return make(rho)  # a graph must not outlive the iteration it belongs to
        if any(isinstance(weight, Tensor) and weight.requires_grad for weight in rho):
            return make(rho)
        last, state = self._last, state_of(used)
        if last is None or not last.serves(rho, operators, state):
            # kept penalties are copies: a change of theirs must not change the inverse, and one made while gradients
            # are off must serve when they are on
            with torch.inference_mode(False), torch.no_grad():
                own = [weight.clone() if isinstance(weight, Tensor) else weight for weight in rho]
                last = _Made(own, tuple(operators), state, used, make(own))
            self._last = last
        return last.inverse

    def __reduce__(self) -> tuple[type[KeptInverse], tuple[()]]:
        return KeptInverse, ()  # copies begin empty: a closure travels to no other process


@dataclass(frozen=True)
class _Made:
    """An inverse and what it is for; `used` is held so that no other tensor takes the identity of one of them."""

    rho: Sequence[Step]
    operators: tuple[LinearOperator, ...]
    state: tuple[tuple[int, ...], ...]
    used: Sequence[Tensor]
    inverse: Inverse | None

    def serves(
        self, rho: Sequence[Step], operators: Sequence[LinearOperator], state: tuple[tuple[int, ...], ...]
    ) -> bool:
        return (
            state == self.state
            and len(operators) == len(self.operators)
            and all(a is b for a, b in zip(operators, self.operators, strict=True))
            and len(rho) == len(self.rho)
            and all(map(_same, rho, self.rho))
        )


def _same(a: Step, b: Step) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
    return not isinstance(a, Tensor) and not isinstance(b, Tensor) and a == b
