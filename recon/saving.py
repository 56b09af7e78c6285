"""Saving an image as one file of a common format: `save` picks the writer of a suffix."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon import registry
from recon.entries import WriterEntry
from recon.files import folder_written_whole, written_whole
from recon.loading import Loaded
from recon.solution import Solution


def save(
    path: str | os.PathLike[str],
    image: Tensor | np.ndarray[Any, Any] | Solution | Loaded,
    *,
    like: Loaded | None = None,
    unit: str | None = None,
    pixel_size: Sequence[float] | None = None,
    writer: str | None = None,
    **options: Any,
) -> Path:
    """Write one image or volume with the writer registered for the suffix, whole or not at all.

    ``recon.save("ct.nii.gz", solution, like=loaded)`` keeps the geometry of the image that was loaded;
    ``recon.save("ct.png", mu, window=(0, 0.03))`` is to look at. `Solution.save` writes a whole result.

    Args:
        path: the file to write; an existing one is replaced. A folder, new or empty, where `writer` writes one
            file a slice (``writer="dicom"``).
        image: ``(rows, columns)``, or ``(slices, rows, columns)`` where the format takes it.
        like: the image whose grid this one is on: its pixel size, place in the patient, padding and
            description are taken over; its unit is not.
        unit: unit of the values; the image's own if it has one. "HU" and "1/mm" mean something to DICOM.
        pixel_size: distances of neighbouring pixels along the last axes [mm], without `like`.
        writer: name of the writer to use whatever the suffix is (`recon list writers`).
        options: what the writer takes, such as ``window=(0, 0.03)`` (`recon show writer png`).

    Returns:
        The path written.

    Raises:
        ValueError: no writer for the suffix, an image that the format cannot hold, or one that is not on the
            grid of `like`.
        LookupError: no writer of that name. TypeError: an option that the writer does not take.
        OSError: `path` cannot be written to.
    """
    target = Path(path).expanduser()
    name, in_folder = _writer_for(target, writer)
    loaded = _described(image, like, unit, pixel_size)
    if isinstance(image, Solution):
        options = _known_options(image, name) | options
    if target.is_dir() and not in_folder:
        raise IsADirectoryError(f"{target} is a folder: name a file in it, such as {target / 'image.nii.gz'}")
    with folder_written_whole(target) if in_folder else written_whole(target) as place:
        registry.make("writer", name, path=place, image=loaded, **options)
    return target


def _writer_for(target: Path, wanted: str | None) -> tuple[str, bool]:
    """The writer's name, and whether it is to write a folder."""

    def ends(entry: WriterEntry) -> list[str]:
        return [suffix for suffix in entry.suffixes if target.name.lower().endswith(suffix)]

    if wanted is not None:
        found = registry.find("writer", wanted)
        assert isinstance(found.entry, WriterEntry)
        return found.name, found.entry.folders and not ends(found.entry)
    writers = {
        item.name: item.entry for item in registry.items("writer") if isinstance(item.entry, WriterEntry)
    }
    longest = {name: max(map(len, ends(entry))) for name, entry in writers.items() if ends(entry)}
    names = [name for name, length in longest.items() if length == max(longest.values())]
    if not names:
        known = sorted({suffix for entry in writers.values() for suffix in entry.suffixes})
        folders = [name for name, entry in writers.items() if entry.folders]
        raise ValueError(
            f"{target}: no writer for the suffix '{target.suffix}'; known are {', '.join(known) or 'none'}; "
            f"a folder of slices is written by writer= one of: {', '.join(folders) or 'none'}"
        )
    if len(names) > 1:
        raise ValueError(
            f"{target}: several writers take this suffix: {', '.join(names)}; choose one with writer=NAME"
        )
    return names[0], False


def _as_tensor(image: Any) -> Tensor:
    """The image as a tensor of its own type; arrays may be flipped views or of another byte order."""
    if isinstance(image, Tensor):
        return image
    array = np.asarray(image)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def _described(
    image: Tensor | np.ndarray[Any, Any] | Solution | Loaded,
    like: Loaded | None,
    unit: str | None,
    pixel_size: Sequence[float] | None,
) -> Loaded:
    """The image with all that is known of it."""
    if like is not None and not isinstance(like, Loaded):
        raise TypeError(f"like is what recon.load returned, got {type(like).__name__}")
    if isinstance(image, Loaded):
        data, own_unit = image.data, image.unit
        like = image if like is None and pixel_size is None else like
    elif isinstance(image, Solution):
        data, own_unit = image.image, str(_notes(image).get("unit", ""))
        pixel_size = _own_pixel_size(image) if like is None and pixel_size is None else pixel_size
    else:
        data, own_unit = _as_tensor(image), ""
    data = data.detach().cpu().resolve_conj().resolve_neg()
    found = Loaded(data=data, unit=own_unit if unit is None else unit)
    if like is not None:
        if pixel_size is not None:
            raise ValueError("give like= or pixel_size=, not both: like has a pixel size of its own")
        return _on_grid_of(found, like)
    if pixel_size is None:
        return found
    sizes = tuple(float(size) for size in pixel_size)
    if not 2 <= len(sizes) <= min(3, data.ndim) or not all(0 < size < float("inf") for size in sizes):
        raise ValueError(
            f"pixel_size must be 2 or 3 distances in mm, one for each of the last axes of an image of shape "
            f"{tuple(data.shape)}; got {pixel_size}"
        )
    return dataclasses.replace(found, pixel_size=sizes)


def _on_grid_of(found: Loaded, like: Loaded) -> Loaded:
    """The image with the geometry of `like`: the whole of it, or that in the plane for a slice of a volume."""
    shape, grid = tuple(found.data.shape), tuple(like.data.shape)
    axes = min(3, found.data.ndim, like.data.ndim)
    if shape[-axes:] != grid[-axes:]:
        raise ValueError(
            f"the image of shape {shape} is not on the grid of like {grid} ({like.source}): give pixel_size= instead"
        )
    whole = found.data.ndim == like.data.ndim
    size = like.pixel_size
    return dataclasses.replace(
        found,
        pixel_size=size if whole or size is None else size[-2:],
        affine=like.affine if whole else None,
        valid=like.valid if shape == grid else None,
        attributes=like.attributes,
        source=like.source,
    )


def _notes(solution: Solution) -> dict[str, Any]:
    """What its problem's notes say, in memory or in the record of `recon solve`."""
    if solution.problem is not None:
        return solution.problem.notes
    notes: dict[str, Any] = solution.provenance.get("problem", {}).get("notes", {})
    return notes


def _own_pixel_size(solution: Solution) -> tuple[float, ...] | None:
    """The distances of pixels [mm] that the problem's notes or the operator's arguments say."""
    own = _notes(solution).get("pixel_size")
    if own is None:
        own = solution.provenance.get("operator", {}).get("arguments", {}).get("pixel_size")
    axes = min(3, solution.item_ndim)
    if isinstance(own, int | float):
        return (float(own),) * axes if axes >= 2 else None
    return tuple(float(size) for size in own[-axes:]) if isinstance(own, list | tuple) and axes >= 2 else None


def _known_options(solution: Solution, writer: str) -> dict[str, Any]:
    """The attenuation of water that made 1/mm of HU, for a writer that turns it back."""
    water = _notes(solution).get("water")
    takes = {parameter.name for parameter in registry.find("writer", writer).parameters()}
    return {"water": water} if water is not None and "water" in takes else {}
