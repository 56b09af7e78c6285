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


def mri_problem(truth, seed=0):
    op = recon.operator(
        "mri_cartesian", mask=("random_1d", {"acceleration": 3, "seed": seed + 1}), shape=truth.shape
    )
    return op, op.measure(truth.to(torch.complex64), noise="complex_gaussian:std=0.01", seed=seed)


def test_it_reconstructs_mri_better_than_tv_inside_admm():
    truth = slice_of("mr_brain", 8)
    op, y = mri_problem(truth)
    tv = recon.solve(op, "tv", y).image
    learned = recon.solve(
        op, "drunet", y, solver="admm", image_range=(0, 1), weight=2e-4, stop=recon.MaxIterations(40)
    ).image
    assert psnr(learned, truth) > psnr(tv, truth) + 1.0


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("problem", ["ct", "mri"])
def test_nothing_but_the_range_is_needed_to_beat_tv(problem, seed):
    """As in benchmarks/shipped_denoiser.py, MRI with half as many pixels a side."""
    truth = slice_of("ct_chest", 2) if problem == "ct" else slice_of("mr_brain")
    if problem == "ct":
        op = recon.operator("ct_parallel", shape=truth.shape, pixel_size=1.28125, angles=30)
        y, high = op.measure(0.04 * truth, noise="poisson:photons=1e5", seed=seed), 0.04
        peak = float(truth.max())
    else:
        (op, y), high = mri_problem(truth, seed), 1.0
        peak = 1.0
    tv = recon.solve(op, "tv", y).image / high
    solution = recon.solve(op, "drunet", y, image_range=(0, peak * high))
    assert psnr(solution.image / high, truth) > psnr(tv, truth) + (0.35 if problem == "ct" else 0.8)
    assert isinstance(solution.algorithm, recon.HQS) and solution.iterations <= 28 and solution.converged
    told = str(solution.explain())
    assert "trained for any noise level" in told and "variance of the noise" in told
    assert "schedule of 28 iterations" in told


@pytest.mark.parametrize("solver", ["fista", "red"])
def test_other_solvers_take_it(solver):
    truth = slice_of("mr_brain", 8)
    op, y = mri_problem(truth)
    image = recon.solve(
        op, "drunet", y, image_range=(0, 1), solver=solver, weight=2e-4, stop=recon.MaxIterations(30)
    ).image
    assert psnr(image, truth) > psnr(op.pinv(y), truth) + 1.0


@pytest.mark.slow
def test_the_deep_image_prior_starts_from_its_image():
    truth = slice_of("mr_brain", 8)
    op = recon.operator(
        "mask", mask=torch.rand(truth.shape, generator=torch.Generator().manual_seed(0)) > 0.5
    )
    y = op.measure(truth, noise="gaussian:std=0.02", seed=0)
    learned = recon.solve(op, "drunet", y, image_range=(0, 1)).image
    few = {"solver": "dip", "stop": recon.MaxIterations(3), "image_range": (0, 1)}
    from_it = recon.solve(op, "dip", y, x0=learned, **few).image
    from_nothing = recon.solve(op, "dip", y, **few).image
    assert psnr(from_it, truth) > psnr(from_nothing, truth) + 1.0


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
