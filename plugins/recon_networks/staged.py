"""A network with weights of its own in each outer loop of a splitting algorithm."""

from __future__ import annotations

import copy
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from recon.parameters import Param


class StagedNetwork(nn.Module):
    """Copies of one network, one for each outer loop; the publication of the splitting trains f(x_k; theta_k).

    `at` gives the copy of a loop. While it is trained, `follow` begins a loop with the weights of the one before.
    Called itself, it is the copy that was followed last.

    Args:
        network: the network, by name or an object.
        stages: how many copies.
    """

    stage: Tensor

    def __init__(
        self,
        network: Annotated[
            str | tuple[str, dict[str, Any]] | nn.Module, Param("the network, by name such as scae")
        ] = "scae",
        stages: Annotated[int, Param("outer loops", ge=1)] = 5,
    ) -> None:
        from recon import registry

        super().__init__()
        made = registry.make("network", network) if isinstance(network, str | tuple) else network
        self.copies = nn.ModuleList(copy.deepcopy(made) for _ in range(stages))
        self.register_buffer("stage", torch.tensor(0))
        for name in ("in_channels", "out_channels", "dimensions"):
            if hasattr(made, name):
                setattr(self, name, getattr(made, name))

    def at(self, loop: int) -> nn.Module:
        """The copy of an outer loop; later loops have the last."""
        return self.copies[min(loop, len(self.copies) - 1)]

    def follow(self, loop: int) -> None:
        """Go on to a loop, from the weights of the one before."""
        if not 0 < loop < len(self.copies):
            raise ValueError(f"there are {len(self.copies)} stages, got loop {loop}")
        self.copies[loop].load_state_dict(self.copies[loop - 1].state_dict())
        self.stage.fill_(loop)

    def forward(self, x: Tensor) -> Tensor:
        """The copy that was followed last."""
        image: Tensor = self.at(int(self.stage))(x)
        return image
