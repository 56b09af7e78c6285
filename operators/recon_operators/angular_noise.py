"""The noise level of parallel- and fan-beam scans from frequencies at which no object has any power."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from recon_operators.scan_geometry import FanGeometry, ScanGeometry

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


def noise_beside_the_fans_bow_tie(sinograms: Tensor, geometry: FanGeometry) -> tuple[Tensor, int] | None:
    """As `noise_beside_the_bow_tie`, of a fan beam over a whole turn.

    The ray at the fan angle gamma of the view at theta is the parallel ray at theta - gamma and s = R sin gamma. So the
    angular harmonic n of the views, times exp(i n gamma), is that of a parallel scan at s, in which an object within
    radius r has next to no power at frequencies below |n| / r. The sum over the elements counts each with the length
    of s that it stands for. Elements much wider than a pixel that sample a ray without averaging over their width, as
    simulated ones may, alias the object into the empty part.

    Args:
        sinograms: ``(B, views, detectors)``.
        geometry: of the scan.

    Returns:
        ``(B,)`` and the number of frequencies that a mean as good would need, or None where views are not equally
        spaced over a turn, or hardly any frequency is empty.
    """
    turns = _direction_of_turn(geometry)
    radius = geometry.pixel_size * math.hypot(*geometry.shape) / 2
    gamma = torch.from_numpy(geometry.fan_angles)
    s = geometry.source_origin * gamma.sin()
    if turns == 0 or not float(s[0]) < 0 < float(s[-1]):
        return None
    radius = min(radius, -float(s[0]), float(s[-1]))
    views = geometry.views
    harmonic = turns * torch.fft.fftfreq(views, 1 / views, dtype=torch.float64)
    step = 2 * math.pi / float(s[-1] - s[0])
    most = int((views / 2 - _MARGIN) / (step * radius))
    frequency = step * torch.arange(1, min(most, geometry.detectors // 2) + 1)
    empty = harmonic.abs().unsqueeze(1) > frequency * radius + _MARGIN
    if views % 2 == 0:
        empty[views // 2] = False  # either sign of the harmonic
    count = int(empty.sum())
    if count < _FEWEST:
        return None
    lengths = gamma.cos() ** 3
    waves = torch.exp(-1j * frequency.unsqueeze(1) * s) * lengths
    device = sinograms.device
    turned = torch.fft.fft(sinograms.double(), dim=1)
    turned = turned * torch.exp(1j * harmonic.unsqueeze(1) * gamma).to(device)
    power = (turned @ waves.mT.to(device))[:, empty.to(device)].abs().square()
    # the median of a squared magnitude is ln 2 of its mean; it ignores what the object leaves at the bow-tie's edge
    power = power.median(1).values / math.log(2)
    return (power / (views * lengths.square().sum().item())).sqrt().to(sinograms.dtype), count // 2


def _direction_of_turn(geometry: ScanGeometry) -> int:
    """1 or -1 where the views are equally spaced over 360 degrees, in order, and the turn closes; else 0."""
    steps = np.diff(np.asarray(geometry.angles))
    expected = 2 * math.pi / geometry.views
    if len(steps) == 0 or np.abs(np.abs(steps) - expected).max() >= 1e-3 * expected:
        return 0
    return int((steps > 0).all()) - int((steps < 0).all())


def lower_noise(differences: Tensor, found: tuple[Tensor, int] | None) -> Tensor:
    """The estimate by differences along the detector, or beside the bow-tie where that is clearly lower.

    Both are too large where the object reaches where they look, never too small but by chance; differences look at
    many more samples, so they are kept where the two agree to within two standard errors.

    Args:
        differences: what `recon_operators.sinogram_noise.sinogram_noise` found, ``(B,)``.
        found: beside the bow-tie, and the number of frequencies; None where there are none.
    """
    if found is None:
        return differences
    beside, count = found
    # half the frequencies may be the conjugates of the others
    return torch.where(differences <= beside * (1 + math.sqrt(2 / count)), differences, beside)
