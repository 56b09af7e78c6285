"""Any `nn.Module` as a plug-and-play prior: what it is given, and what comes back."""

import copy

import pytest
import torch
from recon_bridges import denoiser
from torch import nn

import recon
from recon.testing import check_prior


class Recorder(nn.Module):
    """Returns its first channels unchanged, and remembers what it was given."""

    def __init__(self, channels=1):
        super().__init__()
        self.channels, self.calls = channels, []

    def forward(self, x):
        self.calls.append((x.clone(),))
        return x[:, : self.channels]


class WithSigma(Recorder):
    def forward(self, x, sigma):
        self.calls.append((x.clone(), sigma))
        return x


class Shrink(nn.Module):
    """Halves the distance from the middle of the range it was made for."""

    def __init__(self, middle):
        super().__init__()
        self.middle = middle

    def forward(self, x):
        return self.middle + (x - self.middle) / 2


X = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(0))
SIGMA = torch.tensor([0.1, 0.2])


@pytest.mark.parametrize(
    ("settings", "module"),
    [
        ({}, nn.Conv2d(1, 1, 3, padding=1)),
        ({"sigma": "map"}, nn.Conv2d(2, 1, 3, padding=1)),
        ({"channels": "repeat", "value_range": (-1, 1)}, nn.Conv2d(3, 3, 3, padding=1)),
        ({"complex_as": "magnitude"}, nn.Conv2d(1, 1, 3, padding=1)),
        ({"complex_as": "parts", "value_range": (0, 255)}, nn.Conv2d(1, 1, 3, padding=1)),
        ({"complex_as": "channels"}, nn.Conv2d(2, 2, 3, padding=1)),
    ],
    ids=str,
)
def test_it_conforms(settings, module):
    check_prior(denoiser(module, **settings))


def test_a_network_without_noise_level_gets_one_grey_channel():
    module = Recorder()
    prior = denoiser(module)
    assert torch.equal(prior.denoise(X, SIGMA), X)
    assert torch.equal(module.calls[0][0], X[:, None])
    assert (prior.domain, prior.value_range, prior.weight) == ("real", (0, 1), 1)


def test_how_the_noise_level_is_passed():
    number = WithSigma()
    denoiser(number, sigma="number").denoise(X, SIGMA)
    assert [call[1] for call in number.calls] == pytest.approx([0.1, 0.2])
    denoiser(number, sigma="number").denoise(X, 0.3)
    assert number.calls[2][1] == pytest.approx(0.3)
    assert len(number.calls) == 3, "one call for one level"
    batch = WithSigma()
    denoiser(batch, sigma="batch").denoise(X, SIGMA)
    assert torch.equal(batch.calls[0][1], SIGMA)
    chart = Recorder()
    denoiser(chart, sigma="map").denoise(X, SIGMA)
    assert torch.equal(chart.calls[0][0][:, 1], SIGMA[:, None, None].expand_as(X))
    assert denoiser(batch, sigma="batch").weight == "auto"


def test_channels():
    colours = torch.rand(2, 3, 5, 7)
    first = Recorder(3)
    denoiser(first, channels="first").denoise(colours, SIGMA)
    assert torch.equal(first.calls[0][0], colours)
    each = WithSigma()
    assert torch.equal(denoiser(each, channels="each", sigma="batch").denoise(colours, SIGMA), colours)
    assert torch.equal(each.calls[0][0], colours.reshape(6, 1, 5, 7))
    assert torch.equal(each.calls[0][1], SIGMA.repeat_interleave(3))
    three = Recorder(3)
    assert torch.allclose(denoiser(three, channels="repeat").denoise(X, SIGMA), X)
    assert three.calls[0][0].shape == (2, 3, 5, 7)


def test_sides_are_padded_by_the_border_and_cropped():
    module = Recorder()
    assert torch.equal(denoiser(module, multiple_of=4).denoise(X, SIGMA), X)
    given = module.calls[0][0]
    assert given.shape == (2, 1, 8, 8)
    assert torch.equal(given[:, 0, 5:, :7], X[:, 4:5].expand(-1, 3, -1))


def test_complex_images_by_magnitude_keep_their_phase():
    z = torch.polar(X, 6 * X)
    halved = denoiser(Shrink(-1.0), value_range=(-1, 1), complex_as="magnitude").denoise(z, SIGMA)
    assert torch.allclose(halved, z / 2, atol=1e-6)  # -1 is the magnitude 0
    assert halved.isfinite().all()


