"""Upper bounds of the largest singular value of an operator that is known by its action only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from recon.linear import LinearOperator

FAILURE = 1e-6
"""The probability that `lanczos_bound` lies below the largest singular value."""

_ROUNDING = 1e-4  # of what is computed in float32


def lanczos_bound(operator: LinearOperator, tolerance: float = 0.02, most: int = 300) -> float:
    """An upper bound of the norm that fails with a probability of at most `FAILURE`, one in a million.

    Lanczos' method makes vectors q_1, q_2, ... of norm 1 with q_{k+1} = p_k(A^H A) q_1, p_k a polynomial of degree k
    that grows beyond its zeros. With u the first right singular vector and s its value, |p_k(s^2)| |<u, q_1>| =
    |<u, q_{k+1}>| <= 1. A start that is uniform on the sphere of R^n has |<u, q_1>| < d with a probability of at most
    d sqrt(2 n / pi), in C^n of at most n d^2 (compare Kuczynski and Wozniakowski, SIAM J. Matrix Anal. Appl. 13,
    1992). But for that, s^2 is at most the x beyond the zeros where p_k(x) = 1/d (van den Eshof and Hochstenbach 2002;
    Hochstenbach, BIT 53, 2013), for every k at once: when to stop may depend on what was found. Nothing is assumed
    of the singular values, which may lie as close as they like, nor that the q_k stay orthogonal, which they do not.

    The start is drawn once from a fixed seed: the probability is over operators that do not know of it. Rounding
    moves <u, q_1>; that changes which starts are bad, not how many.

    Args:
        operator: A.
        tolerance: iterations go on until the bound of s^2 is within it of the largest Ritz value, which lies below.
        most: iterations, each one A^H A; with as many, the bound is what it is.
    """
    vector, overlap = _start(operator)
    before, coupling = torch.zeros_like(vector), 0.0
    diagonal: list[float] = []
    couplings: list[float] = []
    bound = math.inf
    for step in range(1, most + 1):
        image = operator._run_gram(vector) - coupling * before
        diagonal.append(float(torch.linalg.vecdot(vector.flatten(), image.flatten()).real))
        image = image - diagonal[-1] * vector
        # float64: squares of small or large units leave the range of float32
        wide = torch.complex128 if image.is_complex() else torch.float64
        coupling = float(torch.linalg.vector_norm(image, dtype=wide).real)
        couplings.append(coupling)
        if coupling == 0 or step % 5 == 0 or step == most:
            largest = _largest_ritz_value(diagonal, couplings)
            if coupling == 0 or largest <= 0:  # the q_k span all that A does to the start
                return math.sqrt(max(min(bound, largest), 0.0)) * (1 + _ROUNDING)
            bound = min(bound, _where_it_grows_to(1 / overlap, diagonal, couplings, largest))
            if bound <= (1 + tolerance) * largest:
                break
        before, vector = vector, image / coupling
    return math.sqrt(bound) * (1 + _ROUNDING)


def _start(operator: LinearOperator) -> tuple[torch.Tensor, float]:
    """A vector that is uniform on the sphere, and the least overlap d that all but `FAILURE` of those have."""
    generator = torch.Generator().manual_seed(0)
    gives_complex = operator.domain == "any" and operator._gives_complex_data()
    dtype = torch.complex64 if operator.domain == "complex" or gives_complex else torch.float32
    vector = torch.randn(operator.domain_shape, generator=generator, dtype=dtype).to(operator.device)
    size = vector.numel()
    overlap = math.sqrt(FAILURE / size) if vector.is_complex() else FAILURE * math.sqrt(math.pi / (2 * size))
    return vector / torch.linalg.vector_norm(vector), overlap


def _largest_ritz_value(diagonal: list[float], couplings: list[float]) -> float:
    off = torch.tensor(couplings[: len(diagonal) - 1], dtype=torch.float64)
    matrix = (
        torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
    )
    return float(torch.linalg.eigvalsh(matrix)[-1])


def _where_it_grows_to(value: float, diagonal: list[float], couplings: list[float], largest: float) -> float:
    """The x >= ``largest`` at which the Lanczos polynomial is ``value``, by bisection.

    p_j(x) = ((x - a_j) p_{j-1}(x) - b_{j-1} p_{j-2}(x)) / b_j, as products of the ratios p_j / p_{j-1}, all of which
    are positive beyond the largest zero. What rounding makes of a vanishing b_j is no smaller than rounding.
    """
    least = 1e-6 * largest
    goal = math.log(value)

    def reached(x: float) -> bool:
        logarithm, ratio, coupling = 0.0, math.inf, 0.0
        for entry, following in zip(diagonal, couplings, strict=True):
            ratio = ((x - entry) - coupling / ratio) / max(following, least)
            if ratio <= 0:
                return False
            logarithm, coupling = logarithm + math.log(ratio), following
        return logarithm >= goal

    low, width = largest, 1e-3 * largest
    while not reached(low + width):
        width *= 2
    high = low + width
    while high - low > 1e-5 * largest:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def collatz_wielandt_bound(operator: LinearOperator, tolerance: float = 1e-3, most: int = 60) -> float:
    """An upper bound of the norm of a non-negative operator.

    For B = A^H A >= 0 and any x > 0 the largest eigenvalue lies between min (Bx)_i/x_i and max (Bx)_i/x_i
    (Collatz 1942, Wielandt 1950), so the bound holds at every iteration; iterating x <- Bx tightens it.
    Pixels that no ray meets drop out. The last digits of float32 are covered by a factor 1 + 1e-4.
    """
    x = torch.ones(operator.domain_shape, device=operator.device)
    upper = math.inf
    for _ in range(most):
        image = operator.gram(x)
        met = image > 0
        if not bool(met.any()):
            return 0.0
        ratio = image[met] / x[met]
        upper = min(upper, float(ratio.max()))
        lower = float((image * x).sum() / (x * x).sum())
        if upper <= (1 + tolerance) * lower:
            break
        # pixels that decay to nothing are held up: a positive x keeps the bound valid and finite
        x = (image / image.max()).clamp_min(1e-6) * met
    return math.sqrt(upper) * (1 + _ROUNDING)
