"""Layers of the deep image prior's networks for images and volumes alike, chosen by the number of axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Padding = Literal["reflection", "zero"]
Upsampling = Literal["bilinear", "nearest"]
Downsampling = Literal["stride", "avg", "max", "lanczos2", "lanczos3"]
Ending = Literal["sigmoid", "linear"]

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}
_POOLS: dict[str, dict[int, Callable[..., nn.Module]]] = {
    "avg": {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d},
    "max": {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d},
}
SLOPE = 0.2
"""Of LeakyReLU for negative values."""


def convolution(
    inputs: int,
    outputs: int,
    kernel: int,
    axes: int,
    *,
    stride: int = 1,
    padding: Padding = "reflection",
    bias: bool = True,
) -> nn.Module:
    """A convolution that keeps the size (stride 1), the border reflected or zero."""
    if kernel % 2 == 0:
        raise ValueError(f"kernels have an odd side, so that images keep their size; got {kernel}")
    mode: Literal["reflect", "zeros"] = "reflect" if padding == "reflection" and kernel > 1 else "zeros"
    made: nn.Module = _CONVOLUTIONS[axes](
        inputs, outputs, kernel, stride=stride, padding=kernel // 2, padding_mode=mode, bias=bias
    )
    return made


def normalisation(channels: int, axes: int) -> nn.Module:
    """Batch normalisation by the statistics of the present image, always: one network is fitted to one image."""
    made: nn.Module = _NORMS[axes](channels, track_running_stats=False)
    return made


def normalised(channels: int, axes: int) -> list[nn.Module]:
    """Batch normalisation and LeakyReLU."""
    return [normalisation(channels, axes), nn.LeakyReLU(SLOPE)]


def downsampling(
    inputs: int, outputs: int, kernel: int, axes: int, how: Downsampling, padding: Padding
) -> list[nn.Module]:
    """A convolution that halves the size: by its stride, or followed by pooling or a Lanczos filter."""
    if how == "stride":
        return [convolution(inputs, outputs, kernel, axes, stride=2, padding=padding)]
    first = convolution(inputs, outputs, kernel, axes, padding=padding)
    if how in ("avg", "max"):
        pool: nn.Module = _POOLS[how][axes](2, ceil_mode=True)
        return [first, pool]
    return [first, LanczosHalving(outputs, axes, lobes=2 if how == "lanczos2" else 3)]


class LanczosHalving(nn.Module):
    """Every second value of the image filtered with a Lanczos window of 2 or 3 lobes, each channel alone."""

    def __init__(self, channels: int, axes: int, lobes: int) -> None:
        super().__init__()
        distance = (torch.arange(4 * lobes, dtype=torch.float64) - 2 * lobes + 0.5).abs() / 2
        weights = torch.sinc(distance) * torch.sinc(distance / lobes)
        weights = weights / weights.sum()
        kernel = torch.ones((), dtype=torch.float64)
        for _ in range(axes):
            kernel = kernel.unsqueeze(-1) * weights
        self.channels, self.axes, self.reach = channels, axes, 2 * lobes - 1
        self.kernel: Tensor
        self.register_buffer("kernel", kernel.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, *shape)`` to half the shape, rounded up."""
        odd = [side % 2 for side in reversed(x.shape[2:])]
        pads = [width for extra in odd for width in (self.reach, self.reach + extra)]
        kernel = self.kernel.to(x).expand(self.channels, 1, *self.kernel.shape)
        convolve = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[self.axes]
        return convolve(functional.pad(x, pads, mode="replicate"), kernel, stride=2, groups=self.channels)


def enlarged(x: Tensor, shape: Sequence[int], how: Upsampling, factor: int = 2) -> Tensor:
    """``x`` (B, C, *small) times ``factor``, its middle cut to ``shape`` where that is smaller."""
    return cropped(upsampled(x, [factor * side for side in x.shape[2:]], how), shape)


def upsampled(x: Tensor, shape: Sequence[int], how: Upsampling) -> Tensor:
    """``x`` (B, C, *small) interpolated to ``shape``."""
    if how == "nearest":
        return functional.interpolate(x, size=tuple(shape), mode="nearest")
    mode = _INTERPOLATION[x.ndim - 2]
    return functional.interpolate(x, size=tuple(shape), mode=mode, align_corners=False)


def cropped(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The middle of ``x`` (B, C, *large) of the given shape."""
    for axis, (large, small) in enumerate(zip(x.shape[2:], shape, strict=True), 2):
        if large > small:
            x = x.narrow(axis, (large - small) // 2, small)
    return x


def ending(how: Ending) -> nn.Module:
    """What follows the last convolution."""
    if how not in ("sigmoid", "linear"):
        raise ValueError(f"output must be 'sigmoid' or 'linear', got {how!r}")
    return nn.Sigmoid() if how == "sigmoid" else nn.Identity()


def per_scale(value: int | Sequence[int], scales: int, name: str) -> tuple[int, ...]:
    """One number a scale: a single one serves all.

    Raises:
        ValueError: another count of numbers than scales, or a negative one.
    """
    values = (int(value),) * scales if isinstance(value, int) else tuple(int(item) for item in value)
    if len(values) != scales:
        raise ValueError(f"{name} must be one number, or one for each of {scales} scales, got {value}")
    if any(item < 0 for item in values):
        raise ValueError(f"{name} must not be negative, got {value}")
    return values


def checked_axes(axes: int) -> int:
    """The number of an image's axes.

    Raises:
        ValueError: anything but 1, 2 and 3.
    """
    if axes not in _CONVOLUTIONS:
        raise ValueError(f"axes, the number of an image's axes, must be 1, 2 or 3, got {axes}")
    return axes


def weights_of(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(math.prod(weight.shape) for weight in network.parameters())
