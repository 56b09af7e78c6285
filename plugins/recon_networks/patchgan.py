"""PatchGAN: a critic that judges every patch of an image."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from recon.parameters import Param
from recon_networks.normalisation import Norm, normalisation, start_normal

KERNEL = 4


class PatchGAN(nn.Module):
    """Convolutions of 4 x 4 that give one value a patch, with no sigmoid: for least squares or any other loss.

    ``(B, in_channels, H, W)`` to ``(B, 1, h, w)``: the larger the image, the more patches. Isola et al. 2017 (CVPR).
    The defaults are the basic one of 70 x 70 pixels (CycleGAN, Zhu et al. 2017); Park's for low-dose CT, with
    `stride_one_block=False` and batch norm, sees 46 x 46.

    Args:
        in_channels: channels of the image.
        width: filters of the first layer; doubled up to eightfold.
        layers: convolutions that halve the image.
        stride_one_block: one more convolution, which does not halve it, before the last.
        norm: normalisation, not in the first and the last layer.
        slope: of the leaky ReLU below zero.
    """

    critic = True

    def __init__(
        self,
        in_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        width: Annotated[int, Param("filters of the first layer; doubled up to eightfold", ge=1)] = 64,
        layers: Annotated[int, Param("convolutions that halve the image", ge=1)] = 3,
        stride_one_block: Annotated[
            bool, Param("one more convolution, which does not halve the image, before the last")
        ] = True,
        norm: Annotated[Norm, Param("normalisation, not in the first and the last layer")] = "instance",
        slope: Annotated[float, Param("of the leaky ReLU below zero", ge=0, lt=1)] = 0.2,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.strides = (2,) * layers + (1,) * stride_one_block + (1,)
        made: list[nn.Module] = [nn.Conv2d(in_channels, width, KERNEL, 2, 1), nn.LeakyReLU(slope)]
        before = width
        for place, stride in enumerate(self.strides[1:-1], start=1):
            after = width * min(2**place, 8)
            made += [nn.Conv2d(before, after, KERNEL, stride, 1, bias=norm != "batch")]
            made += [normalisation(norm, after), nn.LeakyReLU(slope)]
            before = after
        self.layers = nn.Sequential(*made, nn.Conv2d(before, 1, KERNEL, 1, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start values from N(0, 0.02)."""
        start_normal(self)

    @property
    def receptive_field(self) -> int:
        """Side of the patch that one value depends on [pixels]."""
        side = 1
        for stride in reversed(self.strides):
            side = (side - 1) * stride + KERNEL
        return side

    @property
    def smallest(self) -> int:
        """Side of the smallest image that gives a value [pixels]."""
        side = 1
        for stride in reversed(self.strides):
            side = (side - 1) * stride + KERNEL - 2
        return side

    def forward(self, x: Tensor) -> Tensor:
        """The value of each patch, ``(B, 1, h, w)``."""
        if min(x.shape[-2:]) < self.smallest:
            raise ValueError(
                f"this PatchGAN needs images of {self.smallest} pixels a side, got {x.shape[-2]} x "
                f"{x.shape[-1]}: take larger patches, or fewer layers than {self.strides.count(2)}"
            )
        values: Tensor = self.layers(x)
        return values
