"""DRUNet: a U-Net of residual blocks without biases that is told the noise level (Zhang et al. 2021)."""

from __future__ import annotations

import itertools
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from recon.parameters import Param
from recon_networks.unet import padded_to_multiple


class DRUNet(nn.Module):
    """Denoiser of a given noise level: residual blocks at every level, strided down and up, added skips.

    Zhang, Li, Zuo, Zhang, Van Gool and Timofte 2021 (IEEE TPAMI, doi:10.1109/TPAMI.2021.3088914): their network is
    ``channels=(64, 128, 256, 512), blocks=4``. Without biases it is homogeneous: scaling image and noise level
    scales the result. `shuffle` works on blocks of pixels as channels (Zhang, Zuo and Zhang 2018, FFDNet), which
    is shuffle^2 times faster.

    Args:
        in_channels: channels of the images.
        channels: features of every level.
        blocks: residual blocks of a level, on the way down and on the way up.
        shuffle: side of the blocks of pixels that become channels; 1 for none.
        residual: the network gives what is added to its input; the paper's does not.
    """

    conditioned = True

    def __init__(
        self,
        in_channels: Annotated[int, Param("channels of the images", ge=1)] = 1,
        channels: Annotated[tuple[int, ...], Param("features of every level", ge=1)] = (64, 128, 256, 512),
        blocks: Annotated[int, Param("residual blocks of a level", ge=1)] = 4,
        shuffle: Annotated[
            int, Param("side of the blocks of pixels that become channels", unit="px", ge=1)
        ] = 1,
        residual: Annotated[bool, Param("add the input to the result")] = False,
    ) -> None:
        super().__init__()
        self.in_channels = self.out_channels = in_channels
        self.shuffle, self.residual = shuffle, residual
        self.first = _convolution((in_channels + 1) * shuffle**2, channels[0])
        pairs = list(itertools.pairwise(channels))
        self.down = nn.ModuleList(_blocks(here, blocks) for here in channels[:-1])
        self.shrink = nn.ModuleList(nn.Conv2d(here, below, 2, stride=2, bias=False) for here, below in pairs)
        self.middle = _blocks(channels[-1], blocks)
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(below, here, 2, stride=2, bias=False) for here, below in pairs
        )
        self.up = nn.ModuleList(_blocks(here, blocks) for here in channels[:-1])
        self.last = _convolution(channels[0], in_channels * shuffle**2)
        if residual:
            nn.init.zeros_(self.last.weight)  # starts as the identity

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise ``(B, in_channels, height, width)`` of any size; ``sigma`` (B,) in the unit of the images."""
        if not x.numel():  # pixel_unshuffle does not take an empty batch
            return x
        padded = padded_to_multiple(x, self.shuffle * 2 ** len(self.down))
        level = sigma.to(padded).reshape(-1, 1, 1, 1).expand(-1, 1, *padded.shape[-2:])
        features = self.first(functional.pixel_unshuffle(torch.cat([padded, level], dim=1), self.shuffle))
        skips = [features]
        for block, shrink in zip(self.down, self.shrink, strict=True):
            features = shrink(block(features))
            skips.append(features)
        features = self.middle(features)
        for block, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            features = block(grow(features + skips.pop()))
        out = functional.pixel_shuffle(self.last(features + skips.pop()), self.shuffle)
        out = out[..., : x.shape[-2], : x.shape[-1]]
        return x + out if self.residual else out


class ResidualBlock(nn.Module):
    """x + two convolutions with a ReLU between them, without biases."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.after = _convolution(width, width), _convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        out: Tensor = x + self.after(torch.relu(self.before(x)))
        return out


def _convolution(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, bias=False)


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))
