"""End-to-end training: the fit loop, what it is shown, what it minimises, and the files it writes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recon.training.adversarial import Adversarial as Adversarial
    from recon.training.cyclegan import CycleGAN as CycleGAN
    from recon.training.losses import Loss as Loss
    from recon.training.losses import OneMinusSSIM as OneMinusSSIM
    from recon.training.losses import as_loss as as_loss
    from recon.training.noise2inverse import Noise2Inverse as Noise2Inverse
    from recon.training.objective import Batch as Batch
    from recon.training.objective import Fit as Fit
    from recon.training.objective import Objective as Objective
    from recon.training.objective import Setting as Setting
    from recon.training.pairing import from_two_folders as from_two_folders
    from recon.training.perceptual import VGG19 as VGG19
    from recon.training.schedules import make_schedule as make_schedule
    from recon.training.sources import Images as Images
    from recon.training.sources import Measurements as Measurements
    from recon.training.sources import Pairs as Pairs
    from recon.training.sources import Unpaired as Unpaired
    from recon.training.sources import as_source as as_source
    from recon.training.ssdu import SSDU as SSDU
    from recon.training.supervised import Denoising as Denoising
    from recon.training.supervised import Supervised as Supervised
    from recon.training.transforms import Augmentation as Augmentation
    from recon.training.wgan import WGAN as WGAN

_HOMES = {
    "Adversarial": "adversarial",
    "Augmentation": "transforms",
    "Batch": "objective",
    "CycleGAN": "cyclegan",
    "Denoising": "supervised",
    "Fit": "objective",
    "Images": "sources",
    "Loss": "losses",
    "Measurements": "sources",
    "Noise2Inverse": "noise2inverse",
    "Objective": "objective",
    "OneMinusSSIM": "losses",
    "Pairs": "sources",
    "SSDU": "ssdu",
    "Setting": "objective",
    "Supervised": "supervised",
    "Unpaired": "sources",
    "VGG19": "perceptual",
    "WGAN": "wgan",
    "as_loss": "losses",
    "as_source": "sources",
    "from_two_folders": "pairing",
    "make_schedule": "schedules",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'recon.training' has no attribute {name!r}")
    return getattr(import_module(f"recon.training.{_HOMES[name]}"), name)
