"""Bounds on the image values."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from recon.linear import Field, Step
from recon.parameters import Param
from recon.priors import Functional


class Box(Functional):
    """The constraint low <= x <= high.

    Args:
        low: smallest value.
        high: largest value.
    """

    domain: Field = "real"
    constraint = True
    separable = True

    def __init__(
        self,
        low: Annotated[float, Param("smallest value")] = 0.0,
        high: Annotated[float, Param("largest value")] = 1.0,
    ) -> None:
        super().__init__(weight=1.0)
        if not low < high:
            raise ValueError(f"box needs low < high, got low={low}, high={high}")
        self.low, self.high = float(low), float(high)

    def _penalty(self, z: Tensor) -> Tensor:
        outside = (z < self.low) | (z > self.high)
        return torch.where(outside, torch.inf, 0.0)

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        """Projection onto the box, whatever the step."""
        return z.clamp(self.low, self.high)

    def extra_repr(self) -> str:
        """Bounds for `repr`."""
        return f"low={self.low}, high={self.high}"


class NonNegative(Functional):
    """The constraint x >= 0."""

    domain: Field = "real"
    constraint = True
    separable = True

    def __init__(self) -> None:
        super().__init__(weight=1.0)

    def _penalty(self, z: Tensor) -> Tensor:
        return torch.where(z < 0, torch.inf, 0.0)

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        """Projection, whatever the step."""
        return z.clamp_min(0)

    def extra_repr(self) -> str:
        """No parameters."""
        return ""
