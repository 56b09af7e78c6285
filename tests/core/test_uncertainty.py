"""The spread under noise against closed forms, and how much of the truth its intervals cover."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_models import L1, TV, Masked, Matrix, NonNegativeMatrix, Ridge
from test_weight import case, phantom, projections, random
from torch import Tensor

import recon
from recon.simulate import PoissonNoise

EXACT = recon.SmallResiduals(1e-9) | recon.MaxIterations(500)


def ridge_case() -> tuple[Matrix, Tensor, float, float]:
    """Matrix, true image, noise level and weight, in float64."""
    return Matrix(random(40, 15, dtype=torch.float64)), random(15, dtype=torch.float64), 0.5, 3.0


def estimator(A: Tensor, weight: float, w: Tensor) -> Tensor:
    """The matrix that maps data to the ridge solution, with weights w of the samples."""
    normal = A.T @ (w[:, None] * A) + weight * torch.eye(A.shape[1], dtype=A.dtype)
    return torch.linalg.solve(normal, A.T * w)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_spread_of_a_linear_problem_is_the_closed_form(weighted: bool) -> None:
    """std_j = sigma |row j of R W^-1/2|; 400 samples tell a standard deviation to 3.5 %, here within four of it."""
    operator, x, sigma, weight = ridge_case()
    w = torch.linspace(0.2, 3, 40, dtype=torch.float64) if weighted else torch.ones(40, dtype=torch.float64)
    y = operator(x) + sigma * w.rsqrt() * random(40, dtype=torch.float64, seed=3)
    fidelity = ("gaussian", {"noise_level": sigma, **({"weights": w} if weighted else {})})
    solution = recon.solve(operator, Ridge(weight), y, fidelity=fidelity, stop=EXACT)
    found = solution.uncertainty(400)
    R = estimator(operator.matrix, weight, w)
    expected = sigma * (R * w.rsqrt()).norm(dim=1)
    torch.testing.assert_close(found.std, expected, rtol=0.15, atol=0)
    assert found.samples == 400 and found.converged == 400 and found.noise_level == [pytest.approx(sigma)]
    # the shift is the bias at the image itself: R A x_hat - x_hat
    bias = R @ operator.matrix @ solution.image - solution.image
    torch.testing.assert_close(found.shift, bias, rtol=0, atol=4 * float(expected.max()) / 20)
    middle = found.quantiles[1] - solution.image
    torch.testing.assert_close(middle, found.shift, rtol=0, atol=5 * float(expected.max()) / 20)


def test_samples_of_a_solve_that_is_stopped_begin_where_it_did() -> None:
    """Ten steps of SIRT from zero are a linear map of the data; from the image they would move less with the noise."""
    A = random(40, 15, dtype=torch.float64).abs()
    operator, sigma = NonNegativeMatrix(A), 0.5
    y = A @ random(15, dtype=torch.float64, seed=1).abs() + sigma * random(40, dtype=torch.float64, seed=3)
    fidelity = ("gaussian", {"noise_level": sigma})
    solution = recon.solve(
        operator, None, y, solver=recon.SIRT(), fidelity=fidelity, stop=recon.MaxIterations(10)
    )
    rows = 1 / A.sum(1)
    columns = 1 / (A.T @ (rows * A.sum(1)))
    step = columns[:, None] * (A.T * rows)
    R = torch.zeros(15, 40, dtype=torch.float64)
    for _ in range(10):
        R = R + step - step @ A @ R
    torch.testing.assert_close(R @ y, solution.image)
    torch.testing.assert_close(solution.uncertainty(400).std, sigma * R.norm(dim=1), rtol=0.15, atol=0)


def test_complex_noise_is_drawn_in_both_parts() -> None:
    A = torch.complex(random(40, 15), random(40, 15, seed=1))
    y = A @ torch.complex(random(15, seed=2), random(15, seed=3)) + torch.complex(
        random(40), random(40, seed=5)
    )
    solution = recon.solve(Matrix(A), Ridge(3.0), y, fidelity=("gaussian", {"noise_level": 1.0}))
    R = torch.linalg.solve(A.mH @ A + 3 * torch.eye(15), A.mH)
    torch.testing.assert_close(solution.uncertainty(400).std, 2**0.5 * R.norm(dim=1), rtol=0.15, atol=0)


def test_the_intervals_of_nearly_unbiased_solves_cover_what_they_say() -> None:
    """Ridge of small weight: the part of the pixels that is covered, over 40 noises at once."""
    operator, x, sigma, _ = ridge_case()
    y = operator(x) + sigma * random(40, 40, dtype=torch.float64, seed=9)
    solution = recon.solve(
        operator, Ridge(1e-3), y, fidelity=("gaussian", {"noise_level": sigma}), stop=EXACT
    )
    found = solution.uncertainty(16)
    for level in (0.5, 0.9):
        covered = float(found.coverage(x, level, item_ndim=1).mean())
        # 600 pixels, correlated within an image: some 2 %
        assert covered == pytest.approx(level, abs=0.08), (level, covered)


def test_total_variation_covers_less_than_it_would_without_bias() -> None:
    """What the page on uncertainty says: the bias is not in the interval; a weak prior covers more."""
    operator, truth, y, sigma, _ = case("projections", 0.03)
    fidelity = ("gaussian", {"noise_level": sigma})
    automatic = recon.solve(operator, TV(), y, fidelity=fidelity)
    covered = float(automatic.uncertainty(16).coverage(truth, 0.9))
    weak = recon.solve(operator, TV(0.1 * automatic.weight), y, fidelity=fidelity)  # type: ignore[operator]
    assert 0.4 < covered < 0.88
    assert covered < float(weak.uncertainty(16).coverage(truth, 0.9)) <= 0.97


def test_residuals_with_random_signs_need_no_noise_level() -> None:
    """Few unknowns and many data: the residual is the noise but for a few degrees of freedom."""
    A = random(400, 5, dtype=torch.float64)
    spread = torch.linspace(0.1, 2, 400, dtype=torch.float64)
    y = A @ random(5, dtype=torch.float64) + spread * random(400, dtype=torch.float64, seed=4)
    wrong = ("gaussian", {"noise_level": 77.0})
    solution = recon.solve(Matrix(A), Ridge(1e-3), y, fidelity=wrong, stop=EXACT)
    found = solution.uncertainty(400, method="residual")
    R = estimator(A, 1e-3, torch.ones(400, dtype=torch.float64))
    # the closed form of the residuals that there are, and nearly that of the uneven noise
    residual = A @ solution.image - y
    torch.testing.assert_close(found.std, (R * residual).norm(dim=1), rtol=0.15, atol=0)
    torch.testing.assert_close(found.std, (R * spread).norm(dim=1), rtol=0.25, atol=0)
    assert found.noise_level is None


@pytest.mark.parametrize("name", ["pwls", "poisson"])
def test_counted_photons_are_counted_anew(name: str) -> None:
    """The spread of 200 bootstraps against that of 200 scans of the truth; their means differ a little."""
    operator, truth = projections(12, 10), 0.05 * phantom(12)
    clean = operator(truth)
    scans = PoissonNoise(500)
    fidelity = f"{name}:photons=500"
    y = scans(clean.expand(200, *clean.shape), item_ndim=2, seed=1)
    stop = recon.SmallResiduals(1e-4) | recon.MaxIterations(300)
    real = recon.solve(operator, Ridge(30.0), y, fidelity=fidelity, solver=recon.ADMM(), stop=stop).image.std(
        0
    )
    one = recon.solve(operator, Ridge(30.0), y[0], fidelity=fidelity, solver=recon.ADMM(), stop=stop)
    found = one.uncertainty(200).std
    inside = real > 0.3 * real.max()
    assert float((found / real)[inside].median()) == pytest.approx(1, abs=0.15)


def test_emission_counts_are_counted_anew() -> None:
    """Seen one by one, counts are their own image, and their variance is their mean."""
    operator = NonNegativeMatrix(torch.eye(64, dtype=torch.float64))
    y = torch.poisson(
        torch.linspace(5, 80, 64, dtype=torch.float64), generator=torch.Generator().manual_seed(0)
    )
    solution = recon.solve(operator, None, y, solver=recon.MLEM(), fidelity="emission")
    found = solution.uncertainty(400)
    torch.testing.assert_close(found.std, y.sqrt(), rtol=0.15, atol=0)
    lower = solution.image + found.shift - 4 * found.std
    assert bool((found.quantiles >= 0).all()) and bool((lower < 0).any())  # no Gaussian would stay above zero


def test_noise_is_drawn_only_where_something_was_measured() -> None:
    mask = (random(8, 8) > 0).float()
    solution = recon.solve(
        Masked(mask), L1(0.0), mask * random(8, 8, seed=1), fidelity=("gaussian", {"noise_level": 0.1})
    )
    found = solution.uncertainty(8)
    assert float(found.std[mask == 0].max()) < 1e-6 < float(found.std[mask == 1].min())


def test_an_item_does_not_depend_on_its_mates_nor_on_the_groups() -> None:
    operator, _, y, sigma, _ = case("projections", 0.03)
    fidelity = ("gaussian", {"noise_level": sigma})
    together = recon.solve(operator, TV(2.0), torch.stack([3 * y, y]), fidelity=fidelity).uncertainty(5)
    alone = recon.solve(operator, TV(2.0), y, fidelity=fidelity)
    for at_once in (None, 2):
        single = alone.uncertainty(5, at_once=at_once)
        torch.testing.assert_close(together.std[1], single.std, rtol=0, atol=2e-3 * float(single.std.max()))
    assert not torch.equal(alone.uncertainty(5, seed=1).std, single.std)
    assert torch.equal(alone.uncertainty(5, at_once=2).std, single.std)


def test_it_is_kept_shown_and_explained(tmp_path: Path) -> None:
    operator, _, y, sigma, prior = case("projections", 0.03)
    solution = recon.solve(operator, prior, y, fidelity=("gaussian", {"noise_level": sigma}))
    assert "Uncertainty" not in solution.explain()
    found = solution.uncertainty(4, seed=3)
    assert solution.error_bars is found
    solution.save(tmp_path)
    again = recon.Solution.load(tmp_path)
    assert again.error_bars is not None
    assert torch.equal(again.error_bars.std, found.std) and torch.equal(
        again.error_bars.quantiles, found.quantiles
    )
    assert torch.equal(again.error_bars.radius(), found.radius())
    assert "From 4 solves" in again.explain() and "(seed 3)" in again.explain()
    page = solution.report(tmp_path / "r.html").read_text("utf-8")
    assert "Uncertainty" in page and "95 % quantile" in page
    with pytest.raises(ValueError, match="does not know its problem"):
        again.uncertainty(4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 1}, "samples must be a whole number >= 2, got 1"),
        ({"samples": "x"}, "samples must be a whole number >= 2, got 'x'"),
        ({"samples": 4.5}, "samples must be a whole number >= 2, got 4.5"),
        ({"at_once": 0}, "at_once must be a whole number >= 1, got 0"),
        ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
        ({"method": "jackknife"}, "'residual'"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, object], message: str) -> None:
    solution = recon.solve(
        recon.Identity((4, 4)), L1(0.1), random(4, 4), fidelity=("gaussian", {"noise_level": 0.1})
    )
    with pytest.raises(ValueError, match=message):
        solution.uncertainty(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="between 0 and 1"):
        solution.uncertainty(2).radius(90)
