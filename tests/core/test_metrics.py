"""Metrics give the numbers of the protocols they name, checked against scikit-image and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from skimage import data
from skimage import metrics as oracle
from torch import Tensor

from recon.entries import Example, MetricEntry
from recon.hookspecs import hookimpl
from recon.metrics import MSE, NMSE, PRESETS, PSNR, RMSE, RMSEHU, SSIM, Metric, as_metric, evaluate, preset
from recon.parameters import ArgumentValueError
from recon.registry import Registry, UnknownNameError, using

CLOSE = 1e-9  # two float64 implementations of the same sums


def camera() -> Tensor:
    """A photograph in [0, 1], 128 x 120."""
    return torch.from_numpy(data.camera()[200:328, 200:320] / 255.0)


def noisy(image: Tensor, std: float = 0.1, seed: int = 0) -> Tensor:
    return image + std * torch.randn(
        image.shape, generator=torch.Generator().manual_seed(seed), dtype=image.dtype
    )


EVERY = [MSE(), RMSE(), NMSE(), PSNR(), PSNR(data_range=1.0), SSIM(data_range="max-min"), RMSEHU()]
every_metric = pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.name)


# Against scikit-image


@pytest.mark.parametrize("data_range", [1.0, 0.37, "max", "max-min"])
def test_psnr_is_scikit_images(data_range):
    reference = camera() * 0.8 + 0.1
    image = noisy(reference)
    width = {"max": reference.max(), "max-min": reference.max() - reference.min()}.get(data_range, data_range)
    expected = oracle.peak_signal_noise_ratio(reference.numpy(), image.numpy(), data_range=float(width))
    assert float(PSNR(data_range=data_range)(image, reference)) == pytest.approx(expected, abs=CLOSE)


@pytest.mark.parametrize("size", [3, 7, 11])
@pytest.mark.parametrize("sample", [True, False])
@pytest.mark.parametrize("data_range", [1.0, 0.02, 400.0, "max-min"])
def test_uniform_ssim_is_scikit_images(size, sample, data_range):
    reference = camera()
    image = noisy(reference)
    width = float(reference.max() - reference.min()) if data_range == "max-min" else data_range
    expected = oracle.structural_similarity(
        reference.numpy(), image.numpy(), win_size=size, data_range=width, use_sample_covariance=sample
    )
    metric = SSIM(data_range=data_range, size=size, sample_covariance=sample)
    assert float(metric(image, reference)) == pytest.approx(expected, abs=CLOSE)


def test_the_default_ssim_is_scikit_images_default():
    image, reference = noisy(camera()), camera()
    expected = oracle.structural_similarity(reference.numpy(), image.numpy(), data_range=1.0)
    assert float(SSIM(data_range=1.0)(image, reference)) == pytest.approx(expected, abs=CLOSE)


@pytest.mark.parametrize("sigma", [0.8, 1.5, 2.5])
@pytest.mark.parametrize("sample", [True, False])
def test_gaussian_ssim_is_scikit_images(sigma, sample):
    image, reference = noisy(camera()), camera()
    expected = oracle.structural_similarity(
        reference.numpy(),
        image.numpy(),
        data_range=1.0,
        gaussian_weights=True,
        sigma=sigma,
        use_sample_covariance=sample,
        K1=0.02,
        K2=0.05,
    )
    metric = SSIM(data_range=1.0, weights="gaussian", sigma=sigma, sample_covariance=sample, K1=0.02, K2=0.05)
    assert float(metric(image, reference)) == pytest.approx(expected, abs=CLOSE)


@pytest.mark.parametrize(("padding", "mode"), [("zero", "constant"), ("mirror", "reflect")])
def test_padded_ssim_is_scikit_images_on_a_padded_image(padding, mode):
    image, reference = noisy(camera()), camera()
    wide = [
        np.pad(z.numpy(), 5, mode=mode) for z in (reference, image)
    ]  # numpy's "reflect" omits the edge, as ours
    expected = oracle.structural_similarity(
        *wide, data_range=1.0, gaussian_weights=True, use_sample_covariance=False
    )
    metric = SSIM(data_range=1.0, weights="gaussian", padding=padding)
    assert float(metric(image, reference)) == pytest.approx(expected, abs=CLOSE)


def test_ssim_in_a_region_is_the_mean_of_scikit_images_map_there():
    image, reference = noisy(camera()), camera()
    region = torch.zeros(128, 120)
    region[20:70, 1:40] = 1  # reaches into the border that holds no whole window
    _, similarity = oracle.structural_similarity(reference.numpy(), image.numpy(), data_range=1.0, full=True)
    expected = similarity[20:70, 3:40].mean()
    assert float(SSIM(data_range=1.0, region=region)(image, reference)) == pytest.approx(expected, abs=CLOSE)


def test_single_precision_images_are_compared_in_double():
    reference = (camera() + 1000.0).float()  # float32 sums of squares would lose the variance altogether
    image = noisy(reference, 0.05)
    expected = oracle.structural_similarity(
        reference.double().numpy(), image.double().numpy(), data_range=1.0
    )
    value = SSIM(data_range=1.0)(image, reference)
    assert value.dtype == torch.float64
    assert float(value) == pytest.approx(
        expected, abs=1e-7
    )  # means of 1e6, covariances of 1e-3: nine digits cancel


# Closed forms


def test_mse_rmse_nmse_psnr_of_a_constant_offset():
    reference = camera()
    image = reference + 0.25
    assert float(MSE()(image, reference)) == pytest.approx(0.0625, abs=CLOSE)
    assert float(RMSE()(image, reference)) == pytest.approx(0.25, abs=CLOSE)
    assert float(PSNR(data_range=1.0)(image, reference)) == pytest.approx(20 * math.log10(4), abs=CLOSE)
    ratio = 0.0625 / float(reference.square().mean())
    assert float(NMSE()(image, reference)) == pytest.approx(ratio, abs=CLOSE)
    assert float(NMSE(squared=False)(image, reference)) == pytest.approx(math.sqrt(ratio), abs=CLOSE)


def test_rmse_hu_takes_attenuation_in_inverse_millimetres():
    water = 0.0192
    hounsfield = torch.tensor([[-1000.0, 0.0], [40.0, 1000.0]], dtype=torch.float64)
    mu = water * (1 + hounsfield / 1000)
    off = water * (1 + (hounsfield + 12.0) / 1000)
    assert float(RMSEHU(water=water)(off, mu)) == pytest.approx(12.0, abs=CLOSE)
    assert float(RMSE(water=water)(off, mu)) == pytest.approx(12.0, abs=CLOSE)
    assert RMSEHU(water=water).unit == "HU"


def test_equal_images_have_no_error():
    reference = camera()
    assert float(PSNR(data_range=1.0)(reference, reference)) == math.inf
    assert float(SSIM(data_range=1.0)(reference, reference)) == pytest.approx(1.0, abs=CLOSE)
    assert float(NMSE()(reference, reference)) == 0.0


def test_clipping_comes_before_the_comparison():
    reference = torch.tensor([[-1000.0, 100.0, 500.0]])
    image = torch.tensor([[-500.0, 120.0, 3000.0]])
    assert float(RMSE(clip=(-160.0, 240.0))(image, reference)) == pytest.approx(20 / math.sqrt(3), abs=CLOSE)


def test_clipping_is_in_hu_when_water_is_given():
    mu = 0.02 * (1 + torch.tensor([[-1000.0, 100.0, 500.0]], dtype=torch.float64) / 1000)
    off = 0.02 * (1 + torch.tensor([[-500.0, 120.0, 3000.0]], dtype=torch.float64) / 1000)
    assert float(RMSEHU(clip=(-160.0, 240.0))(off, mu)) == pytest.approx(20 / math.sqrt(3), abs=CLOSE)


def test_a_region_limits_the_comparison_and_the_range():
    reference = camera()
    image = reference.clone()
    region = torch.zeros(128, 120, dtype=torch.bool)
    region[30:60, 40:80] = True
    image[region] += 0.1
    image[~region] += 100.0
    assert float(MSE(region=region)(image, reference)) == pytest.approx(0.01, abs=CLOSE)
    peak = float(reference[region].max() - reference[region].min())
    assert float(PSNR(region=region)(image, reference)) == pytest.approx(
        20 * math.log10(peak / 0.1), abs=CLOSE
    )


@pytest.mark.parametrize("shape", [(8, 8), (9, 9), (8, 12)])
def test_the_circle_touches_the_shorter_sides(shape):
    reference = torch.zeros(shape, dtype=torch.float64)
    image = torch.ones(shape, dtype=torch.float64)
    image[0, 0] = image[-1, -1] = 1e6  # corners are outside
    assert float(MSE(region="circle")(image, reference)) == pytest.approx(1.0, abs=CLOSE)
    middle = reference.clone()
    middle[0, shape[1] // 2] = 3.0  # the middle of the upper side is inside
    assert float(MSE(region="circle")(middle, reference)) > 0


def test_complex_images_are_compared_by_magnitude():
    reference = camera()
    phase = torch.polar(
        torch.ones_like(reference), torch.linspace(0, 6, 120, dtype=torch.float64).expand(128, 120)
    )
    for metric in EVERY[:-1]:
        expected = metric((reference * 1.1).abs(), reference)
        torch.testing.assert_close(
            metric(reference * 1.1 * phase, reference), expected, rtol=1e-12, atol=CLOSE
        )
        torch.testing.assert_close(
            metric(reference * 1.1 * phase, reference * phase), expected, rtol=1e-12, atol=CLOSE
        )


def test_complex_images_can_be_compared_by_their_difference():
    reference = camera().to(torch.complex128)
    image = reference * torch.exp(
        torch.tensor(0.3j, dtype=torch.complex128)
    )  # the same magnitude, another phase
    distance = 2 * math.sin(0.15)
    assert float(NMSE()(image, reference)) == pytest.approx(0.0, abs=CLOSE)
    by_difference = NMSE(squared=False, complex_images="difference")
    assert float(by_difference(image, reference)) == pytest.approx(distance, abs=CLOSE)
    power = float(camera().square().mean())
    expected = 10 * math.log10(float(camera().max()) ** 2 / (distance**2 * power))
    psnr = PSNR(data_range="max", complex_images="difference")
    assert float(psnr(image, reference)) == pytest.approx(expected, abs=CLOSE)
    assert psnr.convention.endswith("complex difference")
    real = PSNR(data_range="max")(noisy(camera()), camera())
    assert torch.equal(psnr(noisy(camera()), camera()), real)


def test_a_volume_pools_pixels_and_averages_ssim_over_slices():
    reference = torch.stack([camera(), 0.5 * camera(), 0.2 * camera()])
    image = noisy(reference)
    peak = float(reference.max())
    expected = oracle.peak_signal_noise_ratio(reference.numpy(), image.numpy(), data_range=peak)
    assert float(PSNR(data_range="max")(image, reference, item_ndim=3)) == pytest.approx(expected, abs=CLOSE)
    slices = [
        oracle.structural_similarity(r, x, data_range=peak)
        for r, x in zip(reference.numpy(), image.numpy(), strict=True)
    ]
    assert float(SSIM(data_range="max")(image, reference, item_ndim=3)) == pytest.approx(
        np.mean(slices), abs=CLOSE
    )


# Batches, dtypes, shapes


@every_metric
@settings(deadline=None)  # other processes may hold the processor
@given(
    batch=st.lists(st.integers(0, 3), max_size=2),
    height=st.integers(7, 12),
    width=st.integers(7, 12),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.complex64, torch.complex128]),
)
def test_a_batch_equals_a_loop(metric, batch, height, width, dtype):
    reference = torch.randn(*batch, height, width, generator=torch.Generator().manual_seed(0), dtype=dtype)
    image = torch.randn(*batch, height, width, generator=torch.Generator().manual_seed(1), dtype=dtype)
    together = metric(image, reference)
    assert together.shape == torch.Size(batch)
    assert together.dtype == torch.float64
    items = zip(image.reshape(-1, height, width), reference.reshape(-1, height, width), strict=True)
    for value, (x, r) in zip(together.reshape(-1), items, strict=True):
        torch.testing.assert_close(value, metric(x, r), rtol=1e-10, atol=CLOSE)  # sums in another order


@every_metric
def test_one_reference_serves_a_batch(metric):
    reference = camera()
    image = torch.stack([noisy(reference, seed=1), noisy(reference, seed=2)])
    assert torch.equal(metric(image, reference), metric(image, reference.expand(2, 128, 120)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@every_metric
def test_the_device_does_not_matter(metric):
    image = noisy(camera())
    on_gpu = metric(image.cuda(), camera().cuda())
    assert on_gpu.is_cuda
    torch.testing.assert_close(
        on_gpu.cpu(), metric(image, camera()), rtol=1e-10, atol=CLOSE
    )  # sums in another order


@every_metric
def test_more_than_one_block_of_slices(metric):
    image = torch.stack([noisy(camera()[:16, :16], seed=seed) for seed in range(19)])
    expected = torch.stack([metric(x, camera()[:16, :16]) for x in image])
    torch.testing.assert_close(metric(image, camera()[:16, :16]), expected, rtol=1e-12, atol=CLOSE)


@every_metric
def test_images_are_left_alone(metric):
    image, reference = noisy(camera()), camera()
    copies = image.clone(), reference.clone()
    metric(image, reference)
    assert torch.equal(image, copies[0])
    assert torch.equal(reference, copies[1])


@settings(deadline=None)
@given(scale=st.floats(1e-6, 1e6))
def test_relative_metrics_do_not_depend_on_the_unit(scale):
    image, reference = noisy(camera()[:32, :32]), camera()[:32, :32]
    for metric in (PSNR(data_range="max"), SSIM(data_range="max-min"), NMSE()):
        torch.testing.assert_close(
            metric(scale * image, scale * reference), metric(image, reference), rtol=1e-9, atol=CLOSE
        )


@settings(deadline=None)
@given(low=st.floats(0, 0.5))
def test_the_default_peak_never_flatters_images_that_are_nowhere_negative(low):
    reference = camera()[:32, :32] + low
    assume(float(reference.min()) >= 0)
    image = noisy(reference)
    assert float(PSNR()(image, reference)) <= float(PSNR(data_range="max")(image, reference)) + CLOSE


# Conventions


def test_a_convention_states_every_choice():
    assert PSNR(data_range=1.0).convention == "peak 1, whole image, magnitude if complex"
    assert SSIM(data_range="max-min").convention == (
        "data range max-min of each reference, uniform 7x7 window, sample covariance, no padding, "
        "K1 0.01 K2 0.03, whole image, magnitude if complex"
    )
    red_cnn = SSIM(data_range=400.0, clip=(-160, 240), weights="gaussian", padding="zero", water=0.02)
    assert red_cnn.convention == (
        "data range 400, gaussian 11x11 sigma 1.5 window, population covariance, zero padding, "
        "K1 0.01 K2 0.03, in HU with water at 0.02 1/mm, clipped to [-160, 240], whole image, "
        "magnitude if complex"
    )
    assert MSE(region=torch.ones(3, 4)).convention.startswith("mean of squares, region of 12 pixels")
    assert NMSE().convention != NMSE(squared=False).convention
    assert "largest circle" in RMSE(region="circle").convention
    assert "water at 0.0192 1/mm" in RMSEHU(water=0.0192).convention


def test_scores_print_the_range_they_used():
    reference = torch.stack([camera(), 0.5 * camera()])
    image = noisy(reference)
    scores = evaluate(image, reference, [PSNR(data_range="max"), SSIM(data_range=1.0), MSE()])
    assert [score.name for score in scores] == ["psnr", "ssim", "mse"]
    top = float(camera().max())
    assert scores[0].convention.startswith(f"peak {0.5 * top:.4g} to {top:.4g} (max of each reference)")
    assert scores[1].convention == SSIM(data_range=1.0).convention
    assert scores[0].higher_is_better
    assert not scores[2].higher_is_better
    torch.testing.assert_close(scores[0].value, PSNR(data_range="max")(image, reference))
    (alone,) = evaluate(image[0], reference[0], PSNR(data_range="max"))
    assert str(alone).startswith(f"psnr {float(alone.value):.4g} dB (peak {top:.4g} (max of each reference)")


# Presets


def test_every_preset_gives_numbers():
    reference = 200.0 * camera() - 100.0
    for name, row in PRESETS.items():
        assert row.summary
        for score in evaluate(noisy(reference, 5.0), reference, preset(name)):
            assert math.isfinite(float(score.value)), (name, score.name)


def test_red_cnn_on_attenuation_equals_red_cnn_on_hu():
    hounsfield = 600.0 * camera() - 300.0
    image = noisy(hounsfield, 30.0)
    in_hu = evaluate(image, hounsfield, preset("red_cnn"))
    in_mu = evaluate(0.02 * (1 + image / 1000), 0.02 * (1 + hounsfield / 1000), preset("red_cnn", water=0.02))
    for one, other in zip(in_hu, in_mu, strict=True):
        assert float(one.value) == pytest.approx(float(other.value), abs=CLOSE)
    psnr, _, rmse = in_hu
    assert float(psnr.value) == pytest.approx(20 * math.log10(400 / float(rmse.value)), abs=CLOSE)


def test_an_unknown_preset_lists_the_known():
    with pytest.raises(ValueError, match=r"no metric preset 'fastmir'; there are .*fastmri"):
        preset("fastmir")


# By name


class MetricPlugin:
    """Registers one metric, and under another name something that is none."""

    @hookimpl
    def recon_metrics(self):
        example = Example({"data_range": 1.0})
        yield MetricEntry(
            name="ssim", factory="recon.metrics:SSIM", summary="Similarity", examples=(example,)
        )
        yield MetricEntry(name="clock", factory="fractions:Fraction", summary="No metric")


def test_metrics_are_made_by_name():
    with using(Registry([MetricPlugin()], environment={})):
        assert as_metric("ssim:data_range=max-min,weights=gaussian") == SSIM(
            data_range="max-min", weights="gaussian"
        )
        assert as_metric(("ssim", {"data_range": 2.0, "clip": [0, 1]})) == SSIM(
            data_range=2.0, clip=(0.0, 1.0)
        )
        scores = evaluate(
            noisy(camera()), camera(), [PSNR(data_range=1.0), "ssim:data_range=1,region=circle"]
        )
        assert [score.name for score in scores] == ["psnr", "ssim"]
        with pytest.raises(ArgumentValueError, match=r"data_range=-1.0 must be > 0"):
            as_metric("ssim:data_range=-1")
        with pytest.raises(ValueError, match="ssim needs a data range"):
            as_metric("ssim")
        with pytest.raises(UnknownNameError, match="ssim"):
            as_metric("simm")
        with pytest.raises(TypeError, match=r"Fraction, not a recon\.metrics\.Metric"):
            as_metric("clock")
        with pytest.raises(TypeError, match="not as int"):
            as_metric(3)


# Bad input


def test_ssim_without_a_data_range_is_refused():
    with pytest.raises(ValueError, match=r"data_range=1 for images in \[0, 1\]"):
        SSIM()


@every_metric
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_not_a_number_is_refused(metric, value):
    for which, word in ((0, "image"), (1, "reference")):
        pair = [noisy(camera()), camera()]
        pair[which] = pair[which].clone()
        pair[which][3, 4] = value
        with pytest.raises(ValueError, match=f"the {word} has 1 NaN or infinite values of 15360"):
            metric(*pair)


@every_metric
def test_shapes_that_do_not_match_are_refused(metric):
    with pytest.raises(ValueError, match=r"shape \(128, 120\), the reference \(120, 128\)"):
        metric(camera(), camera().T)
    with pytest.raises(ValueError, match="one item"):
        metric(camera().expand(3, 128, 120), camera().expand(2, 128, 120))
    with pytest.raises(ValueError, match="item_ndim"):
        metric(camera(), camera(), item_ndim=3)
    with pytest.raises(ValueError, match="no pixel"):
        metric(torch.zeros(0, 5), torch.zeros(0, 5))


@every_metric
def test_devices_that_differ_are_refused(metric):
    with pytest.raises(ValueError, match=r"on meta, the reference on cpu; move one"):
        metric(camera().to("meta"), camera())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PSNR(data_range=0.0), "positive number, got 0"),
        (lambda: PSNR(data_range=math.nan), "positive number"),
        (lambda: PSNR(data_range="min"), '"max" or "max-min", got \'min\''),
        (lambda: SSIM(data_range=1.0, size=8), "odd number of pixels from 3 on, got 8"),
        (lambda: SSIM(data_range=1.0, size=7, weights="gaussian"), "follows from sigma"),
        (lambda: SSIM(data_range=1.0, weights="box"), "got 'box'"),
        (lambda: SSIM(data_range=1.0, padding="edge"), "got 'edge'"),
        (lambda: SSIM(data_range=1.0, K1=0.0), "K1 must be positive"),
        (lambda: MSE(clip=(1.0, 1.0)), "low < high"),
        (lambda: MSE(region="square"), "got 'square'"),
        (lambda: MSE(complex_images="phase"), "got 'phase'"),
        (lambda: MSE(complex_images="difference", clip=(0, 1)), "clip, water and shift are for real values"),
        (lambda: SSIM(data_range=1.0, complex_images="difference"), "ssim compares magnitudes"),
        (lambda: RMSEHU(water=0.0), "attenuation of water in 1/mm"),
        (lambda: RMSEHU(water=None), "give the attenuation of water"),
    ],
)
def test_options_that_make_no_sense_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_reference_without_contrast_has_no_range():
    flat = torch.ones(16, 16)
    for metric in (PSNR(), SSIM(data_range="max-min")):
        with pytest.raises(ValueError, match="give it as a number"):
            metric(flat, flat)
    with pytest.raises(ValueError, match="reference is zero everywhere"):
        NMSE()(flat, 0 * flat)


def test_an_image_smaller_than_the_window_is_refused():
    small = torch.rand(6, 20)
    with pytest.raises(ValueError, match=r"6 x 20 pixels does not hold one 7 x 7 window"):
        SSIM(data_range=1.0)(small, small)
    with pytest.raises(ValueError, match="cannot be mirrored"):
        SSIM(data_range=1.0, padding="mirror")(small[:3], small[:3])
    with pytest.raises(ValueError, match="one axis"):
        SSIM(data_range=1.0)(small, small, item_ndim=1)


def test_regions_that_do_not_fit_are_refused():
    image = torch.rand(16, 20)
    with pytest.raises(ValueError, match=r"region has shape \(20, 16\), an item \(16, 20\)"):
        MSE(region=torch.ones(20, 16))(image, image)
    with pytest.raises(ValueError, match="0 or 1 everywhere"):
        MSE(region=torch.full((16, 20), 0.5))(image, image)
    with pytest.raises(ValueError, match="no pixel"):
        MSE(region=torch.zeros(16, 20))(image, image)
    corner = torch.zeros(16, 20)
    corner[0, 0] = 1
    with pytest.raises(ValueError, match="centre in the region"):
        SSIM(data_range=1.0, region=corner)(image, image)


def test_a_metric_that_is_not_finished_says_so():
    class Unfinished(Metric):
        name = "unfinished"

    with pytest.raises(NotImplementedError, match="_compare"):
        Unfinished()(torch.ones(2, 2), torch.ones(2, 2))
