"""Operators and priors of other libraries as ours, and ours as theirs; this module imports nothing heavy.

The functions are the interface; the two priors that can be made from names alone are registered too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    "from_odl": "odl_operators",
    "from_pylops": "pylops_operators",
    "from_scipy": "scipy_operators",
    "from_sigpy": "sigpy_operators",
    "odl_geometry": "odl_geometries",
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
