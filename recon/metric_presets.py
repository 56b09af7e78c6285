"""The metrics of published protocols by name, each with its whole convention."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from recon.metrics import MSE, NMSE, PSNR, RMSE, SSIM, Metric
from recon.published_metrics import GlobalSSIM, RegressedSNR
from recon.visual_information import VIF

_SOFT_TISSUE = (-160.0, 240.0)
_LDCT = (-1024.0, 1900.0)  # HU + 1024 in [0, 2924]
_ABOVE_AIR = (-1000.0, math.inf)


@dataclass(frozen=True)
class Preset:
    """The metrics of one published protocol, and what its images must be."""

    summary: str
    metrics: tuple[Metric, ...]


def _window_metrics(centre: float, width: float) -> tuple[Metric, ...]:
    clip = (centre - width / 2, centre + width / 2)
    return (
        PSNR(data_range=width, clip=clip),
        SSIM(data_range=width, clip=clip),
        RMSE(clip=_LDCT),
        VIF(data_range=_LDCT[1] - _LDCT[0], noise=math.sqrt(2) / (_LDCT[1] - _LDCT[0]), clip=_LDCT),
    )


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "skimage": Preset(
            "scikit-image's functions on images in [0, 1]", (PSNR(data_range=1.0), SSIM(data_range=1.0))
        ),
        "dip": Preset("Ulyanov's deep image prior notebooks, images in [0, 1]", (PSNR(data_range=1.0),)),
        "dival": Preset(
            "dival and LoDoPaB-CT: range max - min of each reference",
            (PSNR(data_range="max-min"), SSIM(data_range="max-min")),
        ),
        "lodopab_fr": Preset(
            "LoDoPaB-CT challenge, fixed range: attenuation divided by its maximum, in [0, 1]",
            (PSNR(data_range=1.0), SSIM(data_range=1.0)),
        ),
        "fastmri": Preset(
            "fastMRI evaluate.py: magnitude, range max of the volume (item_ndim=3), SSIM mean over slices",
            (NMSE(), PSNR(data_range="max"), SSIM(data_range="max")),
        ),
        "admm_net": Preset(
            "Deep-ADMM-Net: PSNR of the magnitude with peak 1, unsquared NMSE of the complex difference",
            (PSNR(data_range=1.0), NMSE(squared=False, complex_images="difference")),
        ),
        "red_cnn": Preset(
            "RED-CNN and CTformer on HU: clipped to [-160, 240], range 400, gaussian SSIM with zero padding",
            (
                PSNR(data_range=400.0, clip=_SOFT_TISSUE),
                SSIM(data_range=400.0, clip=_SOFT_TISSUE, weights="gaussian", padding="zero"),
                RMSE(clip=_SOFT_TISSUE),
            ),
        ),
        "yang": Preset(
            "Yang et al. 2018 (WGAN-VGG) on HU: display window [-160, 240], SSIM of Wang et al.",
            (
                PSNR(data_range=400.0, clip=_SOFT_TISSUE),
                SSIM(data_range=400.0, clip=_SOFT_TISSUE, weights="gaussian"),
            ),
        ),
        "mbouwe": Preset(
            "Mbouwe et al. (WGAN-VGG on LoDoPaB-CT) on images in [0, 1]: peak 1, one SSIM window for the whole image "
            "(they pool batches of two)",
            (PSNR(data_range=1.0), GlobalSSIM()),
        ),
        "park": Preset(
            "Park (CycleGAN on AAPM) on HU: air at 0, peak the maximum of each reference, SSIM with twice that range",
            (
                PSNR(data_range="max", clip=_ABOVE_AIR, shift=1000.0),
                SSIM(data_range="max", K1=0.02, K2=0.06, clip=_ABOVE_AIR, shift=1000.0),
            ),
        ),
        "ssinyu_cyclegan": Preset(
            "SSinyu's CycleGAN on HU: range 4096, which alone makes quarter dose 45 dB",
            (
                PSNR(data_range=4096.0),
                SSIM(data_range=4096.0, weights="gaussian", padding="zero"),
                RMSE(),
            ),
        ),
        "bhutiani": Preset(
            "Bhutiani (U-Net for MRI and CT) names SSIM, PSNR, MSE and VIF without their ranges; here images in [0, 1]",
            (SSIM(data_range=1.0), PSNR(data_range=1.0), MSE(), VIF(data_range=1.0)),
        ),
        "splitting": Preset(
            "Liu et al. 2018 on magnitudes in [0, 1]: peak 1; their SSIM is unstated, here scikit-image's",
            (PSNR(data_range=1.0), SSIM(data_range=1.0)),
        ),
        "fbpconvnet": Preset("FBPConvNet: SNR after the best affine fit to the reference", (RegressedSNR(),)),
        "ramzi": Preset(
            "Ramzi et al. 2020 (fastMRI): magnitude, range max - min of the volume (item_ndim=3)",
            (PSNR(data_range="max-min"), SSIM(data_range="max-min")),
        ),
        "ldct_chest": Preset(
            "ldct-benchmark on HU, chest: centre -600, width 1500", _window_metrics(-600.0, 1500.0)
        ),
        "ldct_abdomen": Preset(
            "ldct-benchmark on HU, abdomen: centre 50, width 400", _window_metrics(50.0, 400.0)
        ),
        "ldct_neuro": Preset("ldct-benchmark on HU, head: centre 40, width 80", _window_metrics(40.0, 80.0)),
    }
)


def preset(name: str, **changes: Any) -> tuple[Metric, ...]:
    """The metrics of a published protocol, by the names of `PRESETS`.

    `changes` replace options of all of them; `water=0.02` applies a protocol on HU to attenuation in 1/mm.

    Raises:
        ValueError: unknown name.
        TypeError: an option that one of the metrics does not have.
    """
    if name not in PRESETS:
        raise ValueError(f"no metric preset {name!r}; there are {', '.join(sorted(PRESETS))}")
    return tuple(dataclasses.replace(metric, **changes) for metric in PRESETS[name].metrics)
