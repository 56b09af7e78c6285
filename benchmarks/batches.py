"""Many slices: all at once, in groups within a budget of memory, and one by one; seconds and memory.

    .venv/bin/python benchmarks/batches.py [--json FILE] [--slices 64] [--side 128] [--iterations 50] [--device cpu]

CT from 60 views with Poisson noise, total variation of a fixed weight and a fixed number of iterations, so that every
row does the same work. Memory is what the solve's tensors held at the most: on a CPU counted by
`recon.memory.measured` in a run of its own (counting takes time), on a GPU by its allocator.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from recon_data.samples import ct_chest
from setting import environment, print_table
from torch import Tensor

import recon
from recon.groups import measure_need
from recon.memory import in_words, measured


def stack_of(slices: int, side: int) -> Tensor:
    """Attenuation [1/mm]: a chest, shifted a little from slice to slice."""
    image = ct_chest().attenuation(water=0.02)[None, None]
    small = torch.nn.functional.interpolate(image, size=(side, side), mode="area")[0, 0]
    return torch.stack([small.roll(k, 0) for k in range(slices)])


def row(
    name: str, solve: Callable[[], Tensor], expected: Tensor | None, device: torch.device
) -> tuple[dict, Tensor]:
    """Seconds, then memory, of one way to solve the stack."""
    began = time.perf_counter()
    image = solve()
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    with measured(device) as peak:
        solve()
    apart = 0.0 if expected is None else float((image - expected).abs().max() / expected.abs().max())
    found = {
        "way": name,
        "seconds": round(seconds, 2),
        "memory": in_words(peak[0]),
        "largest difference": f"{apart:.1e}",
    }
    return found, image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    stack = stack_of(asked.slices, asked.side).to(device)
    pixel = 0.7 * 512 / asked.side
    op = recon.operator("ct_parallel", shape=stack.shape[1:], pixel_size=pixel, angles=60).to(device)
    y = op.measure(stack, noise=recon.noise("poisson", photons=1e5), seed=0)
    prior, stop = recon.prior("tv", weight=0.3), recon.MaxIterations(asked.iterations)
    op.gram(stack[:1])  # the matrix is built once a geometry
    need = measure_need(recon.Problem(op, y, prior=prior), recon.ADMM())
    quarter = need.of(-(-asked.slices // 4))

    def solve(data: Tensor, **options: object) -> Tensor:
        return recon.solve(op, prior, data, solver=recon.ADMM(), stop=stop, **options).image

    first, whole = row("all at once", lambda: solve(y), None, device)
    rows = [first, row(f"memory={in_words(quarter)}", lambda: solve(y, memory=quarter), whole, device)[0]]
    one_by_one = lambda: torch.stack([solve(item) for item in y])  # noqa: E731
    rows.append(row("one by one", one_by_one, whole, device)[0])
    print_table(rows)
    print(f"estimated: {in_words(need.item)} an item and {in_words(need.fixed)} in all")
    if asked.json:
        about = {"slices": asked.slices, "side": asked.side, "iterations": asked.iterations}
        asked.json.write_text(json.dumps({**environment(), **about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
