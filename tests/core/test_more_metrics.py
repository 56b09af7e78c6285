"""Visual information fidelity, the metrics of published numbers, and shifted values."""

import math

import numpy as np
import pytest
import torch

from recon.metric_presets import preset
from recon.metrics import PSNR, SSIM, evaluate
from recon.published_metrics import GlobalSSIM, RegressedSNR
from recon.visual_information import VIF

EIGHT_BITS = VIF(data_range=255.0)


def picture(height, width):
    """A chirp between 0 and 255."""
    y, x = torch.arange(height, dtype=torch.float64)[:, None], torch.arange(width, dtype=torch.float64)
    waves = 0.5 * torch.sin(0.31 * y + 0.017 * x * x) + 0.4 * torch.cos(0.23 * x - 0.011 * y * x)
    return 127.5 * (1 + waves)


def grain(height, width):
    """Values between -1 and 1 that look like noise."""
    y, x = torch.arange(height, dtype=torch.float64)[:, None], torch.arange(width, dtype=torch.float64)
    return torch.sin(12.9898 * x * x + 78.233 * y * y + 3.7 * x * y)


@pytest.mark.parametrize(
    ("shape", "change", "published"),
    [  # torchmetrics 1.9.0, visual_information_fidelity in float64 with its sigma_n_sq of 2
        ((41, 41), lambda r, n: r + 20 * n, 0.4200111396267466),
        ((41, 41), lambda r, n: 1.2 * r - 10, 1.0521302596617679),
        ((41, 41), lambda r, n: 0.6 * r + 30 + 5 * n, 0.6084940821225374),
        ((64, 53), lambda r, n: r + 20 * n, 0.44587454022413464),
        ((64, 53), lambda r, n: 1.2 * r - 10, 1.051664565566633),
        ((64, 53), lambda r, n: 0.6 * r + 30 + 5 * n, 0.6231796005294594),
        ((64, 53), lambda r, n: 255 - r, 0.0),
    ],
)
def test_vif_is_that_of_torchmetrics(shape, change, published):
    reference = picture(*shape)
    image = change(reference, grain(*shape))
    assert float(EIGHT_BITS(image, reference)) == pytest.approx(
        published, abs=1e-8
    )  # their 1e-10 in a division


def test_vif_in_hu_is_that_of_the_low_dose_benchmark():
    reference = 4 * picture(64, 53) - 200
    image = reference + 60 * grain(64, 53)
    (metric,) = [each for each in preset("ldct_abdomen") if each.name == "vif"]
    assert float(metric(image, reference)) == pytest.approx(0.3854737137078843, abs=1e-8)


def test_vif_is_one_for_equal_images_and_does_not_know_their_unit():
    reference = picture(50, 50)
    image = reference + 20 * grain(50, 50)
    assert float(EIGHT_BITS(reference, reference)) == pytest.approx(1, abs=1e-12)
    in_one = VIF(data_range=1.0)(image / 255, reference / 255)
    assert float(in_one) == pytest.approx(float(EIGHT_BITS(image, reference)), abs=1e-10)
    assert float(VIF(data_range="max-min")(image * 3, reference * 3)) == pytest.approx(
        float(VIF(data_range="max-min")(image, reference)), abs=1e-10
    )


def test_vif_sees_less_with_more_noise_of_the_observer():
    reference = picture(50, 50)
    image = reference + 20 * grain(50, 50)
    blinder = VIF(data_range=255.0, noise=0.05)
    assert float(blinder(image, reference)) != pytest.approx(float(EIGHT_BITS(image, reference)), abs=0.01)


def test_vif_of_a_volume_is_the_mean_over_its_slices():
    reference = torch.stack([picture(45, 45), 0.5 * picture(45, 45)])
    image = reference + 10 * grain(45, 45)
    whole = EIGHT_BITS(image, reference, item_ndim=3)
    assert whole.shape == ()
    assert float(whole) == pytest.approx(float(EIGHT_BITS(image, reference).mean()), abs=1e-12)


def test_vif_says_what_it_needs():
    with pytest.raises(ValueError, match="needs the width of the grey scale"):
        VIF()
    with pytest.raises(ValueError, match="41 x 41 pixels or more"):
        EIGHT_BITS(picture(40, 50), picture(40, 50))
    with pytest.raises(ValueError, match="constant and holds no information"):
        EIGHT_BITS(picture(50, 50), torch.ones(50, 50))
    with pytest.raises(ValueError, match="coarse scales have no regions"):
        VIF(data_range=1.0, region="circle")
    with pytest.raises(ValueError, match="positive part"):
        VIF(data_range=1.0, noise=0.0)
    assert EIGHT_BITS.convention.startswith("grey scale 255, observer's noise 0.005546 of it")


def test_global_ssim_is_the_ssim_of_one_window():
    reference, image = picture(20, 30) / 255, (picture(20, 30) + 30 * grain(20, 30)) / 255
    x, y = image.numpy(), reference.numpy()
    covariance = np.cov(x.ravel(), y.ravel(), bias=True)
    wanted = (2 * x.mean() * y.mean() + 0.01) * (2 * covariance[0, 1] + 0.03)
    wanted /= (x.mean() ** 2 + y.mean() ** 2 + 0.01) * (covariance[0, 0] + covariance[1, 1] + 0.03)
    assert float(GlobalSSIM()(image, reference)) == pytest.approx(wanted, abs=1e-12)
    assert wanted > float(SSIM(data_range=1.0)(image, reference)) + 0.05
    assert "flatters" in GlobalSSIM().convention


def test_regressed_snr_fits_scale_and_offset_first():
    reference = picture(20, 30)
    image = reference + 5 * grain(20, 30)
    score = RegressedSNR()(image, reference)
    torch.testing.assert_close(RegressedSNR()(0.3 * image - 7, reference), score)
    design = np.stack([image.numpy().ravel(), np.ones(600)], 1)
    _, rest, _, _ = np.linalg.lstsq(design, reference.numpy().ravel(), rcond=None)
    wanted = 10 * math.log10(float(reference.square().sum()) / float(rest[0]))
    assert float(score) == pytest.approx(wanted, abs=1e-9)


def test_parks_metrics_are_those_of_his_code():
    """Clipped at air, divided by the maximum above it; PSNR with peak 1, SSIM with a range of 2."""
    reference = 8 * picture(40, 50) - 1100
    image = reference + 100 * grain(40, 50)
    scaled = [(each.clamp_min(-1000) + 1000) / (reference.max() + 1000) for each in (image, reference)]
    psnr, ssim = (float(score.value) for score in evaluate(image, reference, preset("park")))
    assert psnr == pytest.approx(float(PSNR(data_range=1.0)(*scaled)), abs=1e-9)
    assert ssim == pytest.approx(float(SSIM(data_range=2.0)(*scaled)), abs=1e-9)
    assert "shifted by 1000" in preset("park")[0].convention


def test_a_shift_changes_only_ranges_taken_from_the_reference():
    reference = picture(20, 20) - 100
    image = reference + 10 * grain(20, 20)
    plain, shifted = PSNR(data_range=400.0), PSNR(data_range=400.0, shift=1000.0)
    torch.testing.assert_close(plain(image, reference), shifted(image, reference))
    assert float(PSNR(data_range="max", shift=1000.0)(image, reference)) > float(
        PSNR(data_range="max")(image, reference)
    )
    with pytest.raises(ValueError, match="clip, water and shift are for real values"):
        PSNR(shift=1.0, complex_images="difference")
    with pytest.raises(ValueError, match="shift must be a finite number"):
        PSNR(shift=math.inf)
