"""Supervised objectives: from a direct reconstruction, or a noisy image, to the true image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from torch import Tensor

from recon.channels import is_conditioned
from recon.parameters import Param
from recon.training.losses import Loss, as_loss
from recon.training.objective import Batch, Fit, Objective, Setting


class Supervised(Objective):
    """Minimise loss(network(input), target) over pairs; an unrolled network gets operator and data.

    Args:
        loss: a name, a weighted sum such as ``"mse + 0.1*(1-ssim)"``, a dict of weights, or an object.
    """

    def __init__(
        self,
        loss: Annotated[
            str | Mapping[str, Any] | Loss,
            Param(
                "loss: mse, l1, 1-ssim, vgg:weights=FILE, vgg-random, or a sum such as 'mse + 0.1*(1-ssim)'"
            ),
        ] = "mse",
    ) -> None:
        self.loss = as_loss(loss)
        self.loss_text = loss if isinstance(loss, str) else repr(loss)

    def prepare(self, setting: Setting) -> None:
        """Take the network."""
        super().prepare(setting)
        self.loss.to(next(setting.network.parameters()).device)

    def step(self, batch: Batch, fit: Fit) -> dict[str, Tensor]:
        """One step of the network."""
        assert batch.target is not None
        loss = self.loss(*self.setting.comparable(self.reconstruct(batch), batch.target))
        fit.minimise("network", loss)
        return {"loss": loss.detach()}

    def describe(self) -> dict[str, Any]:
        """Name and loss."""
        return {"name": "supervised", "loss": self.loss_text}


class Denoising(Supervised):
    """Minimise loss(network(x + sigma n), x) over noise levels: a denoiser for plug-and-play.

    Every sample draws its own noise level, anew in every epoch: uniformly, or uniformly in its logarithm, which
    shows more of the low levels that algorithms end with. A network that is conditioned gets the level too.

    Args:
        loss: as of `Supervised`.
        sigma_low: the least noise level, as a part of the range of the images.
        sigma_high: the largest.
        spread: how levels are drawn.
    """

    needs: ClassVar[tuple[str, ...]] = ("target",)
    end_to_end: ClassVar[bool] = False

    def __init__(
        self,
        loss: Annotated[
            str | Mapping[str, Any] | Loss,
            Param(
                "loss: mse, l1, 1-ssim, vgg:weights=FILE, vgg-random, or a sum such as 'mse + 0.1*(1-ssim)'"
            ),
        ] = "l1",
        sigma_low: Annotated[float, Param("least noise level", unit="of the range", ge=0)] = 0.0,
        sigma_high: Annotated[float, Param("largest noise level", unit="of the range", gt=0)] = 0.2,
        spread: Annotated[Literal["uniform", "log"], Param("how noise levels are drawn")] = "uniform",
    ) -> None:
        super().__init__(loss)
        if not 0 <= sigma_low < sigma_high:
            raise ValueError(
                f"noise levels must be 0 <= sigma_low < sigma_high, got {sigma_low} and {sigma_high}"
            )
        if spread == "log" and sigma_low == 0:
            raise ValueError("spread='log' needs sigma_low > 0: a logarithm has no level 0")
        self.sigma_range = (float(sigma_low), float(sigma_high))
        self.spread = spread

    def levels(self, batch: Batch) -> Tensor:
        """The noise level of each sample, ``(B,)``."""
        low, high = self.sigma_range
        if self.spread == "log":
            return batch.uniform(math.log(low), math.log(high), purpose=1).exp()
        return batch.uniform(low, high, purpose=1)

    def observed(self, batch: Batch) -> Tensor:
        """The images with their noise."""
        assert batch.target is not None
        x = batch.target
        sigma = self.levels(batch).to(x.real.dtype if x.is_complex() else x.dtype)
        return x + sigma.reshape(-1, *(1,) * (x.ndim - 1)) * batch.noise(x, purpose=2)

    def reconstruct(self, batch: Batch) -> Tensor:
        """The denoised images."""
        network = self.setting.network
        sigma = self.levels(batch) if is_conditioned(network) else None
        return self.setting.apply(network, self.observed(batch), sigma)

    def describe(self) -> dict[str, Any]:
        """Name, loss and noise levels."""
        return {
            "name": "denoising",
            "loss": self.loss_text,
            "sigma_range": list(self.sigma_range),
            "spread": self.spread,
        }
