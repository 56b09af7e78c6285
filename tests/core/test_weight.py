"""The automatic weight against an exhaustive search, and what it must not depend on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import L1, TV, MaskedFourier, Matrix, NonNegative, Ridge, Smoother
from torch import Tensor

import recon
from recon.runner import run
from recon.weight import CEILING, FLOOR, choose_weight

PHOTOGRAPH = Path(__file__).parents[2] / "plugins/recon_data/samples/img_camera.png"


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def photograph(top: int = 90, left: int = 220, size: int = 48) -> Tensor:
    """The head of the camera man, in [0, 1]."""
    with Image.open(PHOTOGRAPH) as picture:
        pixels = np.asarray(picture.convert("L"), dtype=np.float32) / 255
    return torch.from_numpy(pixels[top : top + size, left : left + size].copy())


def phantom(size: int = 24) -> Tensor:
    """Ellipses, as in a slice of a body."""
    axis = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    image = ((x / 0.8) ** 2 + (y / 0.9) ** 2 < 1).float()
    image -= 0.6 * (((x - 0.3) / 0.25) ** 2 + (y / 0.4) ** 2 < 1).float()
    image += 0.5 * (((x + 0.35) / 0.2) ** 2 + ((y - 0.2) / 0.3) ** 2 < 1).float()
    return image


def projections(size: int = 24, views: int = 16) -> Matrix:
    """A small scanner: every pixel's value goes to the two detectors next to its shadow."""
    detectors = 2 * math.ceil(0.75 * size)
    axis = torch.arange(size) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    matrix = torch.zeros(views, detectors, size * size)
    for view in range(views):
        angle = math.pi * view / views
        place = (x * math.cos(angle) + y * math.sin(angle)).flatten() + (detectors - 1) / 2
        left = place.floor().long()
        pixels = torch.arange(size * size)
        matrix[view, left, pixels] += 1 - (place - left)
        matrix[view, left + 1, pixels] += place - left
    return Matrix(matrix.reshape(-1, size * size), (size, size), (views, detectors))


def random_lines(size: int = 32) -> MaskedFourier:
    """A third of the lines of k-space, the low frequencies among them."""
    keep = torch.rand(size, generator=torch.Generator().manual_seed(0)) < 0.3
    keep[:4] = keep[-3:] = True
    return MaskedFourier(keep.float()[:, None].expand(size, size).clone())


def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """Of each item."""
    error = (image - truth).abs().square().flatten(1).mean(1)
    return 10 * torch.log10(truth.abs().max() ** 2 / error)


def case(name: str, level: float) -> tuple[recon.LinearOperator, Tensor, Tensor, float, recon.Prior]:
    """Operator, true image, noisy data, noise level and prior."""
    if name == "photograph":
        operator, truth = recon.Identity((48, 48)), photograph()
        return operator, truth, truth + level * random(48, 48), level, TV()
    if name == "projections":
        operator, truth = projections(), phantom()
        clean = operator(truth)
        sigma = level * float(clean.max())
        return operator, truth, clean + sigma * random(*clean.shape), sigma, TV()
    truth = phantom(32) * torch.exp(1j * torch.linspace(0, 1, 32))
    operator = random_lines()
    noise = level * torch.view_as_complex(random(32, 32, 2))
    return operator, truth, operator.measure(truth) + operator.mask * noise, level, TV(periodic=True)


CASES = [
    ("photograph", 0.02),
    ("photograph", 0.1),
    ("photograph", 0.3),
    ("projections", 0.005),
    ("projections", 0.03),
    ("fourier", 0.02),
    ("fourier", 0.1),
]


