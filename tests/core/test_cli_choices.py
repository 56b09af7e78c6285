"""`recon solve` with the rules for the weight, --explain and --uncertainty, from the shell's point of view."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import recon
from recon.cli import main


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A small CT problem with noise of 0.05."""
    axis = torch.linspace(-1, 1, 32)
    image = 0.5 * ((axis[:, None] ** 2 + axis**2) < 0.6) + 0.5 * (
        (axis[:, None] ** 2 + (axis - 0.3) ** 2) < 0.1
    )
    ct = recon.operator("ct_parallel", shape=(32, 32), angles=24)
    y = ct.measure(image.float(), noise=recon.noise("gaussian", std=0.2), seed=0)
    return recon.Problem(ct, y, reference=image.float()).save(tmp_path / "scan.h5")


@pytest.mark.parametrize(
    ("rule", "origin"), [("auto", "from the noise level"), ("sure", "by SURE"), ("lcurve", "by the L-curve")]
)
def test_every_rule_for_the_weight(
    rule: str, origin: str, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = [
        "solve",
        str(scan),
        "--prior",
        "tv",
        "--weight",
        rule,
        "-o",
        str(out),
        "--noise-level",
        "0.2",
    ]
    assert main([*arguments, "--explain", "--report"]) == 0
    shown = capsys.readouterr().out
    solution = recon.Solution.load(out)
    assert f"{solution.weight:.4g} ({origin})" in shown
    assert solution.explain() in shown
    page = (out / "report.html").read_text("utf-8")
    assert "What was chosen, and why" in page and "Search for the weight" in page
    drawn = {"auto": "Residual relative to the noise", "sure": "Estimated error of the", "lcurve": "L-curve:"}
    assert drawn[rule] in page
    assert (
        solution.weight
        == recon.solve(
            recon.Problem.load(scan), "tv", weight=rule, fidelity=("gaussian", {"noise_level": 0.2})
        ).weight
    )


def test_uncertainty_is_written_and_told(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["solve", str(scan), "--prior", "tv", "-o", str(out), "--uncertainty", "4", "--seed", "2"]
    assert main(arguments) == 0
    assert "4 solves; without the bias of the prior" in " ".join(capsys.readouterr().out.split())
    again = recon.Solution.load(out)
    assert again.error_bars is not None and again.error_bars.seed == 2
    std = again.error_bars.std.numpy()
    with Image.open(out / "uncertainty.png") as picture:
        shown = np.asarray(picture, dtype=float)
    top = np.percentile(std, 99.5)
    np.testing.assert_allclose(
        shown / 255 * top, np.minimum(std, top), atol=top / 255
    )  # half a grey level, rounded
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["uncertainty"]["samples"] == 4
    assert [Path(name).name for name in told["written"]] == ["solution.h5", "image.png", "uncertainty.png"]
    assert [part["heading"] for part in told["explanation"]][:3] == [
        "What was solved",
        "Noise level",
        "Solver",
    ]
    assert main([*arguments[:-4]]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["image.png", "solution.h5"]


def test_fewer_than_two_solves_tell_nothing(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["solve", str(scan), "--prior", "tv", "-o", str(tmp_path / "o"), "--uncertainty", "1"]) == 2
    assert "uncertainty" in capsys.readouterr().err
