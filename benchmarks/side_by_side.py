"""Libraries side by side: seconds until the PSNR stays within 0.05 dB of that of the converged image.

    make peers && OMP_NUM_THREADS=1 .venv/bin/python benchmarks/side_by_side.py [--json FILE] [--budget 35]

Every library minimises least squares and the prior of the problem with its own operators, from data to image, on one
thread; what operators keep (matrices, grids, norms, compiled functions) is there before. CT data come from each
library's own projector, as their discretisations differ; the others get the same data. A method has converged when
its PSNR has settled (`trajectory.py`). One that has not within the budget gets the time spent, with a ">": a lower
bound. The settings of the others were found by hand for these problems; recon's solver and steps are its own choice.
Seconds are the processor's: what else a shared machine does counts for little.

The rows "nothing chosen" are the whole call with an automatic weight and the solver's own stop. The weight is given
the noise level: estimated from the data it comes out too high for this phantom, whose edges are sharper than any
scanned object's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import with_deepinv
import with_odl
import with_sigpy
from problems import NATURAL, PROBLEMS, VIEWS, Posed, ct
from recon_priors import TotalVariation, WaveletDenoiser, WaveletSparsity
from setting import environment, print_table
from trajectory import Method, Watch, followed, psnr, timed

import recon

TASKS = {
    "CT TV, 256": lambda: PROBLEMS["CT TV"](256),
    "CT TV, 512": lambda: PROBLEMS["CT TV"](512),
    "CT TV, fan, 256": lambda: PROBLEMS["CT TV, fan"](256),
    "MRI TV, 256": lambda: PROBLEMS["MRI TV"](256),
    "MRI wavelet, 4 coils, 256": lambda: PROBLEMS["MRI wavelet, 4 coils"](256),
    "inpainting TV, 256": lambda: PROBLEMS["inpainting TV"](256),
    "PnP MRI brain, 4x": NATURAL["MRI brain, 4x"],
    "PnP inpainting, 30 %": NATURAL["inpainting, 30 %"],
}
OTHERS = {"deepinv": with_deepinv, "ODL": with_odl, "SigPy": with_sigpy}
SCICO = Path(__file__).parents[1] / ".venv-scico" / "bin" / "python"
SCICO_SOLVES = ("CT TV", "MRI TV", "inpainting TV")
SCICO_CANNOT = {
    "CT TV, fan": "projects fan beams on no CPU",
    "MRI wavelet, 4 coils": "has no wavelets",
    "PnP MRI brain, 4x": "has this denoiser in no form",
    "PnP inpainting, 30 %": "has this denoiser in no form",
}
MOST = 10_000


def ours(posed: Posed, **options: Any) -> Method:
    """recon, with the prior of the problem."""

    def run(watch: Watch) -> None:
        recon.solve(
            posed.operator,
            posed.prior,
            posed.y,
            stop=recon.MaxIterations(MOST),
            callback=lambda snapshot: watch(snapshot.image[0]),
            **options,
        )

    return run


def our_methods(name: str, posed: Posed) -> dict[str, Method]:
    """recon by its own choice, and for parallel CT with its other projectors."""
    methods = {"recon": ours(posed)}
    if name == "CT TV":
        for backend in ("fourier", "strip"):
            methods[f"recon, backend {backend}"] = ours(ct(len(posed.truth), backend=backend))
    return methods


def nothing_chosen(posed: Posed) -> tuple[float, float, int]:
    """Seconds, PSNR and iterations of the call that is given the noise level at most."""
    prior = posed.prior
    if isinstance(prior, TotalVariation):
        prior = TotalVariation(boundary=prior.boundary)
    elif isinstance(prior, WaveletSparsity):
        prior = WaveletSparsity(decimated=True)
    fidelity: Any = "gaussian"
    if not isinstance(prior, WaveletDenoiser):
        fidelity = ("gaussian", {"noise_level": posed.noise_level})
    seconds = []
    for _ in range(3):
        began = time.process_time()
        solution = recon.solve(posed.operator, prior, posed.y, fidelity=fidelity)
        seconds.append(time.process_time() - began)
    return sorted(seconds)[1], psnr(solution.image, posed.truth.numpy()), solution.iterations


def scico(name: str, posed: Posed, budget: float) -> dict[str, Any]:
    """What `with_scico.py` measured in its own Python."""
    mask = getattr(posed.operator, "mask", torch.ones(1))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "problem.npz"
        np.savez(
            file,
            truth=posed.truth.numpy(),
            y=posed.y.numpy(),
            mask=mask.numpy(),
            weight=posed.weight,
            views=VIEWS,
            elements=posed.operator.range_shape[-1],
        )
        single = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        done = subprocess.run(
            [SCICO, Path(__file__).with_name("with_scico.py"), name, file, str(budget)],
            env={**os.environ, "XLA_FLAGS": single, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"with_scico.py failed: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(task: str, budget: float) -> list[dict]:
    """A row for every method of every library, and a sentence for a library that has none."""
    posed = TASKS[task]()
    name = task.rsplit(",", 1)[0] if task.endswith(("256", "512")) else task
    methods = our_methods(name, posed)
    for library, module in OTHERS.items():
        if name in module.METHODS:
            methods |= {f"{library}, {label}": run for label, run in module.METHODS[name](posed).items()}
    runs = {label: followed(run, posed.truth.numpy(), budget) for label, run in methods.items()}
    seconds = timed(methods, runs)
    base = seconds["recon"]

    def row(method: str, took: float, reached: float, iterations: int, settled: bool = True) -> dict:
        more = "" if settled else "> "
        return {
            "problem": task,
            "method": method,
            "seconds": f"{more}{took:.3g}",
            "times recon's": f"{more}{took / base:.1f}" if runs["recon"].settled else "-",
            "PSNR": f"{reached:.2f}",
            "iterations": f"{more}{iterations}",
        }

    rows = [
        row(
            label,
            seconds[label] if run.settled else run.seconds[-1],
            run.psnr[-1],
            run.iterations if run.settled else len(run.psnr),
            run.settled,
        )
        for label, run in runs.items()
    ]
    rows.insert(1, row("recon, nothing chosen", *nothing_chosen(posed)))
    if name in SCICO_SOLVES and SCICO.exists():
        found = scico(name, posed, budget)
        rows.append(
            row("SCICO, tuned ADMM", found["seconds"], found["psnr"], found["iterations"], found["settled"])
        )
    cannot = {
        library: module.CANNOT[name] for library, module in OTHERS.items() if name not in module.METHODS
    }
    if name not in SCICO_SOLVES:
        cannot["SCICO"] = SCICO_CANNOT[name]
    elif not SCICO.exists():
        cannot["SCICO"] = "is not installed"
    empty = dict.fromkeys(("seconds", "times recon's", "PSNR", "iterations"), "-")
    return rows + [{"problem": task, "method": f"{library} {why}"} | empty for library, why in cannot.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--budget", type=float, default=35.0, help="seconds of a method before it is given up"
    )
    parser.add_argument("--task", action="append", choices=TASKS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for task in options.task or TASKS:
        print(f"{task} ...", file=sys.stderr, flush=True)
        rows += compared(task, options.budget)
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
