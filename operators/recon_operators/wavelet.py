"""The wavelet transform of an image: orthogonal, or undecimated (a tight frame)."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor

from recon.linear import LinearOperator, Step, solve_in_fourier
from recon.parameters import Param
from recon.suggestions import did_you_mean

_LOW, _HIGH = 0, 1


class Wavelet(LinearOperator):
    """Separable wavelet transform along every axis of the image, which repeats beyond its edges.

    Undecimated, every level keeps all pixels: images ``(*batch, *shape)`` become ``(*batch, bands, *shape)``
    with bands = 1 + levels (2^axes - 1), the approximation first, then the details from the coarsest level to
    the finest. The transform is translation-invariant and a Parseval frame, W^H W = 1 (Coifman and Donoho,
    Translation-invariant de-noising, 1995), for images of any size.

    Decimated, it is the orthogonal transform in the usual nested layout: ``(*batch, *shape)``, the approximation
    in the corner of the lowest indices (Mallat 1989). Every side must then be divisible by 2^levels.

    Args:
        shape: image shape; every axis is transformed.
        wavelet: name of an orthogonal wavelet of PyWavelets: ``"haar"``, ``"db4"``, ``"sym4"``, ``"coif1"``, ...
        levels: number of scales.
        decimated: the orthogonal transform instead of the tight frame.

    Raises:
        ValueError: no such wavelet or not an orthogonal one, levels below 1 or too many, a side that 2^levels
            does not divide.
    """

    domain = "any"

    def __init__(
        self,
        shape: Annotated[tuple[int, ...], Param("image shape", unit="px", ge=1)],
        wavelet: Annotated[str, Param("orthogonal wavelet, by its name in PyWavelets")] = "db4",
        levels: Annotated[int, Param("number of scales", ge=1)] = 3,
        decimated: Annotated[bool, Param("orthogonal transform instead of the tight frame")] = False,
    ) -> None:
        shape = tuple(shape)
        _check_levels(shape, levels, decimated)
        bands = 1 + levels * (2 ** len(shape) - 1)
        super().__init__(shape, shape if decimated else (bands, *shape))
        self.filters = orthogonal_filters(wavelet)
        self.wavelet, self.levels, self.decimated = wavelet, int(levels), bool(decimated)
        self.orthonormal = self.decimated
        self._axes = tuple(range(-len(self.domain_shape), 0))
        # the choice of low- or high-pass along each axis; the first is the approximation
        self._choices = tuple(itertools.product((_LOW, _HIGH), repeat=len(self._axes)))

    def _forward(self, x: Tensor) -> Tensor:
        return self._analyse(x) if self.decimated else self._analyse_frame(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._synthesise(y) if self.decimated else self._synthesise_frame(y)

    def _gram(self, x: Tensor) -> Tensor:
        return x.clone()

    def _norm(self) -> float:
        return 1.0

    def _pinv(self, y: Tensor, **options: Any) -> Tensor:
        """The adjoint: W^H W = 1."""
        return self._adjoint(y)

    def fourier_symbol(self) -> Tensor:
        """Ones: W^H W = 1."""
        return torch.ones(self.domain_shape)

    def solve_gram(self, b: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator]) -> Tensor | None:
        """Division in the Fourier domain where the FFT diagonalises every term."""
        return solve_in_fourier(torch.ones(self.domain_shape, device=b.device), b, rho, terms)

    def extra_repr(self) -> str:
        """Shapes, wavelet and levels."""
        kind = "decimated" if self.decimated else "undecimated"
        return f"{super().extra_repr()}, {self.wavelet!r}, levels={self.levels}, {kind}"

    def _split(self, x: Tensor, dilation: int) -> list[Tensor]:
        """The image filtered by every choice, each filter's holes `dilation` wide."""
        parts = [x]
        for axis in self._axes:
            parts = [correlate(part, taps, axis, dilation) for part in parts for taps in self.filters]
        return parts

    def _merge(self, parts: Sequence[Tensor], dilation: int) -> Tensor:
        """The adjoint of `_split`."""
        for axis in reversed(self._axes):
            parts = [
                correlate(low, self.filters[_LOW], axis, -dilation)
                + correlate(high, self.filters[_HIGH], axis, -dilation)
                for low, high in zip(parts[::2], parts[1::2], strict=True)
            ]
        return parts[0]

    def _analyse_frame(self, x: Tensor) -> Tensor:
        scale = math.sqrt(0.5) ** len(self._axes)
        details: list[Tensor] = []
        for level in range(self.levels):
            x, *finer = (part.mul_(scale) for part in self._split(x, 2**level))
            details = [*finer, *details]
        return torch.stack([x, *details], dim=self._axes[0] - 1)

    def _synthesise_frame(self, y: Tensor) -> Tensor:
        scale = math.sqrt(0.5) ** len(self._axes)
        x, *details = y.unbind(self._axes[0] - 1)
        for level in reversed(range(self.levels)):
            finer, details = details[: len(self._choices) - 1], details[len(self._choices) - 1 :]
            x = self._merge([x, *finer], 2**level).mul_(scale)
        return x

    def _analyse(self, x: Tensor) -> Tensor:
        result, corner = torch.empty_like(x), x
        for _ in range(self.levels):
            parts = [corner]
            for axis in self._axes:
                parts = [half for part in parts for half in halved(part, self.filters, axis)]
            for choice, part in zip(self._choices, parts, strict=True):
                result[self._block(choice, part.shape)] = part
            corner = parts[0]
        return result

    def _synthesise(self, y: Tensor) -> Tensor:
        corner: Tensor | None = None
        for level in reversed(range(self.levels)):
            sides = [side >> (level + 1) for side in self.domain_shape]
            parts = [y[self._block(choice, sides)] for choice in self._choices]
            if corner is not None:
                parts[0] = corner
            for axis in reversed(self._axes):
                pairs = zip(parts[::2], parts[1::2], strict=True)
                parts = [joined(pair, self.filters, axis) for pair in pairs]
            corner = parts[0]
        assert corner is not None
        return corner

    def _block(self, choice: Sequence[int], shape: Sequence[int]) -> tuple[Any, ...]:
        """Where the coefficients of a choice lie: the second half of an axis for its high-pass."""
        sides = shape[-len(self._axes) :]
        return (
            ...,
            *(slice(high * side, (1 + high) * side) for high, side in zip(choice, sides, strict=True)),
        )


