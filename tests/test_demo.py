"""`recon demo`, run once and in full: what it promises about its numbers, files and page."""

import base64
import contextlib
import io
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from recon.cli import main
from recon.demo import random_lines

PROBLEMS = ("ct", "mri", "inpainting", "super_resolution")


@pytest.fixture(scope="module")
def no_network() -> Iterator[None]:
    """Any connection fails the test: everything the demo needs ships with the package."""

    def refused(*_: object) -> None:
        raise AssertionError("the demo tried to reach the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refused)
        yield


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tests run side by side: two threads each on two cores would mostly wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def demo(
    tmp_path_factory: pytest.TempPathFactory, no_network: None, one_thread: None
) -> tuple[Path, dict[str, Any], str]:
    """The folder of a run, what it printed with --json, and what it told on stderr."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    printed, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(told):
        assert main(["demo", "--output", str(folder), "--json"]) == 0
    return folder, json.loads(printed.getvalue()), told.getvalue()


def results(demo: tuple[Path, dict[str, Any], str], problem: str) -> list[dict[str, Any]]:
    return [result for result in demo[1]["results"] if result["problem"] == problem]


# 0.3 dB and 0.01 below what they are, for other libraries and processors
@pytest.mark.parametrize(
    ("problem", "psnr", "ssim"),
    [("ct", 28.6, 0.71), ("mri", 26.9, 0.66), ("inpainting", 29.5, 0.77), ("super_resolution", 27.1, 0.77)],
)
def test_total_variation_beats_the_direct_reconstruction_and_is_as_good_as_it_was(
    demo: tuple[Path, dict[str, Any], str], problem: str, psnr: float, ssim: float
):
    direct, tv = results(demo, problem)
    assert tv["method"] == "TV"
    assert tv["psnr"] > direct["psnr"] + 0.5
    assert tv["ssim"] > direct["ssim"]
    assert tv["psnr"] >= psnr
    assert tv["ssim"] >= ssim
    assert "not converged" not in tv["note"]


def test_ct_is_scored_in_hu_inside_the_field_of_view(demo: tuple[Path, dict[str, Any], str]):
    direct, tv = results(demo, "ct")
    assert tv["rmse_hu"] < 80 < direct["rmse_hu"]
    assert "in HU with water at 0.02 1/mm" in tv["conventions"]["psnr"]
    assert "clipped to [-1000, 1000]" in tv["conventions"]["ssim"]
    assert "region of 206372 pixels" in tv["conventions"]["rmse_hu"]


def test_what_is_going_on_is_told_on_stderr(demo: tuple[Path, dict[str, Any], str]):
    lines = demo[2].splitlines()
    assert [line[:7] for line in lines] == ["1 of 4:", "2 of 4:", "3 of 4:", "4 of 4:"]


def test_nothing_but_the_results_is_written(demo: tuple[Path, dict[str, Any], str]):
    folder, printed, _ = demo
    expected = sorted(["report.html", "results.json", *(f"{name}.png" for name in PROBLEMS)])
    assert sorted(item.name for item in folder.iterdir()) == expected
    stored = json.loads((folder / "results.json").read_text())
    assert {**stored, "written": str(folder)} == printed


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_panel_is_a_picture(demo: tuple[Path, dict[str, Any], str], problem: str):
    with Image.open(demo[0] / f"{problem}.png") as picture:
        assert min(picture.size) > 500
        values = np.asarray(picture.convert("L"))
    assert len(np.unique(values)) > 100, "not blank"


def test_the_page_stands_alone_and_credits_the_data(demo: tuple[Path, dict[str, Any], str]):
    page = (demo[0] / "report.html").read_text()
    assert len(re.findall("<script>", page)) == 1, "the viewer's"
    assert len(re.findall('class="viewer"', page)) == len(PROBLEMS)
    addresses = re.findall(r'(?:src|srcset|href)="([^"]{0,40})', page)
    assert all(address.startswith("data:") for address in addresses)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 4 * 8, (
        "truth, two results, the data, two differences, two profiles for each problem"
    )
    for picture in pictures:
        with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
            image.verify()
    for credit in (
        "Saltz J. et al. (2021)",
        "Peder Larson",
        "Stefan van der Walt",
        "Lav Varshney",
        "CC-BY-4.0",
    ):
        assert credit in page
    for number in (f"{result['psnr']:.2f} dB" for result in demo[1]["results"]):
        assert number in page


def test_a_folder_that_holds_other_things_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "results.json").write_text('{"format": "of somebody else"}')
    assert main(["demo", "--output", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert "is not empty and holds no earlier result (results.json)" in shown.err
    assert len(list(tmp_path.iterdir())) == 1


def test_random_lines_are_as_many_as_asked_and_full_in_the_middle():
    mask = random_lines((64, 48), 16, 6, seed=0)
    assert mask.shape == (64, 48)
    assert torch.equal(mask, mask[:, :1].expand(64, 48)), "whole lines"
    assert mask[:, 0].sum() == 16
    assert mask[29:35].min() == 1
    assert not torch.equal(mask, random_lines((64, 48), 16, 6, seed=1))
    assert torch.equal(mask, random_lines((64, 48), 16, 6, seed=0))
