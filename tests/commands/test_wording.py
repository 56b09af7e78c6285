"""On the command line, advice names options, and what was expected is said in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import recon
from recon.cli import main
from recon.commands.wording import as_typed

OPTIONS = {
    "solver": ("--solver", "SPEC"),
    "weight": ("--weight", "NUMBER"),
    "image_range": ("--image-range", "LOW,HIGH"),
    "noise_level": ("--noise-level", "STD"),
    "iterations": ("--iterations", "N"),
    "patch": ("--patch", "PX"),
    "anew": ("--anew", "VALUE"),
}


@pytest.mark.parametrize(
    ("python", "typed"),
    [
        ("use solver='admm', or a weight", "use --solver admm, or a weight"),
        ("say it, solver='feedforward:sigma=0.01'", "say it, --solver feedforward:sigma=0.01"),
        ("give image_range=(-1000, 0.04)", "give --image-range -1000,0.04"),
        ("say recon.solve(..., image_range=(low, high))", "say --image-range low,high"),
        ('give it, fidelity=("gaussian", {"noise_level": ...}).', "give it, --noise-level STD."),
        ('as in fidelity=("gaussian", {"noise_level": 0.01})', "as in --noise-level 0.01"),
        (
            "(stop=recon.MaxIterations(...) | ...), or from this image (x0=solution.image).",
            "(--iterations N).",
        ),
        ("solver='dip:held_out=0.05', or recon.DIP(held_out=0.05)", "--solver dip:held_out=0.05"),
        ("weight=0.1 fits several", "--weight 0.1 fits several"),
        (
            "whole images (patch=None); square ones (patch=64)",
            "whole images (no --patch); square ones (--patch 64)",
        ),
        ("or say resume=False (--anew) to start", "or say --anew to start"),
        # of an item, of a call, or of no option: as it was
        ("prior tv: weight='x' must be a number", "prior tv: weight='x' must be a number"),
        ("HQS(iterations='auto', first=0.3)", "HQS(iterations='auto', first=0.3)"),
        ("'tv:weight=1e-3 + l1:weight=1'", "'tv:weight=1e-3 + l1:weight=1'"),
        ("give x0=...", "give x0=..."),
        ("a sweep needs a solver: solver='dip'", "a sweep needs a solver: --solver dip"),
        (
            "may be images or data: say which, data=Measurements(y) or data=Images(x, 'images'), both from "
            "recon.training",
            "may be images or data: give problem files, as recon simulate writes them, which say what is data and "
            "what is image",
        ),
    ],
)
def test_keywords_become_options(python: str, typed: str) -> None:
    assert as_typed(python, OPTIONS) == typed


@pytest.mark.parametrize(
    "text",
    [
        "cannot open lr=0.01/seed=3/scan.h5",
        "cannot open weight=0.1/scan.h5",
        "cannot open weight=0.1.h5: No such file or directory",
        "runs/weight=3/problem.h5",
        r"cannot open C:\runs\weight=3\problem.h5",
        r"weight=0.1\problem.h5",
        "no answer from https://a.b/x?weight=3&patch=4",
        "give solver=recon.CG(tolerance=1e-3)",
        "give weight=torch.tensor(0.1)",
        "give weight=config.weight",
        "give weight=[exp(1), 2]",
        "give weight=({'tv': 1}, 2)",
        "give weight={'tv': 1}",
        "where weight=f(x, patch=2)",
        "where weight==3",
    ],
)
def test_paths_addresses_and_python_stay(text: str) -> None:
    assert as_typed(text, OPTIONS) == text


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--prior", "tv", "--solver", "hqs"], "use --solver admm"),
        (["--prior", "tv", "--iterations", "1", "--explain"], "more iterations (--iterations N)"),
        (["--prior", "drunet", "--image-range", "5,6", "--iterations", "1"], "here perhaps --image-range"),
        (["--prior", "tv", "--prior", "l1", "--weight", "2"], "tv:weight=1e-3 + l1:weight=1e-4"),
        (["--prior", "drunet", "--weight", "lcurve"], "choose --weight auto or"),
        (["--prior", "tv", "--memory", "1kB"], "give --memory"),
        (["--iterations", "x"], "Invalid value for '--iterations': must be a whole number, got 'x'"),
        (["--iterations", "0"], "must be >= 1, got 0"),
        (["--noise-level", "loud"], "must be a number, got 'loud'"),
        (
            ["--prior", "dip:filters=few"],
            "must be a whole number, whole numbers in brackets like (2,3) or none",
        ),
    ],
)
def test_no_python_is_advised(
    options: list[str], said: str, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["solve", str(scan), "-o", str(tmp_path / "out"), *options])
    shown = capsys.readouterr()
    text = shown.err + shown.out
    assert said in text
    assert not re.search(
        r"image_range=|solver='|weight='auto|memory='|stop=recon|x0=|Value error|tuple\[", text
    )


@pytest.mark.filterwarnings("default")
def test_a_study_s_errors_too(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["--prior", "tv", "--workers", "1", "-o", str(tmp_path / "none")]
    for mistyped in (["--solver", "amd"], ["--fidelity", "gaus"]):  # told once, before a scan is begun
        assert main(["batch", str(scan.parent), *wrong, *mistyped]) == 2
    assert not (tmp_path / "none").exists() and capsys.readouterr().err.count("error:") == 2
    recon.Problem(recon.Identity((8, 8)), recon.Problem.load(scan).reference[0, :8, :8]).save(
        scan.parent / "plain.h5"
    )
    arguments = ["--prior", "tv", "--solver", "hqs", "--workers", "1", "-o", str(tmp_path / "out")]
    assert main(["batch", str(scan.parent), *arguments]) == 1
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert text.count("use --solver admm") == 2


@pytest.mark.parametrize("item", ["prior dip", "operator ct_cone", "network unet", "solver dip"])
def test_an_item_is_shown_within_a_hundred_columns(item: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", *item.split()]) == 0
    rest = capsys.readouterr().out.partition("parameter ")[2]
    table = rest.partition("\nexample:")[0]
    assert table and max(map(len, table.splitlines())) <= 100
    kind, name = item.split()
    for parameter in recon.registry.find(kind, name).parameters():
        assert re.search(rf"^{parameter.name}\s", "parameter " + rest, re.MULTILINE), parameter.name
