"""A solve of one image is the same whatever is solved beside it: any solver, prior and stopping rule."""

from __future__ import annotations

import warnings
from typing import Any

import hypothesis.strategies as st
import torch
from hypothesis import HealthCheck, given, settings
from small_models import L1, TV, Masked, Matrix, NonNegative, Ridge, Smoother
from torch import Tensor

import recon


def algorithms() -> list[Any]:
    """Every algorithm that `recon` offers and that can be made without arguments."""
    offered = [getattr(recon, name) for name in recon.__all__]
    methods = ("start", "step", "image", "default_stop")
    return [
        made
        for kind in offered
        if isinstance(kind, type) and all(hasattr(kind, method) for method in methods)
        for made in [kind()]
    ]


PRIORS = [
    None,
    Ridge(0.3),
    L1(0.2),
    TV(0.2),
    TV(0.1) + NonNegative(),
    L1(0.1) + Ridge(0.1),
    NonNegative(),
    Smoother(0.3),
]
RULES = [
    None,
    recon.MaxIterations(7),
    recon.SmallResiduals(1e-4) | recon.MaxIterations(40),
    recon.RelativeChange(1e-3) | recon.MaxIterations(40),
    recon.Discrepancy(1.1) | recon.MaxIterations(30),
    (recon.Discrepancy(1.5) & recon.RelativeChange(1e-2)) | recon.MaxIterations(30),
]


class OneByOne(Matrix):
    """A matrix applied to one item after another: BLAS rounds a batch otherwise than an item, and conjugate gradients
    let such differences grow by ten decimal digits."""

    def _forward(self, x: Tensor) -> Tensor:
        return torch.stack([super(OneByOne, self)._forward(item) for item in x])

    def _adjoint(self, y: Tensor) -> Tensor:
        return torch.stack([super(OneByOne, self)._adjoint(item) for item in y])

    flatten_batch = True


def operators() -> list[recon.LinearOperator]:
    """One without and one with a mask of where data exist."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(30, 20, generator=generator, dtype=torch.float64)
    return [OneByOne(matrix, (4, 5)), Masked((torch.rand(4, 5, generator=generator) < 0.7).double())]


def solved(
    operator: Any, prior: Any, y: Tensor, solver: Any, rule: Any, levels: Tensor
) -> recon.Solution | str:
    """The solution, or why the solver refuses."""
    try:
        return recon.solve(
            operator, prior, y, solver=solver, stop=rule, fidelity=("gaussian", {"noise_level": levels})
        )
    except (ValueError, recon.DivergenceError) as error:
        return type(error).__name__


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    solver=st.sampled_from(algorithms()),
    prior=st.sampled_from(PRIORS),
    rule=st.sampled_from(RULES),
    operator=st.sampled_from(operators()),
    scales=st.lists(st.sampled_from([1e-3, 0.1, 1.0, 30.0]), min_size=2, max_size=3),
    seed=st.integers(0, 1000),
)
def test_an_item_does_not_depend_on_its_mates(
    solver: Any, prior: Any, rule: Any, operator: Any, scales: list[float], seed: int
) -> None:
    """float64: image, reason and number of iterations; scales make the items stop at different times."""
    generator = torch.Generator().manual_seed(seed)
    factors = torch.tensor(scales, dtype=torch.float64)
    x = torch.rand(len(scales), 4, 5, generator=generator, dtype=torch.float64)
    noise = 0.1 * torch.randn(len(scales), *operator.range_shape, generator=generator, dtype=torch.float64)
    y = operator(x) + (noise if operator.sample_mask is None else noise * operator.sample_mask)
    y = y * factors.reshape(-1, *(1,) * (y.ndim - 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", recon.ConvergenceWarning)
        together = solved(operator, prior, y, solver, rule, 0.1 * factors)
        for item in range(len(scales)):
            alone = solved(operator, prior, y[item], solver, rule, 0.1 * factors[item])
            if isinstance(together, str) or isinstance(alone, str):
                assert together == alone
                continue
            assert (together.reasons[item], together.facts["iterations"][item]) == (
                alone.reason,
                alone.iterations,
            )
            scale = float(alone.image.abs().max()) or 1.0
            torch.testing.assert_close(together.image[item], alone.image, rtol=0, atol=1e-7 * scale)
