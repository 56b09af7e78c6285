"""Parallel-beam CT in the Fourier domain against the matrix and ASTRA: projections, Gram, TV solve, and accuracy.

    .venv/bin/python benchmarks/fourier.py [--sizes 256 512] [--views 60 360] [--runs 7] [--json FILE]

Data of the solve are ASTRA's ``strip`` kernel of the Shepp-Logan phantom plus noise of 0.5 % of its largest value, from
which every backend reconstructs with the same weight, 7.5 sigma. Columns: seconds for what a geometry needs once,
milliseconds for one image (median), error of the projection against the strips, seconds of the solve until its
objective is within 1e-3 of the lowest of 120 iterations, records of the objective at every tenth iteration included,
and the PSNR at the end. ASTRA's ``linear`` on the CPU, one thread, is not asked to solve where that takes minutes. The
tooth is measured: its score is the error of views that were kept back, as the matrix (Joseph's method) predicts them.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import astra
import numpy as np
import torch
from recon_data import samples
from recon_operators.measured_ct import detector_offset, from_counts, rotation_centre
from recon_priors import TotalVariation
from setting import environment, print_table
from skimage.data import shepp_logan_phantom
from skimage.transform import resize
from torch import Tensor

import recon

BACKENDS = ("matrix", "fourier", "strip", "astra")
NOISE, ITERATIONS = 0.005, 120
SLOW = 5_000_000  # rays times pixels along one, from which ASTRA is not asked to solve


def strips(image: Tensor, views: int, detectors: int) -> Tensor:
    """ASTRA's strip kernel of an image with pixels of 1 mm."""
    projector = astra.create_projector(
        "strip",
        astra.create_proj_geom("parallel", 1.0, detectors, np.arange(views) * np.pi / views),
        astra.create_vol_geom(*image.shape),
    )
    sinogram = np.zeros((views, detectors), dtype=np.float32)
    astra.projector.direct_FP(projector, image.numpy(), out=sinogram)
    astra.projector.delete(projector)
    return torch.from_numpy(sinogram)


def milliseconds(calls: dict[str, Callable[[], Any]], runs: int) -> dict[str, float]:
    """Median of each call, all of them in turn, so that a disturbance meets all alike."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - began)
    return {name: round(1e3 * median(seconds), 2) for name, seconds in taken.items()}


def scan(size: int, views: int, runs: int) -> list[dict[str, Any]]:
    """One row a backend."""
    truth = torch.tensor(resize(shepp_logan_phantom(), (size, size), anti_aliasing=True), dtype=torch.float32)
    detectors = math.ceil(size * math.sqrt(2))
    clean = strips(truth, views, detectors)
    sigma = NOISE * float(clean.max())
    y = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    operators = {
        name: recon.operator(
            "ct_parallel", shape=truth.shape, angles=views, detectors=detectors, backend=name
        )
        for name in BACKENDS
    }
    once = {}
    for name, op in operators.items():
        began = time.perf_counter()
        op.gram(truth), op.pinv(y)
        once[name] = round(time.perf_counter() - began, 2)
    forward = milliseconds({name: lambda op=op: op(truth) for name, op in operators.items()}, runs)
    adjoint = milliseconds({name: lambda op=op: op.adjoint(y) for name, op in operators.items()}, runs)
    gram = milliseconds({name: lambda op=op: op._run_gram(truth) for name, op in operators.items()}, runs)
    rows = []
    for name, op in operators.items():
        row = {"size": size, "views": views, "backend": name, "once s": once[name]}
        row |= {"forward ms": forward[name], "adjoint ms": adjoint[name], "gram ms": gram[name]}
        row["to strips"] = f"{float((op(truth) - clean).norm() / clean.norm()):.1e}"
        solvable = name != "astra" or views * detectors * size < SLOW
        rows.append(row | (solved(op, y, truth, 7.5 * sigma) if solvable else dict.fromkeys(SOLVED, "")))
    return rows


SOLVED = ("TV s", "iterations", "PSNR dB")


def solved(op: recon.LinearOperator, y: Tensor, truth: Tensor, weight: float) -> dict[str, Any]:
    """Seconds and iterations until the objective is within 1e-3 of its lowest, and the PSNR at the end."""
    solution = recon.solve(op, TotalVariation(weight), y, stop=recon.MaxIterations(ITERATIONS))
    history = solution.history
    lowest = min(history["objective"])
    place = next(place for place, value in enumerate(history["objective"]) if value <= 1.001 * lowest)
    psnr = -10 * math.log10(float((solution.image - truth).square().mean()))
    found = round(history["seconds"][place], 2), history["iteration"][place], round(psnr, 2)
    return dict(zip(SOLVED, found, strict=True))


def tooth() -> list[dict[str, Any]]:
    """TV from nine tenths of the views of the measured tooth; the error of the others."""
    file = samples.sample("tooth")
    counts, flat, dark, degrees = (
        recon.load(file, dataset=f"exchange/{name}").data
        for name in ("data", "data_white", "data_dark", "theta")
    )
    integrals, _ = from_counts(counts[:, 0], flat=flat[:, 0], dark=dark[:, 0])
    pairs = integrals.reshape(len(integrals), -1, 2).mean(-1)
    middle = (rotation_centre(integrals) + 0.5) / 2 - 0.5
    offset = detector_offset(middle, pairs.shape[-1], detector_size=1.0)
    angles, kept = np.deg2rad(degrees.numpy()), np.arange(len(degrees)) % 10 == 5

    def scanner(views: np.ndarray, backend: str) -> recon.LinearOperator:
        return recon.operator(
            "ct_parallel",
            shape=(200, 200),
            angles=angles[views].tolist(),
            detectors=pairs.shape[-1],
            detector_offset=offset,
            backend=backend,
        )

    unseen, y = scanner(kept, "matrix"), pairs[torch.from_numpy(~kept)]
    rows = []
    for name in ("matrix", "fourier", "strip"):
        op = scanner(~kept, name)
        op.gram(op.pinv(y))
        began = time.perf_counter()
        image = recon.solve(op, TotalVariation(0.02), y).image
        seconds = time.perf_counter() - began
        error = float((unseen(image) - pairs[torch.from_numpy(kept)]).square().mean().sqrt())
        rows.append(
            {"backend": name, "TV s": round(seconds, 2), "error of the views kept back": round(error, 5)}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--views", type=int, nargs="+", default=[60, 360])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {"environment": environment(), "rows": [], "tooth": tooth()}
    print_table(result["tooth"])
    for size in options.sizes:
        for views in options.views:
            result["rows"] += scan(size, views, options.runs)
            if options.json:
                options.json.write_text(json.dumps(result, indent=1) + "\n")
    print_table(result["rows"])


if __name__ == "__main__":
    main()
