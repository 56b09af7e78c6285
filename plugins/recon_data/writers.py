"""Writers of one image or volume: NumPy, PNG, TIFF and NIfTI (DICOM: `dicom_writer`)."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Annotated, Any

import nibabel
import numpy as np
import tifffile
from PIL import Image as Picture

from recon.archive import array_of
from recon.loading import Loaded
from recon.parameters import Param

FileParameter = Annotated[Path, Param("the file to write")]
ImageParameter = Annotated[Loaded, Param("the image and what is known of it")]


def write_numpy(path: FileParameter, image: ImageParameter) -> Path:
    """Write the values, of any shape and type, as a .npy file; nothing else is kept."""
    with path.open("wb") as file:
        np.save(file, array_of(image.data), allow_pickle=False)
    return path


def write_png(
    path: FileParameter,
    image: ImageParameter,
    *,
    window: Annotated[
        tuple[float, float] | None, Param("values shown black and white; the image's own range unless given")
    ] = None,
    bits: Annotated[int, Param("bits a pixel", choices=(8, 16))] = 8,
) -> Path:
    """Write a grey picture `(rows, columns)`, or an 8-bit one in colour `(3, rows, columns)`.

    Values outside the window become black or white, those in it are rounded to 1/255 or 1/65535 of it.

    Raises:
        ValueError: complex or NaN values, another shape, or a window that is not (low, high).
    """
    values = _real_array(image)
    colour = values.ndim == 3 and values.shape[0] == 3
    if not (values.ndim == 2 or colour):
        raise ValueError(
            f"a picture is (rows, columns) or, in colour, (3, rows, columns), not {values.shape}: "
            "choose a slice, or write a TIFF stack"
        )
    if colour and bits == 16:
        raise ValueError("a colour picture has 8 bits; write its planes one by one for 16")
    low, high = (float(values.min()), float(values.max())) if window is None else window
    if not (np.isfinite([low, high]).all() and low < high):
        why = "" if window is not None else ": the image is constant; give window="
        raise ValueError(f"a window is (low, high) with low < high, got ({low:g}, {high:g}){why}")
    white = 2**bits - 1
    shown = np.round(np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * white)
    pixels = shown.astype(np.uint8 if bits == 8 else np.uint16)
    if colour:
        pixels = np.ascontiguousarray(np.moveaxis(pixels, 0, -1))
    Picture.fromarray(pixels).save(path, format="PNG")
    return path


def write_tiff(path: FileParameter, image: ImageParameter) -> Path:
    """Write an image or a stack as float32 in the form of ImageJ, with the size of a pixel.

    Raises:
        ValueError: complex values, or neither (rows, columns) nor (slices, rows, columns).
    """
    values = _real_array(image)
    if values.ndim not in (2, 3):
        raise ValueError(f"a TIFF stack is (rows, columns) or (slices, rows, columns), not {values.shape}")
    about: dict[str, Any] = {"axes": "ZYX" if values.ndim == 3 else "YX"}
    options: dict[str, Any] = {}
    if image.pixel_size is not None:
        *slices, rows, columns = image.pixel_size
        options["resolution"] = (1 / columns, 1 / rows)
        about["unit"] = "mm"
        if slices and values.ndim == 3:
            about["spacing"] = slices[0]
    with path.open("wb") as file:
        tifffile.imwrite(file, values.astype("<f4"), imagej=True, metadata=about, **options)
    return path


def write_nifti(path: FileParameter, image: ImageParameter) -> Path:
    """Write a volume `(slices, rows, columns)`, an image as one slice, or several volumes, with their place.

    The place in the patient is the sform and, where the axes are perpendicular, the qform. float32, float64 and
    complex values keep their type. The format has no unit of values.

    Raises:
        ValueError: fewer than two axes or more than four.
    """
    values = array_of(image.data)
    if not 2 <= values.ndim <= 4:
        raise ValueError(
            f"a NIfTI volume has 2 to 4 axes (volumes, slices, rows, columns), not {values.shape}"
        )
    if values.ndim == 2:
        values = values[None]
    if values.dtype.kind not in "fc":
        values = values.astype(np.float32)
    affine = None if image.affine is None else image.affine.numpy()[:, [2, 1, 0, 3]]
    made = nibabel.Nifti1Image(np.ascontiguousarray(values.T), affine)
    made.header.set_xyzt_units("mm")
    if affine is not None:
        made.set_sform(affine, code="scanner")
        perpendicular = np.allclose(np.linalg.inv(affine)[:3, :3] @ affine[:3, :3], np.eye(3))
        made.set_qform(affine if perpendicular and _has_right_angles(affine) else None, code="scanner")
    elif image.pixel_size is not None:
        sizes = (1.0,) * (3 - len(image.pixel_size)) + tuple(image.pixel_size)
        made.header.set_zooms((*sizes[::-1], *made.header.get_zooms()[3:]))
    content = made.to_bytes()
    if path.name.lower().endswith(".gz"):
        content = gzip.compress(content, compresslevel=6, mtime=0)  # the same image gives the same file
    path.write_bytes(content)
    return path


def _has_right_angles(affine: np.ndarray) -> bool:
    products = affine[:3, :3].T @ affine[:3, :3]
    lengths = np.sqrt(np.diag(products))
    return bool(np.abs(products / np.outer(lengths, lengths) - np.eye(3)).max() < 1e-6)


def _real_array(image: Loaded) -> np.ndarray:
    """The values of a real, finite image.

    Raises:
        ValueError: complex, NaN or infinite values.
    """
    if image.data.is_complex():
        raise ValueError("the image is complex, the format is not: save its .abs(), or as .npy or NIfTI")
    values = array_of(image.data)
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} values are NaN or infinite")
    return values
