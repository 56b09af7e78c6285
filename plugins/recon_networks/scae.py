"""SCAE: the stacked convolutional autoencoder of deep-learning regularisation by splitting."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from recon.parameters import Param


class SCAE(nn.Module):
    """Six convolutions of 3 x 3 with 32, 64, 128, 64, 32 hidden filters: 185,217 weights with one channel.

    ``(B, in_channels, H, W)`` to the same shape. Liu, Kuang and Zhang 2018 (MICCAI), Table 1; it is the generator of
    their adversarial variant too. The paper leaves the activation and the border open: ReLU between the layers,
    none after the last so that values of any sign are possible, zero padding that keeps the size.

    Args:
        in_channels: channels of the image.
        widths: filters of the hidden layers.
        residual: add the input to the result.
    """

    def __init__(
        self,
        in_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        widths: Annotated[tuple[int, ...], Param("filters of the hidden layers", ge=1)] = (
            32,
            64,
            128,
            64,
            32,
        ),
        residual: Annotated[bool, Param("add the input to the result")] = False,
    ) -> None:
        super().__init__()
        if not widths:
            raise ValueError("widths needs one hidden layer or more, got none")
        self.in_channels = self.out_channels = in_channels
        self.residual = residual
        layers: list[nn.Module] = []
        before = in_channels
        for width in widths:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, in_channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Restore images ``(B, in_channels, H, W)``."""
        result: Tensor = self.layers(x)
        return x + result if self.residual else result
