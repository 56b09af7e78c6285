"""The bounds that step sizes are made of, against dense float64 matrices: close spectra, bad starts, weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import TV, ComplexMatrix, Gradient, Matrix, NonNegativeMatrix
from torch import Tensor

import recon
from recon import norms
from recon.fidelity import Gaussian
from recon.problem import Problem
from recon.solvers.pdhg import _splits
from recon.solvers.steps import squared_norm

SINGLE = 1e-6  # the operators act in float32; the reference is float64


def with_singular_values(
    values: Tensor, *, complex_matrix: bool, seed: int, first: Tensor | None = None
) -> Tensor:
    """A square matrix of these singular values; `first` is the right vector of the first of them."""
    size, generator = len(values), torch.Generator().manual_seed(seed)
    dtype = torch.complex128 if complex_matrix else torch.float64
    left, right = (torch.randn(size, size, generator=generator, dtype=dtype) for _ in range(2))
    if first is not None:
        right[:, 0] = first
    right = torch.linalg.qr(right).Q
    return (torch.linalg.qr(left).Q * values.to(dtype)) @ right.mH


@st.composite
def spectra(draw: st.DrawFn) -> Tensor:
    """Singular values in [0, 1], the largest 1: some clusters of some width, and a decaying rest."""
    centres = draw(st.lists(st.floats(0.5, 1), min_size=1, max_size=4))
    width = 10.0 ** -draw(st.integers(1, 9))
    seed = draw(st.integers(0, 10_000))
    generator = torch.Generator().manual_seed(seed)
    parts = [
        centre - width * torch.rand(draw(st.integers(1, 40)), generator=generator, dtype=torch.float64)
        for centre in centres
    ]
    rest = torch.arange(1, draw(st.integers(1, 80)) + 1, dtype=torch.float64) ** -draw(st.floats(0.1, 3))
    values = torch.cat([*parts, rest / 2]).clamp_min(0)
    return values / values.max()


@settings(deadline=None, max_examples=80)
@given(values=spectra(), complex_matrix=st.booleans(), seed=st.integers(0, 10_000))
def test_the_bound_holds_for_clustered_spectra(values: Tensor, complex_matrix: bool, seed: int) -> None:
    matrix = with_singular_values(values, complex_matrix=complex_matrix, seed=seed)
    bound = (ComplexMatrix if complex_matrix else Matrix)(matrix).norm()
    assert 1 - SINGLE <= bound <= 1.012  # 2 % of the square, 1e-4 for rounding


@settings(deadline=None, max_examples=60)
@given(
    overlap=st.floats(-6.5, -1),
    gap=st.sampled_from([0.2, 0.1, 0.05, 1e-2]),
    complex_matrix=st.booleans(),
    size=st.integers(3, 250),
    seed=st.integers(0, 10_000),
)
def test_the_bound_holds_though_the_start_hardly_has_the_first_vector(
    overlap: float, gap: float, complex_matrix: bool, size: int, seed: int
) -> None:
    """The worst start that is allowed for: the rest looks settled long before the first value is seen."""
    operator_class = ComplexMatrix if complex_matrix else Matrix
    start, least = norms._start(operator_class(torch.zeros(size, size, dtype=torch.float64)))
    start = start.to(torch.complex128 if complex_matrix else torch.float64)
    across = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=start.dtype)
    across = across - start * torch.vdot(start, across)
    share = max(10.0**overlap, 1.01 * least)
    first = share * start + (1 - share**2) ** 0.5 * across / torch.linalg.vector_norm(across)
    values = torch.cat([torch.ones(1), torch.linspace(1 - gap, 0, size - 1)]).double()
    matrix = with_singular_values(values, complex_matrix=complex_matrix, seed=seed, first=first)
    assert operator_class(matrix).norm() >= 1 - SINGLE


def test_the_least_overlap_is_as_rare_as_stated() -> None:
    """P(|<u, q>| < d) of uniform vectors, at a probability that can be counted."""
    draws, failure = 400_000, 0.02
    generator = torch.Generator().manual_seed(0)
    for dtype, size in [
        (torch.float64, 2),
        (torch.float64, 30),
        (torch.complex128, 2),
        (torch.complex128, 30),
    ]:
        q = torch.randn(draws, size, generator=generator, dtype=dtype)
        first = (q[:, 0].abs() / torch.linalg.vector_norm(q, dim=1)).double()
        matrix = (ComplexMatrix if dtype.is_complex else Matrix)(torch.eye(size))
        _, least = norms._start(matrix)
        # the least overlap goes as the probability for real vectors, as its root for complex ones
        scaled = least * (failure / norms.FAILURE) ** (0.5 if dtype.is_complex else 1)
        found = float((first < scaled).double().mean())
        assert found <= failure + 4 * (failure / draws) ** 0.5


def test_few_iterations_are_enough_where_a_value_stands_out() -> None:
    values = torch.cat([torch.ones(1), torch.linspace(0, 0.7, 300)]).double()
    operator = Matrix(with_singular_values(values, complex_matrix=False, seed=0))
    calls = []
    gram = operator._run_gram
    operator._run_gram = lambda x: calls.append(1) or gram(x)  # type: ignore[method-assign, func-returns-value]
    assert 1 - SINGLE <= operator.norm() <= 1.012
    assert len(calls) <= 20


def test_so_few_iterations_that_nothing_is_settled_give_a_loose_bound_not_a_wrong_one() -> None:
    values = torch.linspace(0, 1, 500, dtype=torch.float64)
    operator = Matrix(with_singular_values(values, complex_matrix=False, seed=1))
    bounds = [norms.lanczos_bound(operator, most=most) for most in (1, 2, 5, 10, 40)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] >= 1 and bounds[0] > 10


@settings(deadline=None, max_examples=30)
@given(spread=st.floats(0, 4), seed=st.integers(0, 10_000), nonnegative=st.booleans())
def test_the_step_of_weighted_data_is_bounded_row_by_row(spread: float, seed: int, nonnegative: bool) -> None:
    """|A^H W A| as FISTA and PDHG take it, for weights over as many as four decades, one row an item."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(30, 20, generator=generator, dtype=torch.float64)
    matrix = matrix.abs() if nonnegative else matrix
    weights = 10.0 ** (spread * torch.rand(2, 30, generator=generator, dtype=torch.float64))
    operator = (NonNegativeMatrix if nonnegative else Matrix)(matrix)
    y = torch.randn(2, 30, generator=generator, dtype=torch.float64)
    problem = Problem(operator, y, fidelity=Gaussian(weights=weights))
    for row, bound in zip(weights, squared_norm(problem).tolist(), strict=True):
        truth = float(torch.linalg.matrix_norm(row.sqrt()[:, None] * matrix, 2)) ** 2
        assert truth * (1 - 2 * SINGLE) <= bound <= 1.03 * truth


@pytest.mark.parametrize("seed", range(5))
def test_the_steps_of_pdhg_keep_its_condition(seed: int) -> None:
    """tau |sum_i sigma_i K_i^H K_i| <= 1 of the dense matrices, from the first iteration to the last."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(40, 36, generator=generator, dtype=torch.float64)
    y = torch.randn(1, 40, generator=generator, dtype=torch.float64)
    problem = Problem(Matrix(matrix, (6, 6)), y, prior=TV(0.1))
    algorithm = recon.PDHG()
    state = algorithm.start(problem)
    splits = _splits(problem, False)
    grams = [matrix.T @ matrix, (dense := Gradient((6, 6)).to_dense(torch.float64)).T @ dense]
    for _ in range(60):
        sigma = [step * split.unit for step, split in zip(state.sigma, splits, strict=True)]
        bounds = [split.squared_norm(state.bound) for split in splits]
        tau = 1 / sum(float(step * bound) for step, bound in zip(sigma, bounds, strict=True))
        total = sum(
            (float(step) * gram for step, gram in zip(sigma, grams, strict=True)), torch.zeros(36, 36)
        )
        assert tau * float(torch.linalg.matrix_norm(total, 2)) <= 1 + SINGLE
        state = algorithm.step(problem, state)
