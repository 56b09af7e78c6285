"""Filtered back-projection for parallel beam: ramp filter, windows, weights of unequally spaced views."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon.linear import LinearOperator
from recon_operators.scan_geometry import ParallelGeometry
from recon_operators.sparse_projector import sparse_projector

# Windows on the relative frequency nu in [0, 1], 1 at the cut-off.
WINDOWS: dict[str, Callable[[Tensor], Tensor]] = {
    "ram-lak": torch.ones_like,
    "shepp-logan": lambda nu: torch.sinc(nu / 2),
    "cosine": lambda nu: torch.cos(math.pi / 2 * nu),
    "hamming": lambda nu: 0.54 + 0.46 * torch.cos(math.pi * nu),
    "hann": lambda nu: 0.5 + 0.5 * torch.cos(math.pi * nu),
}

_WEDGE = 4.0  # a gap this many times wider than every other one holds no views by design, not by chance


def weighted_views(
    sinograms: Tensor,
    geometry: ParallelGeometry,
    filter: str = "ram-lak",  # noqa: A002
    cutoff: float = 1.0,
) -> Tensor:
    """What the inversion of the Radon transform back-projects: filtered views times their share of the angles.

        f(x) = integral over theta in [0, pi) of (p_theta * h)(x . u_theta)

    with the ramp h sampled in space (Kak and Slaney 1988, section 3.3), which keeps the mean right where a ramp
    sampled in frequency would not.

    Args:
        sinograms: line integrals ``(B, views, detectors)``, float32 or float64.
        geometry: the scan.
        filter: one of `WINDOWS`.
        cutoff: where the window ends, as a fraction of the detector's Nyquist frequency; a detector finer
            than the pixels gains from less than 1.
    """
    filtered = filter_views(sinograms, geometry.detector_size, filter, cutoff)
    weights = torch.as_tensor(view_weights(geometry.angles), dtype=filtered.dtype, device=filtered.device)
    return filtered * weights[:, None]


class ViewInterpolation(LinearOperator):
    """Its adjoint adds up the views, each interpolated linearly at the pixels' middles.

    The projector's own adjoint in this place leaves ripples of 3 % on a flat disc, because its footprints of one
    pixel do not add up to one between the detector elements; these weights do.
    """

    domain = "real"
    nonnegative = True
    flatten_batch = True

    def __init__(self, geometry: ParallelGeometry) -> None:
        super().__init__(geometry.shape, (geometry.views, geometry.detectors))
        self.geometry = dataclasses.replace(geometry, weights="interpolation")

    def _forward(self, x: Tensor) -> Tensor:
        return sparse_projector(self.geometry, x.dtype, x.device).forward(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return sparse_projector(self.geometry, y.dtype, y.device).adjoint(y)


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
