"""Drawings of scans: source, detector, image, and the circle that every view sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from recon_operators.cone_geometry import ConeGeometry
from recon_operators.scan_geometry import FanGeometry, ParallelGeometry, ScanGeometry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Array = np.ndarray[Any, Any]

# Okabe and Ito's palette, which colour-blind readers can tell apart
_SOURCE, _DETECTOR, _COVERED, _IMAGE = "#d55e00", "#0072b2", "#009e73", "#444444"
_RAYS = 9


def plot_parallel(geometry: ParallelGeometry, ax: Axes | None = None) -> Axes:
    """Draw a parallel-beam scan, lengths in mm: see `ParallelGeometry.plot`."""
    ax = _prepared(geometry, ax)
    half = math.hypot(*geometry.shape) * geometry.pixel_size / 2
    ends = _detector_ends(geometry)
    theta = geometry.angles[0]
    along, across = _axes(theta)
    detector = np.outer(ends, along) + 1.2 * half * across
    for start in np.linspace(ends[0], ends[1], _RAYS)[:, None] * along:
        ax.plot(*np.stack([start - 1.2 * half * across, start + 1.2 * half * across]).T, **_ray_style())
    _draw_detector(ax, detector)
    _draw_views(ax, geometry, -1.2 * half, "direction of the rays")
    _draw_covered(ax, max(0.0, min(-ends[0], ends[1])))
    return _finished(ax, f"{geometry.views} views")


def plot_fan(geometry: FanGeometry, ax: Axes | None = None) -> Axes:
    """Draw a fan-beam scan, lengths in mm: see `FanGeometry.plot`."""
    ax = _prepared(geometry, ax)
    along, across = _axes(geometry.angles[0])
    source = -geometry.source_origin * across
    middle = geometry.origin_detector * across
    detector = middle + np.outer(_detector_ends(geometry), along)
    for end in np.linspace(detector[0], detector[1], _RAYS):
        ax.plot(*np.stack([source, end]).T, **_ray_style())
    _draw_detector(ax, detector)
    ax.plot(*source, marker="o", color=_SOURCE, markersize=9, linestyle="none", label="source, first view")
    _draw_views(ax, geometry, -geometry.source_origin, "source, every view")
    _draw_covered(ax, geometry.field_of_view)
    return _finished(ax, f"{geometry.views} views, magnification {geometry.magnification:.3g}")


def _prepared(geometry: ScanGeometry, ax: Axes | None) -> Axes:
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(6, 6), layout="constrained").add_subplot()
    from matplotlib.patches import Rectangle

    height, width = (side * geometry.pixel_size for side in geometry.shape)
    outline = Rectangle(
        (-width / 2, -height / 2), width, height, facecolor="#eeeeee", edgecolor=_IMAGE, label="image"
    )
    ax.add_patch(outline)
    ax.plot(0, 0, marker="+", color=_IMAGE, linestyle="none")
    return ax


def _axes(theta: float) -> tuple[_Array, _Array]:
    """Direction of the detector line, and of the central ray."""
    return np.array([math.cos(theta), math.sin(theta)]), np.array([-math.sin(theta), math.cos(theta)])


def _detector_ends(geometry: ScanGeometry) -> _Array:
    half = geometry.detectors * geometry.detector_size / 2
    return geometry.detector_offset + np.array([-half, half])


def _ray_style() -> dict[str, Any]:
    return {"color": _SOURCE, "linewidth": 0.7, "alpha": 0.6}


def _draw_detector(ax: Axes, ends: _Array) -> None:
    ax.plot(*ends.T, color=_DETECTOR, linewidth=4, solid_capstyle="butt", label="detector, first view")


def _draw_views(ax: Axes, geometry: ScanGeometry, radius: float, label: str) -> None:
    places = np.array([radius * _axes(theta)[1] for theta in geometry.angles])
    ax.plot(*places.T, marker=".", markersize=3, color=_SOURCE, linestyle="none", alpha=0.5, label=label)


def _draw_covered(ax: Axes, radius: float) -> None:
    from matplotlib.patches import Circle

    circle = Circle((0, 0), radius, facecolor=_COVERED, alpha=0.25, edgecolor=_COVERED)
    circle.set_label(f"seen whole in every view (radius {radius:.4g} mm)")
    ax.add_patch(circle)


def _finished(ax: Axes, title: str) -> Axes:
    ax.set(aspect="equal", xlabel="x [mm]", ylabel="y [mm]", title=title)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, fontsize="small", frameon=False)
    ax.margins(0.05)
    return ax


def plot_cone(geometry: ConeGeometry, figure: Figure | None = None) -> Figure:
    """Draw a cone-beam scan from above and from the side, lengths in mm: see `ConeGeometry.plot`."""
    if figure is None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 5.5), layout="constrained")
    first = geometry.frames[0]
    corners = _detector_corners(geometry)
    # from the side one looks along the first detector's columns
    sideways = np.array([first[2, 0], first[2, 1]])
    sideways = sideways / np.linalg.norm(sideways) if sideways.any() else np.array([1.0, 0.0])
    depth = np.array([-sideways[1], sideways[0]])
    depth = depth if depth @ (first[1] - first[0])[:2] >= 0 else -depth
    above, side = figure.subplots(1, 2)
    _draw_section(above, geometry, corners, lambda points: points[..., :2])
    _draw_section(
        side, geometry, corners, lambda points: np.stack([points[..., :2] @ depth, points[..., 2]], -1)
    )
    half_x, half_y, half_z = geometry.half_sides
    across = abs(depth[0]) * half_x + abs(depth[1]) * half_y
    _draw_volume(above, half_x, half_y)
    _draw_volume(side, across, half_z)
    above.set(xlabel="x [mm]", ylabel="y [mm]", title="from above", aspect="equal")
    side.set(xlabel="towards the detector of the first view [mm]", ylabel="z [mm]", title="from the side")
    side.set(aspect="equal")
    figure.suptitle(f"{geometry.views} views of {geometry.detectors[0]} x {geometry.detectors[1]} elements")
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small", frameon=False)
    return figure


def _detector_corners(geometry: ConeGeometry) -> _Array:
    """The corners of the first view's detector in order, x, y, z, ``(5, 3)``; the last is the first."""
    _, middle, across, down = geometry.frames[0]
    rows, columns = geometry.detectors
    signs = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1], [-1, -1]]) / 2
    return np.asarray(middle + signs[:, :1] * rows * down + signs[:, 1:] * columns * across)


