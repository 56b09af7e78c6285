"""Total generalised variation: against an independent solver, its null space, and inside every kind of problem."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from recon_operators import Blur, CartesianMRI
from recon_priors import TGV, TV, NonNegative
from torch import Tensor

import recon
from recon.lifting import Lifted
from recon.scans import ScanOptions, solve_file
from recon.testing import check_prior


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def dense_terms(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Matrices of D x - w and E w on (x, w), written down entry by entry from the definition."""
    rows, columns = shape
    size = rows * columns

    def place(field: int, i: int, j: int) -> int:
        return field * size + i * columns + j

    first, second = torch.zeros(2 * size, 3 * size), torch.zeros(3 * size, 3 * size)
    first, second = first.double(), second.double()
    for i in range(rows):
        for j in range(columns):
            here = i * columns + j
            if i + 1 < rows:
                first[here, place(0, i + 1, j)] += 1
                first[here, place(0, i, j)] -= 1
                first[here, place(1, i, j)] -= 1
            if j + 1 < columns:
                first[size + here, place(0, i, j + 1)] += 1
                first[size + here, place(0, i, j)] -= 1
                first[size + here, place(2, i, j)] -= 1
            for field, row, factor in ((1, 0, 1.0), (2, 2, math.sqrt(0.5))):
                if i > 0:
                    second[row * size + here, place(field, i, j)] += factor
                    second[row * size + here, place(field, i - 1, j)] -= factor
            for field, row, factor in ((2, 1, 1.0), (1, 2, math.sqrt(0.5))):
                if j > 0:
                    second[row * size + here, place(field, i, j)] += factor
                    second[row * size + here, place(field, i, j - 1)] -= factor
    return first, second


def reference(y: Tensor, weight: float, ratio: float, iterations: int = 8000) -> Tensor:
    """argmin |x - y|^2/2 + TGV by Chambolle and Pock's algorithm on the matrices, in double precision."""
    size = y.numel()
    first, second = dense_terms(tuple(y.shape))
    step = 0.99 / float(torch.linalg.matrix_norm(torch.cat([first, second]), 2))
    v, p, q = torch.zeros(3 * size).double(), torch.zeros(2 * size).double(), torch.zeros(3 * size).double()
    ahead = v
    for _ in range(iterations):
        p = p + step * first @ ahead
        q = q + step * second @ ahead
        p = (p.reshape(2, size) / (p.reshape(2, size).norm(dim=0) / weight).clamp_min(1)).reshape(-1)
        q = (q.reshape(3, size) / (q.reshape(3, size).norm(dim=0) / (ratio * weight)).clamp_min(1)).reshape(
            -1
        )
        new = v - step * (first.T @ p + second.T @ q)
        new[:size] = (new[:size] + step * y.reshape(-1)) / (1 + step)
        ahead, v = 2 * new - v, new
    return v[:size].reshape(y.shape)


def test_the_map_is_the_definition() -> None:
    shape = (4, 5)
    K = TGV().K((3, *shape)).to_dense(torch.float64)
    first, second = dense_terms(shape)
    torch.testing.assert_close(K, torch.cat([first, 3 * second]), rtol=0, atol=1e-14)  # the split's balance


@pytest.mark.parametrize("ratio", [1.0, 2.0])
def test_denoising_is_that_of_an_independent_solver(ratio: float) -> None:
    y = random(7, 8) + torch.arange(8.0)
    solution = recon.solve(
        recon.Identity((7, 8)),
        TGV(0.4, ratio),
        y,
        stop=recon.SmallResiduals(1e-7) | recon.MaxIterations(20000),
    )
    # two first-order methods, each to about 1e-5
    torch.testing.assert_close(solution.image, reference(y, 0.4, ratio), rtol=0, atol=3e-5)


