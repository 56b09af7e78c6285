"""Hounsfield units and attenuation: HU = 1000 (mu - water) / (water - air), the materials always named."""

from __future__ import annotations

from torch import Tensor


def attenuation_of(hounsfield: Tensor, *, water: float, air: float) -> Tensor:
    """mu = water + HU (water - air) / 1000, in the unit of `water` and `air`; nothing is cut off.

    Raises:
        ValueError: water and air are not 0 <= air < water.
    """
    check_materials(water, air)
    return water + (water - air) / 1000 * hounsfield


def hounsfield_of(attenuation: Tensor, *, water: float, air: float) -> Tensor:
    """HU = 1000 (mu - water) / (water - air), with all three in one unit.

    Raises:
        ValueError: water and air are not 0 <= air < water.
    """
    check_materials(water, air)
    return 1000 / (water - air) * (attenuation - water)


def check_materials(water: float, air: float) -> None:
    """Refuse attenuations of water and air, in one unit, that are not 0 <= air < water."""
    if not 0 <= air < water < float("inf"):
        raise ValueError(f"need 0 <= air < water, both in one unit; got air={air}, water={water}")
