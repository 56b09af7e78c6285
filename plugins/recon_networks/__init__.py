"""Networks and the learned priors made of them; this module only registers them and imports nothing heavy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recon.entries import Example, NetworkEntry, PriorEntry
from recon.hookspecs import hookimpl

if TYPE_CHECKING:
    from recon_networks.decoders import ConvDecoder as ConvDecoder
    from recon_networks.decoders import DeepDecoder as DeepDecoder
    from recon_networks.deep_image_prior import DeepImagePrior as DeepImagePrior
    from recon_networks.dip_unet import DIPResNet as DIPResNet
    from recon_networks.dip_unet import DIPUNet as DIPUNet
    from recon_networks.skip import Skip as Skip

_CLASSES: dict[str, str] = {
    "ConvDecoder": "decoders",
    "DIPResNet": "dip_unet",
    "DIPUNet": "dip_unet",
    "DeepDecoder": "decoders",
    "DeepImagePrior": "deep_image_prior",
    "Skip": "skip",
}
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
            name="skip",
            factory="recon_networks.skip:Skip",
            summary="encoder and decoder with narrow skip connections, of Deep Image Prior",
            examples=(
                Example({"channels": 2, "down": (4, 6), "skip": 2}),
                Example({"channels": 1, "down": (4, 4), "skip": (0, 2), "axes": 3, "downsample": "avg"}),
            ),
        ),
        NetworkEntry(
            name="deep_decoder",
            factory="recon_networks.decoders:DeepDecoder",
            summary="decoder of 1x1 convolutions with fewer weights than the image has pixels",
            examples=(Example({"channels": 2, "filters": 4, "scales": 2}),),
        ),
        NetworkEntry(
            name="conv_decoder",
            factory="recon_networks.decoders:ConvDecoder",
            summary="decoder of 3x3 convolutions for accelerated MRI without training",
            examples=(Example({"channels": 2, "filters": 4, "layers": 3}),),
        ),
        NetworkEntry(
            name="dip_unet",
            factory="recon_networks.dip_unet:DIPUNet",
            summary="the U-Net of Deep Image Prior",
            examples=(Example({"channels": 2, "feature_scale": 32}),),
        ),
        NetworkEntry(
            name="dip_resnet",
            factory="recon_networks.dip_unet:DIPResNet",
            summary="the residual network of Deep Image Prior",
            examples=(Example({"channels": 2, "blocks": 2, "filters": 4}),),
        ),
    ]


@hookimpl
def recon_priors() -> list[PriorEntry]:
    """The priors of this package."""
    return [
        PriorEntry(
            name="dip",
            factory="recon_networks.deep_image_prior:DeepImagePrior",
            summary="deep image prior: an untrained network fitted to the data alone",
            convex=False,
            examples=(
                Example({"filters": 4, "scales": 2, "depth": 2, "shape": (9, 12)}),
                Example({"filters": 4, "scales": 2, "input": "meshgrid", "shape": (3, 8, 8)}),
                Example({"network": "deep_decoder:filters=4,scales=2", "depth": 3, "shape": (8, 8)}),
            ),
        ),
    ]
