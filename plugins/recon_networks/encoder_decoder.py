"""What all U-Nets share: halve, double, and join what has the same size."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from recon_networks.normalisation import Norm, normalisation
from recon_networks.sizes import crop_to, pad_to_multiple

Down = Literal["max", "average", "stride"]
Up = Literal["transposed", "bilinear"]


@dataclass(frozen=True, kw_only=True)
class Design:
    """How a U-Net is built.

    Attributes:
        widths: filters at each scale, the image's own first.
        convolutions: of each block.
        first_convolutions: of the first block.
        kernel: side of their filters, odd [pixels].
        norm: after each convolution.
        slope: of the leaky ReLU below zero; 0 is a ReLU.
        bias: whether convolutions inside have an offset.
        down: how images are halved: the largest or the mean of four pixels, or a convolution with stride 2.
        up: how they are doubled: a transposed convolution to half as many filters, or interpolation.
        up_kernel: side of the transposed convolution's filters [pixels].
        up_activation: whether norm and ReLU follow it.
        skip_channels: what a 1 x 1 convolution leaves of the features that are joined; None joins all of them.
        joined_norm: a norm of the joined features.
        residual: add the input to the result.
        block_residual: add the input of each block to its result, through a 1 x 1 convolution where widths differ.
        dropout: probability that a feature is left out after each convolution, in training.
        separable: each convolution as one a channel and one of 1 x 1.
        dilation: between the pixels of the filters at the coarsest scale [pixels].
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    convolutions: int = 2
    first_convolutions: int = 2
    kernel: int = 3
    norm: Norm = "batch"
    slope: float = 0.0
    bias: bool = True
    down: Down = "max"
    up: Up = "transposed"
    up_kernel: int = 2
    up_activation: bool = True
    skip_channels: int | None = field(default=None)
    joined_norm: bool = False
    residual: bool = False
    block_residual: bool = False
    dropout: float = 0.0
    separable: bool = False
    dilation: int = 1

    def __post_init__(self) -> None:
        if len(self.widths) < 2:
            raise ValueError(f"a U-Net has two scales or more, got widths={self.widths}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, so that images keep their size, got {self.kernel}")
        if self.down not in ("max", "average", "stride"):
            raise ValueError(f"down must be 'max', 'average' or 'stride', got {self.down!r}")
        if self.up not in ("transposed", "bilinear"):
            raise ValueError(f"up must be 'transposed' or 'bilinear', got {self.up!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a probability below 1, got {self.dropout}")


class EncoderDecoder(nn.Module):
    """``(B, in_channels, H, W)`` to ``(B, out_channels, H, W)`` for any size: padded inside, and cropped.

    Ronneberger, Fischer and Brox 2015 (MICCAI).

    Args:
        in_channels: channels of the image.
        out_channels: channels of the result; as many as the image unless given.
        design: everything else.
    """

    def __init__(self, in_channels: int, out_channels: int | None, design: Design) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = in_channels if out_channels is None else out_channels
        self.design = design
        if design.residual and self.out_channels != in_channels:
            raise ValueError(
                f"residual=True adds the input to the result: out_channels={self.out_channels} must equal "
                f"in_channels={in_channels}"
            )
        widths, last = design.widths, len(design.widths) - 1
        self.first = Block(in_channels, widths[0], design, design.first_convolutions)
        self.encoder = nn.ModuleList(
            Block(
                before,
                after,
                design,
                design.convolutions,
                stride=2 if design.down == "stride" else 1,
                dilation=design.dilation if scale == last else 1,
            )
            for scale, (before, after) in enumerate(itertools.pairwise(widths), start=1)
        )
        self.decoder = nn.ModuleList(
            Join(below, here, design) for below, here in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.last = nn.Conv2d(widths[0], self.out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Restore images ``(B, in_channels, H, W)``."""
        # twice the coarsest pixel, as an instance norm needs more than one value a channel
        image = pad_to_multiple(x, 2 ** len(self.encoder))
        if min(image.shape[-2:]) < 2 ** (len(self.encoder) + 1):
            image = pad_to_multiple(image, 2 ** (len(self.encoder) + 1))
        kept = [self.first(image)]
        for block in self.encoder:
            kept.append(block(self._halved(kept[-1])))
        result = kept.pop()
        for join in self.decoder:
            result = join(result, kept.pop())
        result = crop_to(self.last(result), x)
        return x + result if self.design.residual else result

    def _halved(self, x: Tensor) -> Tensor:
        """Half the height and width, unless the convolution that follows has a stride."""
        if self.design.down == "max":
            return functional.max_pool2d(x, 2)
        return functional.avg_pool2d(x, 2) if self.design.down == "average" else x


class Block(nn.Module):
    """Convolutions, each with its norm, ReLU and dropout."""

    def __init__(
        self,
        before: int,
        after: int,
        design: Design,
        convolutions: int,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = before
        for place in range(convolutions):
            layers += _convolution(width, after, design, stride if place == 0 else 1, dilation)
            layers += [normalisation(design.norm, after), nn.LeakyReLU(design.slope)]
            if design.dropout:
                layers += [nn.Dropout2d(design.dropout)]
            width = after
        self.layers = nn.Sequential(*layers)
        self.shortcut: nn.Module | None = None
        if design.block_residual:
            same = before == after and stride == 1
            self.shortcut = nn.Identity() if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(B, after, H, W)``, or of half the size."""
        result: Tensor = self.layers(x)
        return result if self.shortcut is None else result + self.shortcut(x)


class Join(nn.Module):
    """Double the coarser features, join those of the same size, and a block."""

    def __init__(self, below: int, here: int, design: Design) -> None:
        super().__init__()
        self.transposed: nn.Module | None = None
        doubled = below
        if design.up == "transposed":
            doubled = here
            self.transposed = nn.ConvTranspose2d(below, here, design.up_kernel, 2, bias=design.bias)
        self.after = nn.Sequential()
        if design.up == "transposed" and design.up_activation:
            self.after = nn.Sequential(normalisation(design.norm, here), nn.LeakyReLU(design.slope))
        self.skip: nn.Module = nn.Identity()
        joined = here if design.skip_channels is None else design.skip_channels
        if design.skip_channels is not None:
            self.skip = nn.Sequential(
                nn.Conv2d(here, joined, 1), normalisation(design.norm, joined), nn.LeakyReLU(design.slope)
            )
        self.joined_norm = normalisation(design.norm if design.joined_norm else "none", doubled + joined)
        self.block = Block(doubled + joined, here, design, design.convolutions)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Features of the size of `fine`."""
        if self.transposed is None:
            doubled = functional.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=True)
        else:
            doubled = self.after(crop_to(self.transposed(coarse), fine))
        result: Tensor = self.block(self.joined_norm(torch.cat([doubled, self.skip(fine)], 1)))
        return result


def _convolution(before: int, after: int, design: Design, stride: int, dilation: int) -> list[nn.Module]:
    """A convolution that keeps the size (halves it with stride 2), or its separable form."""
    padding = dilation * (design.kernel // 2)
    if not design.separable:
        return [nn.Conv2d(before, after, design.kernel, stride, padding, dilation, bias=design.bias)]
    return [
        nn.Conv2d(before, before, design.kernel, stride, padding, dilation, groups=before, bias=False),
        nn.Conv2d(before, after, 1, bias=design.bias),
    ]
