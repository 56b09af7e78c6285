"""Priors joined by + are the sum of them, in Python and in every command that takes --prior."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import recon
from recon.cli import main
from recon.learned import LearnedPrior, ModelError
from recon.model_files import save_model
from recon.specs import SpecError

pytestmark = pytest.mark.filterwarnings("ignore::recon.solving.ConvergenceWarning")

SUM = "tv:weight=1e-2 + nonnegative"


def test_the_sum_is_that_of_the_objects(scan: Path) -> None:
    problem = recon.Problem.load(scan)
    named = recon.solve(problem, SUM)
    added = recon.solve(problem, recon.prior("tv", weight=1e-2) + recon.prior("nonnegative"))
    assert torch.equal(named.image, added.image)
    assert [prior["name"] for prior in named.facts["priors"]] == ["TotalVariation", "NonNegative"]


def test_every_command_takes_it(scan: Path, tmp_path: Path) -> None:
    stop = ["--iterations", "5"]
    assert main(["solve", str(scan), "--prior", SUM, "-o", str(tmp_path / "joined"), *stop]) == 0
    repeated = ["--prior", "tv:weight=1e-2", "--prior", "nonnegative"]
    assert main(["solve", str(scan), *repeated, "-o", str(tmp_path / "repeated"), *stop]) == 0
    assert main(["slabs", str(scan), "--prior", SUM, "-o", str(tmp_path / "slabs.h5"), *stop]) == 1
    batch = ["--prior", SUM, "-o", str(tmp_path / "batch"), "--workers", "1"]
    assert main(["batch", str(scan.parent), *batch, *stop]) == 0
    sweep = ["--prior", SUM, "-o", str(tmp_path / "sweep"), "--workers", "1", "--vary", "tv.weight=0.01,1"]
    assert main(["sweep", str(scan), *sweep, *stop]) == 0
    expected = recon.Solution.load(tmp_path / "joined").image
    base = next((tmp_path / "sweep").glob("**/solution.h5"))
    for folder in (tmp_path / "repeated", tmp_path / "batch" / "scan", base.parent):
        assert torch.equal(recon.Solution.load(folder).image, expected), folder


def test_a_stack_takes_it_in_slabs(disc: torch.Tensor, tmp_path: Path) -> None:
    ct = recon.operator("ct_parallel", shape=disc.shape, angles=18)
    stack = recon.Problem(ct, ct(torch.stack([disc, disc / 2]))).save(tmp_path / "stack.h5")
    for name, priors in {
        "a": ["--prior", SUM],
        "b": ["--prior", "tv:weight=1e-2", "--prior", "nonnegative"],
    }.items():
        assert (
            main(["slabs", str(stack), *priors, "-o", str(tmp_path / f"{name}.h5"), "--iterations", "5"]) == 0
        )
    first, second = (recon.Solution.load(tmp_path / name).image for name in ("a.h5", "b.h5"))
    assert torch.equal(first, second) and first.shape == (2, 24, 24)


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        ("tv +", "a name is missing in 'tv +'"),
        ("tv + wavlet", "did you mean 'wavelet'"),
        ("tv:weight=1e-3+5", "weight='1e-3+5'"),
    ],
)
def test_what_is_no_sum_is_refused(
    prior: str, said: str, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["solve", str(scan), "--prior", prior, "-o", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err


def test_numbers_and_folders_keep_their_plus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recon.prior("tv:weight=1e+2").weight == 100
    assert recon.prior("box:low=-1e+1,high=1 + tv").members[0].low == -10
    with pytest.raises(TypeError, match="weight beside the sum"):
        recon.prior("tv + l1", weight=2.0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noise+blur").mkdir()
    (tmp_path / "noise+blur" / "card.json").write_text("{}")
    with pytest.raises(ModelError, match=r"noise\+blur"):
        recon.prior("noise+blur:weight=1")


@pytest.mark.parametrize(
    "name", ["models/a+b", "models/a+b/", "models/a+b/:weight=0.1 + tv", "tv + models/a+b"]
)
def test_a_folder_with_a_plus_that_is_not_there_is_named_whole(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        LookupError, match=r"no trained model in models/a\+b/? \(in a sum, write learned:folder="
    ):
        recon.prior(name)
    with pytest.raises(LookupError, match="^unknown prior 'tvv'; did you mean 'tv'"):
        recon.prior("tvv + wavelet")


def test_a_folder_with_a_plus_is_written_in_quotes_in_a_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = recon.registry.make("network", "unet", channels=2, levels=2)
    save_model(LearnedPrior(network, weight=1.0), "models/a+b")
    with pytest.raises(SpecError, match=r"write learned:folder='models/a\+b/'"):
        recon.prior("models/a+b/ + nonnegative")
    learned, nonnegative = recon.prior("learned:folder='models/a+b/',weight=0.5 + nonnegative").members
    assert isinstance(learned, LearnedPrior) and learned.weight == 0.5
    assert type(nonnegative).__name__ == "NonNegative"
