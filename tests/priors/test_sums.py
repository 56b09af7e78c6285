"""Sums of priors as properties: any two, or one and a constraint, real and complex, images and volumes."""

from __future__ import annotations

import functools
import operator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_operators import Mask
from recon_priors import L1, Box, HuberTV, NonNegative, Tikhonov, TotalVariation, WaveletSparsity
from torch import Tensor

import recon

# slow first-order cases end at the bound on iterations: the tolerances allow for it
pytestmark = pytest.mark.filterwarnings("ignore::recon.ConvergenceWarning")

FUNCTIONALS = {
    "l1": lambda weight: L1(weight),
    "tikhonov": lambda weight: Tikhonov(weight),
    "tv": lambda weight: TotalVariation(weight),
    "huber_tv": lambda weight: HuberTV(0.1, weight),
    "wavelet": lambda weight: WaveletSparsity(weight, wavelet="haar", levels=1),
}
CONSTRAINTS = {"nonnegative": NonNegative, "box": lambda: Box(low=0.0, high=0.7)}
EXACT = recon.SmallResiduals(1e-5) | recon.MaxIterations(400)

weights = st.floats(0.02, 0.3)
terms = st.lists(
    st.tuples(st.sampled_from(sorted(FUNCTIONALS)), weights), min_size=2, max_size=2, unique_by=lambda t: t[0]
)
shapes = st.sampled_from([(5, 6), (8, 4), (3, 4, 5)])


def posed(shape: tuple[int, ...], is_complex: bool, seed: int) -> tuple[recon.LinearOperator, Tensor]:
    """Half of the pixels of a random image, with noise, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    op = Mask((torch.rand(shape, generator=generator) < 0.5).double())
    dtype = torch.complex128 if is_complex else torch.float64
    return op, op(torch.randn(shape, dtype=dtype, generator=generator) + 0.5)


def summed(chosen: list[tuple[str, float]], constraint: str | None, is_complex: bool) -> recon.Prior:
    """The sum; a constraint on a complex image binds its real and its imaginary part."""
    members: list[recon.Prior] = [FUNCTIONALS[name](weight) for name, weight in chosen]
    if constraint is not None:
        bound = CONSTRAINTS[constraint]()
        members.append(recon.RealAndImaginary(bound) if is_complex else bound)
    return functools.reduce(operator.add, members)


@settings(max_examples=3, deadline=None, derandomize=True)
@given(terms, shapes, st.booleans(), st.integers(0, 99))
def test_both_solvers_end_in_the_same_minimum(
    chosen: list[tuple[str, float]], shape: tuple[int, ...], is_complex: bool, seed: int
) -> None:
    op, y = posed(shape, is_complex, seed)
    prior = summed(chosen, None, is_complex)
    objective = recon.Problem(op, y, prior=prior).objective
    found = {name: recon.solve(op, prior, y, solver=name, stop=EXACT).image for name in ("admm", "pdhg")}
    values = {name: float(objective(image[None])) for name, image in found.items()}
    # relative residuals of 1e-5, or 400 iterations of a first-order method
    assert abs(values["admm"] - values["pdhg"]) <= 3e-3 * values["admm"], values
    elsewhere = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(seed))
    for toward in (op.adjoint(y), torch.zeros_like(y), elsewhere):
        beside = found["admm"] + 1e-2 * (toward - found["admm"])
        assert float(objective(beside[None])) >= values["admm"] * (1 - 1e-4)


@settings(max_examples=3, deadline=None, derandomize=True)
@given(weights, weights, shapes, st.booleans(), st.integers(0, 99))
def test_twice_the_same_prior_is_the_prior_of_both_weights(
    first: float, second: float, shape: tuple[int, ...], is_complex: bool, seed: int
) -> None:
    op, y = posed(shape, is_complex, seed)
    sums = TotalVariation(first) + TotalVariation(second) + Tikhonov(0.1)
    alone = TotalVariation(first + second) + Tikhonov(0.1)  # strictly convex: one image
    for solver in ("admm", "pdhg"):
        one, other = (recon.solve(op, prior, y, solver=solver, stop=EXACT).image for prior in (sums, alone))
        assert float((one - other).norm()) <= 1e-2 * float(one.norm()) + 1e-6


@settings(max_examples=3, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(CONSTRAINTS)), weights, shapes, st.booleans(), st.integers(0, 99))
def test_a_constraint_in_a_sum_holds(
    constraint: str, weight: float, shape: tuple[int, ...], is_complex: bool, seed: int
) -> None:
    op, y = posed(shape, is_complex, seed)
    prior = summed([("tv", weight)], constraint, is_complex)
    for solver in ("admm", "pdhg"):
        image = recon.solve(op, prior, y, solver=solver, stop=EXACT).image
        parts = torch.view_as_real(image) if is_complex else image
        assert float(parts.min()) > -1e-3 and (constraint == "nonnegative" or float(parts.max()) < 0.7 + 1e-3)
