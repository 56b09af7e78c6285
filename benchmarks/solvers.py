"""Our solvers side by side: time until the image's PSNR stays within 0.05 dB of that of the converged image.

    .venv/bin/python benchmarks/solvers.py [--json FILE] [--side 256] [--rounds 3] [--problem NAME ...]

Every solver gets the same problem, data and first image. The converged image is ADMM's after many iterations in double
precision. How many iterations a solver needs is found first, then the whole call with that many is timed, from data to
image; projection matrices and norms, which operators keep, are there before.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from problems import PROBLEMS
from setting import environment, print_table
from torch import Tensor

import recon

CLOSE, CONVERGED, MOST = 0.05, 1500, 1000  # dB, iterations, iterations


def compared(name: str, side: int, rounds: int) -> list[dict]:
    """A row for every solver of a problem."""
    posed = PROBLEMS[name](side)

    def psnr(image: Tensor) -> float:
        return float(-10 * torch.log10((image.abs() - posed.truth).square().mean()))

    def solved(solver: str, iterations: int, **options: object) -> Tensor:
        stop = recon.MaxIterations(iterations)
        return recon.solve(
            posed.operator, posed.prior, posed.y, solver=solver, fidelity=posed.fidelity, stop=stop, **options
        ).image

    target = psnr(solved("admm", CONVERGED, dtype=torch.float64))
    rows = []
    for solver in posed.solvers:
        seen: list[float] = []
        solved(solver, MOST, callback=lambda snapshot, seen=seen: seen.append(psnr(snapshot.image[0])))
        outside = [place for place, value in enumerate(seen) if abs(value - target) > CLOSE]
        needed = outside[-1] + 2 if outside else 1
        row: dict = {"problem": f"{name}, {side}", "solver": solver, "converged PSNR": round(target, 2)}
        if needed > MOST:
            rows.append(row | {"iterations": f"> {MOST}", "seconds": "-", "PSNR": round(seen[-1], 2)})
            continue
        seconds = []
        for _ in range(rounds):
            began = time.perf_counter()
            image = solved(solver, needed)
            seconds.append(time.perf_counter() - began)
        took = sorted(seconds)[rounds // 2]
        rows.append(row | {"iterations": needed, "seconds": round(took, 3), "PSNR": round(psnr(image), 2)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--problem", action="append", choices=PROBLEMS)
    options = parser.parse_args()
    rows = [
        row for name in options.problem or PROBLEMS for row in compared(name, options.side, options.rounds)
    ]
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
