"""Rules that choose the weight of a prior, by the names that ``recon.solve(..., weight=...)`` takes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recon.weight import WeightChoice

RULES = {
    "auto": ("discrepancy", "recon.weight:choose_weight"),
    "sure": ("sure", "recon.weight_rules.sure:choose_by_risk"),
    "lcurve": ("lcurve", "recon.weight_rules.lcurve:choose_by_lcurve"),
}
"""Name -> what the record calls it, and the function that searches."""


def is_rule(weight: Any) -> bool:
    """Whether this names a rule.

    Raises:
        ValueError: a text that names none.
    """
    if not isinstance(weight, str):
        return False
    if weight not in RULES:
        raise ValueError(f"weight must be a number >= 0 or 'auto', 'sure' or 'lcurve', got {weight!r}")
    return True


def searcher(rule: str) -> Callable[..., WeightChoice]:
    """The function ``(problem, algorithm, seed=...)`` behind a name."""
    module, _, name = RULES[rule][1].partition(":")
    search: Callable[..., WeightChoice] = getattr(import_module(module), name)
    return search
