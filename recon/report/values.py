"""The values of an image inside a page: fixed-point numbers, packed so that a browser can unpack them."""

import base64
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["PackedValues", "bits_for", "pack"]

_BITS = {300_000: 16, 1_500_000: 14, 6_000_000: 12}  # up to so many pixels; keeps noise below about 8 MB


@dataclass(frozen=True, kw_only=True)
class PackedValues:
    """An image `low + step * integer`, its integers packed.

    Packed are the differences to the left neighbour (the first column: to 0), modulo 65536 and with the sign
    moved to the lowest bit, all high bytes before all low bytes, compressed by zlib, as base64.
    """

    low: float
    step: float
    shape: tuple[int, int]
    packed: str


def bits_for(pixels: int) -> int:
    """Bits a pixel for a viewer of so many pixels: fewer for more, and 0 where a page would grow too large."""
    return next((bits for most, bits in _BITS.items() if pixels <= most), 0)


def pack(values: npt.NDArray[np.float64], bits: int) -> PackedValues:
    """Pack finite values `(height, width)` with an error of at most half a step, the range / (2^bits - 1)."""
    low, high = float(values.min()), float(values.max())
    step = (high - low) / (2**bits - 1) or float(np.spacing(abs(low) or 1.0))  # a constant is exact
    integers = np.round((values - low) / step).astype(np.int64)
    change = np.diff(integers, axis=1, prepend=0).astype(np.uint16).view(np.int16)
    folded = ((change << 1) ^ (change >> 15)).view(np.uint16)
    content = zlib.compress((folded >> 8).astype(np.uint8).tobytes() + folded.astype(np.uint8).tobytes(), 9)
    height, width = values.shape
    text = base64.b64encode(content).decode("ascii")
    return PackedValues(low=low, step=step, shape=(height, width), packed=text)
