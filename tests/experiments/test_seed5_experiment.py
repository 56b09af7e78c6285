"""The splitting experiment: its published table as the paper states it, its scans, and a small run from end to end."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from recon.commands import app
from recon.experiments import seed5, seed5_report
from recon.experiments.seed5_table import METHODS, PUBLISHED, ROWS, gains, order_checks, published_scores

TINY = dataclasses.replace(
    seed5.SIZES["small"],
    side=24,
    train=4,
    test=2,
    loops=2,
    epochs=2,
    batch=2,
    stages=2,
    snlae={"widths": (16, 8), "patch": 4, "stride": 4, "search": 2},
)
RADIAL = next(row for row in ROWS if row.key == "radial-noise0-1of4")


def images() -> seed5.Images:
    """Discs of random grey on black."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    made = []
    for _ in range(6):
        image = torch.zeros(24, 24)
        for _ in range(4):
            centre = 6 + 12 * torch.rand(2, generator=generator)
            radius, grey = 3 + 5 * torch.rand(2, generator=generator)
            inside = (x - centre[0]).square() + (y - centre[1]).square() < radius.square()
            image[inside] = grey / 8
        made.append(image / image.max())
    return seed5.Images(torch.stack(made[:4]), torch.stack(made[4:]), "discs", ("discs", "another"))


def test_the_published_table_says_what_the_publication_says() -> None:
    """Gains over zero-filling and exceptions to the order, as the specification lists them."""
    assert len(ROWS) == 18 and all(len(PUBLISHED[row]) == len(METHODS) for row in ROWS)
    scae = {row.key: gains(published_scores(row))["scae"] for row in ROWS}
    assert [round(scae[f"radial-noise0-1of{rate}"], 1) for rate in (5, 4, 3)] == [7.6, 8.5, 9.1]
    assert [round(scae[f"random_2d-noise0-1of{rate}"], 1) for rate in (5, 4, 3)] == [9.3, 10.3, 11.4]
    assert [round(scae[f"random_1d-noise0-1of{rate}"], 1) for rate in (5, 4, 3)] == [6.0, 6.3, 7.4]
    wrong = [
        check.statement
        for check in order_checks({row: published_scores(row) for row in ROWS})
        if check.published != check.here
    ]
    assert wrong == []  # the table agrees with itself
    below = {
        row.key
        for row in ROWS
        if row.noise == 0 and published_scores(row)["scae"] < published_scores(row)["admm_net"]
    }
    assert below == {"radial-noise0-1of5", "random_1d-noise0-1of3"}
    last = next(row for row in ROWS if row.key == "random_1d-noise10-1of5")
    assert published_scores(last)["scae"] < published_scores(last)["tv"]


@pytest.mark.parametrize("noise", [0, 10])
def test_the_noise_is_that_of_the_publication(noise: int) -> None:
    """Both parts of every measured sample have the standard deviation 0.1; nothing else is measured."""
    row = next(row for row in ROWS if row.key == f"random_2d-noise{noise}-1of3")
    measured = seed5.measure(row, images())
    clean = torch.stack([measured.op(image.to(torch.complex64)) for image in measured.images.train])
    error, mask = measured.train - clean, measured.op.mask.bool()
    assert not bool(error[..., ~mask].any())
    spread = torch.view_as_real(error[..., mask]).std()
    assert float(spread) == pytest.approx(noise / 100, rel=0.05, abs=1e-12)  # 1536 samples
    if noise:
        assert not torch.equal(error[0], error[1])


