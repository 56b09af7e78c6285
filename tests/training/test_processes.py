"""Two processes train what one does."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import torch
from safetensors.torch import load_file
from small_trainings import squares

import recon

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


def test_two_processes_of_torchrun_train_what_one_does(tmp_path):
    script = tmp_path / "training.py"
    script.write_text(textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parent))))
    folder = tmp_path / "model"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(script), str(folder)], env=environment, capture_output=True, text=True, timeout=120
    )
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
