"""Wasserstein GAN with gradient penalty: the network against a critic, beside a loss to the true image."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from recon.parameters import Param
from recon.training.losses import as_loss
from recon.training.objective import Batch, Fit, Objective, Setting
from recon.training.players import made_critic, redraw_until_alive

_EPSILON = 1000
"""Purpose of the random numbers between true and made images, of the first critic step."""


class WGAN(Objective):
    """The critic D and the network G each minimise their own loss, over images x and what G starts from, z.

    The critic: E[D(G(z))] - E[D(x)] + penalty * E[(|grad D(xhat)| - 1)^2], where xhat = e x + (1 - e) G(z) with e
    uniform in [0, 1] for each sample, and the norm is over everything but the batch (Gulrajani et al. 2017).
    The network: content_weight * content(G(z), x) - adversarial_weight * E[D(G(z))] (Yang et al. 2018, IEEE TMI 37,
    1348-1357).

    The four systems of that paper: ``content="mse"`` and ``VGG19(file)`` (`recon.training.perceptual`), each with
    ``adversarial_weight=0``, which trains without a critic, and with 1. A network whose image is zero everywhere is
    drawn anew before it starts.

    Args:
        content: loss to the true image, as of the supervised objective; ``"none"`` for none.
        content_weight: its weight (lambda_1 of the paper).
        adversarial_weight: weight of the critic in the network's loss; 0 makes none.
        critic: the critic, by a network's name with its arguments, or a module.
        penalty: weight of the gradient penalty (lambda of the paper).
        critic_steps: steps of the critic for each one of the network.
        fresh_batches: each step of the critic on a batch of its own, as in the paper; otherwise on the same one.
    """

    def __init__(
        self,
        content: Annotated[
            str | nn.Module,
            Param(
                "loss to the true image: mse, l1, 1-ssim, vgg:weights=FILE, vgg-random, a sum of them, or none"
            ),
        ] = "mse",
        content_weight: Annotated[float, Param("weight of that loss", ge=0)] = 0.1,
        adversarial_weight: Annotated[
            float, Param("weight of the critic in the network's loss; 0 makes none", ge=0)
        ] = 1.0,
        critic: Annotated[
            str | tuple[str, dict[str, Any]] | nn.Module,
            Param("the critic: a network's name with its arguments, or a module"),
        ] = "wgan_vgg_critic",
        penalty: Annotated[float, Param("weight of the gradient penalty", ge=0)] = 10.0,
        critic_steps: Annotated[int, Param("steps of the critic for each one of the network", ge=1)] = 4,
        fresh_batches: Annotated[
            bool, Param("each step of the critic on a batch of its own instead of the same one")
        ] = False,
    ) -> None:
        self.content_name = content if isinstance(content, str) else repr(content)
        self.content = None if content == "none" or content_weight == 0 else as_loss(content)
        if self.content is None and adversarial_weight == 0:
            raise ValueError(
                "content='none' and adversarial_weight=0 leave the network nothing to minimise: give one of the two"
            )
        self.content_weight, self.adversarial_weight = float(content_weight), float(adversarial_weight)
        self.chosen_critic, self.penalty = critic, float(penalty)
        self.critic_steps, self.fresh_batches = critic_steps, fresh_batches
        self.critic: nn.Module | None = None
        self.batches = 0

    def prepare(self, setting: Setting) -> None:
        """Take the network, drawn anew while its image is zero, and make the critic."""
        super().prepare(setting)
        redraw_until_alive(setting.network, setting)
        if self.adversarial_weight:
            self.critic = made_critic(self.chosen_critic, setting)
        if self.content is not None:
            self.content.to(next(setting.network.parameters()).device)

    def modules(self) -> dict[str, nn.Module]:
        """The network and the critic."""
        modules = super().modules()
        return modules if self.critic is None else {**modules, "critic": self.critic}

    def optimiser(self, player: str) -> dict[str, Any]:
        """Adam with betas (0.5, 0.9) and a constant rate, as in the paper; the critic's is a tenth."""
        rate = 1e-5 if player == "critic" else 1e-4
        return {"optimiser": "adam:betas=(0.5,0.9)", "lr": rate, "schedule": "constant"}

    def step(self, batch: Batch, fit: Fit) -> dict[str, Tensor]:
        """Steps of the critic, then one of the network."""
        assert batch.target is not None
        numbers: dict[str, Tensor] = {}
        self.batches += 1
        if self.critic is not None:
            with torch.no_grad():
                made = self.reconstruct(batch)
            for place in range(1 if self.fresh_batches else self.critic_steps):
                loss, numbers = self.critic_loss(batch, made, _EPSILON + place)
                fit.minimise("critic", loss)
            if self.fresh_batches and self.batches % self.critic_steps:
                return numbers
        loss, more = self.network_loss(batch)
        fit.minimise("network", loss)
        return {**numbers, **more}

    def critic_loss(
        self, batch: Batch, made: Tensor, purpose: int = _EPSILON
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the critic minimises, and numbers for the log.

        Args:
            batch: true images.
            made: the network's images of it, without gradients.
            purpose: of the random numbers.
        """
        assert batch.target is not None
        of_true, of_made = self.judged(batch.target).mean(), self.judged(made).mean()
        penalty = self.gradient_penalty(batch, made, purpose)
        loss = of_made - of_true + self.penalty * penalty
        numbers = {
            "critic_loss": loss,
            "critic_of_true": of_true,
            "critic_of_made": of_made,
            "penalty": penalty,
        }
        return loss, {name: number.detach() for name, number in numbers.items()}

    def network_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """What the network minimises, and numbers for the log."""
        assert batch.target is not None
        made = self.reconstruct(batch)
        loss, numbers = made.real.new_zeros(()), {}
        if self.content is not None:
            content = self.content(made, batch.target)
            loss = loss + self.content_weight * content
            numbers["content"] = content.detach()
        if self.critic is not None:
            loss = loss - self.adversarial_weight * self.judged(made).mean()
        return loss, {"loss": loss.detach(), **numbers}

    def judged(self, images: Tensor) -> Tensor:
        """The critic's values of images ``(B, *shape)``."""
        assert self.critic is not None
        with self.setting.autocast():
            values: Tensor = self.critic(self.setting.to_channels(images))
        return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values

    def gradient_penalty(self, batch: Batch, made: Tensor, purpose: int = _EPSILON) -> Tensor:
        """E[(|grad D(xhat)| - 1)^2]: one epsilon a sample, the norm over all axes but the batch.

        In full precision: the gradient of a gradient does not survive half of it.
        """
        assert self.critic is not None and batch.target is not None
        epsilon = batch.uniform(0.0, 1.0, purpose).to(made.real.dtype if made.is_complex() else made.dtype)
        epsilon = epsilon.reshape(-1, *(1,) * (made.ndim - 1))
        between = epsilon * batch.target + (1 - epsilon) * made
        seen = self.setting.to_channels(between.detach()).requires_grad_()
        with torch.autocast(seen.device.type, enabled=False):
            value = self.critic(seen).sum()
            (gradient,) = torch.autograd.grad(value, seen, create_graph=True)
        norms = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        return (norms - 1).square().mean()

    def state_dict(self) -> dict[str, Any]:
        """How many batches there were: with fresh batches they decide whose turn it is."""
        return {"batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self.batches = int(state["batches"])

    def describe(self) -> dict[str, Any]:
        """Name, weights, and the critic's class."""
        return {
            "name": "wgan",
            "content": self.content_name,
            "content_weight": self.content_weight,
            "adversarial_weight": self.adversarial_weight,
            "critic": None if self.critic is None else type(self.critic).__name__,
            "penalty": self.penalty,
            "critic_steps": self.critic_steps,
            "fresh_batches": self.fresh_batches,
        }
