"""The commands simulate, solve and evaluate: on small real and made-up files, from the shell's point of view."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pydicom
import pytest
import torch

import recon
from recon import registry
from recon.cli import main
from recon.commands.scores import read_metrics
from recon.scans import stopping_rule

SIDE = 32
BIN = Path(sys.executable).with_name("recon")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECON_DEBUG", raising=False)


@pytest.fixture
def photo() -> Path:
    """A disc and a ramp in .npy, float32 between 0 and 1."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    image = 0.5 * columns / SIDE + 0.5 * ((rows - 15) ** 2 + (columns - 12) ** 2 < 80)
    path = Path("photo.npy")
    np.save(path, image.astype(np.float32))
    return path


@pytest.fixture
def dicom() -> Path:
    """The middle of the chest slice that ships with the package: 32 x 32 pixels of 0.640625 mm, in HU."""
    from recon_data.samples import sample

    dataset = pydicom.dcmread(sample("ct_chest"))
    dataset.PixelData = np.ascontiguousarray(dataset.pixel_array[240:272, 240:272]).tobytes()
    dataset.Rows = dataset.Columns = SIDE
    path = Path("slice.dcm")
    dataset.save_as(path)
    return path


@pytest.fixture
def scan(dicom: Path) -> Path:
    """A CT problem with its reference."""
    assert (
        run(
            "simulate",
            dicom,
            "--op",
            "ct_parallel:angles=20",
            "--noise",
            "poisson:photons=1e5",
            "-o",
            "scan.h5",
        )
        == 0
    )
    return Path("scan.h5")


@pytest.fixture
def holes(photo: Path) -> Path:
    """An inpainting problem with its reference."""
    mask = (np.random.default_rng(0).random((SIDE, SIDE)) < 0.6).astype(np.float32)
    np.save("mask.npy", mask)
    assert (
        run("simulate", photo, "--op", "mask:mask=mask.npy", "--noise", "gaussian:std=0.05", "-o", "holes.h5")
        == 0
    )
    return Path("holes.h5")


def run(*arguments: Any) -> int:
    return main([str(argument) for argument in arguments])


