"""The experiments on a CPU, as a user runs them: every method that should help does, and the table is written."""

import csv
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "examples" / "experiments"
ROW = re.compile(r"^\| (?P<name>[^|]+?) \|(?P<cells>.*)\|$", re.MULTILINE)


def results(script, folder, *options):
    """The table of a script's results.md: name of the row to its numbers by column."""
    done = subprocess.run(
        [sys.executable, EXPERIMENTS / f"{script}.py", folder, *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    text = (folder / "results.md").read_text("utf-8")
    assert "Why the numbers differ" in text and (folder / "losses.png").stat().st_size > 10_000
    head = re.search(r"^\| \|(.*)\|$", text, re.MULTILINE)
    columns = [cell.strip() for cell in head[1].split("|")]
    return {
        row["name"]: dict(zip(columns, (cell.strip() for cell in row["cells"].split("|")), strict=True))
        for row in ROW.finditer(text)
    }


def smoke(script, folder):
    """PSNR of each row of a run of seconds, and the logs of its trainings, of which every number is finite."""
    rows = results(script, folder, "--smoke")
    logs = {}
    for log in folder.glob("*/log.csv"):
        with log.open(encoding="utf-8", newline="") as file:
            logs[log.parent.name] = [
                {name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)
            ]
        assert all(math.isfinite(value) for row in logs[log.parent.name] for value in row.values())
    numbers = [float(value) for row in rows.values() for value in row.values() if value]
    assert all(math.isfinite(number) for number in numbers)
    return {name: float(row["PSNR [dB]"]) for name, row in rows.items()}, logs


def test_in_seconds_all_systems_of_wgan_vgg_beat_their_input(tmp_path):
    psnr, logs = smoke("wgan_vgg", tmp_path)
    assert set(psnr) == {"low dose", "Generator-MSE", "WGAN-MSE", "Generator-VGG", "WGAN-VGG"}
    assert psnr["Generator-MSE"] > psnr["low dose"] + 2  # 3.4 dB where this was written
    assert min(psnr.values()) == psnr["low dose"]
    for name in ("wgan-mse", "wgan-vgg"):  # their critics learn what comes first: a slope of 1
        assert logs[name][-1]["penalty"] < 0.2 * logs[name][0]["penalty"]
    assert "penalty" not in logs["generator-mse"][-1]


def test_in_seconds_supervised_l1_beats_its_input_and_cyclegan_leaves_it_as_good(tmp_path):
    psnr, logs = smoke("cyclegan", tmp_path)
    assert psnr["supervised L1"] > psnr["low dose"] + 2  # 4.2 dB where this was written
    assert psnr["CycleGAN"] > psnr["low dose"] - 0.5  # 120 steps teach it to keep the image, no more
    assert logs["cyclegan"][-1]["cycle"] < 0.5 * logs["cyclegan"][0]["cycle"]


def test_in_seconds_a_unet_beats_its_input_in_both_modalities(tmp_path):
    psnr, logs = smoke("unet_across_modalities", tmp_path)
    assert psnr["CT: U-Net trained on CT"] > psnr["CT: FBP"] + 1  # 1.6 dB where this was written
    assert psnr["CT: U-Net trained on CT"] > psnr["CT: U-Net trained on MRI"]
    assert psnr["MRI: U-Net trained on MRI"] > psnr["MRI: zero-filled"]  # one scan to learn from: 0.2 dB
    assert all(log[-1]["loss"] < log[0]["loss"] for log in logs.values()) and len(logs) == 3


def test_in_seconds_networks_without_true_images_beat_their_input(tmp_path):
    psnr, logs = smoke("without_truth", tmp_path)
    assert psnr["CT: Noise2Inverse, X:1"] > psnr["CT: FBP"] + 1.2  # 2.4 dB where this was written
    assert psnr["CT: U-Net, supervised"] < psnr["CT: Noise2Inverse, X:1"] + 1.5  # 0.5 dB
    zero_filled = psnr["MRI: zero-filled"]
    assert psnr["MRI: MoDL, SSDU, uniform"] > zero_filled + 1.5  # 2.7 dB
    assert psnr["MRI: MoDL, SSDU"] > zero_filled + 1.5  # 2.5 dB
    assert psnr["MRI: DnCNN, SSDU, uniform"] > zero_filled + 0.8  # 1.6 dB
    assert psnr["MRI: MoDL, supervised"] < psnr["MRI: MoDL, SSDU, uniform"] + 1.5  # 0.6 dB
    assert len(logs) == 8


@pytest.mark.slow
def test_the_systems_of_wgan_vgg(tmp_path):
    rows = results("wgan_vgg", tmp_path)
    psnr = {name: float(row["PSNR [dB]"]) for name, row in rows.items()}
    assert set(psnr) == {"low dose", "Generator-MSE", "WGAN-MSE", "Generator-VGG", "WGAN-VGG"}
    assert psnr["Generator-MSE"] > psnr["low dose"] + 2
    assert psnr["Generator-MSE"] >= psnr["WGAN-VGG"]
    assert rows["WGAN-VGG"]["their PSNR"] == "35.65"


@pytest.mark.slow
def test_one_unet_across_mri_and_ct(tmp_path):
    rows = results("unet_across_modalities", tmp_path)
    psnr = {name: float(row["PSNR [dB]"]) for name, row in rows.items()}
    assert psnr["CT: U-Net trained on CT"] > psnr["CT: FBP"] + 2
    assert (
        psnr["MRI: U-Net trained on MRI"] > psnr["MRI: zero-filled"]
    )  # one scan to learn from, another to test on
    assert psnr["MRI: U-Net trained on MRI"] > psnr["MRI: U-Net trained on CT"]
    assert psnr["CT: U-Net trained on both"] > psnr["CT: U-Net trained on MRI"]
    assert {"SSIM", "MSE", "VIF"} <= rows["CT: TV"].keys()


@pytest.mark.slow
def test_cyclegan_beside_supervised_l1(tmp_path):
    rows = results("cyclegan", tmp_path)
    psnr = {name: float(row["PSNR [dB]"]) for name, row in rows.items()}
    assert psnr["supervised L1"] > psnr["low dose"] + 2  # with pairs that are pairs
    assert psnr["supervised L1"] >= psnr["CycleGAN"]
