"""The solver that fits a generator's weights: truth in closed form, batches, resume, breakdowns, and its rules."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_models import L1, Matrix, NonNegative, Ridge
from torch import Tensor, nn

import recon
from recon.problem import Problem
from recon.runner import Loop
from recon.solvers.generator_fit import check_memory, value_range

SHAPE = (6, 8)


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


class Free(nn.Module):
    """Every pixel is a weight."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.pixels = nn.Parameter(torch.zeros(channels, *SHAPE))

    def forward(self, z: Tensor) -> Tensor:
        return self.pixels + 0 * z


def free(channels: int = 1) -> recon.Generator:
    return recon.Generator(Free(channels), torch.ones(1, channels, *SHAPE))


def small_network(channels: int = 1) -> recon.Generator:
    """Convolutions with batch normalisation, which has running statistics that a fit must not use."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = [
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4, channels, 1),
        ]
        return recon.Generator(nn.Sequential(*layers), torch.rand(1, 2, *SHAPE))


A = Matrix(random(60, 48, seed=3) / 8, SHAPE, (60,))
Y = A(random(3, *SHAPE, seed=4)) * torch.tensor([1.0, 0.1, 30.0]).reshape(3, 1)


def after(iterations: int) -> Callable[[recon.Snapshot], bool]:
    return lambda snapshot: snapshot.iteration >= iterations


def relative(image: Tensor, truth: Tensor) -> float:
    return float((image - truth).norm() / truth.norm())


# Truth


@pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
def test_free_pixels_solve_least_squares(optimiser: str) -> None:
    truth = torch.linalg.lstsq(A.matrix.double(), Y.double().T).solution.T.reshape(3, *SHAPE)
    solver = recon.DIP(optimiser=optimiser, average=0.0, lr=0.05)  # type: ignore[arg-type]
    scaled = Y / Y.norm(dim=1, keepdim=True)  # free pixels have no range to be mapped to
    image = recon.solve(
        A, free(), scaled, solver=solver, stop=recon.MaxIterations(500 if optimiser == "adam" else 200)
    ).image
    truth = truth / Y.norm(dim=1).reshape(3, 1, 1)
    assert relative(image, truth) < 2e-3  # of first-order steps, condition 20


def test_priors_beside_it_enter_the_objective() -> None:
    y = random(*SHAPE, seed=5)
    eye = recon.Identity(SHAPE)
    options = {"solver": recon.DIP(average=0.0, lr=0.01), "stop": recon.MaxIterations(600)}
    ridge = recon.solve(eye, free() + Ridge(0.5), y, **options).image
    assert relative(ridge, y / 1.5) < 1e-3
    sparse = recon.solve(eye, free() + L1(0.5), y, **options).image
    truth = y.sign() * (y.abs() - 0.5).clamp_min(0)
    assert relative(sparse, truth) < 0.03  # pixels that shrink to zero keep oscillating around it
    positive = recon.solve(eye, free() + NonNegative(), y, **options).image
    assert float(positive.min()) >= 0
    assert relative(positive, y.clamp_min(0)) < 0.02  # clipped pixels drift, and the step is shared


def test_complex_images_have_two_channels() -> None:
    y = random(*SHAPE, dtype=torch.complex64, seed=6)
    options = {"solver": recon.DIP(average=0.0, lr=0.03), "stop": recon.MaxIterations(400)}
    image = recon.solve(recon.Identity(SHAPE), free(2), y, **options).image
    assert image.is_complex() and relative(image, y) < 1e-3


def test_counted_photons_have_their_own_data_term() -> None:
    y = random(*SHAPE, seed=7).abs()
    solver = recon.DIP(average=0.0, lr=0.05)
    image = recon.solve(
        recon.Identity(SHAPE),
        free(),
        y,
        fidelity="poisson:photons=100",
        solver=solver,
        stop=recon.MaxIterations(300),
    ).image
    assert relative(image, y) < 1e-2


# Range


def test_the_range_of_a_sigmoid_is_that_of_the_direct_reconstruction_and_a_tenth() -> None:
    y = torch.stack([torch.linspace(0, 2, 48).reshape(SHAPE), torch.linspace(-10, 10, 48).reshape(SHAPE)])
    low, high = value_range(Problem(recon.Identity(SHAPE), y))
    assert torch.allclose(low, torch.tensor([-0.2, -12.0], dtype=torch.float64))
    assert torch.allclose(high, torch.tensor([2.2, 12.0], dtype=torch.float64))
    low, high = value_range(Problem(recon.Identity(SHAPE), y, image_range=(0.0, 3.0)))
    assert (low.tolist(), high.tolist()) == ([0, 0], [3, 3])
    low, high = value_range(Problem(recon.Identity(SHAPE), torch.complex(y, 0 * y), image_range=(0.0, 3.0)))
    assert (low.tolist(), high.tolist()) == ([-3, -3], [3, 3])
    low, high = value_range(Problem(recon.Identity(SHAPE), torch.zeros(SHAPE)))
    assert float(low) < 0 < float(high), "blank data leave a range"


def test_a_network_with_a_sigmoid_reaches_values_in_any_unit() -> None:
    generator = small_network()
    generator.network.append(nn.Sigmoid())  # type: ignore[operator]
    generator.value_range = (0.0, 1.0)
    options = {"solver": recon.DIP(average=0.0), "stop": recon.MaxIterations(60)}
    y = random(*SHAPE, seed=8)
    image = recon.solve(recon.Identity(SHAPE), generator, y, **options).image
    in_thousands = recon.solve(recon.Identity(SHAPE), generator, 1000 * y, **options).image
    assert relative(in_thousands, 1000 * image) < 1e-3


# Batches


def test_an_item_of_a_batch_is_the_same_alone_and_run_one_by_one() -> None:
    generator, stop = small_network(), recon.MaxIterations(20)
    images = {
        together: recon.solve(
            A, generator, Y.double(), solver=recon.DIP(reg_noise=0.1, together=together), stop=stop
        ).image
        for together in (True, False)
    }
    assert relative(images[True], images[False]) < 1e-9
    for item in range(3):
        alone = recon.solve(A, generator, Y[item].double(), solver=recon.DIP(reg_noise=0.1), stop=stop).image
        assert relative(images[True][item], alone) < 1e-9


def test_the_generator_of_the_user_stays_as_it_was() -> None:
    generator = small_network()
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    first = recon.solve(A, generator, Y[0], stop=recon.MaxIterations(5)).image
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    again = recon.solve(A, generator, Y[0], stop=recon.MaxIterations(5)).image
    assert torch.equal(first, again), "and every solve starts from its weights"


def test_inputs_of_their_own_go_with_their_items() -> None:
    generator = small_network()
    generator.fixed_input = torch.rand(3, 2, *SHAPE, generator=torch.Generator().manual_seed(2))
    images = recon.solve(A, generator, Y, stop=recon.MaxIterations(3)).image
    single = small_network()
    single.fixed_input = generator.fixed_input[1:2]
    alone = recon.solve(A, single, Y[1], stop=recon.MaxIterations(3)).image
    assert relative(images[1], alone) < 1e-5
    with pytest.raises(ValueError, match="2 items, expected 1, or 3"):
        generator.fixed_input = generator.fixed_input[:2]
        recon.solve(A, generator, Y)


# Resume


@pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
def test_a_resumed_run_is_the_run_that_was_not_stopped(optimiser: str, tmp_path: Path) -> None:
    solver = recon.DIP(optimiser=optimiser, reg_noise=0.05, held_out=0.2)  # type: ignore[arg-type]
    stop = recon.MovingVariance(patience=12, burn_in=5) | recon.MaxIterations(140)
    generator = small_network()

    def solve(**more: object) -> recon.Solution:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", recon.ConvergenceWarning)
            return recon.solve(A, generator, Y, solver=solver, stop=stop, seed=3, **more)  # type: ignore[arg-type]

    whole = solve()
    for pause in (7, whole.iterations - 3):
        file = tmp_path / f"{pause}.run"
        solve(callback=after(pause), checkpoint=file)
        resumed = solve(checkpoint=file)
        assert torch.equal(resumed.image, whole.image)
        assert (resumed.reasons, resumed.iterations) == (whole.reasons, whole.iterations)
        assert str(resumed.history["loss"]) == str(whole.history["loss"])


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    generator, file = small_network(), tmp_path / "run"
    options = {"solver": recon.DIP(reg_noise=0.1), "stop": recon.MaxIterations(3)}
    first = recon.solve(A, generator, Y[0], seed=0, checkpoint=file, **options)
    assert not torch.equal(first.image, recon.solve(A, generator, Y[0], seed=1, **options).image)
    with pytest.raises(recon.checkpoint.CheckpointError, match="another problem"):
        recon.solve(A, generator, Y[0], seed=1, checkpoint=file, **options)


# Breakdowns


class Breaking(nn.Module):
    """Every pixel is a weight; an image too far from zero is NaN."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.pixels = nn.Parameter(torch.zeros(1, *SHAPE))
        self.limit = limit

    def forward(self, z: Tensor) -> Tensor:
        return torch.where(self.pixels.abs() < self.limit, self.pixels, torch.nan) + 0 * z


