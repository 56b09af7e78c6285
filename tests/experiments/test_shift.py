"""The test away from training: every condition measured, scores that are those of the images, wrong input named."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import recon
from recon.commands import app
from recon.experiments.shift import measure_shift
from recon.metrics import PSNR
from recon.simulate import as_noise

OPERATOR = "mri_cartesian:mask=random_1d:acceleration=2"
OTHER = "mri_cartesian:mask=random_2d:acceleration=2"
NOISE = "complex_gaussian:std=0.05"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shift")
    images = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(0))
    recon.train(
        "unet:channels=2,levels=2",
        op=recon.operator("mri_cartesian", mask="random_1d:acceleration=2", shape=(16, 16)),
        data=images,
        noise=NOISE,
        validation=0,
        monitor="last",
        epochs=1,
        batch=2,
        output=folder / "model",
        progress=False,
        device="cpu",
    )
    return folder / "model"


def truth() -> torch.Tensor:
    return torch.rand(16, 16, generator=torch.Generator().manual_seed(1))


def test_every_condition_is_measured_the_trained_one_first(model: Path) -> None:
    shift = measure_shift(model, {"a": truth(), "b": truth().flip(0)}, [OTHER], ["none"])
    conditions = shift.conditions()
    assert len(conditions) == 2 * 2 * 2
    assert [condition.trained for condition in conditions[:4]] == [True, False, False, False]
    assert conditions[0].noise.startswith("complex_gaussian:std=0.05") and conditions[1].noise == ""
    assert shift.methods() == ["model", "tv", "direct"]
    gaps = [scores["model"] - max(scores["tv"], scores["direct"]) for scores in map(shift.scores, conditions)]
    assert shift.gains()["least"] == min(gaps)


def test_the_scores_are_those_of_the_solutions(model: Path) -> None:
    shift = measure_shift(model, {"a": truth()}, [OTHER], [], seed=3)
    op = recon.operator("mri_cartesian", mask="random_2d:acceleration=2", shape=(16, 16))
    y = op.measure(truth().to(torch.complex64), noise=as_noise(NOISE), seed=3)
    image = recon.solve(
        op, recon.prior(str(model), any_operator=True), y, image_range=(0.0, float(truth().max()))
    ).image.abs()
    size = float(truth().max() - truth().min())
    expected = {"model": image, "direct": op.pinv(y).abs()}
    found = shift.scores(shift.conditions()[-1])
    for name, picture in expected.items():
        assert found[name] == pytest.approx(
            float(PSNR(data_range=size)(picture, truth(), item_ndim=2)), abs=1e-3
        )


def test_the_command_writes_table_and_plot(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", truth().numpy())
    arguments = ["evaluate", str(model), "--shift", "--image", str(tmp_path / "other.npy"), "--op", OTHER]
    result = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "out/shift.json").read_text())
    assert len(written["points"]) == 2 * 3 and written["trained"]["operator"].startswith("mri_cartesian")
    assert (tmp_path / "out/shift.png").read_bytes().startswith(b"\x89PNG")
    assert "(as trained)" in (tmp_path / "out/shift.md").read_text()


def test_wrong_input_is_named(model: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["evaluate", str(model), "--shift"])
    assert result.exit_code == 2 and "--image" in result.output
    result = runner.invoke(app, ["evaluate", "image.npy", "--op", OTHER])
    assert result.exit_code == 2 and "belongs to --shift" in result.output
    with pytest.raises(FileNotFoundError, match="no trained model"):
        measure_shift(tmp_path, {"a": truth()})


def test_what_another_operator_leaves_out_is_as_in_training(tmp_path: Path) -> None:
    """Fewer views of the same scanner: its pixels keep their size, and with it the noise its scale."""
    images = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(0)) / 100
    recon.train(
        "unet:channels=2,levels=2",
        op=recon.operator("ct_parallel", shape=(16, 16), pixel_size=3.0, angles=12),
        data=images,
        noise="poisson:photons=1e3",
        validation=0,
        monitor="last",
        epochs=1,
        batch=2,
        output=tmp_path / "model",
        progress=False,
        device="cpu",
    )
    shift = measure_shift(tmp_path / "model", {"a": images[0]}, ["ct_parallel:angles=6"], priors=())
    assert shift.operator == "ct_parallel:pixel_size=3.0,angles=12", "what is as everywhere is not said"
    op = recon.operator("ct_parallel", shape=(16, 16), pixel_size=3.0, angles=6)
    direct = op.pinv(op.measure(images[0], noise=as_noise("poisson:photons=1e3"), seed=0))
    peak = float(images[0].max() - images[0].min())
    expected = float(PSNR(data_range=peak)(direct, images[0], item_ndim=2))
    assert shift.scores(shift.conditions()[-1])["direct"] == pytest.approx(expected, abs=1e-3)
