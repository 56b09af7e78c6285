"""Coil sensitivities estimated from measured data: ESPIRiT and the adaptive combination of Walsh."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recon_operators.coils import check_coils, check_whole, principal_coils

_MATRICES_AT_ONCE = 2**21
"""Entries of the pixelwise matrices that are held at a time."""


def espirit(
    kspace: Tensor,
    calibration: int = 24,
    kernel: int = 6,
    threshold: float = 0.02,
    crop: float = 0.9,
) -> Tensor:
    """Estimate coil maps from the fully sampled centre of k-space: eigenvalue ESPIRiT, one set of maps.

    Uecker et al., Magn. Reson. Med. 71, 2014. Every kernel x kernel patch of multi-coil k-space lies in a
    small subspace V, found in the calibration region. That the whole k-space obeys this is, pixel by pixel, a
    (C, C) matrix with S(r) as its eigenvector of eigenvalue 1 wherever there is signal.

    Phase: maps are known up to a phase a pixel. Here it makes the first virtual coil, the combination of coils
    that holds most of the calibration data's energy, real and positive; it has no zero inside most objects,
    as a single coil has.

    Args:
        kspace: centred k-space (*batch, C, H, W), complex; zero where not measured.
        calibration: side of the fully sampled square in the middle [samples].
        kernel: side of the patches [samples].
        threshold: singular values of the calibration matrix below this share of the largest are noise.
        crop: maps are zero where the eigenvalue is below this; 0 keeps all.

    Returns:
        Maps (*batch, C, H, W) with sum_c |S_c|^2 = 1 inside the object and 0 outside.

    Raises:
        TypeError: real data.
        ValueError: a calibration region that is not fully sampled or does not fit, options out of range.
    """
    if not 0 <= crop < 1:
        raise ValueError(f"crop must lie between 0 and 1, got {crop}: 0 keeps every pixel")
    values, vectors = espirit_eigen(kspace, calibration, kernel, threshold)
    return vectors * (values > crop).unsqueeze(-3)


def espirit_eigen(
    kspace: Tensor, calibration: int = 24, kernel: int = 6, threshold: float = 0.02
) -> tuple[Tensor, Tensor]:
    """The largest eigenvalue (*batch, H, W) and its eigenvector (*batch, C, H, W) of ESPIRiT at every pixel.

    The eigenvalue is near 1 where the coils see an object that one set of maps explains, lower in the
    background, and between the two where the object is folded onto itself. Arguments as in `espirit`.
    """
    centre = _calibration_region(kspace, calibration, kernel)
    batch, (height, width) = kspace.shape[:-3], kspace.shape[-2:]
    centre = centre.reshape(-1, *centre.shape[-3:])
    weights = _kernel_weights(_signal_projection(centre, kernel, threshold), centre.shape[1], kernel)
    values, vectors = _leading_eigenvectors(weights, height, width, kernel)
    vectors = _referenced(vectors, principal_coils(centre)[..., :1])
    return values.reshape(*batch, height, width), vectors.reshape(*batch, -1, height, width)


def walsh(images: Tensor, window: int = 7) -> Tensor:
    """Estimate coil maps from coil images: the adaptive combination of Walsh.

    Walsh, Gmitro and Marcellin, Magn. Reson. Med. 43, 2000: at every pixel the leading eigenvector of the
    coils' covariance in a window around it, beyond the border of the image only what lies inside. For
    undersampled data the images are those of the fully sampled centre: `calibration_images`.

    Args:
        images: coil images (*batch, C, H, W), complex.
        window: side of the window [pixels], odd.

    Returns:
        Maps (*batch, C, H, W) with sum_c |S_c|^2 = 1 everywhere, the background too; phase as in `espirit`,
        with the first virtual coil of the images.
    """
    check_coils(images, "images")
    check_whole(window, "window")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be an odd number of pixels, got {window}")
    coils, height, width = images.shape[-3:]
    flat = images.reshape(-1, coils, height, width)
    vectors = torch.empty_like(flat)
    rows = max(1, _MATRICES_AT_ONCE // (coils**2 * width))
    reach = window // 2
    for item, found in zip(flat, vectors, strict=True):
        for start in range(0, height, rows):
            stop = min(start + rows, height)
            first = max(start - reach, 0)
            part = item[:, first : stop + reach]
            products = part.unsqueeze(1) * part.conj().unsqueeze(0)
            means = torch.complex(_window_means(products.real, window), _window_means(products.imag, window))
            matrices = means[..., start - first : stop - first, :].permute(2, 3, 0, 1)
            leading = torch.linalg.eigh(matrices).eigenvectors[..., -1]
            found[:, start:stop] = leading.permute(2, 0, 1)
    return _referenced(vectors, principal_coils(flat)[..., :1]).reshape(images.shape)


def calibration_images(kspace: Tensor, calibration: int = 24) -> Tensor:
    """Coil images (*batch, C, H, W) of low resolution, from the fully sampled centre of k-space alone.

    The centre is tapered by a Hann window, which keeps the ringing of its cut edges out of the images.

    Raises:
        ValueError: a calibration region that is not fully sampled or does not fit.
    """
    centre = _calibration_region(kspace, calibration, kernel=1)
    taper = torch.hann_window(calibration + 2, periodic=False, dtype=centre.real.dtype, device=centre.device)
    taper = taper[1:-1]
    low = torch.zeros_like(kspace)
    low[(..., *_middle(kspace.shape[-2:], calibration))] = centre * taper * taper.unsqueeze(-1)
    axes = (-2, -1)
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(low, axes), norm="ortho"), axes)


def _calibration_region(kspace: Tensor, calibration: int, kernel: int) -> Tensor:
    """The fully sampled square (*batch, C, calibration, calibration) in the middle, checked."""
    check_coils(kspace, "kspace")
    check_whole(calibration, "calibration")
    check_whole(kernel, "kernel")
    shortest = min(kspace.shape[-2:])
    if not 1 <= calibration <= shortest:
        raise ValueError(
            f"calibration must lie between 1 and the shorter side of k-space, {shortest}; got {calibration}"
        )
    if not 1 <= kernel <= calibration:
        raise ValueError(f"kernel must lie between 1 and calibration={calibration}, got {kernel}")
    measured = (kspace != 0).any(-3).reshape(-1, *kspace.shape[-2:]).all(0)
    if not bool(measured[_middle(measured.shape, calibration)].all()):
        fits = (side for side in range(calibration, 0, -1) if measured[_middle(measured.shape, side)].all())
        raise ValueError(
            f"the middle {calibration} x {calibration} samples of k-space are not all measured; the largest "
            f"square that is has a side of {next(fits, 0)}: give calibration=..., or measure a full centre"
        )
    return kspace[(..., *_middle(kspace.shape[-2:], calibration))]


def _middle(shape: torch.Size, side: int) -> tuple[slice, slice]:
    height, width = (total // 2 - side // 2 for total in shape)
    return slice(height, height + side), slice(width, width + side)


def _signal_projection(centre: Tensor, kernel: int, threshold: float) -> Tensor:
    """The projection P (B, C k k, C k k) onto the subspace of the patches of the calibration region."""
    if not 0 < threshold < 1:
        raise ValueError(
            f"threshold is a share of the largest singular value, between 0 and 1; got {threshold}"
        )
    patches = centre.unfold(-2, kernel, 1).unfold(-2, kernel, 1)  # (B, C, rows, columns, k, k)
    patches = patches.permute(0, 1, 4, 5, 2, 3).flatten(4).flatten(1, 3)
    energies, vectors = torch.linalg.eigh(patches @ patches.mH)
    kept = energies > threshold**2 * energies[:, -1:]
    return (vectors * kept.unsqueeze(-2)) @ vectors.mH


def _kernel_weights(projection: Tensor, coils: int, kernel: int) -> Tensor:
    """The weights g (B, 2k-1, 2k-1, C, C) of the convolution that projects every patch and averages.

    (g * y)_c(q) = 1/k^2 sum_p [P R_(q-p) y]_(c, p), with R_m the patch at m; so g_cc'(d) is the sum of
    P_(c, p)(c', p') over p - p' = d.
    """
    blocks = projection.reshape(-1, coils, kernel, kernel, coils, kernel, kernel)
    weights = projection.new_zeros(projection.shape[0], 2 * kernel - 1, 2 * kernel - 1, coils, coils)
    for row in range(kernel):
        for column in range(kernel):  # p' = (row, column), and p - p' runs over a k x k square
            offsets = (
                slice(kernel - 1 - row, 2 * kernel - 1 - row),
                slice(kernel - 1 - column, 2 * kernel - 1 - column),
            )
            weights[(slice(None), *offsets)] += blocks[..., row, column].permute(0, 2, 3, 1, 4)
    return weights / kernel**2


def _leading_eigenvectors(weights: Tensor, height: int, width: int, kernel: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalue and its eigenvector of G(r) = sum_d g(d) exp(2 pi i d r / N) at every pixel."""
    items, coils = weights.shape[0], weights.shape[-1]
    down, across = (_fourier_factors(side, kernel).to(weights) for side in (height, width))
    partial = torch.einsum("xa,nyaij->nxyij", across, weights)
    values = torch.empty(items, height, width, dtype=weights.real.dtype, device=weights.device)
    vectors = torch.empty(items, coils, height, width, dtype=weights.dtype, device=weights.device)
    rows = max(1, _MATRICES_AT_ONCE // (items * coils**2 * width))
    for start in range(0, height, rows):
        chunk = slice(start, min(start + rows, height))
        found = torch.linalg.eigh(torch.einsum("hb,nxbij->nhxij", down[chunk], partial))
        values[:, chunk] = found.eigenvalues[..., -1]
        vectors[:, :, chunk] = found.eigenvectors[..., -1].permute(0, 3, 1, 2)
    return values, vectors


def _fourier_factors(side: int, kernel: int) -> Tensor:
    """exp(2 pi i d r / N) for the centred positions r and the offsets d of a kernel: (N, 2k-1)."""
    positions = torch.arange(side, dtype=torch.float64) - side // 2
    offsets = torch.arange(1 - kernel, kernel, dtype=torch.float64)
    return torch.exp(2j * math.pi * positions.unsqueeze(-1) * offsets / side)


def _referenced(maps: Tensor, virtual_coil: Tensor) -> Tensor:
    """The maps (B, C, H, W), turned at every pixel to make a combination of coils (B, C, 1) real, positive."""
    seen = torch.einsum("bcv,bchw->bvhw", virtual_coil.conj(), maps)
    return maps * torch.polar(torch.ones_like(seen.real), -seen.angle())


def _window_means(values: Tensor, window: int) -> Tensor:
    """Means over a window x window neighbourhood of the last two axes of (C, C, H, W), zero outside."""
    return torch.nn.functional.avg_pool2d(values, window, stride=1, padding=window // 2)
