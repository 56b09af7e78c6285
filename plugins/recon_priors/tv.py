"""Total variation: images whose gradient is sparse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from recon_operators.gradient import Gradient
from torch import Tensor

from recon.linear import LinearOperator, Step
from recon.parameters import Param
from recon.priors import Functional, Weight


class TotalVariation(Functional):
    """g(D x) = weight * sum over pixels of |D x|, with D the forward differences between pixels.

    Isotropic: |.| is the Euclidean norm over the axes (Rudin, Osher and Fatemi 1992); anisotropic: the sum of
    magnitudes. For complex images |.| is taken over the complex modulus, so that real and imaginary part
    share their edges. Differences are per pixel, without a spacing: the weight does not depend on the pixel
    size.

    Args:
        weight: strength, or ``"auto"``.
        isotropic: Euclidean norm of the gradient, or the sum of the magnitudes of its components.
        boundary: ``"neumann"`` has no difference across the border; ``"periodic"`` wraps around, which gives
            Cartesian MRI and blur a closed-form step.
    """

    def __init__(
        self,
        weight: Annotated[Weight, Param("strength; auto: from the noise level", ge=0)] = "auto",
        isotropic: Annotated[
            bool, Param("Euclidean norm of the gradient instead of the sum of magnitudes")
        ] = True,
        boundary: Annotated[
            Literal["neumann", "periodic"], Param("differences at the border: none, or around the image")
        ] = "neumann",
    ) -> None:
        super().__init__(weight)
        if boundary not in ("neumann", "periodic"):
            raise ValueError(f"boundary must be 'neumann' or 'periodic', got {boundary!r}")
        self.isotropic = bool(isotropic)
        self.boundary = boundary

    def K(self, shape: Sequence[int]) -> LinearOperator:
        """Forward differences: ``shape`` to ``(len(shape), *shape)``."""
        return Gradient(tuple(shape), boundary=self.boundary)

    def _magnitude(self, z: Tensor) -> Tensor:
        # vector_norm over a short leading axis is many times slower than these few passes
        squares = z.real.square().add_(z.imag.square()) if z.is_complex() else z.square()
        # held above zero, where the root has no finite derivative
        return squares.sum(1, keepdim=True).clamp_min_(torch.finfo(squares.dtype).tiny).sqrt_()

    def _penalty(self, z: Tensor) -> Tensor:
        return self._magnitude(z) if self.isotropic else z.abs()

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        """Shrink the gradient's length: z max(0, 1 - threshold/|z|)."""
        magnitude = self._magnitude(z) if self.isotropic else z.abs().clamp_min(torch.finfo(z.dtype).tiny)
        return z * (threshold / magnitude).neg_().add_(1).clamp_min_(0)

    def extra_repr(self) -> str:
        """Parameters for `repr`."""
        return f"weight={self.weight}, isotropic={self.isotropic}, boundary={self.boundary!r}"


TV = TotalVariation
