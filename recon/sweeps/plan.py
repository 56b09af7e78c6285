"""The plan of a sweep: which configurations are run, everything about them checked before the first one is."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recon import making, registry
from recon.problem import Problem
from recon.sweeps.measuring import Measurement
from recon.sweeps.naming import ITERATIONS, Part, Spec, Variable, part_of, shown, variables_of
from recon.sweeps.setup import Setup


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One setting of all variables.

    Attributes:
        settings: full name of a variable -> its value.
        label: what differs from the base, in words.
    """

    settings: Mapping[str, Any]
    label: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        setup: what was asked for.
        parts: prior, solver, operator, noise, whichever have parameters to vary.
        variables: that are varied.
        configurations: each once, the base first where it is run.
    """

    setup: Setup
    parts: tuple[Part, ...]
    variables: tuple[Variable, ...]
    configurations: tuple[Configuration, ...]

    def spec(self, part: Part, settings: Mapping[str, Any]) -> Spec:
        """The part with the values of a configuration."""
        arguments = dict(part.arguments)
        for key, value in settings.items():
            label, _, name = key.rpartition(".")
            # a default that nobody wrote stays so: the run is the same whether or not others vary the parameter
            if label == part.label and (name in arguments or value != part.parameter(name).default):
                arguments[name] = value
        return part.name, arguments

    def specs(self, kind: str, settings: Mapping[str, Any]) -> list[Spec]:
        """All parts of a kind with these values."""
        return [self.spec(part, settings) for part in self.parts if part.kind == kind]

    def iterations(self, settings: Mapping[str, Any]) -> int | None:
        """How long a configuration runs."""
        value: int | None = settings.get(ITERATIONS, self.setup.iterations)
        return value

    def problem(self, settings: Mapping[str, Any]) -> Problem:
        """The measurement with the values of a configuration.

        Raises:
            OSError, ValueError, LookupError: it cannot be made.
        """
        source = self.setup.problem
        if isinstance(source, Measurement):
            operators, noises = self.specs("operator", settings), self.specs("noise", settings)
            measured = dataclasses.replace(source, operator=operators[0], noise=noises[0] if noises else None)
            made = measured.problem()
        else:
            made = source if isinstance(source, Problem) else Problem.load(source)
        if made.batch_shape:
            raise ValueError(
                f"a sweep takes one image, the problem is a batch of shape {tuple(made.batch_shape)}: pose one of "
                "them"
            )
        return made

    def measuring(self, settings: Mapping[str, Any]) -> str:
        """What of the settings changes the measurement, as a name; "" if nothing does."""
        measured = [part.label for part in self.parts if part.kind in ("operator", "noise")]
        own = {key: value for key, value in settings.items() if key.rpartition(".")[0] in measured}
        return ", ".join(f"{key}={shown(value)}" for key, value in own.items())


def plan_of(setup: Setup) -> Plan:
    """The plan of a sweep.

    Raises:
        LookupError, TypeError, ValueError: unknown names, values that do not fit, nothing to vary.
    """
    parts = _parts(setup)
    variables = variables_of(setup.vary, parts, setup.iterations)
    settings = _grid(variables) if setup.grid else _one_at_a_time(variables)
    base = {} if setup.grid else {variable.key: variable.base for variable in variables}
    configurations = tuple(Configuration(own, _label(own, base, variables)) for own in settings)
    plan = Plan(setup, parts, variables, configurations)
    _try(plan)
    return plan


def _parts(setup: Setup) -> tuple[Part, ...]:
    names = [name.rpartition("/")[2] for name, _ in setup.prior]
    labels = ["prior"] if len(names) == 1 else names
    if len(set(labels)) < len(labels):
        raise ValueError(
            f"the sum of priors {', '.join(names)} names one twice: their parameters could not be told apart"
        )
    parts = [part_of(label, "prior", spec) for label, spec in zip(labels, setup.prior, strict=True)]
    if setup.solver is not None:
        parts.append(part_of("solver", "solver", setup.solver))
    if isinstance(setup.problem, Measurement):
        operator = part_of("operator", "operator", setup.problem.operator_spec, whole=False)
        if setup.problem.mask is not None:  # which is made of share or picture
            free = tuple(parameter for parameter in operator.parameters if parameter.name != "mask")
            operator = dataclasses.replace(operator, parameters=free)
        parts.append(operator)
        if setup.problem.noise is not None:
            parts.append(part_of("noise", "noise", setup.problem.noise))
    return tuple(parts)


def _one_at_a_time(variables: tuple[Variable, ...]) -> list[dict[str, Any]]:
    """The base, then every value of every variable around it."""
    base = {variable.key: variable.base for variable in variables}
    found = [base]
    for variable in variables:
        for value in variable.values:
            settings = base | {variable.key: value}
            if settings not in found:
                found.append(settings)
    return found


def _grid(variables: tuple[Variable, ...]) -> list[dict[str, Any]]:
    """Every combination of the values."""
    keys = [variable.key for variable in variables]
    return [
        dict(zip(keys, values, strict=True))
        for values in itertools.product(*(variable.values for variable in variables))
    ]


def _label(settings: Mapping[str, Any], base: Mapping[str, Any], variables: tuple[Variable, ...]) -> str:
    names = [variable.name for variable in variables]
    own = {
        variable.key: variable.name if names.count(variable.name) == 1 else variable.key
        for variable in variables
    }
    different = [
        f"{own[key]}={shown(value)}"
        for key, value in settings.items()
        if key not in base or value != base[key]
    ]
    return ", ".join(different) or "base"


def _try(plan: Plan) -> None:
    """Make the priors and solvers once: what a declaration cannot say, their makers do.

    Raises:
        ValueError: a configuration that cannot be; it is named.
    """
    tried: list[tuple[str, Spec]] = []
    for configuration in plan.configurations:
        for kind in ("prior", "solver"):
            for spec in plan.specs(kind, configuration.settings):
                if (kind, spec) in tried:
                    continue
                tried.append((kind, spec))
                try:
                    making.prior(spec) if kind == "prior" else registry.make(kind, spec)
                except (TypeError, ValueError) as error:
                    error.add_note(f"in the configuration {configuration.label}")
                    raise


def source_of(setup: Setup) -> str:
    """What is measured, in a word."""
    if isinstance(setup.problem, Measurement):
        return Path(setup.problem.image).name
    return setup.problem.name if isinstance(setup.problem, Path) else "a problem"
