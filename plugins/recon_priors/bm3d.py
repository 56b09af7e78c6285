"""BM3D as a denoiser, through the authors' own library."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np

from recon.parameters import Param
from recon.priors import Weight
from recon_priors.real_denoiser import RealImageDenoiser


class BM3D(RealImageDenoiser):
    """Block matching and collaborative filtering in 3-D (Dabov, Foi, Katkovnik and Egiazarian 2007).

    Similar blocks of the image are stacked and filtered together. It is the strongest denoiser without training
    here, and the slowest: seconds for an image of 256 x 256. Through the library ``bm3d`` of its authors
    (Mäkinen, Azzari and Foi 2020), whose licence allows **non-commercial use only**: ``pip install 'recon[bm3d]'``.
    Volumes are denoised slice by slice, along their first axis. Images of any unit and range.

    Args:
        weight: strength, or ``"auto"``: the noise variance of the data.
        stages: ``"both"``, or ``"first"``: hard thresholds alone, without the Wiener filter after them, which
            takes half the time.

    Raises:
        ImportError: the library is not installed.
        ValueError: images of fewer than two axes.
    """

    def __init__(
        self,
        weight: Annotated[Weight, Param("strength; auto: the noise variance of the data", ge=0)] = "auto",
        stages: Annotated[
            Literal["both", "first"], Param("both stages, or hard thresholds alone, in half the time")
        ] = "both",
    ) -> None:
        super().__init__(weight)
        if stages not in ("both", "first"):
            raise ValueError(f"stages must be 'both' or 'first', got {stages!r}")
        _library()
        self.stages = stages

    def _denoise_image(self, image: np.ndarray, sigma: float) -> np.ndarray:
        if image.ndim < 2:
            raise ValueError(f"BM3D denoises images and volumes, got one of shape {image.shape}")
        if image.ndim > 2:
            return np.stack([self._denoise_image(part, sigma) for part in image])
        library = _library()
        settings = library.BM3DProfile()
        settings.num_threads = 1  # with more, sums are taken in an order that changes from run to run
        stage = (
            library.BM3DStages.ALL_STAGES if self.stages == "both" else library.BM3DStages.HARD_THRESHOLDING
        )
        reach = tuple((0, max(0, SMALLEST - side)) for side in image.shape)
        padded = np.pad(image, reach, mode="symmetric")
        scale = 0.1 / sigma  # single precision inside
        solved = np.asarray(library.bm3d(padded * scale, 0.1, profile=settings, stage_arg=stage)) / scale
        return solved[: image.shape[0], : image.shape[1]]

    def extra_repr(self) -> str:
        """Parameters for `repr`."""
        return f"weight={self.weight}, stages={self.stages!r}"


SMALLEST = 16
"""Sides below are padded: the library wants room for its blocks of 8."""


def _library() -> Any:
    try:
        import bm3d
    except ImportError as error:
        raise ImportError(
            "the prior bm3d needs the library bm3d, whose licence allows non-commercial use only: install it with "
            "pip install 'recon[bm3d]', or take wavelet_denoiser or nlm, which are free"
        ) from error
    return bm3d
