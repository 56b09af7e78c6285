"""The l1 norm: images with few values that are not zero."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from recon.linear import Step
from recon.parameters import Param
from recon.priors import Functional, Weight


class L1(Functional):
    """g(x) = weight * sum |x|; the modulus for complex images.

    Args:
        weight: strength, or ``"auto"``.
    """

    separable = True

    def __init__(
        self, weight: Annotated[Weight, Param("strength; auto: from the noise level", ge=0)] = "auto"
    ) -> None:
        super().__init__(weight)

    def _penalty(self, z: Tensor) -> Tensor:
        return z.abs()

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        """Soft threshold: z max(0, 1 - threshold/|z|)."""
        magnitude = z.abs()
        return z * torch.clamp_min(1 - threshold / magnitude.clamp_min(torch.finfo(magnitude.dtype).tiny), 0)
