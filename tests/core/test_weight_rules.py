"""SURE and the L-curve against the truth they estimate, and paths of weights against separate solves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from small_models import L1, TV, Matrix, Ridge, Smoother
from test_batch_mates import OneByOne
from test_weight import case, phantom, photograph, projections, psnr, random
from torch import Tensor

import recon
from recon.runner import run
from recon.weight_rules.lcurve import NoCornerError, choose_by_lcurve, corner
from recon.weight_rules.line_search import FACTOR, LineSearch
from recon.weight_rules.sure import PERTURBATION, Twins, choose_by_risk, risk
from recon.weight_rules.walking import Walk


def scores_of_grid(
    operator: recon.LinearOperator, truth: Tensor, y: Tensor, prior: recon.Prior, middle: float
) -> Tensor:
    """PSNR at weights in steps of 30 %, all solved at once."""
    weights = middle * 1.3 ** torch.arange(-11.0, 12.0)
    problem = recon.Problem(operator, y.expand(len(weights), *y.shape), prior=prior)
    problem.strength = weights
    outcome = run(problem, recon.ADMM(), stop=recon.SmallResiduals(1e-3) | recon.MaxIterations(300))
    return psnr(outcome.image, truth)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("photograph", 0.02),
        ("photograph", 0.1),
        ("projections", 0.005),
        ("projections", 0.03),
        ("fourier", 0.1),
    ],
)
def test_sure_is_within_half_a_decibel_of_the_best_weight(name: str, level: float) -> None:
    """Denoising, CT and MRI; up to 0.47 dB was measured over seeds."""
    operator, truth, y, sigma, prior = case(name, level)
    solution = recon.solve(operator, prior, y, weight="sure", fidelity=("gaussian", {"noise_level": sigma}))
    scores = scores_of_grid(operator, truth, y, prior, solution.weight)  # type: ignore[arg-type]
    assert 0 < int(scores.argmax()) < len(scores) - 1, "the best weight lies inside the grid"
    assert float(psnr(solution.image[None], truth)[0]) >= float(scores.max()) - 0.5


@pytest.mark.parametrize("level", [0.005, 0.03])
def test_the_lcurve_is_within_two_decibels_of_the_best_weight_of_a_scan(level: float) -> None:
    """It knows nothing of the noise; 1.1 to 1.8 dB were measured."""
    operator, truth, y, _, prior = case("projections", level)
    solution = recon.solve(operator, prior, y, weight="lcurve")
    scores = scores_of_grid(operator, truth, y, prior, solution.weight)  # type: ignore[arg-type]
    assert float(psnr(solution.image[None], truth)[0]) >= float(scores.max()) - 2


def test_the_lcurve_does_not_ask_for_the_noise_level() -> None:
    """Another level changes nothing."""
    A, x, sigma = linear_case()
    y = A @ x + sigma * random(40, dtype=torch.float64)
    weights = [
        recon.solve(
            Matrix(A), Ridge(), y, weight="lcurve", fidelity=("gaussian", {"noise_level": level})
        ).weight
        for level in (1e-3, 10.0)
    ]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("name", ["photograph", "fourier"])
def test_data_that_can_be_fitted_exactly_have_no_corner(name: str) -> None:
    operator, _, y, _, prior = case(name, 0.1)
    with pytest.raises(NoCornerError, match="choose weight='auto' or 'sure'".capitalize()):
        recon.solve(operator, prior, y, weight="lcurve")


def test_the_corner_of_two_straight_arms_is_where_they_meet() -> None:
    """The misfit falls while the penalty stays, then the other way round; the other way round at first: no corner."""
    arm = np.linspace(0, 3, 9)
    misfit = np.exp(np.concatenate([arm[::-1], np.zeros(8)]))
    value = np.exp(np.concatenate([np.zeros(9), arm[1:]]))
    place, curvature = corner(misfit, value)
    assert place == pytest.approx(8, abs=0.1)
    assert int(np.nanargmax(curvature)) == 8
    assert corner(misfit, np.ones(17))[0] is None  # a straight line
    assert (
        corner(np.exp(np.concatenate([[3.0] * 9, 3 - arm[1:]])), np.exp(np.concatenate([arm, [3.0] * 8])))[0]
        is None
    )


def test_the_lcurve_needs_a_value_to_plot() -> None:
    with pytest.raises(ValueError, match="Smoother has none"):
        recon.solve(recon.Identity((8, 8)), Smoother("auto"), random(8, 8), weight="lcurve")


def linear_case() -> tuple[Tensor, Tensor, float]:
    """Matrix, true image and noise level of a small ill-posed system, in float64."""
    u, _, v = torch.linalg.svd(random(40, 25, dtype=torch.float64), full_matrices=False)
    return (
        u @ torch.diag(0.7 ** torch.arange(25.0, dtype=torch.float64)) @ v,
        random(25, dtype=torch.float64),
        0.02,
    )


@pytest.mark.parametrize("weight", [1e-4, 1e-2, 1.0])
def test_the_estimated_trace_is_that_of_the_hat_matrix(weight: float) -> None:
    """The mean over 200 probes, within four of its standard errors; each estimate has df's own variance."""
    A, x, sigma = linear_case()
    y = (A @ x).expand(200, -1)
    problem = recon.Problem(Matrix(A), y, prior=Ridge(), fidelity=("gaussian", {"noise_level": sigma}))
    problem.strength = torch.full((200,), weight)
    hat = A @ torch.linalg.solve(A.T @ A + weight * torch.eye(25, dtype=torch.float64), A.T)
    twins = Twins(problem, 0)
    signs = torch.randint(0, 2, y.shape, generator=torch.Generator().manual_seed(1)) * 2.0 - 1
    twins.probe = signs.double()
    twins.problem.y = torch.cat([problem.y, problem.y + PERTURBATION * sigma * twins.probe])
    twins.problem.strength = problem.strength.repeat(2)
    walk = Walk(twins.problem, recon.CG(), recon.SmallResiduals(1e-10) | recon.MaxIterations(500), twins=True)
    everyone = torch.arange(200)
    _, freedom = twins.measured(everyone, walk.to(everyone, problem.strength))
    spread = float(freedom.std()) * 40 / 200**0.5
    assert abs(float(freedom.mean()) * 40 - float(hat.trace())) < 4 * spread + 1e-3