@pytest.mark.parametrize("way", ["parts", "channels"])
def test_complex_images_by_parts_span_the_range_from_minus_high_to_high(way):
    z = torch.polar(X, 6 * X)
    module = Recorder(2 if way == "channels" else 1)
    prior = denoiser(module, value_range=(0, 255), complex_as=way)
    assert torch.allclose(prior.denoise(z, SIGMA), z, atol=1e-5)
    given = module.calls[0][0]
    real = given[:2, 0] if way == "parts" else given[:, 0]
    assert torch.allclose(real, 127.5 * (1 + z.real), atol=1e-3)
    halved = denoiser(Shrink(127.5), value_range=(0, 255), complex_as=way)
    assert torch.allclose(halved.denoise(z, SIGMA), z / 2, atol=1e-5)
    levels = WithSigma()
    prior = denoiser(levels, value_range=(0, 255), complex_as="parts", sigma="batch")
    prior.denoise(z, SIGMA)
    assert torch.allclose(levels.calls[0][1], 127.5 * SIGMA.repeat(2))


def test_the_solver_maps_attenuation_to_the_range_and_noise_with_it():
    op = recon.Identity((5, 7))
    module = WithSigma()
    problem = recon.Problem(op, 0.02 * X, image_range=(0.0, 0.02))
    recon.solve(
        problem,
        denoiser(module, value_range=(0, 1), sigma="batch", weight=1e-4),
        solver=recon.ADMM(rho=1.0),
        stop=recon.MaxIterations(1),
    )
    x, sigma = module.calls[0]
    assert torch.allclose(x[:, 0], X, atol=1e-5)
    assert torch.allclose(sigma, torch.full((2,), 0.01 / 0.02))  # sqrt(weight / rho), in units of the range


def test_complex_images_are_never_shifted_by_the_solver():
    z = torch.polar(X, 6 * X)
    op = recon.Identity((5, 7))
    prior = denoiser(Recorder(), complex_as="magnitude")
    stop = recon.MaxIterations(1)
    solution = recon.solve(recon.Problem(op, 3 * z, image_range=(0, 3)), prior, stop=stop)
    assert torch.allclose(solution.image, 3 * z, atol=1e-5)
    with pytest.raises(ValueError, match=r"would shift complex images.*range of the magnitude, \(0, high\)"):
        recon.solve(recon.Problem(op, z, image_range=(-1, 1)), prior, stop=stop)


def test_double_images_pass_a_single_precision_network_and_copies_work():
    prior = denoiser(nn.Conv2d(1, 1, 3, padding=1))
    assert prior.denoise(X.double(), SIGMA).dtype == torch.float64
    assert torch.equal(copy.deepcopy(prior).denoise(X, SIGMA), prior.denoise(X, SIGMA))


def test_it_is_put_into_evaluation_mode():
    module = nn.Sequential(nn.Dropout(0.9))
    assert torch.equal(denoiser(module).denoise(X, SIGMA), X)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: denoiser(torch.relu), TypeError, "takes a torch.nn.Module, got builtin"),
        (lambda: denoiser(WithSigma()), TypeError, "cannot be called with 1 arguments, as sigma='none'"),
        (lambda: denoiser(Recorder(), sigma="batch"), TypeError, "with 2 arguments"),
        (lambda: denoiser(Recorder(), sigma="yes"), ValueError, "sigma must be one of 'none', 'number'"),
        (lambda: denoiser(Recorder(), channels="rgb"), ValueError, "channels must be one of 'add'"),
        (lambda: denoiser(Recorder(), complex_as="real"), ValueError, "complex_as must be one of"),
        (lambda: denoiser(Recorder(), (1, 0)), ValueError, "value_range must be"),
        (lambda: denoiser(Recorder(), multiple_of=0), ValueError, "multiple_of must be"),
        (lambda: denoiser(Recorder()).denoise(X * 1j, 0.1), TypeError, "say complex_as="),
        (
            lambda: denoiser(nn.Conv2d(1, 2, 1)).denoise(X, 0.1),
            ValueError,
            r"shape it is given, \(2, 1, 5, 7\), got shape \(2, 2, 5, 7\)",
        ),
    ],
)
def test_wrong_input_says_what_and_what_to_do(make, error, words):
    with pytest.raises(error, match=words):
        make()
