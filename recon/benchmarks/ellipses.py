"""The Ellipses benchmark: sparse-view CT of generated images, with published figures for every kind of method."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from recon import registry
from recon.benchmarks.scores import Row, scored, solved
from recon.linear import LinearOperator
from recon.priors import Generator
from recon.solvers.dip import DIP, ITERATIONS, RATE
from recon.stopping import MaxIterations

SIDE, FINE_SIDE, VIEWS, DETECTORS, REACH = 128, 400, 30, 183, 90.51
NOISE = 0.025  # of the mean magnitude of an image's data
SEED = 3
AT_ONCE = 200  # images that are projected together
SLOWER, FEWER = 10, 5  # times: learning rate and iterations of a network that is to refine a first image

PUBLISHED = (
    ("FBP, Hann window, cutoff 0.7051", 24.18, 0.5939),
    ("TV, Douglas-Rachford", 27.96, 0.8616),
    ("iRadonMap", 28.02, 0.8766),
    ("DIP", 28.24, 0.8619),
    ("DIP + TV", 28.94, 0.8855),
    ("FBP + U-Net", 29.36, 0.8987),
    ("learned gradient descent", 30.30, 0.9162),
    ("learned primal-dual", 32.27, 0.9403),
)
"""Mean PSNR [dB] and SSIM of DIVal's reference reconstructors on the first 100 test images."""


@dataclass(frozen=True)
class Scan:
    """The measured problem.

    Attributes:
        operator: parallel beam on the image grid.
        images: the truth ``(B, 128, 128)``.
        data: noisy line integrals ``(B, 30, 183)``, simulated on a grid of 400 x 400.
        noise_level: standard deviation of each item's noise ``(B,)``.
    """

    operator: LinearOperator
    images: Tensor
    data: Tensor
    noise_level: Tensor


def scan(images: int, seed: int = SEED, part: str = "test") -> Scan:
    """Simulate the scan of the first images of a part: ``"train"``, ``"validation"`` or ``"test"``.

    128 x 128 pixels of unit size are resized bilinearly to 400 x 400 on the same square and projected along 30
    parallel views at (k + 1/2) pi / 30 onto 183 elements over [-90.51, 90.51]; white noise has 2.5 % of the mean
    magnitude of the image's data as standard deviation.
    """
    truth = registry.make("dataset", "ellipses", part=part).first(images)
    views = {
        "angles": tuple((view + 0.5) * math.pi / VIEWS for view in range(VIEWS)),
        "detectors": DETECTORS,
        "detector_size": 2 * REACH / DETECTORS,
    }
    operator = registry.make("operator", "ct_parallel", shape=(SIDE, SIDE), pixel_size=1.0, **views)
    fine = registry.make(
        "operator", "ct_parallel", shape=(FINE_SIDE, FINE_SIDE), pixel_size=SIDE / FINE_SIDE, **views
    )
    clean = torch.cat([fine(_finer(some)) for some in truth.split(AT_ONCE)])
    level = NOISE * clean.abs().mean((1, 2))
    generator = torch.Generator().manual_seed(seed)
    # image by image: the noise of one must not depend on how many there are
    noise = torch.stack([torch.randn(item.shape, generator=generator) for item in clean])
    return Scan(operator, truth, clean + level[:, None, None] * noise, level)


def _finer(truth: Tensor) -> Tensor:
    size = (FINE_SIDE, FINE_SIDE)
    return torch.nn.functional.interpolate(truth[:, None], size=size, mode="bilinear", align_corners=False)[
        :, 0
    ]


def run(
    images: int = 100,
    priors: tuple[str, ...] = ("tv",),
    report: Callable[[str], None] = lambda _: None,
    device: str | torch.device | None = None,
    start: str | None = None,
) -> list[Row]:
    """Reconstruct with FBP and with each prior, and score.

    Args:
        images: how many of the test images; the published figures are for 100.
        priors: names or specs, several joined by ``+``; the noise level is given, the image lies in [0, 1]. A bare
            ``dip`` has the published settings on a GPU, `ct_ellipses`, and those for CT on a CPU, `small_ct`.
        report: told what is being computed.
        device: where to solve; None: on the CPU.
        start: prior whose images the network of a deep image prior is fitted to first; it then has a tenth of its
            learning rate and a fifth of its iterations. None: from random weights, as published.
    """
    report("simulating the scan")
    problem = scan(images)
    rows = [
        scored(
            "FBP, Hann window, cutoff 0.7051",
            problem.images,
            lambda: problem.operator.pinv(problem.data, filter="hann", cutoff=0.7051),
        )
    ]
    solve = partial(
        solved,
        problem.operator,
        problem.data,
        constraint="box",
        fidelity=("gaussian", {"noise_level": problem.noise_level}),
        image_range=(0.0, 1.0),
        device=device,
    )
    first = None
    if start is not None:
        report(f"reconstructing with {start}")
        first = solve(start)
    for spec in priors:
        spec = "+".join(_preset(name.strip(), device) for name in spec.split("+"))
        report(f"reconstructing with {spec}")
        told, options = (spec, {}) if first is None else _from(first, spec, start)
        rows.append(scored(told, problem.images, partial(solve, spec, **options)))
    return rows


def _from(first: Tensor, spec: str, start: str | None) -> tuple[str, dict[str, Any]]:
    """What a row is called, and the options of `solve`, where generators begin at these images."""
    for part in spec.split("+"):
        prior = registry.make("prior", part)
        if isinstance(prior, Generator):
            rate = prior.advice.get("lr", RATE) / SLOWER
            limit = int(prior.advice.get("iterations", ITERATIONS) / FEWER)
            options = {"x0": first, "solver": DIP(lr=rate), "stop": MaxIterations(limit)}
            return f"{spec} from {start}", options
    return spec, {}


def _preset(name: str, device: str | torch.device | None) -> str:
    """The deep image prior of this benchmark where the name alone is given."""
    if name != "dip":
        return name
    on_gpu = device is not None and torch.device(device).type == "cuda"
    return "dip:preset=ct_ellipses" if on_gpu else "dip:preset=small_ct"