def test_a_breakdown_brings_the_weights_back_and_says_so() -> None:
    y = torch.full(SHAPE, 0.98)
    prior = recon.Generator(Breaking(1.0), torch.ones(1, 1, *SHAPE))
    with pytest.warns(RuntimeWarning, match="weights of the last good iteration are restored"):
        solution = recon.solve(
            recon.Identity(SHAPE),
            prior,
            y,
            solver=recon.DIP(average=0.0, lr=0.3),
            stop=recon.MaxIterations(600),
        )
    assert bool(torch.isfinite(solution.image).all()) and relative(solution.image, y) < 0.05


def test_what_keeps_breaking_down_ends_with_the_last_good_image() -> None:
    prior = recon.Generator(Breaking(0.01), torch.ones(1, 1, *SHAPE))
    with pytest.warns(RuntimeWarning), pytest.raises(recon.DivergenceError) as caught:
        recon.solve(recon.Identity(SHAPE), prior, torch.ones(SHAPE), solver=recon.DIP(lr=30.0))
    assert bool(torch.isfinite(caught.value.image).all())


# First image


def test_the_network_is_fitted_to_the_first_image() -> None:
    x0 = random(*SHAPE, seed=9)
    problem = Problem(A, Y[0], prior=free(), x0=x0)
    state = recon.DIP(lr=0.05).start(problem)
    assert relative(state.iterate[0], x0) < 0.02
    advised = free()
    advised.advice = {"lr": 0.05}
    small = Problem(A, Y[0], prior=advised, x0=x0)
    state = recon.DIP(lr=1e-9).start(small)
    assert relative(state.iterate[0], x0) < 0.02, (
        "a small rate is for the data: the image has the generator's"
    )
    cold = recon.DIP(lr=0.05, warm_start=0).start(problem)
    assert float(cold.iterate.abs().max()) == 0


