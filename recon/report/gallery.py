"""Images of several methods as pictures, difference maps on one scale, and a viewer with a divider."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from recon.report.figures import Image, Window, curves_png, difference_limit, plane
from recon.report.html import Figure, Layer, Stack, Viewer, difference_figure, grey_figure
from recon.report.values import bits_for, pack

__all__ = ["common_differences", "grey_figures", "viewer_of"]

TRUTH = "Reference"


def grey_figures(
    images: Mapping[str, Image], window: Window, unit: str, titles: Mapping[str, str] | None = None
) -> dict[str, Figure]:
    """A grey picture of each image, all in one window; captions are the names unless `titles` has others."""
    return {
        name: grey_figure(image, (titles or {}).get(name, name), window=window, unit=unit)
        for name, image in images.items()
    }


def common_differences(
    images: Mapping[str, Image], reference: Image, unit: str, which: str = "", truth: str = "reference"
) -> list[Figure]:
    """A map of each image minus the reference, all on one scale."""
    limit = max(difference_limit(image, reference) for image in images.values())
    return [
        difference_figure(image, reference, f"{name} \N{MINUS SIGN} {truth}{which}", limit=limit, unit=unit)
        for name, image in images.items()
    ]


def viewer_of(
    stacks: Mapping[str, tuple[Mapping[str, Image], Mapping[str, Figure], Window]],
    *,
    unit: str = "",
    reference: str = "",
    left: int = 0,
    right: int = 0,
    title: str = "Compare images",
) -> Viewer:
    """A viewer of images that lie on one another.

    Args:
        stacks: title -> the images by name, their pictures by the same names, and their window.
        unit: of the values.
        reference: name of the image that the others are compared with.
        left: number of the image shown first to the left of the divider.
        right: the same to its right.
        title: for readers who do not see the page.
    """
    planes = {
        key: {name: plane(image).values for name, image in stack[0].items()} for key, stack in stacks.items()
    }
    bits = bits_for(sum(values.size for images in planes.values() for values in images.values()))
    made = [
        Stack(
            title=key,
            window=window,
            layers=[
                Layer(
                    name=name,
                    figure=pictures[name],
                    values=pack(planes[key][name], bits) if bits else None,
                    is_reference=name == reference,
                )
                for name in images
            ],
        )
        for key, (images, pictures, window) in stacks.items()
    ]
    first = next(iter(planes))
    which = f", {first}" if len(planes) > 1 else ""
    return Viewer(
        title=title,
        stacks=made,
        unit=unit,
        left=left,
        right=right,
        profiles=_profiles(planes[first], unit, which),
    )


def _profiles(planes: Mapping[str, npt.NDArray[np.float64]], unit: str, which: str) -> list[Figure]:
    """The values along the middle row and the middle column of each image, in one plot each."""
    height, width = next(iter(planes.values())).shape
    row, column = height // 2, width // 2
    return [
        _profile(f"Along row {row}{which}", {n: v[row] for n, v in planes.items()}, "column", unit),
        _profile(f"Along column {column}{which}", {n: v[:, column] for n, v in planes.items()}, "row", unit),
    ]


def _profile(title: str, lines: Mapping[str, npt.NDArray[np.float64]], label: str, unit: str) -> Figure:
    curves = {name: (range(len(values)), values.tolist()) for name, values in lines.items()}
    light, dark = (
        curves_png(curves, x_label=label, y_label=unit, theme=theme, logarithmic=False)
        for theme in ("light", "dark")
    )
    ranges = "; ".join(
        f"{name} from {min(values):.4g} to {max(values):.4g}" for name, values in lines.items()
    )
    return Figure(png=light, dark_png=dark, alt=f"{title}, values: {ranges}", caption=title)
