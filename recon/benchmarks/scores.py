"""What benchmarks share: solving with priors named by the user, and mean scores beside the seconds spent."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from recon import making
from recon.linear import LinearOperator
from recon.metrics import PSNR, SSIM
from recon.priors import Generator
from recon.solving import ConvergenceWarning, solve
from recon.stopping import MaxIterations


@dataclass(frozen=True)
class Row:
    """Mean scores of one method: PSNR [dB] and SSIM, data range of each image its own; seconds for all."""

    method: str
    psnr: float
    ssim: float
    seconds: float


def scored(method: str, truth: Tensor, reconstruct: Callable[[], Tensor]) -> Row:
    """Reconstruct, and score against the truth ``(B, rows, columns)``: range max - min, SSIM windows of 7 x 7."""
    began = time.perf_counter()
    images = reconstruct()
    seconds = time.perf_counter() - began
    pairs = list(zip(images, truth, strict=True))

    def mean(metric: type[PSNR] | type[SSIM]) -> float:
        scores = [
            metric(data_range=float(wanted.max() - wanted.min()))(image, wanted, item_ndim=2)
            for image, wanted in pairs
        ]
        return sum(map(float, scores)) / len(scores)

    return Row(method, mean(PSNR), mean(SSIM), seconds)


def solved(
    operator: LinearOperator, data: Tensor, priors: str, constraint: str, fidelity: Any, **options: Any
) -> Tensor:
    """The images under priors joined by ``+`` and a constraint, however far the solver comes; options of `solve`.

    A generator is fitted for as many iterations as it advises, without early stopping, as published figures are.
    """
    prior = making.prior(priors) + making.prior(constraint)
    advised = [member.advice for member in prior.members if isinstance(member, Generator)]
    if advised and "iterations" in advised[0]:
        options.setdefault("stop", MaxIterations(int(advised[0]["iterations"])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the scores tell
        return solve(operator, prior, data, fidelity=fidelity, **options).image.to(data.device)
