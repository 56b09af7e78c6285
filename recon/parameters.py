"""A factory's parameters: read from its signature, shown to the user, and checked before it is called."""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Annotated, Any, get_args, get_origin

from recon.annotations import in_words as in_words
from recon.annotations import is_union, literal_values
from recon.annotations import type_name as type_name
from recon.conversion import MismatchError, bounds_of, check_number, convert, same_plain, shown
from recon.specs import SpecError as SpecError
from recon.specs import SpecText as SpecText
from recon.specs import parse_spec as parse_spec
from recon.specs import split_sum as split_sum
from recon.specs import values_of as values_of
from recon.suggestions import did_you_mean

REQUIRED: Any = inspect.Parameter.empty
"""The default of a parameter that has none."""


class ArgumentNameError(TypeError):
    """An argument is unknown, missing, or given twice."""


class ArgumentValueError(ValueError):
    """An argument has the wrong type or lies outside its bounds."""


class SignatureError(TypeError):
    """A factory's signature hides its parameters, so that they cannot be listed or checked."""


@dataclass(frozen=True)
class Param:
    """Describes one parameter of a factory inside `Annotated`.

    >>> from typing import Annotated
    >>> def blur(width: Annotated[float, Param("width of the kernel", unit="mm", gt=0)] = 1.0): ...
    >>> read_parameters(blur)[0].about.unit
    'mm'

    Bounds hold for the number, or for every number in a sequence. `choices` are the only values allowed.
    """

    description: str
    unit: str = field(default="", kw_only=True)
    ge: float | None = field(default=None, kw_only=True)
    gt: float | None = field(default=None, kw_only=True)
    le: float | None = field(default=None, kw_only=True)
    lt: float | None = field(default=None, kw_only=True)
    choices: tuple[Any, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: its name, type, default and what its `Param` says about it."""

    name: str
    annotation: Any
    default: Any
    about: Param

    @property
    def required(self) -> bool:
        """True if it has no default."""
        return self.default is REQUIRED

    @property
    def type_name(self) -> str:
        """The type as a reader would write it: ``int``, ``tuple[int, int]``, ``float | 'auto'``."""
        return type_name(self.annotation)

    @property
    def bounds(self) -> str:
        """The bounds in words: ``">= 0, < 1"``; empty if there are none."""
        return ", ".join(f"{sign} {limit:g}" for sign, limit, _ in bounds_of(self.about))

    def __str__(self) -> str:
        has_unit = self.about.unit and isinstance(self.default, int | float | tuple)
        unit = f" {self.about.unit}" if has_unit else ""
        default = " (required)" if self.required else f" = {shown(self.default)}{unit}"
        return f"{self.name}: {self.type_name}{default}"

    def coerce(self, value: Any) -> Any:
        """Return `value` as the declared type, reading it if it is text.

        The default itself always passes. Raises ArgumentValueError naming the value and what it must be.
        """
        if not self.required and (value is self.default or same_plain(value, self.default)):
            return value
        try:
            result = convert(value, self.annotation)
            check_number(result, self.about)
        except MismatchError as mismatch:
            raise ArgumentValueError(
                f"{self.name}{mismatch.place}={shown(mismatch.value)} {mismatch.expected}"
            ) from None
        return result

    def as_dict(self) -> dict[str, Any]:
        """Return the declaration as JSON-ready values; a default that JSON cannot hold becomes its repr."""
        about = self.about
        declaration: dict[str, Any] = {
            "name": self.name,
            "type": self.type_name,
            "required": self.required,
            "description": about.description,
            "unit": about.unit,
        }
        if not self.required:
            declaration["default"] = plain(self.default)
        declaration |= {
            bound: limit for bound in ("ge", "gt", "le", "lt") if (limit := getattr(about, bound)) is not None
        }
        if choices := about.choices or literal_values(self.annotation):
            declaration["choices"] = list(choices)
        return declaration


def read_parameters(factory: Callable[..., Any]) -> tuple[Parameter, ...]:
    """Return the declared parameters of a class or function in the order of its signature.

    >>> def disc(radius: float, centre: tuple[float, float] = (0.0, 0.0)): ...
    >>> [str(parameter) for parameter in read_parameters(disc)]
    ['radius: float (required)', 'centre: tuple[float, float] = (0.0, 0.0)']

    Raises SignatureError if ``*args``, ``**kwargs`` or positional-only arguments hide parameters.
    """
    try:
        signature = inspect.signature(factory)
    except ValueError as error:
        raise SignatureError(f"{factory!r} does not tell its signature: {error}") from error
    namespace = _namespace(factory)
    declared = []
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise SignatureError(
                f"{_factory_name(factory)}{signature} hides its parameters behind '{parameter}'; "
                "spell them out as named arguments"
            )
        annotation = _resolve(parameter.annotation, namespace)
        about = next(_params_in(annotation), None) or Param("")
        declared.append(Parameter(parameter.name, annotation, parameter.default, about))
    return tuple(declared)


def bind_arguments(
    subject: str, parameters: Sequence[Parameter], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Check `arguments` against `parameters` and return all values, defaults included, ready for the call.

    `subject` opens the error messages, e.g. ``"operator ct_parallel"``. Raises ArgumentNameError for an
    unknown or missing argument, ArgumentValueError for a value that does not fit.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    takes = f"It takes: {', '.join(map(str, parameters))}." if parameters else "It takes no arguments."
    for name in arguments:
        if name not in by_name:
            raise ArgumentNameError(
                f"{subject} has no parameter {name!r}{did_you_mean(name, by_name)} {takes}"
            )
    missing = [
        parameter for parameter in parameters if parameter.required and parameter.name not in arguments
    ]
    if missing:
        wanted = " and ".join(
            repr(parameter.name)
            + (f" ({parameter.about.description})" if parameter.about.description else "")
            for parameter in missing
        )
        raise ArgumentNameError(f"{subject} needs {wanted}. {takes}")
    values = {}
    for parameter in parameters:
        try:
            values[parameter.name] = (
                parameter.coerce(arguments[parameter.name])
                if parameter.name in arguments
                else parameter.default
            )
        except ArgumentValueError as error:
            raise ArgumentValueError(f"{subject}: {error}") from None
    return values


def plain(value: Any) -> Any:
    """Return `value` as numbers, text, lists and dicts that JSON can hold; anything else becomes its repr."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, PurePath) else shown(value)


# Reading a signature


def _namespace(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return the globals in which the annotations of `factory` were written."""
    function: Any = getattr(factory, "func", factory)
    if inspect.isclass(function):
        function = vars(function).get("__new__", function.__init__)
    elif not inspect.isroutine(function):
        function = type(function).__call__
    return getattr(inspect.unwrap(function), "__globals__", {})


def _resolve(annotation: Any, namespace: dict[str, Any]) -> Any:
    """Evaluate a textual annotation; a name that exists for type checkers only becomes an opaque type."""
    if annotation is REQUIRED:
        return Any
    opaque: dict[str, Any] = {}
    while True:

        def holder() -> None: ...

        holder.__annotations__ = {"value": annotation}
        try:
            return typing.get_type_hints(holder, namespace, opaque, include_extras=True)["value"]
        except NameError as error:
            if not error.name or error.name in opaque:
                return annotation
            opaque[error.name] = type(error.name, (), {})
        except (AttributeError, TypeError, SyntaxError):
            return annotation


def _params_in(annotation: Any) -> Iterator[Param]:
    """Yield the `Param` of ``Annotated[T, Param(...)]``, also when it is a member of a union."""
    if get_origin(annotation) is Annotated:
        yield from (extra for extra in annotation.__metadata__ if isinstance(extra, Param))
        yield from _params_in(annotation.__origin__)
    elif is_union(get_origin(annotation)):
        for member in get_args(annotation):
            yield from _params_in(member)


def _factory_name(factory: Callable[..., Any]) -> str:
    return f"{factory.__module__}:{getattr(factory, '__qualname__', type(factory).__qualname__)}"
