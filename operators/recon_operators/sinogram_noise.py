"""The noise level of a sinogram, estimated from itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ORDER = 8
_TILE = (8, 32)  # views, detector elements
_CLIP = 5.0
_MEDIAN_OF_NORMAL = 0.6744897501960817  # median of |n| for n ~ N(0, 1)
_FEWEST = 16


def sinogram_noise(sinograms: Tensor) -> Tensor:
    """Root mean square over each sinogram of the standard deviation of its noise.

    Behind thick parts few photons arrive and the noise of the line integrals is many times that of air, so
    the mean square is asked for (it is what a residual's norm is compared with), which a median over the
    sinogram misses by a factor. Eighth differences along the detector, scaled to keep the variance of white
    noise, suppress the projected object far better than second ones; what isolated bad samples and metal
    edges leave is clipped at five local deviations (median absolute deviation in tiles of 8 views by 32
    elements).

    The projected object itself has some power at the detector's highest frequencies, which sets a floor: on
    body scans, noise below about 0.3 % of the largest line integral is overestimated.

    Args:
        sinograms: ``(B, views, detectors)`` of line integrals, noise independent between elements.

    Returns:
        ``(B,)``, in the unit of the data.

    Raises:
        ValueError: too few detector elements to tell the noise from the object.
    """
    views, detectors = sinograms.shape[1:]
    order = min(_ORDER, (detectors - 1) // 2 * 2)
    if order < 2 or views * (detectors - order) < _FEWEST:
        raise ValueError(
            f"the noise level cannot be estimated from {views} x {detectors} samples: "
            'give it, as in fidelity=("gaussian", {"noise_level": 0.01})'
        )
    size = detectors - order
    difference = sum(
        (-1) ** k * math.comb(order, k) * sinograms[..., k : k + size] for k in range(order + 1)
    ) / math.sqrt(math.comb(2 * order, order))
    limit = _CLIP / _MEDIAN_OF_NORMAL * _tile_medians(difference.abs())
    return difference.abs().minimum(limit).square().mean(dim=(1, 2)).sqrt()


def _tile_medians(values: Tensor) -> Tensor:
    """The median of each tile of ``(B, rows, columns)``, at every sample of the tile."""
    items, rows, columns = values.shape
    high, wide = min(_TILE[0], rows), min(_TILE[1], columns)
    down, across = -(-rows // high), -(-columns // wide)
    padded = torch.nn.functional.pad(
        values, (0, across * wide - columns, 0, down * high - rows), value=math.nan
    )
    tiles = padded.reshape(items, down, high, across, wide).transpose(2, 3).flatten(3)
    medians = tiles.nanmedian(dim=-1).values
    return medians.repeat_interleave(high, 1)[:, :rows].repeat_interleave(wide, 2)[..., :columns]
