"""Noise2Inverse: a network learns from the noise of split scans, without a true image."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from recon.channels import is_conditioned, needs_operator
from recon.parameters import Param
from recon.training.objective import Batch, Fit, Objective, Setting
from recon.view_splits import Strategy, ViewSplits

SECTION = 1  # the purpose of the draw of a section


class Noise2Inverse(Objective):
    """Learn to denoise direct reconstructions from measured data alone (Hendriksen, Pelt and Batenburg 2020).

    The views of every scan y are dealt out to K splits, each reconstructed on its own, x_j = A_j^+ y_j, and the network
    f learns to foretell some of them from the others (IEEE Trans. Comput. Imaging 6, 1320):

        minimise  sum over scans, j of  |f(input_j) - target_j|^2

    with the inputs and targets of `recon.view_splits.ViewSplits`: input_j is the mean of all x_i but x_j, and x_j the
    target, with ``"X:1"``; the other way round with ``"1:X"``. If the noise has zero mean and that of one view is
    independent of that of another, so is the noise of input and target, and the best f is that which would be
    learned from true images, up to what few views do to the direct reconstruction. That is so for the squared error,
    the only one here. Each step draws j of each scan anew; the reconstruction is the mean over all j of f(input_j).

    Works for operators with `LinearOperator.subsets` of views (parallel, fan and cone beam), and networks from images
    to images. The log's ``held_out`` is the loss on held-out data.

    Args:
        splits: K.
        strategy: what is input, and what is target.
    """

    needs: ClassVar[tuple[str, ...]] = ("data",)
    monitor: ClassVar[str] = "held_out"

    def __init__(
        self,
        splits: Annotated[int, Param("how many parts the views are dealt out to", ge=2)] = 4,
        strategy: Annotated[
            Strategy, Param("X:1: from all splits but one to that one; 1:X: the other way round")
        ] = "X:1",
    ) -> None:
        self.views = ViewSplits(splits, strategy)

    def prepare(self, setting: Setting) -> None:
        """Take the network, and split the operator.

        Raises:
            ValueError: no operator, or one without views to split; a network that takes more than an image.
        """
        super().prepare(setting)
        if setting.op is None:
            raise ValueError("objective='noise2inverse' splits what an operator measured: give op=...")
        if needs_operator(setting.network) or is_conditioned(setting.network):
            raise ValueError(
                "objective='noise2inverse' trains a network from images to images, but "
                f"{type(setting.network).__name__} takes the operator or the noise level too: train it with "
                "objective='supervised', 'ssdu' or 'denoising'"
            )
        try:
            self.parts = self.views.of(setting.op)
        except ValueError as error:
            raise ValueError(f"objective='noise2inverse': {error}") from None

    def step(self, batch: Batch, fit: Fit) -> dict[str, Tensor]:
        """One step of the network, on one section of each scan."""
        images = self._reconstructions(batch)
        drawn = batch.uniform(0, self.views.count, SECTION).long().clamp_max(self.views.count - 1)
        items = torch.arange(len(batch), device=drawn.device)
        given, wanted = (each(images)[drawn, items] for each in (self.views.inputs, self.views.targets))
        found = self.setting.apply(self.setting.network, given)
        loss = _squared(*self.setting.comparable(found, wanted)).mean()
        fit.minimise("network", loss)
        return {"loss": loss.detach()}

    def reconstruct(self, batch: Batch) -> Tensor:
        """The mean over the sections of the network's images."""
        return torch.stack([self._image(given) for given in self._inputs(batch)]).mean(0)

    def held_out(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of each scan, the mean over its sections."""
        images = self._reconstructions(batch)
        losses = [
            _squared(*self.setting.comparable(self._image(given), wanted))
            for given, wanted in zip(self.views.inputs(images), self.views.targets(images), strict=True)
        ]
        return {"held_out": torch.stack(losses).mean(0)}

    def describe(self) -> dict[str, Any]:
        """Name, splits and strategy: by them the prior infers."""
        return {"name": "noise2inverse", "splits": self.views.count, "strategy": self.views.strategy}

    def _image(self, images: Tensor) -> Tensor:
        return self.setting.apply(self.setting.network, images)

    def _inputs(self, batch: Batch) -> Tensor:
        return self.views.inputs(self._reconstructions(batch))

    def _reconstructions(self, batch: Batch) -> Tensor:
        assert batch.data is not None
        with torch.no_grad():
            return self.views.reconstructions(self.parts, batch.data, **self.setting.pinv)


def _squared(image: Tensor, target: Tensor) -> Tensor:
    """The mean squared error of each item, ``(B,)``."""
    return (image - target).abs().square().flatten(1).mean(1)
