"""Times cone-beam projections, back-projections and Feldkamp's algorithm, on the CPU's threads and on a GPU.

python benchmarks/cone.py [--size 128] [--views 120] [--elements 160] [--runs 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from recon_operators import ConeBeam
from setting import environment, print_table


def seconds(call: Callable[[], Any], runs: int) -> tuple[float, float]:
    """Median of the time that passed, and of the processor time of all threads."""
    call()
    passed, spent = [], []
    for _ in range(runs):
        start, used = time.perf_counter(), time.process_time()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        passed.append(time.perf_counter() - start)
        spent.append(time.process_time() - used)
    return statistics.median(passed), statistics.median(spent)


def rows(op: ConeBeam, volume: torch.Tensor, label: str, runs: int) -> list[dict[str, Any]]:
    """One row for each of forward, adjoint and direct reconstruction."""
    data = op(volume)
    calls = {"forward": lambda: op(volume), "adjoint": lambda: op.adjoint(data), "FDK": lambda: op.pinv(data)}
    found = []
    for name, call in calls.items():
        passed, spent = seconds(call, runs)
        found.append(
            {"on": label, "what": name, "seconds": round(passed, 3), "processor_seconds": round(spent, 3)}
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--views", type=int, default=120)
    parser.add_argument("--elements", type=int, default=160)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, default=None, help="write the numbers here too")
    options = parser.parse_args()
    size = options.size
    op = ConeBeam(
        (size, size, size),
        angles=options.views,
        source_origin=4.0 * size,
        origin_detector=2.0 * size,
        detectors=(options.elements, options.elements),
        detector_size=1.5 * 1.45 * size / options.elements,
    )
    volume = torch.zeros(size, size, size)
    quarter = size // 4
    volume[quarter:-quarter, quarter:-quarter, quarter:-quarter] = 1.0
    threads = torch.get_num_threads()
    result = []
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        result += rows(op, volume, f"CPU, {count} threads", options.runs)
    if torch.cuda.is_available():
        result += rows(op.to("cuda"), volume.cuda(), torch.cuda.get_device_name(), options.runs)
    print_table(result)
    if options.json is not None:
        options.json.write_text(json.dumps({"environment": environment(), "rows": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
