"""Images, difference maps and curves as PNG, every grey value tied to a stated window."""

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
    "LINES",
    "Plane",
    "checked_window",
    "curves_png",
    "difference_limit",
    "difference_png",
    "difference_values",
    "display_window",
    "grey_png",
    "plane",
    "save_png",
]

Image = torch.Tensor | npt.NDArray[Any]
Window = tuple[float, float]
Theme = Literal["light", "dark"]
Curve = tuple[Sequence[float], Sequence[float]]

ITEMS_SHOWN = 8  # of a batch, in pictures, tables and plots
DIFFERENCE_COLOURS = "RdBu_r"  # blue below zero, white at zero, red above

# Okabe and Ito's palette, which colour-blind readers can tell apart; yellow is left out on white.
LINES = {
    "light": ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5d4a9c", "#000000"),
    "dark": ("#56b4e9", "#e69f00", "#2fc09a", "#e59bc6", "#f0e442", "#ff8a4c", "#a99bea", "#ffffff"),
}
_INK = {"light": "#1f2328", "dark": "#e6e8eb"}
_PLOT_COLOURS = 128  # with the shades of their edges; a plot takes a third of its size in full colour
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


def window_from_zero(image: Image) -> Window:
    """The grey window of a map of magnitudes: from 0, black, to its 99.5 percentile."""
    values = plane(image).values
    return 0.0, float(np.percentile(values, 99.5)) or float(values.max()) or 1.0


def grey_png(image: Image, window: Window | None = None) -> bytes:
    """8-bit grey PNG, one pixel per pixel; `window` is (black, white), else `display_window(image)`."""
    from PIL import Image as PillowImage

    values = plane(image).values
    low, high = checked_window(display_window(image) if window is None else window)
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
    size = np.abs(difference_values(image, reference))
    return float(np.percentile(size, 99.5)) or float(size.max()) or 1.0


def difference_png(image: Image, reference: Image, limit: float | None = None) -> bytes:
    """Colour PNG of image - reference, one pixel per pixel: -limit is blue, 0 white, +limit red.

    Complex images are compared by magnitude. `limit` is `difference_limit(image, reference)` if not given.
    """
    from matplotlib import colormaps
    from PIL import Image as PillowImage

    difference = difference_values(image, reference)
    limit = difference_limit(image, reference) if limit is None else limit
    if not (math.isfinite(limit) and limit > 0):
        raise ValueError(f"the limit of a difference map must be a positive number, got {limit}")
    palette = colormaps[DIFFERENCE_COLOURS](np.linspace(0.0, 1.0, 255), bytes=True)[:, :3]  # 127 is zero
    steps = np.round(127.0 + 127.0 * np.clip(difference / limit, -1.0, 1.0)).astype(np.uint8)
    picture = PillowImage.fromarray(steps)
    picture.putpalette(palette.tobytes())  # a third of the size of the same colours as RGB
    return _encoded(picture)


def curves_png(
    curves: Mapping[str, Curve],
    *,
    x_label: str = "iteration",
    y_label: str = "",
    theme: Theme = "light",
    logarithmic: bool = True,
    colours: Sequence[int] | None = None,
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> bytes:
    """Curves in one plot on a transparent ground.

    Args:
        curves: label -> horizontal and vertical values; a pair that is not finite is left out.
        x_label: what the horizontal values are.
        y_label: what the vertical values are, with their unit.
        theme: for a light or a dark page.
        logarithmic: whether values that are positive and over a decade apart get a logarithmic scale.
        colours: for each curve, the number of its colour in `LINES`; 0, 1, 2, ... unless given.
        bands: label -> lower and upper values at the places of that curve, shaded: how far repetitions spread.

    Raises:
        ValueError: no curve, or one with other numbers of horizontal and vertical values.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
    from PIL import Image as PillowImage

    if not curves:
        raise ValueError("there is no curve to draw")
    ink = _INK[theme]
    below = (
        0.22 * math.ceil(len(curves) / 2) if len(curves) > 4 else 0.0
    )  # many names hide curves: under the plot
    height = 3.2 + below
    figure = Figure(figsize=(5.4, height), dpi=150, facecolor="none")
    FigureCanvasAgg(figure)
    left = 0.17 if y_label else 0.13  # fixed margins: a layout engine takes three times as long as the plot
    # above the plot there is room for a power of ten, of small numbers
    axis = figure.add_axes((left, (0.48 + below) / height, 0.985 - left, 2.5 / height))
    axis.set_facecolor("none")
    shown = {label: _finite(label, curve) for label, curve in curves.items()}
    heights = np.concatenate([y for _, y in shown.values()])
    if logarithmic and heights.size and heights.min() > 0 and heights.max() > 10 * heights.min():
        axis.set_yscale("log")
    for index, (label, (x, y)) in enumerate(shown.items()):
        colour = LINES[theme][(index if colours is None else colours[index]) % len(LINES[theme])]
        axis.plot(x, y, color=colour, linewidth=1.8, marker="o" if len(y) < 3 else "", label=label)
        if bands is not None and label in bands:
            low, high = bands[label]
            axis.fill_between(curves[label][0], low, high, color=colour, alpha=0.18, linewidth=0)
    widths = np.concatenate([x for x, _ in shown.values()])
    axis.xaxis.set_major_locator(
        MaxNLocator(integer=bool((widths == np.round(widths)).all()), steps=[1, 2, 5, 10])
    )
    axis.set_xlabel(x_label, color=ink)
    axis.set_ylabel(y_label, color=ink)
    axis.tick_params(colors=ink, which="both")
    axis.grid(color=_GRID[theme], linewidth=0.6)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
    if len(curves) > 1:
        legend = axis.legend(frameon=False, labelcolor=ink, fontsize=9, ncols=2 if below else 1)
        if below:
            legend.set_loc("lower center")
            legend.set_bbox_to_anchor((0.5, 0), figure.transFigure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    octree = PillowImage.Quantize.FASTOCTREE  # the method that keeps transparency
    return _encoded(PillowImage.open(buffer).quantize(_PLOT_COLOURS, method=octree))


def _finite(label: str, curve: Curve) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    x, y = (np.asarray(values, dtype=np.float64) for values in curve)
    if x.shape != y.shape:
        raise ValueError(f"the curve {label!r} has {y.size} values for {x.size} steps")
    visible = np.isfinite(x) & np.isfinite(y)
    return x[visible], y[visible]


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


def difference_values(image: Image, reference: Image) -> npt.NDArray[np.float64]:
    """Image minus reference on the plane that is shown; by magnitude if either is complex."""
    ours, truth = plane(image), plane(reference)
    if ours.values.shape != truth.values.shape:
        raise ValueError(
            f"an image {ours.values.shape} cannot be compared with a reference {truth.values.shape}"
        )
    if "magnitude" in ours.note + truth.note:
        return np.abs(ours.values) - np.abs(truth.values)
    return ours.values - truth.values


def checked_window(window: Window) -> Window:
    """(black, white) as numbers, or a ValueError if they are no window."""
    low, high = float(window[0]), float(window[1])
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"a grey window is (black, white) with black < white, got {window}")
    return low, high


def _encoded(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
