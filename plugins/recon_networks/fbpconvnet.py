"""FBPConvNet: the U-Net that takes artefacts out of filtered back-projections."""

from __future__ import annotations

from typing import Annotated

from torch import nn

from recon.parameters import Param
from recon_networks.encoder_decoder import Design, EncoderDecoder


class FBPConvNet(EncoderDecoder):
    """A U-Net with batch norm that adds what it finds to its input: 34.6 million weights.

    Jin, McCann, Froustey and Unser 2017, IEEE TIP 26, 4509-4522, as in their code: three convolutions at full
    size and two at every other scale, transposed convolutions of 3 x 3 followed by batch norm and ReLU, start
    values from N(0, 0.01). They train by stochastic gradients with momentum 0.99 and rates from 0.01 to 0.001, one
    image a batch, and gradients cut at 0.01.

    Args:
        in_channels: channels of the image.
        width: filters at full size; doubled at each halving.
        scales: number of image sizes.
    """

    def __init__(
        self,
        in_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        width: Annotated[int, Param("filters at full size; doubled at each halving", ge=1)] = 64,
        scales: Annotated[int, Param("number of image sizes", ge=2)] = 5,
    ) -> None:
        widths = tuple(width * 2**scale for scale in range(scales))
        super().__init__(
            in_channels, None, Design(widths=widths, first_convolutions=3, up_kernel=3, residual=True)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start values from N(0, 0.01)."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, 0.0, 0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