def answer(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    """What a command prints with --json: one object and nothing else on stdout."""
    capsys.readouterr()
    assert run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def complaint(capsys: pytest.CaptureFixture[str], code: int, *arguments: Any) -> str:
    """The one line that a failing command prints on stderr, with nothing on stdout."""
    capsys.readouterr()
    assert run(*arguments) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert len(lines) == 1, shown.err
    assert lines[0].startswith("error: ")
    return lines[0]


def names(folder: str) -> list[str]:
    return sorted(item.name for item in Path(folder).iterdir())


def score(result: dict[str, Any], name: str) -> float:
    return next(entry["value"] for entry in result["scores"] if entry["name"] == name)


class TestSimulate:
    def test_a_ct_slice_in_hu_becomes_a_problem_in_attenuation(self, dicom: Path, scan: Path):
        problem = recon.Problem.load(scan)
        loaded = recon.load(dicom)
        assert type(problem.operator).__name__ == "ParallelBeam"
        assert problem.operator.domain_shape == (SIDE, SIDE)
        assert problem.operator.geometry.pixel_size == loaded.pixel_size[0], "filled in from the file"
        assert torch.equal(problem.reference[0], loaded.attenuation(water=0.02))
        assert problem.notes["unit"] == "1/mm"
        assert problem.notes["water"] == 0.02
        assert problem.notes["pixel_size"] == [0.640625, 0.640625]
        assert problem.notes["source"] == "slice.dcm"
        assert "100000 photons" in problem.notes["noise"]

    def test_the_data_are_what_python_would_measure(self, dicom: Path, scan: Path):
        mu = recon.load(dicom).attenuation()
        operator = recon.operator("ct_parallel", shape=(SIDE, SIDE), pixel_size=0.640625, angles=20)
        expected = operator.measure(mu, noise="poisson:photons=1e5", seed=0)
        assert torch.equal(recon.Problem.load(scan).data, expected)

    def test_the_table_says_what_was_done(self, dicom: Path, capsys: pytest.CaptureFixture[str]):
        assert run("simulate", dicom, "--op", "ct_parallel:angles=9", "--water", 0.019, "-o", "a.h5") == 0
        shown = capsys.readouterr().out
        assert (
            "slice.dcm: 32 x 32 float32, HU converted to attenuation [1/mm] with water at 0.019 1/mm" in shown
        )
        assert "9 views" in shown
        assert [line.split() for line in shown.splitlines()][-2:] == [["noise", "none"], ["written", "a.h5"]]

    def test_json_is_one_object(self, dicom: Path, capsys: pytest.CaptureFixture[str]):
        result = answer(capsys, "simulate", dicom, "--op", "ct_parallel:angles=9", "--seed", 3, "-o", "a.h5")
        assert result["written"] == "a.h5"
        assert (result["image_shape"], result["data_shape"][0]) == ([SIDE, SIDE], 9)
        assert (result["unit"], result["water"], result["seed"], result["noise"]) == ("1/mm", 0.02, 3, "none")
        assert result["operator"]["name"] == "recon/ct_parallel"
        assert result["operator"]["arguments"]["pixel_size"] == 0.640625

    @pytest.mark.parametrize("options", [(), ("--unit", "1/mm")], ids=["silent", "said"])
    def test_values_that_are_hardly_attenuation_are_asked_about(
        self, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ):
        """A photograph in [0, 1] would be denser than steel."""
        np.save("photo.npy", np.linspace(0, 1, 144, dtype=np.float32).reshape(12, 12))
        with warnings.catch_warnings():
            warnings.simplefilter("always")  # as on a command line: a line on stderr
            assert run("simulate", "photo.npy", "--op", "ct_parallel:angles=9", "-o", "a.h5", *options) == 0
        said = capsys.readouterr().err
        assert ("does not say its unit" in said and "--unit 1/mm" in said) == (not options)
        assert recon.Problem.load("a.h5").notes["unit"] == "1/mm"

    def test_a_unit_that_the_file_does_not_say_can_be_said(
        self, dicom: Path, capsys: pytest.CaptureFixture[str]
    ):
        np.save("hu.npy", np.full((12, 12), -500, dtype=np.float32))
        call = ("--op", "ct_parallel:angles=9", "-o", "a.h5", "--unit")
        assert answer(capsys, "simulate", "hu.npy", *call, "HU")["water"] == 0.02
        assert float(recon.Problem.load("a.h5").reference.max()) == pytest.approx(0.01)
        assert "says that it is in HU, not 1/mm" in complaint(capsys, 2, "simulate", dicom, *call, "1/mm")

    def test_an_earlier_problem_is_replaced_and_that_is_said(
        self, dicom: Path, capsys: pytest.CaptureFixture[str]
    ):
        call = ("simulate", dicom, "--op", "ct_parallel:angles=9", "-o", "a.h5")
        assert not answer(capsys, *call)["replaced"]
        assert answer(capsys, *call)["replaced"]
        assert run(*call) == 0
        assert "a.h5, in the place of the one that was there" in capsys.readouterr().out

    def test_what_the_user_gives_is_kept(self, dicom: Path):
        assert run("simulate", dicom, "--op", "ct_parallel:angles=9,pixel_size=2", "-o", "a.h5") == 0
        assert recon.Problem.load("a.h5").operator.geometry.pixel_size == 2

    def test_the_seed_is_the_noise(self, photo: Path):
        for name, seed in (("a.h5", 0), ("b.h5", 0), ("c.h5", 1)):
            assert (
                run(
                    "simulate",
                    photo,
                    "--op",
                    "identity",
                    "--noise",
                    "gaussian:std=1",
                    "--seed",
                    seed,
                    "-o",
                    name,
                )
                == 0
            )
        a, b, c = (recon.Problem.load(name).data for name in ("a.h5", "b.h5", "c.h5"))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)

    def test_a_colour_photograph_is_measured_channel_by_channel(self):
        np.save("colour.npy", np.random.default_rng(0).random((3, 8, 12), dtype=np.float32))
        assert run("simulate", "colour.npy", "--op", "downsample:factor=4", "-o", "a.h5") == 0
        problem = recon.Problem.load("a.h5")
        assert problem.batch_shape == (3,)
        assert problem.operator.domain_shape == (8, 12)

    def test_a_complex_image_goes_into_a_complex_operator(self):
        image = (
            np.random.default_rng(0).standard_normal((8, 8, 2)).astype(np.float32).view(np.complex64)[..., 0]
        )
        np.save("complex.npy", image)
        np.save("mask.npy", np.array([1, 0, 1, 1, 0, 1, 0, 1], dtype=np.float32))
        assert run("simulate", "complex.npy", "--op", "mri_cartesian:mask=mask.npy", "-o", "a.h5") == 0
        assert torch.equal(recon.Problem.load("a.h5").reference[0], torch.from_numpy(image))

    def test_the_problem_holds_the_contents_of_its_mask(self, holes: Path):
        Path("mask.npy").unlink()
        assert recon.Problem.load(holes).operator.domain_shape == (SIDE, SIDE)

    def test_padding_outside_the_field_of_view_is_air(self):
        from recon_data.samples import sample

        dataset = pydicom.dcmread(sample("ct_chest"))
        dataset.PixelData = np.ascontiguousarray(dataset.pixel_array[:64, :64]).tobytes()
        dataset.Rows = dataset.Columns = 64
        dataset.save_as("corner.dcm")
        assert not recon.load("corner.dcm").valid.all(), "the corner of the slice is padding"
        assert run("simulate", "corner.dcm", "--op", "identity", "-o", "a.h5") == 0
        assert recon.Problem.load("a.h5").reference[0, 0, 0] == -1000
        assert recon.Problem.load("a.h5").notes["unit"] == "HU"

    def test_a_sample_can_be_named(self):
        assert run("simulate", "camera", "--op", "downsample:factor=8", "-o", "a.h5") == 0
        assert recon.Problem.load("a.h5").operator.domain_shape == (512, 512)

    def test_a_reader_takes_its_options(self):
        with h5py.File("two.h5", "w") as file:
            file["a"], file["b"] = np.zeros((4, 4)), np.ones((8, 8))
        assert (
            run("simulate", "two.h5", "--reader", "hdf5:dataset=b", "--op", "identity", "-o", "out.h5") == 0
        )
        assert recon.Problem.load("out.h5").operator.domain_shape == (8, 8)

    @pytest.mark.parametrize(
        ("code", "arguments", "words"),
        [
            (2, ["--op", "identiti", "-o", "a.h5"], "unknown operator 'identiti'; did you mean 'identity'?"),
            (2, ["--op", "blur:kernal=3", "-o", "a.h5"], "no parameter 'kernal'; did you mean 'kernel'?"),
            (2, ["--op", "blur:", "-o", "a.h5"], "nothing follows the colon"),
            (2, ["--op", "identity", "--noise", "gausian", "-o", "a.h5"], "did you mean 'gaussian'?"),
            (2, ["--op", "identity", "--noise", "gaussian", "-o", "a.h5"], "needs 'std'"),
            (2, ["--op", "identity", "-o", "a.png"], "must end in .h5"),
            (2, ["--op", "identity", "--sed", "1", "-o", "a.h5"], "No such option: --sed"),
            (2, ["--op", "identity", "--seed", "-1", "-o", "a.h5"], "Invalid value for '--seed'"),
            (2, ["-o", "a.h5"], "Missing option '--op'"),
            (1, ["--op", "identity", "--noise", "complex_gaussian:std=1", "-o", "a.h5"], "use gaussian"),
            (
                1,
                ["--op", "identity", "--water", "0.02", "-o", "a.h5"],
                "the operator is none of CT: leave it out",
            ),
            (
                1,
                ["--op", "ct_parallel", "--water", "0.02", "-o", "a.h5"],
                "its unit is 'unknown': leave it out",
            ),
            (1, ["--op", "downsample:factor=5", "-o", "a.h5"], "factor 5 does not divide"),
            (1, ["--op", "identity", "-o", "photo.npy/a.h5"], "photo.npy is a file"),
        ],
    )
    def test_wrong_usage_is_one_line_and_writes_nothing(
        self, photo: Path, code: int, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
    ):
        assert words in complaint(capsys, code, "simulate", photo, *arguments)
        assert names(".") == ["photo.npy"]

    @pytest.mark.parametrize(
        ("array", "op", "words"),
        [
            (np.zeros((2, 8, 8), np.complex64), "identity", "raw k-space is a measurement already"),
            (np.zeros(8), "identity", "an image to simulate from is (rows, columns)"),
            (
                np.full((8, 8), 255.0),
                "ct_parallel",
                "values up to 255 and no unit, but CT operators take attenuation",
            ),
            (np.zeros((8, 8), np.complex64), "ct_parallel", "complex"),
        ],
    )
    def test_what_is_no_image_is_refused(
        self, array: np.ndarray, op: str, words: str, capsys: pytest.CaptureFixture[str]
    ):
        np.save("array.npy", array)
        assert words in complaint(capsys, 1, "simulate", "array.npy", "--op", op, "-o", "a.h5")
        assert not Path("a.h5").exists()

    def test_pixels_that_are_not_square_are_refused(self, dicom: Path, capsys: pytest.CaptureFixture[str]):
        dataset = pydicom.dcmread(dicom)
        dataset.PixelSpacing = [0.5, 0.7]
        dataset.save_as(dicom)
        line = complaint(capsys, 1, "simulate", dicom, "--op", "ct_parallel:angles=5", "-o", "a.h5")
        assert "pixels are 0.5 x 0.7 mm" in line
        assert "pixel_size=0.7" in line

    def test_files_are_not_overwritten_unless_they_are_problems(
        self, photo: Path, capsys: pytest.CaptureFixture[str]
    ):
        Path("notes.h5").write_text("precious")
        command = ("simulate", photo, "--op", "identity", "-o", "notes.h5")
        assert "did not write it" in complaint(capsys, 1, *command)
        assert Path("notes.h5").read_text() == "precious"
        assert run(*command, "--force") == 0
        assert run(*command) == 0, "a problem may be simulated again"

    def test_the_input_is_never_overwritten(self, scan: Path, capsys: pytest.CaptureFixture[str]):
        before = scan.read_bytes()
        command = (
            "simulate",
            scan,
            "--reader",
            "hdf5:dataset=reference",
            "--op",
            "identity",
            "-o",
            scan,
            "--force",
        )
        assert "is the input itself" in complaint(capsys, 1, *command)
        assert scan.read_bytes() == before


