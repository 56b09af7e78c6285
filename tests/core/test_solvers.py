"""Every algorithm against a closed form or an independent high-precision reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from references import Reference, dual_reference, in_ball, not_positive
from scipy.optimize import nnls
from small_models import L1, TV, Blur, Gradient, MaskedFourier, Matrix, NonNegative, Ridge, Smoother
from torch import Tensor

import recon
from recon.solvers.algorithm import map_tensors, per_item, select
from recon.solvers.cg import CGState

PRECISE = recon.SmallResiduals(1e-7) | recon.MaxIterations(3000)
DTYPES = [torch.float64, torch.complex128]


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def near(image: Tensor, truth: Tensor, tolerance: float = 1e-5) -> None:
    """Relative to the whole image; residuals of 1e-7 leave errors of some 1e-6."""
    distance = float(torch.linalg.vector_norm(image - truth) / torch.linalg.vector_norm(truth))
    assert distance <= tolerance, f"relative distance {distance:.3g}"


def ridge(
    A: Tensor, y: Tensor, weight: float, K: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """argmin 1/2 |A x - y|_W^2 + weight/2 |K x|^2 in closed form."""
    W = torch.diag(torch.ones(len(y)) if weights is None else weights).to(A.dtype)
    K = torch.eye(A.shape[1], dtype=A.dtype) if K is None else K
    return torch.linalg.solve(A.mH @ W @ A + weight * K.mH @ K, A.mH @ W @ y)


# Ridge regression, in closed form


@pytest.mark.parametrize(("dtype", "weighted"), [(torch.float64, False), (torch.complex128, True)])
@pytest.mark.parametrize(
    "solver",
    [
        recon.CG(),
        recon.ADMM(),
        recon.ADMM(rho=0.7, relaxation=1.0),
        recon.ADMM(rho=1.0, relaxation=1.2, inner=2),
        recon.ADMM(rho=0.4, relaxation=1.95, inner=12),
    ],
    ids=repr,
)
def test_ridge_solution(solver: recon.CG | recon.ADMM, dtype: torch.dtype, weighted: bool) -> None:
    """More data than unknowns and fewer, each item with its own weights."""
    for rows, columns in ((20, 12), (8, 12)):
        A, y = random(rows, columns, dtype=dtype), random(3, rows, dtype=dtype, seed=1)
        weights = random(3, rows, seed=2).abs() if weighted else None
        fidelity = recon.Gaussian(weights=weights)
        solution = recon.solve(
            Matrix(A, (3, 4)), Ridge(0.5), y, solver=solver, fidelity=fidelity, stop=PRECISE
        )
        assert solution.converged, solution
        for item in range(3):
            expected = ridge(A, y[item], 0.5, weights=None if weights is None else weights[item])
            near(solution.image[item].flatten(), expected)


@pytest.mark.parametrize("solver", [recon.CG(), recon.ADMM()], ids=repr)
@pytest.mark.parametrize("dtype", DTYPES)
def test_ridge_of_the_gradient_and_sums_of_ridges(solver: recon.CG, dtype: torch.dtype) -> None:
    A, y = random(9, 12, dtype=dtype), random(9, dtype=dtype, seed=1)
    K = Gradient((3, 4), periodic=True).to_dense(dtype)
    operator = Matrix(A, (3, 4))
    solution = recon.solve(operator, Ridge(0.5, gradient=True), y, solver=solver, stop=PRECISE)
    near(solution.image.flatten(), ridge(A, y, 0.5, K))
    both = torch.cat([0.5**0.5 * K, 0.2**0.5 * torch.eye(12, dtype=dtype)])
    solution = recon.solve(operator, Ridge(0.5, gradient=True) + Ridge(0.2), y, solver=solver, stop=PRECISE)
    near(solution.image.flatten(), ridge(A, y, 1.0, both))


@pytest.mark.parametrize("dtype", DTYPES)
def test_cg_without_a_prior_is_least_squares(dtype: torch.dtype) -> None:
    A, y = random(20, 12, dtype=dtype), random(2, 20, dtype=dtype, seed=1)
    solution = recon.solve(Matrix(A), None, y, solver=recon.CG(), stop=PRECISE)
    near(solution.image, torch.linalg.lstsq(A, y.mT).solution.mT)
    start = random(2, 12, dtype=dtype, seed=2)
    solution = recon.solve(Matrix(A), None, y, solver=recon.CG(), stop=PRECISE, x0=start)
    near(solution.image, torch.linalg.lstsq(A, y.mT).solution.mT)


def test_cg_needs_no_more_iterations_than_unknowns() -> None:
    A, y = random(20, 6), random(20, seed=1)
    solution = recon.solve(Matrix(A), Ridge(0.1), y, solver=recon.CG(), stop=PRECISE)
    assert solution.iterations <= 8  # 6 in exact arithmetic
    near(solution.image, ridge(A, y, 0.1), 1e-9)


def test_cg_stays_where_it_is_solved() -> None:
    """One item done at once, one not: nothing becomes NaN however long it goes on."""
    A = random(6, 4)
    y = torch.stack([torch.zeros(6, dtype=torch.float64), random(6, seed=1)])
    solution = recon.solve(Matrix(A), Ridge(0.1), y, solver=recon.CG(), stop=recon.MaxIterations(300))
    assert torch.equal(solution.image[0], torch.zeros(4, dtype=torch.float64))
    near(solution.image[1], ridge(A, y[1], 0.1), 1e-9)


@pytest.mark.parametrize("solver", [recon.CG(), recon.LSQR(), recon.PDHG()], ids=repr)
def test_what_is_solved_stays_where_nothing_was_measured_either(solver: recon.CG) -> None:
    """In single precision, far beyond convergence: directions that the data do not see must not grow."""
    mask = (torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    y = mask * torch.fft.fft2(random(16, 16, dtype=torch.complex64), norm="ortho")
    solution = recon.solve(MaskedFourier(mask), None, y, solver=solver, stop=recon.MaxIterations(50))
    near(solution.image, torch.fft.ifft2(y, norm="ortho"), 1e-5)


def test_single_precision_reaches_single_accuracy() -> None:
    A, y = random(20, 12), random(20, seed=1)
    expected = ridge(A, y, 0.5)
    for solver in (recon.CG(), recon.ADMM()):
        solution = recon.solve(Matrix(A.float()), Ridge(0.5), y.float(), solver=solver)
        assert solution.converged and solution.image.dtype == torch.float32
        near(solution.image.double(), expected, 2e-3)  # the default rules ask for 1e-3


# Soft threshold


@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_denoising_is_the_soft_threshold(dtype: torch.dtype) -> None:
    y = random(2, 5, 6, dtype=dtype)
    solution = recon.solve(recon.Identity((5, 6)), L1(0.6), y, stop=PRECISE)
    expected = y * (1 - 0.6 / y.abs()).clamp_min(0)
    near(solution.image, expected)
    assert solution.converged


def test_sums_of_l1_and_ridge_on_the_identity() -> None:
    """argmin 1/2|x-y|^2 + 0.5|x|_1 + 0.3/2|x|^2 = soft(y, 0.5) / 1.3."""
    y = random(30)
    solution = recon.solve(recon.Identity((30,)), L1(0.5) + Ridge(0.3), y, stop=PRECISE)
    near(solution.image, y.sign() * (y.abs() - 0.5).clamp_min(0) / 1.3)
    assert solution.converged


def test_sparse_and_nonnegative_on_the_identity() -> None:
    y = random(30)
    solution = recon.solve(recon.Identity((30,)), L1(0.5) + NonNegative(), y, stop=PRECISE)
    near(solution.image, (y - 0.5).clamp_min(0))
    assert solution.converged and float(solution.image.min()) >= 0


# Total variation, against the certified dual


def tv_reference(
    A: Tensor, y: Tensor, shape: tuple[int, int], weight: float, nonnegative: bool = False
) -> Reference:
    K = Gradient(shape).to_dense(A.dtype)

    def objective(x: Tensor) -> Tensor:
        gradient = (K @ x).reshape(2, -1).abs().square().sum(0).sqrt()
        return 0.5 * (A @ x - y).abs().square().sum() + weight * gradient.sum()

    if not nonnegative:
        return dual_reference(A, y, [K], [in_ball(weight, 2)], objective)
    maps = [K, torch.eye(A.shape[1], dtype=A.dtype)]
    return dual_reference(
        A, y, maps, [in_ball(weight, 2), not_positive], objective, feasible=lambda x: x.clamp_min(0)
    )


def piecewise(shape: tuple[int, int], dtype: torch.dtype = torch.float64) -> Tensor:
    image = torch.zeros(shape, dtype=dtype)
    image[1:4, 2:] = 2.0
    image[3:, :3] = -1.0
    return image * (1 + 0.5j) if dtype.is_complex else image


@pytest.mark.parametrize(("dtype", "rho"), [(torch.float64, 1.0), (torch.complex128, "auto")])
def test_tv_denoising(dtype: torch.dtype, rho: float | str) -> None:
    shape = (5, 6)
    y = piecewise(shape, dtype) + 0.3 * random(*shape, dtype=dtype)
    truth = tv_reference(torch.eye(30, dtype=dtype), y.flatten(), shape, 0.4)
    assert truth.error < 1e-5, "the reference is certified"
    solver = recon.ADMM(rho=rho)  # type: ignore[arg-type]
    solution = recon.solve(recon.Identity(shape), TV(0.4), y, solver=solver, stop=PRECISE)
    assert solution.converged
    assert float(torch.linalg.vector_norm(solution.image.flatten() - truth.x)) < truth.error + 1e-5
    assert solution.history["objective"][-1] == pytest.approx(truth.objective, abs=truth.gap + 1e-6)


def blur_matrix(shape: tuple[int, int]) -> Tensor:
    """A periodic blur that no frequency is lost in."""
    eye = torch.eye(shape[0] * shape[1], dtype=torch.float64)
    return 0.6 * eye + 0.4 * Blur(shape).to_dense(torch.float64)


@pytest.mark.parametrize("solver", [recon.ADMM(), recon.ADMM(rho=0.5, relaxation=1.0, inner=3)], ids=repr)
def test_tv_deblurring(solver: recon.ADMM) -> None:
    shape = (6, 7)
    A = blur_matrix(shape)
    y = A @ piecewise(shape).flatten() + 0.05 * random(42)
    truth = tv_reference(A, y, shape, 0.1)
    assert truth.error < 1e-5
    solution = recon.solve(Matrix(A, shape), TV(0.1), y, solver=solver, stop=PRECISE)
    assert solution.converged
    assert float(torch.linalg.vector_norm(solution.image.flatten() - truth.x)) < truth.error + 1e-5
    assert solution.history["objective"][-1] == pytest.approx(truth.objective, abs=truth.gap + 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tv_of_random_measurements(dtype: torch.dtype) -> None:
    shape = (5, 6)
    A = random(40, 30, dtype=dtype) / 40**0.5
    y = A @ piecewise(shape, dtype).flatten() + 0.1 * random(40, dtype=dtype, seed=1)
    truth = tv_reference(A, y, shape, 0.2)
    assert truth.error < 1e-4
    solution = recon.solve(Matrix(A, shape), TV(0.2), y, stop=PRECISE)
    assert solution.converged
    assert float(torch.linalg.vector_norm(solution.image.flatten() - truth.x)) < truth.error + 1e-5


@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_tv_with_a_constraint_that_binds_and_one_that_does_not(offset: float) -> None:
    """An inactive constraint must not keep the rest from converging."""
    shape = (6, 7)
    A = blur_matrix(shape)
    y = A @ (piecewise(shape).flatten() + offset) + 0.05 * random(42)
    truth = tv_reference(A, y, shape, 0.1, nonnegative=True)
    assert truth.error < 1e-4
    solution = recon.solve(Matrix(A, shape), TV(0.1) + NonNegative(), y, stop=PRECISE)
    assert solution.converged, solution
    assert float(solution.image.min()) >= 0
    assert float(torch.linalg.vector_norm(solution.image.flatten() - truth.x)) < truth.error + 1e-5
    default = recon.solve(Matrix(A, shape), TV(0.1) + NonNegative(), y)
    assert default.converged and default.iterations < 400
    near(default.image.flatten(), truth.x, 1e-2)  # the default rules ask for 1e-3


def test_a_constraint_beside_a_weak_functional_needs_no_more_iterations() -> None:
    """Its penalty does not go to zero with the weight of the functional."""
    generator = torch.Generator().manual_seed(0)
    A = torch.rand(60, 42, generator=generator, dtype=torch.float64)
    x = (torch.rand(42, generator=generator, dtype=torch.float64) - 0.5).clamp_min(0)
    y = A @ x + 0.05 * torch.randn(60, generator=generator, dtype=torch.float64)
    counts = [recon.solve(Matrix(A, (6, 7)), TV(w) + NonNegative(), y).iterations for w in (0.1, 1e-4)]
    assert counts[1] <= 1.5 * counts[0]  # at the functional's penalty it took four times as many


# Constraints


@pytest.mark.parametrize("solver", [recon.ADMM(), recon.ADMM(rho=1.0)], ids=repr)
def test_nonnegative_least_squares(solver: recon.ADMM) -> None:
    A, y = random(15, 8), random(4, 15, seed=1)
    y[3] = (A @ (1 + random(8, seed=2).abs())).float()  # the last is positive without being asked
    solution = recon.solve(Matrix(A), NonNegative(), y, solver=solver, stop=PRECISE)
    assert solution.converged, solution
    for item in range(4):
        expected, _ = nnls(A.numpy(), y[item].numpy())
        assert np.abs(solution.image[item].numpy() - expected).max() < 1e-6
    assert float(solution.image.min()) >= 0


# The same problem, solved in other ways


def test_the_penalty_and_the_relaxation_do_not_change_the_solution() -> None:
    shape = (4, 5)
    operator, y = Matrix(random(25, 20) / 5, shape), random(25, seed=1)
    solvers = [
        recon.ADMM(),
        recon.ADMM(rho=0.2),
        recon.ADMM(rho=3.0),
        recon.ADMM(relaxation=1.0),
        recon.ADMM(rho=0.3, relaxation=1.5, inner=2),
    ]
    images = [recon.solve(operator, TV(0.1), y, solver=solver, stop=PRECISE).image for solver in solvers]
    for image in images[1:]:
        near(image, images[0], 1e-5)


def test_closed_form_and_conjugate_gradients_agree_in_the_image_step() -> None:
    class Plain(MaskedFourier):
        solve_gram = recon.LinearOperator.solve_gram

    mask = (random(8, 8) > -0.5).double()
    mask[0, 0] = 1
    y = MaskedFourier(mask)(random(8, 8, dtype=torch.complex128))
    images = [
        recon.solve(make(mask), TV(0.05, periodic=True), y, stop=PRECISE).image
        for make in (MaskedFourier, Plain)
    ]
    near(images[1], images[0])


def test_a_preconditioner_changes_the_way_but_not_the_end() -> None:
    class Known(Matrix):
        def preconditioner(self, rho, terms):  # type: ignore[no-untyped-def]
            diagonal = self.matrix.square().sum(0)
            total = diagonal + sum(rho)
            return lambda residual: residual / total

    A = random(20, 12) * torch.logspace(-1, 1, 12, dtype=torch.float64)
    y = random(20, seed=1)
    images = [recon.solve(make(A), L1(0.3), y, stop=PRECISE).image for make in (Matrix, Known)]
    near(images[1], images[0])


def test_the_start_does_not_change_the_end() -> None:
    A, y = random(20, 12), random(20, seed=1)
    images = [
        recon.solve(Matrix(A), L1(0.5), y, stop=PRECISE, x0=x0).image
        for x0 in (None, torch.zeros(12), 100 * random(12, seed=3))
    ]
    for image in images[1:]:
        near(image, images[0])


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("what", ["data", "operator"])
def test_units_do_not_matter(scale: float, what: str) -> None:
    """Data or operator in other units: the same iterations, the same image in its unit, in single precision."""
    shape = (6, 7)
    A, y = random(30, 42).float() / 6, random(30, seed=1).float()
    plain = recon.solve(Matrix(A, shape), TV(0.1), y)
    if what == "data":
        solution = recon.solve(Matrix(A, shape), TV(0.1 * scale), scale * y)
        unit = scale
    else:
        solution = recon.solve(Matrix(scale * A, shape), TV(0.1 * scale), y)
        unit = 1 / scale
    assert plain.converged and solution.converged
    assert solution.iterations == plain.iterations
    near(solution.image / unit, plain.image, 1e-3)


def test_units_do_not_matter_with_a_start_of_zero_either() -> None:
    shape = (6, 7)
    A, y = random(30, 42).float() / 6, random(30, seed=1).float()
    solutions = [
        recon.solve(Matrix(A, shape), TV(0.1 * unit), unit * y, x0=torch.zeros(shape))
        for unit in (1, 1e-3, 1e3)
    ]
    assert len({solution.iterations for solution in solutions}) == 1


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_conjugate_gradients_do_not_depend_on_the_unit(scale: float) -> None:
    A, y = random(30, 12).float(), random(30, seed=1).float()
    solution = recon.solve(Matrix(A), Ridge(0.1), scale * y, solver=recon.CG())
    assert solution.converged
    near((solution.image / scale).double(), ridge(A.double(), y.double(), 0.1), 1e-4)


def test_a_weight_of_zero_is_least_squares() -> None:
    A, y = random(20, 6), random(20, seed=1)
    for prior in (L1(0.0), Ridge(0.0)):
        solution = recon.solve(Matrix(A), prior, y, solver=recon.ADMM(), stop=recon.MaxIterations(500))
        near(solution.image, torch.linalg.lstsq(A, y[:, None]).solution[:, 0], 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_so_strong_that_nothing_of_the_splits_is_left(dtype: torch.dtype) -> None:
    """A constant image under TV, an empty one under l1: solved, and said so."""
    y = 3 + random(8, 8).to(dtype)
    for prior in (TV(1e3), TV(1e3) + NonNegative()):
        solution = recon.solve(recon.Identity((8, 8)), prior, y)
        assert solution.converged, solution
        near(solution.image, y.mean().expand(8, 8), 1e-2)
    for x0 in (None, torch.zeros(8, 8)):
        solution = recon.solve(recon.Identity((8, 8)), L1(1e3), y, x0=x0)
        assert solution.converged, solution
        assert float(solution.image.abs().max()) < 1e-3


def test_data_of_zero_give_an_image_of_zero() -> None:
    """A blank slice in a batch, for all solvers and default options."""
    A = random(2, 20, 6, seed=3).float()[0]
    y = torch.stack([torch.zeros(20), random(20, seed=1).float()])
    for prior in (TV(0.1), L1(0.1), L1(0.1) + NonNegative(), Ridge(0.1), NonNegative(), Smoother(0.1)):
        solution = recon.solve(Matrix(A, (2, 3)), prior, y)
        assert solution.converged, (prior, solution)
        assert torch.equal(solution.image[0], torch.zeros(2, 3)), prior


# Direct


def test_direct_is_the_operators_own_reconstruction() -> None:
    A, y = Matrix(random(20, 12)), random(3, 20, seed=1)
    solution = recon.solve(A, None, y)
    torch.testing.assert_close(solution.image, A.pinv(y))
    assert solution.converged and solution.iterations == 1
    assert (
        solution.provenance["solver"]["name"].endswith("Direct")
        or "direct" in solution.provenance["solver"]["name"]
    )


def test_solvers_refuse_what_they_cannot_take_into_account() -> None:
    A, y = Matrix(random(20, 12)), random(20, seed=1)
    with pytest.raises(ValueError, match=r"solver='direct' takes no prior: leave the prior out \(None\)"):
        recon.solve(A, L1(1.0), y, solver=recon.Direct())
    with pytest.raises(
        ValueError, match="solver='cg' takes quadratic priors only, got L1: use solver='admm'"
    ):
        recon.solve(A, Ridge(1.0) + L1(1.0), y, solver=recon.CG())
    with pytest.raises(ValueError, match="solver='admm' needs a prior"):
        recon.solve(A, None, y, solver=recon.ADMM())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rho": 0}, "rho must be > 0 or 'auto', got 0"),
        ({"rho": -1.0}, "rho must be > 0"),
        ({"rho": "big"}, "rho must be > 0 or 'auto', got 'big'"),
        ({"rho": float("nan")}, "rho must be > 0"),
        ({"rho": float("inf")}, "rho must be > 0"),
        ({"relaxation": 2.0}, r"relaxation must lie in \(0, 2\) or be 'auto', got 2.0"),
        ({"relaxation": 0}, "relaxation must lie in"),
        ({"relaxation": "over"}, "relaxation must lie in"),
        ({"inner": 0}, "inner must be a whole number >= 1 or 'auto', got 0"),
        ({"inner": 2.5}, "inner must be a whole number"),
        ({"inner": "many"}, "inner must be a whole number"),
    ],
)
def test_parameters_of_admm(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recon.ADMM(**arguments)


def test_the_solver_is_chosen_by_the_prior() -> None:
    A, y = Matrix(random(20, 12)), random(20, seed=1)
    for prior, name in ((None, "Direct"), (Ridge(1.0), "CG"), (L1(1.0), "FISTA"), (Smoother(1.0), "ADMM")):
        solution = recon.solve(A, prior, y)
        assert solution.provenance["solver"]["settings"].startswith(name)


@pytest.mark.parametrize("solver", [recon.FISTA(), recon.PDHG(), recon.DIP()], ids=repr)
def test_a_prior_is_refused_before_a_weight_is_searched_for(solver: recon.FISTA) -> None:
    """The search is another algorithm's, which may well take that prior, for minutes."""
    operator, seen = Matrix(random(20, 16), (4, 4)), []
    prior = Smoother("auto") if isinstance(solver, recon.PDHG) else TV("auto")
    with pytest.raises(ValueError, match=r"Smoother|TV|generator"):
        recon.solve(operator, prior, random(20, seed=1), solver=solver, callback=seen.append)
    assert not seen


