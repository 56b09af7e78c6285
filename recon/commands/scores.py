"""Scores as the rows of a terminal table and as JSON."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recon.parameters import plain

if TYPE_CHECKING:
    from recon.metrics import Metric, Score

_BETWEEN_METRICS = re.compile(r",(?=\s*[A-Za-z][\w/.-]*\s*(?::|,|$))")


def metrics_for(item_shape: Sequence[int], unit: str, water: float | None) -> tuple[Metric, ...]:
    """The metrics of images in a unit: PSNR, SSIM, NMSE and RMSE, the last in HU for attenuation.

    Args:
        item_shape: of one image.
        unit: of its values, "" if unknown.
        water: attenuation of water [1/mm] that the attenuation was made with; None for the usual 0.02.
    """
    from recon.metrics import RMSEHU
    from recon.report.methods import default_metrics

    chosen = default_metrics(item_shape, unit)
    if water is None:
        return chosen
    return tuple(
        dataclasses.replace(metric, water=water) if isinstance(metric, RMSEHU) else metric
        for metric in chosen
    )


def read_metrics(text: str) -> list[str]:
    """The metrics in a list such as ``"psnr,ssim:data_range=1,weights=gaussian"``, each still as text.

    >>> read_metrics("psnr, ssim:data_range=1,clip=(0,1),nmse")
    ['psnr', 'ssim:data_range=1,clip=(0,1)', 'nmse']
    """
    return [part.strip() for part in _BETWEEN_METRICS.split(text)]


def score_row(score: Score, unit: str) -> tuple[str, str, str]:
    """Name with the better direction, value with its unit, and convention; a batch is shown by its mean."""
    arrow = "\N{UPWARDS ARROW}" if score.higher_is_better else "\N{DOWNWARDS ARROW}"
    values = score.value.reshape(-1)
    mean = float(values.mean())
    number = f"{mean:.2f}" if score.unit == "dB" else f"{mean:.4g}"
    own_unit = unit if score.name == "rmse" else ""
    label = " ".join(filter(None, [number, score.unit or own_unit]))
    if values.numel() > 1:
        label += f" (mean of {values.numel()}: {float(values.min()):.4g} to {float(values.max()):.4g})"
    return f"{score.name} {arrow}", label, score.convention


def score_as_dict(score: Score) -> dict[str, Any]:
    """The score as JSON-ready values; one value for a single image, a list for a batch."""
    return {
        "name": score.name,
        "value": plain(score.value.tolist()),
        "unit": score.unit,
        "convention": score.convention,
        "higher_is_better": score.higher_is_better,
    }