class TestSolve:
    def test_without_a_prior_it_is_the_direct_reconstruction(
        self, scan: Path, capsys: pytest.CaptureFixture[str]
    ):
        result = answer(capsys, "solve", scan, "-o", "out")
        problem = recon.Problem.load(scan)
        assert torch.equal(recon.Solution.load("out").image, problem.operator.pinv(problem.data))
        assert result["written"] == ["out/solution.h5", "out/image.png"]
        assert names("out") == ["image.png", "solution.h5"]

    def test_total_variation_beats_the_direct_reconstruction(
        self, holes: Path, capsys: pytest.CaptureFixture[str]
    ):
        direct = answer(capsys, "solve", holes, "-o", "direct")
        tv = answer(capsys, "solve", holes, "--prior", "tv", "-o", "tv")
        assert score(tv, "psnr") > score(direct, "psnr") + 1
        assert tv["converged"]
        assert tv["weight"] > 0

    def test_it_is_what_python_solves(self, holes: Path):
        assert run("solve", holes, "--prior", "tv", "--weight", 0.05, "-o", "out") == 0
        expected = recon.solve(recon.Problem.load(holes), "tv", weight=0.05)
        assert torch.equal(recon.Solution.load("out").image, expected.image)

    def test_the_table_has_scores_with_conventions_and_how_it_ended(
        self, scan: Path, capsys: pytest.CaptureFixture[str]
    ):
        capsys.readouterr()
        assert run("solve", scan, "--prior", "tv", "--weight", 0.01, "-o", "out", "--report") == 0
        shown = capsys.readouterr().out
        rows = {line.split()[0]: line for line in shown.splitlines()}
        assert "dB" in rows["psnr"] and "max-min of each reference" in rows["psnr"]
        assert "HU" in rows["rmse_hu"] and "water at 0.02 1/mm" in rows["rmse_hu"]
        assert rows["weight"].split() == ["weight", "0.01"]
        assert "SmallResiduals(0.001)" in rows["stopped"] and " converged" in rows["stopped"]
        assert rows["written"].split() == ["written", "out", "solution.h5,", "image.png,", "report.html"]
        page = Path("out/report.html").read_text()
        assert "Reconstruction of scan.h5" in page
        assert "problem.notes.source" in page, "the report says where the data come from"

    def test_a_complex_image_is_reconstructed_and_scored_by_its_magnitude(
        self, capsys: pytest.CaptureFixture[str]
    ):
        phase = np.exp(1j * np.linspace(0, 3, 16, dtype=np.float32)).astype(np.complex64)
        np.save("image.npy", np.tri(16, dtype=np.float32) * phase)
        np.save("mask.npy", (np.arange(16) % 3 > 0).astype(np.float32))
        noise = ("--noise", "complex_gaussian:std=0.01")
        assert run("simulate", "image.npy", "--op", "mri_cartesian:mask=mask.npy", *noise, "-o", "a.h5") == 0
        assert "taken as a complex image (not as k-space)" in capsys.readouterr().out
        direct = answer(capsys, "solve", "a.h5", "-o", "direct")
        tv = answer(capsys, "solve", "a.h5", "--prior", "tv", "--device", "cpu", "-o", "tv", "--report")
        assert score(tv, "psnr") > score(direct, "psnr")
        assert recon.Solution.load("tv").image.is_complex()
        assert answer(capsys, "evaluate", "tv")["scores"] == tv["scores"]

    def test_priors_add_up(self, holes: Path):
        assert (
            run("solve", holes, "--prior", "tv:weight=0.02", "--prior", "box:low=0.2,high=0.6", "-o", "out")
            == 0
        )
        image = recon.Solution.load("out").image
        assert image.min() >= 0.2
        assert image.max() <= 0.6

    def test_the_solver_and_its_limits_are_obeyed(self, holes: Path, capsys: pytest.CaptureFixture[str]):
        options = ["--prior", "tv", "--weight", "0.05", "--solver", "admm:rho=0.5"]
        tight = answer(
            capsys, "solve", holes, *options, "--tolerance", "1e-4", "--iterations", "2000", "-o", "a"
        )
        loose = answer(capsys, "solve", holes, *options, "--tolerance", "0.1", "-o", "b")
        assert tight["reason"] == "SmallResiduals(0.0001)"
        assert loose["iterations"] < tight["iterations"]
        assert "rho=0.5" in tight["provenance"]["solver"]["settings"]

    @pytest.mark.filterwarnings("default::recon.ConvergenceWarning")
    def test_too_few_iterations_are_said(self, holes: Path, capsys: pytest.CaptureFixture[str]):
        capsys.readouterr()
        assert run("solve", holes, "--prior", "tv", "--weight", 0.05, "--iterations", 3, "-o", "out") == 0
        shown = capsys.readouterr()
        assert "warning: not converged: MaxIterations(3)" in shown.err
        assert "not converged" in shown.out
        assert recon.Solution.load("out").iterations == 3

    @pytest.mark.filterwarnings("default::recon.ConvergenceWarning")
    def test_a_time_limit_ends_it(self, holes: Path, capsys: pytest.CaptureFixture[str]):
        options = ["--prior", "tv", "--tolerance", "1e-12", "--iterations", "1000000", "--time-limit", "0.2s"]
        result = answer(capsys, "solve", holes, *options, "--weight", "0.05", "-o", "out")
        assert result["reason"] == "TimeLimit('0.2s')"
        assert not result["converged"]

    def test_the_noise_level_can_be_given(self, holes: Path, capsys: pytest.CaptureFixture[str]):
        low = answer(capsys, "solve", holes, "--prior", "tv", "--noise-level", "0.01", "-o", "a")
        high = answer(capsys, "solve", holes, "--prior", "tv", "--noise-level", "0.1", "-o", "b")
        assert low["weight"] < high["weight"]

    def test_a_batch_is_scored_by_its_mean(self, capsys: pytest.CaptureFixture[str]):
        np.save("colour.npy", np.random.default_rng(0).random((3, 16, 16), dtype=np.float32))
        assert run("simulate", "colour.npy", "--op", "downsample:factor=2", "-o", "a.h5") == 0
        result = answer(capsys, "solve", "a.h5", "-o", "out")
        assert len(score(result, "psnr")) == 3
        assert run("solve", "a.h5", "-o", "out") == 0
        assert "(mean of 3: " in capsys.readouterr().out

    def test_data_without_a_reference_are_not_scored(self, scan: Path, capsys: pytest.CaptureFixture[str]):
        problem = recon.Problem.load(scan)
        recon.Problem(problem.operator, problem.data).save("measured.h5")
        assert answer(capsys, "solve", "measured.h5", "-o", "out", "--report")["scores"] == []

    def test_a_score_that_cannot_be_had_stops_nothing(self, capsys: pytest.CaptureFixture[str]):
        np.save("flat.npy", np.zeros((16, 16), np.float32))
        assert run("simulate", "flat.npy", "--op", "identity", "-o", "a.h5") == 0
        capsys.readouterr()
        assert run("solve", "a.h5", "-o", "out", "--report") == 0
        shown = capsys.readouterr()
        assert "warning: psnr: the max-min of a reference is 0" in shown.err
        assert "rmse" in shown.out
        assert Path("out/report.html").exists()

    def test_a_checkpoint_is_resumed(self, holes: Path, capsys: pytest.CaptureFixture[str]):
        options = [
            "--prior",
            "tv",
            "--weight",
            "0.05",
            "--checkpoint",
            "run.safetensors",
            "--tolerance",
            "1e-4",
        ]
        first = answer(capsys, "solve", holes, *options, "--iterations", "3000", "-o", "a")
        again = answer(capsys, "solve", holes, *options, "--iterations", "3000", "-o", "b")
        assert again["iterations"] == first["iterations"]
        assert torch.equal(recon.Solution.load("a").image, recon.Solution.load("b").image)

    @pytest.mark.parametrize(
        ("code", "options", "words"),
        [
            (2, ["--prior", "tvv"], "unknown prior 'tvv'; did you mean 'tv'?"),
            (2, ["--prior", "tv:wieght=1"], "did you mean 'weight'?"),
            (2, ["--prior", "tv:weight=heavy"], "weight='heavy' must be a number or 'auto'"),
            (2, ["--prior", "tv", "--solver", "amm"], "unknown solver 'amm'; did you mean 'admm'?"),
            (2, ["--prior", "tv", "--solver", "admm:roh=1"], "did you mean 'rho'?"),
            (
                2,
                ["--prior", "tv", "--weight", "heavy"],
                "a number >= 0 or 'auto', 'sure' or 'lcurve', got 'heavy'",
            ),
            (
                2,
                ["--prior", "tv", "--weight", "-1"],
                "a number >= 0 or 'auto', 'sure' or 'lcurve', got '-1'",
            ),
            (2, ["--prior", "tv", "--tolerance", "0"], "must be a number > 0, got 0"),
            (2, ["--prior", "tv", "--iterations", "0"], "Invalid value for '--iterations'"),
            (2, ["--prior", "tv", "--time-limit", "soon"], "must be a time > 0 such as 90s, 5min or 2h"),
            (2, ["--prior", "tv", "--device", "toaster"], "'toaster' cannot be used here"),
            (2, ["--iterations", "5"], "the direct reconstruction takes one step"),
            (2, ["--pior", "tv"], "No such option: --pior (Possible options: "),
            (1, ["--weight", "1"], "there is no prior to weigh"),
            (1, ["--prior", "tv", "--solver", "cg"], "cg"),
            (1, ["--prior", "nonnegative", "--weight", "1"], "the prior is a constraint"),
        ],
    )
    def test_wrong_usage_is_one_line_and_writes_nothing(
        self, holes: Path, code: int, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
    ):
        before = names(".")
        assert words in complaint(capsys, code, "solve", holes, *options, "-o", "out")
        assert names(".") == before

    def test_a_prior_of_the_wrong_field_is_named(self, capsys: pytest.CaptureFixture[str]):
        np.save("image.npy", np.ones((8, 8), np.float32))
        np.save("mask.npy", np.ones((8, 8), np.float32))
        assert run("simulate", "image.npy", "--op", "mri_cartesian:mask=mask.npy", "-o", "a.h5") == 0
        line = complaint(capsys, 1, "solve", "a.h5", "--prior", "nonnegative", "-o", "out")
        assert "NonNegative is defined on real images, but CartesianMRI reconstructs complex ones" in line
        assert not Path("out").exists()

    def test_files_that_are_no_problem_are_named(
        self, scan: Path, photo: Path, capsys: pytest.CaptureFixture[str]
    ):
        assert run("solve", scan, "-o", "out") == 0
        whole = scan.read_bytes()
        Path("half.h5").write_bytes(whole[: len(whole) // 2])
        Path("empty.h5").write_bytes(b"")
        for name in ("nosuch.h5", "half.h5", "empty.h5", "photo.npy", "out/solution.h5", "out"):
            line = complaint(capsys, 1, "solve", name, "-o", "elsewhere")
            assert name in line
            assert "unexpected" not in line
        assert not Path("elsewhere").exists()

    def test_a_folder_that_holds_other_things_is_refused_before_the_work(
        self, scan: Path, capsys: pytest.CaptureFixture[str]
    ):
        Path("thesis").mkdir()
        Path("thesis/image.png").write_text("precious")
        line = complaint(capsys, 1, "solve", scan, "-o", "thesis")
        assert "thesis is not empty and holds no earlier result (image.png)" in line
        assert Path("thesis/image.png").read_text() == "precious"
        assert "scan.h5 is a file" in complaint(capsys, 1, "solve", scan, "-o", scan)

    def test_a_forced_write_touches_only_its_own_names(self, scan: Path):
        Path("thesis").mkdir()
        Path("thesis/chapter.txt").write_text("precious")
        Path("thesis/report.html").write_text("precious too")
        assert run("solve", scan, "-o", "thesis", "--force") == 0
        assert Path("thesis/chapter.txt").read_text() == "precious"
        assert Path("thesis/report.html").read_text() == "precious too", "no report was asked for"

    def test_an_earlier_result_is_replaced_with_its_report(self, scan: Path):
        assert run("solve", scan, "-o", "out", "--report") == 0
        assert run("solve", scan, "-o", "out") == 0
        assert names("out") == ["image.png", "solution.h5"], "no report of another image is left"

    def test_no_write_permission_is_found_before_the_work(
        self, scan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        # root may write anywhere, and tests often run as root
        monkeypatch.setattr(os, "access", lambda _, mode, **__: not mode & os.W_OK)
        assert "no permission" in complaint(capsys, 1, "solve", scan, "-o", "out")

    def test_an_interrupted_write_leaves_nothing(
        self, scan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        """The disk is full in the middle of solution.h5."""
        assert run("solve", scan, "-o", "out") == 0
        before = Path("out/solution.h5").read_bytes()

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device", "solution.h5")

        monkeypatch.setattr(h5py.Group, "create_dataset", full)
        monkeypatch.setattr(h5py.Group, "__setitem__", full)
        assert "No space left on device" in complaint(capsys, 1, "solve", scan, "-o", "out")
        assert Path("out/solution.h5").read_bytes() == before
        assert "No space left on device" in complaint(capsys, 1, "solve", scan, "-o", "new")
        assert list(Path("new").glob("*")) == []


class TestEvaluate:
    def test_a_solution_knows_its_reference(self, scan: Path, capsys: pytest.CaptureFixture[str]):
        solved = answer(capsys, "solve", scan, "--prior", "tv", "--weight", 0.01, "-o", "out")
        for name in ("out", "out/solution.h5"):
            judged = answer(capsys, "evaluate", name)
            assert judged["scores"] == solved["scores"]
            assert judged["unit"] == "1/mm"
        assert "rmse_hu" in [entry["name"] for entry in judged["scores"]]

    def test_the_reference_may_be_in_hu(self, scan: Path, dicom: Path, capsys: pytest.CaptureFixture[str]):
        assert run("solve", scan, "-o", "out") == 0
        own = answer(capsys, "evaluate", "out")
        other = answer(capsys, "evaluate", "out", "--reference", dicom)
        assert score(other, "psnr") == pytest.approx(score(own, "psnr"), abs=1e-4)  # float32 conversion
        assert "HU converted to 1/mm with water at 0.02" in other["reference"]

    def test_the_water_of_the_simulation_is_used(self, dicom: Path, capsys: pytest.CaptureFixture[str]):
        assert run("simulate", dicom, "--op", "ct_parallel:angles=5", "--water", 0.019, "-o", "a.h5") == 0
        solved = answer(capsys, "solve", "a.h5", "-o", "out")
        own = answer(capsys, "evaluate", "out", "--reference", dicom)
        assert "water at 0.019 1/mm" in solved["scores"][-1]["convention"]
        assert score(own, "rmse_hu") == pytest.approx(
            score(solved, "rmse_hu"), rel=1e-4
        )  # float32 conversion

    def test_the_truth_itself_is_perfect(self, photo: Path, capsys: pytest.CaptureFixture[str]):
        result = answer(capsys, "evaluate", photo, "--reference", photo)
        assert score(result, "psnr") == "inf", "JSON has no infinity"
        assert score(result, "ssim") == 1
        assert score(result, "nmse") == 0

    def test_metrics_are_chosen_with_their_options(self, photo: Path, capsys: pytest.CaptureFixture[str]):
        image = np.load(photo)
        np.save("off.npy", image + 0.1)
        result = answer(
            capsys, "evaluate", "off.npy", "--reference", photo, "--metrics", "rmse, psnr:data_range=1.0,mse"
        )
        assert [entry["name"] for entry in result["scores"]] == ["rmse", "psnr", "mse"]
        assert score(result, "rmse") == pytest.approx(0.1, rel=1e-5)
        assert score(result, "psnr") == pytest.approx(20, abs=1e-3)
        assert result["scores"][1]["convention"].startswith("peak 1, ")

    def test_the_table_carries_the_conventions(self, photo: Path, capsys: pytest.CaptureFixture[str]):
        assert run("evaluate", photo, "--reference", photo, "--metrics", "ssim:data_range=1.0") == 0
        shown = capsys.readouterr().out
        assert "photo.npy against photo.npy" in shown
        assert "uniform 7x7 window" in shown

    def test_a_problem_serves_as_the_reference(
        self, holes: Path, photo: Path, capsys: pytest.CaptureFixture[str]
    ):
        result = answer(capsys, "evaluate", photo, "--reference", holes)
        assert score(result, "nmse") == 0

    def test_a_problem_that_has_changed_is_not_trusted(
        self, scan: Path, dicom: Path, capsys: pytest.CaptureFixture[str]
    ):
        assert run("solve", scan, "-o", "out") == 0
        assert run("simulate", dicom, "--op", "ct_parallel:angles=5", "-o", scan) == 0
        assert "scan.h5 has changed since" in complaint(capsys, 1, "evaluate", "out")
        scan.unlink()
        assert "scan.h5 that the solution in out was made from is gone" in complaint(
            capsys, 1, "evaluate", "out"
        )

    @pytest.mark.parametrize(
        ("code", "arguments", "words"),
        [
            (2, ["photo.npy", "--reference", "photo.npy", "--metrics", "psnr,sim"], "did you mean 'ssim'?"),
            (
                2,
                ["photo.npy", "--reference", "photo.npy", "--metrics", "psnr:range=1"],
                "no parameter 'range'",
            ),
            (1, ["photo.npy", "--reference", "photo.npy", "--metrics", "ssim"], "ssim needs a data range"),
            (1, ["photo.npy"], "nothing to compare photo.npy with: give the true image with --reference"),
            (1, ["foto.npy", "--reference", "photo.npy"], "did you mean 'photo.npy'?"),
            (1, ["photo.npy", "--reference", "small.npy"], "reference (4, 4)"),
            (
                1,
                ["photo.npy", "--reference", "slice.dcm"],
                "photo.npy does not say its unit, the other is in HU",
            ),
            (1, ["empty", "--reference", "photo.npy"], "there is no solution at empty"),
            (1, ["half.dcm", "--reference", "photo.npy"], "half.dcm"),
        ],
    )
    def test_wrong_usage_is_one_line(
        self,
        photo: Path,
        dicom: Path,
        code: int,
        arguments: list[str],
        words: str,
        capsys: pytest.CaptureFixture[str],
    ):
        np.save("small.npy", np.zeros((4, 4), np.float32))
        Path("empty").mkdir()
        Path("half.dcm").write_bytes(dicom.read_bytes()[:1500])
        assert words in complaint(capsys, code, "evaluate", *arguments)

    def test_several_results_make_one_table(self, scan: Path, capsys: pytest.CaptureFixture[str]):
        assert run("solve", scan, "-o", "fbp") == 0
        assert run("solve", scan, "--prior", "tv", "--weight", 0.01, "-o", "my tv") == 0
        alone = {name: answer(capsys, "evaluate", name)["scores"] for name in ("fbp", "my tv")}
        both = answer(capsys, "evaluate", "fbp", "my tv/solution.h5")
        assert {row["name"]: row["scores"] for row in both["results"]} == alone
        assert run("evaluate", "fbp", "my tv") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[1].split() == [
            "method",
            *(f"{word}" for name in alone["fbp"] for word in _heading(name)),
        ]
        assert lines[2].startswith("fbp ")
        assert lines[3].startswith("my tv ")
        better = [first["value"] < second["value"] for first, second in zip(*alone.values(), strict=True)]
        higher = [entry["higher_is_better"] for entry in alone["fbp"]]
        wins = sum(more == wanted for more, wanted in zip(better, higher, strict=True))
        assert lines[3].count("*") == wins
        assert lines[2].count("*") == len(higher) - wins
        for entry in alone["fbp"]:
            assert f"{entry['name']}: {entry['convention']}" in lines

    def test_results_in_hu_and_in_attenuation_are_compared(
        self, scan: Path, dicom: Path, capsys: pytest.CaptureFixture[str]
    ):
        assert run("solve", scan, "-o", "fbp") == 0
        result = answer(capsys, "evaluate", "fbp", dicom)
        assert result["unit"] == "1/mm"
        assert result["results"][1]["scores"][0]["value"] > 100, "the slice itself, to float32"

    def test_a_report_holds_all_results_and_no_typed_folder(
        self, scan: Path, capsys: pytest.CaptureFixture[str]
    ):
        assert run("solve", scan, "-o", "fbp") == 0
        assert run("solve", scan, "--prior", "tv", "--weight", 0.01, "-o", "tv") == 0
        assert answer(capsys, "evaluate", "fbp", "tv", "--report", "r/out.html")["report"] == "r/out.html"
        page = Path("r/out.html").read_text("utf-8")
        assert "<title>fbp and tv</title>" in page
        assert page.count("<summary>") == 2
        assert "Compared with the reference in scan.h5. Values are in 1/mm." in page
        assert str(Path.cwd()) not in page
        assert run("evaluate", "fbp", "--report", "r/out.html") == 0, "its own report is replaced"
        assert "written: r/out.html" in capsys.readouterr().out
        assert "<title>fbp</title>" in Path("r/out.html").read_text("utf-8")

    def test_a_report_replaces_nothing_else(self, photo: Path, capsys: pytest.CaptureFixture[str]):
        Path("notes.html").write_text("mine")
        arguments = ("evaluate", photo, "--reference", photo, "--report")
        assert "notes.html exists and this command did not write it" in complaint(
            capsys, 1, *arguments, "notes.html"
        )
        assert "is the input itself" in complaint(capsys, 1, *arguments, photo, "--force")
        assert Path("notes.html").read_text() == "mine"
        assert run(*arguments, "notes.html", "--force") == 0
        assert "Compared with photo.npy" in Path("notes.html").read_text("utf-8")

    def test_results_that_do_not_go_together_are_named(
        self, scan: Path, dicom: Path, photo: Path, capsys: pytest.CaptureFixture[str]
    ):
        np.save("small.npy", np.zeros((4, 4), np.float32))
        words = complaint(capsys, 1, "evaluate", photo, "small.npy", "--reference", photo)
        assert "small.npy against photo.npy" in words
        assert "(4, 4)" in words
        assert "photo.npy is given twice" in complaint(
            capsys, 2, "evaluate", photo, photo, "--reference", photo
        )
        assert "photo.npy does not say its unit" in complaint(
            capsys, 1, "evaluate", photo, dicom, "--reference", photo
        )
        assert run("simulate", dicom, "--op", "ct_parallel:angles=5", "--water", 0.019, "-o", "b.h5") == 0
        assert run("solve", scan, "-o", "one") == 0
        assert run("solve", "b.h5", "-o", "two") == 0
        assert "one and the solution in two were made from problems with different references" in complaint(
            capsys, 1, "evaluate", "one", "two"
        )

    def test_a_problem_without_reference_is_named(
        self, scan: Path, photo: Path, capsys: pytest.CaptureFixture[str]
    ):
        problem = recon.Problem.load(scan)
        recon.Problem(problem.operator, problem.data).save("measured.h5")
        assert "without a reference" in complaint(capsys, 1, "evaluate", photo, "--reference", "measured.h5")


def _heading(score: dict[str, Any]) -> tuple[str, str]:
    return score["name"], "\N{UPWARDS ARROW}" if score["higher_is_better"] else "\N{DOWNWARDS ARROW}"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("psnr", ["psnr"]),
        ("psnr, ssim:data_range=1", ["psnr", "ssim:data_range=1"]),
        ("psnr:data_range=max,clip=(0,1),nmse", ["psnr:data_range=max,clip=(0,1)", "nmse"]),
        ("recon/psnr,my-dist/sharp:k=1,j=2", ["recon/psnr", "my-dist/sharp:k=1,j=2"]),
        ("ssim:data_range=max,weights=gaussian", ["ssim:data_range=max,weights=gaussian"]),
    ],
)
def test_a_list_of_metrics_is_cut_between_them(text: str, parts: list[str]):
    assert read_metrics(text) == parts


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        ({}, "SmallResiduals(0.001) | MaxIterations(500)"),
        ({"iterations": 7}, "SmallResiduals(0.001) | MaxIterations(7)"),
        ({"tolerance": 0.5}, "SmallResiduals(0.5) | MaxIterations(500)"),
        ({"time_limit": "2min"}, "SmallResiduals(0.001) | MaxIterations(500) | TimeLimit('120s')"),
    ],
)
def test_limits_replace_their_like_and_leave_the_rest(limits: dict[str, Any], rule: str):
    assert repr(stopping_rule(recon.SmallResiduals(1e-3) | recon.MaxIterations(500), limits)) == rule


