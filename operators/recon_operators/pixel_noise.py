"""The noise level of an image, which may have holes, from differences of neighbouring pixels."""

from __future__ import annotations

import torch
from torch import Tensor

_MEDIAN_OF_ABSOLUTE_NORMAL = 0.6744897501960817

_SECOND = torch.tensor([1.0, -2.0, 1.0])
_FIRST = torch.tensor([1.0, -1.0])
_STENCILS: tuple[tuple[Tensor, int], ...] = (
    (torch.outer(_SECOND, _SECOND), 200),
    (_SECOND.unsqueeze(0), 100),
    (_SECOND.unsqueeze(1), 100),
    (_FIRST.unsqueeze(0), 16),
    (_FIRST.unsqueeze(1), 16),
)
"""Differences that remove a smooth image, the most thorough first, and how many of each make an estimate."""


def noise_of_image(image: Tensor, measured: Tensor | None = None) -> Tensor:
    """Estimate the standard deviation of white noise on images ``(B, ..., H, W)``, one number for each of B.

    The second difference along both axes (Immerkaer, Computer Vision and Image Understanding 64, 1996)
    removes what is linear along either axis. Where holes leave too few such neighbourhoods, second and then
    first differences along one axis serve. The median of the absolute differences ignores the few on edges;
    fine texture over most of the image adds to the estimate (0.01 to 0.02 on a photograph between 0 and 1).
    For complex images it is the deviation of the real and of the imaginary part each.

    Args:
        image: real or complex images.
        measured: 1 where a pixel is measured, broadcastable to one item; None if all are.

    Raises:
        ValueError: too few measured pixels have measured neighbours.
    """
    parts = (
        torch.view_as_real(image.resolve_conj()).movedim(-1, 1) if image.is_complex() else image.unsqueeze(1)
    )
    shape = tuple(parts.shape[2:])
    if len(shape) == 1:
        parts, shape = parts.unsqueeze(-2), (1, *shape)
    known = torch.ones(shape, dtype=torch.bool, device=image.device)
    if measured is not None:
        known = measured.to(image.device).bool().expand(image.shape[1:]).reshape(shape)
    for stencil, least in _STENCILS:
        if stencil.shape[0] > shape[-2] or stencil.shape[1] > shape[-1]:
            continue
        complete = _slide(known.to(parts.dtype), stencil.abs()) == stencil.abs().sum()
        if int(complete.sum()) < least:
            continue
        differences = _slide(parts, stencil)[..., complete].abs().flatten(1)
        return differences.median(dim=1).values / (_MEDIAN_OF_ABSOLUTE_NORMAL * float(stencil.norm()))
    raise ValueError(
        f"only {int(known.sum())} of {known.numel()} pixels are measured, too few of them side by side to "
        'tell the noise level: give it, as in fidelity=("gaussian", {"noise_level": 0.01})'
    )


def _slide(values: Tensor, stencil: Tensor) -> Tensor:
    """The stencil's weighted sum at every place where it fits."""
    height = values.shape[-2] - stencil.shape[0] + 1
    width = values.shape[-1] - stencil.shape[1] + 1
    total = torch.zeros((*values.shape[:-2], height, width), dtype=values.dtype, device=values.device)
    for row, weights in enumerate(stencil.tolist()):
        for column, weight in enumerate(weights):
            total.add_(values[..., row : row + height, column : column + width], alpha=weight)
    return total
