"""Operators and priors of other libraries as ours, and ours as theirs; this module imports nothing heavy.

The functions are the interface. The one prior that can be made from plain names is registered too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recon.entries import Example, PriorEntry
from recon.hookspecs import hookimpl

if TYPE_CHECKING:
    from recon_bridges.deepinv_bridge import from_deepinv as from_deepinv
    from recon_bridges.deepinv_bridge import to_deepinv as to_deepinv
    from recon_bridges.huggingface import from_huggingface as from_huggingface
    from recon_bridges.modules import denoiser as denoiser
    from recon_bridges.odl_geometries import odl_geometry as odl_geometry
    from recon_bridges.odl_operators import from_odl as from_odl
    from recon_bridges.odl_operators import to_odl as to_odl
    from recon_bridges.pylops_operators import from_pylops as from_pylops
    from recon_bridges.pylops_operators import to_pylops as to_pylops
    from recon_bridges.scipy_operators import from_scipy as from_scipy
    from recon_bridges.scipy_operators import to_scipy as to_scipy
    from recon_bridges.sigpy_operators import from_sigpy as from_sigpy
    from recon_bridges.sigpy_operators import to_sigpy as to_sigpy

_MODULES = {
    "denoiser": "modules",
    "from_deepinv": "deepinv_bridge",
    "from_huggingface": "huggingface",
    "from_odl": "odl_operators",
    "from_pylops": "pylops_operators",
    "from_scipy": "scipy_operators",
    "from_sigpy": "sigpy_operators",
    "odl_geometry": "odl_geometries",
    "to_deepinv": "deepinv_bridge",
    "to_odl": "odl_operators",
    "to_pylops": "pylops_operators",
    "to_scipy": "scipy_operators",
    "to_sigpy": "sigpy_operators",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'recon_bridges' has no attribute {name!r}")
    return getattr(import_module(f"recon_bridges.{_MODULES[name]}"), name)


@hookimpl
def recon_priors() -> list[PriorEntry]:
    """The priors that names and files describe."""
    return [
        PriorEntry(
            name="deepinv",
            factory="recon_bridges.deepinv_bridge:named_denoiser",
            summary="a denoiser of DeepInverse by its name, plug-and-play: deepinv:model=DRUNet,weights=FILE",
            requires=("deepinv",),
            extra="deepinv",
            domain="real",
            tags=("plug-and-play", "learned"),
            examples=(Example({"model": "MedianFilter"}),),
        ),
    ]
