"""A factory's parameters: read from its signature, shown to the user, and checked before it is called."""

from __future__ import annotations

import collections.abc
import inspect
import math
import numbers
import os
import re
import reprlib
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, get_args, get_origin

from recon.suggestions import did_you_mean

REQUIRED: Any = inspect.Parameter.empty
"""The default of a parameter that has none."""

_SEQUENCES = (
    tuple,
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_NONE = ("none", "null")
_OPEN = {"(": ")", "[": "]"}


class SpecError(ValueError):
    """A text such as ``"name:arg=value"`` cannot be read."""


class ArgumentNameError(TypeError):
    """An argument is unknown, missing, or given twice."""


class ArgumentValueError(ValueError):
    """An argument has the wrong type or lies outside its bounds."""


class SignatureError(TypeError):
    """A factory's signature hides its parameters, so that they cannot be listed or checked."""


class SpecText(str):
    """An argument as written in a spec, still to be read according to its parameter's type."""

    __slots__ = ()


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
        return ", ".join(f"{sign} {limit:g}" for sign, limit, _ in _bounds(self.about))

    def __str__(self) -> str:
        has_unit = self.about.unit and isinstance(self.default, int | float | tuple)
        unit = f" {self.about.unit}" if has_unit else ""
        default = " (required)" if self.required else f" = {_shown(self.default)}{unit}"
        return f"{self.name}: {self.type_name}{default}"

    def coerce(self, value: Any) -> Any:
        """Return `value` as the declared type, reading it if it is text.

        The default itself always passes. Raises ArgumentValueError naming the value and what it must be.
        """
        if not self.required and (value is self.default or _same_plain(value, self.default)):
            return value
        try:
            result = _convert(value, self.annotation)
            _check_number(result, self.about)
        except _MismatchError as mismatch:
            raise ArgumentValueError(
                f"{self.name}{mismatch.place}={_shown(mismatch.value)} {mismatch.expected}"
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
        if choices := about.choices or _literal_values(self.annotation):
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


def parse_spec(text: str) -> tuple[str, dict[str, str]]:
    """Split ``"name:arg=value,other=[1,2]"`` into the name and its arguments, still as text.

    Commas inside brackets or quotes belong to the value; quotes around a value are taken off.

    >>> parse_spec("ct_parallel:shape=(64,64),angles=30")
    ('ct_parallel', {'shape': '(64,64)', 'angles': '30'})

    Raises SpecError saying which part cannot be read.
    """
    name, colon, rest = text.partition(":")
    name = name.strip()
    if not name:
        raise SpecError(f"{text!r} has no name; write name or name:arg=value,other=value")
    arguments: dict[str, str] = {}
    if not colon:
        return name, arguments
    for part in _split(rest, text):
        key, equals, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not key:
            raise SpecError(f"{part.strip()!r} in {text!r} is not of the form arg=value")
        if not value:
            raise SpecError(f"{key!r} in {text!r} has no value; write {key}='' for an empty text")
        if key in arguments:
            raise SpecError(f"{key!r} is given twice in {text!r}")
        arguments[key] = _unquoted(value)
    if not arguments:
        raise SpecError(f"nothing follows the colon in {text!r}; write {name}:arg=value")
    return name, arguments


def split_sum(text: str) -> list[str]:
    """Split specs joined by ``+``; one inside brackets or quotes, or before a digit, belongs to a value.

    >>> split_sum("tv:weight=1e+3 + wavelet")
    ['tv:weight=1e+3', 'wavelet']

    Raises SpecError where nothing is to the left or the right of a ``+``.
    """
    parts = [part.strip() for part in _split(text, text, "+")]
    if "" in parts or text.rstrip().endswith("+"):
        raise SpecError(f"a name is missing in {text!r}; write name, or name + name")
    return parts


def values_of(text: str) -> list[str]:
    """Split ``"a,(b,c)"`` at its outer commas into values, still as text.

    >>> values_of("3,(4,5)")
    ['3', '(4,5)']

    Raises SpecError saying what cannot be read, such as a bracket that is not closed or an empty value.
    """
    values = [_unquoted(part.strip()) for part in _split(text, text)] if text.strip() else []
    if not all(values):
        raise SpecError(f"{text!r} has an empty value")
    return values


def type_name(annotation: Any) -> str:
    """Return a type annotation as a reader would write it.

    >>> type_name(Annotated[float | Literal["auto"], Param("strength")])
    "float | 'auto'"
    """
    annotation = _bare(annotation)
    if annotation is Any:
        return "any"
    if annotation is None or annotation is types.NoneType:
        return "None"
    if annotation is Ellipsis:
        return "..."
    if isinstance(annotation, str):
        return annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(repr(value) for value in arguments)
    if _is_union(origin):
        return " | ".join(type_name(member) for member in arguments)
    if origin is collections.abc.Callable:
        return "callable"
    if origin is not None:
        return f"{origin.__name__}[{', '.join(type_name(argument) for argument in arguments)}]"
    return getattr(annotation, "__name__", str(annotation))


def in_words(annotation: Any) -> str:
    """What a value of this type is, for an error: ``"a number or 'auto'"``.

    >>> in_words(tuple[int, int])
    '2 whole numbers in brackets like (2,3)'
    """
    annotation = _bare(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _WORDS:
        return _WORDS[annotation]
    if origin is Literal:
        return _joined([repr(value) for value in arguments])
    if _is_union(origin):
        members = [_bare(member) for member in arguments]
        words = [
            [repr(value) for value in get_args(member)]
            if get_origin(member) is Literal
            else [in_words(member)]
            for member in members
        ]
        return _joined([word for several in words for word in several])
    if not _is_sequence(annotation):
        name = type_name(annotation)
        return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"
    kinds = [_bare(argument) for argument in arguments if argument is not Ellipsis]
    fixed = (origin or annotation) is tuple and Ellipsis not in arguments and bool(kinds)
    several, examples = _SEVERAL.get(kinds[0] if len(set(kinds)) == 1 else None, ("values", "1,2,3,4"))
    count = len(kinds) if fixed else 2
    shown = ",".join(examples.split(",")[:count])
    return f"{f'{count} ' if fixed else ''}{several} in brackets like ({shown})"


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"


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
    return str(value) if isinstance(value, PurePath) else _shown(value)


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
    elif _is_union(get_origin(annotation)):
        for member in get_args(annotation):
            yield from _params_in(member)


def _factory_name(factory: Callable[..., Any]) -> str:
    return f"{factory.__module__}:{getattr(factory, '__qualname__', type(factory).__qualname__)}"


# Types


def _bare(annotation: Any) -> Any:
    """Take off Annotated, NewType and `type` aliases."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = annotation.__origin__
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        elif isinstance(annotation, typing.TypeVar):
            annotation = Any
        else:
            return annotation


def _is_union(origin: Any) -> bool:
    return origin is typing.Union or origin is types.UnionType


def _is_sequence(annotation: Any) -> bool:
    return annotation in _SEQUENCES or get_origin(annotation) in _SEQUENCES


def _literal_values(annotation: Any) -> tuple[Any, ...]:
    """Return the values of a Literal; nothing if other values are possible too."""
    annotation = _bare(annotation)
    return get_args(annotation) if get_origin(annotation) is Literal else ()


# Values


class _MismatchError(Exception):
    """`value`, found at `place` inside the argument, is not what is `expected`."""

    def __init__(self, value: Any, expected: str, place: str = "") -> None:
        super().__init__(expected)
        self.value, self.expected, self.place = value, expected, place

    def inside(self, index: int) -> _MismatchError:
        return _MismatchError(self.value, self.expected, f"[{index}]{self.place}")


def _convert(value: Any, annotation: Any) -> Any:
    annotation = _bare(annotation)
    origin = get_origin(annotation)
    if _is_union(origin):
        return _convert_to_member(value, annotation)
    if origin is Literal:
        return _convert_to_choice(value, annotation)
    if _is_sequence(annotation):
        return _convert_to_sequence(value, annotation)
    if annotation in _READERS:
        return _READERS[annotation](_number_of(value), value)
    if annotation is Any or isinstance(annotation, str):
        return _guess(value) if isinstance(value, SpecText) else value
    return _convert_to_opaque(value, annotation)


def _convert_to_opaque(value: Any, annotation: Any) -> Any:
    """Let the factory check a type unknown here, such as Tensor; a text must be a number or a list."""
    if not isinstance(value, str) or _is_a(value, annotation):
        return value
    guess = _guess(value)
    if isinstance(guess, str):
        raise _MismatchError(value, f"must be {in_words(annotation)}")
    return guess


def _convert_to_member(value: Any, annotation: Any) -> Any:
    members = [_bare(member) for member in get_args(annotation)]
    for member in members:
        if type(value) is member or (_is_opaque(member) and _is_a(value, member)):
            return _convert(value, member)
    inside = None
    for member in sorted(members, key=_reading_order):
        try:
            return _convert(value, member)
        except _MismatchError as mismatch:
            inside = mismatch if mismatch.place else inside
    raise inside or _MismatchError(value, f"must be {in_words(annotation)}")


def _is_opaque(annotation: Any) -> bool:
    """True for the types that only the factory can check."""
    return not (
        annotation in _READERS
        or annotation is Any
        or isinstance(annotation, str)
        or get_origin(annotation) is Literal
        or _is_sequence(annotation)
    )


def _is_a(value: Any, annotation: Any) -> bool:
    """True if a base of `value` has the type's name; the type itself may exist for type checkers only."""
    return any(base.__name__ == getattr(annotation, "__name__", None) for base in type(value).__mro__)


def _reading_order(member: Any) -> int:
    """The strict readings of a union come first, then opaque types, text and what takes anything."""
    for place, strict in enumerate((types.NoneType, Literal, int, float, bool)):
        if member is strict or get_origin(member) is strict:
            return place
    if member is str:
        return 8
    if member is Any or isinstance(member, str):
        return 9
    return 7 if _is_opaque(member) else 6


def _convert_to_choice(value: Any, annotation: Any) -> Any:
    choices = get_args(annotation)
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    for choice in choices:
        if isinstance(value, str) and str(choice).lower() == value.lower():
            return choice
    raise _MismatchError(value, f"is not one of {', '.join(map(str, choices))}")


def _convert_to_sequence(value: Any, annotation: Any) -> Any:
    items = _items_of(value)
    if items is None:
        raise _MismatchError(value, f"must be {in_words(annotation)}")
    kind, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(items) != len(arguments):
            raise _MismatchError(value, f"must be {in_words(annotation)}, not {len(items)}")
        item_types = arguments
    else:
        item_types = (arguments[0] if arguments else Any,) * len(items)
    converted = []
    for index, (item, item_type) in enumerate(zip(items, item_types, strict=True)):
        try:
            converted.append(_convert(item, item_type))
        except _MismatchError as mismatch:
            raise mismatch.inside(index) from None
    return converted if kind is list else tuple(converted)


def _items_of(value: Any) -> list[Any] | None:
    """Return the items of a list, array, tensor or bracketed text; None if `value` is not a sequence."""
    if isinstance(value, str):
        text = value.strip()
        if text[:1] not in _OPEN or text[-1:] != _OPEN[text[0]]:
            return None
        try:
            return [_unquoted(item.strip()) for item in _split(text[1:-1], text)]
        except SpecError:
            return None
    if getattr(value, "ndim", None) == 0 or isinstance(value, bytes | Mapping):
        return None
    if hasattr(value, "tolist"):
        return list(value.tolist())
    return list(value) if isinstance(value, collections.abc.Iterable) else None


def _number_of(value: Any) -> Any:
    """Return the number in a 0-dimensional array or tensor; any other value as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _read_int(value: Any, given: Any) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            value = _read_float(value, given, "must be a whole number")
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and float(value).is_integer():
        return int(float(value))
    raise _MismatchError(given, "must be a whole number")


def _read_float(value: Any, given: Any, expected: str = "must be a number") -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise _MismatchError(given, expected) from None
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or math.isnan(value):
        raise _MismatchError(given, expected)
    return float(value)


def _read_bool(value: Any, given: Any) -> bool:
    if isinstance(value, str) and value.lower() in (*_TRUE, *_FALSE):
        return value.lower() in _TRUE
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise _MismatchError(given, "must be true or false")


def _read_text(value: Any, given: Any) -> str:
    if not isinstance(value, str):
        raise _MismatchError(given, "must be text")
    return str(value)


def _read_path(value: Any, given: Any) -> Path:
    if not isinstance(value, str | PurePath):
        raise _MismatchError(given, "must be a path")
    return Path(value)


def _read_none(value: Any, given: Any) -> None:
    if value is not None and not (isinstance(value, str) and value.lower() in _NONE):
        raise _MismatchError(given, "must be none")


_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    os.PathLike: "a path",
    types.NoneType: "none",
    None: "none",
    Any: "any value",
}
_SEVERAL: dict[Any, tuple[str, str]] = {
    int: ("whole numbers", "2,3,4,5"),
    float: ("numbers", "0.5,1,1.5,2"),
    str: ("texts", "a,b,c,d"),
}

_READERS: dict[Any, Callable[[Any, Any], Any]] = {
    int: _read_int,
    float: _read_float,
    bool: _read_bool,
    str: _read_text,
    Path: _read_path,
    os.PathLike: _read_path,
    types.NoneType: _read_none,
}


def _guess(text: str) -> Any:
    """Read the text of a spec whose parameter declares no type that could guide the reading."""
    if text.lower() in _NONE:
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    items = _items_of(text)
    if items is not None:
        return [_guess(item) if isinstance(item, SpecText) else item for item in items]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return str(text)


def _bounds(about: Param) -> list[tuple[str, float, Callable[[float], bool]]]:
    """Return each bound as its sign, its limit and its test."""
    bounds: list[tuple[str, float, Callable[[float], bool]]] = []
    if (ge := about.ge) is not None:
        bounds.append((">=", ge, lambda number: number >= ge))
    if (gt := about.gt) is not None:
        bounds.append((">", gt, lambda number: number > gt))
    if (le := about.le) is not None:
        bounds.append(("<=", le, lambda number: number <= le))
    if (lt := about.lt) is not None:
        bounds.append(("<", lt, lambda number: number < lt))
    return bounds


def _check_number(value: Any, about: Param) -> None:
    """Check bounds and choices of a number or text, or of every one in a sequence."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            try:
                _check_number(item, about)
            except _MismatchError as mismatch:
                raise mismatch.inside(index) from None
        return
    if about.choices and value is not None and value not in about.choices:
        raise _MismatchError(value, f"is not one of {', '.join(map(str, about.choices))}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        for sign, limit, holds in _bounds(about):
            if not holds(value):
                unit = f" {about.unit}" if about.unit else ""
                raise _MismatchError(value, f"must be {sign} {limit:g}{unit}")


def _same_plain(value: Any, default: Any) -> bool:
    """True if both are the same plain value (an array would answer `==` with an array)."""
    return type(value) is type(default) and isinstance(value, str | int | float | bool) and value == default


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60
_REPR.maxtuple = _REPR.maxlist = 8


def _shown(value: Any) -> str:
    """Return a short one-line repr for messages."""
    return re.sub(r"\s+", " ", _REPR.repr(str(value) if isinstance(value, SpecText) else value))


# Text


def _split(text: str, whole: str, separator: str = ",") -> list[str]:
    """Split at separators outside brackets and quotes; an empty last part (a trailing separator) is dropped.

    A ``+`` before a digit is one of a number, ``1e+3``, and separates nothing.
    """
    parts, start, closing, quote, before = [], 0, [], "", ","
    for position, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and before in "=,[(":
            quote = letter
        elif letter in _OPEN:
            closing.append(_OPEN[letter])
        elif letter in _OPEN.values():
            if not closing or closing.pop() != letter:
                raise SpecError(
                    f"unexpected {letter!r} in {whole!r}; put quotes around a text that contains it"
                )
        elif (
            letter == separator and not closing and not (letter == "+" and text[position + 1 :][:1].isdigit())
        ):
            parts.append(text[start:position])
            start = position + 1
        before = letter if not letter.isspace() else before
    if closing or quote:
        raise SpecError(f"missing {quote or closing[-1]!r} in {whole!r}")
    parts.append(text[start:])
    return parts if parts[-1].strip() else parts[:-1]


def _unquoted(value: str) -> str:
    """Take the quotes off a quoted text; mark any other as still to be read."""
    if len(value) >= 2 and value[0] in "'\"" and value[-1] == value[0]:
        return value[1:-1]
    return SpecText(value)
