"""The variational network: gradient steps on the data term with a learned regulariser in every cascade."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from recon.linear import LinearOperator
from recon.parameters import Param
from recon_networks.unet import UNet
from recon_networks.unrolled import UnrolledNetwork, from_parts, to_parts


class VariationalNetwork(UnrolledNetwork):
    """Variational network with U-Nets (Hammernik et al. 2018; Sriram et al. 2020), for any linear operator A.

    From the direct reconstruction, with A divided by its norm and a learned step in every cascade:

        x = x - step_i A^H (A x - y) - regulariser_i(x)

    Each regulariser is a U-Net whose input is brought to zero mean and unit standard deviation, each item and
    part for itself, and its output back. In MRI with several coils A holds their maps; they are not learned here.
    """

    def __init__(
        self,
        cascades: Annotated[int, Param("unrolled iterations", ge=1)] = 12,
        channels: Annotated[int, Param("features of the first level of a U-Net", ge=1)] = 18,
        levels: Annotated[int, Param("resolutions of a U-Net", ge=1)] = 5,
        complex_images: Annotated[bool, Param("images and data are complex, as in MRI")] = False,
        checkpointed: Annotated[bool, Param("compute activations again, to save memory")] = False,
    ) -> None:
        super().__init__(complex_images, 2, checkpointed)
        self.steps = nn.Parameter(torch.ones(cascades))
        self.regularisers = nn.ModuleList(
            UNet(self.parts, self.parts, channels, levels, residual=False, norm="instance")
            for _ in range(cascades)
        )

    def forward(self, op: LinearOperator, y: Tensor) -> Tensor:
        """Reconstruct ``(B, H, W)`` from data ``(B, *range_shape)``."""
        self.check(op, y)
        if not len(y):
            return op.pinv(y)
        squared = op.norm() ** 2
        back = op.adjoint(y) / squared

        def cascade(place: int, x: Tensor) -> Tensor:
            gradient = op.gram(x) / squared - back
            return x - self.steps[place] * gradient - from_parts(self._regularised(place, to_parts(x)))

        x = op.pinv(y)
        for place in range(len(self.regularisers)):
            x = self.iterate(lambda x, place=place: cascade(place, x), x)
        return x

    def _regularised(self, place: int, planes: Tensor) -> Tensor:
        mean = planes.mean((-2, -1), keepdim=True)
        deviation = planes.std((-2, -1), keepdim=True).clamp_min(1e-12)
        out: Tensor = self.regularisers[place]((planes - mean) / deviation)
        return deviation * out
