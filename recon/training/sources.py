"""What is trained on: images, pairs, measured data alone, unpaired collections; from tensors, data sets, files."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from recon.training.objective import seeded
from recon.values import as_numbers

CACHED_BYTES = 2**30  # of decoded files that stay in memory


@dataclasses.dataclass(frozen=True)
class Sample:
    """One sample in its own unit: what was measured, a degraded image, a true image; whatever there is."""

    target: Tensor | None = None
    input: Tensor | None = None
    data: Tensor | None = None


class Source(Protocol):
    """Samples by place; `group` names whose they are, for splits by patient."""

    description: str

    def __len__(self) -> int: ...

    def sample(self, place: int) -> Sample:
        """The sample at a place."""

    def group(self, place: int) -> str:
        """Whose sample it is: samples of one group are on the same side of every split."""


class Items(Protocol):
    """A collection with a length whose items are asked for by place."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> Any: ...


class Images:
    """Images alone: targets, of which data are simulated, or to which noise is added.

    Args:
        items: a sequence of images.
        description: in words, for the model card.
        groups: whose each image is; None: each its own.
    """

    def __init__(self, items: Items, description: str, groups: Callable[[int], str] | None = None) -> None:
        self.items, self.description, self._groups = items, description, groups

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, place: int) -> Sample:
        """The image at a place."""
        return Sample(target=_checked(self.items[place], f"image {place} of {self.description}"))

    def group(self, place: int) -> str:
        """Whose it is."""
        return str(place) if self._groups is None else self._groups(place)


class Pairs:
    """Pairs: measured data, or degraded images, and the true image of each.

    Args:
        items: a sequence of pairs (data or degraded image, true image).
        description: in words, for the model card.
        measured: whether the first of a pair are measured data.
        groups: whose each pair is; None: each its own.
        operator: what measured the data, where it is known.
    """

    def __init__(
        self,
        items: Items,
        description: str,
        *,
        measured: bool,
        groups: Callable[[int], str] | None = None,
        operator: Any = None,
    ) -> None:
        self.items, self.description, self.measured, self._groups = items, description, measured, groups
        self.operator = operator

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, place: int) -> Sample:
        """The pair at a place."""
        label = f"pair {place} of {self.description}"
        first, second = self.items[place]
        given, target = _checked(first, f"the first of {label}"), _checked(second, f"the second of {label}")
        if self.measured:
            return Sample(target=target, data=given)
        if given.shape != target.shape:
            raise ValueError(
                f"{label} does not match: an image {tuple(given.shape)} beside a true image "
                f"{tuple(target.shape)}"
            )
        return Sample(target=target, input=given)

    def group(self, place: int) -> str:
        """Whose it is."""
        return str(place) if self._groups is None else self._groups(place)


class Measurements:
    """Measured data alone: nothing is known of the true images.

    Args:
        items: a sequence of data of one operator; of pairs in it, the first.
        description: in words, for the model card.
        groups: whose each is; None: each its own.
        operator: what measured the data, where it is known.
    """

    def __init__(
        self,
        items: Items,
        description: str = "measured data",
        groups: Callable[[int], str] | None = None,
        operator: Any = None,
    ) -> None:
        self.items, self.description, self._groups, self.operator = items, description, groups, operator

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, place: int) -> Sample:
        """The data at a place."""
        item = self.items[place]
        data = item[0] if isinstance(item, tuple | list) else item
        return Sample(data=_checked(data, f"measurement {place} of {self.description}"))

    def group(self, place: int) -> str:
        """Whose they are."""
        return str(place) if self._groups is None else self._groups(place)


