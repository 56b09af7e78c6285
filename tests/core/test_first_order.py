"""PDHG, FISTA, LSQR and SIRT against closed forms, certified references, SciPy and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, nnls
from small_models import L1, TV, Blur, MaskedFourier, Matrix, NonNegative, NonNegativeMatrix, Ridge, Smoother
from test_solvers import blur_matrix, near, piecewise, random, ridge, tv_reference
from torch import Tensor

import recon
from recon.solvers.steps import squared_norm

PRECISE = recon.SmallResiduals(1e-8) | recon.MaxIterations(20_000)
DTYPES = [torch.float64, torch.complex128]
SPLITTING = [
    recon.PDHG(),
    recon.PDHG(adaptive=False),
    recon.PDHG(ratio=0.5, relaxation=1.0, data="split"),
    recon.PDHG(ratio=20.0, relaxation=1.95),
]


class Pixelwise(L1):
    """The l1 norm, which says that it treats every pixel alone."""

    separable = True


class Bounds(NonNegative):
    """x >= 0, which says that it treats every pixel alone."""

    separable = True


class Rotated(L1):
    """The l1 norm of an orthonormal transform."""

    def __init__(self, weight: float, matrix: Tensor) -> None:
        super().__init__(weight)
        self.matrix = matrix

    def K(self, shape):  # type: ignore[no-untyped-def]
        """The transform, which says that it is orthonormal."""
        K = Matrix(self.matrix, shape, shape)
        K.orthonormal = True
        return K


@pytest.mark.parametrize(("dtype", "weighted"), [(torch.float64, True), (torch.complex128, False)])
@pytest.mark.parametrize("solver", [*SPLITTING, recon.FISTA(), recon.LSQR()], ids=repr)
def test_ridge_solution(solver: recon.PDHG, dtype: torch.dtype, weighted: bool) -> None:
    """Fewer data than unknowns, each item with its own weights, some of them zero."""
    A, y = random(8, 12, dtype=dtype), random(3, 8, dtype=dtype, seed=1)
    weights = random(3, 8, seed=2).abs() if weighted else None
    if weights is not None:
        weights[1, 3] = 0
    fidelity = recon.Gaussian(weights=weights)
    solution = recon.solve(Matrix(A, (3, 4)), Ridge(0.5), y, solver=solver, fidelity=fidelity, stop=PRECISE)
    assert solution.converged, solution
    for item in range(3):
        expected = ridge(A, y[item], 0.5, weights=None if weights is None else weights[item])
        near(solution.image[item].flatten(), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("solver", SPLITTING, ids=repr)
def test_tv_deblurring(solver: recon.PDHG, dtype: torch.dtype) -> None:
    """The certified dual: a wrong sign of the extrapolation, or a step of 1/|A| for 1/|A|^2, ends elsewhere."""
    shape = (6, 7)
    A = 3.7 * blur_matrix(shape).to(dtype)
    y = A @ piecewise(shape, dtype).flatten() + 0.05 * random(42, dtype=dtype)
    truth = tv_reference(A, y, shape, 0.3)
    assert truth.error < 1e-5
    solution = recon.solve(Matrix(A, shape), TV(0.3), y, solver=solver, stop=PRECISE)
    assert solution.converged
    assert float(torch.linalg.vector_norm(solution.image.flatten() - truth.x)) < truth.error + 1e-5
    assert solution.history["objective"][-1] == pytest.approx(truth.objective, abs=truth.gap + 1e-6)


@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_pdhg_with_a_constraint_that_binds_and_one_that_does_not(offset: float) -> None:
    shape = (6, 7)
    A = blur_matrix(shape)
    y = A @ (piecewise(shape).flatten() + offset) + 0.05 * random(42)
    truth = tv_reference(A, y, shape, 0.1, nonnegative=True)
    solution = recon.solve(Matrix(A, shape), TV(0.1) + NonNegative(), y, solver=recon.PDHG(), stop=PRECISE)
    assert solution.converged and float(solution.image.min()) >= 0
    assert float(torch.linalg.vector_norm(solution.image.flatten() - truth.x)) < truth.error + 1e-5
    default = recon.solve(Matrix(A, shape), TV(0.1) + NonNegative(), y, solver=recon.PDHG())
    assert default.converged
    near(default.image.flatten(), truth.x, 1e-2)  # the default rules ask for 1e-3


def test_a_closed_form_takes_the_data_term_and_splitting_it_ends_in_the_same_image() -> None:
    mask = (random(8, 8) > -0.5).double()
    operator, y = MaskedFourier(mask), MaskedFourier(mask)(random(8, 8, dtype=torch.complex128))
    problem = recon.Problem(operator, y, prior=TV(0.05))
    assert [len(recon.PDHG(data=data).start(problem).u) for data in ("split", "prox")] == [2, 1]
    images = [
        recon.solve(operator, TV(0.05), y, solver=recon.PDHG(data=data), stop=PRECISE).image
        for data in ("split", "prox")
    ]
    near(images[1], images[0])
    with pytest.raises(ValueError, match=r"Matrix solves in closed form.*use data='split'"):
        recon.solve(Matrix(random(4, 3)), L1(0.1), random(4), solver=recon.PDHG(data="prox"))


@pytest.mark.parametrize("solver", [recon.PDHG(), recon.FISTA()], ids=repr)
def test_nonnegative_least_squares(solver: recon.PDHG) -> None:
    A, y = random(15, 8), random(4, 15, seed=1)
    solution = recon.solve(Matrix(A), NonNegative(), y, solver=solver, stop=PRECISE)
    assert solution.converged and float(solution.image.min()) >= 0
    for item in range(4):
        expected, _ = nnls(A.numpy(), y[item].numpy())
        assert np.abs(solution.image[item].numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("shape", [(30,), (3, 4, 5)])
def test_solvers_agree_on_sums(shape: tuple[int, ...]) -> None:
    """l1 + x >= 0 + ridge, on vectors and volumes; then with total variation, which FISTA leaves to the others."""
    size = int(np.prod(shape))
    A, y = Matrix(random(size + 5, size) / size**0.5, shape), random(2, size + 5, seed=1)
    prior = Pixelwise(0.02) + Bounds() + Ridge(0.1)
    images = [
        recon.solve(A, prior, y, solver=solver, stop=PRECISE).image
        for solver in (recon.ADMM(), recon.PDHG(), recon.FISTA())
    ]
    near(images[1], images[0], 1e-5)
    near(images[2], images[0], 1e-5)
    if len(shape) > 1:
        images = [
            recon.solve(A, TV(0.05) + L1(0.02) + NonNegative(), y, solver=solver, stop=PRECISE).image
            for solver in (recon.ADMM(), recon.PDHG())
        ]
        near(images[1], images[0], 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fista_takes_orthonormal_transforms(dtype: torch.dtype) -> None:
    turn = torch.linalg.qr(random(12, 12, dtype=dtype)).Q
    A, y = Matrix(random(14, 12, dtype=dtype, seed=2)), random(14, dtype=dtype, seed=1)
    images = [
        recon.solve(A, Rotated(0.5, turn), y, solver=solver, stop=PRECISE).image
        for solver in (recon.FISTA(), recon.ADMM())
    ]
    near(images[0], images[1])


def test_fista_plugs_in_a_denoiser() -> None:
    """The Wiener filter of white images is the proximal map of squares: the fixed point is a ridge solution."""
    A, y = random(20, 12), random(20, seed=1)
    K = torch.eye(12, dtype=torch.float64) - 1 / 12
    solution = recon.solve(Matrix(A), Smoother(0.5), y, solver=recon.FISTA(), stop=PRECISE)
    near(solution.image, ridge(A, y, 0.5, K))


def test_the_restart_pays_where_the_objective_is_strongly_convex() -> None:
    """Against the method without it, written here: the momentum that overshoots is what keeps it from the end."""
    A, y = random(60, 40) @ torch.diag(torch.logspace(0, -1, 40, dtype=torch.float64)), random(60, seed=1)
    solution = recon.solve(
        Matrix(A), Pixelwise(0.01), y, solver=recon.FISTA(), stop=recon.MaxIterations(1500)
    )
    restarted = recon.solve(
        Matrix(A), Pixelwise(0.01), y, solver=recon.FISTA(), stop=recon.MaxIterations(500)
    )
    lipschitz = Matrix(A).norm() ** 2
    x = ahead = Matrix(A).pinv(y)
    t = 1.0
    for _ in range(500):
        new = Pixelwise(0.01).prox(ahead - A.T @ (A @ ahead - y) / lipschitz, 1 / lipschitz)
        t, before = (1 + (1 + 4 * t**2) ** 0.5) / 2, t
        x, ahead = new, new + (before - 1) / t * (new - x)
    error, plain = (float((image - solution.image).norm()) for image in (restarted.image, x))
    assert error < 0.01 * plain


def test_fista_says_what_it_does_not_take() -> None:
    A, y = Matrix(random(30, 12), (3, 4)), random(30, seed=1)
    for prior, words in (
        (TV(0.1), r"TV, which looks at it through Gradient: use solver='admm' or 'pdhg'"),
        (L1(0.1) + NonNegative(), r"L1 \+ NonNegative: use solver='admm' or 'pdhg'"),
        (Pixelwise(0.1) + Pixelwise(0.2), r"Pixelwise \+ Pixelwise"),
    ):
        with pytest.raises(ValueError, match=words):
            recon.solve(A, prior, y, solver=recon.FISTA())
    with pytest.raises(ValueError, match="a denoiser: use solver='admm'"):
        recon.solve(A, Smoother(0.1), y, solver=recon.PDHG())


def scan() -> tuple[Tensor, Tensor, Tensor]:
    """Matrix, counts and line integrals of two transmission scans of few photons."""
    generator = torch.Generator().manual_seed(0)
    A = torch.rand(30, 12, generator=generator, dtype=torch.float64)
    x = 0.6 * torch.rand(2, 12, generator=generator, dtype=torch.float64)
    counts = torch.poisson(200 * torch.exp(-x @ A.T), generator=generator)
    return A, counts, -torch.log(counts.clamp_min(0.1) / 200)


@pytest.mark.parametrize("solver", [recon.PDHG(), recon.FISTA(), recon.ADMM()], ids=repr)
def test_the_likelihood_of_transmission_scans(solver: recon.PDHG) -> None:
    A, counts, y = scan()
    solution = recon.solve(
        NonNegativeMatrix(A),
        Ridge(20.0),
        y,
        solver=solver,
        fidelity=recon.Poisson(200.0, counts),
        stop=PRECISE,
    )
    assert solution.converged
    for item in range(2):
        N, matrix = counts[item].numpy(), A.numpy()
        found = minimize(
            lambda x, N=N, matrix=matrix: (200 * np.exp(-matrix @ x) + N * (matrix @ x)).sum() + 10 * (x @ x),
            np.zeros(12),
            jac=lambda x, N=N, matrix=matrix: matrix.T @ (N - 200 * np.exp(-matrix @ x)) + 20 * x,
            method="BFGS",
            options={"gtol": 1e-9},
        )
        assert (
            np.abs(solution.image[item].numpy() - found.x).max() < 1e-5
        )  # BFGS ends at the rounding of the sum


def test_backtracking_finds_the_step_where_the_expansion_is_too_flat() -> None:
    """From far above the solution b exp(-z) bends far more than around the data."""
    A, counts, y = scan()
    start = -3 * torch.ones(12, dtype=torch.float64)
    solution = recon.solve(
        NonNegativeMatrix(A),
        Ridge(20.0),
        y,
        solver=recon.FISTA(),
        fidelity=recon.Poisson(200.0, counts),
        x0=start,
        stop=PRECISE,
    )
    plain = recon.solve(
        NonNegativeMatrix(A),
        Ridge(20.0),
        y,
        solver=recon.ADMM(),
        fidelity=recon.Poisson(200.0, counts),
        stop=PRECISE,
    )
    near(solution.image, plain.image)


def test_bounds_of_weighted_operators_hold_and_are_tight() -> None:
    for make, A in (
        (NonNegativeMatrix, random(20, 12).abs()),
        (Matrix, random(20, 12, dtype=torch.complex128)),
    ):
        y, weights = random(3, 20, dtype=A.dtype, seed=1), random(3, 20, seed=2).square()
        problem = recon.Problem(make(A), y, fidelity=recon.Gaussian(weights=weights))
        for bound, row in zip(squared_norm(problem), weights, strict=True):
            exact = float(torch.linalg.matrix_norm(row.sqrt()[:, None] * A, 2)) ** 2
            assert exact <= float(bound) <= 1.1 * exact


# LSQR and SIRT


@pytest.mark.parametrize("dtype", DTYPES)
def test_lsqr_is_least_squares_from_any_start(dtype: torch.dtype) -> None:
    """A first image is no prior: with a ridge, too, it must not be what the solution is drawn to."""
    A, y = random(20, 12, dtype=dtype), random(2, 20, dtype=dtype, seed=1)
    for x0 in (None, 10 * random(2, 12, dtype=dtype, seed=2)):
        plain = recon.solve(Matrix(A), None, y, solver=recon.LSQR(), x0=x0, stop=PRECISE)
        near(plain.image, torch.linalg.lstsq(A, y.mT).solution.mT, 1e-8)
        damped = recon.solve(Matrix(A), Ridge(0.5), y, solver=recon.LSQR(), x0=x0, stop=PRECISE)
        near(damped.image[0], ridge(A, y[0], 0.5), 1e-8)
    assert plain.iterations <= 14  # 12 in exact arithmetic


def test_lsqr_stays_where_it_is_solved() -> None:
    A = random(6, 4)
    y = torch.stack([torch.zeros(6, dtype=torch.float64), random(6, seed=1)])
    solution = recon.solve(Matrix(A), Ridge(0.1), y, solver=recon.LSQR(), stop=recon.MaxIterations(100))
    assert torch.equal(solution.image[0], torch.zeros(4, dtype=torch.float64))
    near(solution.image[1], ridge(A, y[1], 0.1), 1e-9)


def test_lsqr_measures_its_residual() -> None:
    """`primal` is |A^H (y - A x)| / |A^H y|, by a recurrence."""
    A, y = random(20, 12), random(1, 20, seed=1)
    problem = recon.Problem(Matrix(A), y, prior=Ridge(0.5))
    solver = recon.LSQR()
    state = solver.start(problem)
    for _ in range(5):
        left = A.T @ (y[0] - A @ state.x[0]) - 0.5 * state.x[0]
        expected = float(left.norm() / (A.T @ y[0]).norm())
        assert float(state.primal) == pytest.approx(expected, rel=1e-5)  # the weight is a float32
        state = solver.step(problem, state)


@pytest.mark.parametrize("relaxation", [0.5, 1.0, 1.9])
def test_sirt_minimises_the_residual_in_the_metric_of_the_row_sums(relaxation: float) -> None:
    A, y = random(20, 6).abs(), random(2, 20, seed=1)
    A[3] = 0  # a ray that meets no pixel
    solution = recon.solve(
        NonNegativeMatrix(A),
        None,
        y,
        solver=recon.SIRT(relaxation),
        stop=recon.RelativeChange(1e-12) | recon.MaxIterations(20_000),
    )
    sums = A.sum(1)
    rows = torch.where(sums > 0, 1 / sums.clamp_min(1e-9), 0)
    for item in range(2):
        near(solution.image[item], ridge(A, y[item], 0.0, weights=rows), 1e-6)
    bounded = recon.solve(
        NonNegativeMatrix(A),
        NonNegative(),
        y,
        solver=recon.SIRT(relaxation),
        stop=recon.RelativeChange(1e-12) | recon.MaxIterations(20_000),
    )
    for item in range(2):
        root = rows.sqrt()
        expected, _ = nnls((root[:, None] * A).numpy(), (root * y[item]).numpy())
        assert np.abs(bounded.image[item].numpy() - expected).max() < 1e-6


def test_sirt_says_what_it_does_not_take() -> None:
    A, y = random(20, 6), random(20, seed=1)
    with pytest.raises(ValueError, match=r"without negative entries, which Matrix does not promise.*'lsqr'"):
        recon.solve(Matrix(A), None, y, solver=recon.SIRT())
    with pytest.raises(ValueError, match=r"one constraint on the image as its prior, got L1"):
        recon.solve(NonNegativeMatrix(A.abs()), L1(0.1), y, solver=recon.SIRT())


def test_single_precision_reaches_single_accuracy() -> None:
    shape = (6, 7)
    A = blur_matrix(shape)
    y = A @ piecewise(shape).flatten() + 0.05 * random(42)
    truth = tv_reference(A, y, shape, 0.1)
    solution = recon.solve(Matrix(A.float(), shape), TV(0.1), y.float(), solver=recon.PDHG())
    assert solution.converged and solution.image.dtype == torch.float32
    near(solution.image.double().flatten(), truth.x, 1e-2)  # the default rules ask for 1e-3


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("what", ["data", "operator"])
@pytest.mark.parametrize("solver", [recon.PDHG()], ids=repr)
def test_units_do_not_matter(solver: recon.PDHG, scale: float, what: str) -> None:
    shape = (6, 7)
    A, y = random(30, 42).float() / 6, random(30, seed=1).float()
    plain = recon.solve(Matrix(A, shape), TV(0.1), y, solver=solver)
    if what == "data":
        solution, unit = recon.solve(Matrix(A, shape), TV(0.1 * scale), scale * y, solver=solver), scale
    else:
        solution, unit = recon.solve(Matrix(scale * A, shape), TV(0.1 * scale), y, solver=solver), 1 / scale
    assert plain.converged and solution.converged
    near(solution.image / unit, plain.image, 1e-2)


def test_an_automatic_weight_is_found_by_pdhg_and_fista_too() -> None:
    shape = (12, 12)
    truth = torch.zeros(shape)
    truth[3:8, 4:10] = 1.0
    operator = Blur(shape)
    y = operator(truth) + 0.05 * random(*shape).float()
    known = ("gaussian", {"noise_level": 0.05})
    weights = [
        recon.solve(operator, TV(), y, solver=solver, fidelity=known).weight
        for solver in (recon.ADMM(), recon.PDHG())
    ]
    assert weights[1] == pytest.approx(weights[0], rel=0.15)  # the search ends 2 % from its target
    weights = [
        recon.solve(operator, L1(), y, solver=solver, fidelity=known).weight
        for solver in (recon.ADMM(), recon.FISTA())
    ]
    assert weights[1] == pytest.approx(weights[0], rel=0.15)
