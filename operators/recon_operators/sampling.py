"""Sampling masks for Cartesian MRI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

_GAUSSIAN_WIDTH = 1 / 6
"""Standard deviation of the Gaussian density, as a fraction of the width of k-space."""


def random_1d(
    shape: Sequence[int],
    acceleration: float = 4.0,
    centre_fraction: float = 0.08,
    *,
    density: Literal["uniform", "gaussian"] = "uniform",
    seed: int | torch.Generator = 0,
) -> Tensor:
    """Return a mask (H, W) of whole columns: a full band in the middle and random columns outside it.

    Exactly ``round(W / acceleration)`` columns are measured, ``round(W * centre_fraction)`` of them in the
    band around the zero frequency (column W // 2).

    Args:
        shape: (H, W) of the k-space.
        acceleration: full columns over measured columns, the band included.
        centre_fraction: width of the band over W.
        density: of the other columns: ``"uniform"`` as in fastMRI (Zbontar et al. 2018), or ``"gaussian"``,
            denser towards the centre.
        seed: number or generator; the same number gives the same mask.

    Raises:
        ValueError: fewer columns to measure than the band has, or an argument out of range.
    """
    height, width = shape
    if not 1 <= acceleration <= width:
        raise ValueError(f"acceleration must lie between 1 and the {width} columns, got {acceleration}")
    if not 0 <= centre_fraction <= 1:
        raise ValueError(f"centre_fraction must lie between 0 and 1, got {centre_fraction}")
    if density not in ("uniform", "gaussian"):
        raise ValueError(f"density must be 'uniform' or 'gaussian', got {density!r}")
    measured, band = round(width / acceleration), round(width * centre_fraction)
    if band > measured:
        raise ValueError(
            f"the fully sampled centre has {band} columns, but acceleration {acceleration} leaves "
            f"{measured} of {width}: lower the acceleration or centre_fraction"
        )
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    distance = (torch.arange(width) - width // 2).abs()
    weights = torch.ones(width)
    if density == "gaussian":
        # far columns stay possible, so that any acceleration can be reached
        weights = torch.exp(-0.5 * (distance / (_GAUSSIAN_WIDTH * width)) ** 2).clamp_min(1e-3)
    start = width // 2 - band // 2
    columns = torch.zeros(width)
    columns[start : start + band] = 1
    weights[start : start + band] = 0
    if measured > band:
        columns[torch.multinomial(weights, measured - band, generator=generator)] = 1
    return columns.expand(height, width).clone()
