"""What unrolled networks share: images and data as channels, blocks of convolutions, steps that keep no activations."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recon.linear import LinearOperator

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class ConvolutionBlock(nn.Module):
    """Convolutions of side 3 with PReLU in between, on any number of axes; leading axes beyond those are batch.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        features: channels in between.
        layers: convolutions, at least 2.
        axes: 1, 2 or 3.
    """

    def __init__(self, inputs: int, outputs: int, features: int, layers: int, axes: int) -> None:
        super().__init__()
        self.axes = axes
        widths = [inputs, *(features,) * (layers - 1), outputs]
        parts: list[nn.Module] = []
        for before, after in pairwise(widths):
            convolution = _CONVOLUTIONS[axes](before, after, 3, padding=1)
            nn.init.xavier_uniform_(convolution.weight)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            parts += [convolution, nn.PReLU(after, init=0.0)]
        self.convolutions = nn.Sequential(*parts[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, *more, *shape)`` to ``(B, outputs, *more, *shape)``; the axes ``more`` are like batch."""
        more = x.shape[2 : x.ndim - self.axes]
        folded = x.movedim(1, x.ndim - self.axes - 1).flatten(0, len(more))
        result: Tensor = self.convolutions(folded)
        return result.unflatten(0, (x.shape[0], *more)).movedim(len(more) + 1, 1)


class UnrolledNetwork(nn.Module):
    """Base of networks that see operator and data: ``network(op, y)`` is the image.

    Args:
        complex_images: images and data are complex: a channel becomes two, real and imaginary part.
        axes: axes of an image, 2 or 3.
        checkpointed: keep no activations of an iteration but compute them again for the gradient: memory that
            does not grow with the iterations, for a third more time.
    """

    needs_operator = True

    def __init__(self, complex_images: bool, axes: int, checkpointed: bool) -> None:
        super().__init__()
        self.complex_images, self.axes, self.checkpointed = complex_images, axes, checkpointed
        self.in_channels = self.parts

    @property
    def parts(self) -> int:
        """Channels of one image: 2 for real and imaginary part, else 1."""
        return 2 if self.complex_images else 1

    def check(self, op: LinearOperator, y: Tensor) -> None:
        """Raise ValueError where operator or data are not those that the network was made for."""
        name = type(self).__name__
        if len(op.domain_shape) != self.axes:
            raise ValueError(
                f"{name} was made for images of {self.axes} axes, but {type(op).__name__} has the image shape "
                f"{op.domain_shape}: make it with axes={len(op.domain_shape)}"
            )
        complex_data = y.is_complex() or op.domain == "complex"
        if complex_data != self.complex_images:
            kinds = ("complex", "real") if complex_data else ("real", "complex")
            raise ValueError(
                f"{type(op).__name__} has {kinds[0]} data or images, but this {name} was made for {kinds[1]} ones: "
                f"make it with complex_images={complex_data}"
            )

    def iterate(self, function: Callable[..., Any], *tensors: Tensor) -> Any:
        """One iteration, with or without its activations kept."""
        if self.checkpointed and torch.is_grad_enabled():
            return checkpoint(function, *tensors, use_reentrant=False)
        return function(*tensors)


def to_parts(x: Tensor) -> Tensor:
    """``(B, ...)`` as channels: real ``(B, 1, ...)``, complex ``(B, 2, ...)``."""
    return torch.view_as_real(x).movedim(-1, 1) if x.is_complex() else x.unsqueeze(1)


def from_parts(x: Tensor) -> Tensor:
    """The inverse of `to_parts`."""
    return torch.view_as_complex(x.movedim(1, -1).contiguous()) if x.shape[1] == 2 else x.squeeze(1)
