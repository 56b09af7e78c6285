"""The noise level of k-space samples, from those farthest from the centre, where the image is weakest."""

from __future__ import annotations

import math

from torch import Tensor

_SHARE, _LEAST = 0.05, 256
"""The share of the samples, and their least number, that tells the noise level."""


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
