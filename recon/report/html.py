"""A report as a tree of dataclasses, and as one self-contained HTML page."""

import base64
import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from recon.files import written_whole
from recon.report.figures import (
    DIFFERENCE_COLOURS,
    LINES,
    Image,
    Window,
    difference_limit,
    difference_png,
    display_window,
    grey_png,
    plane,
)
from recon.report.values import PackedValues

__all__ = [
    "Figure",
    "Layer",
    "Record",
    "Report",
    "Scale",
    "Section",
    "Stack",
    "Table",
    "Viewer",
    "difference_figure",
    "grey_figure",
    "render_report",
    "write_report",
]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELATED_BELOW = 300  # pixels; larger pictures are scaled down on most screens and look better smoothed


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The colour bar under a picture: its two ends in words and the colours from one to the other (CSS)."""

    low: str
    high: str
    colours: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture (PNG) with the text that stands in for it, a caption, and another version for dark pages."""

    png: bytes
    alt: str
    caption: str = ""
    dark_png: bytes | None = None
    scale: Scale | None = None

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ValueError("a figure needs an alt text: one sentence for readers who cannot see it")
        for png in (self.png, self.dark_png):
            if png is not None and png[:8] != _PNG_SIGNATURE:
                raise ValueError(f"the figure {self.alt!r} is not a PNG")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height [pixels]."""
        width, height = struct.unpack(">II", self.png[16:24])
        return width, height

    @property
    def pixelated(self) -> bool:
        """Whether single pixels should stay visible when the picture is enlarged."""
        return max(self.size) < _PIXELATED_BELOW


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table: the first column names the row. `notes` stand below it, e.g. the metrics' conventions.

    `best` holds the (row, column) of cells to mark, counted from 0 with the first column; `links` the addresses,
    relative to the page, that cells lead to.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    notes: Sequence[str] = ()
    best: frozenset[tuple[int, int]] = frozenset()
    links: Mapping[tuple[int, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"the table {self.caption!r} has {len(self.columns)} columns, a row has {len(row)}"
                )


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One image of a viewer: its name, its picture on the page, and its values if the page holds them."""

    name: str
    figure: Figure
    values: PackedValues | None = None
    is_reference: bool = False


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Images of one size that lie on one another, and the window (black, white) of all of them."""

    title: str
    layers: Sequence[Layer]
    window: Window


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Images under a divider, with zoom, values and profiles; without scripts, the `profiles` alone.

    One of several stacks is shown. `left` and `right` number the layers shown first.
    """

    title: str
    stacks: Sequence[Stack]
    unit: str = ""
    left: int = 0
    right: int = 0
    profiles: Sequence[Figure] = ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """A titled part of a report: text, viewer, figures, then tables. Empty lines in the text part paragraphs.

    The pictures of the viewer's layers are among the `figures`.
    """

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    figures_per_row: int = 3
    viewer: Viewer | None = None

    def __post_init__(self) -> None:
        for stack in self.viewer.stacks if self.viewer else ():
            for layer in stack.layers:
                if not any(layer.figure is figure for figure in self.figures):
                    raise ValueError(f"the picture of the layer {layer.name!r} is not among the figures")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What produced one result: values by name, which may be nested."""

    title: str
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole report. `warning` is set apart at the top; `provenance` has a record for each result."""

    title: str
    summary: str = ""
    warning: str = ""
    sections: Sequence[Section] = ()
    provenance: Sequence[Record] = ()


def grey_figure(image: Image, title: str, *, window: Window | None = None, unit: str = "") -> Figure:
    """A grey picture of an image with its window as a scale; see `recon.report.figures.grey_png`."""
    low, high = display_window(image) if window is None else window
    shown = plane(image)
    height, width = shown.values.shape
    caption = f"{title} ({shown.note})" if shown.note else title
    return Figure(
        png=grey_png(image, (low, high)),
        alt=f"{caption}: grey image of {width} by {height} pixels, black at {_number(low, unit)}, "
        f"white at {_number(high, unit)}",
        caption=caption,
        scale=Scale(low=_number(low, ""), high=_number(high, unit), colours=("#000", "#fff")),
    )


