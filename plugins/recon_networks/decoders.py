"""Decoders without an encoder, fitted to one image: the Deep Decoder and the ConvDecoder."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from recon.parameters import Param
from recon_networks.blocks import (
    Ending,
    Upsampling,
    checked_axes,
    convolution,
    ending,
    normalisation,
    upsampled,
)


class Decoder(nn.Module):
    """What both decoders are: layers that enlarge a coarse input step by step, and a last 1x1 convolution.

    Attributes:
        sizes: how an image of some shape comes about: the shape after each layer, from the coarsest.
        value_range: (0, 1) with a sigmoid; None without.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        last: nn.Module,
        *,
        upsample: Upsampling,
        output: Ending,
        shape: Sequence[int] | None,
        axes: int,
    ) -> None:
        super().__init__()
        self.axes, self.value_range = checked_axes(axes), (0.0, 1.0) if output == "sigmoid" else None
        self.upsample: Upsampling = upsample
        self.shape = None if shape is None else tuple(shape)
        if self.shape is not None and len(self.shape) != axes:
            raise ValueError(f"shape must have {axes} axes, as axes says, got {self.shape}")
        self.layers = nn.ModuleList(layers)
        self.last = nn.Sequential(last, ending(output))

    def sizes(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """The shape of the input and after each layer, for images of this shape."""
        raise NotImplementedError

    def input_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Of the coarse input for images of this shape."""
        return self.sizes(shape)[0]

    def forward(self, x: Tensor) -> Tensor:
        """The image: of `shape` from a coarse input; without one of the size of ``x``, few pixels of which are used."""
        shape = tuple(x.shape[2:]) if self.shape is None else self.shape
        sizes = self.sizes(shape)
        if self.shape is None:
            x = _sampled(x, sizes[0])
        elif tuple(x.shape[2:]) != sizes[0]:
            raise ValueError(
                f"{type(self).__name__} makes images of {shape} from inputs of {sizes[0]}, got {tuple(x.shape[2:])}"
            )
        for layer, size in zip(self.layers, sizes[1:], strict=True):
            x = self._layer(layer, x, size)
        image: Tensor = self.last(x)
        return image

    def _layer(self, layer: nn.Module, x: Tensor, size: tuple[int, ...]) -> Tensor:
        """Enlarge, then the layer."""
        enlarged: Tensor = layer(self._enlarged(x, size))
        return enlarged

    def _enlarged(self, x: Tensor, size: tuple[int, ...]) -> Tensor:
        return x if tuple(x.shape[2:]) == size else upsampled(x, size, self.upsample)


class DeepDecoder(Decoder):
    """An under-parametrised decoder of 1x1 convolutions (Heckel and Hand 2019).

    Each of `scales` layers enlarges by 2 and mixes the channels, BN(ReLU(conv1x1(up(x)))), one more does not
    enlarge, and a 1x1 convolution with a sigmoid makes the image. With 128 filters and 3 channels it has 100,224
    weights, too few to fit noise of a picture of 512 x 512.

    Args:
        channels: of the input; None: as many as filters.
        out_channels: of the image.
        filters: of every layer.
        scales: how often the size doubles.
        upsample: ``"bilinear"`` or ``"nearest"``.
        upsample_first: enlarge before the convolution, or after it.
        output: ``"sigmoid"`` or ``"linear"``.
        axes: 2 for images, 3 for volumes, 1 for signals.
        shape: of the image, made from an input of 1/2^scales of it; None: that of the input, of which every 2^scales-th
            pixel is used.
    """

    def __init__(
        self,
        channels: Annotated[int | None, Param("channels of the input; none: as filters", ge=1)] = None,
        out_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        filters: Annotated[int, Param("filters of every layer", ge=1)] = 128,
        scales: Annotated[int, Param("how often the size doubles", ge=1)] = 5,
        upsample: Annotated[Upsampling, Param("interpolation")] = "bilinear",
        upsample_first: Annotated[bool, Param("enlarge before the convolution")] = False,
        output: Annotated[Ending, Param("values between 0 and 1, or any")] = "sigmoid",
        axes: Annotated[int, Param("2 for images, 3 for volumes", ge=1, le=3)] = 2,
        shape: Annotated[tuple[int, ...] | None, Param("of the image; none: that of the input", ge=1)] = None,
    ) -> None:
        channels = filters if channels is None else channels
        widths = (channels, *(filters,) * (scales + 1))
        layers = [_mixing(*pair, axes) for pair in itertools.pairwise(widths)]
        last = convolution(filters, out_channels, 1, axes, bias=False)
        super().__init__(layers, last, upsample=upsample, output=output, shape=shape, axes=axes)
        self.out_channels, self.dimensions = out_channels, axes
        self.scales, self.upsample_first = scales, upsample_first

    def sizes(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """Halved, rounded up, from layer to layer."""
        ladder = [tuple(math.ceil(side / 2**scale) for side in shape) for scale in range(self.scales + 1)]
        return [*reversed(ladder), tuple(shape)]

    def _layer(self, layer: nn.Module, x: Tensor, size: tuple[int, ...]) -> Tensor:
        """Enlarge before the convolution, or after it: mixing channels and interpolating commute, but for rounding."""
        assert isinstance(layer, nn.Sequential)
        if self.upsample_first:
            return super()._layer(layer, x, size)
        activated: Tensor = layer[1:](self._enlarged(layer[0](x), size))
        return activated


class ConvDecoder(Decoder):
    """A decoder of 3x3 convolutions, as good as a trained network on knee MRI (Darestani and Heckel 2021).

    Layers BN(ReLU(conv3x3(up(x)))), the last of which does not enlarge, and a 1x1 convolution. From layer to layer the
    sides grow by the same factor, from `coarse` pixels along the shorter side to those of the image.

    Args:
        channels: of the input; None: as many as filters.
        out_channels: of the image.
        filters: of every layer.
        layers: how many.
        coarse: pixels of the input along the shorter side.
        upsample: ``"nearest"`` or ``"bilinear"``.
        output: ``"linear"`` or ``"sigmoid"``.
        axes: 2 for images, 3 for volumes, 1 for signals.
        shape: of the image; None: that of the input, of which few pixels are used.
    """

    def __init__(
        self,
        channels: Annotated[int | None, Param("channels of the input; none: as filters", ge=1)] = None,
        out_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        filters: Annotated[int, Param("filters of every layer", ge=1)] = 160,
        layers: Annotated[int, Param("how many layers", ge=2)] = 8,
        coarse: Annotated[int, Param("pixels of the input along the shorter side", ge=1)] = 4,
        upsample: Annotated[Upsampling, Param("interpolation")] = "nearest",
        output: Annotated[Ending, Param("values between 0 and 1, or any")] = "linear",
        axes: Annotated[int, Param("2 for images, 3 for volumes", ge=1, le=3)] = 2,
        shape: Annotated[tuple[int, ...] | None, Param("of the image; none: that of the input", ge=1)] = None,
    ) -> None:
        channels = filters if channels is None else channels
        widths = (channels, *(filters,) * layers)
        stack = [
            nn.Sequential(
                convolution(inputs, outputs, 3, axes, padding="zero", bias=False),
                nn.ReLU(),
                normalisation(outputs, axes),
            )
            for inputs, outputs in itertools.pairwise(widths)
        ]
        last = convolution(filters, out_channels, 1, axes)
        super().__init__(stack, last, upsample=upsample, output=output, shape=shape, axes=axes)
        self.out_channels, self.dimensions = out_channels, axes
        self.coarse = coarse

    def sizes(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """Growing by the same factor from layer to layer; the last two are the image's."""
        steps = len(self.layers) - 1
        shrink = max(1.0, min(shape) / self.coarse)
        ladder = [
            tuple(max(1, math.ceil(side / shrink ** (1 - step / steps))) for side in shape)
            for step in range(steps)
        ]
        return [*ladder, tuple(shape), tuple(shape)]


def _mixing(inputs: int, outputs: int, axes: int) -> nn.Sequential:
    return nn.Sequential(
        convolution(inputs, outputs, 1, axes, bias=False), nn.ReLU(), normalisation(outputs, axes)
    )


def _sampled(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Pixels of ``x`` on a coarse grid of this shape: noise on it is as good as noise on the fine one."""
    for axis, side in enumerate(shape, 2):
        places = torch.linspace(0, x.shape[axis] - 1, side).round().long()
        x = x.index_select(axis, places.to(x.device))
    return x