def correlate(x: Tensor, taps: Sequence[float], axis: int, dilation: int) -> Tensor:
    """sum_k taps[k] x[n + (k - K/2 + 1) dilation] along a periodic axis, with K taps.

    A negative dilation gives the adjoint.
    """
    side, middle = x.shape[axis], len(taps) // 2 - 1
    result = torch.zeros_like(x)
    for place, factor in enumerate(taps):
        shift = ((place - middle) * dilation) % side
        rest = side - shift
        result.narrow(axis, 0, rest).add_(x.narrow(axis, shift, rest), alpha=factor)
        if shift:
            result.narrow(axis, rest, shift).add_(x.narrow(axis, 0, shift), alpha=factor)
    return result


def halved(x: Tensor, filters: Sequence[Sequence[float]], axis: int) -> list[Tensor]:
    """Every second value of `correlate` along an axis of even length, without the others, for several filters.

    Even and odd places are taken apart first: so every product is one pass over neighbours in memory.
    """
    half = x.shape[axis] // 2
    first, last = _reach(filters[0])
    phases = [_wrapped(phase, -first, last, axis) for phase in _phases(x, axis)]
    results = []
    for taps in filters:
        result: Tensor | None = None
        for factor, shift, parity in _by_phase(taps):
            seen = phases[parity].narrow(axis, shift - first, half)
            result = seen * factor if result is None else result.add_(seen, alpha=factor)
        assert result is not None
        results.append(result)
    return results