# Plug and play


@pytest.mark.parametrize("value_range", [None, (0.0, 10.0)])
@pytest.mark.parametrize("rho", ["auto", 3.0])
def test_a_denoiser_that_is_a_proximal_map_gives_its_known_fixed_point(
    value_range: tuple[float, float] | None, rho: float | str
) -> None:
    """Smoother is the prox of weight/2 |x - mean(x)|^2: the fixed point is that ridge solution.

    In the range [0, 10] instead of [-1, 1] images are 5 times as large, and noise of variance v has variance
    25 v.
    """
    A, y = random(20, 12), random(2, 20, seed=1)
    factor = 1.0 if value_range is None else 5.0
    K = torch.eye(12, dtype=torch.float64) - 1 / 12
    problem = recon.Problem(Matrix(A), y, image_range=(-1.0, 1.0))
    solver = recon.ADMM(rho=rho)  # type: ignore[arg-type]
    solution = recon.solve(problem, Smoother(0.5, value_range), solver=solver, stop=PRECISE)
    assert solution.converged
    for item in range(2):
        # with a denoiser ADMM stops by the change of an iteration, of which many are still to come
        near(solution.image[item], ridge(A, y[item], 0.5 * factor**2, K), 1e-4)


def test_denoiser_and_functional_together() -> None:
    A, y = random(20, 12), random(20, seed=1)
    K = torch.cat(
        [
            0.5**0.5 * (torch.eye(12, dtype=torch.float64) - 1 / 12),
            0.3**0.5 * torch.eye(12, dtype=torch.float64),
        ]
    )
    solution = recon.solve(Matrix(A), Smoother(0.5) + Ridge(0.3), y, stop=PRECISE)
    near(solution.image, ridge(A, y, 1.0, K))


