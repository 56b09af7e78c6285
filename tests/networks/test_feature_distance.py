"""The data term of feature inversion: its value, its gradient, who may fit it, and an image that it finds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import recon
from recon import FeatureDistance, Identity
from recon.feature_distance import _on
from recon.training import VGG19

SIDE = 16


class Features(nn.Module):
    """A smooth network without a `seen`, in double precision."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 2, 3)).double()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images.unsqueeze(1))


def photographs(count: int, side: int = SIDE) -> torch.Tensor:
    coarse = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(coarse, (side, side), mode="bilinear")[:, 0]


def test_value_and_gradient_are_those_of_the_formula():
    network, y = Features(), photographs(2).double()
    term = FeatureDistance(network).for_items(y, (2,))
    z = torch.rand(2, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    z.requires_grad_()
    with torch.no_grad():
        zero, wanted, found = (network(image).flatten(1) for image in (torch.zeros_like(y), y, z))
        relative = (found - wanted).square().sum(1) / (zero - wanted).square().sum(1)
        expected = 0.5 * y.square().flatten(1).sum(1) * relative
    torch.testing.assert_close(term.value(z, y).detach(), expected)
    assert term.value(y, y).tolist() == [0, 0]
    blank = 0.5 * y.square().flatten(1).sum(1)  # as in least squares
    torch.testing.assert_close(term.value(torch.zeros_like(y), y).detach(), blank)
    assert torch.autograd.gradcheck(lambda image: term.value(image, y), (z,))
    (by_autograd,) = torch.autograd.grad(term.value(z, y).sum(), z)
    torch.testing.assert_close(term.gradient(z, y), by_autograd)
    second = term.select(torch.tensor([1]))
    torch.testing.assert_close(second.value(z[1:], y[1:]), term.value(z, y)[1:])


def test_an_image_is_found_from_its_features():
    """Of a layer with frozen random weights; the data are never compared with the image."""
    truth = photographs(1)[0]
    settings = {"image_range": (0.0, 1.0), "stop": recon.MaxIterations(150)}
    prior = recon.prior("dip", filters=(8, 16), skip=0, depth=8)
    term = FeatureDistance(VGG19("random", layer=3))
    solution = recon.solve(Identity((SIDE, SIDE)), prior, truth, fidelity=term, **settings)
    error = float((solution.image - truth).square().mean())
    assert error < 0.25 * float(truth.var())  # of the best image without structure: 6 dB
    again = recon.solve(Identity((SIDE, SIDE)), prior, truth, fidelity=term, **settings)
    assert torch.equal(again.image, solution.image)
    assert "FeatureDistance(VGG19(layer 3" in str(solution.provenance)


class Fickle(nn.Module):
    """Batch normalisation and dropout, left in training mode by whoever made them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).double()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images.unsqueeze(1))


def test_the_network_is_a_copy_in_evaluation_and_an_item_does_not_depend_on_its_mates():
    network, y = Fickle(), photographs(2).double() * torch.tensor([1.0, 5.0]).reshape(2, 1, 1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    term = FeatureDistance(network)
    both, second = term.for_items(y, (2,)), term.for_items(y[1:], (1,))
    z = y.flip(-1)
    torch.testing.assert_close(both.value(z, y)[1:], second.value(z[1:], y[1:]))
    assert torch.equal(both.value(z, y), both.value(z, y))  # dropout draws nothing
    assert both.value(y, y).tolist() == [0, 0]
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert network.training and all(weight.requires_grad for weight in network.parameters())
    with torch.no_grad():
        expected = both.value(z, y)
        network.layers[0].weight.zero_()  # the caller goes on with its own
    assert torch.equal(both.value(z, y), expected)


def test_another_device_has_a_network_of_its_own():
    term = FeatureDistance(Features())
    elsewhere = _on(term.features, torch.device("meta"))  # a device that every machine has
    assert {weight.device.type for weight in elsewhere.parameters()} == {"meta"}
    assert {weight.device.type for weight in term.features.parameters()} == {"cpu"}
    assert term.for_items(photographs(1).double(), (1,)).features is term.features


def test_the_residual_is_of_the_features_and_none_is_compared_with_the_noise():
    y = photographs(2).double()
    term = FeatureDistance(Features()).for_items(y, (2,))
    z = y.flip(-1)
    torch.testing.assert_close(term.residual(z, y), (2 * term.value(z, y)).sqrt())
    torch.testing.assert_close(term.residual(torch.zeros_like(y), y), y.flatten(1).norm(dim=1))

    prior = recon.prior("dip", filters=(8, 16), skip=0, depth=8)
    noisy = y[0] + 0.05 * torch.randn(SIDE, SIDE, dtype=y.dtype, generator=torch.Generator().manual_seed(3))
    problem = recon.Problem(Identity((SIDE, SIDE)), noisy, prior=prior, fidelity=FeatureDistance(Features()))
    least_squares = recon.Problem(Identity((SIDE, SIDE)), noisy, prior=prior)
    assert "tau=" in repr(recon.DIP().stop_for(least_squares))  # its level can be estimated
    assert "tau" not in repr(recon.DIP().stop_for(problem))
    for rule in (recon.Discrepancy(), recon.MovingVariance(burn_in=0, tau=1.15)):
        with pytest.raises(ValueError, match=r"residual of fidelity 'features' is not known.*without tau"):
            recon.solve(Identity((SIDE, SIDE)), prior, noisy, fidelity=FeatureDistance(Features()), stop=rule)
    with pytest.raises(ValueError, match="weight of TotalVariation beside a generator cannot be found"):
        recon.solve(
            Identity((SIDE, SIDE)), prior + recon.prior("tv"), noisy, fidelity=FeatureDistance(Features())
        )
    with pytest.raises(TypeError, match="no noise level of the data belongs"):
        FeatureDistance(Features()).with_noise_level(0.1)


class Means(nn.Module):
    """Of squares in the upper half: most of the image is not seen."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(images[:, : SIDE // 2], 4)


def test_early_stopping_fires_although_the_image_is_never_near_the_data():
    prior = recon.prior("dip", filters=(8, 16), skip=0, depth=8)
    y = photographs(1)[0] + 0.05 * torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    solver, op = recon.DIP(iterations=500, lr=0.02), Identity((SIDE, SIDE))
    solution = recon.solve(op, prior, y, fidelity=FeatureDistance(Means()), solver=solver)
    assert solution.reasons[0].startswith("MovingVariance"), solution.reasons
    noise = recon.Problem(op, y).noise_norm
    assert float((solution.image - y).norm() / noise) > 1.5  # 1.15 would have been asked for


@pytest.mark.filterwarnings("ignore::recon.solving.ConvergenceWarning")
def test_what_was_compared_is_explained():
    prior = recon.prior("dip", filters=(8, 16), skip=0, depth=8)
    term = FeatureDistance(VGG19("random", layer=1))
    solution = recon.solve(
        Identity((SIDE, SIDE)), prior, photographs(1)[0], fidelity=term, solver="dip:iterations=3"
    )
    told = solution.explain()
    assert "the counts" not in told
    assert "what noise leaves of this data term's residual is not known" in told
    assert "between what a network sees in predicted and in measured data" in told
    assert "recon_origin" not in told


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        ("admm", "needs a proximal map of the data term, and fidelity 'features' has none: use solver='dip'"),
        ("pdhg", "needs a proximal map of the data term"),
        ("fista", "'features' has not"),
        ("hqs", "quadratic data terms only, got 'features'"),
        ("red", "quadratic data terms only, got 'features'"),
        ("splitting", "needs a proximal map of the data term"),
        ("feedforward", "inverts the data themselves, which fidelity 'features' does not compare"),
        ("direct", "inverts the data themselves, which fidelity 'features' does not compare"),
        ("auto", "use solver='dip' with a generator"),
    ],
)
def test_solvers_that_cannot_fit_it_say_so(solver, message):
    term = FeatureDistance(VGG19("random", layer=1))
    denoiser = dict.fromkeys(("hqs", "red", "splitting", "feedforward"), "wavelet_denoiser:weight=1")
    prior = {"fista": "nonnegative", "direct": None, "auto": None, **denoiser}.get(solver, "tv:weight=0.1")
    with pytest.raises(ValueError, match=message):
        recon.solve(Identity((SIDE, SIDE)), prior, photographs(1)[0], fidelity=term, solver=solver)


def test_what_cannot_be_compared_or_stored_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"those of a torch\.nn\.Module, got str"):
        FeatureDistance("vgg")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"AdaptiveAvgPool3d makes features of shape \(1, 1, 1\) of 2 images"
    ):
        FeatureDistance(nn.AdaptiveAvgPool3d(1)).for_items(photographs(2), (2,))  # over the items too
    term = FeatureDistance(VGG19("random", layer=1))
    with pytest.raises(ValueError, match="those of a blank image"):
        recon.Problem(Identity((SIDE, SIDE)), torch.zeros(SIDE, SIDE), fidelity=term)
    problem = recon.Problem(Identity((SIDE, SIDE)), photographs(1)[0], fidelity=term)
    with pytest.raises(TypeError, match="holds a network, which a problem file does not store"):
        problem.save(tmp_path / "problem.h5")
    assert not (tmp_path / "problem.h5").exists()
