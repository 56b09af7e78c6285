"""Networks and the learned priors made of them; this module only registers them and imports nothing heavy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recon.entries import Example, NetworkEntry, PriorEntry
from recon.hookspecs import hookimpl

if TYPE_CHECKING:
    from recon_networks.adler_unet import AdlerUNet as AdlerUNet
    from recon_networks.admm_net import ADMMNet as ADMMNet
    from recon_networks.decoders import ConvDecoder as ConvDecoder
    from recon_networks.decoders import DeepDecoder as DeepDecoder
    from recon_networks.deep_image_prior import DeepImagePrior as DeepImagePrior
    from recon_networks.dip_unet import DIPResNet as DIPResNet
    from recon_networks.dip_unet import DIPUNet as DIPUNet
    from recon_networks.dival_unet import DivalUNet as DivalUNet
    from recon_networks.dncnn import DnCNN as DnCNN
    from recon_networks.drunet import DRUNet as DRUNet
    from recon_networks.fastmri_unet import FastMRIUNet as FastMRIUNet
    from recon_networks.fbpconvnet import FBPConvNet as FBPConvNet
    from recon_networks.learned_gradient import LearnedGradient as LearnedGradient
    from recon_networks.learned_primal_dual import LearnedPrimalDual as LearnedPrimalDual
    from recon_networks.modl import MoDL as MoDL
    from recon_networks.patchgan import PatchGAN as PatchGAN
    from recon_networks.red_cnn import REDCNN as REDCNN
    from recon_networks.resnet_generator import ResNetGenerator as ResNetGenerator
    from recon_networks.scae import SCAE as SCAE
    from recon_networks.skip import Skip as Skip
    from recon_networks.snlae import SNLAE as SNLAE
    from recon_networks.splitting_discriminator import SplittingDiscriminator as SplittingDiscriminator
    from recon_networks.staged import StagedNetwork as StagedNetwork
    from recon_networks.unet import UNet as UNet
    from recon_networks.variational import VariationalNetwork as VariationalNetwork
    from recon_networks.wgan_vgg import WGANVGGCritic as WGANVGGCritic
    from recon_networks.wgan_vgg import WGANVGGGenerator as WGANVGGGenerator

_CLASSES: dict[str, str] = {
    "ADMMNet": "admm_net",
    "AdlerUNet": "adler_unet",
    "DRUNet": "drunet",
    "DivalUNet": "dival_unet",
    "DnCNN": "dncnn",
    "FBPConvNet": "fbpconvnet",
    "FastMRIUNet": "fastmri_unet",
    "LearnedGradient": "learned_gradient",
    "LearnedPrimalDual": "learned_primal_dual",
    "MoDL": "modl",
    "PatchGAN": "patchgan",
    "REDCNN": "red_cnn",
    "ResNetGenerator": "resnet_generator",
    "SCAE": "scae",
    "SNLAE": "snlae",
    "SplittingDiscriminator": "splitting_discriminator",
    "StagedNetwork": "staged",
    "UNet": "unet",
    "VariationalNetwork": "variational",
    "WGANVGGCritic": "wgan_vgg",
    "WGANVGGGenerator": "wgan_vgg",
    "ConvDecoder": "decoders",
    "DIPResNet": "dip_unet",
    "DIPUNet": "dip_unet",
    "DeepDecoder": "decoders",
    "DeepImagePrior": "deep_image_prior",
    "Skip": "skip",
}
__all__ = sorted(_CLASSES)

BATCH_STATISTICS = {
    "batch_equals_loop": "batch normalisation over the batch at hand, as published; it is fitted to one image"
}


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
            summary="U-Net with every choice open: norm, residuals, dropout, separable or dilated convolutions",
            examples=(
                Example({"channels": 4, "levels": 2}),
                Example(
                    {"channels": 2, "levels": 3, "norm": "batch", "block_residual": True, "dropout": 0.1}
                ),
                Example({"channels": 2, "levels": 2, "residual": False, "separable": True, "dilation": 2}),
                Example({"channels": 2, "levels": 2, "norm": "instance", "down": "stride", "up": "bilinear"}),
            ),
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
        NetworkEntry(
            name="fbpconvnet",
            factory="recon_networks.fbpconvnet:FBPConvNet",
            summary="U-Net with batch norm and a residual (Jin et al. 2017) for filtered back-projections",
            examples=(Example({"channels": 2, "levels": 3}),),
        ),
        NetworkEntry(
            name="fastmri_unet",
            factory="recon_networks.fastmri_unet:FastMRIUNet",
            summary="U-Net with instance norm, the baseline of the fastMRI challenge (Zbontar et al. 2018)",
            examples=(
                Example({"channels": 2, "levels": 3}),
                Example({"channels": 2, "levels": 2, "dropout": 0.2}),
            ),
        ),
        NetworkEntry(
            name="dival_unet",
            factory="recon_networks.dival_unet:DivalUNet",
            summary="slim U-Net of the LoDoPaB-CT and ellipses benchmarks (Leuschner et al. 2021)",
            examples=(Example({"channels": (3, 4, 5), "skip_channels": 2}),),
        ),
        NetworkEntry(
            name="adler_unet",
            factory="recon_networks.adler_unet:AdlerUNet",
            summary="the original U-Net with a residual (Adler and Oktem 2018)",
            examples=(Example({"channels": 2, "levels": 3}),),
        ),
        NetworkEntry(
            name="red_cnn",
            factory="recon_networks.red_cnn:REDCNN",
            summary="RED-CNN (Chen et al. 2017): residual encoder-decoder for low-dose CT",
            examples=(
                Example({"channels": 4}),
                Example({"in_channels": 2, "channels": 3, "last_relu": False}),
            ),
        ),
        NetworkEntry(
            name="dncnn",
            factory="recon_networks.dncnn:DnCNN",
            summary="DnCNN (Zhang et al. 2017): predicts the noise",
            examples=(
                Example({"channels": 4, "depth": 4}),
                Example({"channels": 4, "depth": 4, "norm": "none"}),
            ),
        ),
        NetworkEntry(
            name="scae",
            factory="recon_networks.scae:SCAE",
            summary="stacked convolutional autoencoder (Liu et al. 2018)",
            examples=(Example({"channels": (4, 6, 4)}),),
        ),
        NetworkEntry(
            name="snlae",
            factory="recon_networks.snlae:SNLAE",
            summary="stacked non-local autoencoder (Liu et al. 2018): full layers on groups of similar patches",
            examples=(Example({"widths": (16, 8), "patch": 4, "stride": 3, "search": 2}),),
        ),
        NetworkEntry(
            name="wgan_vgg_generator",
            factory="recon_networks.wgan_vgg:WGANVGGGenerator",
            summary="generator of WGAN-VGG (Yang et al. 2018) for low-dose CT",
            examples=(
                Example({"channels": 4, "depth": 3}),
                Example({"channels": 4, "depth": 3, "last_relu": False, "residual": True}),
            ),
        ),
        NetworkEntry(
            name="wgan_vgg_critic",
            factory="recon_networks.wgan_vgg:WGANVGGCritic",
            summary="critic of WGAN-VGG (Yang et al. 2018): one number a patch, no sigmoid",
            tags=("critic",),
            examples=(
                Example({"size": 16, "channels": (3, 4), "features": 5}),
                Example({"size": 17, "padding": 0, "channels": (3, 4), "features": 5}),
            ),
        ),
        NetworkEntry(
            name="resnet_generator",
            factory="recon_networks.resnet_generator:ResNetGenerator",
            summary="generator of CycleGAN (Zhu et al. 2017, Park): residual blocks between two halvings",
            examples=(
                Example({"channels": 3, "blocks": 2}),
                Example(
                    {"channels": 3, "blocks": 1, "convolutions": 2, "norm": "instance", "residual": "none"}
                ),
                Example({"channels": 3, "blocks": 1, "residual": "identity", "tanh": "before"}),
            ),
        ),
        NetworkEntry(
            name="patchgan",
            factory="recon_networks.patchgan:PatchGAN",
            summary="critic of every patch (Isola et al. 2017), 70 or 46 pixels wide",
            tags=("critic",),
            examples=(
                Example({"channels": 3, "layers": 1}),
                Example({"channels": 3, "layers": 2, "stride_one_block": False, "norm": "batch"}),
            ),
        ),
        NetworkEntry(
            name="splitting_discriminator",
            factory="recon_networks.splitting_discriminator:SplittingDiscriminator",
            summary="discriminator of eight layers (Liu et al. 2018): one logit an image",
            tags=("critic",),
            examples=(Example({"channels": (3, 4, 4, 4, 4, 4, 4)}),),
        ),
        NetworkEntry(
            name="staged",
            factory="recon_networks.staged:StagedNetwork",
            summary="copies of one network, one for each outer loop of a splitting",
            domain="real",
            examples=(
                Example(
                    {"network": ("scae", {"channels": (3, 3)}), "stages": 2},
                    expected_failures={"gradients": "only the copy of the present loop is trained"},
                ),
            ),
        ),
        NetworkEntry(
            name="admm_net",
            factory="recon_networks.admm_net:ADMMNet",
            summary="ADMM-Net (Yang et al. 2016): unrolled ADMM with learned filters and shrinkage",
            tags=("unrolled",),
            examples=(Example({"stages": 2, "filters": 3}),),
        ),
        NetworkEntry(
            name="learned_primal_dual",
            factory="recon_networks.learned_primal_dual:LearnedPrimalDual",
            summary="learned primal-dual (Adler and Oktem 2018), unrolled",
            tags=("unrolled",),
            examples=(Example({"iterations": 2, "primal": 2, "dual": 2, "features": 3, "layers": 2}),),
        ),
        NetworkEntry(
            name="learned_gradient",
            factory="recon_networks.learned_gradient:LearnedGradient",
            summary="learned gradient descent (Adler and Oktem 2017), unrolled",
            tags=("unrolled",),
            examples=(Example({"iterations": 2, "memory": 1, "features": 3, "layers": 2}),),
        ),
        NetworkEntry(
            name="modl",
            factory="recon_networks.modl:MoDL",
            summary="MoDL (Aggarwal et al. 2019): denoiser and data consistency in turn, unrolled",
            tags=("unrolled",),
            examples=(Example({"iterations": 2, "features": 3, "layers": 2}),),
        ),
        NetworkEntry(
            name="variational_network",
            factory="recon_networks.variational:VariationalNetwork",
            summary="variational network with U-Nets (Sriram et al. 2020), unrolled",
            tags=("unrolled",),
            examples=(Example({"cascades": 2, "channels": 3, "levels": 2}),),
        ),
        NetworkEntry(
            name="skip",
            factory="recon_networks.skip:Skip",
            summary="encoder and decoder with narrow skip connections, of Deep Image Prior",
            examples=(
                Example({"channels": 2, "down": (4, 6), "skip": 2}, expected_failures=BATCH_STATISTICS),
                Example(
                    {"channels": 1, "down": (4, 4), "skip": (0, 2), "axes": 3, "downsample": "avg"},
                    expected_failures=BATCH_STATISTICS,
                ),
            ),
        ),
        NetworkEntry(
            name="deep_decoder",
            factory="recon_networks.decoders:DeepDecoder",
            summary="decoder of 1x1 convolutions with fewer weights than the image has pixels",
            examples=(
                Example({"channels": 2, "filters": 4, "scales": 2}, expected_failures=BATCH_STATISTICS),
            ),
        ),
        NetworkEntry(
            name="conv_decoder",
            factory="recon_networks.decoders:ConvDecoder",
            summary="decoder of 3x3 convolutions for accelerated MRI without training",
            examples=(
                Example({"channels": 2, "filters": 4, "layers": 3}, expected_failures=BATCH_STATISTICS),
            ),
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
            examples=(
                Example({"channels": 2, "blocks": 2, "filters": 4}, expected_failures=BATCH_STATISTICS),
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
