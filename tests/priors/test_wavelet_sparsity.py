"""Wavelet sparsity: its proximal map and its solutions against closed forms."""

import pytest
import pywt
import torch
from recon_operators import Blur, CartesianMRI, Wavelet
from recon_priors import WaveletSparsity

import recon

SHAPE = (16, 32)


def random(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_orthogonal_denoising_is_the_soft_threshold_of_the_details(dtype):
    y, weight = random(*SHAPE, dtype=dtype), 0.4
    nested = pywt.wavedec2(y.numpy(), "db2", mode="periodization", level=2)
    shrunk = [nested[0]] + [
        tuple(pywt.threshold(band, weight, "soft") for band in level) for level in nested[1:]
    ]
    expected = pywt.waverec2(shrunk, "db2", mode="periodization")
    prior = WaveletSparsity(weight, "db2", 2, decimated=True)
    stop = recon.SmallResiduals(1e-9) | recon.MaxIterations(2000)
    image = recon.solve(recon.Identity(SHAPE), prior, y, stop=stop).image
    # the rule's 1e-9 times the image's size
    assert torch.allclose(image, torch.from_numpy(expected), atol=1e-7)


def test_the_penalty_sums_the_details_and_nothing_else():
    x = random(2, *SHAPE)
    bands = Wavelet(SHAPE, "db4", 3)(x)
    assert torch.allclose(WaveletSparsity(0.3)(x), 0.3 * bands[:, 1:].abs().flatten(1).sum(1))
    constant = torch.ones(1, *SHAPE, dtype=torch.float64)
    assert float(WaveletSparsity(0.3)(constant)) < 1e-8


@pytest.mark.parametrize("decimated", [False, True])
def test_the_step_on_the_data_is_in_closed_form_where_the_operator_has_one(decimated):
    class Plain(CartesianMRI):
        solve_gram = recon.LinearOperator.solve_gram
        preconditioner = recon.LinearOperator.preconditioner

    mask = (random(*SHAPE) > -0.3).float()
    y = mask * random(*SHAPE, dtype=torch.complex128)
    prior = WaveletSparsity(0.05, "haar", 2, decimated)
    stop = recon.SmallResiduals(1e-7) | recon.MaxIterations(3000)
    closed, iterated = (recon.solve(make(mask), prior, y, stop=stop).image for make in (CartesianMRI, Plain))
    # two ways to one minimum, each to 1e-7
    assert float((closed - iterated).abs().max() / closed.abs().max()) < 1e-4


def test_it_takes_fewer_scales_in_a_small_image():
    assert WaveletSparsity(levels=3).K((5, 4)).levels == 2
    image = recon.solve(recon.Identity((5, 4)), "wavelet:weight=0.1", random(5, 4)).image
    assert image.shape == (5, 4)


def test_it_deblurs_edges_better_than_the_direct_inverse():
    x = torch.zeros(64, 64)
    x[16:40, 20:50] = 1.0
    blur = Blur((64, 64), ("gaussian", 1.5))
    y = blur.measure(x, noise="gaussian:std=0.02", seed=0)
    direct, sparse = recon.solve(blur, None, y).image, recon.solve(blur, "wavelet:wavelet=haar", y).image
    assert float((sparse - x).norm()) < 0.7 * float((direct - x).norm())


@pytest.mark.parametrize(("shape", "levels"), [((4, 4), 3), ((16, 16), 5), ((8, 64), 5)])
def test_the_approximation_costs_nothing_in_images_too_small_for_the_levels(shape, levels):
    ones = torch.ones(1, *shape, dtype=torch.float64)
    prior = WaveletSparsity(0.5, "haar", levels, decimated=True)
    assert float(prior(ones)) < 1e-8
    K = prior.K(shape)
    assert torch.allclose(K.adjoint(prior.prox(K(ones), 1.0)), ones)
