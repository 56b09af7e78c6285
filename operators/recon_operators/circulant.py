"""Approximate inverses by one FFT pair: preconditioners for matrices that are circulant but for a scaling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from recon.linear import LinearOperator, Step, real_dtype

_SMALLEST = 1e-6
"""Eigenvalues below this fraction of the largest are raised to it: the approximation must stay definite."""


def circulant_inverse(
    symbol: Tensor,
    rho: Sequence[Step],
    terms: Sequence[LinearOperator],
    energy: Tensor | None = None,
) -> Callable[[Tensor], Tensor] | None:
    """Return an approximate inverse of A^H A + sum_i rho_i K_i^H K_i, by one FFT pair.

    A^H A is taken for e^(1/2) F^H diag(symbol) F e^(1/2). Without `energy` (e = 1) the result is
    F^H diag(symbol + sum_i rho_i symbol_i)^-1 F. An energy that varies over the image (holes, regions that no
    coil sees) makes the matrix far from circulant; dividing it from both sides by the square root of its
    diagonal D brings it near again:

        r -> D^(-1/2) F^H diag(symbol mean(e/D) + sum_i rho_i symbol_i mean(1/D))^-1 F D^(-1/2) r

    Args:
        symbol: eigenvalues on the unshifted FFT grid of the image.
        rho: weights of the terms, numbers or tensors that broadcast against the image.
        terms: the linear maps K_i, asked for their `approximate_symbol`; None is returned if one has none.
        energy: e, the diagonal of A^H A up to a factor, or None where it is constant.
    """
    others = term_symbol(symbol, rho, terms, approximate=True)
    if others is None:
        return None
    axes = tuple(range(-symbol.ndim, 0))
    if energy is None:
        total, scale = symbol + others, None
    else:
        diagonal = symbol.mean() * energy + others.mean(axes, keepdim=True)
        diagonal = diagonal.clamp_min(_SMALLEST * diagonal.amax(axes, keepdim=True))
        total = symbol * (energy / diagonal).mean(axes, keepdim=True)
        total = total + others * diagonal.reciprocal().mean(axes, keepdim=True)
        scale = diagonal.rsqrt()
    largest = total.amax(axes, keepdim=True)
    # what neither the data nor a prior sees is left alone: a large inverse would feed on rounding there
    inverse = total.where(total > _SMALLEST * largest, largest).reciprocal()

    def apply(residual: Tensor) -> Tensor:
        precision = real_dtype(residual.dtype)
        scaled = residual if scale is None else residual * scale.to(precision)
        if residual.is_complex():
            result = torch.fft.ifftn(torch.fft.fftn(scaled, dim=axes).mul_(inverse.to(precision)), dim=axes)
        else:
            half = inverse[..., : residual.shape[-1] // 2 + 1].to(precision)
            spectrum = torch.fft.rfftn(scaled, dim=axes).mul_(half)
            result = torch.fft.irfftn(spectrum, s=residual.shape[-len(axes) :], dim=axes)
        return result if scale is None else result.mul_(scale.to(precision))

    return apply


def term_symbol(
    like: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator], *, approximate: bool
) -> Tensor | None:
    """Return sum_i rho_i symbol_i, typed and placed as `like`; None if a term has no symbol."""
    total = torch.zeros_like(like)
    for weight, term in zip(rho, terms, strict=True):
        eigenvalues = term.approximate_symbol() if approximate else term.fourier_symbol()
        if eigenvalues is None:
            return None
        if isinstance(weight, Tensor):
            weight = weight.to(like.device, like.dtype)
        total = total + weight * eigenvalues.to(like.device, like.dtype)
    return total
