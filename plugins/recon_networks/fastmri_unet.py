"""The baseline U-Net of the fastMRI challenge."""

from __future__ import annotations

from typing import Annotated

from recon.parameters import Param
from recon_networks.encoder_decoder import Design, EncoderDecoder


class FastMRIUNet(EncoderDecoder):
    """A U-Net with instance norm: 7,756,097 weights at width 32, 496 million at the leaderboard's 256.

    Zbontar et al. 2018 (arXiv:1811.08839) and their code: two convolutions without offset at each scale, leaky
    ReLU of 0.2, means of four pixels, transposed convolutions of 2 x 2 with norm and ReLU. They train on
    magnitudes normalised to mean 0 and standard deviation 1, L1, RMSprop with a rate of 0.001, a tenth of it after
    40 of 50 epochs.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the result; as many as the image unless given.
        width: filters at full size; doubled at each halving.
        scales: number of image sizes.
        dropout: probability that a feature is left out, in training.
    """

    def __init__(
        self,
        in_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        out_channels: Annotated[
            int | None, Param("channels of the result; as many as the image unless given", ge=1)
        ] = None,
        width: Annotated[int, Param("filters at full size; doubled at each halving", ge=1)] = 32,
        scales: Annotated[int, Param("number of image sizes", ge=2)] = 5,
        dropout: Annotated[
            float, Param("probability that a feature is left out, in training", ge=0, lt=1)
        ] = 0.0,
    ) -> None:
        design = Design(
            widths=tuple(width * 2**scale for scale in range(scales)),
            norm="instance",
            slope=0.2,
            bias=False,
            down="average",
            dropout=dropout,
        )
        super().__init__(in_channels, out_channels, design)
