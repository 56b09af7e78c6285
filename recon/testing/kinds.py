"""Which checks belong to which kind of object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recon.testing.measuring import Checks

if TYPE_CHECKING:
    from recon.entries import Entry

ALGORITHM_METHODS = ("start", "step", "image", "default_stop")


def kind_of(item: Any) -> str:
    """The kind of an object or a class; "" for what cannot be recognised.

    It is "operator", "prior", "solver", "metric", "noise" or "objective"; any other `nn.Module` is a "network".
    """
    from torch import nn

    from recon.linear import LinearOperator
    from recon.metrics import Metric
    from recon.priors import Prior
    from recon.simulate import Noise
    from recon.training.objective import Objective

    for kind, base in (
        ("operator", LinearOperator),
        ("prior", Prior),
        ("metric", Metric),
        ("noise", Noise),
        ("objective", Objective),
    ):
        if isinstance(item, base) or (isinstance(item, type) and issubclass(item, base)):
            return kind
    if all(callable(getattr(item, method, None)) for method in ALGORITHM_METHODS):
        return "solver"
    is_module = isinstance(item, nn.Module) or (isinstance(item, type) and issubclass(item, nn.Module))
    return "network" if is_module else ""


def checks_of(item: Any, entry: Entry | None = None) -> Checks:
    """The checks of an object, by its kind; what its entry declares is taken into account."""
    checks = _checks_of_kind(item, entry)
    if entry is not None and "cuda" not in entry.devices:
        checks.pop("device", None)
    return checks


def _checks_of_kind(item: Any, entry: Entry | None) -> Checks:
    from recon.entries import MetricEntry, NoiseEntry, SolverEntry

    kind = kind_of(item)
    if kind == "operator":
        from recon.testing.operators import operator_checks

        return operator_checks(item)
    if kind == "prior":
        from recon.testing.priors import prior_checks

        return prior_checks(item)
    if kind == "solver":
        from recon.testing.solvers import solver_checks

        return solver_checks(item, needs=entry.needs if isinstance(entry, SolverEntry) else None)
    if kind == "metric":
        from recon.testing.metrics import metric_checks

        better = entry.higher_is_better if isinstance(entry, MetricEntry) else item.higher_is_better
        return metric_checks(item, higher_is_better=better)
    if kind == "noise":
        from recon.testing.noise import noise_checks

        claims = isinstance(entry, NoiseEntry) and "zero mean" in entry.tags
        return noise_checks(item, zero_mean=claims)
    if kind == "network":
        from recon.testing.networks import network_checks

        return network_checks(item)
    if kind == "objective":
        from recon.testing.objectives import objective_checks

        return objective_checks(item)
    return {}
