"""The data term of feature inversion: its value, its gradient, who may fit it, and an image that it finds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import recon
from recon import FeatureDistance, Identity
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


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        ("admm", "needs a proximal map of the data term, and fidelity 'features' has none: use solver='dip'"),
        ("pdhg", "needs a proximal map of the data term"),
        ("fista", "'features' has not"),
        ("hqs", "quadratic data terms only, got 'features'"),
    ],
)
def test_solvers_that_cannot_fit_it_say_so(solver, message):
    term = FeatureDistance(VGG19("random", layer=1))
    prior = {"fista": "nonnegative", "hqs": "wavelet_denoiser"}.get(solver, "tv:weight=0.1")
    with pytest.raises(ValueError, match=message):
        recon.solve(Identity((SIDE, SIDE)), prior, photographs(1)[0], fidelity=term, solver=solver)


def test_what_cannot_be_compared_or_stored_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"those of a torch\.nn\.Module, got str"):
        FeatureDistance("vgg")  # type: ignore[arg-type]
    term = FeatureDistance(VGG19("random", layer=1))
    with pytest.raises(ValueError, match="those of a blank image"):
        recon.Problem(Identity((SIDE, SIDE)), torch.zeros(SIDE, SIDE), fidelity=term)
    problem = recon.Problem(Identity((SIDE, SIDE)), photographs(1)[0], fidelity=term)
    with pytest.raises(TypeError, match="holds a network, which a problem file does not store"):
        problem.save(tmp_path / "problem.h5")
    assert not (tmp_path / "problem.h5").exists()
