"""The published architectures: their numbers of weights, what their options do, what one value sees."""

import itertools

import pytest
import torch
from recon_networks import (
    REDCNN,
    SCAE,
    SNLAE,
    DnCNN,
    PatchGAN,
    ResNetGenerator,
    SplittingDiscriminator,
    WGANVGGCritic,
    WGANVGGGenerator,
)
from torch import nn
from torch.nn import functional


def weights(kind, **arguments):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in kind(**arguments).parameters())


@pytest.mark.parametrize(
    ("kind", "arguments", "published"),
    [
        (WGANVGGGenerator, {}, 56_097),
        (WGANVGGCritic, {}, 17_923_521),
        (WGANVGGCritic, {"padding": 0}, 7_699_905),
        (WGANVGGCritic, {"padding": 0, "size": 80}, 13_991_361),
        (REDCNN, {}, 1_848_865),
        (SCAE, {}, 185_217),
        (DnCNN, {}, 556_097),
        (SplittingDiscriminator, {}, 123_921),
        (
            ResNetGenerator,
            {"in_channels": 3, "convolutions": 2, "norm": "instance", "residual": "none"},
            11_378_179,  # 11.378 M, printed by the authors' code
        ),
        (PatchGAN, {"in_channels": 3}, 2_764_737),  # 2.765 M, printed by the authors' code
    ],
)
def test_the_number_of_weights_is_the_published_one(kind, arguments, published):
    assert weights(kind, **arguments) == published


def test_snlae_has_six_full_layers_of_the_published_widths():
    with torch.device("meta"):
        layers = [layer for layer in SNLAE().layers if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in layers] == [512, 1024, 2048, 1024, 512, 64]
    assert layers[0].in_features == 4 * 64


@pytest.mark.parametrize(
    ("options", "side"),
    [({}, 70), ({"stride_one_block": False}, 46), ({"layers": 1}, 16), ({"layers": 2}, 34)],
)
def test_the_receptive_field_of_a_patchgan_is_what_its_gradient_says(options, side):
    critic = PatchGAN(width=2, norm="none", **options).double()
    assert critic.receptive_field == side
    x = torch.randn(1, 1, 160, 160, dtype=torch.float64, requires_grad=True)
    values = critic(x)
    middle = values.shape[-1] // 2
    values[0, 0, middle, middle].backward()
    seen = (x.grad[0, 0] != 0).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [side, side]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("block", [True, False])
def test_the_smallest_image_of_a_patchgan_gives_one_value(layers, block):
    critic = PatchGAN(width=2, layers=layers, stride_one_block=block)
    side = critic.smallest
    assert critic(torch.randn(1, 1, side, side)).shape == (1, 1, 1, 1)
    with pytest.raises(ValueError, match=f"needs images of {side} pixels"):
        critic(torch.randn(1, 1, side, side - 1))


def test_critics_have_no_sigmoid():
    for critic in (
        WGANVGGCritic(size=16, widths=(3, 4), features=5),
        PatchGAN(width=3),
        SplittingDiscriminator(),
    ):
        assert not any(isinstance(layer, nn.Sigmoid | nn.Tanh) for layer in critic.modules())
        side = getattr(critic, "size", 64)
        x = 1e4 * torch.randn(2, 1, side, side)
        list(critic.parameters())[-1].data.fill_(7.0)  # the last offset
        assert float(critic(x).detach().abs().max()) > 1


def test_a_critic_of_patches_refuses_another_size():
    with pytest.raises(ValueError, match=r"64 x 64 pixels, got 32 x 64.*size=64"):
        WGANVGGCritic(widths=(1, 1))(torch.zeros(1, 1, 32, 64))
    with pytest.raises(ValueError, match="too small for 6 convolutions"):
        WGANVGGCritic(size=16, padding=0)


def test_red_cnn_joins_the_fourth_layer_the_second_and_the_image():
    torch.manual_seed(0)
    network = REDCNN(width=4).double()
    x = torch.rand(2, 1, 24, 25, dtype=torch.float64)
    e = [lambda t, layer=layer: functional.conv2d(t, layer.weight, layer.bias) for layer in network.encoder]
    d = [
        lambda t, layer=layer: functional.conv_transpose2d(t, layer.weight, layer.bias)
        for layer in network.decoder
    ]
    relu = functional.relu
    second = relu(e[1](relu(e[0](x))))
    fourth = relu(e[3](relu(e[2](second))))
    up = relu(d[0](relu(e[4](fourth))) + fourth)
    up = relu(d[2](relu(d[1](up))) + second)
    wanted = relu(d[4](relu(d[3](up))) + x)
    torch.testing.assert_close(network(x), wanted)
    with pytest.raises(ValueError, match="needs images of 21"):
        network(x[..., :20])


