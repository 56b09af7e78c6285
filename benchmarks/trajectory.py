"""How fast a method gets near the image it converges to: the PSNR of every iterate against the time it took.

NumPy alone, so that a library with an environment of its own is measured by the same lines.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

CLOSE = 0.05
"""dB: from when on the PSNR stays this near its last value, a method has arrived."""
SETTLED, LEAST = 0.02, 45
"""A run ends when the PSNR has changed by less than this many dB over two thirds of at least so many iterations."""
FAST, ROUNDS = 4.0, 3
"""A run shorter than so many seconds is repeated; its time is then the median."""

Watch = Callable[[Any], bool]
Method = Callable[[Watch], None]
"""From data to images: hands every iterate to the watch, and stops when that returns True."""


@dataclasses.dataclass
class Run:
    """Seconds, without those of the watch, and PSNR after each iteration."""

    seconds: list[float]
    psnr: list[float]
    settled: bool

    @property
    def iterations(self) -> int:
        """The first iteration from which on the PSNR stays near the last."""
        away = [place for place, value in enumerate(self.psnr) if abs(value - self.psnr[-1]) > CLOSE]
        return away[-1] + 2 if away else 1


def psnr(image: Any, truth: np.ndarray) -> float:
    """PSNR of the magnitude with peak 1 over the whole image."""
    return float(-10 * np.log10(np.mean((np.abs(np.asarray(image)) - truth) ** 2)))


def followed(method: Method, truth: np.ndarray, budget: float) -> Run:
    """Run until the PSNR has settled or the budget (seconds) is spent."""
    run = Run([], [], False)
    spent, began = 0.0, time.process_time()

    def watch(image: Any) -> bool:
        nonlocal spent, began
        spent += time.process_time() - began
        run.seconds.append(spent)
        run.psnr.append(psnr(image, truth))
        done = len(run.psnr)
        last = run.psnr[done // 3 :]
        run.settled = done >= LEAST and max(last) - min(last) < SETTLED
        began = time.process_time()
        return run.settled or spent > budget

    method(watch)
    return run


def again(method: Method, iterations: int) -> float:
    """Seconds of so many iterations, from the data on."""
    done, spent = 0, 0.0
    began = time.process_time()

    def watch(image: Any) -> bool:
        nonlocal done, spent
        np.asarray(image)  # an array computed lazily is waited for
        done += 1
        spent = time.process_time() - began
        return done >= iterations

    method(watch)
    return spent


def timed(methods: dict[str, Method], runs: dict[str, Run]) -> dict[str, float]:
    """Seconds until each method has arrived; the fast ones take turns, so that what else the machine does hits all."""
    seconds = {name: [run.seconds[run.iterations - 1]] for name, run in runs.items()}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            if run.settled and seconds[name][0] < FAST:
                seconds[name].append(again(methods[name], run.iterations))
    # the first run had its operators' caches and compilers to warm
    return {name: sorted(found[1:] or found)[len(found[1:] or found) // 2] for name, found in seconds.items()}
