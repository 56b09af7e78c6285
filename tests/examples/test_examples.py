"""Every example as a user runs it: alone, in an empty folder, from the sample data that ships."""

import ast
import functools
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(script.stem for script in EXAMPLES.glob("*.py"))
LINES = 40
SECONDS = 40.0
"""Of CPU time: an example is to take less than 20 s, and there are slower machines."""

BETTER = {
    "compare_priors": ("Wiener", "TV", 1.0),
    "ct_low_dose": ("FBP, Hann", "TV", 3.0),
    "dip_ct": ("FBP, Hann", "DIP", 0.2),
    "dip_denoise": ("noisy", "noisy, DIP", 3.0),
    "dip_inpainting": ("50 %, known", "50 %, DIP", 10.0),
    "dip_mri": ("zero-filled, 1 coil", "DIP, 1 coil", 0.7),
    "dip_super_resolution": ("Lanczos x8", "DIP x8", 0.7),
    "ct_sparse_view": ("FBP, Hann", "TV", 3.0),
    "feature_inversion": ("blank", "from layer 13", 8.0),
    "inpainting": ("interpolation", "TV", 2.5),
    "mri_4x": ("zero-filled", "TV", 1.5),
    "own_operator": ("measured", "TV", 3.0),
    "plug_and_play": ("Wiener", "wavelet denoiser", 2.0),
    "own_prior": ("TV", "Huber TV", 0.1),
    "super_resolution": ("Lanczos", "TV", 0.5),
}
"""The direct reconstruction, the method, and the least number of dB between them."""

WARNS = {"ct_fan_measured": "are measured from neither side"}
"""What an example is meant to warn of."""

ROW = re.compile(r"^(?P<name>\S.*?) +PSNR +(?P<psnr>-?[\d.]+) dB", re.MULTILINE)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run a script at most once: its folder, what it printed, its CPU time."""

    @functools.cache
    def finished(name):
        folder = tmp_path_factory.mktemp(name)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        warnings = ["-W", "error", *(["-W", "always::UserWarning"] if name in WARNS else [])]
        done = subprocess.run(
            [sys.executable, *warnings, EXAMPLES / f"{name}.py"],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return folder, done, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before

    return finished


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_without_a_warning_and_says_how_good_it_is(name, run):
    folder, done, seconds = run(name)
    said = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert all(WARNS[name] in line for line in said) if name in WARNS else done.stderr == ""
    assert seconds < SECONDS
    assert len(done.stdout.splitlines()) >= 2
    assert {file.suffix for file in folder.iterdir()} <= {".png", ".html"}, "nothing else is left behind"


@pytest.mark.parametrize("name", NAMES)
def test_it_draws_a_picture(name, run):
    folder, _, _ = run(name)
    with Image.open(folder / f"{name}.png") as picture:
        pixels = np.asarray(picture.convert("L"), dtype=float)
    assert min(pixels.shape) > 300
    assert len(np.unique(pixels)) > 100  # not blank, and not only text
    assert pixels.std() > 30


@pytest.mark.parametrize("name", BETTER)
def test_it_is_better_than_the_direct_reconstruction(name, run):
    _, done, _ = run(name)
    scores = {row["name"]: float(row["psnr"]) for row in ROW.finditer(done.stdout)}
    direct, method, margin = BETTER[name]
    assert scores[method] >= scores[direct] + margin, done.stdout


def test_samples_that_were_kept_back_are_predicted_almost_to_the_noise(run):
    _, done, _ = run("mri_multicoil")
    errors = dict(re.findall(r"^(\S.*?) +ERROR ([\d.]+)", done.stdout, re.MULTILINE))
    assert float(errors["SENSE, TV"]) < 1.2
    assert float(errors["SENSE, zero-filled"]) > 2
    assert float(errors["zero-filled"]) > 3


def test_measured_views_of_a_quarter_turn_show_the_disc_by_total_variation(run):
    _, done, _ = run("ct_fan_measured")
    dice = {
        name: float(value) for name, value in re.findall(r"^(.+): Dice ([\d.]+)$", done.stdout, re.MULTILINE)
    }
    assert min(dice["FBP, all views"], dice["TV, all views"]) > 0.95
    assert dice["TV, 90 degrees"] > dice["FBP, 90 degrees"] + 0.03


def test_views_that_were_kept_back_are_predicted_better_by_total_variation(run):
    _, done, _ = run("ct_measured_counts")
    errors = dict(re.findall(r"^(\w+) +error of the views kept back ([\d.]+)", done.stdout, re.MULTILINE))
    assert float(errors["TV"]) < 0.8 * float(errors["FBP"]) < 0.03


def test_there_are_ten():
    """The contract with the documentation, whose gallery shows them."""
    assert len(NAMES) >= 10


@pytest.mark.parametrize("name", NAMES)
def test_it_is_short_and_says_what_to_change(name):
    text = (EXAMPLES / f"{name}.py").read_text("utf-8")
    assert len(text.splitlines()) <= LINES
    summary = ast.get_docstring(ast.parse(text))
    assert summary is not None
    assert "hange" in summary or "enough" in summary


def test_a_network_fits_a_photograph_sooner_than_its_pixels_shuffled(tmp_path):
    script = EXAMPLES / "experiments" / "noise_impedance.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", script, "--side", "32", "--iterations", "40"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    left = dict(re.findall(r"^(\S.*?) +half .* left at the end: ([\d.]+)$", done.stdout, re.MULTILINE))
    assert float(left["image"]) < float(left["image + noise"]) < 0.5
    assert min(float(left["pixels shuffled"]), float(left["uniform noise"])) > 0.7
    assert (tmp_path / "noise_impedance.png").is_file()