class Unpaired:
    """Two collections that have nothing to do with each other: inputs of one, targets of the other.

    A sample is the input at its place and a target drawn at random, anew in every epoch.

    Args:
        inputs: images of the one kind: whatever `as_source` takes for images.
        targets: images of the other kind.
    """

    def __init__(self, inputs: Any, targets: Any) -> None:
        first, second = as_source(inputs, label="inputs"), as_source(targets, label="targets")
        if not isinstance(first, Images) or not isinstance(second, Images):
            raise TypeError("unpaired data are two collections of images, not of pairs")
        self.inputs, self.targets = first, second
        self.description = f"{first.description} beside {second.description}, unpaired"

    def __len__(self) -> int:
        return len(self.inputs)

    def sample(self, place: int, draw: int = 0) -> Sample:
        """The input at a place, and the target that `draw` stands for."""
        other = int(torch.randint(len(self.targets), (), generator=seeded(draw, place, 7)))
        return Sample(target=self.targets.sample(other).target, input=self.inputs.sample(place).target)

    def group(self, place: int) -> str:
        """Whose input it is."""
        return self.inputs.group(place)


def as_source(
    data: Any,
    *,
    op: Any = None,
    label: str = "data",
    planes: int = 2,
    water: float | None = None,
    measured: bool = False,
    item_shape: tuple[int, ...] | None = None,
) -> Any:
    """What is trained on, from what a user gives.

    Args:
        data: images ``(N, *shape)`` as a tensor or an array; a list of images; two of these as a tuple: the first of
            pairs and the true images; a data set with a length whose items are images or pairs; the name of one
            (``"ellipses:size=64"``, ``("patients", {"folder": ...})``); a file or a folder of files that
            `recon.load` reads, or of problem files; or a source already (`Measurements` among them).
        op: the operator: the first of pairs that have the shape of its data are data.
        label: for errors.
        planes: trailing axes of one image in a file; leading axes are slices.
        water: attenuation of water [1/mm] by which files in HU become 1/mm; None leaves HU.
        measured: measured data alone will do: what is no pair and has the shape of the operator's data is data, and
            problem files need no reference.
        item_shape: shape of one item where files hold something else than planes, such as scans of several coils
            ``(..., *item_shape)``; files of another shape are cut into planes.

    Raises:
        ValueError, TypeError, OSError: nothing to train on, pairs that do not match, or images that might be data.
    """
    if isinstance(data, Images | Pairs | Measurements | Unpaired):
        return data
    if isinstance(data, Path) or (isinstance(data, str) and Path(data).exists()):
        if measured and op is not None:
            item_shape = tuple(op.range_shape)
        return _of_files(
            Path(data), op=op, planes=planes, water=water, measured=measured, item_shape=item_shape
        )
    if isinstance(data, str) or (isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], str)):
        from recon import registry

        name = data if isinstance(data, str) else data[0]
        try:
            data = registry.make("dataset", data)
        except registry.UnknownNameError as error:
            if "/" in name or name.startswith("."):
                raise FileNotFoundError(f"there is no file or folder {name}") from None
            raise registry.UnknownNameError(f"{error} Nor is there a file or folder {name!r}.") from None
        label = name
        if hasattr(data, "data") and isinstance(data.data, Tensor):  # a sample: one scan
            data = _planes_of(data, planes, water)
    if isinstance(data, tuple) and len(data) == 2:
        return _of_two(data, op, label)
    if isinstance(data, Tensor) or hasattr(data, "__array__"):
        images = as_numbers(data, label)
        if measured and len(images) and _may_be_data(images[0], op, label):
            return Measurements(images, f"{_counted(len(images), 'measurement')} given as a tensor")
        if images.ndim < planes + 1:
            raise ValueError(
                f"{label} of shape {tuple(images.shape)} is a single image: give images (N, *shape)"
            )
        return Images(images, f"{_counted(len(images), 'image')} given as a tensor")
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise TypeError(
            f"{label} must be images (a tensor, a list), pairs, a data set, a file or a folder, got "
            f"{type(data).__name__}" + ("; there is no such file or folder" if isinstance(data, str) else "")
        )
    return _of_dataset(data, op, label, measured)


