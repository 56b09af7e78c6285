"""The published U-Nets: their numbers of weights, layer by layer, and the parts that tell them apart."""

import itertools

import pytest
import torch
from recon_networks import AdlerUNet, DivalUNet, FastMRIUNet, FBPConvNet
from recon_networks.encoder_decoder import Block, Design, EncoderDecoder
from torch import nn
from torch.nn import functional

WIDTHS = (64, 128, 256, 512, 1024)


def weights(kind, **arguments):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in kind(**arguments).parameters())


def convolution(before, after, side=3, offset=1):
    return before * after * side**2 + offset * after


def test_fbpconvnet_has_the_weights_of_its_code():
    def layer(before, after):  # with the scale and the offset of its batch norm
        return convolution(before, after) + 2 * after

    total = layer(1, 64) + 2 * layer(64, 64)
    total += sum(layer(a, 2 * a) + layer(2 * a, 2 * a) for a in WIDTHS[:-1])
    total += sum(layer(2 * a, a) + layer(2 * a, a) + layer(a, a) for a in WIDTHS[:-1])
    assert weights(FBPConvNet) == total + convolution(64, 1, side=1)


def test_the_fastmri_unet_has_the_published_number_of_weights():
    assert weights(FastMRIUNet) == 7_756_097  # printed by its code
    assert 496e6 < weights(FastMRIUNet, width=256) < 497e6


def test_adlers_unet_is_the_original_one():
    assert weights(AdlerUNet) == 31_030_593  # Ronneberger et al. with padding, one channel in and out


@pytest.mark.parametrize("widths", [(32, 32, 64, 64, 128), (64, 64, 128, 128, 256)])
def test_the_dival_unet_has_the_weights_of_its_code(widths):
    total = convolution(1, widths[0]) + 2 * widths[0]
    for before, after in itertools.pairwise(widths):
        total += convolution(before, after) + convolution(after, after) + 4 * after
        joined, skip = after + 4, convolution(before, 4, side=1) + 8
        total += 2 * joined + convolution(joined, before) + convolution(before, before) + 4 * before + skip
    assert weights(DivalUNet, widths=widths) == total + convolution(widths[0], 1, side=1)


def test_the_cropped_transposed_convolution_is_that_of_the_paper():
    """MatConvNet's crop [0 1 0 1]: the last row and column of the full result go."""
    torch.manual_seed(0)
    join = FBPConvNet(width=2, scales=2).double().eval().decoder[0]
    coarse, fine = torch.randn(1, 4, 4, 5, dtype=torch.float64), torch.randn(1, 2, 8, 10, dtype=torch.float64)
    full = functional.conv_transpose2d(coarse, join.transposed.weight, join.transposed.bias, stride=2)
    assert full.shape[-2:] == (9, 11)
    wanted = join.block(torch.cat([join.after(full[..., :-1, :-1]), fine], 1))
    torch.testing.assert_close(join(coarse, fine), wanted)


@pytest.mark.parametrize("kind", [FBPConvNet, AdlerUNet])
def test_a_residual_unet_adds_to_its_input(kind):
    network = kind(width=2, scales=2)
    nn.init.zeros_(network.last.weight)
    nn.init.zeros_(network.last.bias)
    x = torch.randn(1, 1, 9, 12)
    assert torch.equal(network(x), x)


@pytest.mark.parametrize("shape", [(16, 16), (17, 15), (3, 20), (1, 1)])
@pytest.mark.parametrize("down", ["max", "average", "stride"])
@pytest.mark.parametrize("up", ["transposed", "bilinear"])
def test_every_size_comes_back(shape, down, up):
    design = Design(widths=(2, 3, 4), norm="instance", down=down, up=up)
    network = EncoderDecoder(2, 1, design)
    assert network(torch.randn(2, 2, *shape)).shape == (2, 1, *shape)


def test_separable_convolutions_have_one_filter_a_channel():
    block = Block(6, 10, Design(separable=True, norm="none"), convolutions=1)
    depthwise, pointwise = block.layers[0], block.layers[1]
    assert depthwise.groups == 6 and depthwise.weight.shape == (6, 1, 3, 3)
    assert pointwise.weight.shape == (10, 6, 1, 1)
    x = torch.randn(1, 6, 5, 5)
    kernel = torch.einsum("oc,cij->ocij", pointwise.weight[..., 0, 0], depthwise.weight[:, 0])
    wanted = functional.relu(functional.conv2d(x, kernel, pointwise.bias, padding=1))
    torch.testing.assert_close(block(x), wanted, rtol=1e-4, atol=1e-5)


def test_dilation_widens_what_the_coarsest_scale_sees():
    def seen(dilation):
        network = EncoderDecoder(1, 1, Design(widths=(2, 2), norm="none", dilation=dilation, down="average"))
        for weight in network.parameters():
            nn.init.constant_(weight, 0.1)  # positive: no ReLU cuts the gradient
        x = torch.rand(1, 1, 64, 64).requires_grad_()
        network(x)[0, 0, 32, 32].backward()
        rows = (x.grad[0, 0] != 0).any(1).nonzero()
        return int(rows.max() - rows.min()) + 1

    assert (
        seen(3) == seen(1) + 2 * 2 * 2 * 2
    )  # two convolutions reach two pixels of 2 x 2 further, on both sides


def test_a_block_adds_its_input():
    torch.manual_seed(0)
    plain = Block(2, 2, Design(norm="none"), 2)
    residual = Block(2, 2, Design(norm="none", block_residual=True), 2)
    residual.load_state_dict(plain.state_dict())
    x = torch.randn(1, 2, 6, 6)
    torch.testing.assert_close(residual(x), x + plain(x))


def test_dropout_is_for_training_alone():
    network = FastMRIUNet(width=4, scales=2, dropout=0.5)
    x = torch.randn(1, 1, 16, 16)
    assert not torch.equal(network.train()(x), network(x))
    assert torch.equal(network.eval()(x), network(x))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"widths": (4,)}, "two scales or more"),
        ({"kernel": 4}, "kernel must be odd"),
        ({"down": "min"}, "down must be"),
        ({"up": "nearest"}, "up must be"),
        ({"dropout": 1.0}, "probability below 1"),
    ],
)
def test_a_design_says_what_does_not_fit(options, words):
    with pytest.raises(ValueError, match=words):
        Design(**options)
