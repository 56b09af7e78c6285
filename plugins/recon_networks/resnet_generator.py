"""The residual network that CycleGAN translates images with."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from recon.parameters import Param
from recon_networks.normalisation import Norm, normalisation, start_normal
from recon_networks.sizes import crop_to, pad_to_multiple

SMALLEST = 8
"""Side of the smallest image [pixels]: a quarter of it still has a border to mirror."""


class ResNetGenerator(nn.Module):
    """Two halvings, blocks with a shortcut, two doublings: the generator of CycleGAN.

    ``(B, in_channels, H, W)`` to ``(B, out_channels, H, W)``, at least 8 pixels a side, values in [-1, 1] where a
    tanh ends it. Zhu et al. 2017 (ICCV) have blocks of two convolutions, instance norm and no residual; Park's
    network for low-dose CT has blocks of one convolution, batch norm, and a residual: its code adds a learned
    1 x 1 convolution of the input before the tanh, its paper adds the input after it. The defaults are the code's.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the result; as many as the image unless given.
        width: filters of the first layer; doubled at each halving.
        blocks: number of blocks with a shortcut.
        convolutions: of each block: 1 is followed by a ReLU, 2 have one between them.
        norm: normalisation; convolutions have an offset unless it is batch norm.
        residual: what is added of the input: nothing, the input, or a learned 1 x 1 convolution of it.
        tanh: where it stands: after the residual is added, before, or nowhere.
    """

    def __init__(
        self,
        in_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        out_channels: Annotated[
            int | None, Param("channels of the result; as many as the image unless given", ge=1)
        ] = None,
        width: Annotated[int, Param("filters of the first layer; doubled at each halving", ge=1)] = 64,
        blocks: Annotated[int, Param("number of blocks with a shortcut", ge=1)] = 9,
        convolutions: Annotated[int, Param("of each block: 1 (Park) or 2 (Zhu et al.)", choices=(1, 2))] = 1,
        norm: Annotated[Norm, Param("normalisation")] = "batch",
        residual: Annotated[
            Literal["none", "identity", "learned"],
            Param("what is added of the input: nothing, the input, or a learned 1 x 1 convolution of it"),
        ] = "learned",
        tanh: Annotated[
            Literal["after", "before", "none"], Param("after the residual is added, before, or nowhere")
        ] = "after",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = in_channels if out_channels is None else out_channels
        _check(convolutions, residual, tanh)
        if residual == "identity" and self.out_channels != in_channels:
            raise ValueError(
                f"residual='identity' adds the input to the result: out_channels={self.out_channels} must "
                f"equal in_channels={in_channels}; or take residual='learned'"
            )
        self.residual, self.tanh = residual, tanh
        bias = norm != "batch"
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, width, 7, bias=bias)]
        layers += [normalisation(norm, width), nn.ReLU()]
        for features in (width, 2 * width):
            layers += [nn.Conv2d(features, 2 * features, 3, 2, 1, bias=bias)]
            layers += [normalisation(norm, 2 * features), nn.ReLU()]
        layers += [Block(4 * width, convolutions, norm) for _ in range(blocks)]
        for features in (4 * width, 2 * width):
            layers += [nn.ConvTranspose2d(features, features // 2, 3, 2, 1, output_padding=1, bias=bias)]
            layers += [normalisation(norm, features // 2), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, self.out_channels, 7)]
        self.layers = nn.Sequential(*layers)
        self.shortcut = (
            nn.Conv2d(in_channels, self.out_channels, 1) if residual == "learned" else nn.Identity()
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start values from N(0, 0.02)."""
        start_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        """Translate images ``(B, in_channels, H, W)``."""
        if min(x.shape[-2:]) < SMALLEST:
            raise ValueError(
                f"the network halves images twice and needs {SMALLEST} pixels a side, got {x.shape[-2]} x "
                f"{x.shape[-1]}: pad the image"
            )
        result = crop_to(self.layers(pad_to_multiple(x, 4)), x)
        if self.tanh == "before":
            result = torch.tanh(result)
        if self.residual != "none":
            result = result + self.shortcut(x)
        return torch.tanh(result) if self.tanh == "after" else result


class Block(nn.Module):
    """x + (convolution, norm, ReLU)(x), or x + (convolution, norm, ReLU, convolution, norm)(x)."""

    def __init__(self, width: int, convolutions: int, norm: Norm) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(convolutions):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=norm != "batch")]
            layers += [normalisation(norm, width), nn.ReLU()]
        self.layers = nn.Sequential(*(layers if convolutions == 1 else layers[:-1]))

    def forward(self, x: Tensor) -> Tensor:
        """The block's result, of the shape of `x`."""
        result: Tensor = x + self.layers(x)
        return result


def _check(convolutions: int, residual: str, tanh: str) -> None:
    if convolutions not in (1, 2):
        raise ValueError(f"convolutions of a block must be 1 or 2, got {convolutions}")
    if residual not in ("none", "identity", "learned"):
        raise ValueError(f"residual must be 'none', 'identity' or 'learned', got {residual!r}")
    if tanh not in ("after", "before", "none"):
        raise ValueError(f"tanh must be 'after', 'before' or 'none', got {tanh!r}")
