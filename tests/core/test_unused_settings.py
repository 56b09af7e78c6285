"""A setting that the solver cannot look at is refused, with the reason, and never ignored."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import recon
from recon.learned import LearnedPrior
from recon.scans import LimitError, limited_stop

SHAPE = (8, 8)
Y = torch.rand(*SHAPE, generator=torch.Generator().manual_seed(0))
OP = recon.Identity(SHAPE)


class Shrink(recon.Denoiser):
    """The proximal map of |x|^2 / 2 for noise of variance sigma^2: x / (1 + sigma^2)."""

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        variance = torch.as_tensor(sigma, dtype=x.dtype).square().reshape(-1, *(1,) * (x.ndim - 1))
        return x / (1 + variance)


def network() -> LearnedPrior:
    return LearnedPrior(nn.Conv2d(1, 1, 1), image_range=(0.0, 1.0))


@pytest.mark.parametrize(
    "given", [{"weight": "auto"}, {"weight": "sure"}, {"weight": "lcurve"}, {"weight": 0.1}, {"x0": Y}]
)
def test_a_network_applied_once_takes_no_weight_and_no_first_image(given: dict[str, Any]) -> None:
    solver = recon.Feedforward()
    (name,) = given
    with pytest.raises(
        ValueError, match=rf"^{name} was given, but the solver feedforward .*leave {name} out"
    ):
        recon.solve(OP, network(), Y, solver=solver, **given)
    recon.solve(OP, network(), Y, solver=solver)


@pytest.mark.parametrize(("prior", "solver"), [(None, recon.Direct()), (network(), recon.Feedforward())])
def test_one_step_takes_no_limit(prior: Any, solver: Any) -> None:
    with pytest.raises(ValueError, match="stop was given, but the solver .* takes one step"):
        recon.solve(OP, prior, Y, solver=solver, stop=recon.MaxIterations(9))
    problem = recon.Problem(OP, Y, prior=prior)
    with pytest.raises(LimitError, match="takes one step"):
        limited_stop(solver, problem, {"iterations": 9})
    assert limited_stop(solver, problem, {}) is None


def test_the_direct_reconstruction_says_what_it_makes_of_the_data_term() -> None:
    weights = torch.ones(SHAPE)
    weights[2, 2] = 0
    explained = recon.solve(OP, None, Y, fidelity=("gaussian", {"weights": weights})).explain()
    assert "looks at the data term for samples of weight 0 alone" in explained
    assert "weight 0 alone" not in recon.solve(OP, None, Y).explain()


def test_sure_for_a_denoiser_begins_at_the_variance_of_the_noise() -> None:
    """White noise of 0.2 on white pixels of variance 1: the best linear shrinkage has the weight 0.04 (Wiener)."""
    truth = torch.randn(64, 64, generator=torch.Generator().manual_seed(1))
    y = truth + 0.2 * torch.randn(64, 64, generator=torch.Generator().manual_seed(2))
    known = ("gaussian", {"noise_level": 0.2})
    op = recon.Identity((64, 64))
    for solver in (recon.ADMM(), recon.HQS(iterations=8)):
        solution = recon.solve(op, Shrink(), y, solver=solver, weight="sure", fidelity=known)
        assert solution.weight_search[0]["weight"] == [pytest.approx(0.04)]
        given = recon.solve(op, Shrink(), y, solver=solver, weight=solution.weight, fidelity=known)
        # the run is that of the weight given as a number: a schedule begins anew, ADMM only converges to it
        torch.testing.assert_close(
            solution.image, given.image, rtol=0, atol=0 if isinstance(solver, recon.HQS) else 5e-3
        )
    assert (
        0.02 < solution.weight < 0.08
    )  # the estimate is one of a random 4096 pixels, on a grid of a factor 1.3
