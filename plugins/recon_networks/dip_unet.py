"""The U-Net and the residual network that Deep Image Prior compares with its `skip` network."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from recon.parameters import Param
from recon_networks.blocks import (
    SLOPE,
    Ending,
    Padding,
    checked_axes,
    convolution,
    cropped,
    ending,
    normalisation,
    upsampled,
)

Norm = Literal["batch", "instance", "none"]
Enlarging = Literal["deconvolution", "bilinear", "nearest"]

_INSTANCE = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_MAX_POOLS = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE_POOLS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
WIDTHS = (64, 128, 256, 512, 1024)


class DIPUNet(nn.Module):
    """The U-Net of Deep Image Prior: five levels of two convolutions, skip connections by concatenation.

    Filters are 64, 128, 256, 512, 1024 over `feature_scale`, and again 1024 over it on each further level. With
    `concat_input` the input, averaged down, joins every level.

    Args:
        channels: of the input.
        out_channels: of the image.
        feature_scale: divides the number of filters.
        more_layers: further levels below the fifth.
        concat_input: whether the input joins every level.
        upsample: ``"deconvolution"`` (4 x 4 transposed), ``"bilinear"`` or ``"nearest"`` and a convolution.
        norm: ``"batch"``, ``"instance"`` or ``"none"``.
        padding: ``"zero"`` or ``"reflection"``.
        output: ``"sigmoid"`` or ``"linear"``.
        axes: 2 for images, 3 for volumes, 1 for signals.
    """

    def __init__(
        self,
        channels: Annotated[int, Param("channels of the input", ge=1)] = 32,
        out_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        feature_scale: Annotated[int, Param("divides the number of filters", ge=1, le=64)] = 4,
        more_layers: Annotated[int, Param("further levels below the fifth", ge=0)] = 0,
        concat_input: Annotated[bool, Param("the input joins every level")] = False,
        upsample: Annotated[Enlarging, Param("how the decoder enlarges")] = "deconvolution",
        norm: Annotated[Norm, Param("normalisation")] = "instance",
        padding: Annotated[Padding, Param("what lies beyond the border")] = "zero",
        output: Annotated[Ending, Param("values between 0 and 1, or any")] = "sigmoid",
        axes: Annotated[int, Param("2 for images, 3 for volumes", ge=1, le=3)] = 2,
    ) -> None:
        super().__init__()
        self.out_channels, self.dimensions = out_channels, axes
        self.axes, self.value_range = checked_axes(axes), (0.0, 1.0) if output == "sigmoid" else None
        self.concat_input = concat_input
        widths = [width // feature_scale for width in WIDTHS + WIDTHS[-1:] * more_layers]
        joined = channels if concat_input else 0
        filters = [widths[0] - joined, *(width - joined for width in widths[1:])]
        if min(filters) < 1:
            raise ValueError(
                f"concat_input adds the input's {channels} channels to every level, of which the first has only "
                f"{widths[0]}: a smaller feature_scale, or fewer channels"
            )
        self.first = _double(channels, filters[0], axes, norm, padding)
        self.down = nn.ModuleList(
            _double(above, own, axes, norm, padding)
            for above, own in zip(widths[:-1], filters[1:], strict=True)
        )
        self.up = nn.ModuleList(
            _Joining(below, own, axes, norm, padding, upsample) for own, below in itertools.pairwise(widths)
        )
        self.last = nn.Sequential(convolution(widths[0], out_channels, 1, axes), ending(output))

    def forward(self, x: Tensor) -> Tensor:
        """The image."""
        inputs, levels = x, [self._with_input(self.first(x), x)]
        for level in self.down:
            inputs = _AVERAGE_POOLS[self.axes](inputs, 2, ceil_mode=True)
            pooled = _MAX_POOLS[self.axes](levels[-1], 2, ceil_mode=True)
            levels.append(self._with_input(level(pooled), inputs))
        x = levels.pop()
        for join in reversed(self.up):
            x = join(x, levels.pop())
        image: Tensor = self.last(x)
        return image

    def _with_input(self, features: Tensor, inputs: Tensor) -> Tensor:
        return torch.cat([features, inputs], 1) if self.concat_input else features


class _Joining(nn.Module):
    """Enlarge what comes from below, join it to the encoder's features, and convolve twice."""

    def __init__(
        self, below: int, own: int, axes: int, norm: Norm, padding: Padding, upsample: Enlarging
    ) -> None:
        super().__init__()
        self.upsample = upsample
        self.reduce: nn.Module
        if upsample == "deconvolution":
            self.reduce = _TRANSPOSED[axes](below, own, 4, stride=2, padding=1)
        elif upsample in ("bilinear", "nearest"):
            self.reduce = convolution(below, own, 3, axes, padding=padding)
        else:
            raise ValueError(f"upsample must be 'deconvolution', 'bilinear' or 'nearest', got {upsample!r}")
        self.convolve = _double(2 * own, own, axes, norm, padding)

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        if self.upsample == "deconvolution":
            x = self.reduce(x)
        else:
            how: Literal["bilinear", "nearest"] = "bilinear" if self.upsample == "bilinear" else "nearest"
            x = self.reduce(upsampled(x, [2 * side for side in x.shape[2:]], how))
        joined: Tensor = self.convolve(torch.cat([cropped(x, beside.shape[2:]), beside], 1))
        return joined