def _draw_section(
    ax: Axes, geometry: ConeGeometry, corners: _Array, flat: Callable[[_Array], _Array]
) -> None:
    """The detector, the rays of the first view that bound it, and the source of every view."""
    source = geometry.frames[0, 0]
    for corner in corners[:-1]:
        ax.plot(*flat(np.stack([source, corner])).T, **_ray_style())
    ax.plot(*flat(corners).T, color=_DETECTOR, linewidth=3, label="detector, first view")
    ax.plot(
        *flat(source), marker="o", color=_SOURCE, markersize=9, linestyle="none", label="source, first view"
    )
    every = flat(geometry.frames[:, 0])
    ax.plot(
        *every.T,
        marker=".",
        markersize=3,
        color=_SOURCE,
        linestyle="none",
        alpha=0.5,
        label="source, every view",
    )
    ax.margins(0.05)


def _draw_volume(ax: Axes, half_width: float, half_height: float) -> None:
    from matplotlib.patches import Rectangle

    corner = (-half_width, -half_height)
    ax.add_patch(
        Rectangle(
            corner,
            2 * half_width,
            2 * half_height,
            facecolor="#eeeeee",
            edgecolor=_IMAGE,
            label="volume",
            zorder=0,
        )
    )
    ax.plot(0, 0, marker="+", color=_IMAGE, linestyle="none")
