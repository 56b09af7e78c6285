"""The maps that an operator offers, with the shapes and types of input that each takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recon.linear import LinearOperator, Shape
from recon.testing.measuring import random


@dataclass(frozen=True)
class Way:
    """One map: the call, the item shapes, and the types of input it takes."""

    name: str
    apply: Callable[[Tensor], Tensor]
    source: Shape
    target: Shape
    dtypes: tuple[torch.dtype, ...]
    device: torch.device

    def draw(self, *batch: int, dtype: torch.dtype | None = None, seed: int = 0) -> Tensor:
        """Random input, of the most general type unless one is given."""
        return random((*batch, *self.source), dtype or self.dtypes[-1], seed).to(self.device)


def both_ways(operator: LinearOperator) -> tuple[Way, Way]:
    """Forward and adjoint. A complex operator promotes real input, a real one refuses complex images."""
    image, data, device = operator.domain_shape, operator.range_shape, operator.device
    dtypes = (torch.float32,) if operator.domain == "real" else (torch.float32, torch.complex64)
    with torch.no_grad():
        of_real = operator(torch.zeros(image, device=device)).is_complex()
    of_data = (torch.complex64,) if operator.domain == "real" and of_real else dtypes
    return (
        Way("forward", operator, image, data, dtypes, device),
        Way("adjoint", operator.adjoint, data, image, of_data, device),
    )


def all_ways(operator: LinearOperator) -> tuple[Way, ...]:
    """Forward, adjoint, gram and pinv."""
    forward, adjoint = both_ways(operator)
    image, data, device = operator.domain_shape, operator.range_shape, operator.device
    gram = Way("gram", operator.gram, image, image, forward.dtypes, device)
    return forward, adjoint, gram, Way("pinv", operator.pinv, data, image, adjoint.dtypes, device)


def as_real_as(like: Tensor, x: Tensor) -> Tensor:
    """The real part where `like` is real: the gradient of a real input is real."""
    return x if like.is_complex() else x.real if x.is_complex() else x
