"""The automatic weight against an exhaustive search, on the demo's CT and MRI problems.

    .venv/bin/python benchmarks/automatic_weight.py [--json FILE]

The search solves at 15 weights, a factor 1.32 apart, and takes the best PSNR against the truth, which a user does not
have. Time is compared with one solve at the chosen weight.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from recon_priors import TotalVariation
from setting import environment, print_table
from torch import Tensor

import recon
from recon import demo, registry


def ct() -> tuple[recon.LinearOperator, Tensor, Tensor, Callable[[float | str], recon.Prior]]:
    """The demo's chest slice from noisy views."""
    sample = registry.make("dataset", "ct_chest")
    truth = sample.attenuation(water=demo.WATER)
    op = recon.operator(
        "ct_parallel", shape=tuple(truth.shape), pixel_size=sample.pixel_size[0], angles=demo.VIEWS
    )
    y = op.measure(truth, noise=recon.noise("poisson", photons=demo.PHOTONS), seed=demo.SEED)
    return op, y, truth, lambda weight: TotalVariation(weight)


def mri() -> tuple[recon.LinearOperator, Tensor, Tensor, Callable[[float | str], recon.Prior]]:
    """The demo's brain from a quarter of its k-space."""
    kspace = registry.make("dataset", "kspace_brain").data.to(torch.complex64)
    mask = demo.random_lines(
        tuple(kspace.shape), kspace.shape[0] // demo.ACCELERATION, demo.FULL_LINES, seed=demo.SEED
    )
    truth = recon.operator("mri_cartesian", mask=torch.ones(kspace.shape)).pinv(kspace)
    op = recon.operator("mri_cartesian", mask=mask)
    return op, kspace * mask, truth, lambda weight: TotalVariation(weight, boundary="periodic")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for name, problem in (("CT", ct), ("MRI", mri)):
        op, y, truth, prior = problem()
        psnr = recon.metric("psnr", data_range="max")
        op.gram(truth)  # the projection matrix is built once a geometry

        def timed(
            weight: float | str,
            op: recon.LinearOperator = op,
            y: Tensor = y,
            prior: Callable[[float | str], recon.Prior] = prior,
        ) -> tuple[recon.Solution, float]:
            began = time.perf_counter()
            return recon.solve(op, prior(weight), y), time.perf_counter() - began

        timed("auto")
        automatic, seconds = timed("auto")
        _, single = timed(automatic.weight)
        scores = {}
        for step in range(-7, 8):
            weight = automatic.weight * 4 ** (step / 5)
            scores[weight] = float(psnr(recon.solve(op, prior(weight), y).image, truth))
        best = max(scores, key=scores.__getitem__)
        found = float(psnr(automatic.image, truth))
        rows.append(
            {
                "problem": name,
                "automatic weight": f"{automatic.weight:.3g}",
                "PSNR": round(found, 2),
                "best weight": f"{best:.3g}",
                "best PSNR": round(scores[best], 2),
                "loss [dB]": round(scores[best] - found, 2),
                "seconds": round(seconds, 2),
                "one solve [s]": round(single, 2),
                "time ratio": round(seconds / single, 2),
            }
        )
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
