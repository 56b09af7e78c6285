"""Type annotations: as a reader would write them, and what they are without their decoration."""

from __future__ import annotations

import collections.abc
import os
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

_SEQUENCES = (
    tuple,
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)


def type_name(annotation: Any) -> str:
    """Return a type annotation as a reader would write it.

    >>> from recon.parameters import Param
    >>> type_name(Annotated[float | Literal["auto"], Param("strength")])
    "float | 'auto'"
    """
    annotation = bare(annotation)
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
    if is_union(origin):
        return " | ".join(type_name(member) for member in arguments)
    if origin is collections.abc.Callable:
        return "callable"
    if origin is not None:
        return f"{origin.__name__}[{', '.join(type_name(argument) for argument in arguments)}]"
    return getattr(annotation, "__name__", str(annotation))


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


def in_words(annotation: Any) -> str:
    """What a value of this type is, for an error: ``"a number or 'auto'"``.

    >>> in_words(tuple[int, int])
    '2 whole numbers in brackets like (2,3)'
    """
    annotation = bare(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _WORDS:
        return _WORDS[annotation]
    if origin is Literal:
        return _joined([repr(value) for value in arguments])
    if is_union(origin):
        members = [bare(member) for member in arguments]
        words = [
            [repr(value) for value in get_args(member)]
            if get_origin(member) is Literal
            else [in_words(member)]
            for member in members
        ]
        return _joined([word for several in words for word in several])
    if not is_sequence(annotation):
        name = type_name(annotation)
        return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"
    kinds = [bare(argument) for argument in arguments if argument is not Ellipsis]
    fixed = (origin or annotation) is tuple and Ellipsis not in arguments and bool(kinds)
    several, examples = _SEVERAL.get(kinds[0] if len(set(kinds)) == 1 else None, ("values", "1,2,3,4"))
    count = len(kinds) if fixed else 2
    shown = ",".join(examples.split(",")[:count])
    return f"{f'{count} ' if fixed else ''}{several} in brackets like ({shown})"


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"


def bare(annotation: Any) -> Any:
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


def is_union(origin: Any) -> bool:
    """Whether this is the origin of a union, however it was written."""
    return origin is typing.Union or origin is types.UnionType


def is_sequence(annotation: Any) -> bool:
    """Whether this is a tuple, a list or what either may stand for."""
    return annotation in _SEQUENCES or get_origin(annotation) in _SEQUENCES


def literal_values(annotation: Any) -> tuple[Any, ...]:
    """Return the values of a Literal; nothing if other values are possible too."""
    annotation = bare(annotation)
    return get_args(annotation) if get_origin(annotation) is Literal else ()
