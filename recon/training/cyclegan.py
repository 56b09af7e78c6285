"""CycleGAN: two networks translate between two kinds of images of which no pairs are known."""

from __future__ import annotations

import copy
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from recon.parameters import Param
from recon.training.adversarial import discriminator_loss, generator_loss
from recon.training.image_pool import ImagePool
from recon.training.objective import Batch, Fit, Objective, Setting
from recon.training.players import made_critic, redraw

_OF_POOLS = (2000, 2001)
"""Purposes of the random numbers of the two pools."""


class CycleGAN(Objective):
    """The network G makes images y of images x (low dose to full dose), F those x of y; D_Y and D_X judge them.

    With least squares for all four, Zhu et al. 2017 (ICCV). G and F together minimise

        E[(D_Y(G(x)) - 1)^2] + E[(D_X(F(y)) - 1)^2]
        + cycle (E|F(G(x)) - x| + E|G(F(y)) - y|) + identity (E|F(x) - x| + E|G(y) - y|),

    each network's identity term being over the images that it makes: G leaves y as it is. The critics minimise
    (E[(D_Y(y) - 1)^2] + E[D_Y(G(x))^2]) / 2 and likewise for D_X, where made images come from a pool.

    Batches hold unpaired images: `input` is x, `target` y, and no sample of one belongs to one of the other.

    Args:
        cycle: weight of the way there and back.
        identity: weight of the identity terms; 0 leaves them out.
        pool: images made before that the critics may see again; 0 is none.
        critic: both critics, by a network's name with its arguments, or a module, which is copied.
    """

    needs: ClassVar[tuple[str, ...]] = ("input", "target")
    unpaired: ClassVar[bool] = True

    def __init__(
        self,
        cycle: Annotated[float, Param("weight of the way there and back", ge=0)] = 10.0,
        identity: Annotated[float, Param("weight of the identity terms", ge=0)] = 5.0,
        pool: Annotated[int, Param("images made before that the critics may see again", ge=0)] = 50,
        critic: Annotated[
            Any, Param("both critics: a network's name with its arguments, or a module, which is copied")
        ] = "patchgan",
    ) -> None:
        self.cycle, self.identity, self.chosen_critic = float(cycle), float(identity), critic
        self.pools = (ImagePool(pool), ImagePool(pool))
        self.backward: nn.Module
        self.critic_of_target: nn.Module
        self.critic_of_input: nn.Module

    def prepare(self, setting: Setting) -> None:
        """Take G, make F of the same architecture with weights of its own, and both critics."""
        super().prepare(setting)
        self.backward = copy.deepcopy(setting.network)
        redraw(self.backward, setting.seed + 1)
        self.critic_of_target = made_critic(self.chosen_critic, setting)
        self.critic_of_input = made_critic(self.chosen_critic, setting, place=1)
        if self.critic_of_input is self.critic_of_target:
            self.critic_of_input = copy.deepcopy(self.critic_of_target)
            redraw(self.critic_of_input, setting.seed + 2)

    def modules(self) -> dict[str, nn.Module]:
        """Both networks and both critics."""
        return {
            **super().modules(),
            "backward": self.backward,
            "critic_of_target": self.critic_of_target,
            "critic_of_input": self.critic_of_input,
        }

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Both networks are one player, the critics the other: each pair minimises one sum."""
        parts = super().players()
        return {
            "network": parts["network"] + parts["backward"],
            "critics": parts["critic_of_target"] + parts["critic_of_input"],
        }

    def step(self, batch: Batch, fit: Fit) -> dict[str, Tensor]:
        """One step of both networks, then one of both critics."""
        x, y = _both(batch)
        made_y, made_x = self.forth(x), self.back(y)
        terms = self.network_terms(x, y, made_y, made_x)
        loss = terms["adversarial"] + self.cycle * terms["cycle"]
        if self.identity:
            loss = loss + self.identity * terms["identity"]
        fit.minimise("network", loss)
        shown_y, shown_x = (
            pool.exchange(made.detach(), batch.generators(purpose))
            for pool, made, purpose in zip(self.pools, (made_y, made_x), _OF_POOLS, strict=True)
        )
        critics = discriminator_loss(
            self.judged(self.critic_of_target, y),
            self.judged(self.critic_of_target, shown_y),
            "least_squares",
        ) + discriminator_loss(
            self.judged(self.critic_of_input, x), self.judged(self.critic_of_input, shown_x), "least_squares"
        )
        fit.minimise("critics", critics)
        numbers = {"loss": loss, **terms, "critic_loss": critics}
        return {name: number.detach() for name, number in numbers.items()}

    def network_terms(self, x: Tensor, y: Tensor, made_y: Tensor, made_x: Tensor) -> dict[str, Tensor]:
        """The parts of what both networks minimise, without their weights.

        Args:
            x: images to translate.
            y: images of the other kind.
            made_y: G(x).
            made_x: F(y).
        """
        terms = {
            "adversarial": generator_loss(self.judged(self.critic_of_target, made_y), "least_squares")
            + generator_loss(self.judged(self.critic_of_input, made_x), "least_squares"),
            "cycle": _mean_distance(self.back(made_y), x) + _mean_distance(self.forth(made_x), y),
        }
        if self.identity:
            terms["identity"] = _mean_distance(self.back(x), x) + _mean_distance(self.forth(y), y)
        return terms

    def forth(self, images: Tensor) -> Tensor:
        """G of images ``(B, *shape)``."""
        return self.setting.apply(self.setting.network, images)

    def back(self, images: Tensor) -> Tensor:
        """F of images ``(B, *shape)``."""
        return self.setting.apply(self.backward, images)

    def judged(self, critic: nn.Module, images: Tensor) -> Tensor:
        """A critic's values of images ``(B, *shape)``."""
        with self.setting.autocast():
            values: Tensor = critic(self.setting.to_channels(images))
        return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values

    def state_dict(self) -> dict[str, Any]:
        """Both pools."""
        return {"pool_of_target": self.pools[0].state_dict(), "pool_of_input": self.pools[1].state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Fill both pools."""
        self.pools[0].load_state_dict(state["pool_of_target"])
        self.pools[1].load_state_dict(state["pool_of_input"])

    def describe(self) -> dict[str, Any]:
        """Name, weights, pool, and the critics' class."""
        return {
            "name": "cyclegan",
            "cycle": self.cycle,
            "identity": self.identity,
            "pool": self.pools[0].size,
            "critic": type(self.critic_of_target).__name__,
        }


def _both(batch: Batch) -> tuple[Tensor, Tensor]:
    if batch.input is None or batch.target is None:
        raise ValueError(
            "cyclegan needs images of both kinds: data=unpaired images to translate, and targets"
        )
    return batch.input, batch.target


def _mean_distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().mean()
