"""The minimum of a function of a weight, one image at a time, by few evaluations."""

from __future__ import annotations

import math

FACTOR = 3.0
"""Between the first weights that are tried; the last are its fourth root apart."""

UNIT = math.log(FACTOR) / 4


class LineSearch:
    """Minimise a function of the logarithm of a weight.

    From a first guess, weights a factor 3 apart until the lowest value lies between two others; then a factor
    1.7, then 1.3; the lowest point of the parabola through the last three values is the answer.

    Args:
        start: the first weight.
        floor: of the first weight: the least that is tried.
        ceiling: likewise the largest.
    """

    def __init__(self, start: float, floor: float = 1e-4, ceiling: float = 1e4) -> None:
        self.start, self.step = start, 4
        self.low, self.high = (math.ceil(math.log(bound) / UNIT) for bound in (floor, ceiling))
        self.values: dict[int, float] = {}
        self.asked = 0

    def next(self) -> float | None:
        """The weight to try next; None when the minimum is found."""
        while self.step:
            centre = self.best
            for candidate in (centre, centre + self.step, centre - self.step):
                if candidate not in self.values and self.low <= candidate <= self.high:
                    self.asked = candidate
                    return self.weight(candidate)
            self.step //= 2
        return None

    def tell(self, value: float) -> None:
        """The value at the weight that was asked for last."""
        self.values[self.asked] = value

    @property
    def best(self) -> int:
        """Place of the lowest value so far."""
        return min(self.values, key=self.values.__getitem__, default=0)

    @property
    def at_end(self) -> bool:
        """Whether the lowest value is at the least or the largest weight."""
        return self.best in (self.low, self.high)

    def weight(self, place: float) -> float:
        """The weight at a place of the lattice."""
        return self.start * math.exp(UNIT * place)

    def answer(self) -> float:
        """The weight of the lowest value, between the evaluations by a parabola."""
        centre = self.best
        left, right = self.values.get(centre - 1), self.values.get(centre + 1)
        if left is None or right is None:
            return self.weight(centre)
        bend = left - 2 * self.values[centre] + right
        shift = 0.5 * (left - right) / bend if bend > 0 else 0.0
        return self.weight(centre + max(-0.5, min(0.5, shift)))