@pytest.mark.parametrize("together", [True, False])
def test_a_blank_first_image_says_nothing_whatever_its_mates_say(together: bool) -> None:
    solver = recon.DIP(lr=0.05, warm_start=40, together=together)
    x0 = torch.stack([torch.zeros(SHAPE), random(*SHAPE, seed=9)])
    mixed = solver.start(Problem(A, Y[:2], prior=small_network(), x0=x0))
    blank = solver.start(Problem(A, Y[:2], prior=small_network(), x0=torch.zeros_like(x0)))
    for name in ("theta", "iterate", "average", "best", "kept"):
        found, alone = getattr(mixed, name), getattr(blank, name)
        torch.testing.assert_close(found[0], alone[0], msg=name)
        assert relative(found[1], alone[1]) > 0.1, name  # its mate was fitted


def test_its_text_is_its_arguments() -> None:
    solver = recon.DIP(lr=0.01)
    before = repr(solver)
    object.__setattr__(solver, "recon_origin", "dist/dip")  # the registry's mark
    assert repr(solver) == before
    assert repr(eval(before, {"DIP": recon.DIP})) == before


def test_a_fit_from_an_image_goes_on_although_its_first_steps_are_too_long() -> None:
    """Without a smaller learning rate after going back, a fit without noise would try the same step for ever."""
    x0 = random(*SHAPE, seed=9)
    y = A(x0) + 0.1 * random(60, seed=10)
    solver = recon.DIP(lr=0.05, average=0.0)
    solution = recon.solve(A, free(), y, x0=x0, solver=solver, stop=recon.MaxIterations(300))
    truth = torch.linalg.lstsq(A.matrix, y).solution.reshape(SHAPE)
    assert relative(solution.image, truth) < 0.2 * relative(x0, truth)


