"""Deep image prior: iterations a second of the solver against the reference network written plainly, and of batches.

    .venv/bin/python benchmarks/deep_image_prior.py [--json FILE] [--sides 256 512] [--preset NAME] [--batch 2]

"plain" is a loop as in a notebook: the network of the paper out of torch.nn, Adam, float32, the mean squared error of a
noisy picture. Beside it the same network with channels last, under bfloat16 autocast, both, and with --compile
compiled; then the solver `dip` with the same network, and several images in one pass against one after the other. The
methods take turns, and the median of the passes counts: seconds of the processor on a CPU, which others do not slow as
they do the clock; wall time on a GPU, there with --preset denoise --iterations 50.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from setting import environment, print_table
from torch import Tensor, nn

import recon
from recon.problem import Problem


class Plain(nn.Module):
    """The `skip` network as its paper draws it, recursion written out: one scale with all below it."""

    def __init__(
        self, inputs: int, down: tuple[int, ...], skip: tuple[int, ...], above: int | None = None
    ) -> None:
        super().__init__()
        width, below = down[0], down[1:]

        def block(source: int, target: int, kernel: int, stride: int = 1) -> list[nn.Module]:
            pad = [nn.ReflectionPad2d(kernel // 2)] if kernel > 1 else []
            return [
                *pad,
                nn.Conv2d(source, target, kernel, stride),
                nn.BatchNorm2d(target),
                nn.LeakyReLU(0.2),
            ]

        self.across = nn.Sequential(*block(inputs, skip[0], 1)) if skip[0] else None
        deeper: list[nn.Module] = [*block(inputs, width, 3, 2), *block(width, width, 3)]
        deeper += [Plain(width, below, skip[1:], width)] if below else []
        self.deep = nn.Sequential(*deeper, nn.Upsample(scale_factor=2, mode="bilinear"))
        joined = (below[0] if below else width) + skip[0]
        self.up = nn.Sequential(nn.BatchNorm2d(joined), *block(joined, width, 3), *block(width, width, 1))
        self.last = nn.Sequential(nn.Conv2d(width, 1, 1), nn.Sigmoid()) if above is None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        deep = self.deep(x)
        return self.last(self.up(deep if self.across is None else torch.cat([self.across(x), deep], 1)))


def plain_step(
    network: nn.Module,
    z: Tensor,
    noise: float,
    target: Tensor,
    precision: Callable[[], contextlib.AbstractContextManager],
) -> Callable[[], None]:
    """One iteration of a notebook."""
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)

    def step() -> None:
        optimiser.zero_grad()
        with precision():
            image = network(z + noise * torch.randn_like(z))
        nn.functional.mse_loss(image.float(), target).backward()
        optimiser.step()

    return step


def solver_step(y: Tensor, preset: str, together: bool) -> Callable[[], None]:
    """One iteration of the solver `dip`, and its running average."""
    problem = Problem(recon.Identity(y.shape[1:]), y, prior=recon.prior("dip", preset=preset))
    solver = recon.DIP(together=together)
    state = solver.start(problem)

    def step() -> None:
        nonlocal state
        state = solver.step(problem, state)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--preset", default="small_256")
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    for side in options.sides:
        rows += measured(side, options.preset, options.iterations, options.batch, options.compile, device)
        if options.json:
            found = {"environment": environment(), "preset": options.preset, "rows": rows}
            options.json.write_text(json.dumps(found, indent=1) + "\n")
    print_table(rows)


def measured(
    side: int, preset: str, iterations: int, batch: int, with_compiled: bool, device: torch.device
) -> list[dict]:
    """Iterations a second of every method at one size."""
    from recon_networks.dip_presets import PRESETS, fitting

    settings = PRESETS[preset]
    fitted = fitting(settings.settings, (side, side))
    down, skip = fitted["down"], fitted["skip"]
    skips = (skip,) * len(down) if isinstance(skip, int) else skip
    stream = torch.Generator().manual_seed(0)
    y = torch.rand(batch, side, side, generator=stream).to(device)
    z = 0.1 * torch.rand(1, settings.depth, side, side, generator=stream).to(device)
    target, noise = y[:1, None], settings.reg_noise
    in_turn, in_one = f"dip, {batch} images in turn", f"dip, {batch} images in one pass"

    def network() -> nn.Module:
        torch.manual_seed(0)
        return Plain(settings.depth, down, skips).to(device)

    def halved() -> contextlib.AbstractContextManager:
        return torch.autocast(device.type, torch.bfloat16)

    last = torch.channels_last
    steps = {
        "plain, eager float32": plain_step(network(), z, noise, target, contextlib.nullcontext),
        "plain, channels last": plain_step(
            network().to(memory_format=last), z.to(memory_format=last), noise, target, contextlib.nullcontext
        ),
        "plain, bfloat16": plain_step(network(), z, noise, target, halved),
        "plain, bfloat16 and channels last": plain_step(
            network().to(memory_format=last), z.to(memory_format=last), noise, target, halved
        ),
        "dip, 1 image": solver_step(y[:1], preset, False),
        in_turn: solver_step(y, preset, False),
        in_one: solver_step(y, preset, True),
    }
    if with_compiled:
        steps["plain, compiled"] = plain_step(
            torch.compile(network()), z, noise, target, contextlib.nullcontext
        )
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(iterations + 1):
        for name, step in steps.items():
            began = clock()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:  # the first warms up
                times[name].append(clock() - began)
    base = statistics.median(times["plain, eager float32"])
    return [
        {
            "side": side,
            "method": name,
            "ms an iteration": round(1000 * statistics.median(taken), 1),
            "images a second": round(
                (batch if name in (in_turn, in_one) else 1) / statistics.median(taken), 2
            ),
            "of plain": round(
                (batch if name in (in_turn, in_one) else 1) * base / statistics.median(taken), 2
            ),
        }
        for name, taken in times.items()
    ]


if __name__ == "__main__":
    main()
