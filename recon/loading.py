"""Loading measured data and images: `load` picks the reader of a file, `Loaded` is what it returns."""

from __future__ import annotations

import codecs
import os
import stat
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon import registry
from recon.entries import ReaderEntry
from recon.hounsfield import attenuation_of, hounsfield_of
from recon.orientation import axis_codes, turn
from recon.suggestions import did_you_mean

LARGEST_EXACT_FLOAT32_INTEGER = 2**24

# Recognised by their first bytes: offset, those bytes, and the content in words (most certain first).
CONTENTS = (
    (128, b"DICM", "a DICOM file"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (0, b"II+\0", "a TIFF picture"),
    (0, b"MM\0+", "a TIFF picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"MATLAB 7.3 MAT-file", "a MATLAB 7.3 file"),
    (0, b"MATLAB 5.0 MAT-file", "a MATLAB 5 file"),
    (126, b"IM", "a MATLAB 5 file"),
    (126, b"MI", "a MATLAB 5 file"),
    (0, b"\x93NUMPY", "a NumPy array file"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip file"),
    (344, b"n+1\0", "a NIfTI volume"),
    (4, b"n+2\0\r\n\x1a\n", "a NIfTI volume"),
    (0, b"%PDF", "a PDF document"),
)
UNKNOWN = "unknown content"


class LoadError(ValueError):
    """A file cannot be loaded as asked: its content is not what was expected, damaged, or leaves a choice.

    Files that are missing, unreadable or no regular files raise an `OSError` instead. The message is one
    printable line, whatever names a damaged file holds.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_one_line(message, 1000))


class LoadWarning(UserWarning):
    """What was loaded is not all that it should be, such as a volume with a slice missing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """What a reader found in one file, or in a folder of slices.

    Attributes:
        data: the numbers; an image is `(height, width)`, a colour image `(3, height, width)`, a stack of
            frames `(frames, height, width)`, a volume `(slices, rows, columns)`; measured data have the
            file's own axes. Real data are float32, or float64 where the file has float64 or integers too
            large for float32; complex data stay so.
        unit: the unit of `data`: "HU", "1/mm", "counts", ...; "" where the file does not say.
        pixel_size: distance of neighbouring pixels along the last axes, (rows, columns) or (slices, rows,
            columns) [mm], or None.
        valid: bool, True on measured pixels and False on padding (such as outside a CT's field of view), of
            the shape of `data`; None if every pixel is measured. `data` keeps the file's padding value.
        affine: (4, 4) float64, takes the index (slice, row, column, 1) of a pixel of the last three axes (slice
            is 0 in a single image) to the patient coordinates of its centre [mm], towards the patient's right,
            front and head (NIfTI's RAS+; DICOM's own have the first two reversed); None where the file does
            not say.
        attributes: what else the file says, plain values under the file's own names. Nothing that identifies
            a patient. "warnings" holds the parser's remarks on parts of the file that `data` does not need.
        geometry: the arguments of the operator that measured `data`, as far as the file says:
            `recon.operator("ct_fan", **loaded.geometry)`.
        source: the path that was read.
    """

    data: Tensor
    unit: str = ""
    pixel_size: tuple[float, ...] | None = None
    valid: Tensor | None = None
    affine: Tensor | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    geometry: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        if self.valid is not None and (self.valid.dtype != torch.bool or self.valid.shape != self.data.shape):
            raise ValueError(
                f"valid must be a bool tensor of the shape of data {tuple(self.data.shape)}, "
                f"got {self.valid.dtype} of shape {tuple(self.valid.shape)}"
            )
        if self.affine is not None and (
            self.affine.shape != (4, 4)
            or self.affine.dtype != torch.float64
            or not self.affine.isfinite().all()
            or self.affine[3].tolist() != [0, 0, 0, 1]
            or self.affine[:3, :3].det() == 0
        ):
            raise ValueError(
                "affine must be an invertible (4, 4) float64 tensor whose last row is (0, 0, 0, 1), "
                f"got {self.affine}"
            )

    @property
    def orientation(self) -> str:
        """The letters towards which slices, rows and columns run in the patient, such as "SPL"; "" if unknown.

        L left, R right, P back, A front, I feet, S head; an oblique axis has the letter closest to it.
        """
        return "" if self.affine is None else axis_codes(self.affine)

    def oriented(self, wanted: str) -> Loaded:
        """The same volume with its axes swapped and flipped so that they run towards `wanted`.

        "SPL" is how axial slices are looked at: from the feet up, the patient's back below, his left on the
        right. No value changes, and `affine` says where every voxel lies, as before.

        Raises:
            ValueError: `wanted` is no orientation, the file says none, or this is no volume.
        """
        if self.affine is None or self.data.ndim < 3:
            what = "does not say how it lies in the patient" if self.affine is None else "is a single slice"
            raise ValueError(f"{self.source or 'this image'} {what}, so it cannot be turned to {wanted!r}")
        slices, rows, columns = self.data.shape[-3:]
        old_axis, flipped, affine = turn(self.affine, (slices, rows, columns), wanted)

        def turned(values: Tensor) -> Tensor:
            leading = values.ndim - 3
            order = [*range(leading), *(leading + axis for axis in old_axis)]
            return values.permute(order).flip([leading + axis for axis in flipped]).contiguous()

        size = self.pixel_size
        return replace(
            self,
            data=turned(self.data),
            valid=None if self.valid is None else turned(self.valid),
            pixel_size=tuple(size[axis] for axis in old_axis) if size and len(size) == 3 else None,
            affine=affine,
        )

    def attenuation(self, water: float = 0.02, air: float = 0.0) -> Tensor:
        """The linear attenuation coefficient [1/mm] of a CT image in Hounsfield units.

        Inverts HU = 1000 (mu - water) / (water - air). Padding becomes 0, and nothing is below 0: noise
        around air would otherwise give negative attenuation.

        Args:
            water: attenuation of water [1/mm]; 0.02 at an effective energy of about 65 keV.
            air: attenuation of air [1/mm].

        Raises:
            ValueError: if the unit is not "HU", or water and air are not 0 <= air < water.
        """
        if self.unit != "HU":
            raise ValueError(
                f"attenuation() converts Hounsfield units, but {self.source or 'this image'} has "
                f"unit '{self.unit}': use .data, or scale it yourself"
            )
        attenuation = attenuation_of(self.data, water=water, air=air).clamp_min(0)
        return attenuation if self.valid is None else attenuation.where(self.valid, 0)

    def hounsfield(self, water: float = 0.02, air: float = 0.0) -> Tensor:
        """The Hounsfield units of an attenuation image [1/mm]: HU = 1000 (mu - water) / (water - air).

        The inverse of `attenuation` with the same `water` and `air`, wherever that cut nothing off at 0.

        Raises:
            ValueError: if the unit is not "1/mm", or water and air are not 0 <= air < water.
        """
        if self.unit != "1/mm":
            raise ValueError(
                f"hounsfield() converts attenuation in 1/mm, but {self.source or 'this image'} has "
                f"unit '{self.unit}'"
            )
        return hounsfield_of(self.data, water=water, air=air)

    def __repr__(self) -> str:
        parts = [f"shape={tuple(self.data.shape)}", f"dtype={str(self.data.dtype).removeprefix('torch.')}"]
        if self.unit:
            parts.append(f"unit='{self.unit}'")
        if self.pixel_size is not None:
            parts.append(f"pixel_size={self.pixel_size} mm")
        if self.orientation:
            parts.append(f"orientation='{self.orientation}'")
        if self.valid is not None:
            parts.append(f"padding={int((~self.valid).sum())} pixels")
        return f"Loaded({', '.join(parts)}, source='{self.source}')"


def load(path: str | os.PathLike[str], *, reader: str | None = None, **options: Any) -> Loaded:
    """Read one file, or a folder of slices, with the reader registered for its suffix.

    Args:
        path: the file, or a folder whose files a reader takes as one (a DICOM series, a TIFF stack). It is only
            read, never written.
        reader: name of the reader to use whatever the suffix is (`recon list readers`).
        options: what the reader takes, such as `dataset="exchange/data"` (`recon show reader hdf5`).

    Raises:
        FileNotFoundError, IsADirectoryError, PermissionError, OSError: there is nothing readable at `path`.
        LoadError (a ValueError): no reader for it, content of another kind than its suffix says, truncated or
            damaged content, or several arrays to choose from; the message says what was found and what to do.
        LookupError: no reader of that name. TypeError: an option that the reader does not take.
    """
    path = Path(path)
    if os.path.isdir(path):  # noqa: PTH112 - False, not an error, where the system refuses to look
        name = reader if reader is not None else _reader_of_folder(path)
    else:
        head = read_head(path)
        name = reader if reader is not None else _reader_for(path, head)
    return registry.make("reader", name, path=path, **options)


def _readers() -> Iterator[tuple[str, ReaderEntry]]:
    for found in registry.items("reader"):
        assert isinstance(found.entry, ReaderEntry)
        yield found.name, found.entry


def _reader_for(path: Path, head: bytes) -> str:
    """Name of the reader whose suffix ends the file's name; the longest suffix wins (.nii.gz over .gz)."""
    suffixes: dict[str, list[str]] = {}
    for name, entry in _readers():
        for suffix in entry.suffixes:
            suffixes.setdefault(suffix, []).append(name)
    matching = [suffix for suffix in suffixes if path.name.lower().endswith(suffix)]
    if not matching:
        raise LoadError(
            f"{path}: no reader for the suffix '{path.suffix}' (the file holds {describe(head)}); known are "
            f"{', '.join(sorted(suffixes)) or 'none'}; reader=NAME reads a file whatever its suffix"
        )
    names = suffixes[max(matching, key=len)]
    if len(names) > 1:
        raise LoadError(
            f"{path}: several readers take this suffix: {', '.join(names)}; choose one with reader=NAME"
        )
    return names[0]


def without_suffix(path: Path) -> Path:
    """The path without the suffix by which `load` picks a reader, .nii.gz whole; as it is where there is none."""
    known = {suffix for _, entry in _readers() for suffix in entry.suffixes}
    found = max((suffix for suffix in known if path.name.lower().endswith(suffix)), key=len, default="")
    return path.with_name(path.name[: len(path.name) - len(found)] or path.name)


def _reader_of_folder(folder: Path) -> str:
    """Name of the reader that takes most of the files in a folder."""
    endings = Counter(folder_ending(file) for file in folder_files(folder))
    count = {name: sum(endings[suffix] for suffix in entry.folders) for name, entry in _readers()}
    most = max(count.values(), default=0)
    names = [name for name, taken in count.items() if taken == most]
    if most == 0:
        kinds = sorted({suffix or "none" for _, entry in _readers() for suffix in entry.folders})
        raise IsADirectoryError(
            f"{folder}: is a directory, and none of its files is a slice that a reader takes (suffixes: "
            f"{', '.join(kinds) or 'none'}); name one file in it"
        )
    if len(names) > 1:
        raise LoadError(
            f"{folder}: several readers take its files: {', '.join(names)}; choose with reader=NAME"
        )
    return names[0]


def folder_files(folder: Path) -> list[Path]:
    """The files in a folder, without hidden ones and DICOM's own table of contents, by name."""
    try:
        found = [item for item in folder.iterdir() if item.is_file()]
    except OSError as error:
        raise type(error)(f"{folder}: cannot be read: {error.strerror}") from error
    return sorted(item for item in found if not item.name.startswith(".") and item.name.upper() != "DICOMDIR")


def folder_ending(file: Path) -> str:
    """The suffix of a file among slices, lower case; "" also for a number, as in CT.1.2.840.113619.2.1."""
    return "" if file.suffix[1:].isdigit() else file.suffix.lower()


def read_head(path: Path) -> bytes:
    """The first 512 bytes of a readable, non-empty regular file; raises what `load` documents otherwise."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"{path}: is a directory; name one file in it")
        if not stat.S_ISREG(mode):
            raise OSError(f"{path}: is not a regular file")
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file{_similar_file(path)}") from None
    except OSError as error:
        if error.errno is None:
            raise
        raise type(error)(f"{path}: cannot be read: {error.strerror}") from error
    if not head:
        raise LoadError(f"{path}: is empty (0 bytes)")
    return head


def _similar_file(path: Path) -> str:
    try:
        names = os.listdir(path.parent)  # noqa: PTH208 - names, not paths
    except OSError:
        return f"; its folder {path.parent} cannot be read either"
    return did_you_mean(path.name, names)


def describe(head: bytes) -> str:
    """What a file holds, in words, by its first bytes."""
    for offset, magic, words in CONTENTS:
        if head[offset : offset + len(magic)] == magic:
            return words
    if not any(head):
        return "nothing but zero bytes"
    decoder = codecs.getincrementaldecoder("utf-8")()  # incremental: the last character may be cut
    try:
        text = decoder.decode(head)
    except UnicodeDecodeError:
        return UNKNOWN
    return "text" if all(character.isprintable() or character.isspace() for character in text) else UNKNOWN


@contextmanager
def reading(path: Path, *expected: str) -> Iterator[list[str]]:
    """For readers: the block that parses `path`; whatever the parser raises becomes one clear `LoadError`.

    Parsers fail on damaged files in every way there is (struct.error, KeyError, RecursionError, ...), and
    warn about parts of a file that do not matter here; neither reaches the user as is. A warning about the
    values themselves is an error.

    Args:
        path: the file to parse.
        expected: what it may hold, in the words of `describe`: "a DICOM file".

    Yields:
        A list that holds, after the block, the warnings issued inside; readers put it in `attributes`.
    """
    head = read_head(path)
    found = describe(head)
    wanted = " or ".join(expected)
    if found not in expected and found != UNKNOWN:
        raise LoadError(
            f"{path}: expected {wanted}, found {found}; if its suffix is wrong, choose the reader with "
            "reader=NAME"
        )
    remarks: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for about_values in (np.exceptions.ComplexWarning, RuntimeWarning):  # lost imaginary parts, overflow
            warnings.simplefilter("error", about_values)
        try:
            yield remarks
        except LoadError:
            raise
        except Exception as error:
            cause = "it is truncated, damaged or of an unsupported kind"
            what = (
                f"expected {wanted}, found {found}" if found == UNKNOWN else f"cannot read {found}: {cause}"
            )
            raise LoadError(f"{path}: {what} ({_reason(error)})") from error
    remarks.extend(dict.fromkeys(str(warning.message) for warning in caught))


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    return _one_line(str(error), 200) or type(error).__name__


def _one_line(text: str, longest: int) -> str:
    line = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    return line if len(line) <= longest else line[: longest - 3] + "..."


def to_tensor(array: np.ndarray, source: str) -> Tensor:
    """A tensor of an array's numbers, in the dtypes `Loaded.data` promises.

    bool and integers become float32, or float64 where float32 would not hold every value exactly; float16
    becomes float32; float32, float64 and complex are kept; anything wider becomes float64 or complex128.

    Args:
        array: any NumPy array or scalar, of any byte order.
        source: what it is, for the error: "scan.h5: dataset 'image'".

    Raises:
        LoadError: if the array holds no numbers.
    """
    array = np.asarray(array)
    if array.dtype.kind not in "biufc":
        raise LoadError(f"{source} holds {array.dtype}, not numbers")
    if array.size == 0:
        raise LoadError(f"{source} is empty: shape {array.shape}")
    return torch.from_numpy(np.require(array, dtype=_dtype(array), requirements=["C", "W"]))


def _dtype(array: np.ndarray) -> type[np.generic]:
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "c":
        return np.complex64 if size <= 8 else np.complex128
    if kind == "f":
        return np.float32 if size <= 4 else np.float64
    if size <= 2:
        return np.float32
    largest = max(int(array.max()), -int(array.min()))
    return np.float32 if largest <= LARGEST_EXACT_FLOAT32_INTEGER else np.float64
