"""Whether torch.compile pays on a CPU: total variation's share of an ADMM step, and the step, eager and compiled.

    .venv/bin/python benchmarks/compiled.py [--size 256] [--runs 30] [--json FILE]

Needs a C++ compiler. The share of total variation is gradient, proximal map and divergence, what a compiler can fuse;
the FFTs and projections around it are library calls that it cannot. The step is that of `recon.ADMM` on deblurring by
FFT, whose x-step is a closed form, so the share is as large as it gets.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from recon_operators.blur import Blur
from recon_operators.gradient import Gradient
from recon_priors import TotalVariation
from setting import environment, print_table

import recon


def measure(name: str, call: Callable[[], Any], runs: int) -> dict[str, Any]:
    """Seconds of the first call, milliseconds of the later ones (median), of the call eager and compiled."""
    row: dict[str, Any] = {"what": name}
    for form, function in (("eager", call), ("compiled", torch.compile(call))):
        began = time.perf_counter()
        function()
        row[f"{form}: first s"] = round(time.perf_counter() - began, 2)
        taken = []
        for _ in range(runs):
            began = time.perf_counter()
            function()
            taken.append(time.perf_counter() - began)
        row[f"{form}: later ms"] = round(1e3 * median(taken), 3)
    return row


def rows(size: int, runs: int) -> list[dict[str, Any]]:
    """The share of total variation, and a whole step."""
    image = torch.rand(1, size, size)
    gradient = Gradient((size, size), boundary="periodic")
    prior = TotalVariation(0.01, boundary="periodic")
    dual = torch.zeros(1, 2, size, size)

    def share() -> torch.Tensor:
        v = gradient._forward(image) + dual
        size_of_v = v.square().sum(1, keepdim=True).sqrt()
        z = v * (1 - 0.1 / size_of_v.clamp_min(0.1))
        return gradient._adjoint(z - (v - z))

    blur = Blur((size, size), kernel=("gaussian", 1.5))
    problem = recon.Problem(blur, blur(image[0]), prior=prior)
    algorithm = recon.ADMM()
    with torch.no_grad():
        state = algorithm.start(problem)
        found = [measure("gradient, prox, divergence", share, runs)]
        found.append(measure("ADMM step", lambda: algorithm.step(problem, state).x, runs))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = rows(options.size, options.runs)
    print_table(found)
    if options.json:
        options.json.write_text(json.dumps({"environment": environment(), "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
