"""The deep image prior's networks: their published sizes, their layers, and images of any shape."""

from __future__ import annotations

import pytest
import torch
from recon_networks import ConvDecoder, DeepDecoder, DeepImagePrior, DIPResNet, DIPUNet, Skip
from recon_networks.blocks import LanczosHalving, weights_of
from recon_networks.dip_presets import PRESETS
from torch import nn

import recon
from recon.solvers.parallel_networks import ParallelNetworks

PUBLISHED = {
    "denoise": (3, 2_217_831),
    "jpeg": (3, 572_827),
    "inpaint_region": (3, 2_157_955),
    "inpaint_text": (3, 3_002_627),
    "inpaint_library": (3, 2_996_467),
    "restore_half": (1, 2_217_573),
    "restore_few": (3, 1_027_379),
    "super_resolution_x4": (3, 2_217_831),
    "super_resolution_x8": (3, 2_217_831),
}
"""Colours of the image and weights of the network, in the notebooks of Deep Image Prior."""


@pytest.mark.parametrize("preset", PUBLISHED)
def test_presets_have_as_many_weights_as_published(preset: str) -> None:
    colours, weights = PUBLISHED[preset]
    shape = (512, 512) if colours == 1 else (colours, 512, 512)
    assert weights_of(DeepImagePrior(preset, shape=shape).network) == weights  # type: ignore[arg-type]


def test_deep_decoders_have_as_many_weights_as_published() -> None:
    assert weights_of(DeepDecoder(out_channels=3, filters=128)) == 100_224
    assert weights_of(DeepDecoder(out_channels=4, filters=256)) == 397_312


def test_the_layers_of_skip_are_those_of_the_paper() -> None:
    """Every layer of one scale by hand, in the paper's order."""
    torch.manual_seed(0)
    network = Skip(2, 1, down=(3,), up=(4,), skip=2)
    x = torch.rand(1, 2, 8, 10)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [(c.kernel_size[0], c.stride[0]) for c in convolutions] == [
        (1, 1),
        (3, 2),
        (3, 1),
        (3, 1),
        (1, 1),
        (1, 1),
    ]
    assert all(c.bias is not None for c in convolutions)
    across, halving, second, up, mixing, last = convolutions

    def normalised(z: torch.Tensor) -> torch.Tensor:
        mean, variance = z.mean((0, 2, 3), keepdim=True), z.var((0, 2, 3), keepdim=True, unbiased=False)
        return (z - mean) / (variance + 1e-5).sqrt()  # weights of a new layer: 1 and 0

    def active(z: torch.Tensor) -> torch.Tensor:
        return torch.where(z > 0, z, 0.2 * z)

    deep = active(normalised(second(active(normalised(halving(x))))))
    deep = nn.functional.interpolate(deep, scale_factor=2, mode="bilinear", align_corners=False)
    joined = normalised(torch.cat([active(normalised(across(x))), deep], 1))
    image = last(active(normalised(mixing(active(normalised(up(joined)))))))
    assert torch.allclose(network(x), image.sigmoid(), atol=1e-6)
    network.eval()
    assert torch.allclose(network(x), image.sigmoid(), atol=1e-6), "statistics are those of the image, always"


def test_a_lanczos_halving_keeps_a_ramp() -> None:
    """Its weights sum to 1 and are symmetric, so that a linear image is sampled half a pixel further on."""
    for lobes in (2, 3):
        ramp = torch.arange(40.0).reshape(1, 1, 1, 40).expand(1, 2, 40, 40)
        halved = LanczosHalving(2, 2, lobes)(ramp)
        assert halved.shape == (1, 2, 20, 20)
        assert torch.allclose(halved[..., 5:-5], ramp[..., ::2, ::2][..., 5:-5] + 0.5, atol=1e-4)


NETWORKS = {
    "skip": lambda axes: Skip(2, 3, (4, 5, 6), up=(3, 4, 5), skip=(0, 1, 2), axes=axes),
    "skip, nearest, average": lambda axes: Skip(
        2, 3, (4, 5), upsample="nearest", downsample="avg", axes=axes
    ),
    "skip, maximum": lambda axes: Skip(2, 3, (4, 5), downsample="max", padding="zero", axes=axes),
    "skip, Lanczos": lambda axes: Skip(2, 3, (4, 5), downsample="lanczos3", mixing=False, axes=axes),
    "deep decoder": lambda axes: DeepDecoder(2, 3, 6, 2, axes=axes),
    "deep decoder, enlarging first": lambda axes: DeepDecoder(2, 3, 6, 2, upsample_first=True, axes=axes),
    "ConvDecoder": lambda axes: ConvDecoder(2, 3, 6, 3, axes=axes),
    "U-Net": lambda axes: DIPUNet(2, 3, 16, axes=axes),
    "U-Net, deeper": lambda axes: DIPUNet(
        2, 3, 16, more_layers=1, norm="batch", upsample="bilinear", axes=axes
    ),
    "U-Net, input everywhere": lambda axes: DIPUNet(
        2, 3, 16, concat_input=True, upsample="nearest", norm="none", axes=axes
    ),
    "ResNet": lambda axes: DIPResNet(2, 3, 2, 4, axes=axes),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(64, 64), (35, 70), (33, 36, 40)])
