"""Real images with a known phase: what a scan that relies on conjugate symmetry reconstructs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from recon.linear import Identity, LinearOperator, Step, complex_dtype
from recon.parameters import Param
from recon_operators.arrays import ArrayLike, Derived, as_tensor


class KnownPhase(LinearOperator):
    """A m = m exp(i phase): a real image m, signed, becomes the complex image that the scanner sees.

    The adjoint is Re(conj(exp(i phase)) x), so A^H A = 1. ``CartesianMRI(...) @ KnownPhase(phase)`` is MRI of
    real images: it has half the unknowns, and priors act on m alone.

    Args:
        phase: of every pixel, any shape [rad]; `low_resolution_phase` estimates it.

    Raises:
        ValueError: a complex phase, NaN.
    """

    domain = "real"
    phase: Tensor

    def __init__(
        self, phase: Annotated[ArrayLike, Param("of every pixel; array or path", unit="rad")]
    ) -> None:
        angles = as_tensor(phase, "phase")
        if angles.is_complex():
            raise ValueError("phase must be real angles in radians, got complex values: give their .angle()")
        if not angles.ndim:
            raise ValueError("phase must have the shape of the image, got one number")
        super().__init__(tuple(angles.shape), tuple(angles.shape))
        self.register_buffer("phase", angles)
        self._derived = Derived()

    def _forward(self, x: Tensor) -> Tensor:
        return x * self._factor(complex_dtype(x.dtype))

    def _adjoint(self, y: Tensor) -> Tensor:
        return (y * self._factor(complex_dtype(y.dtype)).conj()).real

    def _gram(self, x: Tensor) -> Tensor:
        return x.clone()

    def _norm(self) -> float:
        return 1.0

    def _pinv(self, y: Tensor) -> Tensor:  # type: ignore[override]
        """The part of the image that has the phase."""
        return self.adjoint(y)

    def solve_gram(self, b: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator]) -> Tensor | None:
        """As for the identity, which A^H A is."""
        return Identity(self.domain_shape).solve_gram(b, rho, terms)

    def fourier_symbol(self) -> Tensor:
        """1 everywhere."""
        return torch.ones_like(self.phase)

    def _factor(self, dtype: torch.dtype) -> Tensor:
        factor: Tensor = self._derived.get(
            dtype, self.phase, lambda: torch.exp(1j * self.phase.to(torch.float64)).to(dtype)
        )
        return factor
