"""Conjugate gradients with and without the operators' preconditioners: CT, fan beam, MRI with eight coils.

    .venv/bin/python benchmarks/preconditioners.py [--size 256] [--json FILE]

The Shepp-Logan phantom with 0.5 % noise and a penalty on the squared gradient of 1e-3 of |A|^2, to a relative residual
of the normal equations of 1e-5: iterations and seconds of `cg`, and how far apart the two images are. Total variation
by ADMM with its x-step by two preconditioned or eight plain iterations: iterations until the objective is within 1e-3
of its lowest in 150.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from recon_operators import CartesianMRI, FanBeam, ParallelBeam, RadialMRI
from recon_priors import Tikhonov, TotalVariation
from setting import environment, print_table
from skimage.data import shepp_logan_phantom
from skimage.transform import resize
from torch import Tensor

import recon


def coil_maps(coils: int, side: int) -> Tensor:
    """Loops around the image, the energy of which varies by a factor of five."""
    place = torch.linspace(-1, 1, side)
    down, right = place[:, None], place[None, :]
    maps = []
    for angle in (2 * math.pi * coil / coils for coil in range(coils)):
        sine, cosine = math.sin(angle), math.cos(angle)
        distance = (down - 1.1 * sine) ** 2 + (right - 1.1 * cosine) ** 2
        maps.append(torch.polar(torch.exp(-distance / 0.72), down * sine + right * cosine))
    return torch.stack(maps)


def operators(size: int) -> dict[str, recon.LinearOperator]:
    """By name."""
    shape, maps = (size, size), coil_maps(8, size)
    return {
        "parallel beam, 60 views": ParallelBeam(shape, angles=60),
        "fan beam, 180 views": FanBeam(
            shape, angles=180, source_origin=2.0 * size, origin_detector=1.0 * size
        ),
        "8 coils, Cartesian, a quarter of the columns": CartesianMRI("random_1d:acceleration=4", maps),
        "8 coils, 48 spokes": RadialMRI(shape, 48, coil_maps=maps),
        "1 coil, 96 spokes": RadialMRI(shape, 96),
    }


class Plain(recon.LinearOperator):
    """An operator without its preconditioner."""

    def __init__(self, operator: recon.LinearOperator) -> None:
        super().__init__(operator.domain_shape, operator.range_shape)
        self.operator, self.domain, self.nonnegative = operator, operator.domain, operator.nonnegative

    def _forward(self, x: Tensor) -> Tensor:
        return self.operator(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.operator.adjoint(y)

    def _gram(self, x: Tensor) -> Tensor:
        return self.operator._run_gram(x)

    def _pinv(self, y: Tensor, **options: Any) -> Tensor:
        return self.operator.pinv(y)


def row(name: str, operator: recon.LinearOperator, truth: Tensor) -> dict[str, Any]:
    """With and without."""
    x = truth.to(torch.complex64) if operator.domain == "complex" else truth
    clean = operator(x)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0), dtype=clean.dtype)
    sigma = 0.005 * float(clean.abs().max()) if operator.domain == "real" else 0.02
    y = clean + sigma * noise
    found: dict[str, Any] = {"operator": name}
    images = []
    for label, given in (("with", operator), ("without", Plain(operator))):
        prior = Tikhonov(1e-3 * operator.norm() ** 2, of="gradient")
        recon.solve(given, prior, y, solver="cg", stop=recon.MaxIterations(1))  # what a geometry needs once
        began = time.perf_counter()
        solution = recon.solve(
            given, prior, y, solver="cg", stop=recon.SmallResiduals(1e-5) | recon.MaxIterations(1000)
        )
        found[f"cg {label}"] = solution.iterations
        found[f"{label}, s"] = round(time.perf_counter() - began, 2)
        images.append(solution.image)
    found["apart"] = f"{float((images[0] - images[1]).norm() / images[1].norm()):.0e}"
    for label, given in (("with", operator), ("without", Plain(operator))):
        weight = 7.5 * sigma if operator.domain == "real" else sigma
        began = time.perf_counter()
        solution = recon.solve(
            given,
            TotalVariation(weight),
            y,
            solver="admm",
            stop=recon.MaxIterations(150),
            x0=operator.pinv(y),
        )
        seconds = (time.perf_counter() - began) / 150
        history = solution.history
        lowest = min(history["objective"])
        place = next(p for p, value in enumerate(history["objective"]) if value <= 1.001 * lowest)
        found[f"TV {label}"] = history["iteration"][place]
        found[f"TV {label}, s"] = round(seconds * history["iteration"][place], 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    side = (options.size, options.size)
    truth = torch.tensor(resize(shepp_logan_phantom(), side, anti_aliasing=True), dtype=torch.float32)
    rows = [row(name, operator, truth) for name, operator in operators(options.size).items()]
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