# Rules


def test_the_variance_has_its_minimum_where_noise_begins_to_be_fitted() -> None:
    """A closed-form stand-in: images that come to rest at iteration 40 and move again."""
    for rule in (
        recon.MovingVariance(patience=30, burn_in=10),
        recon.WindowedVariance(patience=30, window=10),
    ):
        with torch.no_grad():
            loop = Loop(
                Problem(recon.Identity(SHAPE), torch.zeros(SHAPE)),
                Resting(),
                rule | recon.MaxIterations(200),
                {},
            )
            while loop.running.numel():
                loop.advance()
        assert repr(rule) in loop.reasons[0]
        assert loop.converged == [True]
        found = float(loop.image.mean())
        assert abs(found - position(torch.tensor(40.0))) < 0.12, rule


def position(iteration: Tensor) -> Tensor:
    """Where the images of `Resting` stand."""
    return ((iteration - 40) / 40) ** 3


class Resting:
    """Constant images whose speed is zero at iteration 40."""

    def start(self, problem: Problem) -> recon.testing.closed_forms.Known:
        from recon.early_stopping import Memory

        none = torch.zeros(problem.items)
        return Memory(position(none).reshape(-1, 1, 1).expand(-1, *SHAPE), none, none)  # type: ignore[return-value]

    def step(self, problem: Problem, state: object) -> object:
        from recon.early_stopping import Memory

        found = state.found + 1  # type: ignore[attr-defined]
        return Memory(position(found).reshape(-1, 1, 1).expand(-1, *SHAPE), found, found)

    def image(self, state: object) -> Tensor:
        return state.best  # type: ignore[attr-defined, no-any-return]

    def default_stop(self) -> recon.StoppingRule:
        return recon.MaxIterations(10)


def test_windowed_variance_is_that_of_the_stored_images() -> None:
    rule = recon.WindowedVariance(patience=1000, window=20)
    images = random(55, 1, *SHAPE, dtype=torch.float64, seed=1)
    progress = recon.stopping.Progress(
        0, 0.0, torch.zeros(1), None, None, lambda: torch.zeros(1), image=images[0]
    )
    memory, scores = rule.begin(progress), {}
    for count, image in enumerate(images, 1):
        progress.image, progress.iteration = image, count
        memory = rule.watch(memory, progress)
        if count % 2 == 0 and count >= 20:
            scores[count] = float(rule._variance(memory.means, memory.scatter))
    assert len(scores) == 18
    for count, score in scores.items():
        stored = images[count - 20 : count]
        assert score == pytest.approx(float((stored - stored.mean(0)).square().mean()), rel=1e-12)


def test_a_tolerance_keeps_the_latest_image_whose_variance_is_near_the_least() -> None:
    """Jumps of 1, 0.1 and 0.104 in turn, then of 2: variance by the formula, image by its definition."""
    jumps = [1.0] * 8 + [0.1] * 6 + [0.104] * 6 + [2.0] * 6
    images = torch.tensor(jumps, dtype=torch.float64).cumsum(0).reshape(-1, 1, 1, 1)
    kept = {}
    for tolerance in (0.0, 0.15):
        rule = recon.MovingVariance(patience=4, forgetting=0.9, burn_in=0, tolerance=tolerance)
        progress = recon.stopping.Progress(
            0, 0.0, torch.zeros(1), None, None, lambda: torch.zeros(1), image=0 * images[0]
        )
        memory = rule.begin(progress)
        for count, image in enumerate(images, 1):
            progress.image, progress.iteration = image, count
            memory = rule.watch(memory, progress)
        progress.memories = {rule: memory}
        assert bool(rule.fires(progress))
        kept[tolerance] = int(memory.found)
        assert float(memory.best) == float(images[kept[tolerance] - 1])
    assert kept == {0.0: 14, 0.15: 20}


