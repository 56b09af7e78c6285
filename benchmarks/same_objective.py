"""Libraries at one objective: seconds until it is within 1 % and 0.1 % of its minimum.

    make peers && OMP_NUM_THREADS=1 .venv/bin/python benchmarks/same_objective.py [--json FILE] [--budget 35]

`side_by_side.py` watches the PSNR, and lets every library minimise the TV that it has. Where many images are almost
equally good, as in inpainting, the PSNR says little of how far an iteration has come, and different TVs have different
minima. Here all methods of a problem minimise the same function, and its value, in double precision, is watched.
SigPy's TV is anisotropic and periodic, deepinv's and ODL's isotropic without differences across the border. SigPy's
ADMM has the penalty of `with_sigpy.py`, chosen for the PSNR, and one that suits the objective best.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import with_deepinv
import with_odl
import with_sigpy
from problems import Posed, inpainting
from recon_priors import TotalVariation
from setting import environment, print_table
from trajectory import Method, Watch, again
from with_sigpy import MOST

import recon

GAPS = (1e-2, 1e-3)
ROUNDS = 3
CONVERGED = recon.SmallResiduals(1e-6) | recon.MaxIterations(3000)


def ours(posed: Posed, prior: recon.Prior, **options: Any) -> Method:
    """recon."""

    def run(watch: Watch) -> None:
        stop = recon.MaxIterations(MOST)
        recon.solve(
            posed.operator,
            prior,
            posed.y,
            stop=stop,
            callback=lambda seen: watch(seen.image[0].numpy()),
            **options,
        )

    return run


def isotropic(posed: Posed) -> tuple[recon.Prior, dict[str, Method]]:
    """TV as deepinv and ODL have it."""
    others = {f"deepinv, {name}": run for name, run in with_deepinv.METHODS["inpainting TV"](posed).items()}
    others |= {f"ODL, {name}": run for name, run in with_odl.METHODS["inpainting TV"](posed).items()}
    return TotalVariation(posed.weight), others


def anisotropic(posed: Posed) -> tuple[recon.Prior, dict[str, Method]]:
    """TV as SigPy has it."""
    prior = TotalVariation(posed.weight, isotropic=False, boundary="periodic")
    return prior, {
        f"SigPy, ADMM rho={rho:g}": with_sigpy.inpainting(posed, rho)["tuned ADMM"] for rho in (0.1, 0.4)
    }


PROBLEMS: dict[str, Callable[[Posed], tuple[recon.Prior, dict[str, Method]]]] = {
    "inpainting, isotropic TV": isotropic,
    "inpainting, anisotropic periodic TV": anisotropic,
}


def gaps(run: Method, value: Callable[[Any], float], lowest: float, budget: float) -> list[float]:
    """The objective's relative distance from its minimum after every iteration."""
    found: list[float] = []
    began = time.process_time()

    def watch(image: Any) -> bool:
        found.append(value(image) / lowest - 1)
        return found[-1] < min(GAPS) or time.process_time() - began > budget

    run(watch)
    return found


def compared(name: str, side: int, budget: float) -> list[dict]:
    """A row for every method."""
    posed = inpainting(side)
    prior, others = PROBLEMS[name](posed)
    problem = recon.Problem(posed.operator, posed.y.double(), prior=prior)

    def value(image: Any) -> float:
        exact = torch.from_numpy(np.asarray(image).reshape(1, side, side)).double()
        return float(problem.objective(exact)[0])

    best = recon.solve(
        posed.operator, prior, posed.y, solver=recon.ADMM(inner=20), stop=CONVERGED, dtype=torch.float64
    )
    lowest = value(best.image)
    rows = []
    for label, run in ({"recon": ours(posed, prior)} | others).items():
        found = gaps(run, value, lowest, budget)
        row: dict = {"problem": f"{name}, {side}", "method": label}
        for gap in GAPS:
            needed = next((place + 1 for place, left in enumerate(found) if left < gap), None)
            took = "-" if needed is None else f"{sorted(again(run, needed) for _ in range(ROUNDS))[1]:.3g}"
            row |= {
                f"seconds to {gap:g}": took,
                f"iterations to {gap:g}": f"> {len(found)}" if needed is None else needed,
            }
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument(
        "--budget", type=float, default=35.0, help="seconds of a method before it is given up"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for name in PROBLEMS for row in compared(name, options.side, options.budget)]
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
