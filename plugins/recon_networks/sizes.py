"""Images of any size for networks that halve them: padded to a multiple, cropped afterwards."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad ``(B, C, H, W)`` at the bottom and the right to multiples of a number.

    The border is mirrored where the image is large enough for it, else repeated.
    """
    down, right = (-side % multiple for side in x.shape[-2:])
    if not (down or right):
        return x
    mirrored = down < x.shape[-2] and right < x.shape[-1]
    return functional.pad(x, (0, right, 0, down), mode="reflect" if mirrored else "replicate")


def crop_to(x: Tensor, like: Tensor) -> Tensor:
    """The upper left part of ``(B, C, H, W)`` that has the height and width of another image."""
    return x[..., : like.shape[-2], : like.shape[-1]]
