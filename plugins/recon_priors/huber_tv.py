"""Huber total variation: smooth slopes and sharp edges, no staircase."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from torch import Tensor

from recon.linear import Step
from recon.parameters import Param
from recon.priors import Weight
from recon_priors.tv import TotalVariation


class HuberTV(TotalVariation):
    """g(D x) = weight * sum over pixels of h(|D x|), with D the forward differences between pixels.

        h(m) = m^2 / (2 width)  for m <= width,   m - width / 2  beyond

    Differences below `width` are smoothed like a quadratic penalty does, those above kept like total variation
    does (Huber 1964; Chambolle and Pock 2011, section 6.2.1). For complex images |.| is taken over the complex
    modulus.

    Args:
        width: the difference between neighbouring pixels where the quadratic ends, in the image's units; about
            the slope of what should stay smooth.
        weight: strength, or ``"auto"``.
        isotropic: Euclidean norm of the gradient, or the sum over its components.
        boundary: ``"neumann"`` has no difference across the border; ``"periodic"`` wraps around.
    """

    def __init__(
        self,
        width: Annotated[
            float, Param("difference of neighbours where the quadratic ends, in image units", gt=0)
        ],
        weight: Annotated[Weight, Param("strength; auto: from the noise level", ge=0)] = "auto",
        isotropic: Annotated[
            bool, Param("Euclidean norm of the gradient instead of the sum over its components")
        ] = True,
        boundary: Annotated[
            Literal["neumann", "periodic"], Param("differences at the border: none, or around the image")
        ] = "neumann",
    ) -> None:
        super().__init__(weight, isotropic, boundary)
        if not 0 < width < math.inf:
            raise ValueError(f"width must be > 0, in the image's units, got {width!r}")
        self.width = float(width)

    def _penalty(self, z: Tensor) -> Tensor:
        magnitude = super()._penalty(z)
        return torch.where(
            magnitude <= self.width, magnitude.square() / (2 * self.width), magnitude - self.width / 2
        )

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        """z / (1 + threshold/width) within width + threshold, z (1 - threshold/|z|) beyond."""
        magnitude = self._magnitude(z) if self.isotropic else z.abs()
        return z * (1 - threshold / magnitude.clamp_min(self.width + threshold))

    def extra_repr(self) -> str:
        """Parameters for `repr`."""
        return f"width={self.width}, {super().extra_repr()}"
