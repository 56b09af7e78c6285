"""Tikhonov's quadratic penalty: small or smooth images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from recon_operators.gradient import Gradient
from torch import Tensor

from recon.linear import Identity, LinearOperator, Step
from recon.parameters import Param
from recon.priors import Functional, Weight


class Tikhonov(Functional):
    """g(K x) = weight/2 * |K x|^2, with K the identity or forward differences (Tikhonov 1963).

    Args:
        weight: strength, or ``"auto"``.
        of: ``"image"`` penalises values, ``"gradient"`` differences between neighbours.
    """

    quadratic = True

    def __init__(
        self,
        weight: Annotated[Weight, Param("strength; auto: from the noise level", ge=0)] = "auto",
        of: Annotated[Literal["image", "gradient"], Param("what is kept small")] = "image",
    ) -> None:
        super().__init__(weight)
        if of not in ("image", "gradient"):
            raise ValueError(f"of must be 'image' or 'gradient', got {of!r}")
        self.of = of

    def K(self, shape: Sequence[int]) -> LinearOperator:
        """The identity, or forward differences."""
        return Identity(shape) if self.of == "image" else Gradient(tuple(shape))

    def _penalty(self, z: Tensor) -> Tensor:
        return 0.5 * z.abs().square()

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        """z / (1 + threshold)."""
        return z / (1 + threshold)

    def extra_repr(self) -> str:
        """Parameters for `repr`."""
        return f"weight={self.weight}, of={self.of!r}"
