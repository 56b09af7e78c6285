"""Deep image prior: the image that the stopping rule returns against the best of all, on several tasks.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/dip_stopping.py [--json FILE] [--tasks denoise-25 ct] [--seeds 0 1 2]

The chest slice and the brain that ship, 128 x 128, scaled to a maximum of 1; prior and solver as they are by default on
a CPU but for what a task names. A seed is that of the noise, of the weights and of the input. The fit runs to the limit
beside the rule, which is asked after every iteration as in a solve; beside it other rules. Rows that FILE has already
are not computed again. "TV" is total variation with its automatic weight.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from recon_data import samples
from recon_operators import CartesianMRI
from setting import environment, print_table
from torch import Tensor

import recon
from recon.early_stopping import Remembering
from recon.problem import Problem
from recon.runner import Loop
from recon.stopping import Progress

SIDE = 128


@dataclass
class Task:
    """What is fitted.

    Attributes:
        posed: makes operator, truth and data without noise.
        noise: standard deviation of the noise, of the largest datum.
        prior, solver: specs.
    """

    posed: Callable[[], tuple[recon.LinearOperator, Tensor, Tensor]]
    noise: float = 0.0
    prior: str = "dip"
    solver: str = "dip"


def chest() -> Tensor:
    factor = 512 // SIDE
    image = samples.ct_chest().attenuation().reshape(SIDE, factor, SIDE, factor).mean((1, 3))
    return image / image.max()


def denoising() -> tuple[recon.LinearOperator, Tensor, Tensor]:
    return recon.Identity((SIDE, SIDE)), chest(), chest()


def ct() -> tuple[recon.LinearOperator, Tensor, Tensor]:
    op = recon.operator("ct_parallel", shape=(SIDE, SIDE), angles=60)
    return op, chest(), op(chest())


def inpainting() -> tuple[recon.LinearOperator, Tensor, Tensor]:
    mask = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(7)) < 0.5
    op = recon.operator("mask", mask=mask)
    return op, chest(), op(chest())


def mri(coils: int) -> tuple[recon.LinearOperator, Tensor, Tensor]:
    """The middle of a measured k-space as the truth; two fifths of its lines."""
    kspace = samples.kspace_brain().data.to(torch.complex64)
    rows, columns = (slice((side - SIDE) // 2, (side + SIDE) // 2) for side in kspace.shape)
    truth = CartesianMRI(torch.ones(SIDE, SIDE)).pinv(kspace[rows, columns])
    truth = truth / truth.abs().max()
    lines = torch.rand(SIDE, generator=torch.Generator().manual_seed(1)) < 0.3
    lines[SIDE // 2 - 8 : SIDE // 2 + 8] = True
    op = CartesianMRI(lines.float().expand(SIDE, SIDE), coil_maps() if coils == 4 else None)
    return op, truth, op(truth)


def coil_maps() -> Tensor:
    """Of four coils at the corners."""
    line = torch.linspace(-1, 1, SIDE)
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    corners = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    maps = torch.stack([torch.exp(-((rows - r) ** 2 + (columns - c) ** 2) / 2) for r, c in corners])
    return (maps / torch.linalg.vector_norm(maps, dim=0)).to(torch.complex64)


STILL = "dip:reg_noise=0"
TASKS = {
    "denoise-15": Task(denoising, 15 / 255),
    "denoise-25": Task(denoising, 25 / 255),
    "denoise-50": Task(denoising, 50 / 255),
    "ct": Task(ct, 0.01),
    "ct-still": Task(ct, 0.01, solver=STILL),
    "ct-small_ct": Task(ct, 0.01, "dip:preset=small_ct"),
    "inpaint": Task(inpainting),
    "inpaint-still": Task(inpainting, solver=STILL),
    "mri-1": Task(lambda: mri(1), prior="dip:preset=small_mri"),
    "mri-4": Task(lambda: mri(4), prior="dip:preset=small_mri"),
}
"""CT has 60 views and noise of 1 % of the largest line integral; "still" is without noise on the input."""


def psnr(image: Tensor, truth: Tensor) -> float:
    """Of magnitudes, with a peak of 1."""
    error = image.abs() - truth.abs() if truth.is_complex() else image - truth
    return float(-10 * torch.log10(error.square().mean()))


class Watched:
    """A rule beside a fit that goes on: which image it would have returned."""

    def __init__(self, rule: recon.StoppingRule, progress: Progress) -> None:
        self.rule = rule
        self.memory = rule.begin(progress) if isinstance(rule, Remembering) else None
        self.stopped: int | None = None
        assert progress.image is not None
        self.image, self.found = progress.image, 0

    def watch(self, progress: Progress) -> None:
        """Look at the iteration just made, until the rule fires."""
        if self.stopped is not None:
            return
        assert progress.image is not None
        self.image, self.found = progress.image, progress.iteration
        if isinstance(self.rule, Remembering):
            self.memory = self.rule.watch(self.memory, progress)
            progress.memories[self.rule] = self.memory
            if bool(torch.isfinite(self.memory.lowest)):
                self.image, self.found = self.memory.best, int(self.memory.found)
        if bool(self.rule.fires(progress)):
            self.stopped = progress.iteration


def measured(task: Task, seed: int) -> dict:
    """One fit to its limit: the best image on the way, the last, and what the rules choose."""
    op, truth, clean = task.posed()
    level = task.noise * float(clean.abs().max())
    y = clean + level * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed)).to(clean)
    problem = Problem(op, y, prior=recon.prior(task.prior))  # the rule estimates the noise
    problem.seed = seed
    solver = recon.solver(task.solver)
    rule, limit = solver.stop_for(problem).members
    rules = {
        "by the rule": rule,
        "without tau": recon.MovingVariance(rule.patience, rule.forgetting, rule.burn_in, rule.tolerance),
        "published": recon.MovingVariance(rule.patience),
        "discrepancy": recon.Discrepancy(1.0),
    }
    began = time.perf_counter()
    loop, trace = Loop(problem, solver, recon.MaxIterations(limit.iterations + 1), {}), []
    watched = {name: Watched(one, loop.progress()) for name, one in rules.items()}
    for _ in range(limit.iterations):
        loop.advance()
        trace.append(psnr(loop.last[0], truth))
        progress = loop.progress()
        for one in watched.values():
            one.watch(progress)
    chosen = {name: round(psnr(one.image[0], truth), 2) for name, one in watched.items()}
    return {
        "direct": round(psnr(op.pinv(y), truth), 2),
        "TV": round(psnr(recon.solve(op, "tv", y).image, truth), 2),
        "best": round(max(trace), 2),
        "at": trace.index(max(trace)) + 1,
        "by the rule": chosen.pop("by the rule"),
        "of iteration": watched["by the rule"].found,
        "stopped at": watched["by the rule"].stopped or limit.iterations,
        "at the limit": round(trace[-1], 2),
        "residual": round(float(problem.residual_norm(loop.last)[0] / problem.noise_norm[0]), 2),
        "seconds": round(time.perf_counter() - began, 1),
        **chosen,
    }


def spread(rows: list[dict]) -> list[dict]:
    """Over the seeds of each task: means, standard deviation of what the rule returns, largest loss by it."""
    found = []
    for task in dict.fromkeys(row["task"] for row in rows):
        runs = [row for row in rows if row["task"] == task]
        chosen = [row["by the rule"] for row in runs]
        found.append(
            {
                "task": task,
                "seeds": len(runs),
                **{
                    name: round(statistics.fmean(row[name] for row in runs), 2)
                    for name in ("direct", "TV", "best", "published")
                },
                "by the rule": round(statistics.fmean(chosen), 2),
                "deviation": round(statistics.stdev(chosen), 2) if len(runs) > 1 else "-",
                "largest loss": round(max(row["best"] - row["by the rule"] for row in runs), 2),
                "least loss at the limit": round(min(row["best"] - row["at the limit"] for row in runs), 2),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS), metavar="TASK")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    known = options.json is not None and options.json.exists()
    rows: list[dict] = json.loads(options.json.read_text())["rows"] if known else []
    with torch.no_grad():
        for seed in options.seeds:
            for name in options.tasks:
                if any((row["task"], row["seed"]) == (name, seed) for row in rows):
                    continue
                rows.append({"task": name, "seed": seed, **measured(TASKS[name], seed)})
                rows.sort(key=lambda row: (list(TASKS).index(row["task"]), row["seed"]))
                if options.json:
                    found = {"environment": environment(), "spread": spread(rows), "rows": rows}
                    options.json.write_text(json.dumps(found, indent=1) + "\n")
    print_table(rows)
    print_table(spread(rows))


if __name__ == "__main__":
    main()
