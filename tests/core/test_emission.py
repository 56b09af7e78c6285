"""Emission counts: the data term against SciPy and Newton, MLEM and OSEM against its maximum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from small_models import TV, Matrix, NonNegative, NonNegativeMatrix, Ridge
from torch import Tensor

import recon
from recon.fidelity import as_fidelity
from recon.subsets import Subset

PIXELS, BINS, BACKGROUND = 8, 30, 2.0
PRECISE = recon.SmallResiduals(1e-8) | recon.MaxIterations(20_000)


class Scan(NonNegativeMatrix):
    """A matrix that can be dealt out by rows."""

    def subsets(self, count: int) -> list[Subset]:
        """Every count-th row."""
        rows = [slice(first, None, count) for first in range(count)]
        return [Subset(NonNegativeMatrix(self.matrix[part]), (part,)) for part in rows]


def scan(items: int = 2) -> tuple[Tensor, Tensor]:
    """A non-negative matrix, and counts of several items, one of them with few."""
    generator = torch.Generator().manual_seed(0)
    A = torch.rand(BINS, PIXELS, generator=generator, dtype=torch.float64)
    x = 30 * torch.rand(items, PIXELS, generator=generator, dtype=torch.float64)
    x[-1] /= 20
    return A, torch.poisson(x @ A.T + BACKGROUND, generator=generator)


def term(y: Tensor, background: float = BACKGROUND) -> recon.Emission:
    return recon.Emission(background).for_items(y, y.shape[:1])


@given(st.floats(-50, 50), st.integers(0, 1000), st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_the_proximal_map_is_stationary(z: float, count: int, step: float) -> None:
    y, at = torch.full((1, 1), float(count), dtype=torch.float64), torch.full((1, 1), z, dtype=torch.float64)
    f = recon.Emission(BACKGROUND)
    u = f.prox(at, y, step)
    expected = float(u) + BACKGROUND
    assert expected >= 0
    slope = step * (1 - count / max(expected, 1e-300)) + float(u - at)
    if expected > 1e-12:
        assert abs(slope) <= 1e-7 * (step * (1 + count / expected) + abs(z) + 1)
    else:
        assert count == 0 and slope >= -1e-9  # at the border of what is possible


def test_value_and_gradient() -> None:
    _, y = scan()
    y[0, :3] = 0
    f = term(y)
    z = (y + 1.5).requires_grad_()
    value = f.value(z, y)
    assert bool((value > 0).all()) and bool(
        (f.value((y - BACKGROUND).clamp_min(1e-12 - BACKGROUND), y) < 1e-9).all()
    )
    (slope,) = torch.autograd.grad(value.sum(), z)
    torch.testing.assert_close(f.gradient(z.detach(), y), slope)
    assert bool(torch.isinf(f.value(torch.full_like(y, -BACKGROUND - 1), y)).all())


def test_names_and_what_is_refused() -> None:
    assert as_fidelity("emission:background=3").background == 3.0  # type: ignore[attr-defined]
    A, y = scan()
    for data, words in ((-y, r"takes counts, >= 0, but the data go down to -"), (0 * y, "without a count")):
        with pytest.raises(ValueError, match=words):
            recon.Problem(Scan(A), data, fidelity="emission")
    with pytest.raises(ValueError, match="background must be finite"):
        recon.Emission(-1.0)
    with pytest.raises(ValueError, match="background of shape"):
        recon.Problem(Scan(A), y, fidelity=recon.Emission(torch.ones(7)))


def most_likely(A: Tensor, y: Tensor, ridge: float = 0.0) -> np.ndarray:
    """By L-BFGS-B, which knows bounds."""
    matrix, counts = A.numpy(), y.numpy()

    def both(x: np.ndarray) -> tuple[float, np.ndarray]:
        z = matrix @ x + BACKGROUND
        value = (z - counts * np.log(z)).sum() + ridge / 2 * x @ x
        return value, matrix.T @ (1 - counts / z) + ridge * x

    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 10_000}
    found = minimize(
        both, np.ones(PIXELS), jac=True, bounds=[(0, None)] * PIXELS, method="L-BFGS-B", options=options
    )
    return np.asarray(found.x)


@pytest.mark.parametrize("solver", [recon.PDHG(), recon.ADMM()], ids=repr)
def test_penalised_likelihood(solver: recon.PDHG) -> None:
    A, y = scan()
    prior = Ridge(0.01) + NonNegative()
    solution = recon.solve(
        Scan(A), prior, y, solver=solver, fidelity=recon.Emission(BACKGROUND), stop=PRECISE
    )
    assert solution.converged
    for item in range(2):
        expected = most_likely(A, y[item], 0.01)
        assert (
            np.abs(solution.image[item].numpy() - expected).max() < 1e-4 * expected.max()
        )  # L-BFGS's own accuracy


def test_total_variation_of_counts_is_the_same_by_both_solvers() -> None:
    A, y = scan()
    images = [
        recon.solve(
            NonNegativeMatrix(A, (2, 4)),
            TV(0.1) + NonNegative(),
            y,
            solver=solver,
            fidelity=recon.Emission(BACKGROUND),
            stop=PRECISE,
        ).image
        for solver in (recon.ADMM(), recon.PDHG())
    ]
    torch.testing.assert_close(images[1], images[0], rtol=1e-4, atol=1e-4 * float(images[0].max()))


def test_mlem_never_loses_likelihood_and_finds_its_maximum() -> None:
    A, y = scan()
    stop = recon.MaxIterations(5_000)
    solution = recon.solve(
        Scan(A), None, y, solver=recon.MLEM(), fidelity=recon.Emission(BACKGROUND), stop=stop
    )
    values = np.array(solution.history["objective"])
    assert (np.diff(values, axis=0) <= 1e-9).all()
    for item in range(2):
        expected = most_likely(A, y[item])
        reached = float(
            term(y[item : item + 1]).value(solution.image[item : item + 1] @ A.T, y[item : item + 1])
        )
        best = float(
            term(y[item : item + 1]).value(torch.from_numpy(expected)[None] @ A.T, y[item : item + 1])
        )
        assert reached <= best + 1e-3  # MLEM creeps where a pixel goes to zero


def test_mlem_keeps_the_counts() -> None:
    """Without a background, what an iteration projects has as many counts as were measured."""
    A, y = scan()
    solution = recon.solve(
        Scan(A), None, y, solver=recon.MLEM(), fidelity="emission", stop=recon.MaxIterations(1)
    )
    torch.testing.assert_close((solution.image @ A.T).sum(1), y.sum(1))


def test_osem_says_what_it_does_not_take() -> None:
    A, y = scan()
    with pytest.raises(ValueError, match=r"fidelity 'emission'.*got 'gaussian'"):
        recon.solve(Scan(A), None, y, solver=recon.OSEM())
    with pytest.raises(ValueError, match=r"takes no prior but x >= 0, got TV"):
        recon.solve(NonNegativeMatrix(A, (2, 4)), TV(0.1), y, solver=recon.MLEM(), fidelity="emission")
    with pytest.raises(ValueError, match=r"without negative entries"):
        recon.solve(Matrix(A), None, y, solver=recon.MLEM(), fidelity="emission")
    with pytest.raises(TypeError, match=r"NonNegativeMatrix has no subsets: write `subsets\(count\)`"):
        recon.solve(NonNegativeMatrix(A), None, y, solver=recon.OSEM(), fidelity="emission")
    with pytest.raises(ValueError, match=r"gradient everywhere, which fidelity 'emission' has not"):
        recon.solve(Scan(A), NonNegative(), y, solver=recon.FISTA(), fidelity="emission")
