"""The U-Net that learned primal-dual reconstruction was compared with."""

from __future__ import annotations

import math
from typing import Annotated

from torch import nn

from recon.parameters import Param
from recon_networks.encoder_decoder import Design, EncoderDecoder


class AdlerUNet(EncoderDecoder):
    """The original U-Net without norm, added to its input: 31 million weights.

    Adler and Oktem 2018, IEEE TMI 37, 1322-1332: two convolutions a scale with ReLU, the largest of four
    pixels, transposed convolutions of 2 x 2 with neither norm nor ReLU, start values after He et al. 2015. Its
    published code gives the inner scales 2, 4 and 8 filters (a power of two where the width times it is meant);
    here they double from `width` as in Ronneberger et al. Trained by Adam (beta2 0.99), cosine from 0.001, batches
    of 5, gradients cut at 1.

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
            in_channels, None, Design(widths=widths, norm="none", up_activation=False, residual=True)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start values of standard deviation sqrt(2.6 / fan in), cut at twice that."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                std = math.sqrt(2.6 / (layer.in_channels * math.prod(layer.kernel_size)))
                nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
