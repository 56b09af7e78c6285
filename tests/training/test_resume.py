"""A training that was stopped goes on exactly; a killed one loses at most one checkpoint interval."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from small_trainings import SmallNet, squares

import recon
from recon.checkpoint import CheckpointError
from recon.training.schedules import make_schedule
from recon.training.state_files import load_state
from recon.training.supervised import Supervised

SETTINGS = {"epochs": 4, "batch": 4, "ema": 0.9, "accumulate": 2, "clip": 1.0, "augment": "flip, rotate"}


class Stopping(Supervised):
    """Stops like Ctrl-C in the middle of an epoch."""

    def __init__(self, at: int) -> None:
        super().__init__("mse + 0.1*l1")
        self.at, self.seen = at, 0

    def step(self, batch, fit):
        self.seen += 1
        if self.seen == self.at:
            raise KeyboardInterrupt
        return super().step(batch, fit)


def trained(network, images, operator, at, **settings):
    return recon.train(
        network, data=images, op=operator, noise="gaussian:std=0.05", objective=Stopping(at), **settings
    )


def weights(prior):
    return prior.network.state_dict()


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("precision", ["32", "bf16", "fp16"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_by_bit(images, operator, tmp_path, precision):
    def fresh():
        torch.manual_seed(0)
        return SmallNet()

    settings = {**SETTINGS, "precision": precision, "checkpoint_seconds": 0.0}
    whole = trained(fresh(), images, operator, 0, **settings)
    for at in (3, 8):  # both in the middle of an epoch of 5 batches
        with pytest.raises(KeyboardInterrupt):
            trained(fresh(), images, operator, at, output=tmp_path, **settings)
    rows = []
    resumed = trained(fresh(), images, operator, 0, output=tmp_path, callback=rows.append, **settings)
    assert_same(weights(whole), weights(resumed))
    assert {row["epoch"] for row in rows} < {1, 2, 3, 4}  # it did go on rather than begin again
    log = (tmp_path / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["epoch", "1", "2", "3", "4"]


def test_a_finished_run_is_not_trained_again(images, operator, tmp_path):
    first = trained(SmallNet(), images, operator, 0, output=tmp_path, **SETTINGS)
    rows = []
    again = trained(SmallNet(), images, operator, 1, output=tmp_path, callback=rows.append, **SETTINGS)
    assert not rows
    assert_same(weights(first), weights(again))


def test_a_checkpoint_of_other_settings_or_data_is_refused(images, operator, tmp_path):
    trained(SmallNet(), images, operator, 0, output=tmp_path, **SETTINGS)
    named = {
        "training batch was 4 and is 8": {"batch": 8},
        "training lr was null and is 0.1": {"lr": 0.1},
        "training seed was 0 and is 1": {"seed": 1},
        "training monitor was": {"monitor": "ssim"},
        "data patch was null and is 8": {"patch": 8},
    }
    for message, change in named.items():
        with pytest.raises(CheckpointError, match=f"another training: .*{message}"):
            trained(SmallNet(), images, operator, 0, output=tmp_path, **{**SETTINGS, **change})
    with pytest.raises(CheckpointError, match="another training: the operator is another:"):
        trained(SmallNet(), images, recon.Identity((16, 16)), 0, output=tmp_path, **SETTINGS)
    brighter = images.clone()
    brighter[:, 0, 0] = 0.5
    with pytest.raises(CheckpointError, match="the images or data are others"):
        trained(SmallNet(), brighter, operator, 0, output=tmp_path, **SETTINGS)
    anew = trained(SmallNet(), images, operator, 0, output=tmp_path, resume=False, **{**SETTINGS, "batch": 8})
    assert anew.card["training"]["batch"] == 8


def fresh():
    torch.manual_seed(0)
    return SmallNet()


@pytest.mark.parametrize("schedule", ["constant", "step:every=2,factor=0.5"])
def test_more_epochs_are_those_of_a_longer_training_where_the_schedule_knows_no_end(
    images, operator, tmp_path, schedule
):
    settings = {**SETTINGS, "schedule": schedule}
    trained(fresh(), images, operator, 0, output=tmp_path, **settings)
    rows = []
    longer = trained(
        fresh(), images, operator, 0, output=tmp_path, callback=rows.append, **{**settings, "epochs": 7}
    )
    whole = trained(fresh(), images, operator, 0, **{**settings, "epochs": 7})
    assert [row["epoch"] for row in rows] == [5, 6, 7]
    assert_same(weights(longer), weights(whole))
    assert longer.card["training"]["epochs changed"] == ["from 4 to 7 after 4"]
    assert longer.card["training"]["epochs"] == 7


@pytest.mark.parametrize("monitor", ["psnr", "loss"])
@pytest.mark.parametrize("patience", [None, 1])
def test_a_validation_out_of_turn_is_forgotten_when_more_epochs_follow(
    images, operator, tmp_path, monitor, patience
):
    """A training of 3 epochs validates the third, one of 7 the second, fourth, sixth and its last."""
    settings = {**SETTINGS, "schedule": "constant", "validate_every": 2, "lr": 3e-2, "monitor": monitor}
    settings["patience"] = patience
    rows = {"longer": [], "whole": []}
    trained(
        fresh(), images, operator, 0, output=tmp_path, callback=rows["longer"].append,
        **{**settings, "epochs": 3},
    )  # fmt: skip
    assert ["psnr" in row for row in rows["longer"]] == [False, True, True][: len(rows["longer"])]
    settings["epochs"] = 7
    longer = trained(
        fresh(), images, operator, 0, output=tmp_path, callback=rows["longer"].append, **settings
    )
    again = trained(fresh(), images, operator, 0, output=tmp_path, **settings)
    whole = trained(fresh(), images, operator, 0, output=tmp_path / "whole", **settings)
    assert_same(weights(longer), weights(whole))
    assert_same(weights(again), weights(whole))
    states = []
    for folder in (tmp_path, tmp_path / "whole"):
        states.append(load_state(folder / "checkpoints" / "last.safetensors"))
        best = load_state(folder / "checkpoints" / "best.safetensors")
        assert_same(best["network"], states[-1]["best_kept"])
        for row in states[-1]["history"]:
            del row["seconds"]
    for name in ("history", "best", "best_epoch", "stopped"):
        assert states[0][name] == states[1][name], name
    for name in ("epochs", "stopped by", "steps"):
        assert longer.card["training"][name] == whole.card["training"][name]


@pytest.mark.parametrize("schedule", [None, "linear", "constant:warmup=0.5", "onecycle"])
def test_other_schedules_go_on_from_where_they_stand_in_the_new_number(images, operator, tmp_path, schedule):
    settings = {**SETTINGS, "accumulate": 1, "schedule": schedule}
    trained(fresh(), images, operator, 0, output=tmp_path, **settings)
    rows = []
    longer = trained(
        fresh(), images, operator, 0, output=tmp_path, callback=rows.append, **{**settings, "epochs": 6}
    )
    assert [row["epoch"] for row in rows] == [5, 6]
    factor = make_schedule(schedule or "cosine")
    for row in rows:  # that of the last of 5 batches of the epoch
        assert row["lr"] == pytest.approx(1e-3 * factor((row["epoch"] - 1 + 4 / 5) / 6, row["epoch"] - 1))
    (said,) = longer.card["training"]["epochs changed"]
    assert said.endswith("the learning rate of network went on from where its schedule stands in 6")


def test_a_stopped_training_may_become_shorter_but_not_than_it_is(images, operator, tmp_path):
    settings = {**SETTINGS, "checkpoint_seconds": 0.0}
    with pytest.raises(KeyboardInterrupt):
        trained(fresh(), images, operator, 9, output=tmp_path, **settings)  # in the second epoch
    with pytest.raises(CheckpointError, match=r"has trained 1\.\d epochs already, more than epochs=1"):
        trained(fresh(), images, operator, 0, output=tmp_path, **{**settings, "epochs": 1})
    shorter = trained(fresh(), images, operator, 0, output=tmp_path, **{**settings, "epochs": 2})
    assert shorter.card["training"]["epochs"] == 2


def test_what_stopped_goes_on_with_more_patience_or_more_epochs(images, operator, tmp_path):
    settings = {**SETTINGS, "epochs": 6, "lr": 1e-9}  # nothing gets better
    first = trained(fresh(), images, operator, 0, output=tmp_path, patience=1, **settings)
    stopped = first.card["training"]["epochs"]
    assert stopped < 6 and first.card["training"]["stopped by"].startswith("no better psnr")
    again = trained(fresh(), images, operator, 0, output=tmp_path, patience=1, **settings)
    assert again.card["training"]["epochs"] == stopped
    patient = trained(fresh(), images, operator, 0, output=tmp_path, patience=6, **settings)
    assert patient.card["training"]["epochs"] == 6
    called = tmp_path / "called"
    settings = {**SETTINGS, "output": called}
    by_callback = trained(fresh(), images, operator, 0, callback=lambda row: row["epoch"] == 2, **settings)
    assert by_callback.card["training"]["stopped by"] == "the callback"
    longer = trained(fresh(), images, operator, 0, **{**settings, "epochs": 5})
    assert longer.card["training"]["epochs"] == 5


def test_a_damaged_checkpoint_is_refused(images, operator, tmp_path):
    trained(SmallNet(), images, operator, 0, output=tmp_path, **SETTINGS)
    path = tmp_path / "checkpoints" / "last.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="damaged"):
        trained(SmallNet(), images, operator, 0, output=tmp_path, **SETTINGS)
    path.write_bytes(bytes(content[: len(content) // 2]))
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        trained(SmallNet(), images, operator, 0, output=tmp_path, **SETTINGS)


SCRIPT = """
    import sys
    import time
    import torch
    sys.path.insert(0, {tests!r})
    from small_trainings import SmallNet, squares
    import recon
    from recon.training.supervised import Denoising

    class Slow(Denoising):
        def step(self, batch, fit):
            time.sleep(0.05)  # so that a kill falls somewhere in the middle
            return super().step(batch, fit)

    torch.set_num_threads(1)
    torch.manual_seed(0)
    recon.train(
        SmallNet(), data=squares(24), objective=Slow("mse", 0.0, 0.2), epochs=8, batch=4, seed=3, ema=0.9,
        output=sys.argv[1], checkpoint_seconds=0.1,
    )
"""


def test_kill_9_loses_at_most_one_interval(tmp_path):
    script = tmp_path / "training.py"
    script.write_text(textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parent))))
    folder = tmp_path / "model"
    last = folder / "checkpoints" / "last.safetensors"
    command = [sys.executable, str(script), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment)
    waited = time.monotonic()
    while not last.exists():
        assert process.poll() is None and time.monotonic() - waited < 60
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = time.time()
    assert killed - last.stat().st_mtime < 2.0  # an interval of 0.1 s and a batch, on a busy machine
    torch.manual_seed(0)
    settings = {"objective": "denoising:loss=mse", "epochs": 8, "batch": 4, "seed": 3, "ema": 0.9}
    whole = recon.train(SmallNet(), data=squares(24), **settings)
    rows = []
    resumed = recon.train(SmallNet(), data=squares(24), output=folder, callback=rows.append, **settings)
    assert 0 < len(rows) <= 8
    assert_same(weights(whole), weights(resumed))