@pytest.mark.parametrize("weight", [1e-3, 1e-2, 1e-1])
def test_the_estimated_risk_is_unbiased(weight: float) -> None:
    """Its mean over 400 noises is the mean true error of A x, within four standard errors; float64."""
    A, x, sigma = linear_case()
    y = A @ x + sigma * random(400, 40, dtype=torch.float64, seed=5)
    problem = recon.Problem(Matrix(A), y, prior=Ridge(), fidelity=("gaussian", {"noise_level": sigma}))
    twins = Twins(problem, 3)
    twins.problem.strength = torch.full((800,), weight)
    walk = Walk(twins.problem, recon.CG(), recon.SmallResiduals(1e-9) | recon.MaxIterations(500), twins=True)
    everyone = torch.arange(400)
    images = walk.to(everyone, torch.full((400,), weight))
    hat = A @ torch.linalg.solve(A.T @ A + weight * torch.eye(25, dtype=torch.float64), A.T)
    error = ((images[:400] - x) @ A.T).square().sum(1) / (40 * sigma**2)
    misfit, _ = twins.measured(everyone, images)
    difference = (risk(misfit.double(), torch.full((400,), float(hat.trace()) / 40)) - error).double()
    assert abs(float(difference.mean())) < 4 * float(difference.std()) / 20
    # with one probe for all the trace is off by its own spread, the same in every item: 2 sqrt(2 tr (H - diag H)^2)
    off = hat - torch.diag(hat.diagonal())
    estimated = risk(*twins.measured(everyone, images)).double() - error
    bound = 4 * float(difference.std()) / 20 + 4 * 2 * float(2 * off.square().sum()) ** 0.5 / 40
    assert abs(float(estimated.mean())) < bound


def test_sure_finds_the_least_predicted_risk_of_a_linear_problem() -> None:
    """In closed form: E|A x_w - A x|^2 = bias + variance, by singular values."""
    A, x, sigma = linear_case()
    values = torch.logspace(-5, 1, 200, dtype=torch.float64)
    _, singular, vh = torch.linalg.svd(A, full_matrices=False)
    filters = singular**2 / (singular**2 + values[:, None])
    expected = ((1 - filters) * singular * (vh @ x)).square().sum(1) + sigma**2 * filters.square().sum(1)
    found = []
    for seed in range(8):
        y = A @ x + sigma * random(40, dtype=torch.float64, seed=20 + seed)
        solution = recon.solve(
            Matrix(A), Ridge(), y, weight="sure", fidelity=("gaussian", {"noise_level": sigma}), seed=seed
        )
        found.append(float(np.interp(math.log(solution.weight), values.log(), expected)))  # type: ignore[arg-type]
    # 40 data and one probe: the typical choice costs less than half of the least risk
    assert float(np.median(found)) < 1.5 * float(expected.min())


