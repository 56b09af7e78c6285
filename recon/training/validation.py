"""What is measured on samples that are not trained on."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from recon.metrics import PSNR, SSIM
from recon.training.loader import Loader
from recon.training.objective import Objective

Row = tuple[Tensor | None, ...]


class Validation:
    """PSNR, and SSIM of images that are large enough, averaged over images, with the range of the images as 1.

    Beside them what the objective itself says of held-out samples; of measured data alone nothing else is known.

    Args:
        loader: fixed samples, in order; noise and patches are the same in every epoch.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def measure(
        self, objective: Objective, fabric: Fabric, pictures: int = 0
    ) -> tuple[dict[str, float], list[Row]]:
        """Means by name: ``psnr``, ``ssim`` and ``input_psnr`` where true images are known, and the objective's own.

        And rows (input, result, true image) to look at.
        """
        sums: dict[str, float] = {}
        count = 0
        rows: list[Row] = []
        for batch in self.loader.epoch(0):
            image, given = objective.reconstruct(batch), objective.observed(batch)
            given = given if given is not None and given.shape == image.shape else None
            scores = {name: float(values.sum()) for name, values in objective.held_out(batch).items()}
            if batch.target is not None:
                scores |= _scores(image, batch.target)
                if given is not None:
                    scores["input_psnr"] = _scores(given, batch.target)["psnr"]
            for name, value in scores.items():
                sums[name] = sums.get(name, 0.0) + value
            count += len(batch)
            for place in range(min(len(batch), pictures - len(rows))):
                columns = (given, image, batch.target)
                rows.append(tuple(None if images is None else images[place] for images in columns))
        return _over_processes(sums, count, fabric), rows


def _scores(image: Tensor, target: Tensor) -> dict[str, float]:
    """Sums over the images of a batch, in float64."""
    axes = target.ndim - 1
    scores = {"psnr": float(PSNR(data_range=1.0)(image, target, item_ndim=axes).clamp_max(200).sum())}
    if axes >= 2 and min(target.shape[-2:]) >= 11:
        scores["ssim"] = float(SSIM(data_range=1.0)(image, target, item_ndim=axes).sum())
    return scores


def _over_processes(sums: dict[str, float], count: int, fabric: Fabric) -> dict[str, float]:
    if fabric.world_size > 1:
        values = torch.tensor([*sums.values(), float(count)], dtype=torch.float64, device=fabric.device)
        summed: Any = fabric.all_reduce(values, reduce_op="sum")
        *totals, number = summed.tolist()
        return {name: total / number for name, total in zip(sums, totals, strict=True)}
    return {name: total / max(count, 1) for name, total in sums.items()}
