"""The generator and the critic of WGAN-VGG for low-dose CT."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from recon.parameters import Param


class WGANVGGGenerator(nn.Module):
    """Convolutions of 3 x 3, each with a ReLU: 56,097 weights as published.

    ``(B, in_channels, H, W)`` to ``(B, out_channels, H, W)``. Yang et al. 2018, IEEE TMI 37, 1348-1357.

    The published network ends in a ReLU: its images are nowhere negative, and one whose first output is zero
    everywhere never learns. `last_relu=False` or `residual=True` have neither limit.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the result; as many as the image unless given.
        width: filters of every hidden layer.
        depth: number of convolutions.
        last_relu: a ReLU after the last convolution, as published.
        residual: add the input to the last convolution, before the last ReLU if there is one.
    """

    def __init__(
        self,
        in_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        out_channels: Annotated[
            int | None, Param("channels of the result; as many as the image unless given", ge=1)
        ] = None,
        width: Annotated[int, Param("filters of every hidden layer", ge=1)] = 32,
        depth: Annotated[int, Param("number of convolutions", ge=2)] = 8,
        last_relu: Annotated[bool, Param("ReLU after the last convolution too, as published")] = True,
        residual: Annotated[bool, Param("add the input to the last convolution")] = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = in_channels if out_channels is None else out_channels
        if residual and self.out_channels != in_channels:
            raise ValueError(
                f"residual=True adds the input to the result: out_channels={self.out_channels} must equal "
                f"in_channels={in_channels}"
            )
        self.last_relu, self.residual = last_relu, residual
        layers: list[nn.Module] = []
        before = in_channels
        for _ in range(depth - 1):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, self.out_channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Denoise images ``(B, in_channels, H, W)``."""
        result: Tensor = self.layers(x)
        if self.residual:
            result = result + x
        return torch.relu(result) if self.last_relu else result


class WGANVGGCritic(nn.Module):
    """Six convolutions and two full layers that give one number an image, for a Wasserstein distance.

    ``(B, in_channels, size, size)`` to ``(B, 1)``. There is no sigmoid: a critic's values have no bounds. With
    `padding=1` and patches of 64 pixels it has 17.92 million weights, with `padding=0` 7.70 million.

    Args:
        in_channels: channels of the image.
        size: side of the patches that it judges [pixels].
        padding: zeros around the image at each convolution.
        widths: filters of the convolutions; the second, fourth, ... halve the image.
        features: values of the hidden full layer.
        slope: of the leaky ReLU below zero.
    """

    critic = True

    def __init__(
        self,
        in_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        size: Annotated[int, Param("side of the patches that it judges", unit="pixels", ge=1)] = 64,
        padding: Annotated[int, Param("zeros around the image at each convolution", choices=(0, 1))] = 1,
        widths: Annotated[
            tuple[int, ...], Param("filters of the convolutions; every second one halves the image", ge=1)
        ] = (64, 64, 128, 128, 256, 256),
        features: Annotated[int, Param("values of the hidden full layer", ge=1)] = 1024,
        slope: Annotated[float, Param("of the leaky ReLU below zero", ge=0, lt=1)] = 0.2,
    ) -> None:
        super().__init__()
        if padding not in (0, 1):
            raise ValueError(f"padding must be 0 or 1, got {padding}")
        self.in_channels, self.size = in_channels, size
        side, before = size, in_channels
        layers: list[nn.Module] = []
        for place, width in enumerate(widths):
            stride = 1 + place % 2
            side = (side + 2 * padding - 3) // stride + 1
            layers += [nn.Conv2d(before, width, 3, stride, padding), nn.LeakyReLU(slope)]
            before = width
        if side < 1:
            raise ValueError(
                f"patches of {size} pixels are too small for {len(widths)} convolutions with padding={padding}: "
                "take a larger size, or padding=1"
            )
        self.convolutions = nn.Sequential(*layers)
        self.judgement = nn.Sequential(
            nn.Flatten(),
            nn.Linear(before * side * side, features),
            nn.LeakyReLU(slope),
            nn.Linear(features, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The value of each image, ``(B, 1)``."""
        if x.shape[-2:] != (self.size, self.size):
            raise ValueError(
                f"this critic judges patches of {self.size} x {self.size} pixels, got {x.shape[-2]} x "
                f"{x.shape[-1]}: train on patches of that size, or make it with size={x.shape[-1]}"
            )
        value: Tensor = self.judgement(self.convolutions(x))
        return value
