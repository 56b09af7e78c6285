"""Every registered solver: a run that was stopped anywhere goes on to the last bit, and a seed decides everything."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import recon
from recon import registry
from recon.solvers.algorithm import looks_at

SOLVERS = [item.name for item in registry.items("solver")]
PRIORS = (None, "tv:weight=0.02", "tikhonov:weight=0.1", "nonnegative")
FIDELITIES = ("gaussian", "poisson:photons=1e4", "emission")  # those that are there


def data() -> tuple[recon.LinearOperator, torch.Tensor]:
    op = recon.operator("ct_parallel", shape=(12, 12), angles=9)
    images = torch.zeros(3, 12, 12)
    images[0, 3:8, 2:9] = 0.5
    images[1, 2:4] = 1.0
    images[2] = 0.02  # is done before the others
    return op, op.measure(images, noise="gaussian:std=0.03", seed=1).clamp_min(0)  # as counts are


def stopping(name: str, rule: recon.StoppingRule) -> dict[str, Any]:
    """The rule as an option, for solvers that take one."""
    return {"stop": rule} if looks_at(registry.make("solver", name), "stop") else {}


def options_for(name: str) -> dict[str, Any]:
    """The first prior and data term of those here that the solver takes."""
    op, y = data()
    refused = []
    for prior in PRIORS:
        for fidelity in FIDELITIES:
            options = {
                "op": op,
                "prior": prior,
                "y": y,
                "fidelity": fidelity,
                "solver": name,
                "progress": False,
                **stopping(name, recon.RelativeChange(3e-2) | recon.MaxIterations(12)),
            }
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    recon.solve(**{**options, **stopping(name, recon.MaxIterations(1))})
            except (TypeError, ValueError, LookupError) as error:
                refused.append(str(error))
            else:
                return options
    pytest.skip(f"{name} takes none of the problems here: {refused[0]}")


def same(one: recon.Solution, other: recon.Solution) -> None:
    """Everything but the time."""
    assert torch.equal(one.image, other.image)
    assert (one.reasons, one.iterations, one.weight) == (other.reasons, other.iterations, other.weight)
    assert str(one.weight_search) == str(other.weight_search) or not one.weight_search
    for name in one.history.keys() - {"seconds"}:
        assert str(one.history[name]) == str(other.history[name]), name  # text: NaN is equal to NaN


class Interrupt:
    """Ctrl-C at one of the iterations, those of the search for the weight counted."""

    def __init__(self, at: int) -> None:
        self.at, self.seen = at, 0

    def __call__(self, snapshot: recon.Snapshot) -> None:
        self.seen += 1
        if self.seen == self.at:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore::recon.ConvergenceWarning")
@pytest.mark.parametrize("name", SOLVERS)
def test_a_stopped_run_goes_on_bit_by_bit(name: str, tmp_path: Path) -> None:
    options = options_for(name)
    whole = recon.solve(**options)
    same(recon.solve(**options), whole)
    for pause in sorted({1, whole.iterations // 2, whole.iterations - 1} - {0}):
        file = tmp_path / f"{pause}.run"
        stopped = recon.solve(**options, checkpoint=file, callback=Interrupt(pause))
        assert "interrupted" in stopped.reasons or whole.iterations == 1
        assert bool(stopped.image.isfinite().all())
        same(recon.solve(**options, checkpoint=file), whole)


SEARCHES = [(name, prior) for name in SOLVERS for prior in ("tv", "tikhonov")]


@pytest.mark.filterwarnings("ignore::recon.ConvergenceWarning", "ignore:the automatic weight")
@pytest.mark.parametrize(("name", "prior"), SEARCHES)
def test_a_search_for_the_weight_goes_on_bit_by_bit(name: str, prior: str, tmp_path: Path) -> None:
    op, y = data()
    options: dict[str, Any] = {"op": op, "prior": prior, "y": y, "solver": name, "progress": False}
    options["fidelity"] = ("gaussian", {"noise_level": [0.03, 0.05, 0.1]})
    options |= stopping(name, recon.MaxIterations(6))
    counter = Interrupt(-1)
    try:
        whole = recon.solve(**options, callback=counter)
    except (TypeError, ValueError) as error:
        pytest.skip(f"{name} takes no {prior}: {str(error)[:80]}")
    if not whole.weight_search:
        pytest.skip(f"{name} searches for no weight")
    searched = counter.seen - whole.iterations
    assert searched > 24, "the callback sees the iterations of the search"
    file = tmp_path / "run"
    # in the first look, at its end, and where some items are done
    stops = (5, 24, searched - 1)
    for at in stops:
        before = 0 if at == 5 else stops[stops.index(at) - 1]
        stopped = recon.solve(**options, checkpoint=file, callback=Interrupt(at - before))
        assert set(stopped.reasons) == {"interrupted"} and bool(stopped.image.isfinite().all())
        assert stopped.iterations == 0
    rest = Interrupt(-1)
    same(recon.solve(**options, checkpoint=file, callback=rest), whole)
    assert rest.seen == counter.seen - stops[-1], "no iteration of the search is done twice"
    assert recon.solve(**options, checkpoint=file).weight == whole.weight


def test_a_search_of_another_seed_or_problem_is_refused(tmp_path: Path) -> None:
    from recon.checkpoint import CheckpointError

    op, y = data()
    recon.solve(op, "tv", y, checkpoint=tmp_path / "run", callback=Interrupt(5))
    with pytest.raises(CheckpointError, match="another seed"):
        recon.solve(op, "tv", y, checkpoint=tmp_path / "run", seed=1)
    with pytest.raises(CheckpointError, match="belongs to another problem"):
        recon.solve(op, "tv:weight=0.1", y, checkpoint=tmp_path / "run")
