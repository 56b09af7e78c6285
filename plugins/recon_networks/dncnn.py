"""DnCNN: a plain convolutional network that predicts the noise."""

from __future__ import annotations

from typing import Annotated, Literal

from torch import Tensor, nn

from recon.parameters import Param
from recon_networks.normalisation import normalisation


class DnCNN(nn.Module):
    """x - R(x), where R is a chain of 3 x 3 convolutions with batch norm and ReLU.

    ``(B, in_channels, H, W)`` to the same shape. Zhang et al. 2017, IEEE TIP 26, 3142-3155: 17 layers for one noise
    level, 20 for many at once. With one channel and 17 layers it has 556,097 weights: the first and the last
    convolution have an offset, those under batch norm none.

    Args:
        in_channels: channels of the image.
        width: filters of every hidden layer.
        depth: number of convolutions.
        norm: normalisation of the hidden layers; ``"none"`` gives their convolutions an offset.
        residual: predict the noise and subtract it; otherwise predict the image.
    """

    def __init__(
        self,
        in_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        width: Annotated[int, Param("filters of every hidden layer", ge=1)] = 64,
        depth: Annotated[int, Param("number of convolutions", ge=3)] = 17,
        norm: Annotated[Literal["batch", "none"], Param("normalisation of the hidden layers")] = "batch",
        residual: Annotated[bool, Param("predict the noise and subtract it")] = True,
    ) -> None:
        super().__init__()
        if norm not in ("batch", "none"):
            raise ValueError(f"norm must be 'batch' or 'none', got {norm!r}")
        self.in_channels = self.out_channels = in_channels
        self.residual = residual
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=norm == "none")]
            layers += [normalisation(norm, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, in_channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Denoise images ``(B, in_channels, H, W)``."""
        result: Tensor = self.layers(x)
        return x - result if self.residual else result
