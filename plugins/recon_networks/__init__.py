"""Networks and the learned priors made of them; this module only registers them and imports nothing heavy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recon.entries import NetworkEntry, PriorEntry
from recon.hookspecs import hookimpl

if TYPE_CHECKING:
    pass

_CLASSES: dict[str, str] = {}
__all__ = sorted(_CLASSES)


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module 'recon_networks' has no attribute {name!r}")
    return getattr(import_module(f"recon_networks.{_CLASSES[name]}"), name)


@hookimpl
def recon_networks() -> list[NetworkEntry]:
    """The architectures of this package."""
    return []


@hookimpl
def recon_priors() -> list[PriorEntry]:
    """The priors of this package."""
    return []
