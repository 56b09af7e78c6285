"""The `skip` network of Deep Image Prior: an encoder and decoder with narrow skip connections."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from recon.parameters import Param
from recon_networks.blocks import (
    Downsampling,
    Ending,
    Padding,
    Upsampling,
    checked_axes,
    convolution,
    cropped,
    downsampling,
    ending,
    enlarged,
    normalisation,
    normalised,
    per_scale,
)


class Skip(nn.Module):
    """``(B, channels, *shape)`` to ``(B, out_channels, *shape)``, for images of any size (Ulyanov et al. 2018).

    Scale i, from the finest:

        skip_i = LReLU(BN(conv(x)))                                       where skip[i] > 0
        deep_i = up(scale_(i+1)(LReLU(BN(conv(LReLU(BN(conv(x, halving))))))))
        scale_i(x) = [LReLU(BN(conv1x1 .))] LReLU(BN(conv(BN(concat(skip_i, deep_i)))))

    and a last 1x1 convolution with a sigmoid. Batch normalisation always takes the present image's statistics.
    Sides that are not multiples of 2^scales are cropped after each enlargement.

    Args:
        channels: of the input.
        out_channels: of the image.
        down: filters of the encoder, one number a scale from the finest.
        up: filters of the decoder; None: those of `down`.
        skip: filters of the skip connections, 0 for none: a number, or one a scale.
        kernel_down: side of the encoder's kernels.
        kernel_up: side of the decoder's kernels.
        kernel_skip: side of the skip connections' kernels.
        upsample: ``"bilinear"`` (trilinear for volumes), or ``"nearest"``; or one a scale.
        downsample: by the stride of a convolution, or pooling or a Lanczos filter after it.
        padding: ``"reflection"`` or ``"zero"``.
        mixing: whether a 1x1 convolution ends each scale of the decoder.
        output: ``"sigmoid"``: values between 0 and 1; or ``"linear"``.
        axes: 2 for images, 3 for volumes, 1 for signals.
    """

    channels_last = True  # faster so on a CPU: benchmarks/deep_image_prior.py

    def __init__(
        self,
        channels: Annotated[int, Param("channels of the input", ge=1)] = 32,
        out_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        down: Annotated[tuple[int, ...], Param("filters of the encoder, finest scale first", ge=1)] = (128,)
        * 5,
        up: Annotated[tuple[int, ...] | None, Param("filters of the decoder; none: as down", ge=1)] = None,
        skip: Annotated[int | tuple[int, ...], Param("filters of the skip connections", ge=0)] = 4,
        kernel_down: Annotated[int, Param("side of the encoder's kernels", ge=1)] = 3,
        kernel_up: Annotated[int, Param("side of the decoder's kernels", ge=1)] = 3,
        kernel_skip: Annotated[int, Param("side of the skip connections' kernels", ge=1)] = 1,
        upsample: Annotated[
            Upsampling | tuple[Upsampling, ...], Param("interpolation: bilinear or nearest, or one a scale")
        ] = "bilinear",
        downsample: Annotated[Downsampling, Param("how the size is halved")] = "stride",
        padding: Annotated[Padding, Param("what lies beyond the border")] = "reflection",
        mixing: Annotated[bool, Param("a 1x1 convolution at the end of each scale")] = True,
        output: Annotated[Ending, Param("values between 0 and 1, or any")] = "sigmoid",
        axes: Annotated[int, Param("2 for images, 3 for volumes", ge=1, le=3)] = 2,
    ) -> None:
        super().__init__()
        self.out_channels, self.dimensions = out_channels, axes
        scales = len(down)
        if scales == 0:
            raise ValueError("down, the filters of each scale, must name one scale at least, got none")
        up = down if up is None else tuple(up)
        if len(up) != scales:
            raise ValueError(f"up must have one number for each of {scales} scales, got {up}")
        self.axes, self.value_range = checked_axes(axes), (0.0, 1.0) if output == "sigmoid" else None
        self.scales = scales
        ways = (upsample,) * scales if isinstance(upsample, str) else tuple(upsample)
        if len(ways) != scales or set(ways) - {"bilinear", "nearest"}:
            raise ValueError(
                f"upsample must be 'bilinear' or 'nearest', or one of them for each of {scales} scales, got {upsample}"
            )
        below = None
        for place in reversed(range(scales)):
            below = _Scale(
                inputs=channels if place == 0 else down[place - 1],
                down=down[place],
                below=below,
                deep=up[place + 1] if place + 1 < scales else down[place],
                up=up[place],
                skip=per_scale(skip, scales, "skip")[place],
                kernels=(kernel_down, kernel_up, kernel_skip),
                upsample=ways[place],
                downsample=downsample,
                padding=padding,
                mixing=mixing,
                axes=axes,
            )
        assert below is not None
        self.body = below
        self.last = nn.Sequential(convolution(up[0], out_channels, 1, axes), ending(output))

    def forward(self, x: Tensor) -> Tensor:
        """The image."""
        image: Tensor = self.last(self.body(x))
        return image


class _Scale(nn.Module):
    """One scale with all below it."""

    def __init__(
        self,
        *,
        inputs: int,
        down: int,
        below: nn.Module | None,
        deep: int,
        up: int,
        skip: int,
        kernels: tuple[int, int, int],
        upsample: Upsampling,
        downsample: Downsampling,
        padding: Padding,
        mixing: bool,
        axes: int,
    ) -> None:
        super().__init__()
        kernel_down, kernel_up, kernel_skip = kernels
        self.upsample: Literal["bilinear", "nearest"] = upsample
        self.skip = None
        if skip:
            self.skip = nn.Sequential(
                convolution(inputs, skip, kernel_skip, axes, padding=padding), *normalised(skip, axes)
            )
        self.encode = nn.Sequential(
            *downsampling(inputs, down, kernel_down, axes, downsample, padding),
            *normalised(down, axes),
            convolution(down, down, kernel_down, axes, padding=padding),
            *normalised(down, axes),
        )
        self.below = below
        self.join = normalisation(skip + deep, axes)
        layers = [convolution(skip + deep, up, kernel_up, axes, padding=padding), *normalised(up, axes)]
        if mixing:
            layers += [convolution(up, up, 1, axes, padding=padding), *normalised(up, axes)]
        self.decode = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        deep = self.encode(x)
        if self.below is not None:
            deep = self.below(deep)
        deep = enlarged(deep, x.shape[2:], self.upsample)
        joined = deep if self.skip is None else torch.cat([cropped(self.skip(x), deep.shape[2:]), deep], 1)
        decoded: Tensor = self.decode(self.join(joined))
        return decoded
