"""RED-CNN: the residual encoder-decoder for low-dose CT."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from recon.parameters import Param


class REDCNN(nn.Module):
    """As many convolutions as transposed ones, without padding, and shortcuts between them: 1,848,865 weights.

    ``(B, in_channels, H, W)`` to the same shape, at least 21 pixels a side. A ReLU follows every layer, the last one
    too, so that the result is nowhere negative. Chen et al. 2017, IEEE TMI 36, 2524-2535.

    Args:
        in_channels: channels of the image.
        width: filters of every hidden layer.
        kernel: side of the filters [pixels].
        last_relu: a ReLU after the last layer, as published; without it values below zero are possible.
    """

    PAIRS = 5

    def __init__(
        self,
        in_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        width: Annotated[int, Param("filters of every hidden layer", ge=1)] = 96,
        kernel: Annotated[int, Param("side of the filters", unit="pixels", ge=1)] = 5,
        last_relu: Annotated[bool, Param("ReLU after the last layer too, as published")] = True,
    ) -> None:
        super().__init__()
        self.in_channels = self.out_channels = in_channels
        self.kernel, self.last_relu = kernel, last_relu
        down = [in_channels, *[width] * self.PAIRS]
        up = down[::-1]
        self.encoder = nn.ModuleList(nn.Conv2d(down[i], down[i + 1], kernel) for i in range(self.PAIRS))
        self.decoder = nn.ModuleList(nn.ConvTranspose2d(up[i], up[i + 1], kernel) for i in range(self.PAIRS))

    def forward(self, x: Tensor) -> Tensor:
        """Denoise images ``(B, in_channels, H, W)``."""
        smallest = self.PAIRS * (self.kernel - 1) + 1
        if min(x.shape[-2:]) < smallest:
            raise ValueError(
                f"RED-CNN loses {smallest - 1} pixels a side and needs images of {smallest}, got {x.shape[-2]} x "
                f"{x.shape[-1]}: pad the image, or take a smaller kernel than {self.kernel}"
            )
        kept = [x]
        for layer in self.encoder:
            kept.append(torch.relu(layer(kept[-1])))
        result = kept[-1]
        for place, layer in enumerate(self.decoder):
            result = layer(result)
            if place % 2 == 0:  # the shortcuts join the fourth layer, the second, and the image
                result = result + kept[self.PAIRS - 1 - place]
            if self.last_relu or place < self.PAIRS - 1:
                result = torch.relu(result)
        return result