@pytest.mark.parametrize(("rule", "prior"), [("sure", TV()), ("sure", Ridge()), ("lcurve", Ridge())])
def test_an_item_does_not_depend_on_its_mates(rule: str, prior: recon.Prior) -> None:
    """Neither weight nor image; levels and units differ, so that the searches do."""
    A, x, _ = linear_case()
    operator = OneByOne(A, (5, 5))  # the rounding of a batched product moves a weight by 2 %
    levels = torch.tensor([0.01, 0.2, 0.05], dtype=torch.float64)
    y = A @ x + levels.reshape(3, 1) * random(3, 40, dtype=torch.float64)
    y[2] *= 10
    levels[2] *= 10
    together = recon.solve(operator, prior, y, weight=rule, fidelity=("gaussian", {"noise_level": levels}))
    for item in range(3):
        alone = recon.solve(
            operator, prior, y[item], weight=rule, fidelity=("gaussian", {"noise_level": levels[item]})
        )
        assert together.weight[item] == pytest.approx(alone.weight, rel=1e-5)  # type: ignore[index]
        scale = float(alone.image.abs().max())
        torch.testing.assert_close(together.image[item], alone.image, rtol=0, atol=1e-3 * scale)


@pytest.mark.parametrize("rule", ["sure", "lcurve"])
def test_units_do_not_matter(rule: str) -> None:
    A, x, sigma = linear_case()
    y = A @ x + sigma * random(40, dtype=torch.float64)
    plain, scaled = (
        recon.solve(Matrix(A), Ridge(), c * y, weight=rule, fidelity=("gaussian", {"noise_level": c * sigma}))
        for c in (1.0, 1e3)
    )
    # a quadratic penalty scales as the misfit does: its weight stays
    assert scaled.weight == pytest.approx(plain.weight, rel=2e-2)  # of the tolerance


@pytest.mark.parametrize("rule", ["sure", "lcurve"])
def test_the_search_is_recorded_and_explained(rule: str) -> None:
    operator, _, y, sigma, prior = case("projections", 0.03)
    solution = recon.solve(operator, prior, y, weight=rule, fidelity=("gaussian", {"noise_level": sigma}))
    names = {
        "sure": {"weight", "risk", "residual", "freedom"},
        "lcurve": {"weight", "residual", "penalty", "curvature"},
    }
    assert all(set(look) == names[rule] for look in solution.weight_search)
    words = solution.explain()
    assert {"sure": "Monte-Carlo SURE", "lcurve": "L-curve"}[rule] in words
    assert f"{len(solution.weight_search)} looks" in words
    looks = solution.weight_search
    if rule == "sure":
        lowest = min(looks, key=lambda look: look["risk"][0])
    else:
        lowest = max(looks, key=lambda look: np.nan_to_num(look["curvature"][0], nan=-9))
    assert 0.4 < solution.weight / lowest["weight"][0] < 2.5  # type: ignore[operator]


def test_blank_items_stay_blank() -> None:
    operator, truth, y, sigma, prior = case("projections", 0.03)
    for rule in ("sure", "lcurve"):
        solution = recon.solve(
            operator,
            prior,
            torch.stack([torch.zeros_like(y), y]),
            weight=rule,
            fidelity=("gaussian", {"noise_level": sigma}),
            stop=recon.MaxIterations(5),
        )
        assert torch.equal(solution.image[0], torch.zeros_like(truth))
        assert all(math.isfinite(weight) and weight > 0 for weight in solution.weight)  # type: ignore[union-attr]


def test_denoisers_have_a_weight_by_sure() -> None:
    truth = photograph()
    y = truth + 0.1 * random(48, 48)
    solution = recon.solve(
        recon.Identity((48, 48)),
        Smoother("auto"),
        y,
        weight="sure",
        fidelity=("gaussian", {"noise_level": 0.1}),
    )
    assert float(psnr(solution.image[None], truth)[0]) > float(psnr(y[None], truth)[0])


