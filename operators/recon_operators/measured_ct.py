"""From a CT detector's counts to line integrals: flat field, rotation axis, beam hardening, rings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

COARSE = 160  # elements of the detector on which the rotation axis is looked for first


class LineIntegrals(NamedTuple):
    """Line integrals of the attenuation, without a unit, and where they are only a lower bound.

    Attributes:
        values: -log of the transmission, of the shape of the counts.
        clipped: bool, where so few photons came through that the counts were raised to `least`.
    """

    values: Tensor
    clipped: Tensor


def from_counts(
    counts: Tensor, flat: Tensor, dark: Tensor | None = None, *, least: float = 0.5
) -> LineIntegrals:
    """Line integrals -log((counts - dark) / (flat - dark)) of a transmission measurement.

    Args:
        counts: `(views, ..., detectors)`, what the detector read.
        flat: the same without an object, `(..., detectors)`, or several `(n, ..., detectors)`, which are averaged.
        dark: the same without a beam; None if the counts are free of it.
        least: counts above dark that a reading is raised to, so that its logarithm exists [counts].

    Raises:
        ValueError: shapes that do not fit, NaN, or a detector element whose flat is not above its dark.
    """
    if counts.ndim < 2 or not 0 < least < math.inf:
        raise ValueError(
            f"counts are (views, ..., detectors) and least > 0; got {tuple(counts.shape)}, {least}"
        )
    counts = counts if counts.is_floating_point() else counts.to(torch.float32)
    offset = torch.zeros_like(counts[0]) if dark is None else _mean(dark, counts, "dark")
    beam = _mean(flat, counts, "flat") - offset
    dead = ~(beam > 0)
    if dead.any():
        raise ValueError(
            f"flat is not above dark in {int(dead.sum())} of {dead.numel()} detector elements, the first at "
            f"{tuple(dead.nonzero()[0].tolist())}: dead elements, or flat and dark mixed up"
        )
    if not counts.isfinite().all():
        raise ValueError(f"{int((~counts.isfinite()).sum())} counts are NaN or infinite")
    signal = counts - offset
    clipped = signal < least
    return LineIntegrals(-(signal.clamp_min(least) / beam).log(), clipped)


def _mean(reading: Tensor, counts: Tensor, name: str) -> Tensor:
    """The mean of the readings, of the shape of one view."""
    reading = reading.to(counts)
    mean = reading.mean(0) if reading.ndim == counts.ndim else reading
    if mean.shape != counts.shape[1:]:
        raise ValueError(
            f"{name} of shape {tuple(reading.shape)} does not fit counts {tuple(counts.shape)}: expected "
            f"{tuple(counts.shape[1:])}, or several of them"
        )
    return mean


def rotation_centre(sinogram: Tensor, *, within: tuple[float, float] | None = None) -> float:
    """The detector element, counted from 0 and not whole, onto which the rotation axis falls.

    Of a parallel scan over 180 degrees: the sinogram continued by its mirror image about the right place is one
    over 360 degrees, whose two-dimensional spectrum lies in a double wedge. The energy outside it is least there
    (Vo et al. 2014, doi:10.1364/OE.22.019078).

    Args:
        sinogram: `(views, detectors)` line integrals, views evenly spaced over 180 degrees.
        within: elements between which the axis is looked for; the middle half of the detector unless given.

    Raises:
        ValueError: no sinogram, or a range outside the detector.
    """
    if sinogram.ndim != 2 or min(sinogram.shape) < 8 or not sinogram.isfinite().all():
        raise ValueError(f"expected a finite sinogram (views, detectors), got shape {tuple(sinogram.shape)}")
    detectors = sinogram.shape[1]
    low, high = within if within is not None else (detectors / 4, 3 * detectors / 4)
    if not 0 <= low < high <= detectors - 1:
        raise ValueError(
            f"within must be two detector elements between 0 and {detectors - 1}, got {(low, high)}"
        )
    sinogram = sinogram.double()
    binned = max(1, detectors // COARSE)  # far from the right place, a coarse detector tells as much
    whole = sinogram[:, : detectors // binned * binned].reshape(sinogram.shape[0], -1, binned).mean(-1)
    best = _least(whole, ((low + 0.5) / binned - 0.5, (high + 0.5) / binned - 0.5), step=1.0)
    best = (best + 0.5) * binned - 0.5
    for reach, step in ((1.5 * binned, 1.0), (1.0, 0.25), (0.25, 0.05)):
        best = _least(sinogram, (max(best - reach, low), min(best + reach, high)), step)
    return float(best)


def _least(sinogram: Tensor, within: tuple[float, float], step: float) -> float:
    """The centre in a range for which the energy outside the wedge is least."""
    views, detectors = sinogram.shape
    outside = _outside_wedge(2 * views, detectors).to(sinogram.device)
    low, high = max(within[0], 0.0), min(within[1], detectors - 1.0)
    places = torch.arange(low, high + step / 2, step, dtype=torch.float64).tolist()
    return places[int(np.argmin([_energy_outside(sinogram, place, outside) for place in places]))]


def _outside_wedge(views: int, detectors: int) -> Tensor:
    """True where no object that fits on the detector has energy: |angular frequency| > radius |frequency|."""
    angular = torch.fft.fftfreq(views, 1 / views, dtype=torch.float64).abs()[:, None]
    radial = 2 * math.pi * torch.fft.rfftfreq(detectors, dtype=torch.float64)[None]
    return (angular > detectors / 2 * radial + 2) & (radial > 0)


def _energy_outside(sinogram: Tensor, centre: float, outside: Tensor) -> float:
    """Of the sinogram continued by its mirror image about `centre`."""
    detectors = sinogram.shape[1]
    partner = 2 * centre - torch.arange(detectors, dtype=sinogram.dtype, device=sinogram.device)
    left = partner.floor().clamp(0, detectors - 2).long()
    share = partner - left
    mirrored = (1 - share) * sinogram[:, left] + share * sinogram[:, left + 1]
    seen = (partner >= 0) & (partner <= detectors - 1)
    mirrored = torch.where(seen, mirrored, sinogram)  # what the detector did not see speaks for no centre
    spectrum = torch.fft.rfft2(torch.cat([sinogram, mirrored]))
    return float(spectrum.abs()[outside].mean())


def detector_offset(centre: float, detectors: int, detector_size: float) -> float:
    """The argument of that name of the CT operators [mm], for a rotation axis at element `centre`."""
    return ((detectors - 1) / 2 - centre) * detector_size


def fit_beam_hardening(measured: Tensor, expected: Tensor, degree: int = 3) -> Tensor:
    """Coefficients `(degree,)` of the polynomial without constant term that makes `measured` `expected`.

    From a calibration with objects of one material and known thickness: line integrals as measured with a
    spectrum, and attenuation at one energy times thickness (Herman 1979, doi:10.1088/0031-9155/24/1/008).

    Raises:
        ValueError: shapes that differ, too few values, or a polynomial that does not grow over the range.
    """
    if measured.shape != expected.shape or measured.numel() < degree or degree < 1:
        raise ValueError(
            f"need at least degree={degree} >= 1 pairs, got {tuple(measured.shape)} and {tuple(expected.shape)}"
        )
    powers = torch.arange(1, degree + 1, device=measured.device)
    matrix = measured.double().reshape(-1, 1) ** powers
    coefficients = torch.linalg.lstsq(matrix, expected.double().reshape(-1, 1)).solution[:, 0]
    _check_growing(coefficients, float(measured.max()))
    return coefficients.to(measured.dtype)


def correct_beam_hardening(sinogram: Tensor, coefficients: Sequence[float] | Tensor) -> Tensor:
    """Line integrals p as a_1 p + a_2 p^2 + ...: what one energy would have measured.

    Args:
        sinogram: line integrals of any shape.
        coefficients: a_1, a_2, ... (`fit_beam_hardening`).

    Raises:
        ValueError: no coefficients, or a polynomial that falls somewhere in the range of the sinogram.
    """
    weights = torch.as_tensor(coefficients, dtype=torch.float64)
    if weights.ndim != 1 or not len(weights) or not weights.isfinite().all():
        raise ValueError(f"coefficients are a_1, a_2, ..., got {coefficients}")
    _check_growing(weights, float(sinogram.max()))
    corrected = torch.zeros_like(sinogram)
    for weight in reversed(weights.tolist()):  # Horner
        corrected = (corrected + weight) * sinogram
    return corrected


def _check_growing(coefficients: Tensor, largest: float) -> None:
    place = torch.linspace(0, max(largest, 0.0), 200, dtype=torch.float64)
    slope = sum(
        (power + 1) * float(weight) * place**power for power, weight in enumerate(coefficients.tolist())
    )
    assert isinstance(slope, Tensor)
    if not (slope > 0).all():
        raise ValueError(
            f"the polynomial {coefficients.tolist()} falls between 0 and {largest:g}: two lengths would look "
            "alike; take a lower degree or calibrate over the whole range"
        )


def remove_rings(sinogram: Tensor, *, width: int = 5) -> Tensor:
    """Reduce the stripes of a sinogram that become rings in its image, with algotom's sorting method.

    (Vo et al. 2018, doi:10.1364/OE.26.028396.) It takes an element's readings, sorted, for like those of its
    neighbours, which blurs fine detail of the object a little: compare with and without.

    Args:
        sinogram: `(*batch, views, detectors)` line integrals.
        width: elements of the median filter across the stripes; more than twice the width of a stripe.

    Raises:
        ImportError: algotom is not installed.
        ValueError: no sinogram, or a width below 2.
    """
    try:
        from algotom.prep.removal import remove_stripe_based_sorting
    except ImportError as error:
        raise ImportError("remove_rings needs algotom: pip install 'recon[rings]'") from error
    if sinogram.ndim < 2 or width < 2:
        raise ValueError(
            f"expected a sinogram (*batch, views, detectors) and width >= 2, got {tuple(sinogram.shape)}, {width}"
        )
    planes = sinogram.detach().cpu().double().reshape(-1, *sinogram.shape[-2:]).numpy()
    cleaned = np.stack([remove_stripe_based_sorting(plane, size=width) for plane in planes])
    return torch.from_numpy(cleaned).to(sinogram).reshape(sinogram.shape)
