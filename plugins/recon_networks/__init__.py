"""Networks and the learned priors made of them; this module only registers them and imports nothing heavy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recon.entries import Example, NetworkEntry, PriorEntry
from recon.hookspecs import hookimpl

if TYPE_CHECKING:
    from recon_networks.deep_image_prior import DeepImagePrior as DeepImagePrior
    from recon_networks.skip import Skip as Skip

_CLASSES: dict[str, str] = {
    "DeepImagePrior": "deep_image_prior",
    "Skip": "skip",
}
__all__ = sorted(_CLASSES)


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module 'recon_networks' has no attribute {name!r}")
    return getattr(import_module(f"recon_networks.{_CLASSES[name]}"), name)


@hookimpl
def recon_networks() -> list[NetworkEntry]:
    """The architectures of this package."""
    return [
        NetworkEntry(
            name="skip",
            factory="recon_networks.skip:Skip",
            summary="encoder and decoder with narrow skip connections, of Deep Image Prior",
            examples=(
                Example({"channels": 2, "down": (4, 6), "skip": 2}),
                Example({"channels": 1, "down": (4, 4), "skip": (0, 2), "axes": 3, "downsample": "avg"}),
            ),
        ),
    ]


@hookimpl
def recon_priors() -> list[PriorEntry]:
    """The priors of this package."""
    return [
        PriorEntry(
            name="dip",
            factory="recon_networks.deep_image_prior:DeepImagePrior",
            summary="deep image prior: an untrained network fitted to the data alone",
            convex=False,
            examples=(
                Example({"filters": 4, "scales": 2, "depth": 2, "shape": (9, 12)}),
                Example({"filters": 4, "scales": 2, "input": "meshgrid", "shape": (3, 8, 8)}),
            ),
        ),
    ]
