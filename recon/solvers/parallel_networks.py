"""One network with weights of its own for every item, evaluated side by side; weights are rows of one matrix."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, replace_all_batch_norm_modules_, vmap

from recon.priors import Generator


class ParallelNetworks:
    """The networks of a batch: weights ``(B, P)`` and an input to images ``(B, *shape)``.

    Batch normalisation always takes the statistics of the present image. With several items the networks run as one
    with grouped convolutions (`torch.vmap`), or one after another. A network with the attribute
    ``channels_last = True`` then has its kernels and images with the channels last, as a CPU convolves them fastest.

    Args:
        generator: network and fixed input of one item.
        shape: of one image.
        is_complex: whether the image is complex.
        together: whether several networks run as one.

    Raises:
        TypeError, ValueError: a generator that nothing can be learnt of, or of images of another shape.
    """

    def __init__(
        self, generator: Generator, shape: Sequence[int], *, is_complex: bool, together: bool
    ) -> None:
        self.network = copy.deepcopy(generator.network).train()
        replace_all_batch_norm_modules_(self.network)
        self.shape, self.is_complex, self.together = tuple(shape), is_complex, together
        self.channels_last = bool(getattr(self.network, "channels_last", False))
        learnt = {name: weight for name, weight in self.network.named_parameters() if weight.requires_grad}
        if not learnt:
            raise ValueError(
                f"the generator {type(generator).__name__} is a prior without a weight to fit: no parameter "
                "of its network requires a gradient"
            )
        self.names = list(learnt)
        self.shapes = [weight.shape for weight in learnt.values()]
        self.sizes = [weight.numel() for weight in learnt.values()]
        self.first = torch.cat([weight.detach().reshape(-1) for weight in learnt.values()])

    def __call__(self, theta: Tensor, inputs: Tensor) -> Tensor:
        """The images of the weights ``theta`` (B, P); ``inputs`` has one input for all, or one an item."""
        rows = inputs.expand(len(theta), *inputs.shape[1:])
        if self.together and len(theta) > 1:
            made = vmap(self._image, randomness="same")(theta, rows)
            assert isinstance(made, Tensor)
            return made
        last = self.channels_last and theta.device.type == "cpu" and theta.dtype == torch.float32
        form = torch.channels_last if last else torch.preserve_format
        return torch.stack(
            [self._image(weights, row, form) for weights, row in zip(theta, rows, strict=True)]
        )

    def _image(
        self, weights: Tensor, fixed: Tensor, form: torch.memory_format = torch.preserve_format
    ) -> Tensor:
        """The image of one item, what has four axes being laid out in a form of memory."""
        parts = weights.split(self.sizes)
        named = {
            name: _laid_out(part.reshape(shape), form)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }
        made: Tensor = functional_call(self.network, named, (_laid_out(fixed.unsqueeze(0), form),))
        return self._as_image(made)

    def _as_image(self, made: Tensor) -> Tensor:
        """The network's output as an image: twice the channels are real and imaginary parts."""
        pixels = math.prod(self.shape)
        if made.numel() == pixels and (self.is_complex or not made.is_complex()):
            return made.reshape(self.shape)
        if made.numel() == 2 * pixels and self.is_complex and not made.is_complex():
            real, imaginary = made.reshape(2, *self.shape)
            return torch.complex(real, imaginary)
        kind = "complex" if self.is_complex else "real"
        raise ValueError(
            f"the generator, a prior, makes images {tuple(made.shape[1:])} ({made.dtype}), but the problem has "
            f"{kind} images {self.shape}"
            + (": make two channels, real and imaginary part" if self.is_complex else "")
        )


def _laid_out(tensor: Tensor, form: torch.memory_format) -> Tensor:
    return tensor.to(memory_format=form) if tensor.ndim == 4 else tensor
