"""The splitting objective in the loop: what it remembers of every sample stays right, or is refused."""

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
from safetensors.torch import load_file
from small_trainings import squares

import recon
from recon.checkpoint import CheckpointError
from recon.training.splitting import SplitTraining


def operator() -> recon.LinearOperator:
    mask = torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) < 0.5
    return recon.operator("mask", mask=mask)


def train(**changed):
    settings = {"data": squares(7), "op": operator(), "noise": "gaussian:std=0.05", "epochs": 4, "batch": 4}
    settings |= {"objective": SplitTraining(loops=2), "validation": 2 / 7, "seed": 1}
    return recon.train(changed.pop("network", "scae"), **settings | changed)


def test_every_sample_is_brought_through_every_loop_whatever_the_batch():
    """Five images in batches of four: none is left out of an epoch, and none changes its noise."""
    objective = SplitTraining(loops=2)
    train(objective=objective)
    assert sorted(objective.places) == list(range(5))
    assert {place.loop for place in objective.places.values()} == {1}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 1}, "2 outer loops of at least one epoch each: say epochs=2 or more"),
        ({"augment": "flip"}, "augment='flip' would spoil it"),
        ({"patch": 8}, "patch=8 would spoil it"),
        ({"network": "learned_gradient:iterations=1,features=2"}, "takes the operator or the noise level"),
        ({"network": "drunet:channels=[2,4],blocks=1"}, "takes the operator or the noise level"),
    ],
)
def test_what_would_spoil_the_samples_is_refused_before_the_first_step(changed, message):
    with pytest.raises(ValueError, match=message):
        train(**changed)


def test_its_outer_loops_cannot_be_spread_anew_over_other_epochs(tmp_path):
    train(output=tmp_path)
    with pytest.raises(CheckpointError, match="SplitTraining divides them among its stages.*say epochs=4"):
        train(output=tmp_path, epochs=6)


SCRIPT = """
    import sys
    sys.path.insert(0, {tests!r})
    from test_split_objective import train
    train(output=sys.argv[1], device="cpu", checkpoint_seconds=0.0, epochs=int(sys.argv[2]))
"""


def launched(tmp_path: Path, folder: Path, *before: str, epochs: int = 4) -> subprocess.Popen[str]:
    script = tmp_path / "training.py"
    script.write_text(textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parent))))
    return subprocess.Popen(
        [sys.executable, *before, str(script), str(folder), str(epochs)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_two_processes_are_refused(tmp_path):
    module = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = launched(tmp_path, tmp_path / "model", *module)
    said, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "train in one process" in said


def test_a_killed_training_goes_on_bit_for_bit(tmp_path):
    """Killed in the midst of the loops: the variables of the samples are in the checkpoint."""
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    process = launched(tmp_path, folder, epochs=40)
    last, deadline = folder / "checkpoints" / "last.safetensors", time.monotonic() + 100
    while not (folder / "log.csv").exists() or len((folder / "log.csv").read_text().splitlines()) < 23:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert last.exists()
    train(output=folder, device="cpu", epochs=40)
    train(output=whole, device="cpu", epochs=40)
    weights = load_file(folder / "weights.safetensors")
    for name, tensor in load_file(whole / "weights.safetensors").items():
        assert torch.equal(tensor, weights[name]), name
