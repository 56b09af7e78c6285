"""The U-Net after filtered back-projection of the LoDoPaB-CT and ellipses benchmarks."""

from __future__ import annotations

from typing import Annotated

from recon.parameters import Param
from recon_networks.encoder_decoder import Design, EncoderDecoder


class DivalUNet(EncoderDecoder):
    """A slim U-Net with strided convolutions and four features joined at each scale.

    The FBP + U-Net of dival (Leuschner et al. 2021, Scientific Data 8, 109), as in its code: one convolution at
    full size, then a strided and a plain one, batch norm and leaky ReLU of 0.2; bilinear doubling, 1 x 1
    convolutions to `skip_channels` features, batch norm of what is joined. The widths are those for LoDoPaB-CT
    (Adam, cosine from 0.001 to 0.0001, batches of 32, 250 epochs, gradients cut at 1); for ellipses they are
    64, 64, 128, 128, 256.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the result; as many as the image unless given.
        widths: filters at each scale.
        skip_channels: features joined at each scale.
    """

    def __init__(
        self,
        in_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        out_channels: Annotated[
            int | None, Param("channels of the result; as many as the image unless given", ge=1)
        ] = None,
        widths: Annotated[tuple[int, ...], Param("filters at each scale", ge=1)] = (32, 32, 64, 64, 128),
        skip_channels: Annotated[int, Param("features joined at each scale", ge=1)] = 4,
    ) -> None:
        design = Design(
            widths=tuple(widths),
            first_convolutions=1,
            slope=0.2,
            down="stride",
            up="bilinear",
            skip_channels=skip_channels,
            joined_norm=True,
        )
        super().__init__(in_channels, out_channels, design)
