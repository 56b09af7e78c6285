"""The solver `cg` with the operators' preconditioners: the same solution in a fraction of the iterations."""

from __future__ import annotations

import math

import pytest
import torch
from recon_operators import CartesianMRI, FanBeam, ParallelBeam, RadialMRI
from recon_priors import Tikhonov
from torch import Tensor

import recon


def coil_maps(coils: int, side: int) -> Tensor:
    """Loops around the image, the energy of which varies by a factor of five."""
    place = torch.linspace(-1, 1, side, dtype=torch.float64)
    down, right = place[:, None], place[None, :]
    maps = []
    for angle in (2 * math.pi * coil / coils for coil in range(coils)):
        sine, cosine = math.sin(angle), math.cos(angle)
        distance = (down - 1.1 * sine) ** 2 + (right - 1.1 * cosine) ** 2
        maps.append(torch.polar(torch.exp(-distance / 0.72), down * sine + right * cosine))
    return torch.stack(maps)


OPERATORS = {  # and the largest share of the plain iterations: some 0.3, 0.3, 0.35, 0.6 were measured
    "parallel beam": (lambda: ParallelBeam((32, 32), angles=40), 0.5),
    "fan beam": (lambda: FanBeam((32, 32), angles=80, source_origin=64, origin_detector=32), 0.5),
    "radial, 8 coils": (lambda: RadialMRI((32, 32), 20, coil_maps=coil_maps(8, 32)), 0.5),
    "Cartesian, 8 coils": (lambda: CartesianMRI("random_1d:acceleration=3", coil_maps(8, 32)), 0.8),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_same_solution_in_fewer_iterations(name: str) -> None:
    """Of a least-squares problem with a gradient penalty, to 1e-6 in float64."""
    make, share = OPERATORS[name]
    operator = make()
    dtype = torch.complex128 if operator.domain == "complex" else torch.float64
    y = operator(
        torch.rand(32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    )
    prior = Tikhonov(1e-3 * operator.norm() ** 2, of="gradient")
    stop = recon.SmallResiduals(1e-7) | recon.MaxIterations(500)
    fast, plain = (
        recon.solve(operator, prior, y, solver=recon.CG(preconditioned=given), stop=stop)
        for given in (True, False)
    )
    assert fast.converged and plain.converged
    torch.testing.assert_close(fast.image, plain.image, rtol=0, atol=1e-4 * float(plain.image.abs().max()))
    assert fast.iterations <= share * plain.iterations, (fast.iterations, plain.iterations)


def test_without_a_prior_the_iterates_are_the_plain_ones() -> None:
    """There the number of iterations regularises."""
    operator = ParallelBeam((32, 32), angles=20)
    y = operator(torch.rand(32, 32, generator=torch.Generator().manual_seed(0)))
    with_it, without = (
        recon.solve(operator, None, y, solver=recon.CG(preconditioned=given), stop=recon.MaxIterations(5))
        for given in (True, False)
    )
    assert torch.equal(with_it.image, without.image)
