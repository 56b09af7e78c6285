"""Noise has the statistics it states, and depends on the seed and the item alone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recon.entries import NoiseEntry
from recon.hookspecs import hookimpl
from recon.parameters import ArgumentValueError
from recon.registry import Registry, UnknownNameError, using
from recon.simulate import ComplexGaussianNoise, GaussianNoise, LowerDoseNoise, Noise, PoissonNoise, as_noise

MANY = 400_000


def gaussian_data(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def data_for(noise: Noise, *shape: int) -> Tensor:
    """Data that the noise applies to: complex, or line integrals between 0 and 4."""
    if noise.domain == "complex":
        return gaussian_data(*shape, dtype=torch.complex128)
    return 4.0 * torch.rand(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


ALL = [
    GaussianNoise(std=0.3),
    ComplexGaussianNoise(std=0.3),
    PoissonNoise(photons=200.0),
    LowerDoseNoise(photons=2e3, electronic=5.0),
]
every_noise = pytest.mark.parametrize("noise", ALL, ids=lambda noise: type(noise).__name__)


# Statistics; the bounds are five standard errors of the estimate


def test_gaussian_has_the_stated_standard_deviation():
    noise = GaussianNoise(std=0.25)(torch.full((MANY,), 7.0, dtype=torch.float64), item_ndim=1) - 7.0
    assert abs(float(noise.mean())) < 5 * 0.25 / math.sqrt(MANY)
    assert float(noise.std()) == pytest.approx(0.25, rel=5 / math.sqrt(2 * MANY))


def test_complex_gaussian_has_it_in_the_real_and_in_the_imaginary_part():
    noise = ComplexGaussianNoise(std=0.25)(torch.zeros(MANY, dtype=torch.complex128), item_ndim=1)
    for part in (noise.real, noise.imag):
        assert float(part.std()) == pytest.approx(0.25, rel=5 / math.sqrt(2 * MANY))
        assert abs(float(part.mean())) < 5 * 0.25 / math.sqrt(MANY)
    correlation = float((noise.real * noise.imag).mean()) / 0.25**2
    assert abs(correlation) < 5 / math.sqrt(MANY)


def test_poisson_at_high_counts_has_the_delta_methods_mean_and_variance():
    photons, p = 1e4, 1.5
    y = PoissonNoise(photons=photons)(torch.full((MANY,), p, dtype=torch.float64), item_ndim=1)
    rate = photons * math.exp(-p)  # 2231 counts: terms beyond those below are under 1e-3 of the variance
    variance = 1 / rate + 1.5 / rate**2
    assert float(y.mean()) == pytest.approx(p + 0.5 / rate, abs=5 * math.sqrt(variance / MANY))
    assert float(y.var()) == pytest.approx(variance, rel=5 * math.sqrt(2 / MANY) + 1e-3)


def test_poisson_at_low_counts_has_the_poisson_probabilities_and_counts_zero_as_a_tenth():
    photons, p = 4.0, 0.7
    y = PoissonNoise(photons=photons)(torch.full((MANY,), p, dtype=torch.float64), item_ndim=1)
    counts = photons * torch.exp(-y)
    rate = photons * math.exp(-p)
    for k in range(9):
        expected = math.exp(-rate) * rate**k / math.factorial(k)
        seen = float(((counts - (k or 0.1)).abs() < 1e-9).double().mean())
        assert seen == pytest.approx(expected, abs=5 * math.sqrt(expected / MANY))


def test_electronic_noise_adds_its_variance_and_changes_nothing_without_it():
    photons, p, electronic = 1e4, 1.5, 60.0
    clean = torch.full((MANY,), p, dtype=torch.float64)
    y = PoissonNoise(photons, electronic)(clean, item_ndim=1)
    rate = photons * math.exp(-p)
    # the next terms of the expansion are below 1 %; a variance of MANY samples has an error of sqrt(2 / MANY)
    assert float(y.var()) == pytest.approx(
        1 / rate + (electronic / rate) ** 2, rel=0.01 + 5 * (2 / MANY) ** 0.5
    )
    assert torch.isfinite(PoissonNoise(1.0, 50.0)(clean, item_ndim=1)).all()  # counts below zero too
    assert torch.equal(
        PoissonNoise(photons, 0.0)(clean, item_ndim=1), PoissonNoise(photons)(clean, item_ndim=1)
    )
    with pytest.raises(ValueError, match="electronic is a standard deviation in counts and cannot be -1"):
        PoissonNoise(photons, -1.0)


@pytest.mark.parametrize("electronic", [0.0, 60.0])
def test_full_dose_data_with_the_noise_of_a_lower_dose_added_are_data_of_that_dose(electronic):
    photons, p, dose = 2e4, 1.5, 0.3
    clean = torch.full((MANY,), p, dtype=torch.float64)
    full = PoissonNoise(photons, electronic)(clean, item_ndim=1, seed=1)
    model = LowerDoseNoise(photons, dose, electronic)
    lower = model(full, item_ndim=1, seed=2)
    counts = dose * photons * math.exp(-p)
    truth = 1 / counts + (electronic / counts) ** 2
    # the next terms of the expansion are of relative size 3 / counts = 0.2 % (four times that with electronic noise)
    assert float(lower.var()) == pytest.approx(truth, rel=0.01 + 5 * (2 / MANY) ** 0.5)
    assert float((lower - full).var()) == pytest.approx(
        float(model.variance(clean[:1])), rel=0.01 + 5 * (2 / MANY) ** 0.5
    )
    assert float(lower.mean()) == pytest.approx(p, abs=truth + 5 * (truth / MANY) ** 0.5)
    assert torch.equal(LowerDoseNoise(photons, 1.0, electronic)(full, item_ndim=1), full)
    with pytest.raises(ValueError, match="above 0 up to 1, got 25"):
        LowerDoseNoise(photons, 25)


def test_a_ray_without_photons_stays_finite():
    y = PoissonNoise(photons=10.0)(torch.full((3, 4), 200.0), item_ndim=2)
    assert torch.equal(y, torch.full((3, 4), math.log(100.0)))


def test_without_noise_the_data_stay():
    clean = gaussian_data(3, 4)
    noisy = GaussianNoise(std=0.0)(clean, item_ndim=2)
    assert torch.equal(noisy, clean)
    assert noisy.data_ptr() != clean.data_ptr()


# What the noise depends on


@every_noise
def test_seeds_reproduce_and_differ(noise):
    clean = data_for(noise, 2, 5, 6)
    first = noise(clean, item_ndim=2, seed=3)
    assert torch.equal(first, noise(clean, item_ndim=2, seed=3))
    assert not torch.equal(first, noise(clean, item_ndim=2, seed=4))


@every_noise
@settings(deadline=None)
@given(batch=st.integers(0, 5), offset=st.integers(0, 3), shape=st.lists(st.integers(1, 6), max_size=3))
def test_a_batch_equals_a_loop(noise, batch, offset, shape):
    clean = data_for(noise, batch, *shape)
    together = noise(clean, item_ndim=len(shape), seed=5, first_item=offset)
    assert together.shape == clean.shape
    for index in range(batch):
        alone = noise(clean[index], item_ndim=len(shape), seed=5, first_item=offset + index)
        assert torch.equal(together[index], alone)


@every_noise
def test_an_items_noise_does_not_depend_on_its_batch_mates(noise):
    clean = data_for(noise, 3, 4, 5)
    others = clean.clone()
    others[1:] = clean[1:].flip(1)
    assert torch.equal(noise(clean, item_ndim=2)[0], noise(others, item_ndim=2)[0])
    assert torch.equal(noise(clean, item_ndim=2)[0], noise(clean[:1], item_ndim=2)[0])


@every_noise
def test_items_and_neighbouring_seeds_draw_differently(noise):
    clean = data_for(noise, 1, 64).expand(3, 64)
    first, second = noise(clean, item_ndim=1, seed=0), noise(clean, item_ndim=1, seed=1)
    rows = torch.cat([first, second])
    for i in range(6):
        for j in range(i):
            assert not torch.equal(rows[i], rows[j])


@every_noise
def test_several_batch_axes_count_on(noise):
    clean = data_for(noise, 2, 3, 4, 5)
    flat = noise(clean.reshape(6, 4, 5), item_ndim=2, seed=1)
    assert torch.equal(noise(clean, item_ndim=2, seed=1).reshape(6, 4, 5), flat)


@every_noise
def test_single_precision_gets_the_same_noise(noise):
    clean = data_for(noise, 2, 5, 6)
    single = clean.to(torch.complex64 if clean.is_complex() else torch.float32)
    noisy = noise(single, item_ndim=2)
    assert noisy.dtype == single.dtype
    # the same draws on the same (rounded) data, rounded once at the end
    torch.testing.assert_close(
        noisy, noise(single.to(clean.dtype), item_ndim=2).to(single.dtype), rtol=0, atol=0
    )


@every_noise
def test_the_input_is_left_alone_and_may_be_non_contiguous(noise):
    clean = data_for(noise, 6, 5, 4).transpose(1, 2)
    copy = clean.clone()
    noisy = noise(clean, item_ndim=2)
    assert torch.equal(clean, copy)
    assert torch.equal(noisy, noise(clean.contiguous(), item_ndim=2))


@every_noise
def test_the_global_generator_is_not_touched(noise):
    before = torch.random.get_rng_state()
    noise(data_for(noise, 2, 3), item_ndim=1)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@every_noise
def test_the_device_does_not_matter(noise):
    clean = data_for(noise, 2, 5, 6)
    mask = torch.ones(6).index_fill(0, torch.tensor([2]), 0.0)
    on_gpu = noise(clean.cuda(), item_ndim=2, seed=7, sample_mask=mask.cuda())
    assert on_gpu.is_cuda
    assert torch.equal(on_gpu.cpu(), noise(clean, item_ndim=2, seed=7, sample_mask=mask))


# Where data exist


@every_noise
def test_noise_comes_only_where_data_exist(noise):
    clean = data_for(noise, 3, 4, 5)
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])
    noisy = noise(clean, item_ndim=2, sample_mask=mask)
    gone = ~mask.bool()
    assert torch.equal(noisy[..., gone], clean[..., gone])
    assert torch.equal(noisy[..., mask.bool()], noise(clean, item_ndim=2)[..., mask.bool()])


@every_noise
def test_a_mask_of_another_size_is_refused(noise):
    clean = data_for(noise, 3, 4, 5)
    for shape in [(4,), (3, 4, 5), (5, 4)]:
        with pytest.raises(ValueError, match=r"sample_mask has shape .* item \(4, 5\)"):
            noise(clean, item_ndim=2, sample_mask=torch.ones(shape))


@every_noise
def test_a_mask_that_is_not_zero_or_one_is_refused(noise):
    with pytest.raises(ValueError, match="1 where data exist"):
        noise(data_for(noise, 4, 5), item_ndim=2, sample_mask=torch.full((5,), 0.5))


# By name


class NoisePlugin:
    """Registers one noise model, and under another name something that is none."""

    @hookimpl
    def recon_noise(self):
        yield NoiseEntry(name="poisson", factory="recon.simulate:PoissonNoise", summary="Photons")
        yield NoiseEntry(name="clock", factory="fractions:Fraction", summary="No noise")


def test_noise_is_made_by_name():
    with using(Registry([NoisePlugin()], environment={})):
        model = as_noise("poisson:photons=1e4")
        assert isinstance(model, PoissonNoise)
        assert model.photons == 1e4
        assert as_noise(model) is model
        assert as_noise(("poisson", {"photons": 5})).photons == 5.0
        with pytest.raises(ArgumentValueError, match=r"photons=-1.0 must be > 0 photons"):
            as_noise("poisson:photons=-1")
        with pytest.raises(UnknownNameError, match="poisson"):
            as_noise("poison")
        with pytest.raises(TypeError, match=r"Fraction, not a recon\.simulate\.Noise"):
            as_noise("clock")


# Bad input


@pytest.mark.parametrize("std", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("model", [GaussianNoise, ComplexGaussianNoise])
def test_a_standard_deviation_that_is_none_is_refused(model, std):
    with pytest.raises(ValueError, match="standard deviation"):
        model(std=std)


@pytest.mark.parametrize("photons", [0.0, -1e4, math.nan, math.inf])
def test_photon_numbers_that_are_none_are_refused(photons):
    with pytest.raises(ValueError, match="must be positive"):
        PoissonNoise(photons=photons)


@pytest.mark.parametrize(
    "noise", [GaussianNoise(std=1.0), PoissonNoise(photons=10.0)], ids=["gaussian", "poisson"]
)
def test_real_noise_refuses_complex_data(noise):
    with pytest.raises(TypeError, match="use complex_gaussian"):
        noise(torch.zeros(3, dtype=torch.complex64), item_ndim=1)


def test_complex_noise_refuses_real_data():
    with pytest.raises(TypeError, match="use gaussian"):
        ComplexGaussianNoise(std=1.0)(torch.zeros(3), item_ndim=1)


@every_noise
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_data_that_are_not_finite_are_refused(noise, value):
    clean = data_for(noise, 3, 4)
    clean[1, 2] = value
    with pytest.raises(ValueError, match="1 of 12 values are NaN or infinite"):
        noise(clean, item_ndim=2)


def test_counts_are_not_line_integrals():
    with pytest.raises(ValueError, match="must be line integrals"):
        PoissonNoise(photons=1e4)(torch.full((3,), -2000.0), item_ndim=1)


def test_slightly_negative_line_integrals_are_fine():
    assert torch.isfinite(PoissonNoise(photons=1e4)(torch.full((5,), -0.01), item_ndim=1)).all()


def test_integers_are_refused():
    with pytest.raises(TypeError, match=r"convert with \.float"):
        GaussianNoise(std=1.0)(torch.zeros(3, dtype=torch.int64), item_ndim=1)


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match="seed is a whole number"):
        GaussianNoise(std=1.0)(torch.zeros(3), item_ndim=1, seed=seed)


def test_an_item_cannot_have_more_axes_than_the_data():
    with pytest.raises(ValueError, match="item_ndim=2"):
        GaussianNoise(std=1.0)(torch.zeros(3), item_ndim=2)


def test_parameters_and_units_are_printed():
    assert repr(GaussianNoise(std=0.02)) == "GaussianNoise(std=0.02 in the unit of the data)"
    assert "real and imaginary part each" in repr(ComplexGaussianNoise(std=0.02))
    assert repr(PoissonNoise(photons=1e4)) == "PoissonNoise(photons=10000 per ray)"
    assert "standard deviation 0.02" in GaussianNoise(std=0.02).description
    assert (
        "standard deviation 0.02 of the real and of the imaginary"
        in ComplexGaussianNoise(std=0.02).description
    )
    assert PoissonNoise(photons=1e4).description.startswith(
        "Poisson noise of a transmission measurement, 10000 photons"
    )
