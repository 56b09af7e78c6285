"""Visual information fidelity: how much of the reference's information an observer still finds in the image."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from recon.metrics import DataRange, Metric, _check_data_range, _data_range, _range_in_words, _resolved_range
from recon.parameters import Param

SCALES = 4
SMALLEST = 41
"""Side of the smallest image: the coarsest scale still holds one window [pixels]."""


@dataclass(frozen=True, kw_only=True)
class VIF(Metric):
    """Pixel-domain visual information fidelity (Sheikh and Bovik 2006, IEEE TIP 15, 430-444): 1 for equal images.

    At four scales, with g the local gain of image over reference and v the variance that it does not explain,

        sum log(1 + g^2 s^2 / (v + n^2)) / sum log(1 + s^2 / n^2),

    where s^2 is the local variance of the reference in Gaussian windows of 17, 9, 5 and 3 pixels and n the standard
    deviation of the observer's own noise. That noise is tied to the grey scale: the usual variance of 2 is for
    images from 0 to 255, so n = `noise` * `data_range`. Without a grey scale the number means nothing; there is no
    default.

    Items with more than two axes are compared slice by slice, with one data range, and averaged.
    """

    name: ClassVar[str] = "vif"
    higher_is_better: ClassVar[bool] = True

    data_range: Annotated[
        DataRange | None,
        Param('width of the grey scale: a number, or "max" or "max-min" of each reference', gt=0),
    ] = None
    noise: Annotated[
        float, Param("standard deviation of the observer's noise, as a part of the grey scale", gt=0)
    ] = math.sqrt(2) / 255

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data_range is None:
            raise ValueError(
                "vif needs the width of the grey scale, to which the observer's noise is tied: data_range=1 for images "
                "in [0, 1], 255 for 8 bits"
            )
        _check_data_range(self.name, self.data_range)
        if not (math.isfinite(self.noise) and self.noise > 0):
            raise ValueError(f"vif: noise must be a positive part of the grey scale, got {self.noise}")
        if self.region is not None:
            raise ValueError(
                "vif: coarse scales have no regions; compare whole images, or cut the region out"
            )
        if self.complex_images != "magnitude":
            raise ValueError("vif compares magnitudes; it has no meaning for complex differences")

    def _compare(self, image: Tensor, reference: Tensor, region: Tensor | None) -> Tensor:
        if image.ndim < 3 or min(image.shape[-2:]) < SMALLEST:
            raise ValueError(
                f"vif compares images of {SMALLEST} x {SMALLEST} pixels or more, got items of shape "
                f"{tuple(image.shape[1:])}"
            )
        assert self.data_range is not None
        unit = self.noise * _data_range(self.name, self.data_range, reference, None)
        unit = unit.reshape(-1, *(1,) * (image.ndim - 1))
        lead, plane = image.shape[:-2], image.shape[-2:]
        seen, whole = _information((image / unit).reshape(-1, *plane), (reference / unit).reshape(-1, *plane))
        if bool((reference.amax((-2, -1)) == reference.amin((-2, -1))).any()):
            raise ValueError("vif: a reference is constant and holds no information; use mse or rmse instead")
        return (seen / whole).reshape(lead).flatten(1).mean(1) if len(lead) > 1 else seen / whole

    def _resolved(self, image: Tensor, reference: Tensor, item_ndim: int) -> str:
        assert self.data_range is not None
        return _resolved_range(self, self.data_range, image, reference, item_ndim)

    def _terms(self, resolved: str) -> list[str]:
        assert self.data_range is not None
        return [
            f"grey scale {_range_in_words(self.data_range, resolved)}",
            f"observer's noise {self.noise:.4g} of it",
            "pixel domain, 4 scales",
        ]


def _information(image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """What is seen in images ``(N, H, W)`` and what in their references, with an observer's noise of 1."""
    seen = image.new_zeros(len(image))
    whole = image.new_zeros(len(image))
    for scale in range(SCALES):
        window = _window(2 ** (SCALES - scale) + 1)
        if scale:
            image, reference = (_smooth(x, window)[:, ::2, ::2] for x in (image, reference))
        mean, mean_reference = _smooth(image, window), _smooth(reference, window)
        variance = (_smooth(image.square(), window) - mean.square()).clamp_min(0)
        variance_reference = (_smooth(reference.square(), window) - mean_reference.square()).clamp_min(0)
        covariance = _smooth(image * reference, window) - mean * mean_reference
        tiny = 1e-10
        gain = torch.where(variance_reference > tiny, covariance / variance_reference.clamp_min(tiny), 0)
        gain = gain.clamp_min(0)  # an inverted structure is no information
        rest = (variance - gain * covariance).clamp_min(0)
        seen = seen + torch.log1p(gain.square() * variance_reference / (rest + 1)).sum((1, 2))
        whole = whole + torch.log1p(variance_reference).sum((1, 2))
    return seen, whole


def _window(side: int) -> list[float]:
    """Weights of a Gaussian window whose standard deviation is a fifth of its side."""
    offsets = torch.arange(side, dtype=torch.float64) - side // 2
    weights = torch.exp(-0.5 * (5 * offsets / side).square())
    normalised: list[float] = (weights / weights.sum()).tolist()
    return normalised


def _smooth(x: Tensor, window: list[float]) -> Tensor:
    """Weighted means over every window that lies inside ``(N, H, W)``; the weights are separable."""
    for axis in (-2, -1):
        centres = x.shape[axis] - len(window) + 1
        total = torch.zeros_like(x.narrow(axis, 0, centres))
        for shift, weight in enumerate(window):
            total = total.add(x.narrow(axis, shift, centres), alpha=weight)
        x = total
    return x