@pytest.mark.parametrize("rule", ["surely", "l-curve", ""])
def test_unknown_rules_are_refused(rule: str) -> None:
    with pytest.raises(ValueError, match="a number >= 0 or 'auto', 'sure' or 'lcurve'"):
        recon.solve(recon.Identity((4, 4)), L1(), random(4, 4), weight=rule)


@pytest.mark.parametrize("lowest", [-3.0, 0.0, 1.234, 6.5])
def test_the_line_search_finds_the_minimum(lowest: float) -> None:
    """Of a smooth function, within a twentieth of a lattice step of its parabola's fit."""
    search = LineSearch(2.0)
    while (weight := search.next()) is not None:
        search.tell(math.cosh(math.log(weight / 2.0) - lowest))
    assert math.log(search.answer() / 2.0) == pytest.approx(lowest, abs=0.02)
    assert len(search.values) <= 16 and not search.at_end


def test_the_line_search_ends_at_its_bounds() -> None:
    search = LineSearch(1.0, floor=1e-2)
    while (weight := search.next()) is not None:
        search.tell(weight)
    assert search.at_end and 1e-2 <= search.answer() < 1e-2 * FACTOR


@pytest.mark.parametrize("rule", ["sure", "lcurve"])
def test_a_time_limit_ends_the_search(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the image that there is by then, and the weight that it is of."""
    operator, _, y, sigma, prior = case("projections", 0.03)
    ticks = iter(range(10**6))
    monkeypatch.setattr("time.perf_counter", lambda: 0.1 * next(ticks))  # every look at the clock takes 0.1 s
    seen: list[recon.Snapshot] = []
    with pytest.warns(recon.ConvergenceWarning, match=r"TimeLimit\('2s'\) came before"):
        solution = recon.solve(
            operator,
            prior,
            y,
            weight=rule,
            stop=recon.SmallResiduals(1e-9) | recon.TimeLimit("2s"),
            callback=seen.append,
            fidelity=("gaussian", {"noise_level": sigma}),
        )
    assert solution.reason == "TimeLimit('2s')" and solution.iterations == 0 and not solution.converged
    assert 2 <= solution.seconds < 3, "the search ended at once"
    assert 3 < len(seen) < 24
    torch.testing.assert_close(solution.image, seen[-1].image[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", ["sure", "lcurve"])
@pytest.mark.parametrize("looks", [1, 7, 90])
def test_the_callback_sees_and_ends_the_search(rule: str, looks: int) -> None:
    """At the first weight, and later, when items have gone on to weights of their own."""
    operator, _, y, sigma, prior = case("projections", 0.03)
    seen: list[recon.Snapshot] = []

    def look(snapshot: recon.Snapshot) -> bool:
        seen.append(snapshot)
        return len(seen) == looks

    solution = recon.solve(
        operator,
        prior,
        torch.stack([y, 2 * y]),
        weight=rule,
        callback=look,
        fidelity=("gaussian", {"noise_level": [sigma, 2 * sigma]}),
    )
    assert solution.reasons == ["stopped by the callback"] * 2 and len(seen) == looks
    assert {snapshot.iteration for snapshot in seen} == {0}
    last = seen[-1]
    torch.testing.assert_close(solution.image[last.items], last.image, rtol=1e-5, atol=1e-6)
    assert bool(solution.image.isfinite().all()) and all(weight > 0 for weight in solution.weight)  # type: ignore[union-attr]


@pytest.mark.parametrize("rule", ["sure", "lcurve"])
@pytest.mark.parametrize("calls", [20, 90])
def test_ctrl_c_in_the_search_keeps_what_there_is(rule: str, calls: int) -> None:
    """Pressed inside an operator, where the iteration is not complete."""
    A, x, sigma = linear_case()
    y = A @ x + sigma * random(40, dtype=torch.float64)

    class Interrupted(Matrix):
        calls = 0

        def _forward(self, x: Tensor) -> Tensor:
            Interrupted.calls += 1
            if Interrupted.calls == calls:
                raise KeyboardInterrupt
            return super()._forward(x)

    seen: list[recon.Snapshot] = []
    solution = recon.solve(
        Interrupted(A),
        Ridge(),
        y,
        weight=rule,
        callback=seen.append,
        fidelity=("gaussian", {"noise_level": sigma}),
    )
    assert solution.reason == "interrupted" and solution.iterations == 0 and not solution.converged
    torch.testing.assert_close(solution.image, seen[-1].image[0], rtol=1e-5, atol=1e-6)
    last = solution.weight_search[-1]["weight"][0] if solution.weight_search else solution.weight
    assert calls == 20 or (solution.weight_search and 0.01 < solution.weight / last < 100)  # type: ignore[operator]


class Diverging(Matrix):
    """An adjoint of the wrong sign and size."""

    def _adjoint(self, y: Tensor) -> Tensor:
        return -1e20 * super()._adjoint(y)


@pytest.mark.parametrize("choose", [choose_by_risk, choose_by_lcurve])
def test_divergence_in_the_search_is_said(choose: Any) -> None:
    A = projections()
    operator = Diverging(A.matrix, A.domain_shape, A.range_shape)
    problem = recon.Problem(operator, A(phantom()), prior=TV(), fidelity=("gaussian", {"noise_level": 0.1}))
    with pytest.raises(recon.DivergenceError, match="diverged"):
        choose(problem, recon.ADMM())


WEIGHTS = [1.0, 0.7, 4.0, 0.5, 2.8, 2.0, 1.4]


def test_a_path_gives_what_separate_solves_give_in_fewer_iterations() -> None:
    operator, truth, y, _, prior = case("projections", 0.03)
    batch = torch.stack([y, 1.5 * y])
    stop = recon.SmallResiduals(1e-4) | recon.MaxIterations(2000)
    path = recon.weight_path(operator, prior, batch, weights=WEIGHTS, stop=stop, reference=truth)
    assert path.weights.tolist() == pytest.approx(WEIGHTS) and path.images.shape == (7, 2, 24, 24)
    assert bool(path.converged.all())
    steps = 0
    for place, weight in enumerate(WEIGHTS):
        alone = recon.solve(operator, prior, batch, weight=weight, stop=stop, reference=truth)
        steps += sum(alone.facts["iterations"])
        # both within the tolerance of the solution, whose error is some hundred times the residual
        torch.testing.assert_close(path.images[place], alone.image, rtol=0, atol=2e-2)
        torch.testing.assert_close(
            path.objective[place].double(),
            torch.tensor(alone.history["objective"][-1]).double(),
            rtol=1e-3,
            atol=0,
        )
        assert path.psnr is not None
        assert path.psnr[place].tolist() == pytest.approx(alone.history["psnr"][-1], abs=0.1)
    assert int(path.iterations.sum()) < 0.9 * steps, (int(path.iterations.sum()), steps)


def test_a_path_estimates_the_error_of_the_prediction() -> None:
    operator, truth, y, sigma, prior = case("projections", 0.03)
    weights = 2.4 * 2.0 ** torch.arange(-3.0, 4.0)
    path = recon.weight_path(
        operator, prior, y, weights=weights.tolist(), fidelity=("gaussian", {"noise_level": sigma}), risk=True
    )
    assert path.images.shape == (7, 24, 24) and path.psnr is None
    error = (operator(path.images) - operator(truth)).square().flatten(1).mean(1) / sigma**2
    assert path.risk is not None
    best, estimated = int(error.argmin()), int(path.risk.argmin())
    assert abs(best - estimated) <= 1
    # one probe and 576 data: the estimate scatters by some 0.1 noise variances
    assert float((path.risk - error).abs().median()) < 0.2


def test_a_path_without_weights_goes_around_the_scale_of_the_noise() -> None:
    A, x, sigma = linear_case()
    y = A @ x + sigma * random(40, dtype=torch.float64)
    path = recon.weight_path(
        Matrix(A), Ridge(), y, fidelity=("gaussian", {"noise_level": sigma}), reference=x
    )
    assert len(path.weights) == 17 and path.weights[0] / path.weights[-1] == pytest.approx(1e4, rel=1e-3)
    assert path.psnr is not None and 0 < int(path.psnr.argmax()) < 16


def test_a_path_says_what_is_wrong() -> None:
    operator, y = recon.Identity((4, 4)), random(4, 4)
    with pytest.raises(ValueError, match="at least one weight"):
        recon.weight_path(operator, L1(), y, weights=[])
    with pytest.raises(ValueError, match="every weight of a path must be a number >= 0"):
        recon.weight_path(operator, L1(), y, weights=[0.1, -1])
    with pytest.raises(ValueError, match="needs a prior"):
        recon.weight_path(operator, None, y, weights=[0.1])  # type: ignore[arg-type]
