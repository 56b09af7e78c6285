"""Noise of a lower dose inserted into a reconstruction, against the variances of counted photons."""

import pytest
import torch
from recon_operators import FanBeam, ParallelBeam
from recon_operators.low_dose import low_dose_pair

from recon.hounsfield import attenuation_of, hounsfield_of
from recon.linear import Identity
from recon.problem import Problem

PHOTONS = 3e4


@pytest.fixture(scope="module")
def ct():
    return ParallelBeam((24, 24), pixel_size=8.0, angles=30)


def disc(side=24, value=0.02):
    grid = torch.arange(side) - (side - 1) / 2
    return value * ((grid[:, None] ** 2 + grid**2) < (0.4 * side) ** 2).double()


@pytest.mark.parametrize(("dose", "electronic"), [(0.25, 0.0), (0.25, 40.0), (0.1, 0.0)])
def test_the_image_is_unbiased_and_has_the_noise_that_the_lower_dose_adds(ct, dose, electronic):
    """The covariance of FBP of independent noise: sum_j P_ij^2 v_j, with P the matrix of FBP."""
    repeats = 4000
    images = disc().expand(repeats, -1, -1)
    low, high = low_dose_pair(images, ct, photons=PHOTONS, dose=dose, electronic=electronic)
    assert torch.equal(high, images)
    units = torch.eye(ct(disc()).numel(), dtype=torch.float64).reshape(-1, *ct.range_shape)
    squares = ct.pinv(units).square()
    counts = PHOTONS * torch.exp(-ct(disc()))
    before = 1 / counts + electronic**2 / counts**2
    after = 1 / (dose * counts) + electronic**2 / (dose * counts) ** 2
    variance = torch.einsum("jhw,j->hw", squares, (after - before).flatten())
    found = (low - high).var(0)
    # sampling error of a variance: sqrt(2/4000) = 2.2 % a pixel, less in the mean; 1/counts adds 2 % to the mean
    assert (found / variance).mean() == pytest.approx(1, abs=0.04)
    assert (found / variance - 1).abs().max() < 0.2
    # five standard errors, and the logarithm's own bias, half a variance of each ray
    bias = ct.pinv((after - before)[None] / 2)[0].abs()
    assert ((low - high).mean(0).abs() < 5 * (variance / repeats).sqrt() + 1.5 * bias + 1e-7).all()


def test_a_pair_depends_on_seed_and_index_alone(ct):
    images = torch.stack([disc(), disc(value=0.01), disc(value=0.03)])
    pair = low_dose_pair(images, ct, photons=PHOTONS, seed=4)
    again = low_dose_pair(images, ct, photons=PHOTONS, seed=4)
    assert torch.equal(pair.low, again.low)
    assert not torch.equal(pair.low, low_dose_pair(images, ct, photons=PHOTONS, seed=5).low)
    alone = low_dose_pair(images[1], ct, photons=PHOTONS, seed=4, first_item=1)
    assert torch.allclose(alone.low, pair.low[1], rtol=0, atol=1e-12)
    assert not torch.allclose(
        pair.low[0] - images[0],
        low_dose_pair(images[0], ct, photons=PHOTONS, seed=4, first_item=1).low - images[0],
    )


def test_full_dose_changes_nothing_and_the_filter_is_passed_on():
    fan = FanBeam((16, 16), 10.0, 60, source_origin=500.0, origin_detector=400.0)
    image = disc(16).float()
    assert torch.allclose(low_dose_pair(image, fan, photons=PHOTONS, dose=1.0).low, image, atol=1e-9)
    sharp = low_dose_pair(image, fan, photons=PHOTONS)
    smooth = low_dose_pair(image, fan, photons=PHOTONS, filter="hann", cutoff=0.5)
    assert (smooth.low - image).std() < 0.5 * (sharp.low - image).std()
    assert sharp.low.dtype == torch.float32


def test_other_units_are_refused_and_converted(ct):
    hounsfield = torch.linspace(-1000, 2000, 24 * 24).reshape(24, 24)
    with pytest.raises(ValueError, match="attenuation_of converts Hounsfield units"):
        low_dose_pair(hounsfield, ct, photons=PHOTONS)
    mu = attenuation_of(hounsfield, water=0.0192, air=0.0)  # the AAPM images: mu = 0 is -1000 HU
    assert float(mu[0, 0]) == pytest.approx(0, abs=1e-9)
    assert torch.allclose(hounsfield_of(mu, water=0.0192, air=0.0), hounsfield, atol=1e-3)
    with pytest.raises(ValueError, match="0 <= air < water"):
        attenuation_of(hounsfield, water=0.0, air=0.02)
    low_dose_pair(mu, ct, photons=PHOTONS)


def test_the_noise_level_is_estimated_with_the_weights_in_mind(ct):
    """Weights that are inverse variances have the level 1, whatever constant they are scaled by."""
    photons = 500.0  # few, so that noise and not the disc's edge is at the detector's highest frequencies
    fine = ParallelBeam((48, 48), pixel_size=4.0, angles=60)
    clean = fine(disc(48))
    y = fine.measure(disc(48).expand(2, -1, -1), noise=f"poisson:photons={photons}", seed=3)
    for scale in (1.0, 25.0):
        weights = scale * photons * torch.exp(-clean)
        level = Problem(fine, y, fidelity=("gaussian", {"weights": weights})).noise_level
        assert level.tolist() == pytest.approx([scale**0.5] * 2, rel=0.15)  # the estimate itself has 10 %
    weights[:, :10] = 0  # samples that were left out are not asked for their variance
    partial = Problem(fine, y, fidelity=("gaussian", {"weights": weights})).noise_level
    assert torch.isfinite(partial).all() and (partial > 0).all()
    image = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))
    denoising = Problem(
        Identity((64, 64)), 0.1 * image, fidelity=("gaussian", {"weights": torch.tensor(4.0)})
    )
    assert float(denoising.noise_level) == pytest.approx(0.2, rel=0.1)  # 0.1^2 = level^2 / 4
