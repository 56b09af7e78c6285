"""Data terms of counted photons against Newton's method, SciPy's minimisers and Lambert's function."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import lambertw
from small_models import TV, Matrix, NonNegative, Ridge

import recon
from recon.fidelity import as_fidelity
from recon.transmission import PWLS, Poisson, lambert_of_exp

PIXELS, RAYS, PHOTONS = 12, 30, 200.0
PRECISE = recon.SmallResiduals(1e-8) | recon.MaxIterations(5000)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def scan(seed=0, photons=PHOTONS):
    """A small non-negative matrix, an image, and counts of its scan in double precision."""
    A = torch.rand(RAYS, PIXELS, generator=generator(seed), dtype=torch.float64)
    x = torch.rand(PIXELS, generator=generator(seed + 1), dtype=torch.float64) * 0.6
    counts = torch.poisson(photons * torch.exp(-A @ x), generator=generator(seed + 2))
    return A, x, counts


def line_integrals(counts, photons=PHOTONS):
    return -torch.log(counts.clamp_min(0.1) / photons)


def likelihood(A, counts, photons=PHOTONS):
    """f(A x) and its gradient as NumPy functions of x, without the constant."""
    A, counts = A.numpy(), counts.numpy()

    def value(x):
        z = A @ x
        return float((photons * np.exp(-z) + counts * z).sum())

    def gradient(x):
        return A.T @ (counts - photons * np.exp(-A @ x))

    return value, gradient


@given(st.floats(-600, 600))
@settings(deadline=None)
def test_lamberts_function_of_an_exponential(exponent):
    w = float(lambert_of_exp(torch.tensor(exponent, dtype=torch.float64)))
    if exponent < 700:
        assert np.isclose(w, float(lambertw(np.exp(exponent)).real), rtol=1e-14, atol=1e-300)


@given(st.floats(-2, 8), st.floats(-2, 8), st.floats(1e-4, 1e2), st.floats(1, 1e6))
@settings(deadline=None)
def test_the_proximal_map_of_the_likelihood_is_stationary(z, y, step, photons):
    z, y = (torch.full((1, 1), value, dtype=torch.float64) for value in (z, y))
    term = Poisson(photons).for_items(y, ())
    u = term.prox(z, y, step)
    slope = step * term.gradient(u, y) + u - z
    scale = step * (photons * torch.exp(-u) + photons * torch.exp(-y)) + u.abs() + z.abs()
    assert float(slope.abs() / scale) < 1e-13  # a few hundred roundings


def test_the_likelihood_is_that_of_poisson_counts_and_its_derivative_is_right():
    A, x, counts = scan()
    y = line_integrals(counts)[None]
    term = Poisson(PHOTONS, counts).for_items(y, ())
    z = (A @ x)[None].requires_grad_()
    expected = torch.distributions.Poisson(PHOTONS * torch.exp(-z)).log_prob(counts)
    best = torch.distributions.Poisson(counts.clamp_min(1e-300)).log_prob(counts)
    assert torch.allclose(term.value(z, y), (best - expected).sum(1))
    (slope,) = torch.autograd.grad(term.value(z, y).sum(), z)
    assert torch.allclose(term.gradient(z, y), slope)


def test_a_ray_without_a_photon_counts_exactly():
    counts, z = torch.tensor([[0.0, 9.0]]).double(), torch.tensor([[3.0, 3.0]]).double()
    y = line_integrals(counts)
    term = Poisson(PHOTONS, counts[0]).for_items(y, ())
    assert torch.allclose(term.gradient(z, y), counts - PHOTONS * torch.exp(-z))
    # without the counts, the clipped value stands for a tenth of a photon
    clipped = Poisson(PHOTONS).for_items(y, ())
    assert torch.allclose(clipped.gradient(z, y), counts.clamp_min(0.1) - PHOTONS * torch.exp(-z))


@pytest.mark.parametrize("bounded", [False, True])
def test_the_likelihood_with_a_quadratic_prior_is_minimised(bounded):
    A, _, counts = scan()
    value, gradient = likelihood(A, counts)
    weight = 3.0
    reference = minimize(
        lambda x: value(x) + weight / 2 * float(x @ x),
        np.full(PIXELS, 0.3),
        jac=lambda x: gradient(x) + weight * x,
        method="L-BFGS-B",
        bounds=[(0, None)] * PIXELS if bounded else None,
        options={"maxiter": 10000, "ftol": 1e-16, "gtol": 1e-11},
    )
    prior = Ridge(weight) + NonNegative() if bounded else Ridge(weight)
    solution = recon.solve(
        Matrix(A), prior, line_integrals(counts), fidelity=Poisson(PHOTONS, counts), stop=PRECISE
    )
    # the minimiser's own tolerance on a problem of condition some 1e3
    assert np.allclose(solution.image.numpy(), reference.x, atol=1e-5)
    assert solution.provenance["solver"]["name"].endswith("ADMM")


def test_the_likelihood_with_total_variation_is_minimised():
    A, _, counts = scan(seed=5)
    value, gradient = likelihood(A, counts)
    weight, smoothing = 4.0, 1e-5

    def smoothed(x):
        return value(x) + weight * float(np.sqrt(np.diff(x) ** 2 + smoothing**2).sum())

    def slope(x):
        difference = np.diff(x)
        force = weight * difference / np.sqrt(difference**2 + smoothing**2)
        return gradient(x) + np.concatenate([[0], force]) - np.concatenate([force, [0]])

    reference = minimize(
        smoothed,
        np.full(PIXELS, 0.3),
        jac=slope,
        method="L-BFGS-B",
        options={"maxiter": 100000, "ftol": 1e-16},
    )
    solution = recon.solve(
        Matrix(A), TV(weight), line_integrals(counts), fidelity=Poisson(PHOTONS, counts), stop=PRECISE
    )
    x = solution.image.numpy()
    objective = value(x) + weight * np.abs(np.diff(x)).sum()
    # smoothing raises the reference by at most weight * smoothing a difference
    assert objective <= reference.fun + 1e-6
    assert objective >= reference.fun - weight * smoothing * PIXELS - 1e-6


def test_weights_from_counts_are_inverse_variances():
    photons = torch.full((5000,), 300.0, dtype=torch.float64)
    counts = torch.poisson(photons, generator=generator()) + 8.0 * torch.randn(
        5000, generator=generator(1), dtype=torch.float64
    )
    y = -torch.log(counts / 300.0)[None]
    weights = PWLS(300.0, electronic=8.0).for_items(y, ()).weights
    # the logarithm's curvature raises the variance by 0.5 %; the sample variance spreads by 2 %
    assert np.isclose(float(1 / weights.mean()), float(y.var()), rtol=0.05)


def test_weighted_least_squares_has_its_closed_form():
    A, _, counts = scan()
    y = line_integrals(counts)
    W = torch.diag(counts)
    expected = torch.linalg.solve(A.T @ W @ A + 2.0 * torch.eye(PIXELS), A.T @ W @ y)
    solution = recon.solve(Matrix(A), Ridge(2.0), y, fidelity=("pwls", {"photons": PHOTONS}), stop=PRECISE)
    assert torch.allclose(solution.image, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["pwls", "poisson"])
def test_the_automatic_weight_meets_the_noise_of_the_counts(name):
    generated = torch.Generator().manual_seed(3)
    A = torch.rand(400, 40, generator=generated, dtype=torch.float64) * 0.2
    x = torch.zeros(40, dtype=torch.float64)
    x[8:20], x[20:30] = 0.4, 0.2
    counts = torch.poisson(100 * torch.exp(-A @ x), generator=generated)
    y, term = line_integrals(counts, 100.0), (name, {"photons": 100.0, "counts": counts})
    chosen = recon.solve(Matrix(A), TV(), y, fidelity=term)
    errors = {
        weight: float((recon.solve(Matrix(A), TV(weight), y, fidelity=term).image - x).norm())
        for weight in np.geomspace(0.1, 100, 13)
    }
    # within a fifth of the error of the best of thirteen weights
    assert float((chosen.image - x).norm()) < 1.2 * min(errors.values())


@pytest.mark.parametrize("name", ["pwls", "poisson"])
def test_an_item_does_not_depend_on_its_mates(name):
    A, _, counts = scan()
    _, _, others = scan(seed=9)
    both = torch.stack([counts, others])
    y = line_integrals(both)
    term = {"photons": PHOTONS, "counts": both}
    images = recon.solve(Matrix(A), TV(2.0), y, fidelity=(name, term), stop=PRECISE).image
    alone = recon.solve(
        Matrix(A), TV(2.0), y[1], fidelity=(name, term | {"counts": others}), stop=PRECISE
    ).image
    assert torch.allclose(images[1], alone, atol=1e-7)


def test_a_checkpoint_resumes_it_to_the_last_bit(tmp_path):
    A, _, counts = scan()
    problem = recon.Problem(Matrix(A), line_integrals(counts), fidelity=Poisson(PHOTONS, counts))
    file = tmp_path / "state.h5"
    whole = recon.solve(problem, TV(3.0), stop=recon.MaxIterations(20))
    recon.solve(problem, TV(3.0), stop=recon.MaxIterations(10), checkpoint=file)
    resumed = recon.solve(problem, TV(3.0), stop=recon.MaxIterations(20), checkpoint=file)
    assert torch.equal(whole.image, resumed.image)


@pytest.mark.parametrize(
    ("fidelity", "error", "words"),
    [
        ("poisson", TypeError, "fidelity poisson needs photons"),
        ("poisson:photons=0", ValueError, "photons.* must be > 0, got a minimum of 0"),
        ("poisson:photons=many", ValueError, "numbers or arrays, got 'many'"),
        (("pwls", {"photons": 10.0, "counts": -torch.ones(RAYS)}), ValueError, "counts must be finite"),
        (("pwls", {"photons": torch.ones(7)}), ValueError, "photons of shape \\(7,\\) do not fit"),
        (("pwls", {"photons": 1.0, "electronic": -1}), ValueError, "electronic.* must be >= 0, got -1"),
        (
            "poison:photons=3",
            LookupError,
            "there is no fidelity 'poison'; did you mean 'poisson'\\? Known: emission, gaussian, poisson, pwls",
        ),
    ],
)
def test_wrong_arguments_are_refused(fidelity, error, words):
    A, _, counts = scan()
    with pytest.raises(error, match=words):
        recon.solve(Matrix(A), Ridge(1.0), line_integrals(counts), fidelity=fidelity)


def test_data_that_are_counts_and_complex_data_are_refused():
    A, _, counts = scan()
    with pytest.raises(ValueError, match="takes line integrals, about 0 to 10"):
        recon.solve(Matrix(A), Ridge(1.0), counts + 1000, fidelity="poisson:photons=200")
    with pytest.raises(TypeError, match="which are real"):
        recon.solve(recon.Identity((3,)), Ridge(1.0), torch.ones(3) * 1j, fidelity="pwls:photons=10")


def test_conjugate_gradients_refuse_the_likelihood():
    A, _, counts = scan()
    with pytest.raises(ValueError, match="quadratic data terms only, got 'poisson': use solver='admm'"):
        recon.solve(
            Matrix(A), Ridge(1.0), line_integrals(counts), fidelity="poisson:photons=200", solver=recon.CG()
        )


def test_a_noise_level_beside_counts_is_refused():
    with pytest.raises(TypeError, match="knows its noise from the counts"):
        as_fidelity("pwls:photons=100").with_noise_level(0.1)


def test_rays_that_no_photon_passed_pull_as_the_likelihood_says():
    counts = torch.tensor([100.0, 5.0, 0.0]).double()
    identity = recon.Identity((3,))
    solution = recon.solve(
        identity,
        Ridge(1.0),
        line_integrals(counts),
        fidelity=Poisson(PHOTONS, counts),
        stop=recon.SmallResiduals(1e-9) | recon.MaxIterations(5000),
    )
    x = solution.image
    # stationary: N - b exp(-x) + x = 0, also where N = 0
    assert torch.allclose(counts - PHOTONS * torch.exp(-x) + x, torch.zeros(3).double(), atol=1e-5)


@pytest.mark.parametrize("term", [PWLS(PHOTONS), Poisson(PHOTONS)], ids=["pwls", "poisson"])
def test_a_single_item_may_be_selected_twice(term):
    _, _, counts = scan()
    y = line_integrals(counts)[None]
    twice = term.for_items(y, ()).select(torch.tensor([0, 0]))
    assert torch.equal(twice.noise_level, torch.ones(2))
    both = torch.cat([y, y])
    assert torch.equal(*twice.value(both + 0.1, both))


@pytest.mark.parametrize("mean", [0.5, 2.0, 20.0, 1000.0])
def test_noise_leaves_a_residual_of_one_a_ray_at_any_count(mean):
    z = torch.full((1, 200_000), 1.0, dtype=torch.float64)
    counts = torch.poisson(torch.full_like(z, mean), generator=generator(3))
    photons = mean * math.e
    y = line_integrals(counts, photons)
    term = Poisson(photons, counts).for_items(y, (1,))
    # the squares have a variance of 2 + 1/mean: four standard errors of their mean
    assert float(term.residual(z, y).square() / z.numel()) == pytest.approx(
        1, abs=4 * math.sqrt((2 + 1 / mean) / z.numel())
    )
    gaussian = PWLS(photons, counts).for_items(y, (1,))
    torch.testing.assert_close(gaussian.residual(z, y), gaussian.weighted_norm(z - y))


@pytest.mark.parametrize("mean", [0.01, 0.03, 0.1])
def test_below_a_tenth_of_a_count_noise_leaves_ten_times_what_is_expected(mean):
    z = torch.full((1, 400_000), 1.0, dtype=torch.float64)
    counts = torch.poisson(torch.full_like(z, mean), generator=generator(3))
    photons = mean * math.e
    y = line_integrals(counts, photons)
    squares = float(Poisson(photons, counts).for_items(y, (1,)).residual(z, y).square() / z.numel())
    # the squares have a variance of 100 (mean + 2 mean^2): four standard errors of their mean
    assert squares == pytest.approx(10 * mean, abs=40 * math.sqrt((mean + 2 * mean**2) / z.numel()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_residual_of_an_image_that_is_far_off_is_finite(dtype):
    """Expected counts beyond the largest number: larger than nearer images', not NaN."""
    y = torch.full((1, 1000), 2.0, dtype=dtype)
    term = Poisson(1e4).for_items(y, (1,))
    near, far = (term.residual(torch.full_like(y, z), y) for z in (-20.0, -85.0))
    assert bool(torch.isfinite(far).all()) and float(far) > float(near) > 0
    assert bool(torch.isfinite(term.residual(torch.full_like(y, -1e4), y)).all())