def difference_figure(
    image: Image, reference: Image, title: str, *, limit: float | None = None, unit: str = ""
) -> Figure:
    """A colour picture of image - reference with its scale; see `recon.report.figures.difference_png`."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    limit = difference_limit(image, reference) if limit is None else limit
    colours = tuple(to_hex(colormaps[DIFFERENCE_COLOURS](step / 8)) for step in range(9))
    return Figure(
        png=difference_png(image, reference, limit),
        alt=f"{title}: difference map, blue below zero, white at zero, red above, "
        f"full colour at {_number(limit, unit)} either way",
        caption=title,
        scale=Scale(low=_number(-limit, ""), high=f"+{_number(limit, unit)}", colours=colours),
    )


def render_report(report: Report) -> str:
    """The report as HTML: one page that asks for nothing, for light and dark, phone and desktop.

    A page with a viewer has one script, which the page's own security policy names by its checksum.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_file),
    )
    environment.filters["data_address"] = _data_address
    environment.filters["paragraphs"] = _paragraphs
    environment.filters["rows"] = _rows
    script = _file("viewer.js") if any(section.viewer for section in report.sections) else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template("template.html").render(
        report=report, lines=LINES, script=script, script_digest=digest, viewer_data=_viewer_data
    )


def write_report(path: str | Path, report: Report) -> Path:
    """Write the report to one HTML file, whole or not at all; the folder is created."""
    target = Path(path).expanduser()
    page = render_report(report)
    with written_whole(target) as temporary:
        temporary.write_text(page, "utf-8")
    return target


def _file(name: str) -> str:
    return files("recon.report").joinpath(name).read_text("utf-8")


def _viewer_data(section: Section, number: int) -> dict[str, Any]:
    """What the script is told of the viewer in the section of that number."""
    viewer = section.viewer
    assert viewer is not None, "the template asks where there is one"
    place = {id(figure): f"figure-{number}-{index}" for index, figure in enumerate(section.figures, 1)}
    return {
        "unit": viewer.unit,
        "left": viewer.left,
        "right": viewer.right,
        "stacks": [
            {
                "title": stack.title,
                "width": stack.layers[0].figure.size[0],
                "height": stack.layers[0].figure.size[1],
                "window": stack.window,
                "layers": [
                    {
                        "name": layer.name,
                        "picture": place[id(layer.figure)],
                        "isReference": layer.is_reference,
                        "values": layer.values
                        and {
                            "low": layer.values.low,
                            "step": layer.values.step,
                            "packed": layer.values.packed,
                        },
                    }
                    for layer in stack.layers
                ],
            }
            for stack in viewer.stacks
        ],
    }


def _data_address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def _number(value: float, unit: str) -> str:
    number = f"{value:.0f}" if 1000 <= abs(value) < 1e5 else f"{value:.3g}"
    return f"{number} {unit}".rstrip().replace("-", "\N{MINUS SIGN}", 1 if value < 0 else 0)


def _rows(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as rows: the names joined by dots, and the values in words."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        label = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            rows += _rows(value, f"{label}.")
        elif isinstance(value, Sequence) and value and all(isinstance(item, Mapping) for item in value):
            for index, item in enumerate(value):
                rows += _rows(item, f"{label}." if len(value) == 1 else f"{label}.{index}.")
        else:
            rows.append((label, _in_words(value)))
    return rows


def _in_words(value: Any) -> str:
    if value is None or (isinstance(value, Mapping | Sequence) and not value):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        words = [_in_words(item) for item in value[:12]]
        return ", ".join(words) + (f", … ({len(value)} in all)" if len(value) > 12 else "")
    return str(value)
