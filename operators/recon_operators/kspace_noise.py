"""The noise level of k-space samples, from where the image is weakest: far from the centre, and beside the object."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_SHARE, _LEAST = 0.05, 256
"""The share of the samples, and their least number, that tells the noise level."""

_FEWEST = 96
"""Samples beside an object, at least, that tell the noise level."""

_MARGIN = 6
"""Points beyond the image that the window smears it over."""


def outermost(distance: Tensor, samples: int) -> Tensor:
    """Indices of the outermost of ``samples`` measured points.

    Args:
        distance: of each point from the centre, relative to the grid's sides; negative where none is measured.
        samples: how many are measured.
    """
    return distance.topk(min(samples, max(_LEAST, round(_SHARE * samples)))).indices


def noise_power(samples: Tensor) -> Tensor:
    """Variance of the real and of the imaginary part of complex Gaussian noise along the last axis.

    The median of its |k|^2 is 2 ln 2 times the variance; it ignores the few samples that edges make large.
    """
    power: Tensor = samples.abs().square().median(dim=-1).values / (2 * math.log(2))
    return power


def noise_beside_the_object(kspace: Tensor, mask: Tensor, axes: Sequence[int]) -> tuple[Tensor, int] | None:
    """Standard deviation of the noise where along a fully sampled axis there is least signal, and how many samples.

    Transformed along such an axis, every measured line shows the object's extent, and air beside it, however few lines
    there are and however sharp the object is; a window keeps its edges out. Where the least power of a sixteenth of
    the positions lies is asked of every other line, and what it is of the lines between, and the other way round:
    the least of many would be too low. Where the object fills the axis, the level is too high; a receiver whose filter
    falls off at the rim of the axis makes it too low.

    Args:
        kspace: ``(B, C, *shape)``, centred.
        mask: 1 where measured, ``shape``.
        axes: fully sampled axes, counted from the end.

    Returns:
        ``(B,)``, the lowest of the axes, and the number of samples; None where there are too few.
    """
    found = []
    for axis in axes:
        side = kspace.shape[axis]
        width = max(8, side // 16)
        measured = torch.nonzero(mask.movedim(axis, -1)[..., 0].flatten() > 0).squeeze(1)
        count = len(measured) * kspace.shape[1] * width
        if side < 2 * width or len(measured) < 2 or count < _FEWEST:
            continue
        lines = _windowed(kspace, axis).movedim(axis, -1).flatten(2, -2)[:, :, measured].abs().square() / 2
        halves = [lines[:, :, first::2].mean((1, 2)) for first in (0, 1)]
        # air at both ends of the axis lies together
        runs = [torch.cat([half, half[:, : width - 1]], 1).unfold(1, width, 1).mean(-1) for half in halves]
        least = [run.argmin(1, keepdim=True) for run in runs]
        power = (runs[0].gather(1, least[1]) + runs[1].gather(1, least[0])) / 2
        found.append((power.squeeze(1).sqrt(), count))
    if not found:
        return None
    return torch.stack([level for level, _ in found]).amin(0), min(count for _, count in found)


def noise_beside_the_image(kspace: Tensor, steps: Tensor) -> tuple[Tensor, int] | None:
    """Standard deviation of the noise outside the field of view along oversampled straight lines, and how many samples.

    Samples dk apart along a line see a field of view of 1/|dk|; what lies in it beyond the image is noise.

    Args:
        kspace: ``(B, C, lines, samples)``, of equal steps along each line.
        steps: dk of each line in cycles per field of view, ``(lines, axes)``.

    Returns:
        ``(B,)`` and the number of samples; None where lines are not oversampled enough.
    """
    samples = kspace.shape[-1]
    turns = torch.fft.fftfreq(samples, dtype=torch.float64, device=steps.device).abs()
    outside = turns > steps.abs().sum(-1, keepdim=True) / 2 + _MARGIN / samples
    count = int(outside.sum()) * kspace.shape[1]
    if count < _FEWEST:
        return None
    power = _windowed(kspace, -1).abs().square().sum(1)
    return ((power * outside.to(power)).sum((1, 2)) / (2 * count)).sqrt(), count


def lower(outer: Tensor, beside: tuple[Tensor, int] | None) -> Tensor:
    """The level of the outermost samples, or that beside the object where it is clearly lower.

    Both are too high where the object reaches them, and too low but by chance.
    """
    if beside is None:
        return outer
    level, count = beside
    level = level.to(outer)
    return torch.where(outer <= level * (1 + 2 / math.sqrt(count)), outer, level)


def _windowed(kspace: Tensor, axis: int) -> Tensor:
    """The transform along an axis under a squared Hann window, the power of white noise kept."""
    side = kspace.shape[axis]
    window = torch.hann_window(side, dtype=torch.float64, device=kspace.device).square()
    window = (window / window.square().mean().sqrt()).to(kspace.real.dtype)
    return torch.fft.ifft(kspace * window.reshape(-1, *(1,) * (-1 - axis)), dim=axis, norm="ortho")
