"""What CT operators of two and three dimensions share: one projector per device, adjoint kind, preconditioner."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor

from recon.linear import LinearOperator, Step
from recon_operators import astra_projector
from recon_operators.circulant import circulant_inverse


class Projector(Protocol):
    """What computes line integrals on one device in one precision, for items with one batch axis."""

    def forward(self, images: Tensor, /) -> Tensor:
        """A x."""

    def adjoint(self, data: Tensor, /) -> Tensor:
        """A^T y."""


class LineIntegrals(LinearOperator):
    """Line integrals of an image along the rays of a scan; a subclass names a backend and makes its projector."""

    domain = "real"
    nonnegative = True
    flatten_batch = True

    def __init__(self, domain_shape: Sequence[int], range_shape: Sequence[int]) -> None:
        super().__init__(domain_shape, range_shape)
        self._projectors: dict[tuple[str, torch.dtype, torch.device], Projector] = {}
        self._symbol: Tensor | None = None

    @property
    def backend(self) -> str:
        """The backend in use on the operator's device, never ``"auto"``."""
        raise NotImplementedError

    def _projector(self, backend: str, dtype: torch.dtype, device: torch.device) -> Projector:
        """Make the projector of that backend."""
        raise NotImplementedError

    @property
    def adjoint_kind(self) -> Literal["exact", "approximate"]:  # type: ignore[override]
        """``"approximate"`` for ASTRA on a GPU: its back-projector is not its projector's transpose."""
        return "approximate" if self.device.type == "cuda" and self.backend == "astra" else "exact"

    @property
    def adjoint_tolerance(self) -> float:  # type: ignore[override]
        """Relative error of the adjoint on white noise; 0 for an exact one."""
        return astra_projector.CUDA_ADJOINT_TOLERANCE if self.adjoint_kind == "approximate" else 0.0

    def preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator]
    ) -> Callable[[Tensor], Tensor] | None:
        """The inverse of (c/|w| + sum_i rho_i S_i(w)) in the Fourier domain of the image.

        None where the operator itself has no `approximate_symbol`, c/|w|. S_i are those of the terms; a term that
        has none counts with the mean eigenvalue of K_i^H K_i, found by one random probe. Ramani and Fessler, IEEE
        Trans. Med. Imaging 31, 2012.
        """
        own = self.approximate_symbol()
        if own is None:
            return None
        half = self.domain_shape[-1] // 2 + 1
        total: Tensor = own[..., :half]
        for weight, term in zip(rho, terms, strict=True):
            symbol = term.approximate_symbol()
            part = (
                _mean_eigenvalue(term, self.device) if symbol is None else symbol[..., :half].to(self.device)
            )
            total = total + weight * part
        axes = tuple(range(-len(self.domain_shape), 0))

        def apply(residual: Tensor) -> Tensor:
            spectrum = torch.fft.rfftn(residual, dim=axes) / total.to(residual.dtype)
            return torch.fft.irfftn(spectrum, s=self.domain_shape, dim=axes)

        return apply

    def weights_seen(self, weights: Tensor) -> Tensor | None:
        """The mean weight of the rays through each pixel, (A^T w) / (A^T 1); 0 where there is next to none.

        After Fessler and Booth, IEEE Trans. Image Process. 8, 1999, who weigh rays by their squared lengths.
        """
        rays = self.adjoint(torch.ones_like(weights[:1]))
        met = rays > 1e-3 * rays.amax()
        return torch.where(met, self.adjoint(weights) / rays.where(met, 1), 0).clamp_min(0)

    def weighted_preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator], seen: Tensor
    ) -> Callable[[Tensor], Tensor] | None:
        """c/|w| between the roots of the weights that the pixels are seen with; see `circulant_inverse`."""
        own = self.approximate_symbol()
        return None if own is None else circulant_inverse(own, rho, terms, seen)

    def _forward(self, x: Tensor) -> Tensor:
        projector, images = self._prepared(x)
        return projector.forward(images)

    def _adjoint(self, y: Tensor) -> Tensor:
        projector, sinograms = self._prepared(y)
        return projector.adjoint(sinograms)

    def _gram(self, x: Tensor) -> Tensor:
        projector, images = self._prepared(x)
        return projector.adjoint(projector.forward(images))

    def _prepared(self, items: Tensor) -> tuple[Projector, Tensor]:
        items = full_precision(items)
        key = (self.backend, items.dtype, items.device)
        if key not in self._projectors:
            self._projectors[key] = self._projector(*key)
        return self._projectors[key], items

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._projectors.clear()  # what lies on the device left behind
        self._symbol = None
        super()._apply(fn, recurse)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Without matrices and projectors: they are made again from the geometry."""
        return {**self.__dict__, "_projectors": {}, "_symbol": None}


def full_precision(items: Tensor) -> Tensor:
    """float64 as it is, anything else as float32."""
    return items if items.dtype == torch.float64 else items.to(torch.float32)


def radial_frequency(height: int, width: int, device: torch.device) -> Tensor:
    """|w| in radian per pixel on the unshifted FFT grid of a slice; at 0, half the lowest frequency."""
    vertical = torch.fft.fftfreq(height, device=device)[:, None] * 2 * math.pi
    horizontal = torch.fft.fftfreq(width, device=device) * 2 * math.pi
    radius = torch.sqrt(vertical.square() + horizontal.square())
    radius[0, 0] = math.pi / math.sqrt(height * width)
    return radius


def _mean_eigenvalue(term: LinearOperator, device: torch.device) -> float:
    """Mean eigenvalue of K^H K, estimated by Hutchinson's method with one vector of signs."""
    generator = torch.Generator().manual_seed(0)
    signs = 2.0 * torch.randint(0, 2, term.domain_shape, generator=generator) - 1.0
    return float(term(signs.to(device)).abs().square().sum()) / signs.numel()
