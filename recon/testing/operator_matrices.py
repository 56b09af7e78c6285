"""Checks of an operator against its own matrix: adjoint, norm, gram, pinv and the data step's closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from recon.linear import LinearOperator, Step
from recon.testing.dense import conjugate_gradient_iterations, dense, dense_adjoint, systems
from recon.testing.diagnosis import describe_adjoint
from recon.testing.measuring import CLOSE, TINY, inner, random, relative_error, require, require_close
from recon.testing.ways import both_ways


def check_dense_adjoint(operator: LinearOperator) -> None:
    """The matrix B of the adjoint is the conjugate transpose of the forward matrix A; this check decides.

    The difference is measured in the spectral norm, relative to that of the operator. An operator that
    declares ``adjoint_kind = "approximate"`` may differ by its `adjoint_tolerance`. Where B has a simple
    relation to A^H (a missing conjugate, a flip, a shift, a factor), the message names it.
    """
    forward, adjoint = dense(operator), dense_adjoint(operator)
    scale = float(torch.linalg.matrix_norm(forward, 2))
    error = float(torch.linalg.matrix_norm(adjoint - forward.mH, 2)) / max(scale, TINY)
    tolerance = max(CLOSE, declared_error(operator))
    if not error <= tolerance:
        split = operator.domain == "real" and len(forward) == 2 * math.prod(operator.range_shape)
        if split:  # real and imaginary rows of complex data, back into one complex matrix
            half = len(forward) // 2
            forward = torch.complex(forward[:half], forward[half:])
            adjoint = torch.complex(adjoint[:, :half], -adjoint[:, half:])
        cause = describe_adjoint(forward, adjoint, operator.domain_shape, operator.range_shape)
        raise AssertionError(
            f"the adjoint's matrix B is not A^H: |B - A^H| is {error:.1e} of |A|, expected at most "
            f"{tolerance:.1e} for an adjoint declared as {operator.adjoint_kind}. {cause}"
        )


def check_adjoint(operator: LinearOperator) -> None:
    """<A x, y> = <x, A^H y> for white noise x and y, relative to the product; needs no matrix.

    Three seeds, of which one may fail: a product of white noise may vanish by chance. Normalised by |A x| |y|
    instead, a wrong scale of a large operator would pass, as the product of independent noise is far smaller.
    An approximate adjoint may differ by its `adjoint_tolerance` times |A| |x| |y|.
    """
    forward, adjoint = both_ways(operator)
    allowed = declared_error(operator) * operator.norm() if declared_error(operator) else 0.0
    failures = []
    for seed in (1, 2, 3):
        x, y = forward.draw(seed=seed), adjoint.draw(seed=seed + 10)
        product, back = inner(operator(x), y), inner(x, operator.adjoint(y))
        if operator.domain == "real":
            product, back = product.real, back.real
        difference, size = float((product - back).abs()), max(float(product.abs()), float(back.abs()))
        if not difference <= 1e-3 * size + allowed * float(x.norm() * y.norm()):
            failures.append(difference / max(size, TINY))
    require(
        len(failures) < 2,
        f"<Ax, y> and <x, A^H y> differ by {', '.join(f'{error:.1e}' for error in failures)} of their size "
        f"for {len(failures)} of 3 seeds, expected at most 1.0e-03"
        + (f" and {declared_error(operator):.1e} |A| |x| |y|, as declared" if allowed else ""),
    )


def check_norm_bound(operator: LinearOperator, *, looseness: float = 2.0) -> None:
    """`norm()` is not below the largest singular value, and at most `looseness` times it.

    Where the operator declares itself ``orthonormal``, all singular values are 1.
    """
    if operator.orthonormal:
        matrix = dense(operator)
        rows = torch.eye(len(matrix)).to(matrix)
        require_close(matrix @ matrix.mH, rows, "declared orthonormal, but A A^H is not the identity")
    truth = float(torch.linalg.matrix_norm(dense(operator), 2))
    bound, room = operator.norm(), 1e-6 * truth  # the norm may have been computed in single precision
    require(bound >= truth - room, f"norm() is {bound:.7g}, below the largest singular value {truth:.7g}")
    require(
        bound <= looseness * truth + room,
        f"norm() is {bound:.4g}, expected at most {looseness:g} times the largest singular value {truth:.4g}",
    )


def check_gram(operator: LinearOperator) -> None:
    """`gram` is the adjoint after the forward."""
    tolerance = max(CLOSE, 2 * declared_error(operator))
    for dtype in both_ways(operator)[0].dtypes:
        x = both_ways(operator)[0].draw(2, dtype=dtype)
        what = f"gram in {dtype} differs from the adjoint after the forward"
        require_close(operator.gram(x), operator.adjoint(operator(x)), what, tolerance)


def check_pinv(operator: LinearOperator) -> None:
    """`pinv` gives a finite image, zero for zero data, and A pinv(y) explains a part of clean data y."""
    y = operator(both_ways(operator)[0].draw(2))
    image = operator.pinv(y)
    require(bool(torch.isfinite(image).all()), "pinv gives NaN or infinite values")
    at_zero = float(operator.pinv(torch.zeros_like(y)).abs().max())
    require(at_zero == 0, f"pinv of zeros reaches {at_zero:.1e}, expected 0")
    rest = relative_error(operator(image), y)
    require(rest < 1, f"A pinv(y) leaves {rest:.0%} of clean data y, expected less than all of it")


def check_solve_gram(operator: LinearOperator, *, terms: Sequence[LinearOperator] = ()) -> None:
    """`solve_gram`, where it gives a solution, solves the dense system, also with one weight per item."""
    for system in systems(operator, terms):
        truth = random((2, *operator.domain_shape), system.parts[0].dtype).to(operator.device)
        for factors in ((1.0, 1.0), (1.0, 3.0)):
            b = torch.stack(
                [
                    (system.matrix([factor * weight for weight in system.rho]) @ x.flatten()).reshape(x.shape)
                    for factor, x in zip(factors, truth, strict=True)
                ]
            )
            rho: list[Step] = list(system.rho)
            if factors[0] != factors[1]:
                scale = torch.tensor(factors, dtype=torch.float64, device=b.device)
                rho = [weight * scale.reshape(2, *(1,) * len(operator.domain_shape)) for weight in system.rho]
            before = b.clone()
            solution = operator.solve_gram(b, rho, system.maps)
            if solution is None:
                continue
            require(torch.equal(b, before), f"solve_gram {system} changes its input")
            require_close(solution, truth, f"solve_gram {system} differs from the dense solution")


def check_preconditioner(operator: LinearOperator, *, terms: Sequence[LinearOperator] = ()) -> None:
    """`preconditioner`, where there is one, is Hermitian positive definite and slows nothing down."""
    for system in systems(operator, terms):
        apply = operator.preconditioner(system.rho, system.maps)
        if apply is None:
            continue
        size, dtype = math.prod(operator.domain_shape), system.parts[0].dtype
        units = torch.eye(size, dtype=dtype, device=operator.device).reshape(size, *operator.domain_shape)
        dense = apply(units).reshape(size, size).T
        require_close(dense, dense.mH, f"the preconditioner {system} is not Hermitian")
        values = torch.linalg.eigvalsh((dense + dense.mH) / 2)
        smallest, largest = float(values[0]), float(values[-1])
        require(
            smallest > 0, f"the preconditioner {system} has eigenvalues from {smallest:.1e} to {largest:.1e}"
        )
        plain = conjugate_gradient_iterations(system.matrix(system.rho))
        steered = conjugate_gradient_iterations(system.matrix(system.rho), dense)
        require(
            steered <= plain,
            f"conjugate gradients need {steered} steps with the preconditioner {system}, {plain} without",
        )


def declared_error(operator: LinearOperator) -> float:
    """How far the adjoint may be from the transpose, in the spectral norm relative to that of A."""
    return operator.adjoint_tolerance if operator.adjoint_kind == "approximate" else 0.0
