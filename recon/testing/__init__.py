"""The conformance kit: measures every promise of an item, for third-party plugins as for the built-in ones.

An author's whole test file::

    from recon.testing import conformance_test

    test_conformance = conformance_test("recon-motion-blur")

``recon check`` runs the same checks in a terminal, and ``pytest -p recon.testing.plugin`` without a test file.
The names are loaded at first use: importing this package imports no library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recon.testing.diagnosis import describe_adjoint as describe_adjoint
    from recon.testing.generation import Case as Case
    from recon.testing.generation import cases as cases
    from recon.testing.networks import check_network as check_network
    from recon.testing.networks import network_checks as network_checks
    from recon.testing.objectives import check_objective as check_objective
    from recon.testing.objectives import objective_checks as objective_checks
    from recon.testing.operators import check_operator as check_operator
    from recon.testing.operators import operator_checks as operator_checks
    from recon.testing.parametrised import conformance_test as conformance_test
    from recon.testing.priors import check_prior as check_prior
    from recon.testing.priors import prior_checks as prior_checks
    from recon.testing.solvers import check_solver as check_solver
    from recon.testing.solvers import solver_checks as solver_checks

_HOME_OF = {
    "Case": "generation",
    "cases": "generation",
    "check_network": "networks",
    "check_objective": "objectives",
    "check_operator": "operators",
    "check_prior": "priors",
    "check_solver": "solvers",
    "conformance_test": "parametrised",
    "describe_adjoint": "diagnosis",
    "network_checks": "networks",
    "objective_checks": "objectives",
    "operator_checks": "operators",
    "prior_checks": "priors",
    "solver_checks": "solvers",
}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'recon.testing' has no attribute {name!r}")
    value = getattr(import_module(f"recon.testing.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
