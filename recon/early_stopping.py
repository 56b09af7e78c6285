"""Stopping rules with a memory: they watch the images go by, and return the best one."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from recon.stopping import Progress, StoppingRule


@dataclasses.dataclass
class Memory:
    """What a rule has kept; every tensor has one leading item axis.

    Attributes:
        best: the image at the lowest score ``(B, *shape)``.
        lowest: that score ``(B,)``.
        found: the iteration of it ``(B,)``.
    """

    best: Tensor
    lowest: Tensor
    found: Tensor


class Remembering(StoppingRule):
    """A rule that gives every image a score, and stops when none has been better for `patience` iterations.

    The image that a run returns is then that of the lowest score, also where a limit (`MaxIterations`,
    `TimeLimit`) or the user ended it. An author writes `begin` and `watch`.
    """

    patience: int

    def begin(self, progress: Progress) -> Any:
        """The memory before the first iteration: a dataclass derived from `Memory`."""
        raise TypeError(f"{type(self).__name__} has no `begin`: write one")

    def watch(self, memory: Any, progress: Progress) -> Any:
        """The memory after an iteration; the old one stays as it is."""
        raise TypeError(f"{type(self).__name__} has no `watch`: write one")

    def fires(self, progress: Progress) -> Tensor:
        memory: Memory = progress.memories[self]
        known = torch.isfinite(memory.lowest)
        return known & (progress.iteration - memory.found >= self.patience)

    def kept(self, progress: Progress) -> dict[str, Tensor]:
        """Nothing seen so far: the fields of `Memory`."""
        assert progress.image is not None
        return {
            "best": progress.image.clone(),
            "lowest": torch.full_like(progress.change, math.inf, dtype=torch.float64),
            "found": torch.full_like(progress.change, progress.iteration, dtype=torch.long),
        }

    def judged(
        self, memory: Memory, score: Tensor, progress: Progress, tolerance: float = 0.0
    ) -> dict[str, Tensor]:
        """The fields of `Memory` after a score ``(B,)``; NaN stands for no score.

        A score that lies above the lowest by less than this share of it is as good: the later image is kept.
        """
        assert progress.image is not None
        better = score < (1 + tolerance) * memory.lowest
        shaped = better.reshape(-1, *(1,) * (progress.image.ndim - 1))
        return {
            "best": torch.where(shaped, progress.image, memory.best),
            "lowest": torch.where(score < memory.lowest, score, memory.lowest),
            "found": torch.where(better, progress.iteration, memory.found),
        }


@dataclasses.dataclass
class _Averages(Memory):
    mean: Tensor
    variance: Tensor
    seen: Tensor
    fitted: Tensor


class MovingVariance(Remembering):
    """Stops after the least exponentially weighted variance of the images (ES-EMV, Wang et al. 2023).

    A network that is fitted to one noisy image first comes to rest near the clean image, and moves again when it
    begins to fit the noise: the variance of its recent images has a minimum there. With the forgetting factor a,

        mean_k = (1 - a) mean_(k-1) + a x_k
        variance_k = (1 - a) (variance_(k-1) + a |x_k - mean_(k-1)|^2 / pixels)

    so that one mean image is stored, and no window of images. The variance of about 1/a images fluctuates: where
    data have little noise it hardly rises after its minimum, and which of its dips is the deepest is chance. A
    tolerance takes the latest image whose variance is near the least.

    A fit without noise on its input is slow and smooth: its images hardly move from one to the next long before the
    data are fitted, and their variance is then as small as it will be near the clean image. Where the noise level is
    known or can be estimated, `tau` lets a variance count only once the residual has come near the noise.

    Args:
        patience: iterations without a lower variance, or one within the tolerance, after which to stop.
        forgetting: a, between 0 and 1.
        burn_in: iterations whose variance does not count: the network is still far from the image, and the averages
            have not seen enough.
        tolerance: share of the least variance by which another may lie above it and its later image still be
            returned; 0: the published rule.
        tau: multiple of the expected noise norm that the residual must have reached, as in `Discrepancy`, before a
            variance counts; None: at any residual, the published rule.
    """

    def __init__(
        self,
        patience: int = 1000,
        forgetting: float = 0.1,
        burn_in: int = 100,
        tolerance: float = 0.0,
        tau: float | None = None,
    ) -> None:
        self.patience = _whole("MovingVariance", "patience", patience, 1)
        self.burn_in = _whole("MovingVariance", "burn_in", burn_in, 0)
        if not (isinstance(forgetting, int | float) and 0 < forgetting < 1):
            raise ValueError(f"MovingVariance needs a forgetting factor between 0 and 1, got {forgetting!r}")
        self.forgetting = float(forgetting)
        if not (isinstance(tolerance, int | float) and 0 <= tolerance < math.inf):
            raise ValueError(f"MovingVariance needs a tolerance >= 0, got {tolerance!r}")
        self.tolerance = float(tolerance)
        if not (tau is None or (isinstance(tau, int | float) and 0 < tau < math.inf)):
            raise ValueError(f"MovingVariance needs a tau > 0, or None, got {tau!r}")
        self.tau = None if tau is None else float(tau)

    def begin(self, progress: Progress) -> _Averages:
        mean = progress.watched.clone()
        none = torch.zeros_like(progress.change, dtype=torch.float64)
        fitted = torch.full_like(none, self.tau is None, dtype=torch.bool)
        return _Averages(**self.kept(progress), mean=mean, variance=none, seen=none, fitted=fitted)

    def watch(self, memory: _Averages, progress: Progress) -> _Averages:
        a, x = self.forgetting, progress.watched
        squares = (x - memory.mean).abs().square().flatten(1).mean(1).to(memory.variance)
        variance = (1 - a) * (memory.variance + a * squares)
        seen = memory.seen + 1
        fitted = memory.fitted
        if self.tau is not None and not bool(fitted.all()):  # a residual costs one forward operator
            fitted = fitted | (progress.residual <= self.tau)
        score = torch.where((seen > self.burn_in) & fitted, variance, math.nan)
        return _Averages(
            **self.judged(memory, score, progress, self.tolerance),
            mean=memory.mean + a * (x - memory.mean),
            variance=variance,
            seen=seen,
            fitted=fitted,
        )

    def __repr__(self) -> str:
        said = [f"patience={self.patience}", f"forgetting={self.forgetting:g}", f"burn_in={self.burn_in}"]
        said += [f"tolerance={self.tolerance:g}"] if self.tolerance else []
        said += [f"tau={self.tau:g}"] if self.tau is not None else []
        return f"MovingVariance({', '.join(said)})"


@dataclasses.dataclass
class _Window(Memory):
    means: Tensor
    scatter: Tensor
    seen: Tensor


class WindowedVariance(Remembering):
    """Stops after the least variance of the last `window` images (ES-WMV, Wang et al. 2023).

        VAR = sum_i |x_i - mean|^2 / (window pixels)

    Images are not stored: the window is made of ten blocks, each with its mean image and its scatter around it
    (Welford 1962), which add up to the variance of the whole window exactly. It moves on by a block at a time.

    Args:
        patience: iterations without a lower variance after which to stop.
        window: how many images, a multiple of 10.
    """

    BLOCKS = 10

    def __init__(self, patience: int = 1000, window: int = 100) -> None:
        self.patience = _whole("WindowedVariance", "patience", patience, 1)
        self.window = _whole("WindowedVariance", "window", window, self.BLOCKS)
        if self.window % self.BLOCKS:
            raise ValueError(
                f"WindowedVariance needs a window that is a multiple of {self.BLOCKS}, got {window!r}"
            )

    def begin(self, progress: Progress) -> _Window:
        x = progress.watched
        means = x.new_zeros((len(x), self.BLOCKS, *x.shape[1:]))
        none = torch.zeros((len(x), self.BLOCKS), dtype=torch.float64, device=x.device)
        seen = torch.zeros_like(progress.change, dtype=torch.long)
        return _Window(**self.kept(progress), means=means, scatter=none, seen=seen)

    def watch(self, memory: _Window, progress: Progress) -> _Window:
        x, block = progress.watched, self.window // self.BLOCKS
        seen = int(memory.seen[0])  # the items of a run go in step
        place = seen // block % self.BLOCKS
        means, scatter = memory.means.clone(), memory.scatter.clone()
        if seen % block == 0:  # the oldest block is forgotten
            means[:, place], scatter[:, place] = 0, 0
        away = x - means[:, place]
        means[:, place] += away / (seen % block + 1)
        scatter[:, place] += (away.conj() * (x - means[:, place])).real.flatten(1).sum(1).to(scatter)
        full = (seen + 1) % block == 0 and seen + 1 >= self.window
        score = self._variance(means, scatter) if full else torch.full_like(memory.lowest, math.nan)
        return _Window(
            **self.judged(memory, score, progress),
            means=means,
            scatter=scatter,
            seen=memory.seen + 1,
        )

    def _variance(self, means: Tensor, scatter: Tensor) -> Tensor:
        """Of the whole window, from blocks of equal size: scatter within them and between their means."""
        between = (means - means.mean(1, keepdim=True)).abs().square().flatten(1).sum(1)
        total = scatter.sum(1) + self.window // self.BLOCKS * between.to(scatter)
        return total / (self.window * means[0, 0].numel())

    def __repr__(self) -> str:
        return f"WindowedVariance(patience={self.patience}, window={self.window})"


class HeldOut(Remembering):
    """Stops after the least error on measurements that were kept back from the fit (self-validation).

    For solvers that keep some back, as ``"dip:held_out=0.05"`` does.

    Args:
        patience: iterations without a lower error after which to stop.
    """

    def __init__(self, patience: int = 500) -> None:
        self.patience = _whole("HeldOut", "patience", patience, 1)

    def begin(self, progress: Progress) -> Memory:
        return Memory(**self.kept(progress))

    def watch(self, memory: Memory, progress: Progress) -> Memory:
        if progress.validation is None:
            raise ValueError(
                "HeldOut needs a solver that keeps measurements back from the fit: "
                "solver='dip:held_out=0.05', or recon.DIP(held_out=0.05)"
            )
        return Memory(**self.judged(memory, progress.validation.to(memory.lowest), progress))

    def __repr__(self) -> str:
        return f"HeldOut(patience={self.patience})"


def _whole(name: str, label: str, value: Any, least: int) -> int:
    if not (isinstance(value, int | float) and least <= value < math.inf and value % 1 == 0):
        raise ValueError(f"{name} needs {label}, a whole number >= {least}, got {value!r}")
    return int(value)
