"""NIfTI volumes (.nii, .nii.gz), with their place in the patient."""

from __future__ import annotations

import gzip
import io
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, cast

import nibabel
import numpy as np
import torch
from torch import Tensor

from recon.loading import Loaded, LoadError, reading, to_tensor
from recon.parameters import Param

NIFTI, GZIP = "a NIfTI volume", "a gzip file"
LARGEST_HEADER = 544  # with the four bytes that say whether extensions follow
LARGEST_COMPRESSION = 1100  # of deflate: 1032
MILLIMETRES = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}


def read_nifti(
    path: Annotated[Path, Param("the .nii or .nii.gz file")],
    *,
    unit: Annotated[str, Param('unit of the values, such as "HU"; the format does not say')] = "",
) -> Loaded:
    """Read a volume as `(slices, rows, columns)`, several as `(volumes, slices, rows, columns)`.

    These are NIfTI's own axes in reverse order: columns run along its first axis, the fastest in the file.
    Nothing is flipped: `orientation` says how the axes lie (columns often run to the right, rows to the front),
    `oriented("SPL")` turns the volume to how axial slices are looked at, and `affine` is that of the sform, else
    the qform. Without either there is a `pixel_size` and no `affine`. Values are scaled as the header says.

    Raises:
        LoadError: no NIfTI file, truncated or damaged, a header-only file (.hdr), or colours.
    """
    with reading(path, NIFTI, GZIP) as remarks:
        image = _image(path)
        header = image.header
        values = _values(image)
        if values.dtype.names:
            raise LoadError(f"{path}: holds colours, which are no measurements")
        affine = _affine(image)
        pixel_size = _pixel_size(image, path)
        attributes: dict[str, Any] = {
            "intent": _text(header["intent_name"]),
            "form": _form(header),
        }
    attributes = {name: value for name, value in attributes.items() if value}
    if remarks:
        attributes["warnings"] = tuple(remarks)
    return Loaded(
        data=to_tensor(values.T, f"{path}: its volume"),
        unit=unit,
        pixel_size=pixel_size,
        affine=affine,
        attributes=attributes,
        source=str(path),
    )


def read_shape(path: Path) -> tuple[int, ...]:
    """The shape that `read_nifti` will give, from the header alone.

    Raises:
        LoadError: no NIfTI file, or one that cannot hold what its header declares.
    """
    with reading(path, NIFTI, GZIP), _opened(path) as stream:
        return _declared(stream.read(LARGEST_HEADER), path, _is_compressed(stream)).shape[::-1]


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if compressed else path.open("rb")


def _is_compressed(stream: IO[bytes]) -> bool:
    return isinstance(stream, gzip.GzipFile)


def _image(path: Path) -> nibabel.Nifti1Image:
    """The file as nibabel's image, after a check that its bytes are there and no memory is asked for more."""
    with _opened(path) as stream:
        head = stream.read(LARGEST_HEADER)
        declared = _declared(head, path, _is_compressed(stream))
        content = head + stream.read(max(declared.size - len(head), 0))
        if len(content) < declared.size:
            raise LoadError(f"{path}: ends after {len(content)} of {declared.size} bytes")
        while _is_compressed(stream) and stream.read(1 << 20):  # to the end, where the checksum is
            pass
    return declared.kind.from_stream(io.BytesIO(content))


@dataclass(frozen=True)
class Declared:
    """What a header declares: the class of image, its shape (NIfTI's order), bytes up to the last value."""

    kind: type[nibabel.Nifti1Image]
    shape: tuple[int, ...]
    size: int


def _declared(head: bytes, path: Path, compressed: bool) -> Declared:
    """What the header declares, if the file can hold it."""
    for order in "<>":
        (length,) = struct.unpack_from(order + "i", head)
        if length == 348 and head[344:347] == b"n+1":
            kind, header_length = nibabel.Nifti1Image, 348
        elif length == 540 and head[4:7] == b"n+2":
            kind, header_length = nibabel.Nifti2Image, 540
        elif length == 348 and head[344:347] == b"ni1":
            raise LoadError(f"{path}: a header whose values are in another file; save it as one .nii file")
        else:
            continue
        header = kind.header_class(head[:header_length], endianness=order, check=True)
        shape = header.get_data_shape()
        if not shape or min(shape) < 1:
            raise LoadError(f"{path}: damaged: its header declares the shape {shape}")
        size = max(int(header["vox_offset"]), header_length + 4)
        size += math.prod(shape) * header.get_data_dtype().itemsize
        held = path.stat().st_size
        if size > held * (LARGEST_COMPRESSION if compressed else 1):
            raise LoadError(
                f"{path}: its header declares {size} bytes, the file holds {held}: truncated or damaged"
            )
        return Declared(kind, shape, size)
    raise LoadError(f"{path}: not a NIfTI volume, or damaged in its first bytes")


def _values(image: nibabel.Nifti1Image) -> np.ndarray:
    """The scaled values; in float32 where the stored numbers have 16 bits at most, after one rounding."""
    stored = image.header.get_data_dtype()
    values = np.asanyarray(image.dataobj)
    scaled = values.dtype != stored and values.dtype.kind == "f"
    return values.astype(np.float32) if scaled and stored.kind in "iu" and stored.itemsize <= 2 else values


def _scale(image: nibabel.Nifti1Image) -> float:
    return MILLIMETRES[image.header.get_xyzt_units()[0]]


def _form(header: nibabel.Nifti1Header) -> str:
    return "sform" if int(header["sform_code"]) else "qform" if int(header["qform_code"]) else ""


def _affine(image: nibabel.Nifti1Image) -> Tensor | None:
    """From (slice, row, column, 1); None without an sform or qform."""
    if not _form(image.header):
        return None
    affine = np.diag([_scale(image)] * 3 + [1.0]) @ image.affine
    return torch.from_numpy(np.ascontiguousarray(affine[:, [2, 1, 0, 3]]))


def _pixel_size(image: nibabel.Nifti1Image, path: Path) -> tuple[float, ...] | None:
    sizes = tuple(_scale(image) * float(size) for size in image.header.get_zooms()[:3])
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        raise LoadError(f"{path}: damaged: its voxels measure {sizes} mm")
    return sizes[::-1] if len(sizes) > 1 else None


def _text(value: Any) -> str:
    return bytes(value).rstrip(b"\0").decode("latin-1").strip()
