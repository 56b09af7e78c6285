"""Filtered back-projection for parallel and fan beam: ramp filter, windows, weights of rays and views."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from recon.linear import LinearOperator
from recon_operators.scan_geometry import FanGeometry, ParallelGeometry, ScanGeometry
from recon_operators.sparse_projector import (
    SparseProjector,
    build_projector,
    bytes_per_entry,
    estimated_bytes,
    sparse_projector,
)
from recon_operators.view_coverage import redundancy_weights, view_weights

# Windows on the relative frequency nu in [0, 1], 1 at the cut-off.
WINDOWS: dict[str, Callable[[Tensor], Tensor]] = {
    "ram-lak": torch.ones_like,
    "shepp-logan": lambda nu: torch.sinc(nu / 2),
    "cosine": lambda nu: torch.cos(math.pi / 2 * nu),
    "hamming": lambda nu: 0.54 + 0.46 * torch.cos(math.pi * nu),
    "hann": lambda nu: 0.5 + 0.5 * torch.cos(math.pi * nu),
}


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


def weighted_fan_views(
    sinograms: Tensor,
    geometry: FanGeometry,
    filter: str = "ram-lak",  # noqa: A002
    cutoff: float = 1.0,
) -> Tensor:
    """What fan-beam filtered back-projection adds up, each view times (source_origin / depth)^2 at a pixel.

        f(x) = integral over theta of (source_origin / depth)^2 ((weight * cos(gamma) * p_theta) * h)(u(x))

    on the detector scaled to the rotation axis (Kak and Slaney 1988, section 3.4.2), with the weights of
    `redundancy_weights` in place of 1/2. Exact for every fan angle as the sampling becomes fine.

    Args: as of `weighted_views`; the cut-off is relative to the detector's Nyquist frequency.
    """
    weights = redundancy_weights(geometry) * np.cos(geometry.fan_angles)
    weights *= view_weights(geometry.angles, 2 * math.pi)[:, None]
    weighted = sinograms * torch.as_tensor(weights, dtype=sinograms.dtype, device=sinograms.device)
    return filter_views(weighted, geometry.detector_size_at_axis, filter, cutoff)


def add_up_views(views: Tensor, geometry: ScanGeometry, most_bytes: int) -> Tensor:
    """Back-project ``(B, views, detectors)`` by `ViewInterpolation`.

    Its matrix is kept for the next call while it takes at most ``most_bytes``; else the views are added up in
    parts whose matrices are smaller and forgotten.
    """
    whole = ViewInterpolation(geometry)
    if estimated_bytes(whole.geometry) <= most_bytes:
        return whole.adjoint(views)
    size = 2 * whole.geometry.entries * bytes_per_entry(views.dtype)
    parts = min(geometry.views, -(-size // max(most_bytes, 1)))
    total = views.new_zeros(len(views), *geometry.shape)
    for part in np.array_split(np.arange(geometry.views), parts):
        angles = tuple(geometry.angles[view] for view in part)
        some = ViewInterpolation(dataclasses.replace(geometry, angles=angles), shared=False)
        total = total + some.adjoint(views[:, part[0] : part[-1] + 1])
    return total


class ViewInterpolation(LinearOperator):
    """Its adjoint adds up the views, each interpolated linearly at the pixels' middles.

    The projector's own adjoint in this place leaves ripples of 3 % on a flat disc, because its footprints of one
    pixel do not add up to one between the detector elements; these weights do.
    """

    domain = "real"
    nonnegative = True
    flatten_batch = True

    def __init__(self, geometry: ScanGeometry, *, shared: bool = True) -> None:
        """For a scan; its matrix is shared with equal scans and kept, or else built at every use."""
        super().__init__(geometry.shape, (geometry.views, geometry.detectors))
        self.geometry: ScanGeometry = dataclasses.replace(geometry, weights="interpolation")
        self.shared = shared

    def _forward(self, x: Tensor) -> Tensor:
        return self._projector(x).forward(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._projector(y).adjoint(y)

    def _projector(self, items: Tensor) -> SparseProjector:
        make = sparse_projector if self.shared else build_projector
        return make(self.geometry, items.dtype, items.device)


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
    length = fast_length(2 * detectors)
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


def fast_length(least: int) -> int:
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
