"""U-Net: an encoder and a decoder with skip connections (Ronneberger et al. 2015)."""

from __future__ import annotations

from typing import Annotated

from torch import nn

from recon.parameters import Param
from recon_networks.encoder_decoder import Design, Down, EncoderDecoder, Up
from recon_networks.normalisation import Norm


class UNet(EncoderDecoder):
    """Two convolutions a level, halved by the largest of four pixels, transposed convolutions up, joined skips.

    ``(B, in_channels, height, width)`` to ``(B, out_channels, height, width)``, of any size. A residual one starts as
    the identity.

    Args:
        in_channels: channels of the images.
        out_channels: channels of the result; 0: as many as `in_channels`.
        channels: features of the first level; every level below has twice as many.
        levels: resolutions; images are padded to a multiple of 2^(levels - 1) pixels and cropped.
        residual: the network gives what is added to its input.
        norm: normalisation after every convolution.
        kernel: side of the filters, odd [px].
        convolutions: of each level, on the way down and on the way up.
        block_residual: add the input of each level's convolutions to their result.
        dropout: probability that a feature is left out after each convolution, in training.
        separable: each convolution as one a channel and one of 1x1 (Chollet 2017).
        dilation: between the pixels of the coarsest level's filters [px].
        down: how images are halved: the largest or the mean of four pixels, or a convolution with stride 2.
        up: how they are doubled: a transposed convolution, or interpolation.
    """

    def __init__(
        self,
        in_channels: Annotated[int, Param("channels of the images", ge=1)] = 1,
        out_channels: Annotated[int, Param("channels of the result; 0: as the images", ge=0)] = 0,
        channels: Annotated[int, Param("features of the first level", ge=1)] = 32,
        levels: Annotated[int, Param("resolutions", ge=1, le=8)] = 4,
        residual: Annotated[bool, Param("add the input to the result")] = True,
        norm: Annotated[Norm, Param("normalisation after every convolution")] = "none",
        kernel: Annotated[int, Param("side of the filters, odd", unit="px", ge=1)] = 3,
        convolutions: Annotated[int, Param("of each level", ge=1)] = 2,
        block_residual: Annotated[
            bool, Param("add the input of each level's convolutions to their result")
        ] = False,
        dropout: Annotated[
            float, Param("probability that a feature is left out, in training", ge=0, lt=1)
        ] = 0.0,
        separable: Annotated[bool, Param("each convolution as one a channel and one of 1x1")] = False,
        dilation: Annotated[
            int, Param("between the pixels of the coarsest level's filters", unit="px", ge=1)
        ] = 1,
        down: Annotated[Down, Param("how images are halved")] = "max",
        up: Annotated[Up, Param("how images are doubled")] = "transposed",
    ) -> None:
        design = Design(
            widths=tuple(channels * 2**level for level in range(levels)),
            convolutions=convolutions,
            first_convolutions=convolutions,
            kernel=kernel,
            norm=norm,
            bias=norm == "none",
            down=down,
            up=up,
            up_activation=False,
            residual=residual,
            block_residual=block_residual,
            dropout=dropout,
            separable=separable,
            dilation=dilation,
        )
        super().__init__(in_channels, out_channels, design)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Convolutions after He et al. 2015; the last layer of a residual network starts at zero."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if self.design.residual:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
