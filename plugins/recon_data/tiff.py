"""TIFF stacks as stored: many pages in one file, or a folder of files."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tifffile

from recon.loading import Loaded, LoadError, folder_ending, folder_files, reading, to_tensor
from recon.parameters import Param

TIFF = "a TIFF picture"
SUFFIXES = (".tif", ".tiff")
LARGEST_COMPRESSION = 1100  # of deflate: 1032
# ImageJ's names of lengths in mm. TIFF's own inches say how large to print, not how large the object was.
MILLIMETRES = {"mm": 1.0, "cm": 10.0, "micron": 0.001, "um": 0.001, "\u00b5m": 0.001, "\\u00B5m": 0.001}
CENTIMETRE = 3


def read_tiff(path: Annotated[Path, Param("the .tif file, or a folder of them")]) -> Loaded:
    """Read all pages of a TIFF file, or all files of a folder, as `(pages, rows, columns)`; one page as an image.

    Values are as stored, counts stay counts (`reader="image"` reads a picture as values between 0 and 1). The
    files of a folder are in the order of the numbers in their names (2 before 10). `pixel_size` is what
    ImageJ wrote, or a resolution per centimetre.

    Raises:
        LoadError: no TIFF, truncated or damaged, colours, pages or files of different sizes or types, or a
            compression that needs a library that is not installed.
    """
    files = [path]
    if path.is_dir():
        files = sorted(
            (file for file in folder_files(path) if folder_ending(file) in SUFFIXES), key=_by_number
        )
        if not files:
            raise LoadError(f"{path}: no TIFF files")
    pages: list[np.ndarray] = []
    remarks: list[str] = []
    pixel_size: tuple[float, ...] | None = None
    for file in files:
        with reading(file, TIFF) as heard, _errors_raised():
            values, pixel_size = _read(file)
        if pages and (values.shape, values.dtype) != (pages[0].shape, pages[0].dtype):
            raise LoadError(
                f"{file}: holds {values.dtype} of shape {values.shape}, the files before it "
                f"{pages[0].dtype} of shape {pages[0].shape}"
            )
        if path.is_dir() and values.ndim != 2:
            raise LoadError(f"{file}: holds {values.shape[0]} pages; in a folder, a file is one slice")
        pages.append(values)
        remarks.extend(heard)
    array = np.stack(pages) if path.is_dir() else pages[0]
    attributes: dict[str, Any] = {"stored": str(array.dtype)}
    if remarks:
        attributes["warnings"] = tuple(dict.fromkeys(remarks))
    return Loaded(
        data=to_tensor(array, f"{path}: its stack"),
        pixel_size=None if pixel_size is None else pixel_size[-min(array.ndim, len(pixel_size)) :],
        attributes=attributes,
        source=str(path),
    )


def _by_number(file: Path) -> list[tuple[int, str]]:
    """Numbers in a name count as numbers."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", file.name)]


@contextmanager
def _errors_raised() -> Iterator[None]:
    """The library logs some damage and goes on; here it is an error."""
    logger = logging.getLogger("tifffile")
    said: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
    if said:
        raise ValueError(said[0])


def _read(path: Path) -> tuple[np.ndarray, tuple[float, ...] | None]:
    """The values, (rows, columns) or (pages, rows, columns), and the size of a pixel."""
    with tifffile.TiffFile(path) as file:
        if len(file.series) != 1:
            shapes = ", ".join(str(series.shape) for series in file.series[:6])
            raise LoadError(f"{path}: its pages are of {len(file.series)} kinds ({shapes}); split the file")
        series = file.series[0]
        _check_size(path, series)
        axes = series.get_axes(squeeze=True)
        if "S" in axes or "C" in axes:
            raise LoadError(f"{path}: holds colours or channels ({axes}); reader='image' reads pictures")
        values = series.asarray(squeeze=True, maxworkers=1)
        if values.ndim not in (2, 3) or not axes.endswith("YX"):
            raise LoadError(
                f"{path}: has axes {axes} of shape {values.shape}, expected pages of rows and columns"
            )
        return values, _pixel_size(file)


def _check_size(path: Path, series: tifffile.TiffPageSeries) -> None:
    """Every declared byte must be in the file; nothing is allocated before."""
    size = path.stat().st_size
    compressed = False
    for page in series.pages:
        if page is None:
            continue
        ends = [at + count for at, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if not ends or max(ends) > size or min(page.databytecounts) < 1:
            raise LoadError(f"{path}: truncated or damaged: a page lies beyond the end of its {size} bytes")
        compressed |= page.keyframe is not None and page.keyframe.compression != 1
    needed = math.prod(series.shape) * series.dtype.itemsize
    if needed > size * (LARGEST_COMPRESSION if compressed else 1):
        raise LoadError(f"{path}: declares {needed} bytes in shape {series.shape}, the file holds {size}")


def _pixel_size(file: tifffile.TiffFile) -> tuple[float, ...] | None:
    """(rows, columns), or (slices, rows, columns) where ImageJ wrote a distance of slices [mm]."""
    tags = file.pages.first.tags
    imagej = file.imagej_metadata or {}
    unit = MILLIMETRES.get(str(imagej.get("unit", "")))
    if unit is None and "ResolutionUnit" in tags and int(tags["ResolutionUnit"].value) == CENTIMETRE:
        unit = 10.0
    if unit is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    sizes = []
    for name in ("YResolution", "XResolution"):
        per_unit, over = tags[name].value
        if per_unit <= 0 or over <= 0:
            return None
        sizes.append(unit * over / per_unit)
    spacing = float(imagej.get("spacing", 0))
    return (unit * spacing, *sizes) if spacing > 0 and math.isfinite(spacing) else tuple(sizes)
