"""Partial Fourier imaging: half of k-space and a little more, completed by conjugate symmetry.

k-space of a real image is conjugate symmetric, so half of it tells all. Images of a scanner have a phase, but
a smooth one: the middle of k-space, which is measured on both sides, gives it. Coils each have their own:
coil images are reconstructed one by one here, ``(*batch, C, H, W)`` being a batch, and combined afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recon_operators.arrays import ArrayLike, as_mask
from recon_operators.coils import check_whole
from recon_operators.mri import CartesianMRI, varying_axes


def low_resolution_phase(kspace: Tensor, mask: ArrayLike) -> Tensor:
    """The phase [rad] of the image of the symmetrically measured middle of k-space, tapered by a Hann window.

    Args:
        kspace: centred k-space (*batch, H, W) or (*batch, D, H, W), complex; ignored where not measured.
        mask: 0 or 1, (H, W) or (D, H, W), as `CartesianMRI.mask`: constant but for one axis.

    Returns:
        Angles of the shape of `kspace`.

    Raises:
        TypeError: real k-space.
        ValueError: a mask that varies along several axes, shapes that do not fit, NaN.
    """
    full, mask = _checked(kspace, mask)
    lines = _lines(mask)
    if lines is None:
        return full.adjoint(kspace).angle()
    taper = torch.hann_window(2 * lines.reach + 3, periodic=False, dtype=torch.float64)[1:-1]
    weights = torch.zeros(len(lines.measured), dtype=torch.float64)
    weights[lines.middle - lines.reach : lines.middle + lines.reach + 1] = taper
    return full.adjoint(_weighted(kspace, weights, lines.axis)).angle()


def homodyne(kspace: Tensor, mask: ArrayLike, phase: Tensor | None = None) -> Tensor:
    """Reconstruct from partial k-space by homodyne detection (Noll, Nishimura and Macovski 1991).

    Lines measured on one side alone count twice; over the symmetric middle the weight falls linearly from 2
    to 0, so that those of k and -k sum to 2. Of the image of the weighted k-space the part in phase is kept.
    Exact for a constant phase, else as good as the phase is smooth over a pixel of the middle's resolution.

    Args:
        kspace: centred k-space (*batch, H, W) or (*batch, D, H, W), complex; ignored where not measured.
        mask: 0 or 1, (H, W) or (D, H, W): all lines along one axis from one end to beyond the middle.
        phase: of the image or of every coil image [rad], as the last axes of `kspace`; None for
            `low_resolution_phase`.

    Returns:
        The complex image, of the shape of `kspace`: a signed real one times exp(i phase).

    Raises:
        TypeError: real k-space.
        ValueError: a mask with gaps or that varies along several axes, shapes that do not fit, NaN.

    IEEE Trans. Med. Imaging 10, 154-163.
    """
    full, mask = _checked(kspace, mask)
    phase = low_resolution_phase(kspace, mask) if phase is None else _checked_phase(phase, kspace)
    lines = _lines(mask)
    if lines is not None:
        kspace = _weighted(kspace, _homodyne_weights(lines), lines.axis)
    return _in_phase(full.adjoint(kspace), phase)


def pocs(kspace: Tensor, mask: ArrayLike, phase: Tensor | None = None, iterations: int = 20) -> Tensor:
    """Reconstruct from partial k-space by projections onto convex sets (Haacke, Lindskog and Lin 1991).

    In turn the image is projected onto those with the phase, and its k-space gets the measured samples back.
    Kept is the part in phase, which may be negative, where the paper takes the magnitude: that is the
    projection onto a convex set, and noise stays free of bias. Any mask will do if the phase is given.

    Args:
        kspace: centred k-space (*batch, H, W) or (*batch, D, H, W), complex; ignored where not measured.
        mask: 0 or 1, (H, W) or (D, H, W).
        phase: of the image or of every coil image [rad], as the last axes of `kspace`; None for
            `low_resolution_phase`.
        iterations: how many; with an estimated phase more than some tens gain nothing.

    Returns:
        The complex image, of the shape of `kspace`; its k-space agrees with all measured samples.

    Raises:
        TypeError: real k-space.
        ValueError: no iteration, shapes that do not fit, NaN; without a phase, a mask that varies along several axes.

    J. Magn. Reson. 92, 126-145.
    """
    check_whole(iterations, "iterations")
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    full, mask = _checked(kspace, mask)
    phase = low_resolution_phase(kspace, mask) if phase is None else _checked_phase(phase, kspace)
    measured = mask > 0
    kspace = kspace.where(measured, 0)
    image = full.adjoint(kspace)
    for _ in range(iterations):
        image = full.adjoint(kspace.where(measured, full(_in_phase(image, phase))))
    return image


class _Lines(NamedTuple):
    """The lines of k-space along the axis on which the mask depends, counted from the end of the shape."""

    axis: int
    measured: Tensor  # bool, one a line
    middle: int  # the zero frequency
    reach: int  # lines measured on both sides of it without a gap


def _lines(mask: Tensor) -> _Lines | None:
    """How k-space is measured along the one axis on which the mask depends; None if all is measured."""
    axes = varying_axes(mask)
    if not axes:
        return None
    if len(axes) > 1:
        raise ValueError(
            "the mask varies along several axes: conjugate symmetry is used along one here; give pocs a phase"
        )
    measured = mask.movedim(axes[0], 0).flatten(1)[:, 0] > 0
    middle = len(measured) // 2
    longest = min(middle, len(measured) - 1 - middle)
    reach = -1
    while reach < longest and bool(measured[middle - reach - 1] & measured[middle + reach + 1]):
        reach += 1
    if reach < 0:
        raise ValueError(f"line {middle}, the zero frequency, is not measured: there is no phase to estimate")
    return _Lines(axes[0], measured, middle, reach)


def _homodyne_weights(lines: _Lines) -> Tensor:
    found = torch.nonzero(lines.measured).squeeze(1)
    first, last = int(found[0]), int(found[-1])
    count = len(lines.measured)
    if len(found) != last - first + 1 or (first > 0 and last < count - 1):
        raise ValueError(
            "homodyne needs all lines from one end of k-space to beyond its middle: pocs, or recon.solve with "
            "KnownPhase, take other masks"
        )
    side = 1 if first > 0 else -1
    offsets = torch.arange(count, dtype=torch.float64) - lines.middle
    weights = (1 + side * offsets / (lines.reach + 1)).clamp(0, 2)
    if count % 2 == 0 and first == 0:
        weights[0] = 1  # the highest frequency of an even number of lines is its own mirror image
    return weights


def _weighted(kspace: Tensor, weights: Tensor, axis: int) -> Tensor:
    weights = weights.to(kspace.device, kspace.real.dtype).reshape(-1, *[1] * (-1 - axis))
    return kspace.where(weights > 0, 0) * weights


def _in_phase(image: Tensor, phase: Tensor) -> Tensor:
    factor = torch.polar(torch.ones_like(phase), phase).to(image.dtype)
    return factor * (image * factor.conj()).real


def _checked(kspace: Tensor, mask: ArrayLike) -> tuple[CartesianMRI, Tensor]:
    """The Fourier transform of the image's axes, and the mask beside k-space."""
    mask = as_mask(mask)
    if not isinstance(kspace, Tensor) or not kspace.is_complex():
        raise TypeError(
            f"kspace must be a complex torch tensor, got {getattr(kspace, 'dtype', type(kspace))}"
        )
    if mask.ndim not in (2, 3) or kspace.shape[-mask.ndim :] != mask.shape:
        raise ValueError(
            f"mask must be (H, W) or (D, H, W), the last axes of kspace {tuple(kspace.shape)}; "
            f"got {tuple(mask.shape)}"
        )
    if not bool(torch.isfinite(kspace).all()):
        raise ValueError("kspace holds NaN or infinite values: replace them first")
    return CartesianMRI(torch.ones_like(mask)).to(kspace.device), mask.to(kspace.device)


def _checked_phase(phase: Tensor, kspace: Tensor) -> Tensor:
    if not isinstance(phase, Tensor) or not phase.is_floating_point():
        raise TypeError("phase must be a torch tensor of real angles in radians: give .angle() of an image")
    if not phase.ndim or phase.shape != kspace.shape[-phase.ndim :]:
        raise ValueError(
            f"phase must have the last axes of kspace {tuple(kspace.shape)}, got {tuple(phase.shape)}"
        )
    return phase
