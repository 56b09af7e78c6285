"""Values for parameters: converted to the declared type, read if they are text, checked against their bounds."""

from __future__ import annotations

import math
import numbers
import os
import re
import reprlib
import types
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from recon.annotations import bare, in_words, is_sequence, is_union
from recon.specs import SpecText, items_of

if TYPE_CHECKING:
    from recon.parameters import Param

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_NONE = ("none", "null")


class MismatchError(Exception):
    """`value`, found at `place` inside the argument, is not what is `expected`."""

    def __init__(self, value: Any, expected: str, place: str = "") -> None:
        super().__init__(expected)
        self.value, self.expected, self.place = value, expected, place

    def inside(self, index: int) -> MismatchError:
        return MismatchError(self.value, self.expected, f"[{index}]{self.place}")


def convert(value: Any, annotation: Any) -> Any:
    """The value as the annotated type; MismatchError says what it must be."""
    annotation = bare(annotation)
    origin = get_origin(annotation)
    if is_union(origin):
        return _convert_to_member(value, annotation)
    if origin is Literal:
        return _convert_to_choice(value, annotation)
    if is_sequence(annotation):
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
        raise MismatchError(value, f"must be {in_words(annotation)}")
    return guess


def _convert_to_member(value: Any, annotation: Any) -> Any:
    members = [bare(member) for member in get_args(annotation)]
    for member in members:
        if type(value) is member or (_is_opaque(member) and _is_a(value, member)):
            return convert(value, member)
    inside = None
    for member in sorted(members, key=_reading_order):
        try:
            return convert(value, member)
        except MismatchError as mismatch:
            inside = mismatch if mismatch.place else inside
    raise inside or MismatchError(value, f"must be {in_words(annotation)}")


def _is_opaque(annotation: Any) -> bool:
    """True for the types that only the factory can check."""
    return not (
        annotation in _READERS
        or annotation is Any
        or isinstance(annotation, str)
        or get_origin(annotation) is Literal
        or is_sequence(annotation)
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
    raise MismatchError(value, f"is not one of {', '.join(map(str, choices))}")


def _convert_to_sequence(value: Any, annotation: Any) -> Any:
    items = items_of(value)
    if items is None:
        raise MismatchError(value, f"must be {in_words(annotation)}")
    kind, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(items) != len(arguments):
            raise MismatchError(value, f"must be {in_words(annotation)}, not {len(items)}")
        item_types = arguments
    else:
        item_types = (arguments[0] if arguments else Any,) * len(items)
    converted = []
    for index, (item, item_type) in enumerate(zip(items, item_types, strict=True)):
        try:
            converted.append(convert(item, item_type))
        except MismatchError as mismatch:
            raise mismatch.inside(index) from None
    return converted if kind is list else tuple(converted)


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
    raise MismatchError(given, "must be a whole number")


def _read_float(value: Any, given: Any, expected: str = "must be a number") -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise MismatchError(given, expected) from None
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or math.isnan(value):
        raise MismatchError(given, expected)
    return float(value)


def _read_bool(value: Any, given: Any) -> bool:
    if isinstance(value, str) and value.lower() in (*_TRUE, *_FALSE):
        return value.lower() in _TRUE
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise MismatchError(given, "must be true or false")


def _read_text(value: Any, given: Any) -> str:
    if not isinstance(value, str):
        raise MismatchError(given, "must be text")
    return str(value)


def _read_path(value: Any, given: Any) -> Path:
    if not isinstance(value, str | PurePath):
        raise MismatchError(given, "must be a path")
    return Path(value)


def _read_none(value: Any, given: Any) -> None:
    if value is not None and not (isinstance(value, str) and value.lower() in _NONE):
        raise MismatchError(given, "must be none")


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
    items = items_of(text)
    if items is not None:
        return [_guess(item) if isinstance(item, SpecText) else item for item in items]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return str(text)


def bounds_of(about: Param) -> list[tuple[str, float, Callable[[float], bool]]]:
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


def check_number(value: Any, about: Param) -> None:
    """Check bounds and choices of a number or text, or of every one in a sequence."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            try:
                check_number(item, about)
            except MismatchError as mismatch:
                raise mismatch.inside(index) from None
        return
    if about.choices and value is not None and value not in about.choices:
        raise MismatchError(value, f"is not one of {', '.join(map(str, about.choices))}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        for sign, limit, holds in bounds_of(about):
            if not holds(value):
                unit = f" {about.unit}" if about.unit else ""
                raise MismatchError(value, f"must be {sign} {limit:g}{unit}")


def same_plain(value: Any, default: Any) -> bool:
    """True if both are the same plain value (an array would answer `==` with an array)."""
    return type(value) is type(default) and isinstance(value, str | int | float | bool) and value == default


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60
_REPR.maxtuple = _REPR.maxlist = 8


def shown(value: Any) -> str:
    """Return a short one-line repr for messages."""
    return re.sub(r"\s+", " ", _REPR.repr(str(value) if isinstance(value, SpecText) else value))
