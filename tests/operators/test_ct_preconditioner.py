"""CT with a weight for every ray: its preconditioner is positive definite and better than that of the mean weight."""

import math

import pytest
import torch
from recon_operators.ct import ParallelBeam
from recon_operators.ct_fan import FanBeam
from recon_operators.gradient import Gradient
from torch import Tensor

import recon
from recon.linear import LinearOperator

SIDE = 32
SCANS = {
    "parallel": lambda: ParallelBeam((SIDE, SIDE), angles=30, backend="matrix"),
    "fourier": lambda: ParallelBeam((SIDE, SIDE), angles=30, backend="fourier"),
    "fan": lambda: FanBeam((SIDE, SIDE), angles=40, source_origin=60.0, origin_detector=40.0),
}


def weighted(op: LinearOperator) -> recon.Problem:
    """Counts that range over two orders of magnitude: a dense disc."""
    place = torch.arange(SIDE, dtype=torch.float64) - (SIDE - 1) / 2
    disc = 0.3 * (place[:, None] ** 2 + place**2 < (0.35 * SIDE) ** 2).double()
    return recon.Problem(op, op(disc), fidelity=("pwls", {"photons": 1e4}))


def iterations(matrix: Tensor, inverse: Tensor, b: Tensor) -> int:
    """Preconditioned conjugate gradients until the residual is 1e-4 of the right-hand side."""
    x, residual = torch.zeros_like(b), b
    steered = inverse @ residual
    direction, squared = steered, residual @ steered
    for count in range(1, 500):
        image = matrix @ direction
        alpha = squared / (direction @ image)
        x, residual = x + alpha * direction, residual - alpha * image
        if residual.norm() < 1e-4 * b.norm():
            return count
        steered = inverse @ residual
        direction, squared = steered + (residual @ steered) / squared * direction, residual @ steered
    return 500


@pytest.mark.parametrize("name", SCANS)
def test_weights_as_pixels_see_them_save_iterations(name: str) -> None:
    op = SCANS[name]()
    problem, gradient = weighted(op), Gradient((SIDE, SIDE))
    dense, differences = op.to_dense(torch.float64), gradient.to_dense(torch.float64)
    weights = problem.item_fidelity.weights.double().flatten()
    normal = dense.T @ (weights[:, None] * dense)
    rho = 1e-3 * float(normal.sum(1).max())
    matrix = normal + rho * differences.T @ differences
    units = torch.eye(SIDE**2, dtype=torch.float64).reshape(-1, SIDE, SIDE)
    by_mean = op.preconditioner([rho / float(weights.mean())], [gradient])
    inverses = [
        apply(units).reshape(SIDE**2, -1).T for apply in (problem.preconditioner([rho], [gradient]), by_mean)
    ]
    for inverse in inverses:
        torch.testing.assert_close(inverse, inverse.T)
        torch.linalg.cholesky((inverse + inverse.T) / 2)  # raises where it is not positive definite
    b = matrix @ torch.randn(SIDE**2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen, mean = (iterations(matrix, inverse, b) for inverse in inverses)
    assert seen < 0.8 * mean, (seen, mean)


def test_equal_weights_are_seen_as_they_are() -> None:
    op = SCANS["parallel"]()
    torch.testing.assert_close(
        op.weights_seen(torch.full((2, *op.range_shape), 3.0)), torch.full((2, SIDE, SIDE), 3.0)
    )


def test_pixels_that_no_ray_meets_are_seen_with_no_weight() -> None:
    with pytest.warns(UserWarning, match="does not cover"):
        op = ParallelBeam((SIDE, SIDE), angles=[0.0, math.pi / 2], detectors=8, backend="matrix")
    seen = op.weights_seen(torch.ones(1, *op.range_shape))[0]
    assert float(seen[0, 0]) == 0
    assert float(seen[SIDE // 2, SIDE // 2]) == pytest.approx(1)


def test_selected_items_keep_their_weights() -> None:
    op = SCANS["parallel"]()
    data = torch.stack([op(torch.full((SIDE, SIDE), value)) for value in (0.01, 0.02, 0.05)])
    problem = recon.Problem(op, data, fidelity=("pwls", {"photons": 1e4}))
    whole = problem.weights_seen
    torch.testing.assert_close(problem.select(torch.tensor([2, 0])).weights_seen, whole[[2, 0]])
