"""Solvers side by side: time until the image's PSNR stays within 0.05 dB of that of the converged image.

    .venv/bin/python benchmarks/solvers.py [--json FILE] [--side 256] [--rounds 3] [--problem NAME ...]

Every solver gets the same problem, data and first image. The converged image is ADMM's after many iterations in double
precision. How many iterations a solver needs is found first, then the whole call with that many is timed, from data to
image; projection matrices and norms, which operators keep, are there before.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from recon_priors import NonNegative, TotalVariation, WaveletSparsity
from setting import environment, print_table
from skimage.data import shepp_logan_phantom
from skimage.transform import resize
from torch import Tensor

import recon

CLOSE, CONVERGED, MOST = 0.05, 1500, 1000  # dB, iterations, iterations
Posed = tuple[recon.LinearOperator, recon.Prior, Tensor, object, tuple[str, ...]]


def phantom(side: int) -> Tensor:
    """Shepp-Logan in [0, 1]."""
    return torch.tensor(resize(shepp_logan_phantom(), (side, side), anti_aliasing=True), dtype=torch.float32)


def ct(side: int, name: str = "ct_parallel", **geometry: float) -> Posed:
    """TV of 60 views, noise 1 % of the largest line integral."""
    op = recon.operator(name, shape=(side, side), angles=60, **geometry)
    sigma = 0.01 * float(op(phantom(side)).max())
    y = op.measure(phantom(side), noise=recon.noise("gaussian", std=sigma), seed=0)
    return op, TotalVariation(7.5 * sigma), y, "gaussian", ("admm", "pdhg")


def counted(side: int) -> Posed:
    """TV and x >= 0 of the likelihood of 1e4 photons a ray."""
    op = recon.operator("ct_parallel", shape=(side, side), angles=60, pixel_size=100 / side)
    y = op.measure(0.05 * phantom(side), noise=recon.noise("poisson", photons=1e4), seed=0)
    return op, TotalVariation(30.0) + NonNegative(), y, "poisson:photons=1e4", ("admm", "pdhg")


def mri(side: int) -> Posed:
    """TV of a quarter of k-space."""
    op = recon.operator("mri_cartesian", mask="random_1d:acceleration=4", shape=(side, side))
    noise = recon.noise("complex_gaussian", std=0.01)
    y = op.measure(phantom(side).to(torch.complex64), noise=noise, seed=0)
    return op, TotalVariation(3e-3, boundary="periodic"), y, "gaussian", ("admm", "pdhg")


def coils(side: int) -> Posed:
    """Orthogonal wavelets of four coils with smooth maps of energy 1."""
    across = torch.linspace(-1, 1, side)
    places = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    maps = torch.stack(
        [
            torch.exp(-0.4 * ((across[:, None] - a) ** 2 + (across - b) ** 2) + 1j * a * across)
            for a, b in places
        ]
    )
    maps = maps / maps.abs().square().sum(0).sqrt()
    op = recon.operator("mri_cartesian", mask="random_1d:acceleration=4", coil_maps=maps)
    noise = recon.noise("complex_gaussian", std=0.01)
    y = op.measure(phantom(side).to(torch.complex64), noise=noise, seed=0)
    return op, WaveletSparsity(5e-3, decimated=True), y, "gaussian", ("admm", "pdhg", "fista")


def inpainting(side: int) -> Posed:
    """TV of 30 % of the pixels."""
    mask = (torch.rand(side, side, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    op = recon.operator("mask", mask=mask)
    y = op.measure(phantom(side), noise=recon.noise("gaussian", std=0.02), seed=0)
    return op, TotalVariation(0.01), y, "gaussian", ("admm", "pdhg")


PROBLEMS: dict[str, Callable[[int], Posed]] = {
    "CT TV": ct,
    "CT TV, fan": lambda side: ct(side, "ct_fan", source_origin=2.0 * side, origin_detector=1.0 * side),
    "CT TV, photons": counted,
    "MRI TV": mri,
    "MRI wavelet, 4 coils": coils,
    "inpainting TV": inpainting,
}


def compared(name: str, side: int, rounds: int) -> list[dict]:
    """A row for every solver of a problem."""
    op, prior, y, fidelity, solvers = PROBLEMS[name](side)
    truth = phantom(side)

    def psnr(image: Tensor) -> float:
        return float(-10 * torch.log10((image.abs() - truth).square().mean()))

    def solved(solver: str, iterations: int, **options: object) -> Tensor:
        stop = recon.MaxIterations(iterations)
        return recon.solve(op, prior, y, solver=solver, fidelity=fidelity, stop=stop, **options).image

    target = psnr(solved("admm", CONVERGED, dtype=torch.float64))
    rows = []
    for solver in solvers:
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
