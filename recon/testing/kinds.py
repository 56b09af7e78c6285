"""Which checks belong to which kind of object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recon.testing.measuring import Checks

if TYPE_CHECKING:
    from recon.entries import Entry

ALGORITHM_METHODS = ("start", "step", "image", "default_stop")


def kind_of(item: Any) -> str:
    """The kind of an object or a class: "operator", "prior", "solver", "metric" or "noise"; "" for others."""
    from recon.linear import LinearOperator
    from recon.metrics import Metric
    from recon.priors import Prior
    from recon.simulate import Noise

    for kind, base in (
        ("operator", LinearOperator),
        ("prior", Prior),
        ("metric", Metric),
        ("noise", Noise),
    ):
        if isinstance(item, base) or (isinstance(item, type) and issubclass(item, base)):
            return kind
    if all(callable(getattr(item, method, None)) for method in ALGORITHM_METHODS):
        return "solver"
    return ""


def checks_of(item: Any, entry: Entry | None = None) -> Checks:
    """The checks of an object, by its kind; what its entry declares is taken into account."""
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
    return {}
