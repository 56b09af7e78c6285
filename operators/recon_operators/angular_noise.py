"""The noise level of a parallel-beam scan from frequencies at which no object has any power."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from recon_operators.scan_geometry import ScanGeometry

_MARGIN = 4  # harmonics beyond the bow-tie's edge, over which it fades
_FEWEST = 48


def noise_beside_the_bow_tie(sinograms: Tensor, geometry: ScanGeometry) -> tuple[Tensor, int] | None:
    """Root mean square of the noise, from the empty part of the sinogram's spectrum, and how many frequencies it has.

    At angular harmonic n and detector frequency k the sinogram of an object within radius R has next to no power
    where |n| > |k| R (Rattey and Lindgren, IEEE Trans. Acoust. Speech Signal Process. 29, 1981): what is there is
    noise. Noise that is independent between samples has the same expected power at every frequency, its mean
    variance, however uneven it is. Half a turn becomes a whole one as each view is the mirror image of the opposite.

    Args:
        sinograms: ``(B, views, detectors)``.
        geometry: of the scan.

    Returns:
        ``(B,)`` and the number of frequencies, or None where views are not equally spaced over half a turn, the
        detector is not in the middle, or hardly any frequency is empty.
    """
    if not _is_half_turn(geometry) or abs(geometry.detector_offset) > 1e-6 * geometry.detector_size:
        return None
    views, detectors = geometry.views, geometry.detectors
    harmonic = torch.fft.fftfreq(2 * views, 1 / (2 * views)).abs().unsqueeze(1)
    width = detectors * geometry.detector_size
    frequency = 2 * math.pi * torch.arange(detectors // 2 + 1) / width
    radius = min(geometry.pixel_size * math.hypot(*geometry.shape), width) / 2
    empty = (harmonic > frequency * radius + _MARGIN) & (frequency > 0)
    if detectors % 2 == 0:
        empty[:, -1] = False  # real, as the zero frequency is: its power is another
    count = int(empty.sum())
    if count < _FEWEST:
        return None
    turn = torch.cat([sinograms, sinograms.flip(-1)], 1).double()
    spectrum = torch.fft.fft(torch.fft.rfft(turn, dim=2), dim=1)
    power = spectrum[:, empty.to(spectrum.device)].abs().square() / (2 * views * detectors)
    return power.mean(1).sqrt().to(sinograms.dtype), count


def _is_half_turn(geometry: ScanGeometry) -> bool:
    """Whether the views are equally spaced over 180 degrees, in order, and the half turn closes."""
    steps = np.diff(np.asarray(geometry.angles))
    expected = math.pi / geometry.views
    return bool(
        len(steps) > 0
        and np.abs(np.abs(steps) - expected).max() < 1e-3 * expected
        and ((steps > 0).all() or (steps < 0).all())
    )


def parallel_noise(sinograms: Tensor, differences: Tensor, geometry: ScanGeometry) -> Tensor:
    """The estimate by differences along the detector, or beside the bow-tie where that is clearly lower.

    Both are too large where the object reaches where they look, never too small but by chance; differences look at
    many more samples, so they are kept where the two agree to within two standard errors.

    Args:
        sinograms: ``(B, views, detectors)``.
        differences: what `recon_operators.sinogram_noise.sinogram_noise` found, ``(B,)``.
        geometry: of the scan.
    """
    found = noise_beside_the_bow_tie(sinograms, geometry)
    if found is None:
        return differences
    beside, count = found
    # half the frequencies are the conjugates of the others
    return torch.where(differences <= beside * (1 + math.sqrt(2 / count)), differences, beside)
