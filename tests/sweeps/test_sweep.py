"""Sweeps: what is run is what was asked for, is never run twice, and is written down as it was."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import recon
from recon.cli import main
from recon.parameters import ArgumentNameError, ArgumentValueError
from recon.sweeps.plan import plan_of
from recon.sweeps.running import ForeignFolderError, Sweep
from recon.sweeps.setup import read_seeds, read_setup

CONFIGS = sorted((Path(__file__).parents[2] / "examples" / "sweeps").glob("*.toml"))
DIP = "dip:filters=4,scales=2,skip=0,depth=2"
SOLVER = "dip:lr=0.01,reg_noise=0.0,output=latest"


def truth() -> torch.Tensor:
    image = torch.zeros(16, 16)
    image[4:12, 3:9] = 0.8
    image[6:10, 8:14] += 0.2
    return image


def posed(std: float = 0.1) -> recon.Problem:
    op = recon.Identity((16, 16))
    made = recon.Problem(op, op.measure(truth(), noise=f"gaussian:std={std}", seed=0), reference=truth())
    made.image_range = (0.0, 1.0)
    return made


def tiny(output: Path, vary: dict[str, Any] | None = None, **others: Any) -> Sweep:
    given: dict[str, Any] = {"prior": DIP, "solver": SOLVER, "iterations": 20, "workers": 1} | others
    return recon.sweep(posed(), output, {"lr": [0.001, 0.01]} if vary is None else vary, **given)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    vary = {"lr": [0.001, 0.01], "prior.scales": [1, 2]}
    return tiny(tmp_path_factory.mktemp("sweep") / "out", vary, seeds=2, peak=1.0)


def test_one_variable_at_a_time_runs_the_base_once_with_every_seed(done: Sweep) -> None:
    assert [one.label for one in done.configurations] == ["base", "lr=0.001", "scales=1"]
    assert {variable.key: variable.base for variable in done.variables} == {
        "solver.lr": 0.01,
        "prior.scales": 2,
    }
    assert [(cell.configuration, cell.seed) for cell in done.cells] == [
        (name, seed) for name in ("base", "lr=0.001", "scales=1") for seed in (0, 1)
    ]
    assert repr(done).startswith("Sweep('Sweep', 6 runs: 6 finished, 0 failed, 0 not run")


def test_a_run_is_what_solve_gives_from_fresh_weights(done: Sweep) -> None:
    for cell in done.cells:
        scales, lr = cell.settings["prior.scales"], cell.settings["solver.lr"]
        expected = recon.solve(
            posed(),
            recon.prior(f"dip:filters=4,scales={scales},skip=0,depth=2"),
            solver=recon.DIP(lr=lr, reg_noise=0.0, output="latest"),
            stop=recon.MaxIterations(20),
            seed=cell.seed,
        )
        assert torch.equal(recon.Solution.load(cell.folder).image, expected.image)
    first = {cell.curves["mse"][0] for cell in done.cells if cell.configuration == "lr=0.001"}
    base = {cell.curves["mse"][0] for cell in done.cells if cell.configuration == "base"}
    assert first == base and len(base) == 2  # every run begins where its seed begins, not where another ended


def test_scores_are_of_the_image_that_each_is_said_to_be_of(done: Sweep) -> None:
    problem = posed()
    for cell in done.cells:
        image = recon.Solution.load(cell.folder).image.double()
        for name, against in (("mse", truth()), ("mse_data", problem.data)):
            square = float((image - against.double()).square().mean())
            assert cell.scores[name] == pytest.approx(square, rel=1e-6)
            assert cell.scores[name.replace("mse", "psnr")] == pytest.approx(
                -10 * math.log10(square), abs=1e-5
            )
            assert cell.curves[name][-1] == pytest.approx(square, rel=1e-4)  # float32 of the history
        assert cell.curves["iteration"] == [0, 10, 20]
        assert cell.scores["best_psnr"] == max(cell.curves["psnr"])


def test_psnr_lr_and_hr_are_of_the_small_and_the_large_image(tmp_path: Path) -> None:
    op = recon.operator("downsample", shape=(16, 16), factor=4)
    problem = recon.Problem(op, op(truth()), reference=truth(), image_range=(0.0, 1.0))
    problem.save(tmp_path / "small.h5")
    done = recon.sweep(
        tmp_path / "small.h5",
        tmp_path / "out",
        {"lr": [0.01]},
        prior=DIP,
        solver=SOLVER,
        iterations=10,
        workers=1,
        peak=1.0,
    )
    image = recon.Solution.load(done.cells[0].folder).image
    for name, difference in (("psnr", image - truth()), ("psnr_data", op(image) - op(truth()))):
        expected = -10 * math.log10(float(difference.double().square().mean()))
        assert done.cells[0].scores[name] == pytest.approx(expected, abs=1e-4)


def test_the_tables_hold_mean_and_spread_over_the_seeds(done: Sweep) -> None:
    rows = list(csv.DictReader((done.output / "table.csv").read_text("utf-8").splitlines()))
    assert [row["configuration"] for row in rows] == ["base", "lr=0.001", "scales=1"]
    for row in rows:
        values = [cell.scores["psnr"] for cell in done.cells if cell.configuration == row["configuration"]]
        assert float(row["psnr"]) == pytest.approx(statistics.fmean(values))
        assert float(row["psnr_std"]) == pytest.approx(statistics.stdev(values))
    text = (done.output / "table.md").read_text()
    assert f"| base | 2 | {float(rows[0]['psnr']):.2f} ± {float(rows[0]['psnr_std']):.2f} |" in text
    assert "The peak of PSNR is 1" in text and "against the true image" in text
    noisy = -10 * math.log10(float((posed().data - truth()).double().square().mean()))
    assert f"The direct reconstruction has {noisy:.2f} dB" in text, "what any run should beat"
    curves = list(csv.DictReader((done.output / "curves.csv").read_text("utf-8").splitlines()))
    assert len(curves) == 6 * 3
    assert float(curves[0]["psnr"]) == done.cells[0].curves["psnr"][0]
    book = json.loads((done.output / "sweep.json").read_text())
    assert book["variables"] == {"solver.lr": [0.001, 0.01], "prior.scales": [1, 2]}
    assert [cell["status"] for cell in book["cells"]] == ["finished"] * 6


def test_there_is_a_picture_for_each_variable_and_one_page(done: Sweep) -> None:
    for name in ("solver.lr.png", "prior.scales.png"):
        with Image.open(done.output / name) as picture:
            assert min(picture.size) > 300 and len(picture.convert("L").getcolors(256) or [0] * 200) > 50
    page = (done.output / "index.html").read_text()
    assert page.count("<h2") >= 3 and "lr=0.01 (base)" in page and 'src="http' not in page
    left = {path.name for path in done.output.iterdir()}
    assert left == {
        "cells", "problems", "curves.csv", "index.html", "sweep.json", "table.csv", "table.md", "solver.lr.png",
        "prior.scales.png",
    }  # fmt: skip


def test_finished_runs_are_skipped_and_changed_ones_are_done_again(tmp_path: Path) -> None:
    tiny(tmp_path / "out")
    again = tiny(tmp_path / "out")
    assert [cell.skipped for cell in again.cells] == [True, True]
    assert again.cells[0].scores and again.cells[0].curves["psnr"]
    more = tiny(tmp_path / "out", {"lr": [0.001, 0.01, 0.1]})
    assert {cell.configuration: cell.skipped for cell in more.cells} == {
        "base": True, "lr=0.001": True, "lr=0.1": False,
    }  # fmt: skip
    longer = tiny(tmp_path / "out", iterations=30)
    assert not any(cell.skipped for cell in longer.cells) and longer.cells[0].iterations == 30
    other = recon.sweep(
        posed(std=0.2),
        tmp_path / "out",
        {"lr": [0.001, 0.01]},
        prior=DIP,
        solver=SOLVER,
        iterations=30,
        workers=1,
    )
    assert not any(cell.skipped for cell in other.cells)
    assert not any(cell.skipped for cell in tiny(tmp_path / "out", iterations=30, again=True).cells)


def test_a_damaged_result_is_done_again(tmp_path: Path) -> None:
    first = tiny(tmp_path / "out")
    file = Path(first.cells[0].folder) / "solution.h5"
    file.write_bytes(file.read_bytes()[:-100])
    assert [cell.skipped for cell in tiny(tmp_path / "out").cells] == [False, True]


def test_a_grid_runs_every_combination(tmp_path: Path) -> None:
    done = tiny(tmp_path / "out", {"lr": [0.001, 0.01], "scales": [1, 2]}, grid=True, iterations=10)
    found = [(cell.settings["solver.lr"], cell.settings["prior.scales"]) for cell in done.cells]
    assert found == list(itertools.product([0.001, 0.01], [1, 2]))
    assert "every combination" in (done.output / "table.md").read_text()
    assert [one.label for one in done.configurations][1] == "lr=0.001, scales=2"


def test_priors_operators_noise_and_the_length_of_runs_can_be_varied(tmp_path: Path) -> None:
    Image.fromarray((255 * truth()).byte().numpy()).save(tmp_path / "image.png")
    table = {
        "image": str(tmp_path / "image.png"),
        "operator": "downsample:factor=2",
        "noise": "gaussian:std=0.1",
    }
    vary = {"tv.weight": [0.01, 0.1], "factor": [2, 4], "noise.std": [0.0, 0.1], "iterations": [5, 10]}
    done = recon.sweep(
        table,
        tmp_path / "out",
        vary,
        prior=["tv:weight=0.01", "nonnegative"],
        solver="admm",
        iterations=5,
        workers=1,
    )
    assert [cell.status for cell in done.cells] == ["finished"] * 5
    by_label = {cell.configuration: cell for cell in done.cells}
    assert by_label["iterations=10"].iterations == 10 and by_label["base"].iterations == 5
    small = recon.Problem.load(next((tmp_path / "out/problems").glob("*factor=4*")))
    assert tuple(small.data.shape) == (4, 4)
    assert {"psnr", "psnr_data", "mse_data"} <= by_label["base"].scores.keys()  # of any solver
    expected = recon.solve(
        recon.Problem.load(done.problem),
        recon.prior("tv", weight=0.1) + recon.prior("nonnegative"),
        solver="admm",
        stop=recon.MaxIterations(5),
    )
    assert torch.equal(recon.Solution.load(by_label["weight=0.1"].folder).image, expected.image)


def test_several_processes_give_the_same_images(done: Sweep, tmp_path: Path) -> None:
    vary = {"lr": [0.001, 0.01], "prior.scales": [1, 2]}
    side_by_side = tiny(tmp_path / "out", vary, seeds=2, peak=1.0, workers=2)
    for here, there in zip(done.cells, side_by_side.cells, strict=True):
        assert torch.equal(recon.Solution.load(here.folder).image, recon.Solution.load(there.folder).image)


def test_a_run_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    done = tiny(tmp_path / "out", {"filters": [4, (4, 4, 4)]}, iterations=10)
    assert [cell.status for cell in done.cells] == ["finished", "failed"]
    assert "ValueError: filters must be one number" in done.failed[0].error
    assert "1 of 2 runs have no result" in (done.output / "index.html").read_text()


def test_ctrl_c_keeps_what_is_done_and_a_rerun_finishes(tmp_path: Path) -> None:
    script = tmp_path / "config.toml"
    posed().save(tmp_path / "problem.h5")
    script.write_text(
        f'title = "stopped"\n[problem]\nfile = "problem.h5"\n[base]\nprior = "{DIP}"\nsolver = "{SOLVER}"\n'
        "iterations = 1200\n[vary]\nlr = [0.001, 0.01]\n"
    )
    command = [sys.executable, "-c", "import sys; from recon.cli import main; sys.exit(main())"]
    command += ["sweep", str(script), "-o", str(tmp_path / "out"), "--workers", "1"]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            command, stderr=said, stdout=said, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        limit = time.monotonic() + 120
        while "1/2" not in (tmp_path / "said").read_text() and time.monotonic() < limit:
            assert process.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, (tmp_path / "said").read_text()
    book = json.loads((tmp_path / "out/sweep.json").read_text())
    assert book["interrupted"] and [cell["status"] for cell in book["cells"]] == ["finished", "not run"]
    left = Path(tmp_path / "out" / book["cells"][1]["folder"])
    assert list(left.glob("run-*.checkpoint")) and not (left / "solution.h5").exists()
    assert (tmp_path / "out/table.md").is_file()
    finished = recon.sweep(script, tmp_path / "out", workers=1)
    assert [cell.skipped for cell in finished.cells] == [True, False]
    expected = recon.solve(
        posed(), DIP, solver="dip:lr=0.001,reg_noise=0.0,output=latest", stop=recon.MaxIterations(1200)
    )
    assert torch.equal(recon.Solution.load(left).image, expected.image)  # as if never stopped
    assert not list(left.glob("run-*"))


@pytest.mark.parametrize(
    ("vary", "error", "words"),
    [
        ({}, ValueError, "nothing to vary"),
        ({"lr": []}, ArgumentValueError, "empty list"),
        ({"lr": 0.1}, ArgumentValueError, "takes a list"),
        ({"lr": "0.1"}, ArgumentValueError, "takes a list"),
        ({"lr": [0.1, 0.1]}, ArgumentValueError, "lists 0.1 twice"),
        ({"lr": [-1.0]}, ArgumentValueError, "solver dip: lr=-1.0 must be > 0"),
        ({"lr": ["quick"]}, ArgumentValueError, "lr='quick' must be a number"),
        ({"rate": [1.0]}, ArgumentNameError, "no part of this sweep has a parameter 'rate'"),
        ({"scale_s": [1]}, ArgumentNameError, "did you mean 'scales'"),
        ({"solver.lrr": [1]}, ArgumentNameError, "did you mean 'lr'"),
        ({"solvr.lr": [1]}, ArgumentNameError, "did you mean 'solver'"),
        ({"iterations": [0]}, ArgumentValueError, "iterations=0 must be >= 1"),
        ({"seed": [1, 2]}, ArgumentNameError, "is no variable"),
        ({"output": ["latest"]}, ArgumentNameError, "say prior.output or solver.output"),
        ({"lr": [0.1], "solver.lr": [0.2]}, ArgumentNameError, "varied twice"),
    ],
)  # fmt: skip
def test_what_cannot_be_varied_is_said_before_anything_runs(
    tmp_path: Path, vary: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words.replace("(", r"\(")):
        tiny(tmp_path / "out", vary)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_sweep_is_refused(tmp_path: Path) -> None:
    tiny(tmp_path / "out", title="first", iterations=10)
    with pytest.raises(ForeignFolderError, match="holds the sweep 'first', not 'second'"):
        tiny(tmp_path / "out", title="second", iterations=10)
    assert tiny(tmp_path / "out", title="second", iterations=10, force=True).cells
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(ForeignFolderError, match="holds no sweep"):
        tiny(tmp_path / "other")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = ", "is no TOML file"),
        ("titel = 'x'", "did you mean 'title'"),
        ("[problem]\nimage = 'ct_chest'\nwindw = [0, 1]", "did you mean 'window'"),
        ("[problem]\nimage = 'ct_chest'\n[base]\nprior = 'dip'\niteration = 3", "did you mean 'iterations'"),
        ("[problem]\nwindow = [0, 1]\n[base]\nprior = 'dip'", "needs an image"),
        ("[problem]\nimage = 'ct_chest'\nwindow = [1, 0]\n[base]\nprior = 'dip'", "low < high"),
        ("[problem]\nimage = 'ct_chest'\nmask = 1.5\n[base]\nprior = 'dip'", "between 0 and 1"),
        ("[problem]\nimage = 'ct_chest'\n[base]\nsolver = 'dip'", "needs a prior"),
        ("[problem]\nimage = 'ct_chest'\n[base]\nprior = 'dip'\nseeds = 0", "at least one seed"),
        ("[problem]\nimage = 'ct_chest'\n[base]\nprior = 'dip'\niterations = 0", "integer >= 1"),
        ("[problem]\nimage = 'ct_chest'\n[base]\nprior = 'dip'\npeak = 0", "peak must be a number > 0"),
        ("vary = 3", "is a table"),
        ("[size.small]\n[size.full]", "no size 'ful'; did you mean 'full'"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_says_where(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_setup(file, "ful" if "size" in text else None)


def test_what_a_mask_or_a_machine_does_not_have_is_said(tmp_path: Path) -> None:
    given: dict[str, Any] = {"prior": DIP, "solver": SOLVER, "iterations": 1}
    with pytest.raises(ArgumentNameError, match="operator mask has no parameter 'mask'"):
        recon.sweep({"image": "ct_chest", "mask": 0.5}, tmp_path / "out", {"operator.mask": [0.3]}, **given)
    with pytest.raises(ValueError, match="device 'cuda:77' cannot be used here"):
        recon.sweep(posed(), tmp_path / "out", {"lr": [0.1]}, device="cuda:77", **given)
    table = {"image": "ct_chest", "operator": "downsample:factor=4"}
    with pytest.raises(ValueError, match="512") as caught:
        recon.sweep(table, tmp_path / "new", {"factor": [7]}, **given)
    assert caught.value.__notes__ == ["in the configuration factor=7"]
    assert not (tmp_path / "new").exists()


def test_seeds_are_a_number_or_a_list() -> None:
    assert read_seeds(3) == (0, 1, 2) and read_seeds([5, 1]) == (5, 1)
    for wrong in (0, [], [1, 1], [-1], 1.5, True, "3"):
        with pytest.raises(ValueError, match="seed"):
            read_seeds(wrong)


def test_a_mask_picture_with_greys_is_thresholded(tmp_path: Path) -> None:
    grey = (
        torch.tensor([[0, 7], [126, 255]], dtype=torch.uint8).repeat_interleave(8, 0).repeat_interleave(8, 1)
    )
    Image.fromarray(grey.numpy()).save(tmp_path / "mask.png")
    Image.fromarray((255 * truth()).byte().numpy()).save(tmp_path / "image.png")
    (tmp_path / "sweep.toml").write_text(
        "[problem]\nimage = 'image.png'\nmask = 'mask.png'\n[base]\nprior = 'dip'\nsolver = 'dip'\n[vary]\nlr = [0.1]"
    )
    plan = plan_of(read_setup(tmp_path / "sweep.toml"))
    problem = plan.problem(plan.configurations[0].settings)
    expected = torch.zeros(16, 16)
    expected[8:, 8:] = 1
    assert torch.equal(problem.operator.mask, expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", ["small", "full"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_the_sweeps_that_ship_are_those_of_the_publication(config: Path, size: str) -> None:
    plan = plan_of(read_setup(config, size))
    keys = [variable.key for variable in plan.variables]
    wanted = ["solver.lr", "prior.scales"]
    wanted += ["solver.reg_noise"] if config.stem in ("super_resolution", "restoration") else []
    assert keys == wanted
    assert plan.variables[0].values == (1e-4, 1e-3, 1e-2, 1e-1)
    problem = plan.problem(plan.configurations[0].settings)
    assert problem.operator.domain_shape == ((64, 64) if size == "small" else (512, 512))
    scales = {"denoising": (3, 4, 5, 6, 7), "super_resolution": (3, 4, 5, 6), "inpainting": (3, 4, 5, 6, 7),
              "restoration": (4, 5, 6, 7)}[config.stem]  # fmt: skip
    lengths = {"denoising": 3000, "super_resolution": 2000, "inpainting": 6000, "restoration": 11000}
    if size == "full":
        assert plan.variables[1].values == scales
        assert plan.iterations(plan.configurations[0].settings) == lengths[config.stem]
    for value in plan.variables[1].values:  # none of them is more than the image can be halved
        assert 2 ** (value + 2) <= min(problem.operator.domain_shape)
    known = problem.data if config.stem not in ("inpainting", "restoration") else problem.operator.mask
    if config.stem == "inpainting":
        assert set(torch.unique(known).tolist()) == {0.0, 1.0} and 0.8 < float(known.mean()) < 0.95
    if config.stem == "restoration":
        assert float(known.mean()) == pytest.approx(0.5, abs=0.05)


def test_the_command_line_does_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    posed().save(tmp_path / "problem.h5")
    asked = [
        "sweep",
        str(tmp_path / "problem.h5"),
        "-o",
        str(tmp_path / "out"),
        "--prior",
        DIP,
        "--solver",
        SOLVER,
    ]
    asked += ["--iterations", "10", "--workers", "1"]
    assert main([*asked, "--vary", "lr=0.001,0.01", "--vary", "filters=4,(4,8)"]) == 0
    said = capsys.readouterr()
    assert "filters=(4, 8)" in said.out and "3/3" in said.err and "PSNR [dB]" in said.out
    assert main([*asked, "--vary", "lr=0.001,0.01", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [cell["skipped"] for cell in answer["cells"]] == [True, True]
    for wrong, words in {
        "lr": "not of the form",
        "lr=": "not of the form",
        "lr=1,,2": "empty value",
        "lrr=1": "did you mean 'lr'",
        "lr=-1": "must be > 0",
    }.items():
        assert main([*asked, "--vary", wrong]) == 2, wrong
        assert words in capsys.readouterr().err
    assert main([*asked, "--vary", "lr=0.1", "--size", "small"]) == 1
    assert main(["sweep", str(tmp_path / "none.h5"), "-o", str(tmp_path / "out"), "--vary", "lr=1"]) == 1
    assert "no problem file" in capsys.readouterr().err
