"""U-Net: an encoder and a decoder with skip connections (Ronneberger et al. 2015)."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from recon.parameters import Param

Norm = Literal["none", "batch", "instance"]


class UNet(nn.Module):
    """Two 3x3 convolutions a level, max pooling down, transposed convolutions up, concatenated skips.

    Args:
        in_channels: channels of the images.
        out_channels: channels of the result; 0: as many as `in_channels`.
        channels: features of the first level; every level below has twice as many.
        levels: resolutions; images are padded to a multiple of 2^(levels - 1) pixels and cropped.
        residual: the network gives what is added to its input.
        norm: normalisation after every convolution.
    """

    def __init__(
        self,
        in_channels: Annotated[int, Param("channels of the images", ge=1)] = 1,
        out_channels: Annotated[int, Param("channels of the result; 0: as the images", ge=0)] = 0,
        channels: Annotated[int, Param("features of the first level", ge=1)] = 32,
        levels: Annotated[int, Param("resolutions", ge=1, le=8)] = 4,
        residual: Annotated[bool, Param("add the input to the result")] = True,
        norm: Annotated[Norm, Param("normalisation after every convolution")] = "none",
    ) -> None:
        super().__init__()
        out_channels = out_channels or in_channels
        if residual and out_channels != in_channels:
            raise ValueError(
                f"residual=True adds the input's {in_channels} channels to a result of {out_channels}: "
                "make them equal, or say residual=False"
            )
        self.in_channels, self.out_channels, self.residual = in_channels, out_channels, residual
        widths = [channels * 2**level for level in range(levels)]
        self.down = nn.ModuleList(
            _convolutions(before, after, norm)
            for before, after in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(below, here, 2, stride=2) for here, below in itertools.pairwise(widths)
        )
        self.merge = nn.ModuleList(_convolutions(2 * here, here, norm) for here in widths[:-1])
        self.last = nn.Conv2d(channels, out_channels, 1)
        if residual:  # starts as the identity
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, height, width)`` to ``(B, out_channels, height, width)``, of any size."""
        padded = padded_to_multiple(x, 2 ** (len(self.down) - 1))
        skips: list[Tensor] = []
        features = padded
        for level, block in enumerate(self.down):
            features = block(features if level == 0 else functional.max_pool2d(features, 2))
            skips.append(features)
        for level in range(len(self.up) - 1, -1, -1):
            features = self.merge[level](torch.cat([skips[level], self.up[level](features)], dim=1))
        out = self.last(features)[..., : x.shape[-2], : x.shape[-1]]
        return x + out if self.residual else out


def _convolutions(before: int, after: int, norm: Norm) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (before, after):
        layers.append(nn.Conv2d(width, after, 3, padding=1, bias=norm == "none"))
        if norm != "none":
            kind = nn.BatchNorm2d if norm == "batch" else nn.InstanceNorm2d
            layers.append(kind(after, affine=True))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def padded_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Images ``(B, channels, height, width)`` with their last rows and columns repeated up to a multiple."""
    rows, columns = (-side % multiple for side in x.shape[-2:])
    if not (rows or columns) or not x.numel():
        return functional.pad(x, (0, columns, 0, rows)) if rows or columns else x
    return functional.pad(x, (0, columns, 0, rows), mode="replicate")
