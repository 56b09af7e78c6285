"""Plug-and-play with no parameter given: the PSNR of weight-free denoisers on four problems.

    .venv/bin/python benchmarks/plug_and_play.py [--json FILE] [--bm3d]

Images of the sample data, 256 x 256 (`problems.py`): `recon.solve(op, prior, y)` and nothing else. The time is that of
the processor. BM3D takes seconds an image and may not be used commercially: it is asked for.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from problems import NATURAL
from setting import environment, print_table
from trajectory import psnr

import recon

PRIORS = ("tv", "wavelet_denoiser", "nlm")


def compared(name: str, priors: list[str]) -> list[dict]:
    """A row for the direct reconstruction and for every prior."""
    posed = NATURAL[name]()
    truth = posed.truth.numpy() / posed.peak

    def row(prior: str, image: torch.Tensor, seconds: float, iterations: str) -> dict:
        reached = psnr(image / posed.peak, truth)
        return {
            "problem": name,
            "prior": prior,
            "PSNR": f"{reached:.2f}",
            "seconds": f"{seconds:.2f}",
            "iterations": iterations,
        }

    began = time.process_time()
    rows = [row("none: direct", posed.operator.pinv(posed.y), time.process_time() - began, "-")]
    for prior in priors:
        began = time.process_time()
        solution = recon.solve(posed.operator, prior, posed.y)
        rows.append(row(prior, solution.image, time.process_time() - began, str(solution.iterations)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--bm3d", action="store_true", help="BM3D too: minutes, non-commercial")
    options = parser.parse_args()
    torch.set_num_threads(1)
    priors = [*PRIORS, *(["bm3d"] if options.bm3d else [])]
    rows = [row for name in NATURAL for row in compared(name, priors)]
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
