"""Times the CT operators against ASTRA and the bare sparse product, and prints tables of ratios.

python benchmarks/projectors.py [--geometry parallel|fan] [--size N] [--views N] [--runs N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import astra
import numpy as np
import torch
from recon_operators.ct import ParallelBeam
from recon_operators.ct_fan import FanBeam
from recon_operators.joseph import projection_matrix
from recon_operators.sparse_projector import sparse_tensor

Call = Callable[[], Any]
BATCH = 8
# what the project asks of itself on a CPU: at least these ratios to ASTRA, at most that to the bare product
TARGETS = {(1, "astra"): 8.0, (BATCH, "astra"): 30.0, "bare": 1.3}
SIZES = {"parallel": (256, 180), "fan": (512, 360)}  # pixels a side, views


def interleaved(calls: dict[str, Call], runs: int) -> dict[str, list[float]]:
    """Seconds of each call, all of them in turn, so that a disturbance meets all alike."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> float:
    """Median over the runs of the ratio within one run."""
    return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))


def row(what: str, batch: int, seconds: dict[str, list[float]], references: dict[str, int]) -> dict[str, Any]:
    """One line of the table: milliseconds per image, and ratios per image to each reference.

    `references` says how many images one call of each reference projects.
    """
    images = {"operator": batch, **references}
    return {
        "what": what,
        "batch": batch,
        "milliseconds_per_image": {
            name: 1e3 * statistics.median(times) / images[name] for name, times in seconds.items()
        },
        "operator_faster_by": {
            name: ratio(seconds, name, "operator") * batch / images[name] for name in references
        },
    }


def on_cpu(op: ParallelBeam | FanBeam, projector: int, runs: int) -> list[dict[str, Any]]:
    """Forward and adjoint, one image and a batch: the operator, ASTRA's CPU projector, the sparse product.

    The sparse product is torch's with the whole matrix, the transpose stored too, its fastest form.
    """
    matrix, transpose = (
        sparse_tensor(rows) for rows in projection_matrix(op.geometry, threads=torch.get_num_threads())
    )
    rows = []
    for batch in (1, BATCH):
        images, sinograms = torch.rand(batch, *op.domain_shape), torch.rand(batch, *op.range_shape)
        image, sinogram = images[0].numpy(), sinograms[0].numpy()
        references = {"astra": 1, "bare": batch}
        forward = {
            "operator": partial(op, images),
            "astra": partial(astra.projector.direct_FP, projector, image, out=np.empty_like(sinogram)),
            "bare": partial(torch.matmul, matrix, columns(images)),
        }
        adjoint = {
            "operator": partial(op.adjoint, sinograms),
            "astra": partial(astra.projector.direct_BP, projector, sinogram, out=np.empty_like(image)),
            "bare": partial(torch.matmul, transpose, columns(sinograms)),
        }
        rows.append(row("forward", batch, interleaved(forward, runs), references))
        rows.append(row("adjoint", batch, interleaved(adjoint, runs), references))
    astra.projector.delete(projector)
    return rows


def parallel_on_cpu(size: int, views: int, runs: int) -> list[dict[str, Any]]:
    """Parallel beam against ASTRA's ``linear``, which has the same matrix."""
    op = ParallelBeam((size, size), angles=views, backend="matrix")
    projector = astra.create_projector(
        "linear",
        astra.create_proj_geom("parallel", 1.0, op.range_shape[1], np.arange(views) * np.pi / views),
        astra.create_vol_geom(size, size),
    )
    return on_cpu(op, projector, runs)


def fan_on_cpu(size: int, views: int, runs: int) -> list[dict[str, Any]]:
    """Fan beam, magnification 1.5, against ASTRA's fastest, ``line_fanflat``, with a third fewer weights."""
    distances = 2.0 * size, 1.0 * size
    op = FanBeam(
        (size, size), angles=views, source_origin=distances[0], origin_detector=distances[1], backend="matrix"
    )
    theta = np.arange(views) * 2 * np.pi / views
    projector = astra.create_projector(
        "line_fanflat",
        astra.create_proj_geom("fanflat", 1.5, op.range_shape[1], theta, *distances),
        astra.create_vol_geom(size, size),
    )
    return on_cpu(op, projector, runs)


def columns(items: torch.Tensor) -> torch.Tensor:
    """A batch as the columns of a matrix, one item as a vector: what the sparse product takes fastest."""
    flat = items.flatten(1)
    return flat[0] if len(flat) == 1 else flat.T


