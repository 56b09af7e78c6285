"""Images of any size for networks that halve them: padded to a multiple, cropped afterwards."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def padded_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Images ``(B, channels, height, width)`` with their last rows and columns repeated up to a multiple."""
    rows, columns = (-side % multiple for side in x.shape[-2:])
    if not (rows or columns):
        return x
    mode = "replicate" if x.numel() else "constant"  # torch repeats no border of an empty batch
    return functional.pad(x, (0, columns, 0, rows), mode=mode)


def crop_to(x: Tensor, like: Tensor) -> Tensor:
    """The upper left part of ``(B, channels, height, width)`` that has the height and width of another image."""
    return x[..., : like.shape[-2], : like.shape[-1]]
