"""Public collections that the user has downloaded: what they are called, where they are to be had, and splits."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from recon.loading import LoadError

Split = Literal["train", "validation", "test", "all"]
SPLITS = ("train", "validation", "test")
LISTED = 5


class Pair(NamedTuple):
    """Measured data, or a degraded image, and the image that belongs to them; a `DataLoader` batches both."""

    data: Tensor
    image: Tensor


@dataclass(frozen=True)
class Collection:
    """A public collection.

    Attributes:
        name: what it is called.
        doi: where it is described and to be had.
        layout: the files that a local copy has, in words.
    """

    name: str
    doi: str
    layout: str

    def missing(self, folder: Path, what: str) -> FileNotFoundError:
        """The error for a folder that is not there or lacks files: what was expected, and where it is had."""
        return FileNotFoundError(
            f"{folder}: {what}; a local copy of {self.name} has {self.layout}. It is not downloaded for you: "
            f"obtain it under its own terms ({self.doi}) and name its folder"
        )

    def folder(self, folder: Path) -> Path:
        """The folder, if it is one and holds something.

        Raises:
            FileNotFoundError: it does not.
        """
        folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise self.missing(folder, "is a file" if folder.exists() else "no such folder")
        if not any(folder.iterdir()):
            raise self.missing(folder, "is empty")
        return folder


def split_patients(
    patients: Iterable[str], fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0
) -> dict[str, tuple[str, ...]]:
    """Deal patients out to train, validation and test; the same for the same names and seed, on every machine.

    No patient is in two splits. The order of `patients` does not matter. Each split gets its fraction of the
    patients, rounded.

    Args:
        patients: their names.
        fractions: of train, validation and test; they sum to 1.
        seed: another one deals differently.

    Raises:
        ValueError: fractions that are negative or do not sum to 1.
    """
    if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise ValueError(f"fractions of train, validation and test must sum to 1, got {tuple(fractions)}")
    dealt = sorted(set(patients), key=lambda name: (hashlib.sha256(f"{seed}:{name}".encode()).digest(), name))
    first = round(fractions[0] * len(dealt))
    second = round((fractions[0] + fractions[1]) * len(dealt))
    parts = dealt[:first], dealt[first:second], dealt[second:]
    return {name: tuple(sorted(part)) for name, part in zip(SPLITS, parts, strict=True)}


def chosen_patients(
    patients: Iterable[str], split: str, fractions: Sequence[float], seed: int, where: Path
) -> tuple[str, ...]:
    """The patients of one split, or all of them.

    Raises:
        LoadError: there is none in it.
    """
    patients = sorted(set(patients))
    chosen = tuple(patients) if split == "all" else split_patients(patients, fractions, seed)[split]
    if not chosen:
        raise LoadError(
            f"{where}: the split '{split}' of {len(patients)} patients with fractions {tuple(fractions)} is empty"
        )
    return chosen


def checked_index(index: int, length: int, what: str) -> int:
    """A position from the front; negative ones count from the end."""
    if not -length <= index < length:
        raise IndexError(f"{what} has {length} items, there is no {index}")
    return index % length


def some(names: Sequence[str]) -> str:
    """A few names of many."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