@pytest.mark.parametrize(("name", "level"), CASES)
def test_the_weight_is_within_half_a_decibel_of_the_best(name: str, level: float) -> None:
    """The best of weights in steps of 20 %, all solved at once."""
    operator, truth, y, sigma, prior = case(name, level)
    fidelity = ("gaussian", {"noise_level": sigma})
    solution = recon.solve(operator, prior, y, fidelity=fidelity)
    found = float(psnr(solution.image[None], truth)[0])
    weights = solution.weight * 1.2 ** torch.arange(-14.0, 15.0)  # type: ignore[operator]
    problem = recon.Problem(operator, y.expand(len(weights), *y.shape), prior=prior, fidelity=fidelity)
    problem.strength = weights
    outcome = run(problem, recon.ADMM(), stop=recon.SmallResiduals(1e-3) | recon.MaxIterations(300))
    scores = psnr(outcome.image, truth)
    assert 0 < int(scores.argmax()) < len(weights) - 1, "the best weight lies inside the search"
    assert found >= float(scores.max()) - 0.5, (found, float(scores.max()), int(scores.argmax()) - 14)


def test_uneven_noise_is_weighed() -> None:
    """Rays of a twentieth to twice the mean noise: weights find what the noise level alone cannot."""
    operator, truth = projections(), phantom()
    clean = operator(truth)
    spread = 0.03 * float(clean.max()) * torch.logspace(-1.3, 0.3, 16)[:, None].expand(clean.shape)
    y = clean + spread * random(*clean.shape)
    known = {"weights": spread.mean() ** 2 / spread**2, "noise_level": float(spread.mean())}
    solution = recon.solve(operator, TV(), y, fidelity=("gaussian", known))
    scores = [
        float(
            psnr(recon.solve(operator, TV(), y, weight=w, fidelity=("gaussian", known)).image[None], truth)[0]
        )
        for w in (solution.weight * 1.5 ** torch.arange(-4.0, 5.0)).tolist()  # type: ignore[operator]
    ]
    found = float(psnr(solution.image[None], truth)[0])
    assert found >= max(scores) - 0.5, (found, scores)
    mean = float(spread.square().mean().sqrt())
    even = recon.solve(operator, TV(), y, fidelity=("gaussian", {"noise_level": mean}))
    assert found > float(psnr(even.image[None], truth)[0]) + 3


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_the_scale_of_the_weights_is_that_of_the_noise_level(factor: float) -> None:
    """Weights c w with the noise level sigma sqrt(c) say the same; c = 1 / sigma^2 makes the noise level 1."""
    operator, _, y, sigma, prior = case("projections", 0.03)
    weights = torch.linspace(0.5, 2, y.numel()).reshape(y.shape)
    weights[3] = 0
    fidelities = [{"weights": c * weights, "noise_level": sigma * c**0.5} for c in (1.0, factor)]
    one, other = (recon.solve(operator, prior, y, fidelity=("gaussian", said)) for said in fidelities)
    assert other.weight == pytest.approx(factor * one.weight, rel=1e-2)  # type: ignore[operator]
    assert float((one.image - other.image).norm() / one.image.norm()) < 1e-2  # the tolerance of both


def test_the_noise_level_may_be_left_to_an_estimate() -> None:
    for level in (0.1, 0.2):
        operator, truth, y, sigma, prior = case("photograph", level)
        given = recon.solve(operator, prior, y, fidelity=("gaussian", {"noise_level": sigma}))
        estimated = recon.solve(operator, prior, y)
        scores = [float(psnr(solution.image[None], truth)[0]) for solution in (given, estimated)]
        assert scores[1] >= scores[0] - 0.5, scores


