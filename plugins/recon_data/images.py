"""Pictures (PNG, JPEG, TIFF) as values between 0 and 1."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image, ImageOps

from recon.loading import Loaded, LoadError, reading, to_tensor
from recon.parameters import Param

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}

# Luma of ITU-R BT.601, for colour to grey.
LUMA = (0.299, 0.587, 0.114)


def read_image(
    path: Annotated[Path, Param("the PNG, JPEG or TIFF file")],
    *,
    grey: Annotated[bool, Param("turn colour into grey (ITU-R BT.601 luma)")] = False,
    frame: Annotated[int | None, Param("which picture of a file that holds several, from 0", ge=0)] = None,
) -> Loaded:
    """Read a picture: `(height, width)` if grey, `(3, height, width)` in colour, upright as EXIF says.

    8-bit and 16-bit values are divided by 255 and 65535, one-bit values are 0 and 1; TIFF's float and 32-bit
    values have no fixed white and are kept as they are.

    Raises:
        LoadError: not the kind of picture that its suffix says, truncated or damaged, with transparent
            pixels, 16-bit colour (Pillow drops half of the bits), or several pictures and no frame named.
    """
    suffix_format = FORMATS.get(path.suffix.lower())
    formats = [suffix_format] if suffix_format else sorted(set(FORMATS.values()))
    with reading(path, *(f"a {name} picture" for name in formats)) as remarks:
        # Pillow warns of large pictures before it refuses larger ones; images of that size are wanted here.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path, formats=formats) as picture:
            _choose_frame(picture, frame, path)
            mode = picture.mode
            values = _values(picture, path)
    if grey and values.ndim == 3:
        values = np.tensordot(LUMA, values, axes=1).astype(np.float32)
    return Loaded(
        data=to_tensor(values, f"{path}: its picture"),
        attributes={"mode": mode} | ({"warnings": tuple(remarks)} if remarks else {}),
        source=str(path),
    )


def _choose_frame(picture: Image.Image, frame: int | None, path: Path) -> None:
    frames = getattr(picture, "n_frames", 1)
    if frame is None and frames > 1 and picture.format != "MPO":  # a camera's JPEG and its preview
        stack = "; reader='tiff' reads all as a stack" if picture.format == "TIFF" else ""
        raise LoadError(
            f"{path}: holds {frames} pictures; choose one with frame=0 to frame={frames - 1}{stack}"
        )
    if frame is not None and frame >= frames:
        raise LoadError(f"{path}: holds {frames} pictures, so there is no frame={frame} (the first is 0)")
    picture.seek(frame or 0)


def _values(picture: Image.Image, path: Path) -> np.ndarray:
    sixteen_bit = any(";16" in str(tile) for tile in getattr(picture, "tile", ()))
    if sixteen_bit and not picture.mode.startswith("I"):
        raise LoadError(f"{path}: 16-bit colour, half of whose bits would be lost; save it as grey or .npy")
    upright = ImageOps.exif_transpose(picture)
    mode = upright.mode
    if "transparency" in upright.info:  # one colour that stands for none
        upright = upright.convert("LA" if mode in ("1", "L") else "RGBA")
    elif mode in ("P", "CMYK", "YCbCr"):
        upright = upright.convert("RGB")
    if upright.mode in ("LA", "RGBA"):
        if np.asarray(upright.getchannel("A")).min() < 255:
            raise LoadError(f"{path}: has transparent pixels; flatten it onto a background first")
        upright = upright.convert(upright.mode.removesuffix("A"))
    array = np.asarray(upright)
    if sixteen_bit or upright.mode.startswith("I;16"):
        return array.astype(np.float32) / np.float32(65535)
    if upright.mode in ("1", "I", "F"):
        return array
    if upright.mode in ("L", "RGB"):
        scaled = array.astype(np.float32) / np.float32(255)
        return np.moveaxis(scaled, -1, 0) if scaled.ndim == 3 else scaled
    raise LoadError(f"{path}: pictures of mode {mode} are not supported; save it as grey or RGB")
