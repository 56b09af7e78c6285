"""MoDL: a learned denoiser and an exact data-consistency step in turn, with shared weights."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recon.linear import Identity, LinearOperator
from recon.parameters import Param
from recon.solvers.normal_equations import conjugate_gradients
from recon_networks.unrolled import ConvolutionBlock, UnrolledNetwork, from_parts, to_parts


class MoDL(UnrolledNetwork):
    """Model-based deep learning (Aggarwal, Mani and Jacob 2019), for any linear operator A.

    From the direct reconstruction, with A divided by its norm and a learned weight lambda:

        z = x + denoiser(x),   x = argmin_x |A x - y|^2 + lambda |x - z|^2

    The x-step is the operator's closed form where it has one, else conjugate gradients; its gradient is that
    of the exact solution (one more such step), so that no iterate is kept.
    """

    ends_consistent = True

    def __init__(
        self,
        iterations: Annotated[int, Param("unrolled iterations", ge=1)] = 5,
        features: Annotated[int, Param("channels inside the denoiser", ge=1)] = 64,
        layers: Annotated[int, Param("convolutions of the denoiser", ge=2)] = 5,
        weight: Annotated[float, Param("lambda before training", gt=0)] = 0.05,
        inner: Annotated[int, Param("most CG iterations in an x-step without a closed form", ge=1)] = 10,
        shared: Annotated[bool, Param("the same denoiser in every iteration")] = True,
        complex_images: Annotated[bool, Param("images and data are complex, as in MRI")] = False,
        axes: Annotated[int, Param("axes of an image", ge=2, le=3)] = 2,
        checkpointed: Annotated[bool, Param("compute activations again, to save memory")] = False,
    ) -> None:
        super().__init__(complex_images, axes, checkpointed)
        self.iterations, self.inner = iterations, inner
        self.log_weight = nn.Parameter(torch.tensor(float(weight)).log())
        self.denoisers = nn.ModuleList(
            ConvolutionBlock(self.parts, self.parts, features, layers, axes)
            for _ in range(1 if shared else iterations)
        )

    def forward(self, op: LinearOperator, y: Tensor) -> Tensor:
        """Reconstruct ``(B, *domain_shape)`` from data ``(B, *range_shape)``."""
        self.check(op, y)
        squared = op.norm() ** 2
        back = op.adjoint(y)

        def step(place: int, x: Tensor) -> Tensor:
            z = x + from_parts(self.denoisers[place % len(self.denoisers)](to_parts(x)))
            weight = squared * self.log_weight.exp()
            solved: Tensor = DataConsistency.apply(back + weight * z, weight, op, self.inner)
            return solved

        x = op.pinv(y)
        for place in range(self.iterations):
            x = self.iterate(lambda x, place=place: step(place, x), x)
        return x


class DataConsistency(torch.autograd.Function):
    """x = (A^H A + weight)^-1 b with the gradient of the exact solution: (A^H A + weight)^-1 again."""

    @staticmethod
    def forward(ctx: Any, b: Tensor, weight: Tensor, op: LinearOperator, iterations: int) -> Tensor:
        """Solve for ``b`` (B, *domain_shape) and a weight > 0."""
        x = _solve(b, weight, op, iterations)
        ctx.save_for_backward(x, weight)
        ctx.op, ctx.iterations = op, iterations
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """The matrix is Hermitian: the gradient of b is the solution for the incoming one."""
        x, weight = ctx.saved_tensors
        pulled = _solve(gradient, weight, ctx.op, ctx.iterations)
        return pulled, -torch.sum(pulled.conj() * x).real.to(weight), None, None


def _solve(b: Tensor, weight: Tensor, op: LinearOperator, iterations: int) -> Tensor:
    closed = op.solve_gram(b, [float(weight)], [Identity(op.domain_shape)])
    if closed is not None:
        return closed
    # not preconditioned: beside a small multiple of the identity, the preconditioner of several coils slows it down
    zero = torch.zeros_like(b)
    return conjugate_gradients(op.gram, lambda x: weight * x, b, zero, zero, iterations)[0]
