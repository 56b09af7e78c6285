"""Values of data and images: as floating-point tensors, and in the place of samples that do not count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_numbers(values: Any, label: str) -> Tensor:
    """A floating-point or complex tensor of an array, a nested list or a tensor, as single precision or more.

    Arrays keep double precision; Python numbers, whole numbers and half precision become float32.

    Raises:
        TypeError: something that is no array of numbers; `label` names it.
    """
    if isinstance(values, Tensor):
        tensor = values
    else:
        try:
            array = np.array(values)
        except ValueError as error:
            raise TypeError(f"{label} must be an array of numbers: {error}") from None
        if array.dtype.kind not in "biufc":
            raise TypeError(
                f"{label} must be numbers (a tensor, an array or a nested list), got {type(values).__name__}"
                + (": read a file with recon.load" if isinstance(values, str | Path) else "")
            )
        tensor = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
        if not isinstance(values, np.ndarray | np.generic):  # Python numbers have no precision of their own
            tensor = tensor.to(torch.complex64 if tensor.is_complex() else torch.float32)
    if tensor.is_complex():
        return tensor.to(torch.promote_types(tensor.dtype, torch.complex64))
    return tensor if tensor.dtype == torch.float64 else tensor.to(torch.float32)


def interpolated(y: Tensor, counts: Tensor) -> Tensor:
    """``y`` with values where ``counts`` is False interpolated along the last axis; a line without any stays."""
    side = y.shape[-1]
    place = torch.arange(side, device=y.device).expand(y.shape)
    before = place.where(counts, -1).cummax(-1).values
    after = place.where(counts, side).flip(-1).cummin(-1).values.flip(-1)
    left, right = before.where(before >= 0, after), after.where(after < side, before)
    known = (left >= 0) & (left < side) & (right >= 0) & (right < side)
    left, right = left.where(known, place), right.where(known, place)
    share = (place - left) / (right - left).clamp_min(1)
    filled = torch.lerp(y.gather(-1, left), y.gather(-1, right), share.to(y))
    return y.where(counts, filled)
