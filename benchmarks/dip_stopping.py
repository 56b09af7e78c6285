"""Deep image prior on a CT slice with noise: the image that the stopping rule returns against the best of all.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/dip_stopping.py [--json FILE] [--sigmas 15 25 50] [--seeds 0]

The chest slice that ships, 128 x 128, scaled to a maximum of 1; white noise of sigma / 255. Prior and solver as they
are by default on a CPU. The fit runs to the limit beside the rule, which is asked after every iteration as in a solve.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from recon_data import samples
from setting import environment, print_table
from torch import Tensor

import recon
from recon.early_stopping import Remembering
from recon.problem import Problem
from recon.runner import Loop


def psnr(image: Tensor, truth: Tensor) -> float:
    return float(-10 * torch.log10((image - truth).square().mean()))


def measured(truth: Tensor, sigma: float, seed: int, prior: str) -> dict:
    """One fit to its limit: the best image on the way, the last, and what the rule chooses."""
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed))
    problem = Problem(recon.Identity(truth.shape), truth + sigma / 255 * noise, prior=recon.prior(prior))
    problem.seed = seed
    solver = recon.DIP()
    rule, limit = solver.stop_for(problem).members
    assert isinstance(rule, Remembering) and isinstance(limit, recon.MaxIterations)
    began = time.perf_counter()
    loop = Loop(problem, solver, recon.MaxIterations(limit.iterations + 1), {})
    memory, chosen, trace = rule.begin(loop.progress()), None, []
    for _ in range(limit.iterations):
        loop.advance()
        trace.append(psnr(loop.last[0], truth))
        progress = loop.progress()
        if chosen is None:
            memory = rule.watch(memory, progress)
            progress.memories = {rule: memory}
            if bool(rule.fires(progress)) or progress.iteration == limit.iterations:
                chosen = (psnr(memory.best[0], truth), int(memory.found), progress.iteration)
    assert chosen is not None
    best = max(trace)
    return {
        "sigma": sigma,
        "seed": seed,
        "noisy": round(psnr(problem.y[0], truth), 2),
        "best": round(best, 2),
        "at": trace.index(best) + 1,
        "by the rule": round(chosen[0], 2),
        "of iteration": chosen[1],
        "stopped at": chosen[2],
        "at the limit": round(trace[-1], 2),
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sigmas", type=float, nargs="+", default=[15.0, 25.0, 50.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--prior", default="dip")
    options = parser.parse_args()
    attenuation = samples.ct_chest().attenuation()
    truth = attenuation.reshape(128, 4, 128, 4).mean((1, 3))
    truth = truth / truth.max()
    rows = []
    with torch.no_grad():
        for sigma in options.sigmas:
            for seed in options.seeds:
                rows.append(measured(truth, sigma, seed, options.prior))
                if options.json:
                    found = {"environment": environment(), "prior": options.prior, "rows": rows}
                    options.json.write_text(json.dumps(found, indent=1) + "\n")
    print_table(rows)


if __name__ == "__main__":
    main()
