"""MATLAB's file format of versions 5 to 7, with every length checked (SciPy's parser crashes on damage).

Format: MathWorks, "MAT-File Format", level 5. A file is a header and a sequence of elements, each a tag
(type, number of bytes) and that many bytes, padded to 8. A variable is an element of type matrix, perhaps
compressed, which holds its flags, dimensions, name and values as elements in turn.

Whatever is wrong with a file raises a ValueError or the exception of the parsing step that noticed it.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

HEADER = 128
MATRIX, COMPRESSED = 14, 15
COMPLEX, LOGICAL = 0x08, 0x02

CLASSES = {
    1: "cell",
    2: "struct",
    3: "object",
    4: "char",
    5: "sparse",
    6: "double",
    7: "single",
    8: "int8",
    9: "uint8",
    10: "int16",
    11: "uint16",
    12: "int32",
    13: "uint32",
    14: "int64",
    15: "uint64",
    16: "function",
    17: "opaque",
}
NUMERIC = {"double": "float64", "single": "float32", "logical": "bool"} | {
    name: name for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
}
# How values are packed: often narrower than their class.
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
# How text is packed.
LETTERS = {1: "utf-8", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16"}

# Flags, dimensions and name of a variable take less.
LONGEST_HEAD = 4096


@dataclass(frozen=True)
class Element:
    """One tagged element."""

    kind: int
    payload: memoryview


@dataclass(frozen=True)
class Variable:
    """A variable, or a field of a struct; its values are parsed on demand."""

    name: str
    kind: str
    shape: tuple[int, ...]
    is_complex: bool
    order: str
    element: Element

    def __str__(self) -> str:
        return f"{'complex ' if self.is_complex else ''}{self.kind} {self.shape}"

    def values(self) -> np.ndarray:
        """The numbers of a numeric variable, in its class: float64 for a double, however they are packed."""
        parts = list(elements(_matrix(self.element, self.order), self.order))[3:]
        needed = 2 if self.is_complex else 1
        if self.kind not in NUMERIC or len(parts) < needed:
            raise ValueError(f"'{self.name}' is a {self}, not an array of numbers")
        real, *imaginary = (self._numbers(part) for part in parts[:needed])
        if imaginary:
            values = np.empty(real.shape, np.result_type(real, np.complex64))
            values.real, values.imag = real, imaginary[0]
            return values
        return real

    def text(self) -> str:
        """The letters of a char variable."""
        parts = list(elements(_matrix(self.element, self.order), self.order))[3:]
        if self.kind != "char" or len(parts) != 1 or parts[0].kind not in LETTERS:
            raise ValueError(f"'{self.name}' is a {self}, not text")
        encoding = LETTERS[parts[0].kind]
        endian = {"<": "-le", ">": "-be"}[self.order] if encoding.startswith("utf-16") else ""
        return bytes(parts[0].payload).decode(encoding + endian)

    def _numbers(self, part: Element) -> np.ndarray:
        if part.kind not in STORED:
            raise ValueError(f"'{self.name}' has values of type {part.kind}")
        stored = np.frombuffer(part.payload, np.dtype(self.order + STORED[part.kind]))
        if stored.size != math.prod(self.shape):
            raise ValueError(f"'{self.name}' has {stored.size} values for the shape {self.shape}")
        return stored.astype(NUMERIC[self.kind]).reshape(self.shape, order="F")

    def fields(self) -> dict[str, Variable]:
        """The fields of a 1 x 1 struct by name; nothing for any other variable."""
        if self.kind != "struct" or math.prod(self.shape) != 1:
            return {}
        _, _, _, length, names, *contents = elements(_matrix(self.element, self.order), self.order)
        (longest,) = struct.unpack(self.order + "i", length.payload)
        if longest < 1:
            raise ValueError(f"'{self.name}' has field names of {longest} letters")
        starts = range(0, len(names.payload), longest)
        fields = [_text(names.payload[start : start + longest]) for start in starts]
        return {
            field: _variable(content, self.order, f"{self.name}.{field}")
            for field, content in zip(fields, contents, strict=True)
            if content.payload
        }


def variables(content: bytes) -> dict[str, Variable]:
    """The variables of a file by name."""
    order = {b"IM": "<", b"MI": ">"}.get(content[126:HEADER])
    if order is None:
        raise ValueError("its header does not say the byte order")
    (version,) = struct.unpack_from(order + "H", content, 124)
    if version != 0x0100:
        raise ValueError(f"version {version >> 8} of the MATLAB format, expected 1")
    found = (_variable(element, order) for element in elements(memoryview(content)[HEADER:], order))
    return {variable.name: variable for variable in found if variable.name}


def elements(content: memoryview, order: str) -> Iterator[Element]:
    """The elements that follow one another until the end of `content`."""
    position = 0
    while position < len(content):
        kind, size = struct.unpack_from(order + "II", content, position)
        start = position + 8
        if kind >> 16:  # the small form: type and size in one word, up to 4 bytes of data in the other
            kind, size, start = kind & 0xFFFF, kind >> 16, position + 4
            position += 8
            if size > 4:
                raise ValueError(f"a small element of {size} bytes")
        else:
            position = start + (size if kind == COMPRESSED else -(-size // 8) * 8)
        if start + size > len(content):
            raise ValueError(f"an element of {size} bytes where {len(content) - start} are left")
        yield Element(kind, content[start : start + size])


def _variable(element: Element, order: str, name: str = "") -> Variable:
    parts = elements(_matrix(element, order, LONGEST_HEAD), order)
    flags, dimensions, own_name = (part.payload for part in islice(parts, 3))  # the values may be cut off
    (word,) = struct.unpack_from(order + "I", flags)
    kind = CLASSES.get(word & 0xFF)
    if kind is None:
        raise ValueError(f"a variable of class {word & 0xFF}")
    if kind == "opaque":  # a MATLAB object has a name in place of the dimensions
        return Variable(name or _text(dimensions), kind, (), False, order, element)
    shape = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions)
    if len(shape) < 2 or min(shape) < 0:
        raise ValueError(f"a variable of shape {shape}")
    if kind == "uint8" and word >> 8 & LOGICAL:
        kind = "logical"
    return Variable(name or _text(own_name), kind, shape, bool(word >> 8 & COMPLEX), order, element)


def _matrix(element: Element, order: str, longest: int = 0) -> memoryview:
    """The content of a variable, decompressed; `longest` (if not 0) limits how much of it is decompressed."""
    kind, content = element.kind, element.payload
    if kind == COMPRESSED:
        inflater = zlib.decompressobj()
        inflated = inflater.decompress(content, longest)
        kind, size = struct.unpack_from(order + "II", inflated)
        if not longest and not (inflater.eof and len(inflated) == 8 + size):
            raise ValueError("a compressed variable has not the length it declares")
        content = memoryview(inflated)[8:]
    if kind != MATRIX:
        raise ValueError(f"an element of type {kind} where a variable should be")
    return content


def _text(content: memoryview) -> str:
    return bytes(content).partition(b"\0")[0].decode("utf-8")