def test_an_item_does_not_depend_on_its_mates() -> None:
    """Neither its weight nor its image; they are done at different times."""
    operator = recon.Identity((24, 24))
    truth = photograph(size=24)
    levels = torch.tensor([0.02, 0.3, 0.1])
    y = truth + levels.reshape(3, 1, 1) * random(3, 24, 24)
    y[2] = 10 * y[2]
    fidelity: Any = ("gaussian", {"noise_level": [0.02, 0.3, 1.0]})
    together = recon.solve(operator, TV(), y, fidelity=fidelity)
    lengths = set()
    for item in range(3):
        alone = recon.solve(
            operator, TV(), y[item], fidelity=("gaussian", {"noise_level": fidelity[1]["noise_level"][item]})
        )
        assert together.weight[item] == pytest.approx(alone.weight, rel=1e-4)  # type: ignore[index]
        scale = float(alone.image.abs().max())
        torch.testing.assert_close(together.image[item], alone.image, rtol=0, atol=1e-4 * scale)
        lengths.add(len(alone.weight_search))
    assert len(lengths) > 1, "the test needs searches of different length"


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_units_do_not_matter(scale: float) -> None:
    operator, _, y, sigma, prior = case("projections", 0.03)
    plain = recon.solve(operator, prior, y, fidelity=("gaussian", {"noise_level": sigma}))
    scaled = recon.solve(operator, prior, scale * y, fidelity=("gaussian", {"noise_level": scale * sigma}))
    assert scaled.weight == pytest.approx(scale * plain.weight, rel=1e-3)  # type: ignore[operator]
    torch.testing.assert_close(scaled.image / scale, plain.image, rtol=0, atol=2e-3)


def test_the_perturbation_matters_little() -> None:
    operator, truth, y, sigma, prior = case("projections", 0.03)
    scores = [
        float(
            psnr(
                recon.solve(
                    operator, prior, y, fidelity=("gaussian", {"noise_level": sigma}), seed=seed
                ).image[None],
                truth,
            )[0]
        )
        for seed in range(4)
    ]
    assert max(scores) - min(scores) < 0.3


def test_weighted_data() -> None:
    """Half of the samples ten times as noisy, and said so."""
    operator, truth, _, _, prior = case("photograph", 0.1)
    deviation = torch.where(torch.arange(48) % 2 == 0, 0.05, 0.5)
    y = truth + deviation * random(48, 48)
    fidelity = {"noise_level": 0.05, "weights": (0.05 / deviation) ** 2}
    solution = recon.solve(operator, prior, y, fidelity=("gaussian", fidelity))
    weights = solution.weight * 1.3 ** torch.arange(-8.0, 9.0)  # type: ignore[operator]
    problem = recon.Problem(operator, y.expand(17, 48, 48), prior=prior, fidelity=("gaussian", fidelity))
    problem.strength = weights
    outcome = run(problem, recon.ADMM(), stop=recon.SmallResiduals(1e-3) | recon.MaxIterations(300))
    best = float(psnr(outcome.image, truth).max())
    assert float(psnr(solution.image[None], truth)[0]) >= best - 0.5


@pytest.mark.parametrize("noise_level", [None, 0.0])
@pytest.mark.parametrize("name", ["photograph", "projections", "fourier"])
def test_data_without_noise_are_fitted(name: str, noise_level: float | None) -> None:
    operator, truth, _, _, prior = case(name, 0.0)
    fidelity = "gaussian" if noise_level is None else ("gaussian", {"noise_level": noise_level})
    y = operator(truth)
    solution = recon.solve(operator, prior, y, fidelity=fidelity, stop=recon.MaxIterations(60))
    assert bool(torch.isfinite(solution.image.abs()).all())
    assert math.isfinite(solution.weight) and solution.weight > 0  # type: ignore[arg-type,operator]
    if noise_level is not None:
        assert float((operator(solution.image) - y).norm() / y.norm()) < 0.03


def test_blank_items_stay_blank_and_spoil_nothing() -> None:
    """A volume's empty slices."""
    operator, truth, y, sigma, prior = case("projections", 0.03)
    batch = torch.stack([torch.zeros_like(y), y])
    for fidelity in ("gaussian", ("gaussian", {"noise_level": sigma}), ("gaussian", {"noise_level": 0.0})):
        solution = recon.solve(operator, prior, batch, fidelity=fidelity, stop=recon.MaxIterations(40))
        assert torch.equal(solution.image[0], torch.zeros_like(truth))
        assert bool(torch.isfinite(solution.image).all())
        assert all(math.isfinite(weight) and weight > 0 for weight in solution.weight)  # type: ignore[union-attr]
    blank = recon.solve(operator, prior, torch.zeros_like(y), stop=recon.MaxIterations(3))
    assert torch.equal(blank.image, torch.zeros_like(truth))