# States


def test_states_are_selected_and_mapped_item_by_item() -> None:
    A, y = Matrix(random(20, 12)), random(3, 20, seed=1)
    for algorithm, prior in ((recon.CG(), Ridge(0.1)), (recon.ADMM(), L1(0.1) + Ridge(0.1))):
        problem = recon.Problem(A, y, prior=prior)
        state = algorithm.step(problem, algorithm.start(problem))
        items = torch.tensor([2, 0])
        part = select(state, items)
        torch.testing.assert_close(algorithm.image(part), algorithm.image(state)[items])
        after = algorithm.step(problem.select(items), part)
        whole = algorithm.step(problem, state)
        torch.testing.assert_close(algorithm.image(after), algorithm.image(whole)[items])
    doubled = map_tensors(CGState(*(torch.ones(1, 2) for _ in range(6))), lambda tensor: 2 * tensor)
    assert float(doubled.x.sum()) == 4


def test_a_step_leaves_the_old_state_alone() -> None:
    A, y = Matrix(random(20, 12)), random(3, 20, seed=1)
    for algorithm, prior in ((recon.CG(), Ridge(0.1)), (recon.ADMM(), TV(0.1)), (recon.Direct(), None)):
        problem = recon.Problem(Matrix(A.matrix, (3, 4)), y, prior=prior)
        state = algorithm.start(problem)
        for _ in range(3):
            before = map_tensors(state, torch.Tensor.clone)
            after = algorithm.step(problem, state)
            for name in vars(before):
                old, new = getattr(before, name), getattr(state, name)
                for left, right in zip(
                    *([old], [new]) if isinstance(old, Tensor) else (old, new), strict=True
                ):
                    assert torch.equal(left, right), f"{algorithm!r} changes {name}"
            state = after


def test_algorithms_are_differentiable_with_respect_to_the_data() -> None:
    """Unrolled iterations pass gradients on: checked against finite differences."""
    A, y = Matrix(random(8, 6), (2, 3)), random(1, 8, seed=1)
    for algorithm, prior in ((recon.ADMM(rho=0.5), TV(0.1)), (recon.CG(), Ridge(0.1))):

        def unrolled(y: Tensor, algorithm: recon.ADMM = algorithm, prior: recon.Functional = prior) -> Tensor:  # type: ignore[assignment]
            problem = recon.Problem(A, y.detach(), prior=prior, x0=torch.zeros(2, 3))
            problem.y = y
            state = algorithm.start(problem)
            for _ in range(3):
                state = algorithm.step(problem, state)
            return algorithm.image(state)

        assert torch.autograd.gradcheck(unrolled, (y.clone().requires_grad_(),))


def test_per_item_values_broadcast_against_images() -> None:
    assert per_item(torch.ones(3), torch.ones(3, 4, 5)).shape == (3, 1, 1)