def test_they_make_images_of_the_shape_of_their_input(name: str, shape: tuple[int, ...]) -> None:
    network = NETWORKS[name](len(shape))
    image = network(torch.rand(2, 2, *shape))
    assert image.shape == (2, 3, *shape)
    image.sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())
    if network.value_range is not None:
        assert bool(((image >= 0) & (image <= 1)).all())


def test_decoders_make_an_image_from_a_coarse_input() -> None:
    network = DeepDecoder(2, 1, 4, 3, shape=(50, 64))
    assert network.input_shape((50, 64)) == (7, 8)
    assert network(torch.rand(1, 2, 7, 8)).shape == (1, 1, 50, 64)
    with pytest.raises(ValueError, match=r"from inputs of \(7, 8\), got \(8, 8\)"):
        network(torch.rand(1, 2, 8, 8))
    knee = ConvDecoder(2, 2, 4, 8, coarse=4, shape=(640, 368))
    assert knee.input_shape((640, 368)) == (7, 4)


@pytest.mark.parametrize("preset", [name for name in PRESETS if "inpaint_text" not in name])
def test_every_preset_makes_images(preset: str) -> None:
    generator = DeepImagePrior(preset, shape=(64, 64))  # type: ignore[arg-type]
    assert generator().shape == (1, 1, 64, 64)
    assert generator.advice["lr"] == PRESETS[preset].lr


@pytest.mark.parametrize("network", [Skip(2, 1, down=(8, 8), skip=2), DIPResNet(2, 1, blocks=1, filters=8)])
def test_channels_last_change_nothing_but_the_rounding(network: nn.Module) -> None:
    generator = recon.Generator(network, torch.rand(1, 2, 18, 23))
    images, gradients, seen = [], [], []
    for last in (True, False):
        networks = ParallelNetworks(generator, (18, 23), is_complex=False, together=False)
        assert networks.channels_last, "said by the network"
        networks.channels_last = last
        first = next(layer for layer in networks.network.modules() if isinstance(layer, nn.Conv2d))
        first.register_forward_pre_hook(
            lambda _, x: seen.append(x[0].is_contiguous(memory_format=torch.channels_last))
        )
        theta = networks.first.expand(2, -1).clone().requires_grad_()
        image = networks(theta, generator.fixed_input)
        (gradient,) = torch.autograd.grad(image.square().sum(), theta)
        images.append(image.detach())
        gradients.append(gradient)
    assert seen == [True, True, False, False]
    torch.testing.assert_close(images[0], images[1], rtol=1e-5, atol=1e-5)  # sums of up to 72 products
    assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 1e-4


def test_the_input_is_fitted_too_where_asked() -> None:
    y = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    settings = {"filters": (4,), "depth": 2, "skip": 0}
    fixed, learnt = (DeepImagePrior("small_128", learn_input=learn, **settings) for learn in (False, True))
    twins = [prior.for_images((16, 16), is_complex=False, seed=3, like=y) for prior in (fixed, learnt)]
    torch.testing.assert_close(twins[0](), twins[1]())  # the same first image
    assert weights_of(twins[1]) == weights_of(twins[0]) + 2 * 16 * 16
    stop = recon.MaxIterations(20)
    solver = recon.DIP(reg_noise=0.0, average=0.0)
    losses = [
        recon.solve(recon.Identity((16, 16)), prior, y, solver=solver, stop=stop).history["loss"][-1]
        for prior in (fixed, learnt)
    ]
    assert losses[1] < losses[0], "more weights, a closer fit"


@pytest.mark.parametrize(
    ("settings", "shape", "words"),
    [
        ({"network": "dncnn"}, (16, 16), "no out_channels"),
        ({"network": "learned_primal_dual"}, (16, 16), "no channels"),
        ({}, (2, 16), "at least 3 pixels"),
        ({"shape": (8, 8)}, (16, 16), "leave shape out"),
    ],
)
def test_what_it_cannot_make_is_refused_in_words(settings: dict, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        recon.solve(recon.Identity(shape), recon.prior("dip", **settings), torch.rand(shape))


def test_wrong_settings_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="one for each of 2 scales, got \\(1, 2, 3\\)"):
        Skip(1, 1, (4, 4), skip=(1, 2, 3))
    with pytest.raises(ValueError, match="upsample"):
        Skip(1, 1, (4, 4), upsample=("nearest",))
    with pytest.raises(ValueError, match="odd side"):
        Skip(1, 1, (4, 4), kernel_down=4)
    with pytest.raises(ValueError, match="smaller feature_scale"):
        DIPUNet(32, 1, 4, concat_input=True)
    with pytest.raises(ValueError, match="output"):
        Skip(1, 1, (4,), output="tanh")  # type: ignore[arg-type]
