"""SSDU: undersampled k-space divided in two, one part to reconstruct from and one to be judged by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from recon.channels import is_conditioned, needs_operator
from recon.learned import consistent_with
from recon.linear import LinearOperator
from recon.parameters import Param
from recon.training.objective import Batch, Fit, Objective, Setting, seeded

DIVISION = 0x55D0  # the stream of the divisions
HELD_OUT = -1  # the number of the division that held-out data are judged by

Selection = Literal["gaussian", "uniform"]


class SSDU(Objective):
    """Self-supervision by data undersampling (Yaman et al. 2020, Magn. Reson. Med. 84, 3172), no true image needed.

    The measured places Omega of each k-space are divided at random into Theta, from which the network f reconstructs,
    and Lambda, which it never sees, where its image is compared with the data:

        minimise  sum over scans of  L(y_Lambda, A_Lambda f(y_Theta, A_Theta)),
        L(u, v) = |u - v|_2 / |u|_2 + |u - v|_1 / |u|_1,

    the 1-norm being the sum of the magnitudes; a scan that is zero on Lambda, such as a blank slice, counts as L = 0.
    A network that is unrolled sees the operator and the data of Theta, one from images to images their direct
    reconstruction. The image is then corrected by the data that it was made of, x + A_Theta^+ (y_Theta - A_Theta x), as
    nothing else would hold it at the places that the network sees; networks that end with such a step of their own
    (their attribute ``ends_consistent``: MoDL, ADMM-Net) are left as they are. Once trained, the
    network reconstructs from all of Omega, and is corrected by all of it.

    A division is a function of the seed, the sample's place and its number: with `masks` there are as many of each
    sample, one an epoch in turn (one in the publication; several are Yaman et al. 2022, NMR Biomed. 35, e4798);
    without, every epoch draws a new one. All coils are divided alike. The operator must tell by `sample_mask` which
    places of the image's grid it measures, as Cartesian MRI and inpainting do.

    The middle of k-space holds most of its energy, which `selection` and `centre` are made for. Of inpainting the grid
    is the image, whose middle is like any other part of it: say ``selection="uniform"`` and ``centre=0`` there.

    Args:
        ratio: the share of Lambda in Omega.
        selection: how Lambda is drawn: with a Gaussian density around the middle of the grid, of a standard deviation
            of a quarter of each side, or uniformly.
        centre: side of the middle of the grid that stays in Theta whole.
        masks: divisions of each sample; None: a new one in every epoch.
    """

    needs: ClassVar[tuple[str, ...]] = ("data",)
    monitor: ClassVar[str] = "held_out"

    def __init__(
        self,
        ratio: Annotated[float, Param("share of the measured places that the loss is for", gt=0, lt=1)] = 0.4,
        selection: Annotated[
            Selection, Param("how those places are drawn; of inpainting: uniform")
        ] = "gaussian",
        centre: Annotated[
            int,
            Param(
                "side of the middle of k-space (of inpainting: of the image) always reconstructed from", ge=0
            ),
        ] = 4,
        masks: Annotated[
            int | None, Param("divisions of each sample; none: a new one in every epoch", ge=1)
        ] = None,
    ) -> None:
        if not 0 < ratio < 1:
            raise ValueError(f"ratio is the share of Lambda, between 0 and 1, got {ratio}")
        if selection not in ("gaussian", "uniform"):
            raise ValueError(f"selection must be 'gaussian' or 'uniform', got {selection!r}")
        if centre < 0 or (masks is not None and masks < 1):
            raise ValueError(f"centre must be >= 0 and masks >= 1 or None, got {centre} and {masks}")
        self.ratio, self.selection, self.centre, self.masks = float(ratio), selection, centre, masks

    def prepare(self, setting: Setting) -> None:
        """Take the network, and see what the operator measures.

        Raises:
            ValueError: no operator, one whose measured places are no part of the image's grid, or too few of them to be
                divided; a network that is conditioned on the noise level.
        """
        super().prepare(setting)
        op = setting.op
        if op is None:
            raise ValueError("objective='ssdu' divides what an operator measured: give op=...")
        if is_conditioned(setting.network):
            raise ValueError(
                f"{type(setting.network).__name__} is conditioned on the noise level: train it with "
                "objective='denoising'"
            )
        self.measured = _grid_mask(op)
        self.density = _density(self.measured, self.selection, self.centre)
        places, free = int(self.measured.count_nonzero()), int(self.density.count_nonzero())
        self.count = round(self.ratio * places)
        if not 1 <= self.count <= free or self.count == places:
            raise ValueError(
                f"of {places} measured places, {free} outside the middle of side {self.centre}, "
                f"ratio={self.ratio:g} would take {self.count} for the loss: change ratio or centre"
            )

    def divide(self, place: int, number: int) -> Tensor:
        """Lambda of a sample's division: 1 on the places of the loss, float32 on the image's grid, on the CPU.

        A draw without replacement: the places whose exponential waiting time, over the density, is least (Efraimidis
        and Spirakis 2006, Inf. Process. Lett. 97, 181). `torch.multinomial` does so, of 2^24 places at most.
        """
        generator = seeded(self.setting.seed, place, number, DIVISION)
        density = self.density.flatten()
        times = torch.empty_like(density).exponential_(generator=generator)
        chosen = (density / times).topk(self.count, sorted=False).indices
        return torch.zeros(self.density.numel()).index_fill(0, chosen, 1.0).reshape(self.density.shape)

    def step(self, batch: Batch, fit: Fit) -> dict[str, Tensor]:
        """One step of the network."""
        number = fit.epoch if self.masks is None else fit.epoch % self.masks
        loss = self._losses(batch, number).mean()
        fit.minimise("network", loss)
        return {"loss": loss.detach()}

    def reconstruct(self, batch: Batch) -> Tensor:
        """The network's image of all that was measured."""
        assert batch.op is not None and batch.data is not None
        return self._images([batch.op], [batch.data])

    def held_out(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of each sample, for a division that is always the same."""
        return {"held_out": self._losses(batch, HELD_OUT)}

    def describe(self) -> dict[str, Any]:
        """Name, how k-space is divided, and whether the image is corrected by the data: by that the prior infers."""
        named = {"ratio": self.ratio, "selection": self.selection, "centre": self.centre, "masks": self.masks}
        return {"name": "ssdu", **named, "corrected": self._is_corrected}

    def _losses(self, batch: Batch, number: int) -> Tensor:
        """The loss of each sample, ``(B,)``."""
        op, data = batch.op, batch.data
        assert op is not None and data is not None
        lost = torch.stack([self.divide(place, number) for place in batch.index.tolist()]).to(data.device)
        kept = self.measured.to(data.device) - lost
        parts = [op.restricted(mask) for mask in kept]
        image = self._images(parts, [mask * one for mask, one in zip(kept, data.unsqueeze(1), strict=True)])
        between = (1,) * (data.ndim - lost.ndim)  # the axis of the coils
        chosen = lost.reshape(len(lost), *between, *lost.shape[1:])
        return normalised_l1_l2(chosen * data, chosen * op(image))

    @property
    def _is_corrected(self) -> bool:
        return not getattr(self.setting.network, "ends_consistent", False)

    def _images(self, parts: Sequence[LinearOperator], data: Sequence[Tensor]) -> Tensor:
        """The images of data ``(B, *range_shape)``, each of an operator of its own, side by side."""
        network, pinv = self.setting.network, self.setting.pinv
        if needs_operator(network):
            with self.setting.autocast():
                images = [network(part, one) for part, one in zip(parts, data, strict=True)]
        else:
            given = [part.pinv(one, **pinv) for part, one in zip(parts, data, strict=True)]
            images = list(self.setting.apply(network, torch.cat(given)).split([len(one) for one in data]))
        if self._is_corrected:
            images = [
                consistent_with(part, one, image, **pinv)
                for part, one, image in zip(parts, data, images, strict=True)
            ]
        return torch.cat(images)


def normalised_l1_l2(data: Tensor, predicted: Tensor) -> Tensor:
    """|u - v|_2 / |u|_2 + |u - v|_1 / |u|_1 of each item ``(B, ...)``, real or complex: ``(B,)``; 0 where u = 0."""
    wanted, error = data.flatten(1), (data - predicted).flatten(1)
    total = wanted.new_zeros(len(wanted), dtype=wanted.abs().dtype)
    for order in (2, 1):
        size = torch.linalg.vector_norm(wanted, order, dim=1)
        weight = torch.where(size > 0, size.reciprocal(), 0.0)
        total = total + weight * torch.linalg.vector_norm(error, order, dim=1)
    return total


def _grid_mask(op: LinearOperator) -> Tensor:
    """Where an operator measures on the grid of the image, float32 on the CPU.

    Raises:
        ValueError: it does not say, or measures on another grid.
    """
    mask, grid = op.sample_mask, tuple(op.domain_shape)
    leading = () if mask is None else tuple(mask.shape[: mask.ndim - len(grid)])
    if mask is None or tuple(op.range_shape[-len(grid) :]) != grid or math.prod(leading) != 1:
        raise ValueError(
            f"objective='ssdu' divides the measured places of a grid like the image's, and {type(op).__name__} "
            f"{grid} -> {tuple(op.range_shape)} has none (its sample_mask does not say): use Cartesian MRI, or "
            "objective='noise2inverse' for views"
        )
    return mask.detach().cpu().float().reshape(mask.shape[len(leading) :]).expand(grid).clone()


def _density(measured: Tensor, selection: str, centre: int) -> Tensor:
    """How likely each measured place is drawn for the loss, not normalised; 0 in the middle."""
    density = measured.double()
    if selection == "gaussian":
        for axis, side in enumerate(measured.shape):
            away = (torch.arange(side, dtype=torch.float64) - side // 2) / (side / 4)
            density = density * torch.exp(-away.square() / 2).reshape(-1, *(1,) * (measured.ndim - axis - 1))
    if centre:
        middle = tuple(
            slice(max(side // 2 - centre // 2, 0), side // 2 - centre // 2 + centre)
            for side in measured.shape
        )
        density[middle] = 0
    return density