def joined(parts: Sequence[Tensor], filters: Sequence[Sequence[float]], axis: int) -> Tensor:
    """The adjoint of `halved`: one image of the parts that the filters gave."""
    half = parts[0].shape[axis]
    first, last = _reach(filters[0])
    shape = list(parts[0].shape)
    shape[axis] = 2 * half
    image = parts[0].new_empty(shape)
    sums: list[Tensor | None] = [None, None]
    for part, taps in zip(parts, filters, strict=True):
        wrapped = _wrapped(part, last, -first, axis)
        for factor, shift, parity in _by_phase(taps):
            seen, before = wrapped.narrow(axis, last - shift, half), sums[parity]
            sums[parity] = seen * factor if before is None else before.add_(seen, alpha=factor)
    pairs, place = _pairs(image, axis)
    for parity, total in enumerate(sums):
        assert total is not None
        pairs.select(place, parity).copy_(total)  # autograd refuses to write into the views of `unbind`
    return image


def _by_phase(taps: Sequence[float]) -> list[tuple[float, int, int]]:
    """Every tap with its shift among the even or odd places, and which of the two."""
    middle = len(taps) // 2 - 1
    return [(factor, *divmod(place - middle, 2)) for place, factor in enumerate(taps)]


def _reach(taps: Sequence[float]) -> tuple[int, int]:
    """The first and the last of the shifts of `_by_phase`; the first is not above 0."""
    shifts = [shift for _, shift, _ in _by_phase(taps)]
    return min(shifts), max(shifts)


def _phases(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Views of the even and of the odd places along an axis of even length."""
    pairs, place = _pairs(x, axis)
    even, odd = pairs.unbind(place)
    return even, odd


def _pairs(x: Tensor, axis: int) -> tuple[Tensor, int]:
    """A view with the even and the odd place of each pair along an axis of their own, and which axis that is."""
    return x.unflatten(axis, (-1, 2)), axis if axis < 0 else axis + 1


def _wrapped(x: Tensor, before: int, after: int, axis: int) -> Tensor:
    """The tensor gone on periodically along an axis."""
    side = x.shape[axis]
    if before > side or after > side:
        places = torch.arange(-before, side + after, device=x.device) % side
        return x.index_select(axis, places)
    return torch.cat([x.narrow(axis, side - before, before), x, x.narrow(axis, 0, after)], axis)


@functools.cache
def orthogonal_filters(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The low-pass and the high-pass filter of an orthogonal wavelet, of norm 1, in the order that `correlate` takes.

    PyWavelets prints the coefficients to 12 to 16 digits, so that shifts by two are orthogonal to 1e-11 or
    better; a wavelet that misses this is refused.
    """
    import pywt

    if name not in (known := pywt.wavelist(kind="discrete")):
        raise ValueError(
            f"there is no wavelet {name!r}{did_you_mean(name, known)} Take a discrete one of PyWavelets, "
            "such as 'haar', 'db4', 'sym4' or 'coif1'"
        )
    wavelet = pywt.Wavelet(name)
    low = torch.tensor(wavelet.rec_lo, dtype=torch.float64)
    error = max(
        abs(float(low[: len(low) - shift] @ low[shift:]) - (shift == 0)) for shift in range(0, len(low), 2)
    )
    if not wavelet.orthogonal or error > _ORTHOGONAL:
        raise ValueError(
            f"wavelet {name!r} is not orthogonal (its shifts overlap by {error:.1e}), so its transform would "
            "not keep the norm: take 'haar', 'db4', 'sym4' or 'coif1'"
        )
    return tuple(low.tolist()), tuple(map(float, wavelet.rec_hi))


_ORTHOGONAL = 1e-7
"""A hundredth of what a transform in single precision loses."""


def _check_levels(shape: Sequence[int], levels: int, decimated: bool) -> None:
    if levels != int(levels) or levels < 1:
        raise ValueError(f"levels must be a whole number >= 1, got {levels!r}")
    most = max(1, int(math.log2(max(1, min(shape)))))
    if levels > most:
        raise ValueError(f"levels={levels} is too many for an image of {tuple(shape)} pixels: at most {most}")
    if decimated and any(side % 2**levels for side in shape):
        raise ValueError(
            f"the decimated transform with levels={levels} needs sides divisible by {2**levels}, got "
            f"{tuple(shape)}: pad or crop the image, take fewer levels, or decimated=False"
        )