def test_a_variance_counts_only_near_the_noise() -> None:
    """Small steps far from the data, larger ones near them: the first are no sign of a clean image."""
    jumps = [0.1] * 10 + [1.0] * 5 + [0.2] * 5 + [2.0] * 5
    images = torch.tensor(jumps, dtype=torch.float64).cumsum(0).reshape(-1, 1, 1, 1)
    kept, asked = {}, []
    for tau in (None, 1.2):
        rule = recon.MovingVariance(patience=5, forgetting=0.9, burn_in=0, tau=tau)
        still = torch.zeros(1)
        memory = rule.begin(recon.stopping.Progress(0, 0.0, still, None, None, torch.empty, 0 * images[0]))
        for count, image in enumerate(images, 1):
            residual = torch.tensor([3.0 if count < 12 else 1.1], dtype=torch.float64)

            def measured(value: Tensor = residual) -> Tensor:
                asked.append(value)
                return value

            progress = recon.stopping.Progress(count, 0.0, still, None, None, measured, image)
            memory = rule.watch(memory, progress)
        kept[tau] = float(memory.best)
        assert bool(rule.fires(dataclasses.replace(progress, memories={rule: memory})))
    assert kept[None] < 1.0 < 5.0 < kept[1.2] <= float(images[19])
    assert len(asked) == 12, "not once the data are fitted: each costs a forward operator"


def test_the_default_rule_asks_for_the_noise_where_it_is_known() -> None:
    y = random(*SHAPE, seed=2)
    rule = repr(recon.DIP().stop_for(Problem(recon.Identity(SHAPE), y, prior=small_network())))
    assert "tau=" in rule
    few = Matrix(random(4, 48, seed=3), SHAPE, (4,))
    with pytest.raises(ValueError, match="cannot be estimated"):
        _ = Problem(few, few(y)).noise_level
    assert "tau" not in repr(recon.DIP().stop_for(Problem(few, few(y), prior=small_network())))
    given = Problem(few, few(y), prior=small_network(), fidelity=("gaussian", {"noise_level": 0.1}))
    assert "tau=" in repr(recon.DIP().stop_for(given))


def test_a_limit_returns_the_best_image_so_far() -> None:
    y = random(*SHAPE, seed=2)
    generator = small_network()
    stop = recon.HeldOut(patience=500) | recon.MaxIterations(80)
    with pytest.warns(recon.ConvergenceWarning):
        solution = recon.solve(recon.Identity(SHAPE), generator, y, solver=recon.DIP(held_out=0.3), stop=stop)
    assert "MaxIterations(80), image of iteration" in solution.reason
    chosen = int(solution.reason.rpartition(" ")[2])
    errors = solution.history["validation"]
    at = solution.history["iteration"]
    assert chosen == min(range(0, 81), key=lambda k: abs(k - chosen))
    assert min(errors) >= min(errors) and chosen <= at[-1]
    again = recon.solve(
        recon.Identity(SHAPE), generator, y, solver=recon.DIP(held_out=0.3), stop=recon.MaxIterations(chosen)
    )
    assert torch.equal(again.image, solution.image)


def test_held_out_samples_are_not_fitted() -> None:
    y = random(*SHAPE, seed=3)
    options = {"solver": recon.DIP(held_out=0.5, average=0.0, lr=0.05), "stop": recon.MaxIterations(400)}
    image = recon.solve(recon.Identity(SHAPE), free(), y, **options).image
    fitted = (image - y).abs() < 1e-2
    assert 15 < int(fitted.sum()) < 33
    assert float(image[~fitted].abs().max()) == 0  # free pixels without data stay where they began


