"""Stopping rules alone and combined, for every item of a batch by itself."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from small_models import L1, TV, Matrix, Ridge
from torch import Tensor

import recon
from recon.stopping import Progress, StoppingRule


def progress(
    iteration: int = 5,
    seconds: float = 1.0,
    change: tuple[float, ...] = (0.1, 0.01, 0.001),
    primal: tuple[float, ...] | None = None,
    dual: tuple[float, ...] | None = None,
    residual: Callable[[], Tensor] | None = None,
) -> Progress:
    def tensor(values: tuple[float, ...] | None) -> Tensor | None:
        return None if values is None else torch.tensor(values)

    return Progress(
        iteration,
        seconds,
        torch.tensor(change),
        tensor(primal),
        tensor(dual),
        residual or (lambda: torch.tensor([2.0, 1.01, 0.9])),
    )


def fired(rule: StoppingRule, at: Progress) -> list[tuple[str, list[bool], bool]]:
    return [(repr(which), mask.tolist(), which.means_converged) for which, mask in rule.check(at)]


# Each rule


def test_max_iterations() -> None:
    rule = recon.MaxIterations(5)
    assert fired(rule, progress(4)) == [("MaxIterations(5)", [False] * 3, False)]
    assert fired(rule, progress(5)) == [("MaxIterations(5)", [True] * 3, False)]
    assert fired(rule, progress(6))[0][1] == [True] * 3


def test_relative_change() -> None:
    assert fired(recon.RelativeChange(0.01), progress()) == [
        ("RelativeChange(0.01)", [False, True, True], True)
    ]


def test_small_residuals_need_both_or_the_change_where_there_are_none() -> None:
    rule = recon.SmallResiduals(0.01)
    both = progress(primal=(0.001, 0.001, 0.1), dual=(0.001, 0.1, 0.001))
    assert fired(rule, both) == [("SmallResiduals(0.01)", [True, False, False], True)]
    assert fired(rule, progress())[0][1] == [False, True, True]


def test_discrepancy_measures_once_an_iteration_and_only_if_asked() -> None:
    calls = []

    def measure() -> Tensor:
        calls.append(1)
        return torch.tensor([2.0, 1.01, 0.9])

    at = progress(residual=measure)
    assert fired(recon.MaxIterations(5), at) and not calls
    rule = recon.Discrepancy() | recon.Discrepancy(tau=2.0)
    assert fired(rule, at) == [
        ("Discrepancy(tau=1.02)", [False, True, True], True),
        ("Discrepancy(tau=2)", [True, True, True], True),
    ]
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [(90, 90), (0.5, 0.5), ("90s", 90), ("5min", 300), ("2h", 7200), (" 1.5 min ", 90), (".5", 0.5)],
)
def test_time_limit(limit: float | str, seconds: float) -> None:
    rule = recon.TimeLimit(limit)
    assert rule.seconds == seconds
    assert fired(rule, progress(seconds=seconds - 0.01))[0][1:] == ([False] * 3, False)
    assert fired(rule, progress(seconds=seconds))[0][1] == [True] * 3


@pytest.mark.parametrize(
    ("make", "argument", "message"),
    [
        (recon.MaxIterations, 0, "MaxIterations needs a whole number >= 1, got 0"),
        (recon.MaxIterations, 2.5, "got 2.5"),
        (recon.MaxIterations, "ten", "got 'ten'"),
        (recon.MaxIterations, float("inf"), "got inf"),
        (recon.MaxIterations, None, "got None"),
        (recon.RelativeChange, 0, "RelativeChange needs a number > 0, got 0"),
        (recon.RelativeChange, float("nan"), "got nan"),
        (recon.RelativeChange, "small", "got 'small'"),
        (recon.SmallResiduals, -1, "SmallResiduals needs a number > 0, got -1"),
        (recon.Discrepancy, 0, "Discrepancy needs a number > 0, got 0"),
        (recon.TimeLimit, 0, "TimeLimit needs seconds > 0 or a text such as '90s', '5min', '2h'; got 0"),
        (recon.TimeLimit, "90 days", "got '90 days'"),
        (recon.TimeLimit, -5, "got -5"),
        (recon.TimeLimit, "", "got ''"),
        (recon.TimeLimit, None, "got None"),
    ],
)
def test_rules_check_their_numbers(make: Callable[..., StoppingRule], argument: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(argument)


# Combined


def test_any_of_names_the_rule_that_fired() -> None:
    rule = recon.MaxIterations(5) | recon.RelativeChange(0.01) | recon.TimeLimit(9)
    assert repr(rule) == "MaxIterations(5) | RelativeChange(0.01) | TimeLimit('9s')"
    assert fired(rule, progress(4)) == [
        ("MaxIterations(5)", [False] * 3, False),
        ("RelativeChange(0.01)", [False, True, True], True),
        ("TimeLimit('9s')", [False] * 3, False),
    ]
    assert [repr(member) for member in rule.members] == [
        "MaxIterations(5)",
        "RelativeChange(0.01)",
        "TimeLimit('9s')",
    ]


def union(rule: StoppingRule, at: Progress) -> tuple[list[bool], list[bool]]:
    """Which items stop, and which of them as converged."""
    stop = torch.zeros(3, dtype=torch.bool)
    converged = torch.zeros(3, dtype=torch.bool)
    for which, mask in rule.check(at):
        converged |= mask & ~stop & which.means_converged
        stop |= mask
    return stop.tolist(), converged.tolist()


def test_all_of_waits_for_every_rule() -> None:
    rule = recon.MaxIterations(5) & recon.RelativeChange(0.01)
    assert union(rule, progress(4)) == ([False] * 3, [False] * 3)
    assert union(rule, progress(5)) == ([False, True, True], [False, True, True])
    assert {name for name, *_ in fired(rule, progress(5))} == {"MaxIterations(5) & RelativeChange(0.01)"}


def test_all_of_limits_is_a_limit() -> None:
    rule = recon.MaxIterations(5) & recon.TimeLimit(0.5)
    assert union(rule, progress(5)) == ([True] * 3, [False] * 3)


def test_all_of_nested_rules() -> None:
    rule = (
        (recon.RelativeChange(0.001) | recon.RelativeChange(0.01))
        & recon.MaxIterations(5)
        & recon.TimeLimit(0.5)
    )
    assert union(rule, progress(5))[0] == [False, True, True]
    assert repr(recon.MaxIterations(5) & (recon.RelativeChange(0.01) | recon.TimeLimit(9))) == (
        "MaxIterations(5) & (RelativeChange(0.01) | TimeLimit('9s'))"
    )
    assert len(rule.members) == 4


def test_a_limit_inside_all_of_does_not_mean_converged() -> None:
    """(small change, or 3 iterations) and 5 iterations: what stops at 5 without a small change is not converged."""
    rule = (recon.RelativeChange(0.01) | recon.MaxIterations(3)) & recon.MaxIterations(5)
    assert union(rule, progress(5)) == ([True, True, True], [False, True, True])


def test_rules_combine_with_rules_only() -> None:
    for wrong in (
        lambda: recon.MaxIterations(5) | 3,
        lambda: recon.MaxIterations(5) & "90s",
        lambda: 3 | recon.MaxIterations(5),
    ):  # type: ignore[operator]
        with pytest.raises(TypeError, match="unsupported operand"):
            wrong()


def test_a_rule_of_ones_own() -> None:
    class Third(StoppingRule):
        def fires(self, progress: Progress) -> Tensor:
            return torch.full_like(progress.change, progress.iteration % 3 == 0, dtype=torch.bool)

    solution = recon.solve(
        recon.Identity((4,)), L1(0.1), torch.ones(4), stop=Third() | recon.MaxIterations(50)
    )
    assert solution.iterations == 3 and solution.converged and "Third" in solution.reason
    with pytest.raises(TypeError, match="StoppingRule has no `fires`"):
        StoppingRule().check(progress())


# In a solve


def problem() -> tuple[Matrix, Tensor]:
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(12, 8, generator=generator)
    y = torch.randn(3, 12, generator=generator)
    y[0] = 0
    return Matrix(A), y


def test_each_item_has_its_own_reason() -> None:
    A, y = problem()
    with pytest.warns(recon.ConvergenceWarning, match="MaxIterations.3. came before .* for 2 of 3 items"):
        solution = recon.solve(A, L1(0.1), y, stop=recon.RelativeChange(1e-9) | recon.MaxIterations(3))
    assert solution.reasons == ["RelativeChange(1e-09)", "MaxIterations(3)", "MaxIterations(3)"]
    assert solution.reason == "RelativeChange(1e-09); MaxIterations(3)"
    assert not solution.converged and solution.iterations == 3


def test_discrepancy_stops_when_the_residual_is_the_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    A = Matrix(torch.randn(400, 20, generator=generator))
    noise = 0.1 * torch.randn(2, 400, generator=generator)
    y = A(torch.randn(2, 20, generator=generator)) + noise
    solution = recon.solve(
        A,
        Ridge(1e-6),
        y,
        fidelity=("gaussian", {"noise_level": 0.1}),
        stop=recon.Discrepancy(1.05),
        x0=torch.zeros(20),
    )
    assert solution.reasons == ["Discrepancy(tau=1.05)"] * 2 and solution.converged
    expected = 0.1 * 400**0.5
    assert all(residual <= 1.05 * expected for residual in solution.history["residual"][-1])
    assert all(residual > 1.05 * expected for residual in solution.history["residual"][0])


def test_a_time_limit_ends_a_solve_in_time() -> None:
    A, y = problem()
    began = time.perf_counter()
    solution = recon.solve(A, L1(0.1), y[1], stop=recon.TimeLimit(0.3))
    assert 0.3 <= time.perf_counter() - began < 3  # one iteration takes a millisecond; a busy machine more
    assert solution.reason == "TimeLimit('0.3s')" and not solution.converged
    assert solution.seconds >= 0.3


def test_an_image_that_stands_still_while_the_splits_move_is_not_converged():
    """ADMM begins at the data of a denoising problem, which its first step leaves."""
    y = torch.randn(12, 12, generator=torch.Generator().manual_seed(0))
    identity = recon.Identity((12, 12))
    exact = recon.solve(identity, TV(0.5), y).image
    quick = recon.solve(identity, TV(0.5), y, stop=recon.MaxIterations(500) | recon.RelativeChange(1e-4))
    assert quick.iterations > 5
    # a relative change of 1e-4 an iteration leaves some per cent
    assert float((quick.image - exact).norm() / exact.norm()) < 0.05
