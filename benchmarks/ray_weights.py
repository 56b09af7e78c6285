"""Rays with weights: ADMM with a preconditioner that knows how pixels see the weights, and with that of their mean.

    .venv/bin/python benchmarks/ray_weights.py [--side 128] [--json FILE]

The sample's chest slice, total variation, data term `pwls` of 2e4 photons a ray: iterations until the objective is
within 1e-3 of its lowest.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from unittest import mock

import torch
from recon_data import samples
from recon_priors import TotalVariation
from setting import environment, print_table

import recon

PHOTONS, GAP, MOST = 2e4, 1e-3, 500
SCANS = {"ct_parallel": 90, "ct_fan": 120}


def scan(name: str, side: int) -> recon.Problem:
    """Line integrals of the slice, with counting noise."""
    sample = samples.ct_chest()
    step = sample.attenuation().shape[-1] // side
    truth = sample.attenuation()[::step, ::step].float().contiguous()
    pixel = step * sample.pixel_size[0]
    fan = {"source_origin": 2.0 * side * pixel, "origin_detector": side * pixel} if name == "ct_fan" else {}
    op = recon.operator(name, shape=truth.shape, pixel_size=pixel, angles=SCANS[name], **fan)
    y = op.measure(truth, noise=recon.noise("poisson", photons=PHOTONS), seed=0)
    weight = 5 * PHOTONS**0.5
    return recon.Problem(op, y, prior=TotalVariation(weight), fidelity=("pwls", {"photons": PHOTONS}))


def objectives(problem: recon.Problem, iterations: int, lowest: float | None = None) -> list[float]:
    """The objective after every iteration, until it is near the lowest."""
    found: list[float] = []

    def watch(seen: recon.Snapshot) -> bool:
        found.append(float(problem.objective(seen.image)[0]))
        return lowest is not None and found[-1] < (1 + GAP) * lowest

    recon.solve(
        problem.operator,
        problem.prior,
        problem.data,
        fidelity=problem.fidelity,
        solver="admm",
        stop=recon.MaxIterations(iterations),
        callback=watch,
    )
    return found


def compared(name: str, side: int) -> dict:
    """A row of the table."""
    problem = scan(name, side)
    lowest = min(objectives(problem, MOST))
    row: dict = {"scan": f"{name}, {SCANS[name]} views, {side} x {side}"}
    row["iterations, weights as pixels see them"] = len(objectives(problem, MOST, lowest))
    with mock.patch.object(type(problem.operator), "weights_seen", lambda *_: None):
        row["iterations, mean weight"] = len(objectives(scan(name, side), MOST, lowest))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [compared(name, options.side) for name in SCANS]
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
