"""The discriminator of the adversarial variant of deep-learning regularisation by splitting."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from recon.parameters import Param


class SplittingDiscriminator(nn.Module):
    """Eight convolutions that give one logit an image, for the standard adversarial loss.

    ``(B, in_channels, H, W)`` to ``(B, 1)``. Liu, Kuang and Zhang 2018 (MICCAI), Table 1: 8, 64, 64, 64, 64, 64, 64
    filters with kernels 3, 3, 3, 3, 3, 1, 1 and strides 2, 2, 2, 2, 2, 1, 1. The paper leaves the eighth layer
    and the activations open: a 1 x 1 convolution to one channel, whose mean over the image is the logit, and
    leaky ReLUs. The sigmoid belongs to the loss. 123,921 weights with one channel.

    Args:
        in_channels: channels of the image.
        widths: filters of the seven stated layers.
        slope: of the leaky ReLU below zero.
    """

    critic = True
    KERNELS = (3, 3, 3, 3, 3, 1, 1)

    def __init__(
        self,
        in_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        widths: Annotated[tuple[int, ...], Param("filters of the seven stated layers", ge=1)] = (
            8, 64, 64, 64, 64, 64, 64,
        ),
        slope: Annotated[float, Param("of the leaky ReLU below zero", ge=0, lt=1)] = 0.2,
    ) -> None:  # fmt: skip
        super().__init__()
        if len(widths) != len(self.KERNELS):
            raise ValueError(f"widths needs {len(self.KERNELS)} numbers, one a layer, got {widths}")
        self.in_channels = in_channels
        layers: list[nn.Module] = []
        before = in_channels
        for kernel, width in zip(self.KERNELS, widths, strict=True):
            stride = 2 if kernel == 3 else 1
            layers += [nn.Conv2d(before, width, kernel, stride, kernel // 2), nn.LeakyReLU(slope)]
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The logit of each image, ``(B, 1)``."""
        logit: Tensor = self.layers(x).mean((-2, -1))
        return logit
