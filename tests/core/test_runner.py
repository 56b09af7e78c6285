"""The one loop around every algorithm: items stop for themselves, history, observers, interruption, divergence."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from typing import Any

import pytest
import torch
from small_models import L1, TV, Matrix, NonNegative, Ridge, Smoother
from torch import Tensor

import recon
from recon.runner import run

SHAPE = (3, 4)


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


A = Matrix(random(20, 12), SHAPE)
Y = random(4, 20, seed=1) * torch.tensor([0.5, 1.0, 3.0, 2.0], dtype=torch.float64).reshape(4, 1)


@dataclasses.dataclass
class State:
    """One image an item."""

    x: Tensor


class Scripted:
    """An algorithm that multiplies its image by a factor, and does something at some iteration."""

    def __init__(self, factor: float = 1.0, at: int = 0, then: Any = None) -> None:
        self.factor, self.at, self.then, self.steps = factor, at, then, 0

    def start(self, problem: recon.Problem) -> State:
        return State(torch.ones_like(problem.start))

    def step(self, problem: recon.Problem, state: State) -> State:
        self.steps += 1
        x = state.x * self.factor
        return State(self.then(x) if self.steps == self.at else x)

    def image(self, state: State) -> Tensor:
        return state.x

    def default_stop(self) -> recon.StoppingRule:
        return recon.MaxIterations(5)

    def __repr__(self) -> str:
        return "Scripted()"


def nan_in_item_1(x: Tensor) -> Tensor:
    x = x.clone()
    x[1, 0, 0] = math.nan
    return x


# Items


@pytest.mark.parametrize(
    "prior", [TV(0.3), L1(0.3) + NonNegative(), Ridge(0.3), Smoother(0.3)], ids=lambda p: type(p).__name__
)
def test_an_item_of_a_batch_is_solved_as_if_alone(prior: recon.Prior) -> None:
    """The same iterations, the same image to rounding, whatever its mates need."""
    stop = recon.SmallResiduals(1e-3) | recon.MaxIterations(100)
    together = recon.solve(A, prior, Y, stop=stop)
    lengths = set()
    for item in range(4):
        alone = recon.solve(A, prior, Y[item], stop=stop)
        torch.testing.assert_close(together.image[item], alone.image, rtol=1e-9, atol=1e-11)
        assert together.reasons[item] == alone.reason
        lengths.add(alone.iterations)
        column = [row[item] for row in together.history["objective"]]
        assert column[-1] == pytest.approx(alone.history["objective"][-1], rel=1e-9)
    assert together.iterations == max(lengths)
    if not isinstance(prior, Ridge):
        assert len(lengths) > 1, "the test needs items that stop at different times"


def test_items_that_have_stopped_cost_nothing_more() -> None:
    sizes = []

    class Counting(Matrix):
        def _forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            return super()._forward(x)

    solution = recon.solve(
        Counting(A.matrix, SHAPE), TV(0.3), Y, stop=recon.SmallResiduals(1e-4) | recon.MaxIterations(2000)
    )
    assert solution.converged
    assert sizes[0] == 4 and sizes[-1] < 4 and sorted(sizes, reverse=True) == sizes


def test_a_batch_of_two_axes_keeps_its_shape() -> None:
    solution = recon.solve(A, TV(0.3), Y.reshape(2, 2, 20))
    assert solution.image.shape == (2, 2, *SHAPE)
    flat = recon.solve(A, TV(0.3), Y)
    assert torch.equal(solution.image.reshape(4, *SHAPE), flat.image)
    assert len(solution.reasons) == 4 and len(solution.history["objective"][0]) == 4


def test_constraints_hold_exactly_in_the_image_given_back() -> None:
    for iterations in (1, 2, 7):
        solution = recon.solve(A, TV(0.3) + NonNegative(), Y, stop=recon.MaxIterations(iterations))
        assert float(solution.image.min()) >= 0


# Ends


def test_only_a_limit_asked_for_is_no_failure() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = recon.solve(A, TV(0.3), Y, stop=recon.MaxIterations(3))
    assert not solution.converged and solution.reason == "MaxIterations(3)" and solution.iterations == 3
    assert "not converged: MaxIterations(3) after 3 iterations" in repr(solution)


def test_not_converged_is_said_and_warned_once() -> None:
    with pytest.warns(recon.ConvergenceWarning) as seen:
        solution = recon.solve(A, TV(0.3), Y[1:], stop=recon.SmallResiduals(1e-9) | recon.MaxIterations(3))
    assert len(seen) == 1
    assert str(seen[0].message) == (
        "not converged: MaxIterations(3) came before SmallResiduals(1e-09) | MaxIterations(3) was met "
        "for 3 of 3 items; give more iterations (stop=recon.MaxIterations(...) | ...) or accept the image as it is"
    )
    assert seen[0].filename == __file__, "the warning points at the caller"
    assert not solution.converged


def test_a_callback_sees_every_iteration_and_may_stop() -> None:
    snapshots = []

    def callback(snapshot: recon.Snapshot) -> bool:
        snapshots.append(snapshot)
        return snapshot.iteration == 4

    solution = recon.solve(A, TV(0.3), Y, callback=callback)
    assert [snapshot.iteration for snapshot in snapshots] == [1, 2, 3, 4]
    assert (
        solution.reason == "stopped by the callback" and solution.iterations == 4 and not solution.converged
    )
    assert torch.equal(solution.image, snapshots[-1].image)
    assert snapshots[0].items.tolist() == [0, 1, 2, 3] and snapshots[0].change.shape == (4,)
    change = torch.linalg.vector_norm((snapshots[3].image - snapshots[2].image).flatten(1), dim=1)
    change /= torch.linalg.vector_norm(snapshots[3].image.flatten(1), dim=1)
    torch.testing.assert_close(snapshots[3].change.double(), change)
    assert all(earlier.seconds <= later.seconds for earlier, later in itertools.pairwise(snapshots))


def test_a_callback_sees_the_items_that_still_run() -> None:
    places = []
    solution = recon.solve(A, TV(0.3), Y, callback=lambda snapshot: places.append(snapshot.items.tolist()))
    assert solution.converged and places[0] == [0, 1, 2, 3]
    assert all(set(later) <= set(earlier) for earlier, later in itertools.pairwise(places))
    assert 0 < len(places[-1]) < 4


def test_ctrl_c_gives_the_best_so_far_marked_as_interrupted() -> None:
    seen = []

    def callback(snapshot: recon.Snapshot) -> None:
        seen.append(snapshot.image)
        if snapshot.iteration == 5:
            raise KeyboardInterrupt

    solution = recon.solve(A, TV(0.3), Y, callback=callback)
    assert solution.reason == "interrupted" and not solution.converged and solution.iterations == 5
    assert torch.equal(solution.image, seen[-1])
    assert "interrupted after 5 iterations" in repr(solution)


def test_ctrl_c_in_the_middle_of_a_step_gives_the_step_before() -> None:
    def interrupt(x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    solution = recon.solve(A, None, Y, solver=Scripted(2.0, at=4, then=interrupt))
    assert solution.reason == "interrupted" and solution.iterations == 3
    assert torch.equal(solution.image, torch.full_like(solution.image, 8.0))


def test_ctrl_c_during_the_search_for_the_weight_gives_what_there_is() -> None:
    calls = []

    class Interrupted(Matrix):
        def _forward(self, x: Tensor) -> Tensor:
            calls.append(1)
            if len(calls) == 60:
                raise KeyboardInterrupt
            return super()._forward(x)

    operator = Interrupted(A.matrix, SHAPE)
    solution = recon.solve(operator, TV("auto"), Y, fidelity=("gaussian", {"noise_level": 0.3}))
    assert solution.reason == "interrupted" and not solution.converged
    assert bool(torch.isfinite(solution.image).all()) and len(solution.weight) == 4  # type: ignore[arg-type]


def test_other_errors_of_a_callback_pass_through() -> None:
    def callback(snapshot: recon.Snapshot) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        recon.solve(A, TV(0.3), Y, callback=callback)


# Divergence


def test_nan_stops_with_the_iteration_and_the_last_finite_image() -> None:
    with pytest.raises(
        recon.DivergenceError, match=r"Scripted\(\) diverged: item 1 became NaN or infinite at iteration 3."
    ) as caught:
        recon.solve(A, None, Y, solver=Scripted(2.0, at=3, then=nan_in_item_1))
    assert caught.value.iteration == 3
    assert torch.equal(caught.value.image, torch.full((4, *SHAPE), 4.0, dtype=torch.float64))
    assert "try a larger weight" in str(caught.value)


def test_divergence_of_a_single_image_and_in_a_batch_shape() -> None:
    with pytest.raises(
        recon.DivergenceError, match=r"diverged: became NaN or infinite at iteration 1"
    ) as caught:
        recon.solve(A, None, Y[0], solver=Scripted(math.inf))
    assert caught.value.image.shape == SHAPE
    with pytest.raises(recon.DivergenceError) as caught:
        recon.solve(A, None, Y.reshape(2, 2, 20), solver=Scripted(math.inf))
    assert caught.value.image.shape == (2, 2, *SHAPE)


def test_a_rising_objective_stops() -> None:
    with pytest.raises(
        recon.DivergenceError, match=r"item 0 has a rising objective at iteration \d+"
    ) as caught:
        recon.solve(A, None, Y, solver=Scripted(1.05), stop=recon.MaxIterations(1000))
    assert caught.value.iteration <= 200
    assert bool(torch.isfinite(caught.value.image).all())


def test_a_wrong_adjoint_is_noticed() -> None:
    class Wrong(Matrix):
        def _adjoint(self, y: Tensor) -> Tensor:
            return -super()._adjoint(y)

    with pytest.raises(recon.DivergenceError, match=r"the operator's adjoint \(recon check\)"):
        recon.solve(Wrong(A.matrix, SHAPE), Ridge(0.01), Y, stop=recon.MaxIterations(2000))


def test_a_start_that_is_not_finite_is_refused() -> None:
    class Broken(Matrix):
        def _pinv(self, y: Tensor) -> Tensor:  # type: ignore[override]
            return torch.full((len(y), *self.domain_shape), math.nan, dtype=y.dtype)

    with pytest.raises(
        ValueError, match=r"the first image, Broken.pinv\(y\), holds NaN or infinite values: give x0"
    ):
        recon.solve(Broken(A.matrix, SHAPE), TV(0.3), Y)
    recon.solve(Broken(A.matrix, SHAPE), TV(0.3), Y, x0=torch.zeros(SHAPE))


def test_a_residual_that_settles_from_below_is_no_divergence() -> None:
    """Plug and play starts from the data themselves: the residual, all that can be recorded, only rises."""
    y = random(1, 8, 8, seed=2)
    solution = recon.solve(
        recon.Identity((8, 8)), Smoother(5.0), y, solver=recon.ADMM(rho=0.01), stop=recon.MaxIterations(600)
    )
    mean = y.mean()
    assert float((solution.image - mean).abs().max()) < float((y - mean).abs().max())


# History


@pytest.mark.parametrize("single", [True, False])
def test_history_has_one_entry_a_record_for_every_name(single: bool) -> None:
    y, truth = (Y[1], random(*SHAPE)) if single else (Y, random(4, *SHAPE))
    solution = recon.solve(A, TV(0.3), y, reference=truth, stop=recon.MaxIterations(25))
    assert set(solution.history) == {
        "iteration",
        "seconds",
        "objective",
        "residual",
        "change",
        "primal",
        "dual",
        "psnr",
    }
    assert solution.history["iteration"] == [0, 10, 20, 25]
    assert {len(column) for column in solution.history.values()} == {4}
    seconds = solution.history["seconds"]
    assert seconds == sorted(seconds) and seconds[-1] <= solution.seconds
    for name, column in solution.history.items():
        if name in ("iteration", "seconds"):
            continue
        kind = float if single else list
        assert all(isinstance(entry, kind) for entry in column), name
        assert single or all(len(entry) == 4 for entry in column)


def test_history_holds_what_it_says() -> None:
    truth = random(4, *SHAPE)
    solution = recon.solve(A, TV(0.3), Y, reference=truth, stop=recon.MaxIterations(20))
    problem, image = solution.problem, solution.image
    assert problem is not None
    last = {name: torch.tensor(column[-1], dtype=torch.float64) for name, column in solution.history.items()}
    torch.testing.assert_close(last["objective"], problem.objective(image))
    torch.testing.assert_close(last["residual"], torch.linalg.vector_norm(A(image) - Y, dim=1))
    mse = (image - truth).square().flatten(1).mean(1)
    peak = truth.abs().flatten(1).amax(1)
    torch.testing.assert_close(last["psnr"], 10 * torch.log10(peak**2 / mse))
    first = problem.start
    torch.testing.assert_close(
        torch.tensor(solution.history["objective"][0], dtype=torch.float64), problem.objective(first)
    )
    assert all(map(math.isnan, solution.history["change"][0]))


def test_history_of_an_item_that_has_stopped_stays_as_it_was() -> None:
    solution = recon.solve(A, TV(0.3), Y)
    final = solution.history["objective"][-1]
    assert solution.problem is not None
    torch.testing.assert_close(
        torch.tensor(final, dtype=torch.float64), solution.problem.objective(solution.image)
    )


def test_history_of_an_interrupted_run_is_consistent() -> None:
    solution = recon.solve(A, TV(0.3), Y, callback=lambda snapshot: snapshot.iteration == 13)
    assert len({len(column) for column in solution.history.values()}) == 1
    assert solution.history["iteration"][:2] == [0, 10]


def test_the_peak_of_a_reference_is_its_largest_magnitude() -> None:
    """An image in HU may be negative everywhere."""
    truth = -1 - random(4, *SHAPE).abs()
    solution = recon.solve(A, TV(0.3), Y, reference=truth, stop=recon.MaxIterations(3))
    flipped = recon.solve(A, TV(0.3), -Y, reference=-truth, stop=recon.MaxIterations(3))
    assert solution.history["psnr"][-1] == pytest.approx(flipped.history["psnr"][-1])


def test_a_reference_of_zero_is_no_reason_to_fail() -> None:
    solution = recon.solve(A, TV(0.3), Y, reference=torch.zeros(SHAPE), stop=recon.MaxIterations(3))
    assert "psnr" not in solution.history


# The record of a run


def test_a_solution_says_what_made_it() -> None:
    solution = recon.solve(A, TV(0.3), Y, seed=7, stop=recon.MaxIterations(3))
    provenance = solution.provenance
    assert provenance["operator"]["name"].endswith("Matrix") and provenance["seed"] == 7
    assert provenance["stop"] == "MaxIterations(3)" and provenance["solver"]["settings"].startswith("ADMM(")
    assert "TV" in provenance["prior"][0]["name"] and "0.3" in provenance["prior"][0]["text"]
    assert provenance["torch"] == torch.__version__
    assert solution.weight is None and solution.item_ndim == 2


def test_the_prior_of_the_caller_is_left_alone() -> None:
    prior = TV(0.3)
    recon.solve(A, prior, Y, weight=5.0, stop=recon.MaxIterations(2))
    assert prior.weight == 0.3


@pytest.mark.filterwarnings("ignore:the automatic weight")  # no image explains these data
def test_weight_applies_to_those_left_at_auto() -> None:
    for weight, expected in ((2.0, {"TV": 2.0, "L1": 0.5}), ("auto", {"TV": "auto", "L1": 0.5})):
        solution = recon.solve(
            A,
            TV("auto") + L1(0.5) + NonNegative(),
            Y,
            weight=weight,
            stop=recon.MaxIterations(2),
            fidelity=("gaussian", {"noise_level": 0.3}),
        )
        assert solution.problem is not None and solution.problem.prior is not None
        found = {type(member).__name__: member.weight for member in solution.problem.prior.members}
        assert {name: found[name] for name in expected} == expected
        assert (solution.weight is None) == (weight != "auto")


def test_a_progress_bar_is_drawn_where_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich draws on terminals only
    recon.solve(A, TV(0.3), Y, stop=recon.MaxIterations(3), progress=True)
    assert "Matrix" in capsys.readouterr().err
    recon.solve(A, TV(0.3), Y, stop=recon.MaxIterations(3), progress=False)
    assert capsys.readouterr().err == ""


def test_an_algorithm_of_ones_own_is_run() -> None:
    algorithm = Scripted(0.5)
    solution = recon.solve(A, None, Y, solver=algorithm)
    assert solution.iterations == 5 and float(solution.image[0, 0, 0]) == 0.5**5


def test_run_by_itself() -> None:
    problem = recon.Problem(A, Y, prior=TV(0.3))
    texts = []
    outcome = run(
        problem,
        recon.ADMM(),
        stop=recon.MaxIterations(12),
        report=lambda iteration, text: texts.append((iteration, text)),
    )
    assert outcome.image.shape == (4, *SHAPE) and outcome.iterations == [12] * 4
    assert [iteration for iteration, _ in texts] == list(range(1, 13)) and texts[-1][1].startswith(
        "objective "
    )


class Magnifier(recon.Denoiser):
    """What a network may do that has hardly been trained."""

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return 3 * x


def test_a_denoiser_that_runs_away_is_divergence_not_convergence() -> None:
    y = random(20, seed=1)
    with pytest.raises(recon.DivergenceError, match="as far from the data as an image of zeros") as raised:
        recon.solve(A, Magnifier(1.0), y, solver=recon.HQS())
    assert torch.isfinite(raised.value.image).all() and raised.value.image.shape == SHAPE
