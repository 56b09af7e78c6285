"""Inputs and true images that lie in two folders: paired by the names of their files, or two kinds of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from recon.loading import without_suffix
from recon.training.setup import WATER, named_operator, takes_attenuation
from recon.training.sources import Images, Pairs, Unpaired, as_source

NAMED = 3  # files without a mate that an error names


def from_two_folders(
    inputs: str | Path, targets: str | Path, *, unpaired: bool = False, op: Any = None
) -> tuple[Pairs | Unpaired, Any]:
    """What is trained on where inputs and targets lie apart, and the operator.

    Args:
        inputs: folder of degraded images, or of data measured by the operator, one scan or several in a file
            ``(..., *range_shape)``; a subfolder is one patient.
        targets: folder of the true images, their files called as those of the inputs but for the suffix
            that a reader has (such as .nii and .nii.gz); of unpaired images those of the other kind, in files of any
            name.
        unpaired: whether no input belongs to any target.
        op: the operator, or its name, which takes shape and pixel size from the true images; None for none. Where it
            is of CT and named, HU become 1/mm.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: files without a mate, or with another number of slices than theirs; they are named.
        TypeError: problem files, which hold their own references.
    """
    for folder in (inputs, targets):
        if not Path(folder).exists():
            raise FileNotFoundError(f"there is no folder {folder}")
    water = WATER if takes_attenuation(op) else None
    second = _images(targets, water)
    if unpaired:
        return Unpaired(_images(inputs, water), second), op
    operator = named_operator(op, second) if isinstance(op, str | tuple) else op
    first = _images(inputs, water, None if operator is None else tuple(operator.range_shape))
    pairs = _Pairs(first, second, str(inputs), str(targets))
    measured = operator is not None and tuple(pairs[0][0].shape) == tuple(operator.range_shape)
    count = f"{len(pairs)} pair{'' if len(pairs) == 1 else 's'}"
    text = f"{count} in {Path(inputs).name} and {Path(targets).name}"
    return Pairs(pairs, text, measured=measured, groups=first.group, operator=operator), operator


class _Pairs:
    """The slices of two folders, those in files of one name beside each other."""

    def __init__(self, first: Images, second: Images, inputs: str, targets: str) -> None:
        self.first, self.second = first, second
        ours, theirs = _by_name(first), _by_name(second)
        lonely = [
            f"{folder} has no {_listed(names)}"
            for folder, names in ((targets, [*ours.keys() - theirs]), (inputs, [*theirs.keys() - ours]))
            if names
        ]
        if lonely:
            raise ValueError(
                f"{'; '.join(lonely)}: inputs and targets are paired by the names of their files, whatever the suffix"
            )
        self.mates = []
        for name, places in ours.items():
            if len(places) != len(theirs[name]):
                raise ValueError(
                    f"{name} holds {len(places)} slices or scans in {inputs} and {len(theirs[name])} in {targets}: "
                    f"paired files hold as many{_scans_of(first)}"
                )
            self.mates += list(zip(places, theirs[name], strict=True))
        self.mates.sort()

    def __len__(self) -> int:
        return len(self.mates)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        own, other = self.mates[place]
        return self.first.items[own], self.second.items[other]


def _images(folder: str | Path, water: float | None, item_shape: tuple[int, ...] | None = None) -> Images:
    source = as_source(Path(folder), water=water, item_shape=item_shape)
    if not isinstance(source, Images):
        raise TypeError(
            f"{folder} holds problem files, which have references of their own: leave targets out"
        )
    return source


def _by_name(source: Images) -> dict[str, list[int]]:
    """Places of the slices of each file, by its path below the folder without the suffix that its reader has.

    Raises:
        ValueError: two files of one name.
    """
    files = source.items
    root: Path = files.root  # type: ignore[attr-defined]
    found: dict[str, list[int]] = {}
    kept: dict[str, Path] = {}
    for place, (file, _) in enumerate(files.places):  # type: ignore[attr-defined]
        inside = file.relative_to(root) if root.is_dir() else Path(file.name)
        name = without_suffix(inside).as_posix()
        if kept.setdefault(name, file) != file:
            raise ValueError(
                f"{kept[name]} and {file} differ in their suffix alone: neither can be paired by name"
            )
        found.setdefault(name, []).append(place)
    return found


def _scans_of(source: Images) -> str:
    """For an error: which files would be read as scans."""
    shape = source.items.item_shape  # type: ignore[attr-defined]
    return "" if shape is None else f", and scans of the operator have the shape {shape}"


def _listed(names: Sequence[str]) -> str:
    shown = sorted(names)[:NAMED]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")