def test_rules_combine() -> None:
    y = random(*SHAPE, seed=2)
    variance = recon.MovingVariance(patience=5, burn_in=2)
    solution = recon.solve(
        recon.Identity(SHAPE),
        small_network(),
        y,
        stop=(variance & recon.MaxIterations(30)) | recon.MaxIterations(60),
    )
    assert "&" in solution.reason and "image of iteration" in solution.reason
    assert solution.converged and solution.iterations >= 30


def test_the_history_has_what_seed_charts_need() -> None:
    y = random(*SHAPE, seed=2)
    solution = recon.solve(
        recon.Identity(SHAPE), small_network(), y, reference=y, stop=recon.MaxIterations(10)
    )
    mse = float((solution.image - y).square().mean())
    assert solution.history["mse"][-1] == pytest.approx(mse, rel=1e-4)
    peak = float(y.abs().max())
    psnr = 10 * torch.log10(torch.tensor(peak**2 / mse))
    assert solution.history["psnr_data"][-1] == pytest.approx(float(psnr), abs=1e-3)
    assert solution.history["psnr"][-1] == pytest.approx(float(psnr), abs=1e-3)  # the data are the reference


# Refusals


def test_wrong_input_is_refused_in_words() -> None:
    y = Y[0]
    with pytest.raises(ValueError, match="fits one generator as prior, got 0"):
        recon.solve(A, Ridge(1.0), y, solver=recon.DIP())
    with pytest.raises(ValueError, match="got 2"):
        recon.solve(A, free() + free(), y)
    with pytest.raises(ValueError, match=r"makes images \(2, 6, 8\)"):
        recon.solve(A, free(2), y)
    with pytest.raises(ValueError, match="no parameter of its network requires"):
        recon.solve(A, recon.Generator(nn.Identity(), torch.zeros(1, *SHAPE)), y)
    with pytest.raises(ValueError, match="held_out=0.05"):
        recon.solve(A, free(), y, stop=recon.HeldOut())
    with pytest.raises(ValueError, match="a constraint or a generator, which has none"):
        recon.solve(A, free(), y, weight=0.1)
    for wrong in ({"lr": 0}, {"average": 1.0}, {"output": "mean"}, {"held_out": 1}, {"optimiser": "sgd"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            recon.DIP(**wrong)  # type: ignore[arg-type]
    for rule, wrong in (
        (recon.MovingVariance, {"forgetting": 1.0}),
        (recon.MovingVariance, {"patience": 0}),
        (recon.MovingVariance, {"tolerance": -0.1}),
        (recon.MovingVariance, {"tau": 0}),
        (recon.WindowedVariance, {"window": 15}),
        (recon.HeldOut, {"patience": 1.5}),
    ):
        with pytest.raises(ValueError, match=next(iter(wrong)).split("g")[0]):
            rule(**wrong)  # type: ignore[arg-type]


def test_a_fit_that_memory_cannot_hold_says_which_size_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))
    # what the first convolution takes, and what ReLU gives: it and the second convolution share that
    kept = (2 + 8) * 100 * 80 * 4
    inputs = torch.zeros(1, 2, 100, 80)
    monkeypatch.setattr(
        "recon.solvers.generator_fit.memory_there", lambda device: int(2.1 * kept)
    )  # weights are kept, too
    check_memory(network, inputs, 1, (100, 80))
    with pytest.raises(MemoryError, match=r"images of about 5\d x 4\d fit, or 1 of them at once"):
        check_memory(network, inputs, 3, (100, 80))


def test_an_automatic_weight_is_a_share_of_that_without_a_generator() -> None:
    y = random(*SHAPE, seed=5).cumsum(1)
    noisy = ("gaussian", {"noise_level": 0.5})
    eye, stop = recon.Identity(SHAPE), recon.MaxIterations(5)
    alone = recon.solve(eye, Ridge("auto"), y, fidelity=noisy, solver=recon.ADMM())
    beside = recon.solve(eye, free() + Ridge("auto"), y, fidelity=noisy, stop=stop)
    assert beside.weight == pytest.approx(0.4 * alone.weight, rel=0.1)
