"""How images meet networks: real or complex images as the channels of a real network, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

ComplexAs = Literal["channels", "magnitude", "separate"]


@dataclass(frozen=True)
class ImageChannels:
    """The one way from images ``(B, *shape)`` to a network's ``(N, channels, *spatial)`` and back.

    Leading axes of an image beyond the network's own (slices, colours) become items, unless there is one and it is
    as long as the network has channels. Complex images become channels by `complex_as`:

    - ``"channels"``: real and imaginary part are the two channels of one item;
    - ``"magnitude"``: the network sees the magnitude; the phase is kept;
    - ``"separate"``: real and imaginary part are two items.

    Attributes:
        channels: input channels of the network.
        dimensions: spatial axes of the network.
        complex_as: what becomes of complex images.
    """

    channels: int = 1
    dimensions: int = 2
    complex_as: ComplexAs = "separate"

    def __call__(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The network's input for images, and the function that makes images of its output.

        Raises:
            ValueError: images with too few axes, or whose channels do not fit.
        """
        if x.ndim < 1 + self.dimensions:
            raise ValueError(
                f"a network with {self.dimensions} spatial axes takes images of as many axes or more, got images of "
                f"shape {tuple(x.shape[1:])}"
            )
        if not x.is_complex():
            return self._real(x, self.channels)
        if self.complex_as == "channels":
            if self.channels != 2:
                raise ValueError(
                    "complex images as channels need a network with 2 input channels, it has "
                    f"{self.channels}: make it with in_channels=2, or say complex_as='magnitude' or 'separate'"
                )
            spatial = x.shape[-self.dimensions :]
            planes = torch.view_as_real(x.reshape(-1, *spatial)).movedim(-1, 1)

            def joined(out: Tensor) -> Tensor:
                return torch.view_as_complex(out.movedim(1, -1).contiguous()).reshape(x.shape)

            return planes, joined
        if self.complex_as == "magnitude":
            magnitude = x.abs()
            planes, back = self._real(magnitude, self.channels)
            tiny = torch.finfo(magnitude.dtype).tiny
            phase = torch.where(magnitude > tiny, x / magnitude.clamp_min(tiny), torch.ones_like(x))
            return planes, lambda out: back(out) * phase
        both = torch.stack([x.real, x.imag], dim=1)  # beside each other: an item's parts stay together
        planes, back = self._real(both.flatten(0, 1), self.channels)

        def parts(out: Tensor) -> Tensor:
            real, imaginary = back(out).reshape(both.shape).unbind(1)
            return torch.complex(real, imaginary)

        return planes, parts

    def apply(self, network: nn.Module, x: Tensor, sigma: Tensor | None = None) -> Tensor:
        """The network's image of images ``(B, *shape)``, in their precision.

        Args:
            network: from ``(N, channels, *spatial)``; with the attribute ``conditioned``, of the noise level too.
            x: images.
            sigma: noise level of each image, ``(B,)``, for a conditioned network.

        Raises:
            ValueError: no noise level for a conditioned network, or a network whose output is no such image.
        """
        planes, back = self(x)
        weight = next(iter(network.parameters()), None)
        planes = planes if weight is None else planes.to(weight.dtype)
        if is_conditioned(network):
            if sigma is None:
                raise ValueError(f"{type(network).__name__} needs the noise level sigma of its input")
            levels = sigma.to(planes).repeat_interleave(planes.shape[0] // max(x.shape[0], 1))
            out = network(planes, levels)
        else:
            out = network(planes)
        if out.numel() != planes.numel():
            raise ValueError(
                f"{type(network).__name__} makes {tuple(out.shape)} of images {tuple(planes.shape)}, and not images as "
                "large: is it a critic, or made for another number of channels?"
            )
        return back(out.to(x.real.dtype if x.is_complex() else x.dtype))

    def _real(self, x: Tensor, channels: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        spatial = x.shape[-self.dimensions :]
        leading = x.shape[1 : x.ndim - self.dimensions]
        if leading == (channels,) or (channels == 1 and not leading):
            return x.reshape(x.shape[0], channels, *spatial), lambda out: out.reshape(x.shape)
        if channels != 1:
            raise ValueError(
                f"a network with {channels} input channels takes images ({channels}, *spatial), got images of "
                f"shape {tuple(x.shape[1:])}"
            )
        return x.reshape(-1, 1, *spatial), lambda out: out.reshape(x.shape)


def is_conditioned(network: Any) -> bool:
    """Whether a network takes the noise level beside the image."""
    return bool(getattr(network, "conditioned", False))


def needs_operator(network: Any) -> bool:
    """Whether a network is unrolled: it takes the operator and the data."""
    return bool(getattr(network, "needs_operator", False))


def channels_of(network: nn.Module, complex_as: str = "auto") -> ImageChannels:
    """The way to a network, from its attributes ``in_channels`` (1) and ``dimensions`` (2).

    Args:
        network: the network.
        complex_as: as in `ImageChannels`; ``"auto"`` is ``"channels"`` for two input channels, else
            ``"separate"``.
    """
    channels = int(getattr(network, "in_channels", 1))
    if complex_as == "auto":
        complex_as = "channels" if channels == 2 else "separate"
    if complex_as not in ("channels", "magnitude", "separate"):
        raise ValueError(
            f"complex_as must be 'channels', 'magnitude', 'separate' or 'auto', got {complex_as!r}"
        )
    return ImageChannels(channels, int(getattr(network, "dimensions", 2)), complex_as)  # type: ignore[arg-type]
