"""Type annotations: as a reader would write them, and what they are without their decoration."""

from __future__ import annotations

import collections.abc
import types
import typing
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
