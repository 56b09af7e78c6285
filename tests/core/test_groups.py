"""A batch within a budget of memory gives what it gives all at once, and errors say which size fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import TV, Matrix, NonNegative
from torch import Tensor

import recon
from recon.groups import measure_need
from recon.problem import Problem

SHAPE = (24, 32)
ITEMS = 12


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


A = Matrix(random(300, 768), SHAPE)
TRUTH = torch.zeros(ITEMS, *SHAPE)
for place in range(ITEMS):
    TRUTH[place, 4 : 10 + place, 3 : 28 - place] = 1.0
LEVELS = torch.linspace(5, 20, ITEMS)
Y = A(TRUTH) + LEVELS.reshape(-1, 1) * random(ITEMS, 300, seed=1)
STOP = recon.SmallResiduals(2e-2)
WEIGHTS = ("gaussian", {"noise_level": LEVELS})


def budget(prior: recon.Prior, items: int, data: Tensor = Y, fidelity: Any = "gaussian") -> int:
    """A budget that so many items fit into."""
    need = measure_need(Problem(A, data, prior=prior, fidelity=fidelity), recon.ADMM())
    return need.of(items) + need.item // 2


def alike(one: recon.Solution, other: recon.Solution) -> None:
    """The same to rounding: products of matrices round differently for batches of another size."""
    torch.testing.assert_close(one.image, other.image, rtol=1e-4, atol=1e-4 * float(other.image.abs().max()))
    assert one.reasons == other.reasons and one.converged == other.converged
    assert one.iterations == other.iterations
    for name, column in one.history.items():
        assert len(column) == len(one.history["iteration"]), name
    last = [column[-1] for name, column in sorted(one.history.items()) if name in ("objective", "residual")]
    expected = [
        column[-1] for name, column in sorted(other.history.items()) if name in ("objective", "residual")
    ]
    torch.testing.assert_close(torch.tensor(last), torch.tensor(expected), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("items", [1, 5])
def test_groups_give_what_the_whole_batch_gives(items: int) -> None:
    prior = TV(30.0) + NonNegative()
    whole = recon.solve(A, prior, Y, stop=STOP)
    parts = recon.solve(A, prior, Y, stop=STOP, memory=budget(prior, items))
    assert parts.provenance["items_at_once"] == {1: 1, 5: 4}[items], "5 fit: three groups of 4"
    assert "items_at_once" not in whole.provenance
    alike(parts, whole)


@pytest.mark.filterwarnings("ignore:the automatic weight")  # some have none that fits
def test_automatic_weights_are_those_of_the_whole_batch() -> None:
    whole = recon.solve(A, TV(), Y, stop=STOP, fidelity=WEIGHTS)
    parts = recon.solve(A, TV(), Y, stop=STOP, fidelity=WEIGHTS, memory=budget(TV(), 5, fidelity=WEIGHTS))
    assert parts.provenance["items_at_once"] < ITEMS
    assert isinstance(parts.weight, list) and isinstance(whole.weight, list)
    torch.testing.assert_close(torch.tensor(parts.weight), torch.tensor(whole.weight), rtol=1e-3, atol=0)
    alike(parts, whole)
    assert [len(row["weight"]) for row in parts.weight_search] == [ITEMS] * len(whole.weight_search)
    for ours, theirs in zip(parts.weight_search, whole.weight_search, strict=True):
        torch.testing.assert_close(
            torch.tensor(ours["residual"]), torch.tensor(theirs["residual"]), rtol=1e-3, atol=1e-6
        )


def test_batches_of_several_axes_keep_them() -> None:
    data, prior = Y.reshape(3, 4, -1), TV(30.0)
    reference = random(3, 4, *SHAPE, seed=3)
    options: dict[str, Any] = {"stop": recon.MaxIterations(12), "reference": reference}
    parts = recon.solve(A, prior, data, memory=budget(prior, 5, data), **options)
    whole = recon.solve(A, prior, data, **options)
    assert parts.image.shape == (3, 4, *SHAPE)
    assert parts.history["iteration"] == whole.history["iteration"] == [0, 10, 12]
    for name in whole.history.keys() - {"seconds"}:
        torch.testing.assert_close(
            torch.tensor(parts.history[name]),
            torch.tensor(whole.history[name]),
            rtol=1e-3,
            atol=1e-5,
            equal_nan=True,
        )


def test_the_seconds_of_groups_add_up() -> None:
    parts = recon.solve(A, TV(30.0), Y, stop=recon.MaxIterations(20), memory=budget(TV(30.0), 4))
    seconds = parts.history["seconds"]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert seconds[-1] <= parts.seconds <= seconds[-1] + 0.05


def test_the_callback_sees_places_in_the_whole_batch_and_ends_what_follows() -> None:
    seen: list[list[int]] = []

    def stop_in_the_second(snapshot: recon.Snapshot) -> bool:
        seen.append(snapshot.items.tolist())
        return snapshot.items[0] == 4 and snapshot.iteration == 3

    parts = recon.solve(
        A, TV(30.0), Y, stop=recon.MaxIterations(5), callback=stop_in_the_second, memory=budget(TV(30.0), 5)
    )
    assert seen == [[0, 1, 2, 3]] * 5 + [[4, 5, 6, 7]] * 3
    assert parts.reasons == ["MaxIterations(5)"] * 4 + ["stopped by the callback"] * 8
    torch.testing.assert_close(parts.image[8:], A.pinv(Y[8:]))  # not begun: where it would have started


def test_a_time_limit_is_shared_by_the_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10**6))
    limit = budget(TV(30.0), 5)
    monkeypatch.setattr(
        "time.perf_counter", lambda: 0.01 * next(ticks)
    )  # every look at the clock takes 10 ms
    counts = torch.zeros(ITEMS)

    def count(snapshot: recon.Snapshot) -> None:
        counts[snapshot.items] += 1

    parts = recon.solve(A, TV(30.0), Y, callback=count, stop=recon.TimeLimit(3.0), memory=limit)
    assert set(parts.reasons) == {"TimeLimit('3s')"} and 3 <= parts.seconds < 3.3
    assert float(counts.max()) < 1.3 * float(counts.min()), "each group got its share"


def test_groups_are_resumed(tmp_path: Path) -> None:
    def interrupt(snapshot: recon.Snapshot) -> None:
        if snapshot.items[0] >= 4 and snapshot.iteration == 7:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"stop": STOP, "memory": budget(TV(30.0), 5)}
    whole = recon.solve(A, TV(30.0), Y, **options)
    stopped = recon.solve(A, TV(30.0), Y, checkpoint=tmp_path / "run", callback=interrupt, **options)
    assert stopped.reasons[4:] == ["interrupted"] * 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.items-0-3", "run.items-4-7"]
    options["memory"] = budget(TV(30.0), 9)  # the groups that were begun go on
    resumed = recon.solve(A, TV(30.0), Y, checkpoint=tmp_path / "run", **options)
    assert torch.equal(resumed.image, whole.image) and resumed.reasons == whole.reasons
    for name in whole.history.keys() - {"seconds"}:
        assert str(resumed.history[name]) == str(whole.history[name])


def test_the_environment_sets_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECON_MEMORY", str(budget(TV(30.0), 5)))
    assert recon.solve(A, TV(30.0), Y, stop=recon.MaxIterations(2)).provenance["items_at_once"] == 4
    monkeypatch.setenv("RECON_MEMORY", "much")
    with pytest.raises(ValueError, match=r"RECON_MEMORY: a memory size is .*'4GiB', got 'much'"):
        recon.solve(A, TV(30.0), Y)


def test_a_budget_too_small_for_one_says_what_one_takes() -> None:
    with pytest.raises(
        recon.OutOfMemoryError, match=r"one item takes about .* give memory='[\d.]+[KM]iB'"
    ) as error:
        recon.solve(A, TV(30.0), Y, memory="200kB")
    said = str(error.value).partition("memory='")[2].partition("'")[0]
    assert recon.solve(A, TV(30.0), Y, stop=recon.MaxIterations(1), memory=said).image.shape == (
        ITEMS,
        *SHAPE,
    )


def test_a_batch_that_runs_out_of_memory_says_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Greedy(Matrix):
        """Takes so much beside the image that three items are too many."""

        def _forward(self, x: Tensor) -> Tensor:
            if len(x) > 2:
                torch.empty(2**56)
            return super()._forward(x)

    with pytest.raises(
        recon.OutOfMemoryError, match=r"solving 12 items ran out of memory on cpu .*give memory='"
    ):
        recon.solve(Greedy(A.matrix, SHAPE), TV(30.0), Y)


def test_without_a_budget_what_is_free_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    few_fit = int(budget(TV(30.0), 5) / 0.8) + 1
    monkeypatch.setattr("recon.groups.free_on", lambda device: few_fit)
    few = recon.solve(A, TV(30.0), Y, stop=recon.MaxIterations(2))
    assert few.provenance["items_at_once"] == 4, "a budget of 0.8 of what is free: 5 fit, three groups of 4"
    monkeypatch.undo()
    many = recon.solve(A, TV(30.0), Y, stop=recon.MaxIterations(2))
    assert "items_at_once" not in many.provenance


def test_a_divergence_keeps_the_images_of_all_groups() -> None:
    class Broken(Matrix):
        """Its adjoint has the wrong sign."""

        def _adjoint(self, y: Tensor) -> Tensor:
            return -super()._adjoint(y)

    with pytest.raises(recon.DivergenceError, match=r"item .*which were solved together") as error:
        recon.solve(
            Broken(A.matrix, SHAPE), TV(30.0), Y, x0=random(ITEMS, *SHAPE), stop=recon.MaxIterations(500),
            memory=budget(TV(30.0), 5),
        )  # fmt: skip
    assert error.value.image.shape == (ITEMS, *SHAPE) and bool(error.value.image.isfinite().all())