def test_the_last_relu_of_wgan_vgg_can_go():
    torch.manual_seed(0)
    x = torch.randn(1, 1, 9, 9)
    published = WGANVGGGenerator()
    assert float(published(x).detach().min()) >= 0
    open_ended = WGANVGGGenerator(last_relu=False)
    open_ended.load_state_dict(published.state_dict())
    assert torch.equal(open_ended(x).clamp_min(0), published(x))
    residual = WGANVGGGenerator(last_relu=False, residual=True)
    residual.load_state_dict(published.state_dict())
    torch.testing.assert_close(residual(x) - x, open_ended(x))


def test_where_the_tanh_of_the_resnet_generator_stands():
    torch.manual_seed(0)
    x = 3 * torch.randn(1, 1, 16, 13)
    options = {"width": 2, "blocks": 1, "norm": "instance"}
    plain = ResNetGenerator(residual="identity", tanh="none", **options)
    before = ResNetGenerator(residual="identity", tanh="before", **options)
    after = ResNetGenerator(residual="identity", tanh="after", **options)
    for network in (before, after):
        network.load_state_dict(plain.state_dict())
    torch.testing.assert_close(after(x), torch.tanh(plain(x)))
    torch.testing.assert_close(before(x), x + torch.tanh(plain(x) - x))


def test_the_learned_residual_is_a_convolution_of_the_input():
    network = ResNetGenerator(width=2, blocks=1)
    last = network.layers[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    x = torch.randn(1, 1, 9, 8)
    wanted = torch.tanh(network.shortcut.weight * x + network.shortcut.bias)
    torch.testing.assert_close(network(x), wanted)


def test_blocks_of_one_convolution_end_in_a_relu_those_of_two_do_not():
    one, two = (ResNetGenerator(width=2, blocks=1, convolutions=n).layers[10].layers for n in (1, 2))
    assert [type(layer).__name__ for layer in one] == ["ReflectionPad2d", "Conv2d", "BatchNorm2d", "ReLU"]
    assert [type(layer).__name__ for layer in two] == [
        *("ReflectionPad2d", "Conv2d", "BatchNorm2d", "ReLU"),
        *("ReflectionPad2d", "Conv2d", "BatchNorm2d"),
    ]


def test_the_start_values_of_players():
    torch.manual_seed(0)
    network = ResNetGenerator(width=32, blocks=2)
    convolution, norm = network.layers[4], network.layers[5]
    assert abs(float(convolution.weight.detach().std()) - 0.02) < 0.001  # 18,432 values: 0.5 % error
    assert abs(float(norm.weight.detach().mean()) - 1) < 0.01


def test_dncnn_subtracts_the_noise_that_it_predicts():
    torch.manual_seed(0)
    noise = DnCNN(width=4, depth=4, residual=False).eval()
    denoiser = DnCNN(width=4, depth=4).eval()
    denoiser.load_state_dict(noise.state_dict())
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(denoiser(x), x - noise(x))


class FirstPatch(nn.Module):
    """The patch itself, out of a group less its mean."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def forward(self, groups):
        return groups[..., : self.values]


def test_patches_of_snlae_are_put_back_where_they_were():
    network = SNLAE(in_channels=2, patch=4, stride=3, search=2, similar=3)
    network.layers = FirstPatch(2 * 16)
    x = torch.randn(2, 2, 11, 15, dtype=torch.float64)
    torch.testing.assert_close(network(x), x)


def test_snlae_finds_the_most_similar_patches():
    torch.manual_seed(0)
    network = SNLAE(patch=3, stride=2, search=2, similar=4)
    x = torch.randn(1, 1, 9, 8, dtype=torch.float64)
    rows, columns = (network._places(side, x.device) for side in (9, 8))
    assert rows.tolist() == [0, 2, 4, 6] and columns.tolist() == [0, 2, 4, 5]
    found = network._matches(x, rows, columns)[0]
    image = x[0, 0]

    def patch(i, j):
        return image[i : i + 3, j : j + 3]

    for place, (i, j) in enumerate(itertools.product(rows.tolist(), columns.tolist())):
        near = [
            (float((patch(a, b) - patch(i, j)).square().sum()), a * 8 + b)
            for a in range(max(0, i - 2), min(6, i + 2) + 1)
            for b in range(max(0, j - 2), min(5, j + 2) + 1)
        ]
        assert found[place].tolist() == [pixel for _, pixel in sorted(near)[:4]]


def test_snlae_says_what_does_not_fit():
    with pytest.raises(ValueError, match="holds no patch of 8"):
        SNLAE(widths=(2,))(torch.zeros(1, 1, 7, 9))
    with pytest.raises(ValueError, match="only 2 patches of 8 are within"):
        SNLAE(widths=(2,))(torch.zeros(1, 1, 8, 9))
    with pytest.raises(ValueError, match="leaves gaps"):
        SNLAE(patch=4, stride=5)
    with pytest.raises(ValueError, match="fewer than similar=4"):
        SNLAE(search=0)
