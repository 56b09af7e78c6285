"""The data term of emission scans (PET, SPECT, photon-limited images), where the data themselves are counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from recon.fidelity import Gaussian, laid_out, unfit
from recon.linear import Step


class Emission(Gaussian):
    """The likelihood of emission counts: f(z; y) = sum_j (z_j + r_j) - y_j + y_j log(y_j / (z_j + r_j)).

    The Kullback-Leibler divergence of the counts y_j ~ Poisson((A x)_j + r_j) from what is expected (Shepp and Vardi
    1982): the negative log-likelihood up to a constant that makes its minimum zero. Convex; infinite where z + r < 0,
    or = 0 with a count. Algorithms that want a quadratic are given its expansion around the data,
    w_j = 1 / max(y_j, 1).

    Args:
        background: r, mean counts that do not come from the image (randoms, scatter), >= 0: a number, or one a sample,
            broadcastable to the data.
    """

    name = "emission"
    quadratic = False
    smooth = False

    def __init__(self, background: Any = 0.0) -> None:
        super().__init__()
        self.background: Tensor = torch.as_tensor(background)
        if found := unfit(self.background):
            raise ValueError(f"the background must be finite, real and >= 0, got {found}")

    def parameters(self) -> dict[str, Any]:
        """What makes this term again."""
        return {"background": self.background}

    def for_items(self, y: Tensor, batch_shape: Sequence[int]) -> Self:
        """The same term with one batch axis; the noise level is 1, as weights are inverse variances.

        Raises:
            ValueError: a background that does not fit the data, data below zero, or an item without a count.
            TypeError: complex data.
        """
        if y.is_complex():
            raise TypeError(f"fidelity {self.name!r} is for counts, which are real, got {y.dtype}")
        if float(y.min()) < 0:
            raise ValueError(
                f"fidelity {self.name!r} takes counts, >= 0, but the data go down to {float(y.min()):g}"
            )
        if not bool((y > 0).flatten(1).any(1).all()):
            raise ValueError(
                f"fidelity {self.name!r} finds an item without a count: there is nothing to reconstruct"
            )
        part = self._copy()
        part.background = laid_out(self.background, y, batch_shape, "background")
        part.weights = 1 / y.clamp_min(1.0)
        part.noise_level = torch.ones(len(y), device=y.device)
        return part

    def select(self, items: Tensor) -> Self:
        """The term for some items of a batch laid out by `for_items`."""
        part = self._copy()
        part.background = self.background if len(self.background) == 1 else self.background[items]
        assert self.weights is not None and self.noise_level is not None
        part.weights, part.noise_level = self.weights[items], self.noise_level[items]
        return part

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        """f of each item, ``(B,)``."""
        y = y.clamp_min(0)
        expected = z + self.background
        possible = (expected > 0) | ((expected == 0) & (y == 0))
        ratio = torch.where(y > 0, y / expected.clamp_min(1e-30), 1)
        divergence = torch.where(possible, expected - y + y * torch.log(ratio), math.inf)
        return divergence.flatten(1).sum(1)

    def gradient(self, z: Tensor, y: Tensor) -> Tensor:
        """Gradient in z: 1 - y / (z + r)."""
        y = y.clamp_min(0)
        expected = z + self.background
        return 1 - torch.where(y > 0, y / expected.clamp_min(1e-30), 0)

    def prox(self, z: Tensor, y: Tensor, step: Step) -> Tensor:
        """argmin_u step f(u; y) + 1/2 |u - z|^2: u + r = (p + sqrt(p^2 + 4 step y)) / 2 with p = z + r - step.

        The positive root of t^2 - p t - step y; below p = 0 as 2 step y / (sqrt(p^2 + 4 step y) - p), where the sum
        would cancel.
        """
        y = y.clamp_min(0)  # perturbed counts, as the search for a weight makes them, may be below
        p = z + self.background - step
        root = torch.sqrt(p.square() + 4 * step * y)
        small = 2 * step * y / (root - p).clamp_min(torch.finfo(p.dtype).tiny)
        return torch.where(p > 0, (p + root) / 2, small) - self.background

    def _copy(self) -> Self:
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        return part

    def __repr__(self) -> str:
        one = self.background.numel() == 1
        return f"Emission(background={f'{float(self.background):g}' if one else f'of {tuple(self.background.shape)}'})"
