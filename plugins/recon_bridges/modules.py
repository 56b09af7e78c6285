"""Any `nn.Module` that removes noise or artefacts as a plug-and-play prior."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from recon.linear import complex_dtype, real_dtype
from recon.priors import Denoiser, Weight

Sigma = Literal["none", "number", "batch", "map"]
Channels = Literal["add", "first", "each", "repeat"]
ComplexAs = Literal["magnitude", "parts", "channels"]


class ModuleDenoiser(Denoiser):
    """A network as a plug-and-play prior; see `denoiser`."""

    def __init__(
        self,
        module: nn.Module,
        value_range: tuple[float, float] | None = (0.0, 1.0),
        *,
        sigma: Sigma = "none",
        channels: Channels = "add",
        complex_as: ComplexAs | None = None,
        multiple_of: int = 1,
        weight: Weight | None = None,
    ) -> None:
        super().__init__((1.0 if sigma == "none" else "auto") if weight is None else weight)
        if not isinstance(module, nn.Module):
            raise TypeError(f"denoiser takes a torch.nn.Module, got {type(module).__name__}")
        _check_choice("sigma", sigma, Sigma)
        _check_choice("channels", channels, Channels)
        if complex_as is not None:
            _check_choice("complex_as", complex_as, ComplexAs)
        if isinstance(multiple_of, bool) or not isinstance(multiple_of, int) or multiple_of < 1:
            raise ValueError(f"multiple_of must be a whole number >= 1, got {multiple_of!r}")
        _check_arguments(module, sigma)
        self.module = module.eval()
        self.module_range = _checked_range(value_range)
        # solvers map magnitudes to [0, 1]; from there to the module's range is this class's business
        self.value_range = (
            self.module_range if complex_as is None or self.module_range is None else (0.0, 1.0)
        )
        self.domain = "real" if complex_as is None else "complex"
        self.sigma, self.channels, self.complex_as = sigma, channels, complex_as
        self.multiple_of = multiple_of

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Denoise ``x`` (B, *shape), values in `value_range`, with noise level ``sigma``, a number or (B,)."""
        if x.is_complex() != (self.complex_as is not None):
            raise TypeError(
                f"{type(self.module).__name__} was bridged for {self.domain} images, got {x.dtype}"
                + (": say complex_as='magnitude', 'parts' or 'channels'" if x.is_complex() else "")
            )
        if x.shape[0] == 0:
            return torch.empty_like(x)
        levels = torch.as_tensor(sigma, dtype=real_dtype(x.dtype), device=x.device).reshape(-1)
        levels = levels.expand(x.shape[0])
        if self.complex_as == "magnitude":
            size = x.abs()
            phase = torch.where(size > 0, x / size.clamp_min(torch.finfo(size.dtype).tiny), 1)
            return self._in_range(size, levels, 0.0).clamp_min(0) * phase
        if self.complex_as == "parts":
            real, imaginary = self._in_range(
                torch.cat([x.real, x.imag]), levels.repeat(2), -1.0
            ).tensor_split(2)
            return torch.complex(real, imaginary)
        if self.complex_as == "channels":
            both = self._in_range(torch.view_as_real(x.resolve_conj()).movedim(-1, 1), levels, -1.0)
            return torch.complex(both[:, 0], both[:, 1]).to(complex_dtype(both.dtype))
        return self._laid_out(x, levels)

    def _in_range(self, x: Tensor, sigma: Tensor, low: float) -> Tensor:
        """Denoise values between ``low`` and 1, mapped to the module's own range and back."""
        if self.module_range is None:
            return self._laid_out(x, sigma)
        factor = (self.module_range[1] - self.module_range[0]) / (1 - low)
        offset = self.module_range[0] - factor * low
        return (self._laid_out(factor * x + offset, factor * sigma) - offset) / factor

    def _laid_out(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise (B, *shape), with the channel axis that the module asks for."""
        if self.complex_as == "channels" or self.channels == "first":
            return self._run(x, sigma)
        if self.channels == "each":
            count = x.shape[1]
            single = self._run(x.flatten(0, 1).unsqueeze(1), sigma.repeat_interleave(count))
            return single.reshape(x.shape)
        if self.channels == "repeat":
            return self._run(x.unsqueeze(1).expand(-1, 3, *x.shape[1:]), sigma).mean(1)
        return self._run(x.unsqueeze(1), sigma).squeeze(1)

    def _run(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The module on (N, channels, *sides), padded by repeating the border where it asks for that."""
        dtype = next(
            (p.dtype for p in (*self.module.parameters(), *self.module.buffers()) if p.is_floating_point()),
            x.dtype,
        )
        sides = x.shape[2:]
        missing = [-side % self.multiple_of for side in sides]
        padded = x.to(dtype)
        if any(missing):
            padding = [amount for extra in reversed(missing) for amount in (0, extra)]
            padded = nn.functional.pad(padded, padding, mode="replicate")
        result = self._called(padded, sigma.to(dtype))
        if not isinstance(result, Tensor) or result.shape != padded.shape:
            got = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(
                f"{type(self.module).__name__} must give a tensor of the shape it is given, "
                f"{tuple(padded.shape)}, got {got}"
            )
        cropped: tuple[Any, ...] = (..., *(slice(0, side) for side in sides))
        return result[cropped].to(x.dtype)

    def _called(self, x: Tensor, sigma: Tensor) -> Any:
        if self.sigma == "none":
            return self.module(x)
        if self.sigma == "batch":
            return self.module(x, sigma)
        if self.sigma == "map":
            level = sigma.reshape(-1, *(1,) * (x.ndim - 1)).expand(-1, 1, *x.shape[2:])
            return self.module(torch.cat([x, level], 1))
        return by_number(self.module, x, sigma)

    def extra_repr(self) -> str:
        """Settings for `repr`."""
        return (
            f"value_range={self.module_range}, sigma={self.sigma!r}, channels={self.channels!r}, "
            f"complex_as={self.complex_as!r}, weight={self.weight}"
        )


def denoiser(
    module: nn.Module,
    value_range: tuple[float, float] | None = (0.0, 1.0),
    *,
    sigma: Sigma = "none",
    channels: Channels = "add",
    complex_as: ComplexAs | None = None,
    multiple_of: int = 1,
    weight: Weight | None = None,
) -> ModuleDenoiser:
    """A network that removes noise or artefacts as a plug-and-play prior.

    The module is put into evaluation mode. Solvers map images to its value range; they ask for the range of
    the image, ``recon.Problem(op, y, image_range=(low, high))``, which for complex images is that of the
    magnitude, ``(0, high)``. The module computes in the precision of its parameters.

    Args:
        module: maps ``(N, channels, *sides)`` to the same shape.
        value_range: the image values it was made for; None: any values.
        sigma: how it takes the noise level, in units of its value range: ``"none"``, not at all (a remover of
            artefacts); ``"number"``, ``module(x, 0.1)``; ``"batch"``, ``module(x, sigma)`` with one level an
            item; ``"map"``, as one more channel after the image's.
        channels: its channel axis: ``"add"``, images have none and the module takes one channel;
            ``"first"``, the images' own first axis is the colours; ``"each"``, every colour (slice, echo) along
            the images' first axis is denoised as one grey image; ``"repeat"``, a grey image is given as three
            equal colours and their mean taken.
        complex_as: for complex images: ``"magnitude"``, denoised, the phase kept; ``"parts"``, real and
            imaginary part as two images; ``"channels"``, as two channels of one. Parts span the value range
            from -high to high. None: real images only.
        multiple_of: sides are padded to a multiple of this (U-Nets), and cropped again.
        weight: of the prior; None: ``"auto"``, and 1 for a module that takes no noise level.

    Raises:
        TypeError: no module, or one whose `forward` does not take what ``sigma`` says.
        ValueError: an unknown choice, or a range that is none.
    """
    return ModuleDenoiser(
        module,
        value_range,
        sigma=sigma,
        channels=channels,
        complex_as=complex_as,
        multiple_of=multiple_of,
        weight=weight,
    )


def by_number(function: Callable[[Tensor, float], Tensor], x: Tensor, values: Tensor) -> Tensor:
    """``function(x, value)`` with one value an item, for maps of images that take one number: a call a value."""
    if x.shape[0] == 0:
        return torch.empty_like(x)
    distinct = values.unique()
    if len(distinct) == 1:
        return function(x, float(distinct))
    return torch.cat([function(item, float(value)) for item, value in zip(x.split(1), values, strict=True)])


def _check_choice(name: str, value: object, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, get_args(choices)))}, got {value!r}")


def _checked_range(bounds: Sequence[float] | None) -> tuple[float, float] | None:
    if bounds is None:
        return None
    values = tuple(float(bound) for bound in bounds)
    if len(values) != 2 or not all(map(math.isfinite, values)) or not values[0] < values[1]:
        raise ValueError(f"value_range must be (low, high) with low < high, or None, got {bounds!r}")
    return values


def _check_arguments(module: nn.Module, sigma: Sigma) -> None:
    """Refuse a module whose `forward` cannot be called as ``sigma`` says."""
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return
    arguments = ("x", "sigma") if sigma in ("number", "batch") else ("x",)
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise TypeError(
            f"{type(module).__name__}.forward{signature} cannot be called with {len(arguments)} arguments, as "
            f"sigma={sigma!r} does ({error}): sigma says how it takes the noise level"
        ) from None
