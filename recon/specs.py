"""Names with arguments as text, ``"name:arg=value"``: what the command line and files of settings say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_OPEN = {"(": ")", "[": "]"}


class SpecError(ValueError):
    """A text such as ``"name:arg=value"`` cannot be read."""


class SpecText(str):
    """An argument as written in a spec, still to be read according to its parameter's type."""

    __slots__ = ()


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


def items_of(value: Any) -> list[Any] | None:
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
    return list(value) if isinstance(value, Iterable) else None


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