def test_constraints_and_several_automatic_priors_share_one_weight() -> None:
    operator, truth, y, sigma, _ = case("projections", 0.03)
    fidelity = ("gaussian", {"noise_level": sigma})
    alone = recon.solve(operator, TV() + NonNegative(), y, fidelity=fidelity)
    both = recon.solve(operator, TV() + L1() + NonNegative(), y, fidelity=fidelity)
    for solution in (alone, both):
        assert isinstance(solution.weight, float) and float(solution.image.min()) >= 0
        assert float(psnr(solution.image[None], truth)[0]) > 20
    problem = both.problem
    assert problem is not None
    gradient = float(TV(both.weight)(both.image[None])[0])
    sparse = both.weight * float(both.image.abs().sum())
    misfit = float(problem.item_fidelity.value(operator(both.image[None]), problem.y)[0])
    assert both.history["objective"][-1] == pytest.approx(misfit + gradient + sparse, rel=1e-3)


def test_a_fixed_prior_beside_an_automatic_one_keeps_its_weight() -> None:
    operator, _, y, sigma, _ = case("projections", 0.03)
    solution = recon.solve(operator, TV() + L1(0.5), y, fidelity=("gaussian", {"noise_level": sigma}))
    assert solution.problem is not None
    found = [
        term.weight(solution.problem.strength, solution.image[None]).item() for term in solution.problem.terms
    ]
    assert found == [pytest.approx(solution.weight), 0.5]


def test_quadratic_priors_have_automatic_weights_too() -> None:
    """Without a bias to speak of, what is left over is the noise: the residual meets its target."""
    truth = photograph()
    y = truth + 0.1 * random(48, 48)
    fidelity = ("gaussian", {"noise_level": 0.1})
    solution = recon.solve(
        recon.Identity((48, 48)), Ridge(gradient=True), y, solver=recon.CG(), fidelity=fidelity
    )
    last = solution.weight_search[-1]
    assert last["residual"][0] == pytest.approx(last["target"][0], rel=0.05)
    assert float(psnr(solution.image[None], truth)[0]) > float(psnr(y[None], truth)[0])


def test_the_automatic_weight_of_a_denoiser_is_the_noise_variance() -> None:
    """Of each item, and without a search: in units of 1/2 |A x - y|^2, -log p(x) weighs sigma^2."""
    y = torch.stack([photograph(), 2 * photograph()]) + 0.1 * random(2, 48, 48)
    fidelity = ("gaussian", {"noise_level": [0.1, 0.2]})
    solution = recon.solve(recon.Identity((48, 48)), Smoother("auto"), y, fidelity=fidelity)
    assert solution.weight == pytest.approx([0.01, 0.04]) and solution.weight_search == []


def test_the_search_is_recorded_and_its_state_goes_on() -> None:
    operator, _, y, sigma, prior = case("projections", 0.03)
    batch = torch.stack([y, 2 * y])
    fidelity = ("gaussian", {"noise_level": [sigma, 2 * sigma]})
    problem = recon.Problem(operator, batch, prior=prior, fidelity=fidelity)
    algorithm = recon.ADMM()
    choice = choose_weight(problem, algorithm)
    assert choice.strength.shape == (2,) and not choice.ended
    assert all(set(row) == {"weight", "residual", "target"} for row in choice.rounds)
    assert all(len(values) == 2 for row in choice.rounds for values in row.values())
    assert choice.rounds[-1]["weight"] == pytest.approx(choice.strength.tolist())
    assert algorithm.image(choice.state).shape == (2, 24, 24)
    solution = recon.solve(problem, prior)
    assert (
        solution.weight == pytest.approx(choice.strength.tolist()) and solution.weight_search == choice.rounds
    )


