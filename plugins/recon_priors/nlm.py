"""Non-local means as a denoiser, through scikit-image."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np

from recon.parameters import Param
from recon.priors import Weight
from recon_priors.real_denoiser import RealImageDenoiser


class NonLocalMeans(RealImageDenoiser):
    """Every pixel becomes the mean of pixels around it whose patches are alike (Buades, Coll and Morel 2005).

    Two pixels weigh exp(-max(d^2 - 2 sigma^2, 0) / h^2), with d^2 the mean squared difference of their patches
    and h = strength * sigma; by the fast algorithm of Darbon et al. (2008) in scikit-image
    (``pip install 'recon[nlm]'``). Images and volumes of any unit and range.

    Args:
        weight: strength of the prior, or ``"auto"``: the noise variance of the data.
        strength: width of the weights over sigma.
        patch: side of the patches [px], odd.
        distance: how far alike patches are looked for [px].

    Raises:
        ImportError: scikit-image is not installed.
        ValueError: images that are not of two or three axes.
    """

    def __init__(
        self,
        weight: Annotated[Weight, Param("strength; auto: the noise variance of the data", ge=0)] = "auto",
        strength: Annotated[float, Param("width of the weights over sigma", gt=0)] = 0.8,
        patch: Annotated[int, Param("side of the patches, odd", unit="px", ge=1)] = 5,
        distance: Annotated[int, Param("how far alike patches are looked for", unit="px", ge=1)] = 6,
    ) -> None:
        super().__init__(weight)
        if not 0 < strength < math.inf:
            raise ValueError(f"strength must be > 0, got {strength!r}")
        if int(patch) != patch or patch < 1 or patch % 2 == 0:
            raise ValueError(f"patch must be an odd number of pixels, got {patch!r}")
        if int(distance) != distance or distance < 1:
            raise ValueError(f"distance must be a number of pixels >= 1, got {distance!r}")
        _library()
        self.strength, self.patch, self.distance = float(strength), int(patch), int(distance)

    def _denoise_image(self, image: np.ndarray, sigma: float) -> np.ndarray:
        if image.ndim not in (2, 3):
            raise ValueError(
                f"non-local means denoises images and volumes of two or three axes, got one of shape {image.shape}"
            )
        # in units of the noise: squares of images in small units leave the range of floating point numbers
        solved: np.ndarray = _library()(
            image / sigma,
            patch_size=self.patch,
            patch_distance=self.distance,
            h=self.strength,
            sigma=1.0,
            fast_mode=True,
            preserve_range=True,
        )
        return solved * sigma

    def extra_repr(self) -> str:
        """Parameters for `repr`."""
        return f"weight={self.weight}, strength={self.strength}, patch={self.patch}, distance={self.distance}"


def _library() -> Any:
    try:
        from skimage.restoration import denoise_nl_means
    except ImportError as error:
        raise ImportError(
            "the prior nlm needs scikit-image: install it with pip install 'recon[nlm]', or take wavelet_denoiser"
        ) from error
    return denoise_nl_means
