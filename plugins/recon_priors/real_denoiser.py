"""Denoisers of other libraries that take one real image: batches, noise levels per item, complex images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recon.linear import real_dtype
from recon.priors import Denoiser

NOTHING = 1e-6
"""Noise below this fraction of the largest value of an image is none: there is nothing to remove."""


class RealImageDenoiser(Denoiser):
    """An author writes `_denoise_image`, for one real image in double precision and a noise level > 0.

    Complex images are denoised as two real ones, their real and their imaginary part, each with the level
    sigma: as everywhere in this package, the noise level of a complex image is that of either part. The method
    must not depend on units: c times the image at c sigma is c times the result.
    """

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Denoise ``x`` (B, *shape) with noise level ``sigma``: a number, or ``(B,)``."""
        if x.is_complex():
            parts = torch.cat([x.real, x.imag])
            levels = torch.as_tensor(sigma).expand(len(x)).repeat(2) if len(x) else torch.zeros(0)
            real, imaginary = self.denoise(parts, levels).tensor_split(2)
            return torch.complex(real, imaginary)
        levels = torch.as_tensor(sigma, dtype=torch.float64, device="cpu").expand(len(x))
        result = x.clone()
        for place, level in enumerate(levels.tolist()):
            image = x[place].detach().to("cpu", torch.float64).numpy()
            if level <= NOTHING * np.abs(image).max():
                continue
            solved = self._denoise_image(image, level)
            result[place] = torch.from_numpy(np.ascontiguousarray(solved)).to(result)
        return result.to(real_dtype(x.dtype))

    def _denoise_image(self, image: np.ndarray, sigma: float) -> np.ndarray:
        raise TypeError(f"{type(self).__name__} has no _denoise_image: write one")