def test_limits_are_added_to_a_rule_that_is_no_alternative():
    both = recon.RelativeChange(1e-3) & recon.Discrepancy()
    assert repr(stopping_rule(both, {"iterations": 9})) == f"{both!r} | MaxIterations(9)"


def until(leader: int, pattern: bytes) -> bytes:
    """What a program draws on a pseudo-terminal until the pattern is there, or until it ends."""
    drawn = b""
    try:
        while not re.search(pattern, drawn) and (part := os.read(leader, 4096)):
            drawn += part
    except OSError:  # Linux ends a pseudo-terminal with EIO
        pass
    return drawn


def test_the_bar_is_drawn_on_a_terminal_and_nowhere_else(holes: Path):
    """A real pseudo-terminal on stderr: the bar is there, stdout stays one JSON object."""
    command = [BIN, "solve", holes, "--prior", "tv", "--json", "-o", "out"]
    leader, follower = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower) as process:
        os.close(follower)
        drawn = until(leader, rb"never")
        assert process.stdout is not None
        result = json.loads(process.stdout.read())
    os.close(leader)
    assert process.returncode == 0
    assert b"Mask" in drawn
    assert b"iteration" in drawn
    assert result["converged"]
    piped = subprocess.run(command, capture_output=True, check=True)
    assert piped.stderr == b"", "no bar in a pipe"


