"""A wavelet denoiser: an empirical Wiener filter of the coefficients of a tight frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from recon_operators.wavelet import Wavelet
from torch import Tensor

from recon.linear import real_dtype
from recon.parameters import Param
from recon.priors import Denoiser, Weight

PILOT = 3.0
"""Threshold of the pilot, in standard deviations: the usual one for white noise."""


class WaveletDenoiser(Denoiser):
    """Shrink each detail coefficient c of the undecimated transform by e / (e + s^2) (Ghael et al. 1997).

    s^2 is the variance of the noise in c, known from sigma, and e the energy of the image there, taken from a
    pilot image: the same transform with coefficients around 3 s and below faded out, continuously in the image,
    so that iterations settle. e is averaged over neighbours (3 along each axis), which leaves less of single
    outliers. Translation-invariant, as averaging over all shifts (cycle spinning) is. Milliseconds for an
    image; differentiable almost everywhere; on the device of the image; images and volumes of any unit and
    range. Of complex images the modulus of the coefficients is looked at, and sigma is the level of the real and
    of the imaginary part, as everywhere in this package.

    Args:
        weight: strength, or ``"auto"``: the noise variance of the data.
        wavelet: name of an orthogonal wavelet in PyWavelets.
        levels: number of scales, fewer in images too small for them.
    """

    def __init__(
        self,
        weight: Annotated[Weight, Param("strength; auto: the noise variance of the data", ge=0)] = "auto",
        wavelet: Annotated[str, Param("orthogonal wavelet, by its name in PyWavelets")] = "haar",
        levels: Annotated[int, Param("number of scales", ge=1)] = 4,
    ) -> None:
        super().__init__(weight)
        if int(levels) != levels or levels < 1:
            raise ValueError(f"levels must be a whole number >= 1, got {levels!r}")
        self.wavelet, self.levels = wavelet, int(levels)
        self._transforms: dict[tuple[int, ...], tuple[Wavelet, Tensor]] = {}

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Denoise ``x`` (B, *shape) with noise level ``sigma``: a number, or ``(B,)``."""
        if x.numel() == 0:
            return x.clone()
        transform, gains = self._transform(x.shape[1:])
        precision = real_dtype(x.dtype)
        axes = tuple(range(2, x.ndim + 1))
        level = torch.as_tensor(sigma, dtype=precision, device=x.device).expand(len(x))
        level = level.reshape(-1, *(1,) * len(axes))
        # brought to order 1: squares of images in small or large units leave the range of float32
        peak = x.detach().abs().amax(tuple(range(1, x.ndim)), keepdim=True)
        scale = torch.where(peak > 0, peak, torch.ones_like(peak))
        coefficients = transform(x / scale)
        noise = ((level / scale).clamp_max(1e6).unsqueeze(1) * gains.to(x.device, precision)).square()
        noise = noise * (2 if x.is_complex() else 1)
        tiny = torch.finfo(precision).tiny
        found = (_squares(coefficients) / (PILOT**2 * noise).clamp_min(tiny) - 0.5).clamp(0, 1)
        found = torch.cat([torch.ones_like(found[:, :1]), found[:, 1:]], 1)
        energy = _squares(transform(transform.adjoint(coefficients * found)))
        for axis in axes:
            energy = (energy + energy.roll(1, axis) + energy.roll(-1, axis)) / 3
        kept = torch.where(noise > 0, energy / (energy + noise).clamp_min(tiny), torch.ones_like(energy))
        kept = torch.cat([torch.ones_like(kept[:, :1]), kept[:, 1:]], 1)
        result: Tensor = transform.adjoint(coefficients * kept) * scale
        return result

    def _transform(self, shape: Sequence[int]) -> tuple[Wavelet, Tensor]:
        """The transform for images of this shape, and the standard deviation of unit white noise in its bands."""
        shape = tuple(shape)
        if shape not in self._transforms:
            levels = min(self.levels, max(1, int(math.log2(max(1, min(shape))))))
            transform = Wavelet(shape, self.wavelet, levels)
            impulse = torch.zeros(shape, dtype=torch.float64)
            impulse.view(-1)[0] = 1
            axes = tuple(range(-len(shape), 0))
            gains = transform(impulse).square().sum(axes, keepdim=True).sqrt()
            self._transforms = {shape: (transform, gains)}  # the last shape alone: the volumes are large
        return self._transforms[shape]

    def extra_repr(self) -> str:
        """Parameters for `repr`."""
        return f"weight={self.weight}, wavelet={self.wavelet!r}, levels={self.levels}"


def _squares(z: Tensor) -> Tensor:
    return z.real.square() + z.imag.square() if z.is_complex() else z.square()
