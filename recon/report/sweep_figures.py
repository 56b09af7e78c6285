"""Charts of a sweep: what one variable does to a curve, and the images beside it."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from recon.report.figures import LINES, Window, curves_png, plane
from recon.report.html import Figure

if TYPE_CHECKING:
    from recon.sweeps.cells import Cell

QUANTITIES = {
    "psnr": "PSNR against the true image [dB]",
    "psnr_data": "PSNR against the data [dB]",
    "mse": "MSE against the true image",
    "mse_data": "MSE against the data",
    "loss": "loss",
}
_PANEL = 1.9  # inches


@dataclass(frozen=True)
class Line:
    """Repetitions of one configuration as a curve.

    Attributes:
        label: of the configuration.
        cells: one a seed.
        colour: its number in `LINES`.
    """

    label: str
    cells: Sequence[Cell]
    colour: int

    def mean(self, quantity: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]] | None:
        """Iterations, mean and standard deviation over the seeds, as far as all of them ran; None: not recorded."""
        columns = [cell.curves.get(quantity) for cell in self.cells]
        if not columns or any(column is None for column in columns):
            return None
        steps = [cell.curves["iteration"] for cell in self.cells]
        common = set(steps[0]).intersection(*steps[1:])
        picked = [
            [value for step, value in zip(own, column or [], strict=True) if step in common]
            for own, column in zip(steps, columns, strict=True)
        ]
        values = np.array(picked, dtype=np.float64)
        spread = values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
        return np.array(sorted(common), dtype=np.float64), values.mean(0), spread


def chart(lines: Sequence[Line], quantity: str, name: str, title: str) -> Figure | None:
    """One quantity against the iteration, a curve for each configuration; None where nothing recorded it.

    Args:
        lines: the configurations.
        quantity: of `QUANTITIES`.
        name: of the variable.
        title: of the quantity, as this problem calls it.
    """
    curves, bands, colours, said = {}, {}, [], []
    for line in lines:
        found = line.mean(quantity)
        if found is None:
            continue
        steps, mean, spread = found
        curves[line.label] = (list(steps), list(mean))
        if len(line.cells) > 1 and bool((spread > 0).any()):
            bands[line.label] = (list(np.maximum(mean - spread, _floor(quantity, mean))), list(mean + spread))
        colours.append(line.colour)
        said.append(f"{line.label} ends at {mean[-1]:.3g}")
    if not any(math.isfinite(value) for _, values in curves.values() for value in values):
        return None
    light, dark = (
        curves_png(
            curves, y_label=title, theme=theme, colours=colours, bands=bands,
            logarithmic=quantity.startswith(("mse", "loss")),
        )
        for theme in ("light", "dark")
    )  # fmt: skip
    return Figure(
        png=light, dark_png=dark, caption=f"{title}, {name}",
        alt=f"{title} against the iteration for values of {name}: {'; '.join(said)}",
    )  # fmt: skip


def picture(
    title: str,
    charts: Sequence[Figure],
    images: Mapping[str, torch.Tensor],
    window: Window,
    notes: Mapping[str, str],
    colours: Mapping[str, int],
) -> bytes:
    """Charts and the images beneath them in one picture (PNG).

    Args:
        title: of the whole.
        charts: beside one another.
        images: label -> image.
        window: grey window of all.
        notes: label -> what stands under an image's name.
        colours: label -> number of the colour that its curve has, which frames it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing
    from PIL import Image as PillowImage

    rows = math.ceil(len(images) / 7)
    columns = math.ceil(len(images) / rows)
    width = max(_PANEL * columns, 5.2 * len(charts))
    tall = width / len(charts) * 0.6
    height = tall + rows * (width / columns + 0.5) + 0.5
    figure = Drawing(figsize=(width, height), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(2, 1, height_ratios=(tall, height - 0.5 - tall), squeeze=False)
    upper, lower = parts[0, 0], parts[1, 0]
    figure.suptitle(title, fontsize=12)
    for place, drawn in enumerate(charts):
        axis = upper.add_axes((place / len(charts), 0, 1 / len(charts), 0.97))
        axis.imshow(PillowImage.open(io.BytesIO(drawn.png)).convert("RGBA"), interpolation="lanczos")
        axis.set_axis_off()
    axes = np.atleast_1d(lower.subplots(rows, columns)).reshape(-1)
    lower.subplots_adjust(0.01, 0.01, 0.99, 0.92 - 0.02 * rows, 0.06, 0.28)
    for axis in axes:
        axis.set_axis_off()
    for axis, (label, image) in zip(axes, images.items(), strict=False):
        axis.set_axis_on()
        axis.imshow(plane(image).values, cmap="gray", vmin=window[0], vmax=window[1], interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set(
                color=LINES["light"][colours[label] % len(LINES["light"])] if label in colours else "#d0d4d9",
                linewidth=2.5 if label in colours else 1,
            )
        named = textwrap.fill(label, 28, break_long_words=False)
        axis.set_title(f"{named}\n{notes.get(label, '')}".strip(), fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _floor(quantity: str, mean: npt.NDArray[Any]) -> float:
    """Where a band ends below: a mean square has no negative values."""
    smallest = float(np.nanmin(mean)) if np.isfinite(mean).any() else 0.0
    return -math.inf if quantity.startswith("psnr") else smallest / 2
