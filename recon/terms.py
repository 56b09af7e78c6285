"""One prior on images of a known shape: its map, its proximal map, its weight and its scaling."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from recon.linear import Step, real_dtype
from recon.priors import Denoiser, Functional


@dataclasses.dataclass(frozen=True)
class Scaling:
    """The affine map between image values and the range a learned prior was made for: learned = a x + b."""

    factor: float = 1.0
    offset: float = 0.0


class Term:
    """One prior on images of a known shape: its linear map, built once, and its proximal map."""

    def __init__(
        self, prior: Functional | Denoiser, shape: Sequence[int], image_range: Sequence[float] | None
    ):
        self.prior = prior
        self.K = prior.K(shape) if isinstance(prior, Functional) else Functional().K(shape)
        self.automatic = prior.weight == "auto" and not (isinstance(prior, Functional) and prior.constraint)
        self.scaling = Scaling()
        wanted = prior.value_range if isinstance(prior, Denoiser) else None
        if isinstance(prior, Denoiser) and (image_range is None or prior.end_to_end):
            image_range = prior.image_range or image_range
        self.image_range = None if image_range is None else (float(image_range[0]), float(image_range[1]))
        if wanted is not None:
            if image_range is None:
                raise ValueError(
                    f"{type(prior).__name__} was made for images in {wanted}: say which range the image has, "
                    "recon.solve(..., image_range=(low, high))"
                )
            factor = (wanted[1] - wanted[0]) / (image_range[1] - image_range[0])
            self.scaling = Scaling(factor, wanted[0] - factor * image_range[0])

    @property
    def constraint(self) -> bool:
        """Whether this term only restricts the image to a set."""
        return isinstance(self.prior, Functional) and self.prior.constraint

    def weight(self, strength: Tensor, like: Tensor) -> Tensor:
        """The weight of each item, shaped to multiply tensors ``like`` (B, ...)."""
        weight = 1.0 if self.prior.weight == "auto" else float(self.prior.weight)
        values = strength if self.automatic else torch.full_like(strength, weight)
        return values.to(real_dtype(like.dtype)).reshape(-1, *(1,) * (like.ndim - 1))

    def prox(self, z: Tensor, step: Step, strength: Tensor) -> Tensor:
        """argmin_u step * g(u) + 1/2 |u - z|^2, an automatic weight being ``strength`` (B,)."""
        if isinstance(self.prior, Functional):
            return self.prior.prox(z, step * self.weight(strength, z) if self.automatic else step)
        variance = step * self.weight(strength, z)
        sigma = self.scaling.factor * variance.expand(z.shape[0], *(1,) * (z.ndim - 1)).reshape(-1).sqrt()
        mapped = self.prior.denoise(self.scaling.factor * z + self.scaling.offset, sigma)
        return (mapped - self.scaling.offset) / self.scaling.factor

    def value(self, x: Tensor, strength: Tensor) -> Tensor:
        """The term's part of the objective for images ``x``; zero for denoisers and constraints."""
        if not isinstance(self.prior, Functional) or self.constraint:
            return torch.zeros_like(strength)
        value = self.prior.value(self.K(x))
        return value * strength if self.automatic else value
