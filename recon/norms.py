"""The largest singular value of an operator that is known by its action only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from recon.linear import LinearOperator


def lanczos_norm(
    operator: LinearOperator, tolerance: float = 1e-3, least: int = 30, most: int = 300
) -> float:
    """Largest singular value from the tridiagonal matrix that Lanczos' method makes of A^H A.

    From a fixed random start, at least 30 steps, then until the residual of the largest Ritz value is below
    the tolerance (Golub and Van Loan 2013, 10.1). The Ritz value comes from below and lies within its
    residual of an eigenvalue: the residual is added, and 1 % for a direction that the start hardly holds. Where
    two singular values lie close, a power iteration seems to settle long before it is there.
    """
    generator = torch.Generator().manual_seed(0)
    gives_complex = operator.domain == "any" and operator._gives_complex_data()
    dtype = torch.complex64 if operator.domain == "complex" or gives_complex else torch.float32
    vector = torch.randn(operator.domain_shape, generator=generator, dtype=dtype).to(operator.device)
    vector = vector / torch.linalg.vector_norm(vector)
    before, coupling = torch.zeros_like(vector), 0.0
    diagonal: list[float] = []
    couplings: list[float] = []
    largest = residual = 0.0
    for step in range(1, most + 1):
        image = operator._run_gram(vector) - coupling * before
        diagonal.append(float(torch.linalg.vecdot(vector.flatten(), image.flatten()).real))
        image = image - diagonal[-1] * vector
        # float64: squares of small or large units leave the range of float32
        wide = torch.complex128 if image.is_complex() else torch.float64
        coupling = float(torch.linalg.vector_norm(image, dtype=wide).real)
        exhausted = coupling <= 1e-6 * max(*map(abs, diagonal), *couplings, 0.0)
        if exhausted or step == most or (step >= least and step % 5 == 0):
            off = torch.tensor(couplings, dtype=torch.float64)
            matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
            matrix = matrix + torch.diag(off, 1) + torch.diag(off, -1)
            values, vectors = torch.linalg.eigh(matrix)
            largest, residual = float(values[-1]), coupling * abs(float(vectors[-1, -1]))
            if exhausted or residual <= tolerance * largest:
                break
        couplings.append(coupling)
        before, vector = vector, image / coupling
    return 1.01 * math.sqrt(max(largest + residual, 0.0))


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
    return math.sqrt(upper) * (1 + 1e-4)