def test_ctrl_c_writes_what_there_is(holes: Path):
    """The image so far is kept and marked; the exit code is that of an interrupted program."""
    options = ["--weight", "0.05", "--tolerance", "1e-30", "--iterations", "100000000"]
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [BIN, "solve", holes, "--prior", "tv", *options, "-o", "out"],
        stdout=subprocess.PIPE,
        stderr=follower,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
    ) as process:
        os.close(follower)
        until(leader, rb"iteration [1-9]")
        process.send_signal(signal.SIGINT)
        errors = until(leader, rb"never")
        assert process.stdout is not None
        shown = process.stdout.read()
    os.close(leader)
    assert process.returncode == 130
    assert b"interrupted" in errors
    assert "interrupted" in shown
    solution = recon.Solution.load("out")
    assert solution.reason == "interrupted"
    assert solution.iterations > 0


def test_help_is_quick_and_imports_nothing_heavy():
    code = "import sys; from recon.cli import main; main(['solve', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "h5py", "matplotlib", "rich"} & {*done.stdout.splitlines()[-1].split()}
    assert "--prior" in done.stdout


@pytest.mark.parametrize(("given", "used"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_idle_threads_sleep_unless_the_user_says_otherwise(given: dict[str, str], used: str):
    code = "import os; from recon.cli import main; main(['--version']); print(os.environ['OMP_WAIT_POLICY'])"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == used


def test_a_sample_names_its_credit_and_licence():
    attributes = registry.make("dataset", "camera").attributes
    assert attributes["credit"] == "Lav Varshney"
    assert attributes["licence"] == "CC0-1.0"
