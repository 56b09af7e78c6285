"""Filtered back-projection for parallel beam: ramp filter, windows, weights of unequally spaced views."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon_operators.joseph import ParallelGeometry

# Windows on the relative frequency nu in [0, 1], 1 at the cut-off.
WINDOWS: dict[str, Callable[[Tensor], Tensor]] = {
    "ram-lak": torch.ones_like,
    "shepp-logan": lambda nu: torch.sinc(nu / 2),
    "cosine": lambda nu: torch.cos(math.pi / 2 * nu),
    "hamming": lambda nu: 0.54 + 0.46 * torch.cos(math.pi * nu),
    "hann": lambda nu: 0.5 + 0.5 * torch.cos(math.pi * nu),
}

_CHUNK = 2**22  # samples of one step of the back-projection: temporaries that stay in the cache
_WEDGE = 4.0  # a gap this many times wider than every other one holds no views by design, not by chance


def filtered_backprojection(
    sinograms: Tensor,
    geometry: ParallelGeometry,
    filter: str = "ram-lak",  # noqa: A002
    cutoff: float = 1.0,
) -> Tensor:
    """The image whose line integrals are ``sinograms``, by the inversion formula of the Radon transform.

        f(x) = integral over theta in [0, pi) of (p_theta * h)(x . u_theta)

    with the ramp h sampled in space (Kak and Slaney 1988, section 3.3), which keeps the mean right where a
    ramp sampled in frequency would not. The filtered views are interpolated linearly at the pixels' middles;
    the projector's adjoint in this place leaves ripples of 3 % on a flat disc, because its footprints of one
    pixel do not add up to one between the detector elements.

    Args:
        sinograms: line integrals ``(B, views, detectors)``, float32 or float64.
        geometry: the scan.
        filter: one of `WINDOWS`.
        cutoff: where the window ends, as a fraction of the detector's Nyquist frequency; a detector finer
            than the pixels gains from less than 1.

    Returns:
        Images ``(B, height, width)``, per mm. Differentiable with respect to the sinograms.
    """
    filtered = filter_views(sinograms, geometry.detector_size, filter, cutoff)
    weights = torch.as_tensor(view_weights(geometry.angles), dtype=filtered.dtype, device=filtered.device)
    return _interpolated_sum(filtered * weights[:, None], geometry)


def filter_views(sinograms: Tensor, spacing: float, filter: str = "ram-lak", cutoff: float = 1.0) -> Tensor:  # noqa: A002
    """Convolve the last axis with the windowed ramp, as if the data were zero beyond their ends.

    Args:
        sinograms: ``(..., views, detectors)``.
        spacing: distance of the samples [mm].
        filter: one of `WINDOWS`.
        cutoff: where the window ends, as a fraction of the Nyquist frequency.

    Returns:
        The shape of the data, in their unit per mm.
    """
    detectors = sinograms.shape[-1]
    length = _fast_length(2 * detectors)
    response = ramp_response(length, spacing, filter, cutoff).to(sinograms.device, sinograms.dtype)
    return torch.fft.irfft(torch.fft.rfft(sinograms, n=length) * response, n=length)[..., :detectors]


def ramp_response(length: int, spacing: float, filter: str = "ram-lak", cutoff: float = 1.0) -> Tensor:  # noqa: A002
    """Frequency response (float64) of the windowed ramp for `torch.fft.rfft` of ``length`` samples, per mm.

    Raises:
        ValueError: unknown filter, or a cut-off outside (0, 1].
    """
    if filter not in WINDOWS:
        raise ValueError(f"filter must be one of {', '.join(WINDOWS)}, got {filter!r}")
    if not 0 < cutoff <= 1:
        raise ValueError(f"cutoff must be a fraction of the Nyquist frequency in (0, 1], got {cutoff!r}")
    distance = torch.fft.fftfreq(length, 1 / length, dtype=torch.float64).abs().round()  # 1/length is inexact
    odd = distance % 2 == 1
    kernel = torch.zeros(length, dtype=torch.float64)
    kernel[odd] = -1 / (math.pi * distance[odd]) ** 2
    kernel[0] = 0.25
    relative = torch.fft.rfftfreq(length, dtype=torch.float64) * 2 / cutoff
    window = torch.where(relative <= 1 + 1e-12, WINDOWS[filter](relative.clamp(max=1.0)), 0.0)
    return torch.fft.rfft(kernel).real * window / spacing


def view_weights(angles: tuple[float, ...]) -> np.ndarray[Any, Any]:
    """The part of the half circle [radian] that each view stands for: half the way to its two neighbours.

    Views half a turn apart are the same view. Where one gap is more than four times wider than every other (a
    scan over less than half a circle), the views at its rim stand for no more than their inner half, twice.
    """
    theta = np.mod(np.asarray(angles, dtype=np.float64), np.pi)
    if theta.size == 1:
        return np.array([np.pi])
    order = np.argsort(theta, kind="stable")
    after = np.diff(theta[order], append=theta[order[0]] + np.pi)
    before = np.roll(after, 1)
    widest = int(np.argmax(after))
    others = np.delete(after, widest)
    if theta.size > 2 and after[widest] > _WEDGE * others.max():
        next_view = (widest + 1) % theta.size
        after[widest], before[next_view] = before[widest], after[next_view]
    weights = np.empty_like(theta)
    weights[order] = (before + after) / 2
    return weights


def _interpolated_sum(views: Tensor, geometry: ParallelGeometry) -> Tensor:
    """Sum over the views of their linear interpolation at each pixel's middle, zero off the detector."""
    height, width = geometry.shape
    theta = torch.as_tensor(geometry.angles, dtype=torch.float64)
    x = (torch.arange(width, dtype=torch.float64) - (width - 1) / 2) * geometry.pixel_size
    y = ((height - 1) / 2 - torch.arange(height, dtype=torch.float64)) * geometry.pixel_size
    # grid_sample counts from -1 to 1 between the middles of the first and the last sample; two zero samples
    # at each end let the detector's rim fade out over one element
    padded = torch.nn.functional.pad(views, (2, 2)).transpose(0, 1).unsqueeze(2)
    half = (geometry.detectors + 3) / 2 * geometry.detector_size
    across = ((torch.cos(theta)[:, None] * x - geometry.detector_offset) / half).to(views)
    along = (torch.sin(theta)[:, None] * y / half).to(views)
    image = views.new_zeros(views.shape[0], height * width)
    step = max(1, _CHUNK // (height * width * (views.shape[0] + 2)))
    for first in range(0, geometry.views, step):
        some = slice(first, first + step)
        position = (along[some, :, None] + across[some, None, :]).flatten(1)[:, None, :]
        grid = torch.stack([position, torch.zeros_like(position)], dim=-1)
        image = image + torch.nn.functional.grid_sample(padded[some], grid, align_corners=True).sum(0)[:, 0]
    return image.reshape(-1, height, width)


def _fast_length(least: int) -> int:
    """The smallest even length from ``least`` on whose only prime factors are 2, 3 and 5."""
    length = least + least % 2
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 2
