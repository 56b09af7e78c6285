"""The learned primal-dual network: primal-dual iterations whose proximal maps are learned."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from recon.linear import LinearOperator
from recon.parameters import Param
from recon_networks.unrolled import ConvolutionBlock, UnrolledNetwork, from_parts, to_parts


class LearnedPrimalDual(UnrolledNetwork):
    """Learned primal-dual reconstruction (Adler and Oktem 2018), for any linear operator A.

    With several images f and several data h, all zero at first, and A and y divided by the norm of A:

        h = h + dual_i(h, A f_2, y)
        f = f + primal_i(f, A^H h_1)

    and f_1 is the result. The networks see no pixel beyond a few; everything global comes through A.
    """

    def __init__(
        self,
        iterations: Annotated[int, Param("unrolled iterations", ge=1)] = 10,
        primal: Annotated[int, Param("images that are carried along", ge=1)] = 5,
        dual: Annotated[int, Param("data that are carried along", ge=1)] = 5,
        features: Annotated[int, Param("channels inside a block", ge=1)] = 32,
        layers: Annotated[int, Param("convolutions of a block", ge=2)] = 3,
        complex_images: Annotated[bool, Param("images and data are complex, as in MRI")] = False,
        axes: Annotated[int, Param("axes of an image", ge=2, le=3)] = 2,
        data_axes: Annotated[
            int | None, Param("last axes of the data that are convolved; None: as of the image", ge=1, le=3)
        ] = None,
        checkpointed: Annotated[bool, Param("compute activations again, to save memory")] = False,
    ) -> None:
        super().__init__(complex_images, axes, checkpointed)
        self.primal, self.dual = primal, dual
        self.data_axes = axes if data_axes is None else data_axes
        parts = self.parts
        self.dual_blocks = nn.ModuleList(
            ConvolutionBlock(parts * (dual + 2), parts * dual, features, layers, self.data_axes)
            for _ in range(iterations)
        )
        self.primal_blocks = nn.ModuleList(
            ConvolutionBlock(parts * (primal + 1), parts * primal, features, layers, axes)
            for _ in range(iterations)
        )

    def forward(self, op: LinearOperator, y: Tensor) -> Tensor:
        """Reconstruct ``(B, *domain_shape)`` from data ``(B, *range_shape)``."""
        self.check(op, y)
        if len(op.range_shape) < self.data_axes:
            raise ValueError(
                f"{type(op).__name__} has data of shape {op.range_shape}: make the network with "
                f"data_axes={len(op.range_shape)}"
            )
        norm, parts = op.norm(), self.parts
        data = to_parts(y) / norm
        f = data.new_zeros(y.shape[0], parts * self.primal, *op.domain_shape)
        h = data.new_zeros(y.shape[0], parts * self.dual, *op.range_shape)
        second = slice(parts, 2 * parts) if self.primal > 1 else slice(0, parts)

        def step(place: int, f: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            predicted = to_parts(op(from_parts(f[:, second]))) / norm
            h = h + self.dual_blocks[place](torch.cat([h, predicted, data], 1))
            pulled = to_parts(op.adjoint(from_parts(h[:, :parts]))) / norm
            return f + self.primal_blocks[place](torch.cat([f, pulled], 1)), h

        for place in range(len(self.primal_blocks)):
            f, h = self.iterate(lambda f, h, place=place: step(place, f, h), f, h)
        return from_parts(f[:, :parts])
