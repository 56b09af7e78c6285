"""Networks and the learned priors made of them; this module only registers them and imports nothing heavy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recon.entries import Example, NetworkEntry, PriorEntry
from recon.hookspecs import hookimpl

if TYPE_CHECKING:
    from recon_networks.drunet import DRUNet as DRUNet
    from recon_networks.unet import UNet as UNet

_CLASSES: dict[str, str] = {"DRUNet": "drunet", "UNet": "unet"}
__all__ = sorted(_CLASSES)


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module 'recon_networks' has no attribute {name!r}")
    return getattr(import_module(f"recon_networks.{_CLASSES[name]}"), name)


@hookimpl
def recon_networks() -> list[NetworkEntry]:
    """The architectures of this package."""
    return [
        NetworkEntry(
            name="unet",
            factory="recon_networks.unet:UNet",
            summary="U-Net: two convolutions a level, skips; residual by default",
            examples=(Example({"channels": 4, "levels": 2}),),
        ),
        NetworkEntry(
            name="drunet",
            factory="recon_networks.drunet:DRUNet",
            summary="DRUNet: denoiser of a given noise level, residual blocks without biases",
            examples=(
                Example({"channels": (4, 8), "blocks": 1}),
                Example({"channels": (4, 8), "shuffle": 2}),
            ),
        ),
    ]


@hookimpl
def recon_priors() -> list[PriorEntry]:
    """The priors of this package."""
    return [
        PriorEntry(
            name="drunet",
            factory="recon_networks.shipped:drunet",
            summary="trained denoiser that ships with the package, for plug-and-play: photographs, CT, MR",
            tags=("plug-and-play",),
        ),
    ]