def on_gpu(size: int, views: int, runs: int) -> list[dict[str, Any]]:
    """Forward and adjoint on the GPU: the operator, the raw ASTRA call on the same tensors, the matrix."""
    scan: dict[str, Any] = {"shape": (size, size), "angles": views}
    op = ParallelBeam(**scan, backend="astra").to("cuda")
    exact = ParallelBeam(**scan, backend="matrix").to("cuda")
    detectors = op.range_shape[1]
    theta = np.arange(views) * np.pi / views
    direct = astra.projector3d
    rows = []
    for batch in (1, BATCH):
        # rows of a 3-D slice run along +y, so this geometry is mirrored; the work is the same
        projector = astra.create_projector(
            "cuda3d",
            astra.create_proj_geom("parallel3d", 1.0, 1.0, batch, detectors, theta),
            astra.create_vol_geom(size, size, batch),
        )
        images = torch.rand(batch, size, size, device="cuda")
        sinograms = torch.rand(batch, views, detectors, device="cuda")
        references = {"astra": batch, "matrix": batch}
        forward = {
            "operator": partial(op, images),
            "astra": partial(direct.direct_FP, projector, images, out=torch.empty_like(sinograms)),
            "matrix": partial(exact, images),
        }
        adjoint = {
            "operator": partial(op.adjoint, sinograms),
            "astra": partial(direct.direct_BP, projector, sinograms, out=torch.empty_like(images)),
            "matrix": partial(exact.adjoint, sinograms),
        }
        for what, calls in (("forward", forward), ("adjoint", adjoint)):
            finished: dict[str, Call] = {name: partial(run_to_the_end, call) for name, call in calls.items()}
            rows.append(row(what, batch, interleaved(finished, runs), references))
        direct.delete(projector)
    return rows


def run_to_the_end(call: Call) -> None:
    call()
    torch.cuda.synchronize()


def table(title: str, rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    names = list(rows[0]["milliseconds_per_image"])
    references = list(rows[0]["operator_faster_by"])
    head = [
        "",
        "batch",
        *(f"{name} [ms/image]" for name in names),
        *(f"{name} / operator" for name in references),
    ]
    lines = [f"### {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for line in rows:
        cells = [line["what"], str(line["batch"])]
        cells += [f"{line['milliseconds_per_image'][name]:.2f}" for name in names]
        cells += [f"{line['operator_faster_by'][name]:.2f}" for name in references]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def missed(rows: list[dict[str, Any]]) -> list[str]:
    """The targets that a CPU table misses, in words."""
    failures = []
    for line in rows:
        faster, label = line["operator_faster_by"], f"{line['what']}, batch {line['batch']}"
        least = TARGETS[line["batch"], "astra"]
        if faster["astra"] < least:
            failures.append(f"{label}: {faster['astra']:.1f} times faster than ASTRA, {least:g} wanted")
        if faster["bare"] < 1 / TARGETS["bare"]:
            failures.append(
                f"{label}: {1 / faster['bare']:.2f} of the bare product's time, {TARGETS['bare']} wanted"
            )
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--geometry", choices=SIZES, default="parallel")
    parser.add_argument("--size", type=int, default=None, help="by default 256, in fan beam 512")
    parser.add_argument("--views", type=int, default=None, help="by default 180, in fan beam 360")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", type=Path, default=None, help="write the numbers here too")
    options = parser.parse_args()
    size, views = options.size or SIZES[options.geometry][0], options.views or SIZES[options.geometry][1]
    scan = f"{options.geometry} beam, {size} x {size}, {views} views"
    timed = fan_on_cpu if options.geometry == "fan" else parallel_on_cpu
    result: dict[str, Any] = {
        "command": f"benchmarks/projectors.py --geometry {options.geometry} "
        f"--size {size} --views {views} --runs {options.runs}",
        "versions": {
            "torch": torch.__version__,
            "astra": astra.__version__,
            "python": platform.python_version(),
        },
        "threads": torch.get_num_threads(),
        "cpu": timed(size, views, options.runs),
    }
    print(
        table(f"CPU, {torch.get_num_threads()} threads, {scan} (ASTRA: one image, one thread)", result["cpu"])
    )
    if options.geometry == "parallel" and torch.cuda.is_available() and astra.use_cuda():
        result["device"] = torch.cuda.get_device_name()
        result["gpu"] = on_gpu(size, views, options.runs)
        print("\n" + table(f"{result['device']}, {scan}", result["gpu"]))
    result["missed"] = missed(result["cpu"])
    for failure in result["missed"]:
        print(f"missed: {failure}")
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
