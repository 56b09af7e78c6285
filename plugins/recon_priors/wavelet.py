"""Wavelet sparsity: images with few wavelet coefficients that are not zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from recon_operators.wavelet import Wavelet
from torch import Tensor

from recon.linear import LinearOperator, Step
from recon.parameters import Param
from recon.priors import Functional, Weight


class WaveletSparsity(Functional):
    """g(W x) = weight * sum |detail coefficients of x|; the modulus for complex images.

    W is the undecimated tight frame, which treats every position alike, or the orthogonal transform
    (`recon_operators.Wavelet`). The approximation, the image at the coarsest scale, costs nothing.

    Args:
        weight: strength, or ``"auto"``.
        wavelet: name of an orthogonal wavelet in PyWavelets.
        levels: number of scales, fewer in images too small for them.
        decimated: the orthogonal transform: a seventh to a tenth of the memory, and its blocks show.
    """

    def __init__(
        self,
        weight: Annotated[Weight, Param("strength; auto: from the noise level", ge=0)] = "auto",
        wavelet: Annotated[str, Param("orthogonal wavelet, by its name in PyWavelets")] = "db4",
        levels: Annotated[int, Param("number of scales", ge=1)] = 3,
        decimated: Annotated[bool, Param("orthogonal transform instead of the tight frame")] = False,
    ) -> None:
        super().__init__(weight)
        self.wavelet, self.levels, self.decimated = wavelet, int(levels), bool(decimated)

    def K(self, shape: Sequence[int]) -> LinearOperator:
        """The wavelet transform."""
        return Wavelet(tuple(shape), self.wavelet, self._levels_of(shape), self.decimated)

    def _levels_of(self, shape: Sequence[int]) -> int:
        """The number of scales that an image of this shape has room for."""
        return min(self.levels, max(1, int(math.log2(max(1, min(shape))))))

    def _penalty(self, z: Tensor) -> Tensor:
        return self._details(z.abs())

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        """Soft threshold of the details: z max(0, 1 - threshold/|z|)."""
        magnitude = z.abs()
        shrunk = torch.clamp_min(1 - threshold / magnitude.clamp_min(torch.finfo(magnitude.dtype).tiny), 0)
        return z * self._details(shrunk, otherwise=1.0)

    def _details(self, values: Tensor, otherwise: float = 0.0) -> Tensor:
        """Values (B, *K.range_shape) with another one where the approximation lies, in place."""
        if self.decimated:
            levels = self._levels_of(values.shape[1:])
            sides = (side >> levels for side in values.shape[1:])
            values[(slice(None), *(slice(side) for side in sides))] = otherwise
        else:
            values[:, 0] = otherwise
        return values

    def extra_repr(self) -> str:
        """Parameters for `repr`."""
        return f"weight={self.weight}, wavelet={self.wavelet!r}, levels={self.levels}, decimated={self.decimated}"