@pytest.mark.parametrize("shape", [(12, 9), (5, 6, 7), (15,)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_affine_images_cost_nothing(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    axes = torch.meshgrid(*(torch.arange(float(side), dtype=torch.float64) for side in shape), indexing="ij")
    slopes = random(len(shape), dtype=dtype)
    x = 3 + sum(slope * axis for slope, axis in zip(slopes, axes, strict=True))
    field = slopes.reshape(-1, *(1,) * len(shape)).expand(len(shape), *shape)
    value = TGV(1.0)(torch.cat([x.unsqueeze(0), field]).unsqueeze(0))
    assert float(value) < 1e-10 * x.numel()
    assert float(TV(1.0)(x.unsqueeze(0))) > 1


def test_noisy_ramps_come_back_without_the_staircase_of_total_variation() -> None:
    ramp = (torch.arange(64.0)[:, None] + 0.5 * torch.arange(64.0)) / 64
    y = ramp + 0.1 * random(64, 64, dtype=torch.float32)
    error, flat = {}, {}
    for name in ("tv", "tgv"):
        image = recon.solve(recon.Identity((64, 64)), name, y).image
        error[name] = float((image - ramp).norm())
        flat[name] = float(((image[1:] - image[:-1]).abs() < 0.1 / 64).float().mean())  # a tenth of the slope
    assert error["tgv"] < 0.5 * error["tv"]
    assert flat["tgv"] < 0.01 < flat["tv"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_the_periodic_step_is_solved_exactly(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    K = TGV(boundary="periodic").K((1 + len(shape), *shape))
    A = Lifted(Blur(shape, random(3, 3).abs()), len(shape))
    b = random(2, 1 + len(shape), *shape, dtype=dtype)
    rho = torch.tensor([0.3, 0.7], dtype=torch.float64).reshape(2, *(1,) * (b.ndim - 1))
    x = A.solve_gram(b, [rho], [K])
    assert x is not None
    torch.testing.assert_close(A.gram(x) + rho * K.gram(x), b, rtol=0, atol=1e-10)


def test_complex_images_batches_and_sums() -> None:
    """MRI of two items beside a second prior: items do not meet, and the boundary conditions agree far from it."""
    mask = (random(16, 18) > -0.5).float()
    operator = CartesianMRI(mask)
    y = operator(random(2, 16, 18, dtype=torch.complex128))
    prior, stop = TGV(0.05, boundary="periodic") + TV(0.02), recon.MaxIterations(60)
    both = recon.solve(operator, prior, y, stop=stop)
    assert both.image.shape == (2, 16, 18)
    for item in range(2):
        alone = recon.solve(operator, prior, y[item], stop=stop).image
        torch.testing.assert_close(both.image[item], alone, rtol=0, atol=1e-9)


def test_constraints_callbacks_references_and_starts_see_the_image_alone(tmp_path) -> None:
    shape, seen = (12, 12), []
    y = random(*shape)
    solution = recon.solve(
        recon.Identity(shape),
        TGV(0.1) + NonNegative(),
        y,
        x0=torch.zeros(shape),
        reference=y,
        callback=lambda snapshot: seen.append(snapshot.image.shape) and None,
        checkpoint=tmp_path / "state.h5",
        stop=recon.MaxIterations(30),
    )
    assert set(seen) == {(1, *shape)}
    assert float(solution.image.min()) >= 0
    assert len(solution.history["psnr"]) and solution.problem.operator.domain_shape == shape


def test_primal_dual_agrees_with_admm() -> None:
    y, stop = random(6, 7), recon.MaxIterations(1000)
    images = [
        recon.solve(recon.Identity((6, 7)), TGV(0.3), y, solver=solver, stop=stop).image
        for solver in (recon.ADMM(), recon.PDHG())
    ]
    torch.testing.assert_close(images[0], images[1], rtol=0, atol=1e-2)  # a hundredth of the image's scale


@pytest.mark.parametrize("shape", [(2, 9), (3, 6, 7), (4, 3, 4, 5)])
def test_it_conforms_in_every_dimension(shape: tuple[int, ...]) -> None:
    check_prior(TGV(0.3), shape=shape)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="one prior with auxiliary fields"):
        recon.solve(recon.Identity((8, 8)), TGV(0.1) + TGV(0.2), random(8, 8))
    with pytest.raises(ValueError, match="stacked with a vector field"):
        TGV(0.1)(random(1, 8, 8))
    with pytest.raises(ValueError, match="ratio must be > 0, got 0"):
        TGV(0.1, ratio=0)
    with pytest.raises(ValueError, match="boundary must be"):
        TGV(0.1, boundary="mirror")


@pytest.mark.filterwarnings("ignore::recon.ConvergenceWarning")
def test_files_and_paths_take_it_as_solve_does(tmp_path: Path) -> None:
    """From `recon solve` and `recon batch`, `recon slabs`, and `recon.weight_path`: the fields are theirs to add."""
    op = recon.operator("ct_parallel", shape=(16, 16), angles=12)
    truth = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = op.measure(truth, noise=recon.noise("gaussian", std=0.1), seed=0)
    stop, prior = recon.MaxIterations(5), "tgv:weight=0.05"
    whole = recon.solve(op, prior, y, stop=stop)
    file = recon.Problem(op, y, reference=truth).save(tmp_path / "p.h5")
    found = solve_file(file, ScanOptions(prior=prior, limits={"iterations": 5}))
    assert torch.equal(found.image, whole.image)
    slabs = recon.solve_slabs(op, prior, y, output=tmp_path / "v.h5", slab=3, limits={"iterations": 5})
    assert torch.equal(recon.Solution.load(slabs).image, whole.image)
    path = recon.weight_path(op, prior, y, weights=[0.05], reference=truth, stop=stop)
    assert path.images.shape == (1, 3, 16, 16)
    expected = ((whole.image - truth) ** 2).flatten(1).mean(1)
    peak = truth.flatten(1).amax(1)
    psnr = 10 * torch.log10(peak**2 / expected)
    torch.testing.assert_close(path.psnr[0].float(), psnr, rtol=1e-4, atol=0)