@pytest.mark.parametrize("solver", [recon.CG(), recon.ADMM()], ids=repr)
def test_the_image_belongs_to_the_weight_that_was_chosen(solver: Any) -> None:
    """Conjugate gradients that had gone on with the residual of another weight would end elsewhere."""
    matrix, y = random(40, 12, dtype=torch.float64), random(2, 40, dtype=torch.float64, seed=1)
    fidelity = ("gaussian", {"noise_level": [0.9, 0.8]})
    stop = recon.SmallResiduals(1e-7) | recon.MaxIterations(2000)
    solution = recon.solve(Matrix(matrix), Ridge(), y, solver=solver, fidelity=fidelity, stop=stop)
    for item in range(2):
        normal = matrix.T @ matrix + solution.weight[item] * torch.eye(12, dtype=torch.float64)  # type: ignore[index]
        torch.testing.assert_close(
            solution.image[item], torch.linalg.solve(normal, matrix.T @ y[item]), rtol=1e-4, atol=1e-5
        )


def test_a_time_limit_ends_the_search_too(monkeypatch: pytest.MonkeyPatch) -> None:
    operator, _, y, sigma, prior = case("projections", 0.03)
    ticks = iter(range(10**6))
    monkeypatch.setattr("time.perf_counter", lambda: 0.1 * next(ticks))  # every look at the clock takes 0.1 s
    stop = recon.SmallResiduals(1e-9) | recon.TimeLimit("2s")
    seen: list[recon.Snapshot] = []
    with pytest.warns(recon.ConvergenceWarning, match=r"TimeLimit\('2s'\) came before"):
        solution = recon.solve(
            operator, prior, y, stop=stop, callback=seen.append, fidelity=("gaussian", {"noise_level": sigma})
        )
    assert solution.reason == "TimeLimit('2s')" and solution.iterations == 0 and not solution.converged
    assert 2 <= solution.seconds < 3, "the search ended at once"
    assert 3 < len(seen) < 24 and bool(solution.image.isfinite().all())
    torch.testing.assert_close(solution.image, seen[-1].image[0], rtol=1e-5, atol=1e-6)  # what there was


def test_the_callback_sees_and_ends_the_search() -> None:
    operator, _, y, sigma, prior = case("projections", 0.03)
    fidelity = ("gaussian", {"noise_level": [sigma, 2 * sigma]})
    seen: list[recon.Snapshot] = []

    def look(snapshot: recon.Snapshot) -> bool:
        seen.append(snapshot)
        return len(seen) == 30

    solution = recon.solve(operator, prior, torch.stack([y, 2 * y]), callback=look, fidelity=fidelity)
    assert solution.reasons == ["stopped by the callback"] * 2 and len(seen) == 30
    assert {snapshot.iteration for snapshot in seen} == {0}
    assert seen[-1].items.tolist() == [0, 1] and seen[-1].image.shape == (2, 24, 24)
    assert len(solution.weight_search) == 1, "one look at 24"


def test_divergence_in_the_search_is_said() -> None:
    class Wrong(Matrix):
        def _adjoint(self, y: Tensor) -> Tensor:
            return -1e20 * super()._adjoint(y)

    A = projections()
    operator = Wrong(A.matrix, A.domain_shape, A.range_shape)
    with pytest.raises(recon.DivergenceError, match="diverged"):
        recon.solve(operator, TV(), A(phantom()), fidelity=("gaussian", {"noise_level": 0.1}))


