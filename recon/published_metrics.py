"""Metrics that are there to compare with published numbers, not to judge images by."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from recon.metrics import Metric, _mean
from recon.parameters import Param


@dataclass(frozen=True, kw_only=True)
class GlobalSSIM(Metric):
    """SSIM over one window, the whole image, with constants that know no data range: for published numbers only.

    (2 m_x m_y + C1)(2 s_xy + C2) / ((m_x^2 + m_y^2 + C1)(s_x^2 + s_y^2 + C2)). One window hides where images differ,
    and constants of 0.01 and 0.03 themselves, instead of (0.01 L)^2 and (0.03 L)^2, come near 1 for almost any
    two images in [0, 1]: quarter-dose CT scores 0.9995. Judge images by `SSIM`.
    """

    name: ClassVar[str] = "global_ssim"
    higher_is_better: ClassVar[bool] = True

    C1: Annotated[float, Param("constant of the luminance term", gt=0)] = 0.01
    C2: Annotated[float, Param("constant of the contrast term", gt=0)] = 0.03

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.complex_images != "magnitude":
            raise ValueError("global_ssim compares magnitudes; it has no meaning for complex differences")
        for what in ("C1", "C2"):
            if not getattr(self, what) > 0:
                raise ValueError(f"global_ssim: {what} must be positive, got {getattr(self, what)}")

    def _compare(self, image: Tensor, reference: Tensor, region: Tensor | None) -> Tensor:
        x, y = _mean(image, region), _mean(reference, region)
        covariance = _mean(image * reference, region) - x * y
        variances = _mean(image.square() + reference.square(), region) - x.square() - y.square()
        luminance = (2 * x * y + self.C1) / (x.square() + y.square() + self.C1)
        return luminance * (2 * covariance + self.C2) / (variances + self.C2)

    def _terms(self, resolved: str) -> list[str]:
        return [f"one window for the whole image, C1 {self.C1:g} C2 {self.C2:g} (flatters; see ssim)"]


@dataclass(frozen=True, kw_only=True)
class RegressedSNR(Metric):
    """10 log10(|r|^2 / |a x + b - r|^2) in dB with the a and b that fit best (FBPConvNet; Jin et al. 2017).

    It is above the plain signal-to-noise ratio of any image whose scale or offset is off.
    """

    name: ClassVar[str] = "regressed_snr"
    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.complex_images != "magnitude":
            raise ValueError("regressed_snr fits real images; compare magnitudes")

    @property
    def unit(self) -> str:
        """Decibel."""
        return "dB"

    def _compare(self, image: Tensor, reference: Tensor, region: Tensor | None) -> Tensor:
        x, r = _mean(image, region), _mean(reference, region)
        lead = (-1, *(1,) * (image.ndim - 1))
        centred, wanted = image - x.reshape(lead), reference - r.reshape(lead)
        variance = _mean(centred.square(), region)
        slope = torch.where(variance > 0, _mean(centred * wanted, region) / variance.clamp_min(1e-300), 0)
        error = _mean((slope.reshape(lead) * centred - wanted).square(), region)
        power = _mean(reference.square(), region)
        if bool((power == 0).any()):
            raise ValueError("regressed_snr: the reference is zero everywhere; use mse or rmse instead")
        return 10.0 * torch.log10(power / error)

    def _terms(self, resolved: str) -> list[str]:
        return ["after the best affine fit to the reference"]
