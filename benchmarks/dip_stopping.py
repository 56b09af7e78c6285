"""Deep image prior on a CT slice with noise: the image that the stopping rule returns against the best of all.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/dip_stopping.py [--json FILE] [--sigmas 15 25 50] [--seeds 0 1 2]

The chest slice that ships, 128 x 128, scaled to a maximum of 1; white noise of sigma / 255. Prior and solver as they
are by default on a CPU; a seed is that of the noise, of the weights and of the input. The fit runs to the limit beside
the rule, which is asked after every iteration as in a solve; beside it the same rule with other settings.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from recon_data import samples
from setting import environment, print_table
from torch import Tensor

import recon
from recon.early_stopping import MovingVariance
from recon.problem import Problem
from recon.runner import Loop


def psnr(image: Tensor, truth: Tensor) -> float:
    return float(-10 * torch.log10((image - truth).square().mean()))


OTHERS = ((0.1, 0.0), (0.05, 0.0), (0.03, 0.0), (0.05, 0.1), (0.05, 0.2))
"""Forgetting factors and tolerances that are watched beside those of the default rule; the first are published."""


class Watched:
    """A rule beside a fit that goes on: which image it would have returned."""

    def __init__(self, rule: MovingVariance, loop: Loop) -> None:
        self.rule, self.memory = rule, rule.begin(loop.progress())
        self.stopped: int | None = None

    def watch(self, loop: Loop) -> None:
        """Look at the iteration just made, until the rule fires."""
        if self.stopped is None:
            progress = loop.progress()
            self.memory = self.rule.watch(self.memory, progress)
            progress.memories = {self.rule: self.memory}
            if bool(self.rule.fires(progress)):
                self.stopped = progress.iteration


def measured(truth: Tensor, sigma: float, seed: int, prior: str) -> dict:
    """One fit to its limit: the best image on the way, the last, and what the rules choose."""
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed))
    problem = Problem(recon.Identity(truth.shape), truth + sigma / 255 * noise, prior=recon.prior(prior))
    problem.seed = seed
    solver = recon.DIP()
    rule, limit = solver.stop_for(problem).members
    assert isinstance(rule, MovingVariance) and isinstance(limit, recon.MaxIterations)
    began = time.perf_counter()
    loop = Loop(problem, solver, recon.MaxIterations(limit.iterations + 1), {})
    default, trace = Watched(rule, loop), []
    others = {}
    for forgetting, tolerance in OTHERS:
        other = recon.MovingVariance(rule.patience, forgetting, rule.burn_in, tolerance)
        others[f"{forgetting:g}, {tolerance:g}"] = Watched(other, loop)
    for _ in range(limit.iterations):
        loop.advance()
        trace.append(psnr(loop.last[0], truth))
        for watched in (default, *others.values()):
            watched.watch(loop)
    best = max(trace)
    return {
        "sigma": sigma,
        "seed": seed,
        "noisy": round(psnr(problem.y[0], truth), 2),
        "best": round(best, 2),
        "at": trace.index(best) + 1,
        "by the rule": round(psnr(default.memory.best[0], truth), 2),
        "of iteration": int(default.memory.found),
        "stopped at": default.stopped or limit.iterations,
        "at the limit": round(trace[-1], 2),
        "seconds": round(time.perf_counter() - began, 1),
        **{name: round(psnr(one.memory.best[0], truth), 2) for name, one in others.items()},
    }


def spread(rows: list[dict]) -> list[dict]:
    """Over the seeds of each noise: means, standard deviation of what the rule returns, largest loss by it."""
    found = []
    for sigma in dict.fromkeys(row["sigma"] for row in rows):
        runs = [row for row in rows if row["sigma"] == sigma]
        chosen = [row["by the rule"] for row in runs]
        found.append(
            {
                "sigma": sigma,
                "seeds": len(runs),
                "best": round(statistics.fmean(row["best"] for row in runs), 2),
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
    parser.add_argument("--sigmas", type=float, nargs="+", default=[15.0, 25.0, 50.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--prior", default="dip")
    options = parser.parse_args()
    attenuation = samples.ct_chest().attenuation()
    truth = attenuation.reshape(128, 4, 128, 4).mean((1, 3))
    truth = truth / truth.max()
    rows = []
    with torch.no_grad():
        for seed in options.seeds:
            for sigma in options.sigmas:
                rows.append(measured(truth, sigma, seed, options.prior))
                if options.json:
                    found = {"environment": environment(), "prior": options.prior, "spread": spread(rows)}
                    found["rows"] = rows
                    options.json.write_text(json.dumps(found, indent=1) + "\n")
    print_table(rows)
    print_table(spread(rows))


if __name__ == "__main__":
    main()
