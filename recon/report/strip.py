"""Images side by side in one picture: names, scores, one grey window, differences on one scale, a length."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from recon.files import written_whole
from recon.metrics import Score, evaluate
from recon.report.figures import (
    DIFFERENCE_COLOURS,
    Image,
    Window,
    checked_window,
    difference_limit,
    difference_values,
    display_window,
    plane,
)
from recon.report.methods import Method, Solved, default_metrics, methods_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

__all__ = ["save_comparison"]

_PANEL = 2.9  # inches
_USUAL = ("psnr", "ssim")
_SHORT = {"psnr": "PSNR", "ssim": "SSIM", "nmse": "NMSE", "rmse": "RMSE", "rmse_hu": "RMSE", "mse": "MSE"}


def save_comparison(
    path: str | Path,
    images: Mapping[str, Image | Solved],
    reference: Image | None = None,
    window: Window | None = None,
    unit: str = "",
    *,
    metrics: Sequence[Any] | None = None,
    scores: Mapping[str, Sequence[Score]] | None = None,
    differences: bool = False,
    pixel_size: float | None = None,
) -> Path:
    """Write images side by side into one PNG, whole or not at all: one window, the scores under each panel.

    Args:
        path: ends in .png; its folder is made.
        images: name -> `(height, width)` or `(slices, height, width)`, or a solution. Of a batch the first
            item is shown and scored, of a volume the middle slice is shown and everything is scored, of a
            complex image the magnitude is shown; the panel says so.
        reference: the true image, of their shape; it becomes the last panel.
        window: (black, white) of all; by default from the percentiles of the reference, else the last image.
        unit: of the values, written at the scales.
        metrics: what to score with; PSNR and SSIM on the reference's range unless given.
        scores: scores under each name instead of those computed here, for images scored in another unit.
        differences: a second row shows each image minus the reference, all on one scale.
        pixel_size: mm; draws a bar of a round length into the first panel.

    Raises:
        ValueError: no image, shapes that differ, no reference where one is needed, an image that cannot be
            shown, or a name that does not end in .png.
    """
    target = Path(path).expanduser()
    if target.suffix.lower() != ".png":
        raise ValueError(f"{target} does not end in .png, and PNG is what would be in it")
    if not images:
        raise ValueError("a comparison needs an image, got none")
    if reference is None and (differences or metrics is not None):
        raise ValueError("differences and metrics compare with a reference: give reference=")
    if pixel_size is not None and not (math.isfinite(pixel_size) and pixel_size > 0):
        raise ValueError(f"pixel_size is the side of a pixel in mm, got {pixel_size}")
    methods = methods_of(images, arrays=None)
    axes = methods[0].items.ndim - 1
    shown = {method.name: _first(method.name, method.items) for method in methods}
    truth = None
    if reference is not None:
        values = torch.as_tensor(reference).detach().cpu().resolve_conj()
        truth = _first("the reference", values.reshape(-1, *values.shape[max(values.ndim - axes, 0) :]))
        if truth.shape != methods[0].items.shape[1:]:
            raise ValueError(
                f"an image of shape {tuple(methods[0].items.shape[1:])} cannot be compared with a reference "
                f"of shape {tuple(truth.shape)}"
            )
    titles = [_title(method) for method in methods]
    if scores is None:
        usual = [metric for metric in default_metrics(methods[0].items.shape[1:]) if metric.name in _USUAL]
        chosen = usual if metrics is None else metrics
        scores = {
            name: evaluate(image, truth, chosen, item_ndim=axes)
            for name, image in shown.items()
            if truth is not None
        }
    content = _drawn(
        shown, titles, truth, window, unit, scores=scores, differences=differences, pixel_size=pixel_size
    )
    with written_whole(target) as temporary:
        temporary.write_bytes(content)
    return target


def _first(name: str, items: torch.Tensor) -> torch.Tensor:
    """The first item of a batch, if it can be shown."""
    if not len(items):
        raise ValueError(f"{name}: a batch of shape {tuple(items.shape)} has no image to show")
    try:
        plane(items[0])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return items[0]


def _title(method: Method) -> str:
    """The name, and what of the image the panel shows."""
    batch = f"item 0 of {len(method.items)}" if len(method.items) > 1 else ""
    notes = ", ".join(filter(None, [batch, plane(method.items[0]).note]))
    return f"{method.name} ({notes})" if notes else method.name


def _drawn(
    images: Mapping[str, Image],
    titles: Sequence[str],
    reference: Image | None,
    window: Window | None,
    unit: str,
    *,
    scores: Mapping[str, Sequence[Score]],
    differences: bool,
    pixel_size: float | None,
) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    panels = [*images.values()] if reference is None else [*images.values(), reference]
    low, high = checked_window(display_window(panels[-1]) if window is None else window)
    shown = [plane(image).values for image in panels]
    height = _PANEL * shown[0].shape[0] / shown[0].shape[1]
    notes = _conventions(scores)
    rows = 2 if differences else 1
    below = 0.2 * bool(scores)
    figure = Drawing(
        figsize=(_PANEL * len(panels) + 0.9, (height + 0.45) * rows + below + 0.13 * len(notes)),
        dpi=130,
        layout=ConstrainedLayoutEngine(h_pad=0.06, hspace=0.06),
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, len(panels), squeeze=False)
    for axis in grid.flat:
        _bare(axis)
    names = [*images, *([] if reference is None else ["reference"])]
    for axis, values, title, name in zip(grid[0], shown, [*titles, "reference"], names, strict=False):
        grey = axis.imshow(values, cmap="gray", vmin=low, vmax=high)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("   ".join(_in_short(score) for score in scores.get(name, ())), fontsize=9)
    figure.colorbar(grey, ax=grid[0], shrink=0.9, aspect=25, label=unit, pad=0.01)
    if pixel_size is not None:
        _draw_length(grid[0][0], shown[0].shape, pixel_size)
    if differences and reference is not None:
        limit = max(difference_limit(image, reference) for image in images.values())
        for axis, image in zip(grid[1], images.values(), strict=False):
            colour = axis.imshow(
                difference_values(image, reference),
                cmap=DIFFERENCE_COLOURS,
                vmin=-limit,
                vmax=limit,
            )
            axis.set_title("difference to the reference", fontsize=10)
        figure.colorbar(colour, ax=grid[1], shrink=0.9, aspect=25, label=unit, pad=0.01)
    _write_below(figure, notes)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _bare(axis: "Axes") -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def _in_short(score: Score) -> str:
    value = float(score.value.mean())
    form = {"psnr": ".2f", "ssim": ".3f"}.get(score.name, ".3g")
    return f"{_SHORT.get(score.name, score.name)} {value:{form}} {score.unit}".rstrip()


def _conventions(scores: Mapping[str, Sequence[Score]]) -> list[str]:
    """Each convention once, in the order of the scores."""
    lines = [f"{_SHORT.get(s.name, s.name)}: {s.convention}" for own in scores.values() for s in own]
    return list(dict.fromkeys(lines))


def _write_below(figure: "Drawing", lines: Sequence[str]) -> None:
    if lines:
        figure.supxlabel("\n".join(lines), fontsize=6.5, x=0.01, ha="left", color="#444444", wrap=True)


def _draw_length(axis: "Axes", shape: Sequence[int], pixel_size: float) -> None:
    """A bar of 1, 2 or 5 times a power of ten mm, at most a third of the width, with its length."""
    height, width = shape
    most = width * pixel_size / 3
    power = 10.0 ** math.floor(math.log10(most))
    length = max(step * power for step in (1, 2, 5) if step * power <= most)
    thick = max(height / 100, 1.0)
    left, top = 0.04 * width, 0.95 * height - thick
    from matplotlib.patches import Rectangle

    bar = Rectangle(
        (left, top), length / pixel_size, thick, facecolor="white", edgecolor="black", linewidth=0.6
    )
    axis.add_patch(bar)
    axis.text(
        left + length / pixel_size / 2,
        top - thick,
        f"{length:g} mm",
        color="white",
        fontsize=8,
        ha="center",
        va="bottom",
        bbox={"facecolor": "black", "alpha": 0.6, "edgecolor": "none", "pad": 1.5},
    )
