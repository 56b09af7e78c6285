"""Stopping rules, per item of a batch, combined with ``|`` (first to fire) and ``&`` (all at once)."""

from __future__ import annotations

import copy
import dataclasses
import math
import numbers
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclasses.dataclass
class Progress:
    """What a rule may look at after an iteration; every tensor has one value an item still running.

    Attributes:
        iteration: iterations done.
        seconds: wall time since the start of the run.
        change: |x_k - x_(k-1)| / |x_k|.
        primal, dual: relative residuals of a splitting algorithm; None for others.
        measure_residual: computes |A x - y|_w / (expected noise norm); costs one forward operator.
        image: the images that a stop now would return.
        iterate: the iterates behind them, where an algorithm returns averages; None: the same.
        validation: error on measurements kept back from the fit; None: there are none.
        memories: what the rules of `recon.early_stopping` have kept, by rule.
    """

    iteration: int
    seconds: float
    change: Tensor
    primal: Tensor | None
    dual: Tensor | None
    measure_residual: Callable[[], Tensor]
    image: Tensor | None = None
    iterate: Tensor | None = None
    validation: Tensor | None = None
    memories: dict[StoppingRule, Any] = dataclasses.field(default_factory=dict)

    @property
    def watched(self) -> Tensor:
        """The iterate, or the image where it is the iterate."""
        seen = self.image if self.iterate is None else self.iterate
        assert seen is not None
        return seen

    @cached_property
    def residual(self) -> Tensor:
        """|A x - y|_w over the expected norm of the noise, measured once an iteration."""
        return self.measure_residual()


class StoppingRule:
    """A rule says for each item whether to stop.

    Attributes:
        means_converged: whether firing says that the problem is solved (and not merely that time is up).
    """

    means_converged: bool = True

    def check(self, progress: Progress) -> list[tuple[StoppingRule, Tensor]]:
        """The elementary rules that fire, each with its mask of items."""
        return [(self, self.fires(progress))]

    def fires(self, progress: Progress) -> Tensor:
        """Mask of the items that may stop."""
        raise TypeError(f"{type(self).__name__} has no `fires`: write one")

    @property
    def members(self) -> list[StoppingRule]:
        """The elementary rules inside."""
        return [self]

    def __or__(self, other: StoppingRule) -> StoppingRule:
        if not isinstance(other, StoppingRule):
            return NotImplemented
        return AnyOf([*(self.rules if isinstance(self, AnyOf) else [self]), other])

    def __and__(self, other: StoppingRule) -> StoppingRule:
        if not isinstance(other, StoppingRule):
            return NotImplemented
        return AllOf([self, other])


class AnyOf(StoppingRule):
    """Stops when one of its rules does."""

    def __init__(self, rules: list[StoppingRule]) -> None:
        self.rules = rules

    def check(self, progress: Progress) -> list[tuple[StoppingRule, Tensor]]:
        return [fired for rule in self.rules for fired in rule.check(progress)]

    @property
    def members(self) -> list[StoppingRule]:
        return [member for rule in self.rules for member in rule.members]

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.rules))


class AllOf(StoppingRule):
    """Stops when all of its rules agree; converged if one of those that fired says so."""

    def __init__(self, rules: list[StoppingRule]) -> None:
        self.rules = rules
        self.means_converged = any(member.means_converged for member in self.members)

    def check(self, progress: Progress) -> list[tuple[StoppingRule, Tensor]]:
        stop = torch.ones_like(progress.change, dtype=torch.bool)
        proved = torch.zeros_like(stop)
        for rule in self.rules:
            fired = torch.zeros_like(stop)
            for part, mask in rule.check(progress):
                fired = fired | mask
                proved = proved | mask if part.means_converged else proved
            stop = stop & fired
        limit = copy.copy(self)  # for items that only its limits have stopped
        limit.means_converged = False
        return [(self, stop & proved), (limit, stop & ~proved)]

    @property
    def members(self) -> list[StoppingRule]:
        return [member for rule in self.rules for member in rule.members]

    def __repr__(self) -> str:
        return " & ".join(f"({rule!r})" if isinstance(rule, AnyOf) else repr(rule) for rule in self.rules)


class MaxIterations(StoppingRule):
    """Stops after a number of iterations."""

    means_converged = False

    def __init__(self, iterations: int) -> None:
        if not (isinstance(iterations, numbers.Real) and 1 <= iterations < math.inf and iterations % 1 == 0):
            raise ValueError(f"MaxIterations needs a whole number >= 1, got {iterations!r}")
        self.iterations: int = int(iterations)

    def fires(self, progress: Progress) -> Tensor:
        return torch.full_like(progress.change, progress.iteration >= self.iterations, dtype=torch.bool)

    def __repr__(self) -> str:
        return f"MaxIterations({self.iterations})"


class TimeLimit(StoppingRule):
    """Stops after a wall time: a number of seconds, or ``"90s"``, ``"5min"``, ``"2h"``."""

    means_converged = False

    def __init__(self, limit: float | str) -> None:
        units = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(s|min|h)?\s*", str(limit))
        if match is None or float(match[1]) <= 0:
            raise ValueError(
                f"TimeLimit needs seconds > 0 or a text such as '90s', '5min', '2h'; got {limit!r}"
            )
        self.seconds = float(match[1]) * units[match[2] or ""]

    def fires(self, progress: Progress) -> Tensor:
        return torch.full_like(progress.change, progress.seconds >= self.seconds, dtype=torch.bool)

    def __repr__(self) -> str:
        return f"TimeLimit('{self.seconds:g}s')"


class RelativeChange(StoppingRule):
    """Stops when |x_k - x_(k-1)| <= tolerance |x_k|.

    Not while a splitting algorithm's dual residual is 1/2 or more: begun at an image that fits the data best, its
    first steps move the splits alone, and the image stands still although nothing is solved.
    """

    def __init__(self, tolerance: float) -> None:
        self.tolerance = _positive("RelativeChange", tolerance)

    def fires(self, progress: Progress) -> Tensor:
        still = progress.change <= self.tolerance
        return still if progress.dual is None else still & (progress.dual < 0.5)

    def __repr__(self) -> str:
        return f"RelativeChange({self.tolerance:g})"


class SmallResiduals(StoppingRule):
    """Stops when the relative primal and dual residuals of a splitting algorithm are below a tolerance.

    Relative as in Boyd et al. 2011, 3.3.1. Algorithms without such residuals are judged by the relative
    change.
    """

    def __init__(self, tolerance: float) -> None:
        self.tolerance = _positive("SmallResiduals", tolerance)

    def fires(self, progress: Progress) -> Tensor:
        if progress.primal is None or progress.dual is None:
            return progress.change <= self.tolerance
        return torch.maximum(progress.primal, progress.dual) <= self.tolerance

    def __repr__(self) -> str:
        return f"SmallResiduals({self.tolerance:g})"


class Discrepancy(StoppingRule):
    """Stops when the data are fitted to within the noise: |A x - y|_w <= tau * expected noise norm (Morozov)."""

    def __init__(self, tau: float = 1.02) -> None:
        self.tau = _positive("Discrepancy", tau)

    def fires(self, progress: Progress) -> Tensor:
        return progress.residual <= self.tau

    def __repr__(self) -> str:
        return f"Discrepancy(tau={self.tau:g})"


def _positive(name: str, value: float) -> float:
    if not (isinstance(value, numbers.Real) and 0 < value < math.inf):
        raise ValueError(f"{name} needs a number > 0, got {value!r}")
    return float(value)
