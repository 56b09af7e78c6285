"""Data terms of transmission scans, where photons are counted: weighted least squares and the likelihood."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from recon.fidelity import Gaussian, laid_out, unfit
from recon.linear import Step

_LARGEST = 50.0
"""A line integral that no scan measures: of 1e21 photons one would be left."""
_LEAST_EXPECTED = 0.1
"""Counts below which an expected count divides no more: an iterate that is far off may expect none where some came."""


class PWLS(Gaussian):
    """Penalised weighted least squares: f(z; y) = 1/2 sum_j w_j (z_j - y_j)^2, w_j = N_j^2 / (N_j + e^2).

    y = -log(N / photons) are line integrals; N counts on a ray make their variance 1/w (Sauer and Bouman, IEEE
    Trans. Signal Process. 41, 1993).

    Args:
        photons: mean counts without an object in the way, > 0: a number, or one a detector element or ray (the
            flat field), broadcastable to the data.
        counts: N where they are known, of the data's shape; None takes photons exp(-y).
        electronic: standard deviation e of the detector's own noise [counts].
    """

    name = "pwls"

    def __init__(self, photons: Any, counts: Any = None, electronic: float = 0.0) -> None:
        super().__init__()
        self.photons: Tensor = torch.as_tensor(photons)
        self.counts: Tensor | None = None
        if found := _not_positive(self.photons):
            raise ValueError(f"photons, the mean counts without an object, must be > 0, got {found}")
        if counts is not None:
            self.counts = torch.as_tensor(counts)
            if found := unfit(self.counts):
                raise ValueError(f"the counts must be finite, real and >= 0, got {found}")
        self.electronic = float(electronic)
        if not 0 <= self.electronic < math.inf:
            raise ValueError(f"electronic, a standard deviation in counts, must be >= 0, got {electronic}")

    def parameters(self) -> dict[str, Any]:
        """What makes this term again."""
        return {"photons": self.photons, "counts": self.counts, "electronic": self.electronic}

    def for_items(self, y: Tensor, batch_shape: Sequence[int]) -> Self:
        """The same term with one batch axis; the noise level is 1, as weights are inverse variances.

        Raises:
            ValueError: photons or counts that do not fit the data, or data so large that no photon is left.
            TypeError: complex data.
        """
        if y.is_complex():
            raise TypeError(f"fidelity {self.name!r} is for line integrals, which are real, got {y.dtype}")
        if float(y.max()) > _LARGEST:
            raise ValueError(
                f"fidelity {self.name!r} takes line integrals, about 0 to 10, but the data reach {float(y.max()):g}: "
                "counts become line integrals by -log(counts / photons), or recon_operators.measured_ct.from_counts"
            )
        part = self._copy()
        part.photons = laid_out(self.photons, y, batch_shape, "photons")
        if self.counts is None:
            part.counts = part.photons * torch.exp(-y)
        else:
            part.counts = laid_out(self.counts, y, batch_shape, "counts").expand_as(y)
        part.weights = part.counts.square() / (part.counts + self.electronic**2).clamp_min(1e-30)
        if not bool((torch.isfinite(part.weights).flatten(1).all(1) & part.weights.flatten(1).any(1)).all()):
            raise ValueError(
                f"fidelity {self.name!r} finds no photon left on any ray, or infinitely many: the data must be line "
                f"integrals, about 0 to 10, and reach from {float(y.min()):g} to {float(y.max()):g}"
            )
        part.noise_level = torch.ones(len(y), device=y.device)
        return part

    def select(self, items: Tensor) -> Self:
        """The term for some items of a batch laid out by `for_items`."""
        part = self._copy()
        for name in ("photons", "counts", "weights"):  # one row serves all items where they share it
            values = getattr(self, name)
            setattr(part, name, values if len(values) == 1 else values[items])
        part.noise_level = None if self.noise_level is None else self.noise_level[items]
        return part

    def _copy(self) -> Self:
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        return part

    def __repr__(self) -> str:
        photons = (
            f"{float(self.photons):g}" if self.photons.numel() == 1 else f"of {tuple(self.photons.shape)}"
        )
        counts = "" if self.counts is None else f", counts of {tuple(self.counts.shape)}"
        electronic = f", electronic={self.electronic:g}" if self.electronic else ""
        return f"{type(self).__name__}(photons={photons}{counts}{electronic})"


class Poisson(PWLS):
    """The likelihood of counted photons: f(z; y) = sum_j b_j exp(-z_j) + N_j z_j - min, b = photons.

    The negative logarithm of the probability of N_j ~ Poisson(b_j exp(-z_j)), up to a constant that makes its
    minimum zero (Lange and Carson 1984); exact for rays that no photon passed, where line integrals do not
    exist. Convex in z. Algorithms that want a quadratic are given its expansion around the data, w_j = max(N_j, 1).

    Args:
        photons: as for `PWLS`.
        counts: N where they are known; None takes photons exp(-y).
    """

    name = "poisson"
    quadratic = False
    excess: Tensor

    def __init__(self, photons: Any, counts: Any = None) -> None:
        super().__init__(photons, counts)

    def parameters(self) -> dict[str, Any]:
        """What makes this term again."""
        return {"photons": self.photons, "counts": self.counts}

    def for_items(self, y: Tensor, batch_shape: Sequence[int]) -> Self:
        """As for `PWLS`."""
        part = super().for_items(y, batch_shape)
        assert part.counts is not None
        # the metric in which A x is split must see every ray, those that no photon passed too
        part.weights = part.counts.clamp_min(1.0)
        # counts as a function of the data, y being clipped where none was counted: N = photons exp(-y) + excess
        part.excess = part.counts - part.photons * torch.exp(-y)
        return part

    def select(self, items: Tensor) -> Self:
        """As for `PWLS`."""
        part = super().select(items)
        part.excess = self.excess[items]
        return part

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        """f of each item, ``(B,)``."""
        counted = self._counted(y)
        ratio = self.photons / counted.clamp_min(1e-30)
        least = torch.where(counted > 0, counted + counted * torch.log(ratio), 0)
        return (self.photons * torch.exp(-z) + counted * z - least).flatten(1).sum(1)

    def residual(self, z: Tensor, y: Tensor) -> Tensor:
        """sqrt(sum_j (N_j - m_j)^2 / max(m_j, 0.1)), m = b exp(-z): Pearson's statistic where 0.1 counts are expected.

        There noise makes it 1 a ray, squared and in the mean, at any count; below, 10 m_j: next to nothing, as such
        rays tell next to nothing. Of the logarithm of few counts noise makes more or less: rays that no photon passed
        stand out. Images that are far off, z below -44 in float32, count as if they ended there.
        """
        farthest = 0.5 * math.log(torch.finfo(z.dtype).max)  # the sum of what is expected must stay finite
        expected = self.photons * torch.exp((-z).clamp_max(farthest))
        deviations = (self._counted(y) - expected) / expected.clamp_min(_LEAST_EXPECTED).sqrt()
        squares = deviations.square()
        return squares.flatten(1).sum(1).sqrt()

    def gradient(self, z: Tensor, y: Tensor) -> Tensor:
        """Gradient in z: N - b exp(-z)."""
        return self._counted(y) - self.photons * torch.exp(-z)

    def prox(self, z: Tensor, y: Tensor, step: Step) -> Tensor:
        """argmin_u step f(u; y) + 1/2 |u - z|^2 = a + W(step b exp(-a)), a = z - step N.

        W is Lambert's function, w exp(w) = its argument, found by Newton's method on w + log w. Where a and W are
        large and cancel, two Newton steps in u itself bring the lost digits back.
        """
        counted = self._counted(y)
        a = z - step * counted
        u = a + lambert_of_exp(torch.log(step * self.photons) - a)
        for _ in range(2):
            expected = self.photons * torch.exp(-u)
            u = u - (step * (counted - expected) + u - z) / (step * expected + 1)
        return u

    def _counted(self, y: Tensor) -> Tensor:
        return (self.photons * torch.exp(-y) + self.excess).clamp_min(0)


def lambert_of_exp(exponent: Tensor) -> Tensor:
    """w > 0 with w + log w = exponent, which is Lambert's W(exp(exponent)) without overflow."""
    low, high = exponent.clamp_max(1).exp().log1p(), exponent.clamp_min(1)
    w = torch.where(exponent > 1, high - torch.log(high), low)
    tiny = torch.finfo(w.dtype).tiny
    for _ in range(5):  # convergence is quadratic from an error below a third: double precision is reached
        w = w * (1 + exponent - torch.log(w.clamp_min(tiny))) / (1 + w)
    return w


def _not_positive(values: Tensor) -> str:
    return unfit(values) or ("a minimum of 0" if bool((values <= 0).any()) else "")