def test_data_that_no_weight_explains_are_told_about_and_the_search_ends():
    """A model error of ten times the noise level: the weight stops at its floor."""
    A = Matrix(random(60, 20, seed=1))
    y = A(random(20)) + 1.0 * random(60, seed=2)
    term = ("gaussian", {"noise_level": 0.1})
    with pytest.warns(UserWarning, match="no value that fits the data to within their noise"):
        solution = recon.solve(A, TV(), y, fidelity=term)
    first = solution.weight_search[0]["weight"][0]
    assert solution.weight >= 0.99 * FLOOR * first
    with pytest.warns(UserWarning, match="of 1 of 2 items"):
        recon.solve(A, TV(), torch.stack([y, A(random(20)) + 0.1 * random(60, seed=3)]), fidelity=term)


def test_a_noise_level_above_the_data_is_told_about_and_spares_the_mates():
    """One item holds almost nothing at the stated level: its weight stops at the ceiling."""
    operator, _, y, sigma, prior = case("projections", 0.03)
    term = ("gaussian", {"noise_level": sigma})
    alone = recon.solve(operator, prior, y, fidelity=term)
    with pytest.warns(UserWarning, match="of 1 of 2 items rose as far as it goes"):
        both = recon.solve(operator, prior, torch.stack([y, 0.001 * y]), fidelity=term)
    assert bool(torch.isfinite(both.image).all())
    assert both.weight[0] == pytest.approx(alone.weight, rel=0.02)
    assert both.weight[1] <= 1.01 * CEILING * both.weight_search[0]["weight"][1]


@pytest.mark.filterwarnings("ignore:not converged")
def test_a_search_that_used_up_its_looks_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a first guess thirty times too large, two looks cannot get there."""
    operator, _, y, sigma, prior = case("projections", 0.03)
    term = ("gaussian", {"noise_level": sigma})
    settled = recon.solve(operator, prior, y, fidelity=term)
    assert "used up" not in settled.explain()
    guess = recon.weight.first_guess
    monkeypatch.setattr("recon.weight.first_guess", lambda *given: 30 * guess(*given))
    monkeypatch.setattr("recon.weight.ROUNDS", 2)
    monkeypatch.setattr("recon.explanation.ROUNDS", 2)
    early = recon.solve(operator, prior, y, fidelity=term)
    assert len(early.weight_search) == 2 and early.weight_search[1]["weight"][0] > 1.5 * settled.weight
    said = " ".join(early.explain().split())
    assert "The 2 looks were used up before the search had settled: the weight is a guess." in said
    both = recon.solve(operator, prior, torch.stack([y, 0.9 * y]), fidelity=term)
    assert "the weight of 2 of 2 images is a guess" in " ".join(both.explain().split())


def test_samples_of_weight_zero_may_hold_anything():
    operator, _, y, _, prior = case("projections", 0.03)
    weights = torch.ones_like(y)
    weights[..., 3::9] = 0
    spoilt = y.where(weights > 0, 50.0)
    term = ("gaussian", {"weights": weights})
    for data in (y, spoilt):
        problem = recon.Problem(operator, data, fidelity=term)
        # an estimate from a few hundred samples, a ninth of them interpolated
        assert float(problem.noise_level[0]) == pytest.approx(
            float(recon.Problem(operator, y).noise_level[0]), rel=0.3
        )
    clean, dirty = (recon.solve(operator, prior, data, fidelity=term).image for data in (y, spoilt))
    assert torch.allclose(clean, dirty, atol=1e-4 * float(clean.abs().max()))


def test_a_fixed_penalty_does_not_lead_the_search_astray():
    operator, _, y, sigma, prior = case("projections", 0.03)
    term = ("gaussian", {"noise_level": sigma})
    free = recon.solve(operator, prior, y, fidelity=term)
    for rho in (0.05, 0.5, 5.0):
        fixed = recon.solve(
            operator, prior, y, fidelity=term, solver=recon.ADMM(rho=rho), stop=recon.MaxIterations(5)
        )
        assert fixed.weight == pytest.approx(free.weight)