class DIPResNet(nn.Module):
    """The residual network of Deep Image Prior, at full resolution all along.

    conv, LReLU, then blocks x + norm(conv(LReLU(norm(conv(x))))), norm(conv), and a last convolution.

    Args:
        channels: of the input.
        out_channels: of the image.
        blocks: how many.
        filters: of every convolution.
        norm: ``"batch"``, ``"instance"`` or ``"none"``.
        padding: ``"reflection"`` or ``"zero"``.
        output: ``"sigmoid"`` or ``"linear"``.
        axes: 2 for images, 3 for volumes, 1 for signals.
    """

    channels_last = True  # a fifth faster so on a CPU; the U-Net above is slower

    def __init__(
        self,
        channels: Annotated[int, Param("channels of the input", ge=1)] = 32,
        out_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        blocks: Annotated[int, Param("how many residual blocks", ge=1)] = 8,
        filters: Annotated[int, Param("filters of every convolution", ge=1)] = 32,
        norm: Annotated[Norm, Param("normalisation")] = "batch",
        padding: Annotated[Padding, Param("what lies beyond the border")] = "reflection",
        output: Annotated[Ending, Param("values between 0 and 1, or any")] = "sigmoid",
        axes: Annotated[int, Param("2 for images, 3 for volumes", ge=1, le=3)] = 2,
    ) -> None:
        super().__init__()
        self.out_channels, self.dimensions = out_channels, axes
        self.axes, self.value_range = checked_axes(axes), (0.0, 1.0) if output == "sigmoid" else None
        self.first = nn.Sequential(
            convolution(channels, filters, 3, axes, padding=padding), nn.LeakyReLU(SLOPE)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                convolution(filters, filters, 3, axes, padding=padding, bias=False),
                *_norm(norm, filters, axes),
                nn.LeakyReLU(SLOPE),
                convolution(filters, filters, 3, axes, padding=padding, bias=False),
                *_norm(norm, filters, axes),
            )
            for _ in range(blocks)
        )
        self.middle = nn.Sequential(
            convolution(filters, filters, 3, axes, padding=padding), *_norm(norm, filters, axes)
        )
        self.last = nn.Sequential(
            convolution(filters, out_channels, 3, axes, padding=padding), ending(output)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The image."""
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        image: Tensor = self.last(self.middle(x))
        return image


def _double(inputs: int, outputs: int, axes: int, norm: Norm, padding: Padding) -> nn.Sequential:
    """Two convolutions of 3, each normalised, with ReLU."""
    layers: list[nn.Module] = []
    for source in (inputs, outputs):
        layers += [
            convolution(source, outputs, 3, axes, padding=padding),
            *_norm(norm, outputs, axes),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def _norm(norm: Norm, channels: int, axes: int) -> list[nn.Module]:
    if norm == "none":
        return []
    if norm == "instance":
        return [_INSTANCE[axes](channels)]
    if norm != "batch":
        raise ValueError(f"norm must be 'batch', 'instance' or 'none', got {norm!r}")
    return [normalisation(channels, axes)]
