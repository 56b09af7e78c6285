"""The LoDoPaB-CT recipe: its units and noise against NumPy and closed forms, and the command."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from recon_data.lodopab import LoDoPaB

from recon.benchmarks import lodopab
from recon.cli import main
from recon.metrics import PSNR

SMALL = lodopab.Protocol().reduced(10)
WHOLE_DOSE = dataclasses.replace(SMALL, photons=4096)


def test_the_ground_truth_is_the_papers_formula_on_the_middle_of_the_slice():
    hounsfield = torch.randint(-1024, 3500, (2, 512, 512), generator=torch.Generator().manual_seed(1)).float()
    images = lodopab.ground_truth(hounsfield)
    assert images.shape == (2, 362, 362)
    middle = hounsfield[:, 75:437, 75:437].double().numpy()
    low = np.clip((middle * 0.01998 + 20) / 81.35858, 0, 1)
    high = np.clip(((middle + 1) * 0.01998 + 20) / 81.35858, 0, 1)
    found = images.double().numpy()
    single = 1e-7  # rounding
    assert (found >= low - single).all() and (found <= high + single).all()
    inside = (low > 0) & (high < 1)
    dither = (found - low)[inside] / (0.01998 / 81.35858)
    assert abs(dither.mean() - 0.5) < 0.01 and abs(dither.var() - 1 / 12) < 0.002  # uniform in [0, 1) HU
    # the constants that define the units: -1000 HU is air at 0.02 / m, and 3071 HU, the most of 12 bits, is 1
    assert abs(0.01998 * 3071 + 20 - lodopab.MU_MAX) < 1e-9
    assert lodopab.ground_truth(torch.full((1, 362, 362), -1001.0)).max() <= 0.02 / 81.35858 + single


def test_the_geometry_is_that_of_the_data_set():
    dataset = object.__new__(LoDoPaB)  # its geometry needs no files
    operator, wanted = lodopab.Protocol().operator(362), dataset.geometry
    geometry = operator.geometry
    assert geometry.shape == wanted["shape"] and geometry.detectors == wanted["detectors"]
    assert geometry.pixel_size == pytest.approx(wanted["pixel_size"], rel=1e-12)
    assert geometry.detector_size == pytest.approx(wanted["detector_size"], rel=1e-12)
    assert np.allclose(geometry.angles, wanted["angles"], rtol=0, atol=1e-12)


def test_the_noise_has_the_variance_of_4096_photons_in_the_units_of_the_files():
    images = torch.full((64, SMALL.side, SMALL.side), 20 / 81.35858)  # water in the whole square
    problem = lodopab.scan(images, WHOLE_DOSE)
    first = (
        0  # the view at (1/2) pi / views, almost along the columns: the middle ray crosses 260 mm of water
    )
    ray = problem.data[:, first, SMALL.detectors // 2].double()
    length = 0.26 / math.cos(0.5 * math.pi / SMALL.views)  # m
    integral = 20 * length
    counts = 4096 * math.exp(-integral)
    assert counts > 20  # so that the expansion of the logarithm holds to 3 %
    deviation = 1 / (81.35858 * math.sqrt(counts))
    assert float(ray.std()) == pytest.approx(deviation, rel=0.3)  # three errors of a deviation of 64 samples
    assert float(ray.mean()) == pytest.approx(integral / 81.35858, abs=4 * deviation / 8)
    # all rays: (y - clean)^2 / variance is one on the mean, 100 000 rays of at least 20 counts
    clean = SMALL.operator(SMALL.fine_side)(
        torch.full((SMALL.fine_side, SMALL.fine_side), 0.02, dtype=torch.float64)
    )
    variance = torch.exp(clean) / (4096 * 81.35858**2)
    ratio = (problem.data - clean / 81.35858).square() / variance
    assert float(ratio[:, clean < math.log(4096 / 20)].mean()) == pytest.approx(1, abs=0.05)


def test_a_ray_without_photons_is_counted_as_a_tenth():
    images = torch.ones(1, SMALL.side, SMALL.side)  # 81 / m over 0.26 m: not one of 4096 photons passes
    data = lodopab.scan(images, WHOLE_DOSE).data
    assert float(data.max()) == pytest.approx(math.log(4096 / 0.1) / 81.35858, rel=1e-6)
    assert lodopab.scan(images, WHOLE_DOSE).line_integrals.max() == pytest.approx(math.log(40960), rel=1e-6)


@pytest.mark.parametrize("factor", [5, 8, 12])
def test_a_reduced_scan_keeps_the_noise_of_the_image(factor):
    """sigma^2 of FBP is e^p pi^2 / (12 photons views a^2) behind p, for the ramp filter on detectors a apart."""
    small = lodopab.Protocol().reduced(factor)
    side = small.side
    images = torch.full(
        (12, side, side), 5 / 81.35858
    )  # thin enough for counts to be Gaussian: 5 / m over 0.26 m
    scans = lodopab.scan(images, small)
    found = scans.operator.pinv(scans.line_integrals).double()
    middle = found[:, side // 2 - 2 : side // 2 + 3, side // 2 - 2 : side // 2 + 3]
    noise = float(middle.var(0).mean()) ** 0.5
    whole = lodopab.Protocol()
    spacing = 1000 * 0.26 * math.sqrt(2) / whole.detectors
    published = math.sqrt(math.exp(1.3) * math.pi**2 / (12 * 4096 * whole.views * spacing**2))
    # detectors and views are whole numbers, and pixels interpolate the filtered views
    assert noise == pytest.approx(published, rel=0.35)


def test_total_variation_gains_on_coarse_scans_too():
    fbp, tv = lodopab.run(lodopab.SAMPLES, ("tv",), reduced=6)
    assert tv.psnr > fbp.psnr + 2 and tv.ssim > fbp.ssim + 0.03


def test_scores_are_those_of_either_unit_and_tv_gains_on_the_metal_free_slice():
    fbp, tv = lodopab.run(("ct_chest",), ("tv",), reduced=3)
    assert tv.psnr > fbp.psnr + 2 and tv.ssim > fbp.ssim
    images = lodopab.ground_truth(lodopab.slices(("ct_chest",)), SMALL)
    problem = lodopab.scan(images, SMALL)
    per_mm = problem.operator.pinv(problem.line_integrals)
    scores = []
    for unit in (1.0, 1000 / lodopab.MU_MAX, 1000.0):
        truth = images * (lodopab.MU_MAX / 1000) * unit
        scores.append(
            float(PSNR(data_range=float(truth.max() - truth.min()))(per_mm * unit, truth, item_ndim=3))
        )
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-4)


def test_what_is_no_slice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="362 x 362 pixels or more, got 361 x 400"):
        lodopab.ground_truth(torch.zeros(1, 361, 400))
    with pytest.raises(ValueError, match="factor from 1 to 18, got 19"):
        lodopab.Protocol().reduced(19)
    np.save(tmp_path / "image.npy", np.zeros((400, 400)))
    with pytest.raises(ValueError, match="must be CT in HU"):
        lodopab.slices((str(tmp_path / "image.npy"),))


def test_the_command_says_that_the_slices_are_not_the_data_set(capsys):
    arguments = ["benchmark", "lodopab", "--slices", "ct_chest", "--reduced", "10", "--prior", "tv:weight=1"]
    assert main([*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in printed["rows"]] == ["FBP, Hann window, cutoff 0.641", "tv:weight=1"]
    assert {"method": "learned primal-dual", "psnr": 35.73, "ssim": 0.8426} in printed["published"]
    assert "not those of the data set" in printed["note"] and "10 times smaller" in printed["note"]
    assert main(["benchmark", "lodopab", "--images", "3"]) == 2
    assert "--images is not an option" in capsys.readouterr().err
    assert main(["benchmark", "ellipses", "--reduced", "3"]) == 2
