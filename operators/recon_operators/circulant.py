"""Approximate inverses by one FFT pair: preconditioners for matrices that are nearly circulant."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from recon.linear import LinearOperator, Step, real_dtype

_SMALLEST = 1e-6
"""Eigenvalues below this fraction of the largest are raised to it: the approximation must stay definite."""


def circulant_inverse(
    symbol: Tensor | None, rho: Sequence[Step], terms: Sequence[LinearOperator]
) -> Callable[[Tensor], Tensor] | None:
    """Return r -> F^H diag(symbol + sum_i rho_i symbol_i)^-1 F r, a positive definite map, or None.

    Args:
        symbol: eigenvalues of the circulant that stands for A^H A, on the unshifted FFT grid of the image.
        rho: weights of the terms, numbers or tensors that broadcast against the image.
        terms: the linear maps K_i, asked for their `approximate_symbol`; None is returned if one has none.
    """
    if symbol is None:
        return None
    others = term_symbol(symbol, rho, terms, approximate=True)
    if others is None:
        return None
    total, axes = symbol + others, tuple(range(-symbol.ndim, 0))
    total = total.clamp_min(_SMALLEST * total.amax(axes, keepdim=True))

    def apply(residual: Tensor) -> Tensor:
        eigenvalues = total.to(residual.device, real_dtype(residual.dtype))
        if residual.is_complex():
            return torch.fft.ifftn(torch.fft.fftn(residual, dim=axes) / eigenvalues, dim=axes)
        spectrum = torch.fft.rfftn(residual, dim=axes) / eigenvalues[..., : residual.shape[-1] // 2 + 1]
        return torch.fft.irfftn(spectrum, s=residual.shape[-len(axes) :], dim=axes)

    return apply


def term_symbol(
    like: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator], *, approximate: bool
) -> Tensor | None:
    """Return sum_i rho_i symbol_i in the precision and on the device of `like`; None if a term has no symbol."""
    total = torch.zeros_like(like)
    for weight, term in zip(rho, terms, strict=True):
        eigenvalues = term.approximate_symbol() if approximate else term.fourier_symbol()
        if eigenvalues is None:
            return None
        if isinstance(weight, Tensor):
            weight = weight.to(like.device, like.dtype)
        total = total + weight * eigenvalues.to(like.device, like.dtype)
    return total
