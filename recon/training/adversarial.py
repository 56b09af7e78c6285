"""The standard adversarial objective: the network against a discriminator, beside a loss to the true image."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from recon.parameters import Param
from recon.training.losses import as_loss
from recon.training.objective import Batch, Fit, Objective, Setting
from recon.training.players import made_critic

Form = Literal["non_saturating", "saturating", "least_squares"]


class Adversarial(Objective):
    """The discriminator D tells true images x from made ones G(z); the network G makes them pass.

    The discriminator raises E[log D(x)] + E[log(1 - D(G(z)))], D being the sigmoid of what its network gives. The
    network lowers content_weight * content(G(z), x) + adversarial_weight * a, where a is by `form`:

    - ``"non_saturating"``: -E[log D(G(z))] (Goodfellow et al. 2014), whose gradient does not vanish early;
    - ``"saturating"``: E[log(1 - D(G(z)))], as written in Liu, Kuang and Zhang 2018 (MICCAI), equation 4;
    - ``"least_squares"``: E[(D(G(z)) - 1)^2], with (E[(D(x) - 1)^2] + E[D(G(z))^2]) / 2 for the discriminator and
      no sigmoid (Mao et al. 2017).

    Args:
        content: loss to the true image, as of the supervised objective; ``"none"`` for none.
        content_weight: its weight.
        adversarial_weight: weight of the discriminator in the network's loss.
        critic: the discriminator, by a network's name with its arguments, or a module; it gives logits.
        critic_steps: steps of the discriminator for each one of the network.
        form: of the adversarial loss.
    """

    def __init__(
        self,
        content: Annotated[
            str | nn.Module,
            Param(
                "loss to the true image: mse, l1, 1-ssim, vgg:weights=FILE, vgg-random, a sum of them, or none"
            ),
        ] = "mse",
        content_weight: Annotated[float, Param("weight of that loss", ge=0)] = 1.0,
        adversarial_weight: Annotated[
            float, Param("weight of the discriminator in the network's loss", gt=0)
        ] = 1e-3,
        critic: Annotated[
            str | tuple[str, dict[str, Any]] | nn.Module,
            Param("the discriminator: a network's name with its arguments, or a module"),
        ] = "splitting_discriminator",
        critic_steps: Annotated[
            int, Param("steps of the discriminator for each one of the network", ge=1)
        ] = 1,
        form: Annotated[Form, Param("of the adversarial loss")] = "non_saturating",
    ) -> None:
        if form not in ("non_saturating", "saturating", "least_squares"):
            raise ValueError(f"form must be 'non_saturating', 'saturating' or 'least_squares', got {form!r}")
        self.content_name = content if isinstance(content, str) else repr(content)
        self.content = None if content == "none" or content_weight == 0 else as_loss(content)
        self.content_weight, self.adversarial_weight = float(content_weight), float(adversarial_weight)
        self.chosen_critic, self.critic_steps, self.form = critic, critic_steps, form
        self.critic: nn.Module

    def prepare(self, setting: Setting) -> None:
        """Take the network and make the discriminator."""
        super().prepare(setting)
        self.critic = made_critic(self.chosen_critic, setting)
        if self.content is not None:
            self.content.to(next(setting.network.parameters()).device)

    def modules(self) -> dict[str, nn.Module]:
        """The network and the discriminator."""
        return {**super().modules(), "critic": self.critic}

    def optimiser(self, player: str) -> dict[str, Any]:
        """Adam with betas (0.5, 0.999) and a constant rate (Radford et al. 2016)."""
        return {"optimiser": "adam:betas=(0.5,0.999)", "lr": 2e-4, "schedule": "constant"}

    def step(self, batch: Batch, fit: Fit) -> dict[str, Tensor]:
        """Steps of the discriminator, then one of the network."""
        assert batch.target is not None
        with torch.no_grad():
            made = self.reconstruct(batch)
        for _ in range(self.critic_steps):
            of_true, of_made = self.judged(batch.target), self.judged(made)
            critic_loss = discriminator_loss(of_true, of_made, self.form)
            fit.minimise("critic", critic_loss)
        made = self.reconstruct(batch)
        adversarial = generator_loss(self.judged(made), self.form)
        loss = self.adversarial_weight * adversarial
        numbers = {
            "critic_loss": critic_loss,
            "critic_of_true": of_true.mean(),
            "critic_of_made": of_made.mean(),
        }
        numbers["adversarial"] = adversarial
        if self.content is not None:
            content = self.content(made, batch.target)
            loss, numbers["content"] = loss + self.content_weight * content, content
        fit.minimise("network", loss)
        return {"loss": loss.detach(), **{name: number.detach() for name, number in numbers.items()}}

    def judged(self, images: Tensor) -> Tensor:
        """The discriminator's logits of images ``(B, *shape)``."""
        with self.setting.autocast():
            values: Tensor = self.critic(self.setting.to_channels(images))
        return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values

    def describe(self) -> dict[str, Any]:
        """Name, weights, form, and the discriminator's class."""
        return {
            "name": "adversarial",
            "content": self.content_name,
            "content_weight": self.content_weight,
            "adversarial_weight": self.adversarial_weight,
            "critic": type(self.critic).__name__,
            "critic_steps": self.critic_steps,
            "form": self.form,
        }


def discriminator_loss(of_true: Tensor, of_made: Tensor, form: Form) -> Tensor:
    """What a discriminator minimises, of its logits (values for least squares) of true and of made images."""
    if form == "least_squares":
        return 0.5 * ((of_true - 1).square().mean() + of_made.square().mean())
    return softplus(-of_true).mean() + softplus(of_made).mean()


def generator_loss(of_made: Tensor, form: Form) -> Tensor:
    """What the maker of images minimises, of a discriminator's logits (values for least squares) of them."""
    if form == "least_squares":
        return (of_made - 1).square().mean()
    return -softplus(of_made).mean() if form == "saturating" else softplus(-of_made).mean()
