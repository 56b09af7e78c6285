"""The denoiser that ships against total variation, all automatic, on slices that it was not trained on.

    .venv/bin/python benchmarks/shipped_denoiser.py [--json FILE] [--draws 2]

PSNR [dB] with the reference's largest magnitude as peak, averaged over the draws of noise (and of the mask);
"least gain" is that of the worst draw. Images have 256 x 256 pixels. Below the table: one pass over 512 x 512.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from setting import environment, print_table
from torch import Tensor
from torch.nn.functional import avg_pool2d

import recon

BRIGHTEST = 0.04  # 1/mm: what becomes 1 of images that are no CT
PIXEL = 1.28  # mm
Case = tuple[recon.LinearOperator, Tensor, Tensor, object]  # operator, data, truth, data term


def slices() -> dict[str, Tensor]:
    """Attenuation of the chest [1/mm], other images in [0, 1]; the measured brain is complex."""
    chest = recon.dataset("ct_chest").attenuation()
    grey = {name: recon.dataset(name).data for name in ("mr_brain", "camera")}
    found = {"ct_chest": chest, **{name: image / image.max() for name, image in grey.items()}}
    halves = {name: avg_pool2d(image[None, None].float(), 2)[0, 0] for name, image in found.items()}
    kspace = recon.dataset("kspace_brain").data.to(torch.complex64)
    full = recon.operator("mri_cartesian", mask=torch.ones(kspace.shape)).pinv(kspace)
    return halves | {"kspace_brain": full / full.abs().max()}


def ct(image: Tensor, views: int, photons: float, seed: int, counted: bool = False) -> Case:
    """A parallel-beam scan; the data term by the counts, or of one noise level."""
    truth = image.abs() if float(image.abs().max()) < 2 * BRIGHTEST + 0.01 else BRIGHTEST * image.abs()
    op = recon.operator("ct_parallel", shape=truth.shape, pixel_size=PIXEL, angles=views)
    y = op.measure(truth, noise=recon.noise("poisson", photons=photons), seed=seed)
    return op, y, truth, ("pwls", {"photons": photons}) if counted else "gaussian"


def mri(image: Tensor, acceleration: float, density: str, std: float, seed: int) -> Case:
    """Random columns of k-space; std 0: the noise that the image was measured with."""
    lines = {"acceleration": acceleration, "density": density, "seed": seed + 1}
    op = recon.operator("mri_cartesian", mask=("random_1d", lines), shape=image.shape)
    truth = image.to(torch.complex64)
    noise = recon.noise("complex_gaussian", std=std) if std else None
    return op, op.measure(truth, noise=noise, seed=seed), truth, "gaussian"


def blur(image: Tensor, std: float, seed: int) -> Case:
    """A Gaussian blur."""
    op = recon.operator("blur", shape=image.shape, kernel=("gaussian", 1.6))
    return op, op.measure(image, noise=recon.noise("gaussian", std=std), seed=seed), image, "gaussian"


PROBLEMS: list[tuple[str, str, Callable[[Tensor, int], Case]]] = [
    ("CT, 30 views, 1e5 photons", "ct_chest", lambda x, seed: ct(x, 30, 1e5, seed)),
    ("CT, 60 views, 1e5 photons", "ct_chest", lambda x, seed: ct(x, 60, 1e5, seed)),
    ("CT, 60 views, 1e4 photons", "ct_chest", lambda x, seed: ct(x, 60, 1e4, seed)),
    ("CT, 60 views, 1e4 photons", "mr_brain", lambda x, seed: ct(x, 60, 1e4, seed)),
    ("CT, 60 views, 1e5 photons", "kspace_brain", lambda x, seed: ct(x, 60, 1e5, seed)),
    ("CT, 120 views, 2e3 photons", "ct_chest", lambda x, seed: ct(x, 120, 2e3, seed)),
    ("the same, fidelity pwls", "ct_chest", lambda x, seed: ct(x, 120, 2e3, seed, counted=True)),
    ("MRI, 3 x, noise 0.01", "mr_brain", lambda x, seed: mri(x, 3, "gaussian", 0.01, seed)),
    ("MRI, 4 x, noise 0.02", "mr_brain", lambda x, seed: mri(x, 4, "gaussian", 0.02, seed)),
    ("MRI, 8 x, noise 0.01", "mr_brain", lambda x, seed: mri(x, 8, "gaussian", 0.01, seed)),
    ("MRI, 3 x, as measured", "kspace_brain", lambda x, seed: mri(x, 3, "gaussian", 0, seed)),
    ("MRI, 4 x, as measured", "kspace_brain", lambda x, seed: mri(x, 4, "gaussian", 0, seed)),
    ("MRI, 4 x, noise 0.03", "ct_chest", lambda x, seed: mri(x / x.max(), 4, "gaussian", 0.03, seed)),
    ("MRI, 3 x uniform, noise 0.005", "camera", lambda x, seed: mri(x, 3, "uniform", 0.005, seed)),
    ("blur, noise 0.01", "mr_brain", lambda x, seed: blur(x, 0.01, seed)),
    ("blur, noise 0.03", "camera", lambda x, seed: blur(x, 0.03, seed)),
]


def psnr(image: Tensor, truth: Tensor) -> float:
    """Peak: the largest magnitude of the truth; magnitudes are compared."""
    peak = truth.abs().max()
    return float(
        -10
        * torch.log10(
            ((image.abs() if image.is_complex() else image) - truth.abs()).div(peak).square().mean()
        )
    )


def compared(draws: int) -> Iterator[dict[str, object]]:
    """A row a problem."""
    images = slices()
    for problem, name, scan in PROBLEMS:
        scores: dict[str, list[float]] = {"tv": [], "drunet": []}
        seconds, passes = dict.fromkeys(scores, 0.0), 0
        for seed in range(draws):
            op, y, truth, fidelity = scan(images[name], seed)
            span = (0.0, float(truth.abs().max()))
            for prior in scores:
                began = time.perf_counter()
                solution = recon.solve(op, prior, y, fidelity=fidelity, image_range=span, progress=False)
                seconds[prior] += (time.perf_counter() - began) / draws
                scores[prior].append(psnr(solution.image, truth))
            passes = max(passes, solution.iterations + 1)
        gains = [ours - theirs for ours, theirs in zip(scores["drunet"], scores["tv"], strict=True)]
        yield {
            "problem": problem,
            "image": name,
            "TV [dB]": round(statistics.mean(scores["tv"]), 2),
            "drunet [dB]": round(statistics.mean(scores["drunet"]), 2),
            "least gain": round(min(gains), 2),
            "passes": passes,
            "TV [s]": round(seconds["tv"], 1),
            "drunet [s]": round(seconds["drunet"], 1),
        }


def inference() -> dict[str, float]:
    """Seconds of one pass over 512 x 512 pixels, the median of five."""
    denoiser, image, taken = recon.prior("drunet"), torch.rand(1, 512, 512), []
    assert isinstance(denoiser, recon.Denoiser)
    for _ in range(6):
        began = time.perf_counter()
        denoiser.denoise(image, 0.1)
        taken.append(time.perf_counter() - began)
    return {"seconds a 512 x 512 slice": round(statistics.median(taken[1:]), 3)}


def main() -> None:
    """Measure, print, and keep."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--json", type=Path, help="file for the figures")
    arguments.add_argument("--draws", type=int, default=2, help="draws of noise and mask")
    given = arguments.parse_args()
    warnings.simplefilter("ignore", recon.ConvergenceWarning)
    pace = inference()
    rows = []
    for row in compared(given.draws):
        print(*row.values(), sep="  ", flush=True)
        rows.append(row)
    print_table(rows)
    print(pace)
    if given.json:
        record = {"environment": environment(), "inference": pace, "rows": rows}
        given.json.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
