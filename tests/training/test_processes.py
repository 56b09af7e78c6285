"""Two processes train what one does."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from small_trainings import SmallNet, squares

import recon
from recon.checkpoint import CheckpointError
from recon.training import CycleGAN, Unpaired
from recon.training.processes import own_part

SCRIPT = """
    import sys
    import torch
    sys.path.insert(0, {tests!r})
    from small_trainings import squares
    import recon

    torch.set_num_threads(1)
    recon.train(
        "unet:channels=4,levels=2", data=squares(24), objective="denoising:loss=mse", epochs=3, batch=4, seed=3,
        accumulate=2, ema=0.5, output=sys.argv[1], device="cpu",
    )
"""


def by_two_processes(script, *arguments):
    """What torchrun ends with, running a script twice."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*command, str(script), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_two_processes_of_torchrun_train_what_one_does(tmp_path):
    script = tmp_path / "training.py"
    script.write_text(textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parent))))
    folder = tmp_path / "model"
    done = by_two_processes(script, str(folder))
    assert done.returncode == 0, done.stderr[-2000:]
    rows = []
    alone = recon.train(
        "unet:channels=4,levels=2", data=squares(24), objective="denoising:loss=mse", epochs=3, batch=4, seed=3,
        accumulate=2, ema=0.5, callback=rows.append,
    )  # fmt: skip
    shared = load_file(folder / "weights.safetensors")
    for name, tensor in alone.network.state_dict().items():
        # sums of gradients in another order differ in the last digits, which Adam's first steps enlarge
        torch.testing.assert_close(shared[name], tensor, rtol=1e-3, atol=1e-5)
    log = (folder / "log.csv").read_text().splitlines()
    assert len(log) == 4
    psnr = float(log[-1].split(",")[log[0].split(",").index("psnr")])
    assert abs(psnr - rows[-1]["psnr"]) < 1e-3  # the validation is shared too


POOLS = """
    import sys
    import torch
    sys.path.insert(0, {tests!r})
    from small_trainings import SmallNet, squares
    import recon
    from recon.training import CycleGAN, Unpaired

    class Stopping(CycleGAN):
        at, seen = 0, 0

        def step(self, batch, fit):
            self.seen += 1
            if self.seen == self.at:
                raise KeyboardInterrupt
            return super().step(batch, fit)

    def trained(folder, at=0):
        torch.manual_seed(0)
        objective = Stopping(pool=6, critic="patchgan:channels=4,layers=1")
        objective.at = at
        recon.train(
            SmallNet(), data=Unpaired(squares(24), squares(24, seed=1)), validation=0, objective=objective,
            epochs=3, batch=4, seed=3, output=folder, device="cpu", checkpoint_seconds=0.0,
        )
        return objective.pools[0].kept

    torch.set_num_threads(1)
    whole = trained(sys.argv[1] + "/whole")
    for at in (5, 6):  # the pools of 6 images fill with the third batch, and are full when it stops
        try:
            trained(sys.argv[1] + "/stopped", at)
        except KeyboardInterrupt:
            continue
        raise SystemExit("it did not stop")
    resumed = trained(sys.argv[1] + "/stopped")
    assert len(whole) == 6 and all(torch.equal(*pair) for pair in zip(whole, resumed))
"""


def test_two_processes_go_on_exactly_each_with_its_own_image_pool(tmp_path):
    script = tmp_path / "training.py"
    script.write_text(textwrap.dedent(POOLS.format(tests=str(Path(__file__).parent))))
    done = by_two_processes(script, str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    whole, resumed = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "stopped"))
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    logs = [
        [line.rsplit(",", 1)[0] for line in (tmp_path / name / "log.csv").read_text().splitlines()]
        for name in ("whole", "stopped")
    ]
    assert logs[0] == logs[1] and logs[0][0].startswith("epoch,loss")
    with pytest.raises(CheckpointError, match="processes"):  # what belongs to two is not one's
        recon.train(
            SmallNet(), data=Unpaired(squares(24), squares(24, seed=1)), validation=0,
            objective=CycleGAN(pool=6, critic="patchgan:channels=4,layers=1"), epochs=3, batch=4, seed=3,
            output=tmp_path / "whole", device="cpu",
        )  # fmt: skip


def test_another_number_of_processes_is_refused_where_each_has_a_state(tmp_path):
    fabric = Fabric(accelerator="cpu", devices=1)
    own = {"sums": {"loss": 1.0}, "objective": {"kept": torch.ones(2)}}
    with pytest.raises(CheckpointError, match="2 processes.*this training has 1: start 2"):
        own_part([own, own], fabric, tmp_path / "last.safetensors")
    plain = [{"sums": {"loss": value}, "objective": {}} for value in (1.0, 3.0)]
    assert own_part(plain, fabric, tmp_path)["sums"] == {"loss": 2.0}


SPLITTING = """
    import torch
    import recon

    recon.train(
        "unet:channels=4,levels=2", data=torch.rand(4, 16, 16), op=recon.operator("identity", shape=(16, 16)),
        objective="splitting:loops=1", epochs=1, batch=4, device="cpu",
    )
"""


def test_splitting_by_several_processes_is_refused_before_training(tmp_path):
    script = tmp_path / "training.py"
    script.write_text(textwrap.dedent(SPLITTING))
    done = by_two_processes(script)
    assert done.returncode != 0
    assert "remembers every sample, of which each of 2 processes would see a part" in done.stderr


def test_splitting_sees_every_sample_in_every_loop_whatever_the_batch(operator):
    rows = []
    recon.train(
        "unet:channels=4,levels=2", data=squares(7), op=operator, objective="splitting:loops=3", validation=0,
        epochs=3, batch=4, seed=3, callback=rows.append,
    )  # fmt: skip
    assert len(rows) == 3
    with pytest.raises(ValueError, match="3 outer loops.*epochs=3 or more, or loops=2 or fewer"):
        recon.train(
            "unet:channels=4,levels=2", data=squares(7), op=operator, objective="splitting:loops=3", epochs=2
        )
