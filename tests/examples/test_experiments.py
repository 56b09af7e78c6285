"""The experiments on a CPU, as a user runs them: every method that should help does, and the table is written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "examples" / "experiments"
ROW = re.compile(r"^\| (?P<name>[^|]+?) \|(?P<cells>.*)\|$", re.MULTILINE)


def results(script, folder):
    """The table of a script's results.md: name of the row to its numbers by column."""
    done = subprocess.run(
        [sys.executable, EXPERIMENTS / f"{script}.py", folder],
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
