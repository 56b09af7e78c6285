"""What can be varied, by name: the declared parameters of the parts of a solve."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from recon import making, registry
from recon.parameters import (
    REQUIRED,
    ArgumentNameError,
    ArgumentValueError,
    Param,
    Parameter,
    bind_arguments,
    parse_spec,
)
from recon.suggestions import did_you_mean

Spec = tuple[str, Mapping[str, Any]]
"""A registered item: its name, and arguments as they were written."""

ITERATIONS = "iterations"
"""The variable that is of no part: at which iteration every run stops."""

_LIMIT = Parameter(
    ITERATIONS, int | None, None, Param("iterations of every run; none: as the solver stops", ge=1)
)


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a solve whose parameters can be varied.

    Attributes:
        label: what it is called in the names of variables, ``solver`` in ``solver.lr``.
        kind: of the registry.
        name: registered name.
        arguments: that were given, checked.
        parameters: that it declares.
    """

    label: str
    kind: str
    name: str
    arguments: Mapping[str, Any]
    parameters: tuple[Parameter, ...]

    def parameter(self, name: str) -> Parameter:
        """The parameter of that name.

        Raises:
            ArgumentNameError: there is none; the closest is named.
        """
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        names = [parameter.name for parameter in self.parameters]
        raise ArgumentNameError(
            f"{self.kind} {self.name} has no parameter {name!r}{did_you_mean(name, names)} It declares: "
            f"{', '.join(names) or 'none'}"
        )


@dataclasses.dataclass(frozen=True)
class Variable:
    """A parameter that is varied.

    Attributes:
        key: its full name, such as ``solver.lr``.
        parameter: what it may be.
        base: its value in the base configuration.
        values: that it is given, in their order.
    """

    key: str
    parameter: Parameter
    base: Any
    values: tuple[Any, ...]

    @property
    def name(self) -> str:
        """Without its part."""
        return self.key.rpartition(".")[2]


def read_spec(spec: Any) -> Spec:
    """``"name:argument=value"`` or ``(name, {arguments})``, split; the folder of a trained prior too.

    Raises:
        SpecError, TypeError: neither.
    """
    if isinstance(spec, str):
        found = making._model_path(spec)
        if found is not None:
            return "learned", {"folder": found[0], **found[1]}
        return parse_spec(spec)
    match spec:
        case (str() as name, Mapping() as arguments):
            return name, dict(arguments)
    raise TypeError(
        f"give a part of a sweep as 'name', 'name:arg=value' or ('name', {{arguments}}): its parameters are varied by "
        f"name; got {type(spec).__name__}"
    )


def part_of(label: str, kind: str, spec: Spec, *, whole: bool = True) -> Part:
    """The part with its arguments checked.

    Args:
        label: see `Part`.
        kind: see `Part`.
        spec: name and arguments.
        whole: whether every required argument is there; else the image gives the rest.

    Raises:
        LookupError, TypeError, ValueError: no such item, or arguments that it does not take.
    """
    name, given = spec
    parameters = registry.find(kind, name).parameters()
    subject = f"{kind} {name}"
    declared = {parameter.name: parameter for parameter in parameters}
    if whole:
        checked = bind_arguments(subject, parameters, given)
        return Part(label, kind, name, {key: checked[key] for key in given}, parameters)
    known = [declared[key] for key in given if key in declared]
    if len(known) < len(given):
        bind_arguments(subject, parameters, given)  # says which one is unknown
    checked = bind_arguments(subject, known, given)
    return Part(label, kind, name, checked, parameters)


def variables_of(
    vary: Mapping[str, Any], parts: Sequence[Part], iterations: int | None
) -> tuple[Variable, ...]:
    """The variables with their values read as their parameters declare.

    Args:
        vary: ``name`` or ``part.name`` -> list of values.
        parts: of the base configuration.
        iterations: of the base configuration.

    Raises:
        TypeError, ValueError: an unknown or ambiguous name, no values, or one that does not fit.
    """
    if not vary:
        raise ValueError(
            "there is nothing to vary: give a variable with its values, such as lr=[0.001, 0.01]"
        )
    found: dict[str, Variable] = {}
    for name, values in vary.items():
        key, part, parameter = _found(name, parts)
        if key in found:
            raise ArgumentNameError(f"{key} is varied twice, the second time as {name!r}")
        if isinstance(values, str | Mapping) or not hasattr(values, "__iter__"):
            raise ArgumentValueError(f"{name} takes a list of values, got {values!r}")
        given = list(values)
        if not given:
            raise ArgumentValueError(f"{name} has an empty list of values: give at least one")
        subject = "" if part is None else f"{part.kind} {part.name}: "
        try:
            read = tuple(parameter.coerce(value) for value in given)
        except ArgumentValueError as error:
            raise ArgumentValueError(f"{subject}{error}") from None
        twice = next((value for index, value in enumerate(read) if value in read[:index]), None)
        if twice is not None:
            raise ArgumentValueError(f"{name} lists {shown(twice)} twice")
        base = iterations if part is None else part.arguments.get(parameter.name, parameter.default)
        base = None if base is REQUIRED else base
        found[key] = Variable(key, parameter, base, read)
    return tuple(found.values())


def shown(value: Any) -> str:
    """A value in a label."""
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, tuple | list):
        return "(" + ", ".join(shown(item) for item in value) + ")"
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _found(name: str, parts: Sequence[Part]) -> tuple[str, Part | None, Parameter]:
    """Full name, part and parameter of a variable."""
    label, dot, short = name.rpartition(".")
    if dot:
        part = next((part for part in parts if part.label == label), None)
        if part is None:
            labels = [part.label for part in parts]
            raise ArgumentNameError(
                f"{name!r} is of no part of this sweep{did_you_mean(label, labels)} Its parts are "
                f"{', '.join(labels)}"
            )
        _refuse_seed(short)
        return f"{label}.{short}", part, part.parameter(short)
    if name == ITERATIONS:
        return name, None, _LIMIT
    _refuse_seed(name)
    holders = [part for part in parts if any(parameter.name == name for parameter in part.parameters)]
    if len(holders) > 1:
        both = " or ".join(f"{part.label}.{name}" for part in holders)
        raise ArgumentNameError(f"{name!r} is a parameter of {len(holders)} parts: say {both}")
    if not holders:
        known = [f"{part.label}.{parameter.name}" for part in parts for parameter in part.parameters]
        short_names = {full.rpartition(".")[2]: full for full in known}
        raise ArgumentNameError(
            f"no part of this sweep has a parameter {name!r}{did_you_mean(name, [*short_names, ITERATIONS])} There "
            f"are {', '.join([*known, ITERATIONS])}"
        )
    return f"{holders[0].label}.{name}", holders[0], holders[0].parameter(name)


def _refuse_seed(name: str) -> None:
    if name == "seed":
        raise ArgumentNameError(
            "'seed' is no variable: every configuration runs with each of the sweep's seeds"
        )
