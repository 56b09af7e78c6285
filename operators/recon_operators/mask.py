"""Inpainting: an image of which only some pixels are measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from recon.algebra import checked_samples
from recon.linear import Identity, LinearOperator, Step
from recon.parameters import Param
from recon_operators.arrays import ArrayLike, as_mask
from recon_operators.circulant import circulant_inverse
from recon_operators.pixel_noise import noise_of_image


class Mask(LinearOperator):
    """A x = mask * x: measured pixels stay, the others become 0.

    A colour image ``(3, H, W)`` with one mask ``(H, W)`` for all channels is a batch of three.

    Raises:
        ValueError: a mask with other values than 0 and 1, without any 1, or without an axis.
    """

    domain = "any"
    nonnegative = True
    mask: Tensor

    def __init__(
        self, mask: Annotated[ArrayLike, Param("1 where a pixel is measured, 0 elsewhere; array or path")]
    ) -> None:
        values = as_mask(mask)
        super().__init__(tuple(values.shape), tuple(values.shape))
        self.register_buffer("mask", values)

    def _forward(self, x: Tensor) -> Tensor:
        return x * self.mask

    def _adjoint(self, y: Tensor) -> Tensor:
        return y * self.mask

    def _gram(self, x: Tensor) -> Tensor:
        return x * self.mask

    def _norm(self) -> float:
        return float(self.mask.max())

    def _pinv(self, y: Tensor) -> Tensor:  # type: ignore[override]
        """Measured pixels as they are; holes filled from around them, slice by slice (`fill_holes`)."""
        return fill_holes(y, self.mask)

    def solve_gram(self, b: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator]) -> Tensor | None:
        """Pixel by pixel where every term is the identity, else None."""
        if not all(isinstance(term, Identity) for term in terms):
            return None
        total: Tensor = self.mask.to(b.real.dtype)
        for weight in rho:
            total = total + weight
        return b / total if float(total.min()) > 0 else None

    def preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator]
    ) -> Callable[[Tensor], Tensor] | None:
        """The inverse of a circulant, with every term's periodic version, scaled by the diagonal.

        Without the scaling the holes make it no better than none.
        """
        return circulant_inverse(torch.ones_like(self.mask), rho, terms, energy=self.mask)

    def fourier_symbol(self) -> Tensor | None:
        """Ones where every pixel is measured, else None."""
        return torch.ones_like(self.mask) if bool(self.mask.all()) else None

    def approximate_symbol(self) -> Tensor:
        """The share of measured pixels, at every frequency: the nearest circulant in the Frobenius norm."""
        return self.mask.mean().expand(self.domain_shape)

    @property
    def sample_mask(self) -> Tensor:
        """The mask."""
        return self.mask

    def restricted(self, mask: Tensor) -> Mask:
        """The pixels of both masks: the others are holes."""
        return Mask(checked_samples(self, mask).expand(self.range_shape))

    def noise_level(self, y: Tensor) -> Tensor:
        """From differences of neighbouring measured pixels (`noise_of_image`)."""
        return noise_of_image(y, self.mask)

    def extra_repr(self) -> str:
        """Shape and share of measured pixels."""
        return f"{self.domain_shape}, measured={float(self.mask.mean()):.1%}"


def fill_holes(image: Tensor, mask: Tensor) -> Tensor:
    """Fill the pixels where `mask` is 0 from the measured ones around them, in time linear in the pixels.

    Pull-push (Gortler et al., The Lumigraph, SIGGRAPH 1996) along the last two axes: the image is halved by
    averages over measured pixels until no hole is left, then every finer level takes the interpolated coarser
    one where it has holes. A slice without any measured pixel gets the mean of the image's measured pixels.

    Args:
        image: ``(*batch, *mask.shape)``, real or complex; values where `mask` is 0 do not matter.
        mask: 1 on measured pixels.
    """
    if image.is_complex():
        return torch.complex(fill_holes(image.real, mask), fill_holes(image.imag, mask))
    if mask.ndim == 1:
        return fill_holes(image.unsqueeze(-2), mask.unsqueeze(0)).squeeze(-2)
    axes, weight = tuple(range(-mask.ndim, 0)), mask.to(image.dtype)
    mean = (image * weight).sum(axes, keepdim=True) / weight.sum()
    plane = (-1, 1, *mask.shape[-2:])
    weights = weight.expand(image.shape).reshape(plane)
    filled = _pull_push(((image - mean) * weight).reshape(plane), weights)
    for _ in range(_SWEEPS):
        padded = functional.pad(
            torch.where(weights > 0, (image - mean).reshape(plane), filled), (1, 1, 1, 1), mode="replicate"
        )
        filled = functional.conv2d(padded, _RING.to(padded))
    return torch.where(mask > 0, image, filled.reshape(image.shape) + mean)


_SWEEPS = 2
_RING = torch.tensor([[1, 2, 1], [2, 0, 2], [1, 2, 1]], dtype=torch.float64).reshape(1, 1, 3, 3) / 12
"""Twice every hole becomes the mean of its neighbours: that removes the pyramid's blocks (0.3 to 1 dB)."""


def _pull_push(weighted: Tensor, weight: Tensor) -> Tensor:
    """Images (N, 1, H, W) without holes, from images times weights and the weights in [0, 1]."""
    height, width = weighted.shape[-2:]
    value = weighted / weight.clamp_min(torch.finfo(weight.dtype).tiny)
    if height == width == 1 or bool((weight == 1).all()):
        return value * weight
    coarse = _pull_push(*_halved(weighted, weight))
    coarse = functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return torch.lerp(coarse, value, weight)


def _halved(weighted: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Averages over blocks of 2x2, weights saturating at 1: one measured pixel of four fills the block."""
    average, mean_weight = (functional.avg_pool2d(part, 2, ceil_mode=True) for part in (weighted, weight))
    saturated = (4 * mean_weight).clamp_max(1)
    value = average / mean_weight.clamp_min(torch.finfo(weight.dtype).tiny)
    return value * saturated, saturated
