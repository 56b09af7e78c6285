"""What an objective is: who is trained, what one step minimises, and what is shown to it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from recon.channels import ImageChannels, is_conditioned, needs_operator
from recon.linear import LinearOperator


def seeded(*words: int) -> torch.Generator:
    """A CPU generator that is a function of whole numbers; neighbouring ones are independent."""
    state = np.random.SeedSequence([word & 0xFFFFFFFFFFFFFFFF for word in words]).generate_state(1, np.uint64)
    return torch.Generator(device="cpu").manual_seed(int(state[0] >> np.uint64(1)))


@dataclasses.dataclass
class Batch:
    """Samples side by side; images are mapped to the network's range of values, usually [0, 1].

    Attributes:
        input: what the network starts from, ``(B, *shape)``: ``op.pinv(data)``, or the degraded image of a pair;
            None where there are clean images only.
        target: the true image ``(B, *shape)``; None where it is not known. Of unpaired data, images of the other
            kind, which have nothing to do with `input`.
        data: the measured data ``(B, *range_shape)``, mapped like the images: A(target) is `data` without noise.
            None where there are none, or where patches were cut.
        op: the operator of `data`.
        index: places of the samples in the data set, ``(B,)``.
        seed: of everything random in this epoch.
    """

    input: Tensor | None
    target: Tensor | None
    data: Tensor | None
    op: LinearOperator | None
    index: Tensor
    seed: int = 0

    def __len__(self) -> int:
        return len(self.index)

    def generators(self, purpose: int) -> list[torch.Generator]:
        """One generator a sample: a function of the seed, the epoch, the sample's place and `purpose` alone."""
        return [seeded(self.seed, int(place), purpose) for place in self.index]

    def noise(self, like: Tensor, purpose: int = 0) -> Tensor:
        """Standard normal noise like images ``(B, ...)``, each sample's own; of both parts of complex ones."""
        draws = []
        for generator in self.generators(purpose):
            shape = (*like.shape[1:], 2) if like.is_complex() else like.shape[1:]
            draw = torch.randn(shape, generator=generator, dtype=torch.float32)
            draws.append(torch.view_as_complex(draw) if like.is_complex() else draw)
        return torch.stack(draws).to(like)

    def uniform(self, low: float, high: float, purpose: int = 0) -> Tensor:
        """One number of each sample, ``(B,)``, between `low` and `high`."""
        draws = [torch.rand((), generator=generator) for generator in self.generators(purpose)]
        return (low + (high - low) * torch.stack(draws)).to(self._device)

    @property
    def _device(self) -> torch.device:
        for tensor in (self.input, self.target, self.data):
            if tensor is not None:
                return tensor.device
        return torch.device("cpu")


