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
    for change in ({"batch": 8}, {"lr": 0.1}, {"seed": 1}):
        with pytest.raises(CheckpointError, match="another training"):
            trained(SmallNet(), images, operator, 0, output=tmp_path, **{**SETTINGS, **change})
    anew = trained(SmallNet(), images, operator, 0, output=tmp_path, resume=False, **{**SETTINGS, "batch": 8})
    assert anew.card["training"]["batch"] == 8


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
