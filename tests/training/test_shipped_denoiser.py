"""The denoiser that ships: small, documented, and better than TV on slices that it has not seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import recon_networks
import torch
from torch.nn.functional import avg_pool2d

import recon
from recon.metrics import PSNR

FOLDER = Path(recon_networks.__file__).parent / "models" / "drunet"


def slice_of(name, shrink=4):
    """A slice of 128 x 128 pixels (unless said) between 0 and 1, of a patient that was not trained on."""
    loaded = recon.dataset(name)
    values = loaded.attenuation() / 0.04 if loaded.unit == "HU" else loaded.data / loaded.data.max()
    return avg_pool2d(values[None, None].float(), shrink)[0, 0]


def psnr(image, truth):
    return float(PSNR(data_range=1.0)(image.abs() if image.is_complex() else image, truth))


def test_it_is_small_and_says_where_it_comes_from():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2_000_000
    card = json.loads((FOLDER / "card.json").read_text())
    assert card["licence"] and "TCIA" in card["credits"] and "not trained on" in card["notes"]
    assert card["training"]["steps"] > 1000 and card["objective"]["name"] == "denoising"


@pytest.mark.parametrize(("name", "gain"), [("ct_chest", 0.7), ("mr_brain", 0.5), ("camera", 0.3)])
def test_it_denoises_better_than_tv(name, gain):
    truth = slice_of(name)
    op = recon.Identity(truth.shape)
    for sigma in (0.02, 0.1):
        y = op.measure(truth, noise=recon.noise("gaussian", std=sigma), seed=0)
        term = ("gaussian", {"noise_level": sigma})
        tv = recon.solve(op, "tv", y, fidelity=term).image
        solver = recon.Feedforward(sigma=sigma)
        learned = recon.solve(op, "drunet", y, image_range=(0, 1), solver=solver).image
        assert psnr(learned, truth) > psnr(tv, truth) + gain, sigma


def mri_problem(truth):
    op = recon.operator(
        "mri_cartesian", mask=("random_1d", {"acceleration": 3, "seed": 1}), shape=truth.shape
    )
    return op, op.measure(truth.to(torch.complex64), noise="complex_gaussian:std=0.01", seed=0)


def test_it_reconstructs_mri_better_than_tv_inside_admm():
    truth = slice_of("mr_brain", 8)
    op, y = mri_problem(truth)
    tv = recon.solve(op, "tv", y).image
    with pytest.warns(recon.ConvergenceWarning):
        learned = recon.solve(
            op, "drunet", y, image_range=(0, 1), weight=2e-4, stop=recon.SmallResiduals(1e-3) | recon.MaxIterations(40)
        ).image  # fmt: skip
    assert psnr(learned, truth) > psnr(tv, truth) + 1.0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::recon.ConvergenceWarning")
def test_it_reconstructs_ct_and_mri_better_than_tv_with_the_automatic_weight():
    stop = recon.SmallResiduals(1e-3) | recon.MaxIterations(60)
    truth = slice_of("ct_chest", 2)
    ct = recon.operator("ct_parallel", shape=truth.shape, pixel_size=1.28125, angles=30)
    y = ct.measure(0.04 * truth, noise="poisson:photons=1e5", seed=0)
    images = [recon.solve(ct, name, y, image_range=(0, 0.04), stop=stop).image for name in ("tv", "drunet")]
    tv, learned = (psnr(image / 0.04, truth) for image in images)
    assert learned > tv + 0.7
    truth = slice_of("mr_brain", 2)
    op, y = mri_problem(truth)
    images = [recon.solve(op, name, y, image_range=(0, 1), stop=stop).image for name in ("tv", "drunet")]
    tv, learned = (psnr(image, truth) for image in images)
    assert learned > tv + 1.5


def test_it_must_know_the_range_of_the_images():
    op = recon.Identity((16, 16))
    with pytest.raises(ValueError, match="say which range the image has"):
        recon.solve(op, "drunet", torch.rand(16, 16))


@pytest.mark.filterwarnings("ignore::recon.ConvergenceWarning")
def test_the_command_line_uses_it_offline(tmp_path, capsys):
    import numpy as np

    from recon.cli import main

    np.save(tmp_path / "image.npy", slice_of("mr_brain")[32:96, 32:96].numpy())
    scan, out = str(tmp_path / "scan.h5"), str(tmp_path / "out")
    assert main(["simulate", str(tmp_path / "image.npy"), "--op", "blur:kernel=[[0.25,0.5,0.25]]", "--noise",
                 "gaussian:std=0.02", "-o", scan]) == 0  # fmt: skip
    capsys.readouterr()
    code = main(
        ["solve", scan, "--prior", "drunet", "--weight", "1e-3", "--iterations", "10", "-o", out, "--json"]
    )
    told = capsys.readouterr()
    assert code == 0, told.err
    answer = json.loads(told.out)
    assert answer["provenance"]["prior"][0]["name"] == "recon/drunet"
    assert answer["iterations"] <= 10 and answer["scores"]
