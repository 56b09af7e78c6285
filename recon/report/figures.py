"""Images, difference maps, panels and convergence curves as PNG, every grey value tied to a stated window."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from recon.files import written_whole

__all__ = [
    "DIFFERENCE_COLOURS",
    "ITEMS_SHOWN",
    "Plane",
    "convergence_png",
    "difference_limit",
    "difference_png",
    "display_window",
    "grey_png",
    "panel_png",
    "plane",
    "save_png",
]

Image = torch.Tensor | npt.NDArray[Any]
Window = tuple[float, float]
Theme = Literal["light", "dark"]

ITEMS_SHOWN = 8  # of a batch, in pictures, tables and plots
DIFFERENCE_COLOURS = "RdBu_r"  # blue below zero, white at zero, red above

# Okabe and Ito's palette, which colour-blind readers can tell apart; yellow is left out on white.
_LINES = {
    "light": ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5d4a9c", "#000000"),
    "dark": ("#56b4e9", "#e69f00", "#2fc09a", "#e59bc6", "#f0e442", "#ff8a4c", "#a99bea", "#ffffff"),
}
_INK = {"light": "#1f2328", "dark": "#e6e8eb"}
_GRID = {"light": "#d0d4d9", "dark": "#3d434b"}


@dataclass(frozen=True)
class Plane:
    """What of an image can be shown: real values `(height, width)`, and how they were obtained, in words."""

    values: npt.NDArray[np.float64]
    note: str = ""


def plane(image: Image) -> Plane:
    """The part of one image that a picture shows: magnitude if complex, the middle slice of a volume.

    Raises:
        ValueError: not `(height, width)` or `(slices, height, width)`, empty, or NaN or infinity inside.
    """
    values = _array(image)
    notes = []
    if values.ndim not in (2, 3):
        raise ValueError(
            "a picture needs an image (height, width) or a volume (slices, height, width), "
            f"got shape {values.shape}"
        )
    if values.size == 0:
        raise ValueError(f"an image of shape {values.shape} has no pixel to show")
    if values.ndim == 3:
        middle = values.shape[0] // 2
        if values.shape[0] > 1:
            notes.append(f"slice {middle + 1} of {values.shape[0]}")
        values = values[middle]
    if np.iscomplexobj(values):
        values = np.abs(values)
        notes.append("magnitude")
    values = values.astype(np.float64)
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise ValueError(
            f"{bad} of the image's {values.size} pixels are NaN or infinite; replace them before drawing"
        )
    return Plane(values, ", ".join(notes))


def display_window(image: Image) -> Window:
    """The grey window that shows an image well: its 0.5 and 99.5 percentiles, wider if they coincide."""
    values = plane(image).values
    low, high = (float(bound) for bound in np.percentile(values, (0.5, 99.5)))
    if low == high:
        low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = (low - 0.5, low + 0.5) if abs(low) < 1e6 else (low - abs(low) / 2, low + abs(low) / 2)
    return low, high


def grey_png(image: Image, window: Window | None = None) -> bytes:
    """8-bit grey PNG, one pixel per pixel; `window` is (black, white), else `display_window(image)`."""
    from PIL import Image as PillowImage

    values = plane(image).values
    low, high = _checked_window(display_window(image) if window is None else window)
    grey = np.clip((values - low) / (high - low), 0.0, 1.0) * 255.0
    return _encoded(PillowImage.fromarray(np.round(grey).astype(np.uint8)))


def save_png(path: str | Path, image: Image, window: Window | None = None, *, item_ndim: int = 2) -> Path:
    """Write `grey_png(image, window)` to a file, whole or not at all.

    A batch `(*batch, *item)` becomes a contact sheet of its first eight items, four a row, in one window:
    that of the first item unless given.

    Raises:
        ValueError: the name does not end in .png, or the image cannot be shown (see `plane`).
    """
    target = Path(path).expanduser()
    if target.suffix.lower() != ".png":
        raise ValueError(f"{target} does not end in .png, and PNG is what would be in it")
    if image.ndim > item_ndim:
        items = image.reshape(-1, *image.shape[image.ndim - item_ndim :])[:ITEMS_SHOWN]
        if not len(items):
            raise ValueError(f"a batch of shape {tuple(image.shape)} has no image to show")
        window = display_window(items[0]) if window is None else window
        image = _contact_sheet([plane(item).values for item in items], blank=window[1])
    content = grey_png(image, window)
    with written_whole(target) as temporary:
        temporary.write_bytes(content)
    return target


def difference_limit(image: Image, reference: Image) -> float:
    """The value of the strongest colour in a difference map: the 99.5 percentile of |image - reference|."""
    return _limit(_difference(image, reference))


def difference_png(image: Image, reference: Image, limit: float | None = None) -> bytes:
    """Colour PNG of image - reference, one pixel per pixel: -limit is blue, 0 white, +limit red.

    Complex images are compared by magnitude. `limit` is `difference_limit(image, reference)` if not given.
    """
    from matplotlib import colormaps
    from PIL import Image as PillowImage

    difference = _difference(image, reference)
    limit = difference_limit(image, reference) if limit is None else limit
    if not (math.isfinite(limit) and limit > 0):
        raise ValueError(f"the limit of a difference map must be a positive number, got {limit}")
    colours = colormaps[DIFFERENCE_COLOURS](np.clip(0.5 + 0.5 * difference / limit, 0.0, 1.0), bytes=True)
    return _encoded(PillowImage.fromarray(np.ascontiguousarray(colours[..., :3])))


def panel_png(
    images: Sequence[Image],
    titles: Sequence[str],
    *,
    window: Window | None = None,
    reference: Image | None = None,
    unit: str = "",
    columns: int | None = None,
) -> bytes:
    """Images side by side under their titles, in one grey window stated on a scale.

    With `reference`, that image is added on the right, and a second row shows each image minus the reference
    on one symmetric colour scale.

    Args:
        images: `(height, width)` or `(slices, height, width)` each, real or complex (magnitude).
        titles: one per image.
        window: (black, white) for all; by default `display_window` of the reference, else of the last image.
        reference: an image to compare with, of the shape of all others.
        unit: of the values, written at the scales.
        columns: images per row, all in one row unless given; not together with `reference`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not images or len(images) != len(titles):
        raise ValueError(
            f"a panel needs one title for each image, got {len(images)} images, {len(titles)} titles"
        )
    if reference is not None and columns is not None:
        raise ValueError("a panel with differences is two rows high; leave columns out")
    differences = [] if reference is None else [_difference(image, reference) for image in images]
    images = [*images] if reference is None else [*images, reference]
    titles = [*titles] if reference is None else [*titles, "reference"]
    low, high = _checked_window(display_window(images[-1]) if window is None else window)
    columns = min(columns or len(images), len(images))
    rows = 2 if differences else math.ceil(len(images) / columns)
    shown = [plane(image).values for image in images]
    aspect = max(values.shape[0] / values.shape[1] for values in shown)
    figure = Figure(figsize=(2.9 * columns + 0.9, (2.9 * aspect + 0.3) * rows), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, values, title in zip(axes.flat, shown, titles, strict=False):
        grey = axis.imshow(values, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(title, fontsize=10)
    figure.colorbar(grey, ax=axes[0] if differences else axes, shrink=0.9, aspect=25, label=unit, pad=0.01)
    if differences:
        limit = _limit(np.stack(differences))
        for axis, difference in zip(axes[1], differences, strict=False):
            colour = axis.imshow(
                difference, cmap=DIFFERENCE_COLOURS, vmin=-limit, vmax=limit, interpolation="nearest"
            )
            axis.set_title("difference to the reference", fontsize=10)
        figure.colorbar(colour, ax=axes[1], shrink=0.9, aspect=25, label=unit, pad=0.01)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def convergence_png(
    steps: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    *,
    x_label: str = "iteration",
    y_label: str = "",
    theme: Theme = "light",
) -> bytes:
    """Curves over the iterations, on a transparent ground; logarithmic if positive and over a decade wide.

    Args:
        steps: horizontal values.
        curves: label -> values, as many as `steps`; NaN and infinite values are left out.
        x_label: what `steps` are.
        y_label: what the curves are, with their unit.
        theme: for a light or a dark page.

    Raises:
        ValueError: no curve, or one of another length than `steps`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if not curves:
        raise ValueError("there is no curve to draw")
    for label, values in curves.items():
        if len(values) != len(steps):
            raise ValueError(f"the curve {label!r} has {len(values)} values for {len(steps)} steps")
    ink, grid = _INK[theme], _GRID[theme]
    figure = Figure(figsize=(5.4, 3.2), dpi=150, facecolor="none")
    FigureCanvasAgg(figure)
    left = 0.17 if y_label else 0.13  # fixed margins: a layout engine takes three times as long as the plot
    axis = figure.add_axes((left, 0.15, 0.985 - left, 0.81))
    axis.set_facecolor("none")
    everything = np.array([list(values) for values in curves.values()], dtype=np.float64)
    finite = everything[np.isfinite(everything)]
    if finite.size and finite.min() > 0 and finite.max() > 10 * finite.min():
        axis.set_yscale("log")
    for index, (label, values) in enumerate(zip(curves, everything, strict=True)):
        visible = np.isfinite(values)
        axis.plot(
            np.asarray(steps, dtype=np.float64)[visible],
            values[visible],
            color=_LINES[theme][index % len(_LINES[theme])],
            linewidth=1.8,
            marker="o" if visible.sum() < 3 else "",
            label=label,
        )
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axis.set_xlabel(x_label, color=ink)
    axis.set_ylabel(y_label, color=ink)
    axis.tick_params(colors=ink, which="both")
    axis.grid(color=grid, linewidth=0.6)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
    if len(curves) > 1:
        axis.legend(frameon=False, labelcolor=ink, fontsize=9, ncols=2 if len(curves) > 4 else 1)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _contact_sheet(planes: Sequence[npt.NDArray[np.float64]], blank: float) -> npt.NDArray[np.float64]:
    """Planes of one shape in rows of four, two pixels apart."""
    height, width = planes[0].shape
    columns = min(len(planes), 4)
    rows = math.ceil(len(planes) / columns)
    sheet = np.full((rows * (height + 2) - 2, columns * (width + 2) - 2), blank)
    for index, values in enumerate(planes):
        top, left = index // columns * (height + 2), index % columns * (width + 2)
        sheet[top : top + height, left : left + width] = values
    return sheet


def _array(image: Image) -> npt.NDArray[Any]:
    if not isinstance(image, torch.Tensor):
        return np.asarray(image)
    precise = torch.complex128 if image.is_complex() else torch.float64  # numpy has no bfloat16
    return image.detach().to("cpu", precise).resolve_conj().numpy()


def _difference(image: Image, reference: Image) -> npt.NDArray[np.float64]:
    """Image minus reference on the plane that is shown; by magnitude if either is complex."""
    ours, truth = plane(image), plane(reference)
    if ours.values.shape != truth.values.shape:
        raise ValueError(
            f"an image {ours.values.shape} cannot be compared with a reference {truth.values.shape}"
        )
    if "magnitude" in ours.note + truth.note:
        return np.abs(ours.values) - np.abs(truth.values)
    return ours.values - truth.values


def _limit(difference: npt.NDArray[np.float64]) -> float:
    size = np.abs(difference)
    return float(np.percentile(size, 99.5)) or float(size.max()) or 1.0


def _checked_window(window: Window) -> Window:
    low, high = float(window[0]), float(window[1])
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"a grey window is (black, white) with black < white, got {window}")
    return low, high


def _encoded(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