def split(source: Any, validation: float, seed: int) -> tuple[list[int], list[int]]:
    """Places to train on and places to validate on; whole groups (patients) on one side.

    The same for the same names and seed, whatever the order.

    Raises:
        ValueError: a fraction outside [0, 1), or too few groups.
    """
    if not 0 <= validation < 1:
        raise ValueError(f"validation is a fraction in [0, 1) or data of its own, got {validation}")
    places = list(range(len(source)))
    if validation == 0:
        return places, []
    groups = [source.group(place) for place in places]
    names = sorted(set(groups), key=lambda name: (hashlib.sha256(f"{seed}:{name}".encode()).digest(), name))
    held = max(1, round(validation * len(names)))
    if held >= len(names):
        whole = "1 patient or image" if len(names) == 1 else f"{len(names)} patients or images"
        raise ValueError(
            f"{source.description}: validation={validation:g} would hold out all of {whole}, and leave none to train "
            "on (a file, or a subfolder, is one patient's): say validation=0 to train without, give validation data of "
            "their own, or more patients"
        )
    apart = set(names[:held])
    return (
        [place for place in places if groups[place] not in apart],
        [place for place in places if groups[place] in apart],
    )


def _checked(image: Any, label: str) -> Tensor:
    tensor = as_numbers(getattr(image, "data", image) if not isinstance(image, Tensor) else image, label)
    if tensor.dtype == torch.float64:
        tensor = tensor.float()
    elif tensor.dtype == torch.complex128:
        tensor = tensor.to(torch.complex64)
    if not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).sum())
        raise ValueError(f"{label} holds {bad} NaN or infinite of {tensor.numel()} values")
    return tensor


def _is_data(first: Tensor, op: Any) -> bool:
    return op is not None and tuple(first.shape) == tuple(op.range_shape)


def _may_be_data(first: Tensor, op: Any, label: str) -> bool:
    """Whether what is no pair is data rather than an image; where both have one shape, nobody can tell."""
    if not _is_data(first, op):
        return False
    if tuple(op.range_shape) == tuple(op.domain_shape):
        raise ValueError(
            f"{label} of shape {tuple(first.shape)} may be images or data of {type(op).__name__}: say which, "
            "data=Measurements(y) or data=Images(x, 'images'), both from recon.training; in a terminal, data are in "
            "problem files, as recon simulate and Problem.save write them"
        )
    return True


def _of_two(data: tuple[Any, Any], op: Any, label: str) -> Pairs:
    first, second = data
    if len(first) != len(second):
        raise ValueError(f"{label}: {len(first)} inputs beside {len(second)} true images: they must be pairs")
    if not len(first):
        raise ValueError(f"{label} is empty: nothing to train on")
    measured = _is_data(_checked(first[0], label), op)
    return Pairs(
        list(zip(first, second, strict=True)), f"{_counted(len(first), 'pair')} given", measured=measured
    )


def _of_dataset(data: Any, op: Any, label: str, measured: bool) -> Any:
    if not len(data):
        raise ValueError(f"{label} is empty: nothing to train on")
    first = data[0]
    groups = getattr(data, "patient_of", None)
    name = type(data).__name__
    split_name = getattr(data, "split", getattr(data, "part", ""))
    text = f"{len(data)} items of {label if name in ('list', 'tuple') else name}"
    text += f", split {split_name}" if isinstance(split_name, str) and split_name else ""
    if isinstance(first, tuple | list) and len(first) == 2:
        return Pairs(data, text, measured=_is_data(_checked(first[0], label), op), groups=groups)
    if measured and _may_be_data(_checked(first, label), op, label):
        return Measurements(data, text, groups)
    return Images(data, text, groups)


def _of_files(
    path: Path,
    *,
    op: Any,
    planes: int,
    water: float | None,
    measured: bool,
    item_shape: tuple[int, ...] | None,
) -> Any:
    """The images, or the problems, in a file or below a folder; a subfolder is one patient."""
    if path.is_dir():
        files = sorted(
            item
            for item in path.rglob("*")
            if item.is_file() and not any(part.startswith(".") for part in item.relative_to(path).parts)
        )
    else:
        files = [path]
    if not files:
        raise ValueError(f"{path} holds no file: nothing to train on")
    loaded = _Files(files, path, planes, water, item_shape)
    if loaded.problems:
        text = f"{_counted(len(loaded), 'problem')} in {path.name}"
        if loaded.unknown is not None:
            if not measured:
                raise ValueError(
                    f"{loaded.unknown} holds data without a reference: there is no true image to learn from; of data "
                    "alone learn objective='noise2inverse' (views) and 'ssdu' (k-space)"
                )
            return Measurements(loaded, f"{text}, without references", loaded.group, loaded.operator)
        return Pairs(loaded, text, measured=True, groups=loaded.group, operator=loaded.operator)
    text = f"{_counted(len(loaded), 'image')} in {path.name}"
    if measured and _may_be_data(_checked(loaded[0], text), op, text):
        return Measurements(loaded, text.replace("image", "measurement", 1), loaded.group)
    return Images(loaded, text, loaded.group)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


