"""Learned gradient descent: iterations that turn the gradient of the data term into a learned update."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from recon.linear import LinearOperator
from recon.parameters import Param
from recon_networks.unrolled import ConvolutionBlock, UnrolledNetwork, from_parts, to_parts


class LearnedGradient(UnrolledNetwork):
    """Learned gradient descent with a memory (Adler and Oktem 2017), for any linear operator A.

    From the direct reconstruction x and an empty memory s, with A divided by its norm:

        (d, s) = block_i(x, s, A^H (A x - y)),   x = x + d
    """

    def __init__(
        self,
        iterations: Annotated[int, Param("unrolled iterations", ge=1)] = 10,
        memory: Annotated[int, Param("images of memory", ge=0)] = 5,
        features: Annotated[int, Param("channels inside a block", ge=1)] = 32,
        layers: Annotated[int, Param("convolutions of a block", ge=2)] = 3,
        shared: Annotated[bool, Param("the same block in every iteration")] = False,
        complex_images: Annotated[bool, Param("images and data are complex, as in MRI")] = False,
        axes: Annotated[int, Param("axes of an image", ge=2, le=3)] = 2,
        checkpointed: Annotated[bool, Param("compute activations again, to save memory")] = False,
    ) -> None:
        super().__init__(complex_images, axes, checkpointed)
        self.iterations, self.memory = iterations, memory
        parts = self.parts
        self.blocks = nn.ModuleList(
            ConvolutionBlock(parts * (memory + 2), parts * (memory + 1), features, layers, axes)
            for _ in range(1 if shared else iterations)
        )

    def forward(self, op: LinearOperator, y: Tensor) -> Tensor:
        """Reconstruct ``(B, *domain_shape)`` from data ``(B, *range_shape)``."""
        self.check(op, y)
        squared, parts = op.norm() ** 2, self.parts
        x = to_parts(op.pinv(y))
        s = x.new_zeros(y.shape[0], parts * self.memory, *op.domain_shape)
        back = to_parts(op.adjoint(y)) / squared

        def step(place: int, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
            gradient = to_parts(op.gram(from_parts(x))) / squared - back
            update = self.blocks[place % len(self.blocks)](torch.cat([x, s, gradient], 1))
            return x + update[:, :parts], update[:, parts:].relu()

        for place in range(self.iterations):
            x, s = self.iterate(lambda x, s, place=place: step(place, x, s), x, s)
        return from_parts(x)
