"""Images to compare: of a solution, of a problem that holds its reference, or of any other file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.commands.existing import PROBLEM, SOLUTION, kind_of
from recon.files import checksum
from recon.parameters import parse_spec

if TYPE_CHECKING:
    from torch import Tensor

    from recon.loading import Loaded
    from recon.solution import Solution

WATER = 0.02  # 1/mm, at an effective energy of about 65 keV
AIR = -1000.0  # HU


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadImage:
    """An image, or a batch of them, and what is known of its values.

    Attributes:
        data: ``(*batch, *item)``.
        item_ndim: how many trailing axes make one image.
        unit: of the values: "HU", "1/mm", ...; "" if unknown.
        water: attenuation of water [1/mm] that attenuation was made with from HU, if known.
        source: where it was read, in words.
        problem: the file of the problem that a solution solves, with its checksum; {} if unknown.
        solution: what the image was read from, if it was a solution; its image keeps its own unit.
    """

    data: Tensor
    item_ndim: int = 2
    unit: str = ""
    water: float | None = None
    source: str = ""
    problem: dict[str, Any] = dataclasses.field(default_factory=dict)
    solution: Solution | None = None

    def as_attenuation(self, water: float) -> ReadImage:
        """An image in HU as attenuation in 1/mm; nothing is below 0."""
        data = (water * (1 + self.data / 1000)).clamp_min(0)
        source = f"{self.source}, HU converted to 1/mm with water at {water:g} 1/mm"
        return dataclasses.replace(self, data=data, unit="1/mm", water=water, source=source)


def load_file(path: str, reader: str | None) -> Loaded:
    """Read a file with `recon.load`, or a sample data set that ships with a plugin, by its name.

    Args:
        path: the file; the name of a data set (`recon list datasets`) if there is no such file.
        reader: a reader with its options, such as ``"matlab:variable=image"``; None goes by the suffix.
    """
    from recon import registry
    from recon.loading import load

    if (
        reader is None
        and not Path(path).exists()
        and path in {item.entry.name for item in registry.items("dataset")}
    ):
        sample: Loaded = registry.make("dataset", path)
        return sample
    if reader is None:
        return load(path)
    name, options = parse_spec(reader)
    return load(path, reader=name, **options)


def read_image(path: str, reader: str | None) -> ReadImage:
    """The image of a solution (its folder or its .h5), the reference of a problem, or the image in any file.

    Padding in a CT image counts as air.

    Raises:
        OSError, ValueError: there is nothing of the kind, or a file is damaged.
    """
    place = Path(path)
    kind = "" if reader else kind_of(place)
    of_slices = (
        place.is_dir()
        and not (place / "solution.h5").exists()
        and any(item.is_file() for item in place.iterdir())
    )
    if not reader and (kind == SOLUTION or (place.is_dir() and not of_slices)):
        return _of_solution(place)
    if kind == PROBLEM:
        return reference_of(place)
    loaded = load_file(path, reader)
    data = loaded.data
    if loaded.valid is not None and loaded.unit == "HU":
        data = data.where(loaded.valid, AIR)
    return ReadImage(data=data, item_ndim=min(2, data.ndim), unit=loaded.unit, source=loaded.source)


def reference_of(path: Path) -> ReadImage:
    """The reference inside a problem's file.

    Raises:
        ValueError: the problem has no reference.
    """
    from recon.problem import Problem

    problem = Problem.load(path)
    if problem.reference is None:
        raise ValueError(f"{path} holds measured data without a reference: give one with --reference FILE")
    return ReadImage(
        data=problem.unflatten(problem.reference),
        item_ndim=len(problem.operator.domain_shape),
        unit=str(problem.notes.get("unit", "")),
        water=problem.notes.get("water"),
        source=f"the reference in {path}",
    )


def reference_of_solution(image: ReadImage) -> ReadImage:
    """The reference of the problem that a solution was made from, where that file still is as it was.

    Raises:
        ValueError: no problem is known, or its file is gone or has changed.
    """
    remedy = "give the true image with --reference FILE"
    if not image.problem:
        raise ValueError(f"nothing to compare {image.source} with: {remedy}")
    path = Path(image.problem["file"])
    if not path.is_file():
        raise ValueError(f"the problem {path} that {image.source} was made from is gone: {remedy}")
    if checksum(path) != image.problem["sha256"]:
        raise ValueError(f"{path} has changed since {image.source} was made from it: {remedy}")
    return reference_of(path)


def reference_of_solutions(images: Sequence[ReadImage]) -> ReadImage:
    """The one reference of the problems that several solutions were made from; other images need none.

    Raises:
        ValueError: no problem is known, its file is gone or has changed, or two problems differ in it.
    """
    known = {image.problem["sha256"]: image for image in images if image.problem}
    if not known:
        return reference_of_solution(images[0])  # which says what is missing
    first, *others = known.values()
    reference = reference_of_solution(first)
    for image in others:
        other = reference_of_solution(image)
        same = other.data.shape == reference.data.shape and bool((other.data == reference.data).all())
        if not same or (other.unit, other.water) != (reference.unit, reference.water):
            raise ValueError(
                f"{first.source} and {image.source} were made from problems with different references: "
                "give one for all with --reference FILE"
            )
    return reference


def _of_solution(path: Path) -> ReadImage:
    from recon.solution import Solution

    solution = Solution.load(path)
    problem = solution.provenance.get("problem", {})
    notes = problem.get("notes", {})
    return ReadImage(
        data=solution.image,
        item_ndim=solution.item_ndim,
        unit=notes.get("unit", ""),
        water=notes.get("water"),
        source=f"the solution in {path}",
        problem=problem if "file" in problem else {},
        solution=solution,
    )