class _Files:
    """The slices in files, one after the other; decoded files stay in memory up to a limit."""

    def __init__(
        self,
        files: Sequence[Path],
        root: Path,
        planes: int,
        water: float | None,
        item_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.root, self.planes, self.water, self.item_shape = root, planes, water, item_shape
        self.places: list[tuple[Path, int]] = []
        self.cache: dict[Path, Any] = {}
        self.held = 0
        self.operator: Any = None
        self.unknown: Path | None = None  # the first problem without a reference
        self.pixel_sizes: set[float] = set()  # mm
        kinds = set()
        for file in files:
            content = self._read(file)
            kinds.add(isinstance(content, list))
            self.places += [(file, number) for number in range(len(content))]
        if len(kinds) > 1:
            raise ValueError(f"{root} holds both images and problem files: train on one kind")
        self.problems = kinds == {True}

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: int) -> Any:
        file, number = self.places[place]
        return self._read(file)[number]

    def group(self, place: int) -> str:
        """The first folder below the root, or the file itself."""
        parts = self.places[place][0].relative_to(self.root).parts if self.root.is_dir() else ()
        return parts[0] if parts else self.root.name

    def _read(self, file: Path) -> Any:
        """The slices of a file ``(slices, *plane)``, or (data, reference) of each item of a problem."""
        if file in self.cache:
            return self.cache[file]
        content: Any = self._problem(file)
        if content is None:
            from recon.loading import load

            loaded = load(file)
            self.pixel_sizes |= set() if loaded.pixel_size is None else {round(loaded.pixel_size[-1], 5)}
            whole = loaded.data
            if self.item_shape is not None and tuple(whole.shape[-len(self.item_shape) :]) == self.item_shape:
                content = whole.reshape(-1, *self.item_shape)
            else:
                content = _planes_of(loaded, self.planes, self.water)
        size = sum(
            part.nbytes
            for pair in content
            for part in (pair if isinstance(pair, tuple) else (pair,))
            if part is not None
        )
        if self.held + size <= CACHED_BYTES:
            self.cache[file] = content
            self.held += size
        return content

    def _problem(self, file: Path) -> list[tuple[Tensor, Tensor | None]] | None:
        """Data and reference, if there is one, of a problem's items; None for every other file."""
        from recon.commands.existing import PROBLEM, kind_of

        if file.suffix not in (".h5", ".hdf5") or kind_of(file) != PROBLEM:
            return None
        from recon.learned import operator_digest
        from recon.problem import Problem

        problem = Problem.load(file)
        if problem.reference is None:
            self.unknown = self.unknown or file
        if self.operator is None:
            self.operator = problem.operator
        elif operator_digest(problem.operator) != operator_digest(self.operator):
            raise ValueError(
                f"{file} was measured by another operator than the first problem in {self.root}: a network is "
                "trained for one"
            )
        reference = [None] * len(problem.y) if problem.reference is None else problem.reference
        return list(zip(problem.y, reference, strict=True))


def _planes_of(loaded: Any, planes: int, water: float | None) -> Tensor:
    """The slices of what was loaded, ``(slices, *plane)``; padding of a CT counts as air."""
    data: Tensor = loaded.data
    if loaded.unit == "HU":
        if water is not None:
            data = loaded.attenuation(water=water)
        elif loaded.valid is not None:
            data = data.where(loaded.valid, -1000.0)
    if data.ndim < planes:
        raise ValueError(f"{loaded.source} has {data.ndim} axes, images have {planes}")
    return data.reshape(-1, *data.shape[data.ndim - planes :])