def test_a_small_run_writes_its_tables_and_goes_on(tmp_path: Path) -> None:
    told: list[str] = []
    cells = seed5.run(images(), TINY, tmp_path, [RADIAL], device="cpu", report=told.append)
    assert [cell.method for cell in cells] == list(METHODS) and len(told) == 6
    by_method = {cell.method: cell for cell in cells}
    assert by_method["tv"].scores([0, 1]) > by_method["zero_filled"].scores([0, 1])
    assert all(len(by_method[name].loops) == 2 for name in ("scae", "snlae", "gan"))
    assert by_method["scae"].loops[-1] == pytest.approx(by_method["scae"].psnr[0], abs=1e-4)  # its own group
    assert len(by_method["gan"].training_loops) == 2 and by_method["gan"].training_loops[0] > 0
    assert all(np.isfinite(cell.psnr).all() and len(cell.psnr) == 2 for cell in cells)

    summary = seed5_report.write(cells, images(), "small", tmp_path)
    assert json.loads((tmp_path / "table.json").read_text())["test"] == summary["test"]
    assert [group["name"] for group in summary["test"]] == ["discs", "another"]
    alone = [line["psnr"] for line in summary["test"][1]["rows"]]
    assert alone == [by_method[name].psnr[1] for name in METHODS]
    assert (tmp_path / "convergence.png").read_bytes().startswith(b"\x89PNG")
    table = (tmp_path / "table.md").read_text()
    assert "33.94 / 0.94" in table and "ADMM-Net" in table

    (tmp_path / "cells" / RADIAL.key / "tv.json").unlink()
    told.clear()
    again = seed5.run(images(), TINY, tmp_path, [RADIAL], device="cpu", report=told.append)
    assert told == ["radial 0 % 1/4: TV"]
    assert [cell.psnr for cell in again] == [cell.psnr for cell in cells]
    told.clear()
    seed5.run(images(), TINY, tmp_path, [RADIAL], ["zero_filled"], seed=1, device="cpu", report=told.append)
    assert told  # another seed is another experiment


def test_further_test_images_train_nothing_anew(tmp_path: Path) -> None:
    first = images()
    seed5.run(first, TINY, tmp_path, [RADIAL], ["admm_net"], device="cpu")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoints/*.safetensors")}
    more = dataclasses.replace(first, test=first.test.flip(1), groups=("a/x.png", "b/x.png"))
    told: list[str] = []
    seed5.run(more, TINY, tmp_path, [RADIAL], ["admm_net"], device="cpu", report=told.append)
    assert told, "other test images are scored"
    assert before and before == {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoints/*.safetensors")
    }


def test_images_come_from_a_folder(tmp_path: Path) -> None:
    for place in range(5):
        np.save(tmp_path / f"{place}.npy", np.full((50, 60), 1.0 + place) * np.linspace(0, 1, 60))
    found = seed5.read_images(TINY, tmp_path)
    assert found.train.shape == (3, 24, 24) and found.test.shape == (2, 24, 24)
    assert float(found.train.max()) == 1 and float(found.train.min()) >= 0
    more = seed5.read_images(TINY, tmp_path, [tmp_path / "1.npy"])
    assert torch.equal(more.train, found.train) and torch.equal(more.test[:2], found.test)
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other/1.npy", np.load(tmp_path / "2.npy"))
    twice = seed5.read_images(TINY, tmp_path, [tmp_path / "1.npy", tmp_path / "other/1.npy"])
    assert len(twice.places()) == 3
    (tmp_path / "other/1.npy").unlink()
    assert list(more.places().values()) == [[0, 1], [2]] and torch.equal(more.test[2], found.train[1])
    np.save(tmp_path / "0.npy", np.ones((10, 60)))
    with pytest.raises(ValueError, match="at least 24 x 24"):
        seed5.read_images(TINY, tmp_path)
    for place in (0, 1, 2):
        (tmp_path / f"{place}.npy").unlink()
    with pytest.raises(ValueError, match="more than the 2 test images"):
        seed5.read_images(TINY, tmp_path)


def test_images_that_ship() -> None:
    found = seed5.read_images(seed5.SIZES["small"])
    assert found.train.shape == (24, 64, 64) and found.test.shape == (1, 64, 64)
    assert float(found.test.max()) == 1 and float(found.train.std()) > 0.1


def test_the_command_line_names_wrong_input(tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["experiment", "seed5", "-o", str(tmp_path), "--row", "spiral"])
    assert result.exit_code == 2 and "radial-noise0-1of5" in " ".join(result.output.split())
    result = runner.invoke(app, ["experiment", "seed5", "-o", str(tmp_path), "--method", "bm3d"])
    assert result.exit_code == 2 and "zero_filled" in result.output
