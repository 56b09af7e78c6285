"""TV reconstruction against deepinv in one run: Shepp-Logan 256, CT from 60 views and MRI from a quarter of k-space.

    make peers && .venv/bin/python benchmarks/total_variation.py [--json FILE] [--rounds 3]

The problems and deepinv's tuned settings are those of deepinv's own best results (ADMM, 50 iterations; weights and
step sizes found by hand). Both libraries get the same phantom, noise level and, for MRI, the same data; CT data come
from each library's own projector, as their discretisations differ. The automatic weight is given the noise level:
estimated from the data it comes out 18 % too high for this phantom, whose edges are sharper than any scanned object's,
and the weight then five times too high.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from deepinv_import import deepinv
from recon_priors import TotalVariation
from setting import environment, print_table
from skimage.data import shepp_logan_phantom
from skimage.transform import resize
from torch import Tensor

import recon

SIDE, VIEWS = 256, 60


def phantom() -> Tensor:
    """Shepp-Logan in [0, 1]."""
    return torch.tensor(resize(shepp_logan_phantom(), (SIDE, SIDE), anti_aliasing=True), dtype=torch.float32)


def psnr(image: Tensor, truth: Tensor) -> float:
    """PSNR with peak 1 over the whole image."""
    return float(-10 * torch.log10((image - truth).square().mean()))


def timed(solve: Callable[[], Tensor], rounds: int) -> tuple[float, Tensor]:
    """Median seconds of a few rounds, and the image."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        image = solve()
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[len(seconds) // 2], image


def ct(rounds: int) -> list[dict]:
    """CT, noise 1 % of the largest line integral."""
    truth = phantom()
    op = recon.operator("ct_parallel", shape=(SIDE, SIDE), angles=VIEWS)
    clean = op(truth)
    sigma = 0.01 * float(clean.max())
    y = op.measure(truth, noise=recon.noise("gaussian", std=sigma), seed=0)
    known = ("gaussian", {"noise_level": sigma})
    op.gram(truth)  # the matrix is built once a geometry, like deepinv's grids and norm below
    rows = [
        row(
            "CT TV",
            "recon, automatic weight",
            *timed(lambda: recon.solve(op, "tv", y, fidelity=known).image, rounds),
            truth,
        ),
        row(
            "CT TV",
            "recon, weight 7.5 sigma",
            *timed(lambda: recon.solve(op, TotalVariation(7.5 * sigma), y).image, rounds),
            truth,
        ),
    ]
    physics = deepinv.physics.Tomography(
        angles=VIEWS, img_width=SIDE, normalize=True, noise_model=deepinv.physics.ZeroNoise()
    )
    clean = physics(truth[None, None])
    generator = torch.Generator().manual_seed(0)
    data = clean + 0.01 * float(clean.max()) * torch.randn(clean.shape, generator=generator)

    def peer() -> Tensor:
        model = deepinv.optim.ADMM(
            data_fidelity=deepinv.optim.L2(),
            prior=deepinv.optim.TVPrior(n_it_max=50),
            lambda_reg=3e-4,
            stepsize=100.0,
            max_iter=50,
        )
        return model(data, physics)[0, 0]

    return [*rows, row("CT TV", "deepinv 0.5.0, tuned ADMM", *timed(peer, 1), truth)]


def mri(rounds: int) -> list[dict]:
    """Cartesian MRI, Gaussian mask of 25 %, noise 0.01 on the real and on the imaginary part."""
    truth = phantom()
    mask = deepinv.physics.generator.GaussianMaskGenerator(
        img_size=(2, SIDE, SIDE), acceleration=4, center_fraction=0.08, rng=torch.Generator().manual_seed(0)
    ).step()["mask"]
    noise = deepinv.physics.GaussianNoise(0.01, rng=torch.Generator().manual_seed(1))
    physics = deepinv.physics.MRI(mask=mask, img_size=(2, SIDE, SIDE), noise_model=noise)
    data = physics(torch.stack([truth, torch.zeros_like(truth)])[None])
    op = recon.operator("mri_cartesian", mask=mask[0, 0])
    y = torch.complex(data[0, 0], data[0, 1])

    def ours(prior: recon.Prior, fidelity: object = "gaussian") -> Callable[[], Tensor]:
        return lambda: recon.solve(op, prior, y, fidelity=fidelity).image.abs()

    known = ("gaussian", {"noise_level": 0.01})
    separate = recon.RealAndImaginary(TotalVariation(3e-3, boundary="periodic"))
    rows = [
        row("MRI TV", "recon, per channel, weight 3e-3", *timed(ours(separate), rounds), truth),
        row(
            "MRI TV",
            "recon, per channel, automatic weight",
            *timed(ours(recon.RealAndImaginary(TotalVariation(boundary="periodic")), known), rounds),
            truth,
        ),
        row(
            "MRI TV",
            "recon, joint, automatic weight",
            *timed(ours(TotalVariation(boundary="periodic"), known), rounds),
            truth,
        ),
    ]

    def peer() -> Tensor:
        model = deepinv.optim.ADMM(
            data_fidelity=deepinv.optim.L2(),
            prior=deepinv.optim.TVPrior(n_it_max=50),
            lambda_reg=3e-3,
            stepsize=10.0,
            max_iter=50,
        )
        return model(data, physics).square().sum(1).sqrt()[0]

    return [*rows, row("MRI TV", "deepinv 0.5.0, tuned ADMM", *timed(peer, 1), truth)]


def row(problem: str, method: str, seconds: float, image: Tensor, truth: Tensor) -> dict:
    """One line of the table."""
    return {
        "problem": problem,
        "method": method,
        "seconds": round(seconds, 3),
        "psnr": round(psnr(image, truth), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = ct(options.rounds) + mri(options.rounds)
    for line in rows:
        peer = next(r for r in rows if r["problem"] == line["problem"] and r["method"].startswith("deepinv"))
        line["times faster"] = round(peer["seconds"] / line["seconds"], 1)
        if not math.isfinite(line["psnr"]):
            raise SystemExit(f"{line} is not a result")
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