@dataclasses.dataclass
class Setting:
    """What an objective trains with.

    Attributes:
        network: the network that becomes the prior.
        channels: how images meet it (and other networks of as many channels).
        shape: of the images that batches hold.
        complex_images: whether they are complex.
        op: the operator, or None.
        seed: of everything random.
        autocast: the context in which networks run (mixed precision).
        pinv: options of ``op.pinv``, by which direct reconstructions are made.
    """

    network: nn.Module
    channels: ImageChannels
    shape: tuple[int, ...]
    complex_images: bool = False
    op: LinearOperator | None = None
    seed: int = 0
    autocast: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    pinv: dict[str, Any] = dataclasses.field(default_factory=dict)

    def apply(self, network: nn.Module, images: Tensor, sigma: Tensor | None = None) -> Tensor:
        """A network's images of images ``(B, *shape)``, in their precision; `sigma` if it is conditioned."""
        if needs_operator(network):
            raise ValueError(
                f"{type(network).__name__} is unrolled: it maps an operator and data to an image, and here images "
                "become images; train it with objective='supervised' or 'wgan'"
            )
        with self.autocast():
            return self.channels.apply(network, images, sigma)

    def to_channels(self, images: Tensor) -> Tensor:
        """Images as a network sees them, ``(N, channels, *spatial)``: for critics and perceptual losses."""
        return self.channels(images)[0]

    def comparable(self, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Image and target as losses compare them: magnitudes, where a network sees and makes nothing else."""
        if self.channels.complex_as == "magnitude" and image.is_complex():
            return image.abs(), target.abs()
        return image, target

    def run(self, batch: Batch, network: nn.Module | None = None) -> Tensor:
        """The network's image of a batch: of its input, or of operator and data for an unrolled network."""
        network = self.network if network is None else network
        if needs_operator(network):
            if batch.op is None or batch.data is None:
                raise ValueError(
                    f"{type(network).__name__} needs the operator and the data: train it with op=..., "
                    "on whole images (patch=None)"
                )
            with self.autocast():
                image: Tensor = network(batch.op, batch.data)
            return image
        if batch.input is None:
            raise ValueError(
                "there is nothing to start from: give op=... to simulate data of the images, or pairs"
            )
        if is_conditioned(network):
            raise ValueError(
                f"{type(network).__name__} is conditioned on the noise level: train it with objective='denoising'"
            )
        return self.apply(network, batch.input)


class Fit(Protocol):
    """What the loop gives to an objective's `step`.

    Attributes:
        epoch: epochs done.
        epochs: how many there will be.
        steps: optimiser steps that the network has made.
    """

    epoch: int
    epochs: int
    steps: int

    def minimise(self, player: str, loss: Tensor) -> None:
        """Lower a loss by one step of a player: zero_grad, backward, average over processes, clip, step, EMA.

        Only the player's own parameters get a gradient. With gradient accumulation, the step is made when
        enough losses have come.
        """


class Objective:
    """What is minimised. An author overrides `step`, and whatever else differs from a single network.

    Attributes:
        needs: what every batch must hold, of ``"input"``, ``"target"``, ``"data"``.
        unpaired: whether inputs and targets are independent of each other.
        remembers: whether it keeps something of every sample from one epoch to the next. A sample is then the same in
            every epoch, none is left out of one, and one process sees them all.
        end_to_end: whether the network maps a direct reconstruction to the image; False: it is a denoiser.
        monitor: what `recon.train` watches where the user does not say and samples are held out.
        depends_on_epochs: whether a step depends on how many epochs there will be (`Fit.epochs`): such a training
            cannot be made longer.
    """

    needs: ClassVar[tuple[str, ...]] = ("input", "target")
    unpaired: ClassVar[bool] = False
    remembers: ClassVar[bool] = False
    end_to_end: ClassVar[bool] = True
    monitor: ClassVar[str] = "psnr"
    depends_on_epochs: ClassVar[bool] = False
    setting: Setting

    def check(self, *, epochs: int, processes: int) -> None:
        """Refuse what this objective cannot be trained with, before the first step.

        Args:
            epochs: how often all samples are seen.
            processes: how many share each batch.

        Raises:
            ValueError: what does not fit, and what to do.
        """

    def prepare(self, setting: Setting) -> None:
        """Take what is trained, and build whatever else is (a critic, a second generator)."""
        self.setting = setting

    def modules(self) -> dict[str, nn.Module]:
        """Everything with weights or buffers by name, ``"network"`` first: moved to the device, saved, resumed."""
        return {"network": self.setting.network}

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each player; every player has its own optimiser and schedule."""
        return {
            name: [parameter for parameter in module.parameters() if parameter.requires_grad]
            for name, module in self.modules().items()
            if any(parameter.requires_grad for parameter in module.parameters())
        }

    def optimiser(self, player: str) -> dict[str, Any]:
        """Settings of a player's optimiser where the user says nothing: any of ``optimiser``, ``lr``, ``schedule``."""
        return {}

    def step(self, batch: Batch, fit: Fit) -> dict[str, Tensor]:
        """Minimise on one batch, by `fit.minimise`; returns numbers for the log."""
        raise NotImplementedError(f"{type(self).__name__} has no step")

    def observed(self, batch: Batch) -> Tensor | None:
        """What `reconstruct` starts from, to compare with: of data alone their direct reconstruction.

        None where it is no image.
        """
        if batch.input is not None or batch.op is None or batch.data is None:
            return batch.input
        return batch.op.pinv(batch.data, **self.setting.pinv)

    def reconstruct(self, batch: Batch) -> Tensor:
        """Images ``(B, *shape)`` of a batch, by the network alone, for validation."""
        return self.setting.run(batch)

    def held_out(self, batch: Batch) -> dict[str, Tensor]:
        """Numbers by which held-out samples are judged without their true images, ``(B,)`` each, lower is better."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What else a resumed run needs (an image pool, ...): tensors, numbers and texts, nested or not.

        Of several processes each keeps its own.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""

    def describe(self) -> dict[str, Any]:
        """What the model card says of the objective: plain values."""
        return {"name": type(self).__name__}
