"""A stopped run goes on where it was, bit by bit; files of other problems and damaged ones are refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import L1, TV, MaskedFourier, Matrix, NonNegative, Ridge, Smoother
from torch import Tensor

import recon
from recon.checkpoint import CheckpointError

SHAPE = (3, 4)


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


A = Matrix(random(20, 12), SHAPE)
Y = random(4, 20, seed=1) * torch.tensor([0.5, 1.0, 3.0, 2.0]).reshape(4, 1)
STOP = recon.SmallResiduals(1e-4) | recon.MaxIterations(200)


def after(iterations: int) -> Callable[[recon.Snapshot], bool]:
    return lambda snapshot: snapshot.iteration >= iterations


def same(one: recon.Solution, other: recon.Solution) -> None:
    """Everything but the time."""
    assert torch.equal(one.image, other.image) and one.image.dtype == other.image.dtype
    assert (one.reason, one.reasons, one.converged) == (other.reason, other.reasons, other.converged)
    assert one.iterations == other.iterations and one.weight == other.weight
    assert one.history.keys() == other.history.keys()
    for name in one.history.keys() - {"seconds"}:
        assert str(one.history[name]) == str(other.history[name]), name  # text: NaN is equal to NaN


# Going on


@pytest.mark.parametrize(
    ("prior", "solver", "dtype"),
    [
        (TV(0.3), recon.ADMM(), torch.float32),
        (TV(0.3) + NonNegative(), recon.ADMM(), torch.float64),
        (L1(0.3), recon.ADMM(rho=0.7), torch.complex64),
        (TV(0.3), recon.ADMM(), torch.complex128),
        (Smoother(0.3), recon.ADMM(), torch.float32),
        (Ridge(0.3), recon.CG(), torch.float64),
    ],
    ids=repr,
)
def test_a_resumed_run_is_the_run_that_was_not_stopped(
    prior: recon.Prior, solver: Any, dtype: torch.dtype, tmp_path: Path
) -> None:
    y = random(4, 20, dtype=dtype, seed=1) * torch.tensor([0.5, 1.0, 3.0, 2.0]).reshape(4, 1)
    options = {"solver": solver, "stop": STOP}
    whole = recon.solve(A, prior, y, **options)
    assert whole.iterations > 6
    for pause in (1, whole.iterations // 2):
        file = tmp_path / f"{pause}.run"
        stopped = recon.solve(A, prior, y, callback=after(pause), checkpoint=file, **options)
        assert "stopped by the callback" in stopped.reasons and stopped.iterations == pause
        same(recon.solve(A, prior, y, checkpoint=file, **options), whole)


def test_items_that_were_done_before_the_pause_stay_as_they_were(tmp_path: Path) -> None:
    whole = recon.solve(A, TV(0.3), Y, stop=STOP)
    sizes: list[int] = []
    recon.solve(A, TV(0.3), Y, stop=STOP, callback=lambda snapshot: sizes.append(len(snapshot.items)))
    pause = next(k for k, size in enumerate(sizes, 1) if 0 < size < 4) + 2
    assert pause < whole.iterations, "some are done, some are not"
    stopped = recon.solve(A, TV(0.3), Y, stop=STOP, callback=after(pause), checkpoint=tmp_path / "run")
    assert 0 < stopped.reasons.count("stopped by the callback") < 4
    same(recon.solve(A, TV(0.3), Y, stop=STOP, checkpoint=tmp_path / "run"), whole)


def test_a_run_may_be_stopped_many_times(tmp_path: Path) -> None:
    whole = recon.solve(A, TV(0.3), Y, stop=STOP)
    for pause in range(10, whole.iterations, 10):
        recon.solve(A, TV(0.3), Y, stop=STOP, callback=after(pause), checkpoint=tmp_path / "run")
    same(recon.solve(A, TV(0.3), Y, stop=STOP, checkpoint=tmp_path / "run"), whole)


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    def interrupt(snapshot: recon.Snapshot) -> None:
        if snapshot.iteration == 7:
            raise KeyboardInterrupt

    whole = recon.solve(A, TV(0.3), Y, stop=STOP)
    stopped = recon.solve(A, TV(0.3), Y, stop=STOP, callback=interrupt, checkpoint=tmp_path / "run")
    assert stopped.reason == "interrupted"
    same(recon.solve(A, TV(0.3), Y, stop=STOP, checkpoint=tmp_path / "run"), whole)


@pytest.mark.filterwarnings("ignore:the automatic weight")  # no image explains these data
def test_the_automatic_weight_is_kept(tmp_path: Path) -> None:
    options: dict[str, Any] = {"stop": STOP, "fidelity": ("gaussian", {"noise_level": [0.1, 0.3, 0.5, 0.3]})}
    whole = recon.solve(A, TV(), Y, **options)
    stopped = recon.solve(A, TV(), Y, callback=after(5), checkpoint=tmp_path / "run", **options)
    assert stopped.weight == whole.weight
    resumed = recon.solve(A, TV(), Y, checkpoint=tmp_path / "run", **options)
    same(resumed, whole)
    assert resumed.problem is not None
    torch.testing.assert_close(resumed.problem.strength, torch.tensor(whole.weight))


@pytest.mark.filterwarnings("ignore:the automatic weight")  # no image explains these data
def test_an_interrupted_search_for_the_weight_goes_on(tmp_path: Path) -> None:
    """Interrupted inside an operator, where the iteration is not complete."""

    class Interrupted(Matrix):
        calls = 0
        at = 60

        def _forward(self, x: Tensor) -> Tensor:
            Interrupted.calls += 1
            if Interrupted.calls == Interrupted.at:
                raise KeyboardInterrupt
            return super()._forward(x)

    operator, options = Interrupted(A.matrix, SHAPE), {"fidelity": ("gaussian", {"noise_level": 0.3})}
    stopped = recon.solve(operator, TV(), Y, checkpoint=tmp_path / "run", **options)
    assert stopped.reason == "interrupted" and stopped.iterations == 0 and (tmp_path / "run").exists()
    resumed = recon.solve(operator, TV(), Y, checkpoint=tmp_path / "run", **options)
    spent = Interrupted.calls
    Interrupted.calls, Interrupted.at = 0, -1
    whole = recon.solve(operator, TV(), Y, **options)
    same(resumed, whole)
    assert spent < Interrupted.calls + 30, (
        "the search went on where it was; only its first image was made anew"
    )


def test_a_kill_after_the_search_loses_none_of_it(tmp_path: Path) -> None:
    options: dict[str, Any] = {"fidelity": ("gaussian", {"noise_level": [0.1, 0.3, 0.5, 0.3]}), "stop": STOP}

    def fail(snapshot: recon.Snapshot) -> None:
        if snapshot.iteration == 1:
            raise ZeroDivisionError

    looks: list[int] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = recon.solve(A, TV(), Y, **options)
        with pytest.raises(ZeroDivisionError):
            recon.solve(A, TV(), Y, checkpoint=tmp_path / "run", callback=fail, **options)
        resumed = recon.solve(
            A, TV(), Y, checkpoint=tmp_path / "run", callback=lambda s: looks.append(s.iteration), **options
        )
    same(resumed, whole)
    assert looks[0] == 1, "the search is not repeated"


def test_a_flipped_bit_in_a_search_is_noticed(tmp_path: Path) -> None:
    def interrupt(snapshot: recon.Snapshot) -> None:
        raise KeyboardInterrupt

    recon.solve(A, TV(), Y, checkpoint=tmp_path / "run", callback=interrupt)
    damaged = bytearray((tmp_path / "run").read_bytes())
    damaged[-100] ^= 4
    (tmp_path / "run").write_bytes(bytes(damaged))
    with pytest.raises(CheckpointError, match="is damaged"):
        recon.solve(A, TV(), Y, checkpoint=tmp_path / "run")


@pytest.mark.parametrize("stop", [STOP, recon.MaxIterations(7)], ids=repr)
def test_a_finished_run_is_not_run_again(stop: recon.StoppingRule, tmp_path: Path) -> None:
    first = recon.solve(A, TV(0.3), Y, stop=stop, checkpoint=tmp_path / "run")
    calls: list[int] = []

    def count(snapshot: recon.Snapshot) -> None:
        calls.append(snapshot.iteration)

    same(recon.solve(A, TV(0.3), Y, stop=stop, checkpoint=tmp_path / "run", callback=count), first)
    assert not calls


def test_a_run_that_ended_by_a_limit_goes_on_under_a_larger_one(tmp_path: Path) -> None:
    whole = recon.solve(A, TV(0.3), Y, stop=recon.MaxIterations(25))
    recon.solve(A, TV(0.3), Y, stop=recon.MaxIterations(10), checkpoint=tmp_path / "run")
    same(recon.solve(A, TV(0.3), Y, stop=recon.MaxIterations(25), checkpoint=tmp_path / "run"), whole)


def test_time_spent_before_counts(tmp_path: Path) -> None:
    first = recon.solve(A, TV(0.3), Y, stop=recon.TimeLimit(0.2), checkpoint=tmp_path / "run")
    again = recon.solve(A, TV(0.3), Y, stop=recon.TimeLimit(0.2), checkpoint=tmp_path / "run")
    assert again.iterations == first.iterations and again.seconds >= first.seconds
    assert again.history["seconds"] == first.history["seconds"]


def test_a_checkpoint_is_written_at_intervals_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.checkpoint.SECONDS_BETWEEN", 0.0)

    def fail(snapshot: recon.Snapshot) -> None:
        if snapshot.iteration == 8:
            raise ZeroDivisionError

    whole = recon.solve(A, TV(0.3), Y, stop=STOP)
    with pytest.raises(ZeroDivisionError):
        recon.solve(A, TV(0.3), Y, stop=STOP, callback=fail, checkpoint=tmp_path / "run")
    seen: list[int] = []
    resumed = recon.solve(
        A,
        TV(0.3),
        Y,
        stop=STOP,
        checkpoint=tmp_path / "run",
        callback=lambda snapshot: seen.append(snapshot.iteration),
    )
    assert seen[0] == 8, "the seventh was saved before the callback failed"
    same(resumed, whole)


def test_a_single_image_and_a_start_of_ones_own(tmp_path: Path) -> None:
    x0 = random(*SHAPE, seed=3)
    whole = recon.solve(A, TV(0.3), Y[0], stop=STOP, x0=x0)
    recon.solve(A, TV(0.3), Y[0], stop=STOP, x0=x0, callback=after(5), checkpoint=tmp_path / "run")
    same(recon.solve(A, TV(0.3), Y[0], stop=STOP, checkpoint=tmp_path / "run"), whole)


# Refused


class Other(Matrix):
    """The same arithmetic under another name."""


@pytest.mark.parametrize(
    "changed",
    [
        {"y": Y + 1e-3},
        {"y": Y.double()},
        {"y": Y.reshape(2, 2, 20)},
        {"op": Matrix(A.matrix * 1.001, SHAPE)},
        {"op": Other(A.matrix, SHAPE)},
        {"op": 2.0 * A},
        {"prior": TV(0.31)},
        {"prior": TV(0.3, periodic=True)},
        {"prior": TV(0.3) + NonNegative()},
        {"prior": TV()},
        {"prior": L1(0.3)},
        {"solver": recon.ADMM(rho=1.0)},
        {"solver": recon.ADMM(inner=3)},
        {"fidelity": ("gaussian", {"weights": torch.full((20,), 2.0)})},
        {"fidelity": ("gaussian", {"noise_level": 0.2})},
    ],
    ids=lambda changed: ", ".join(f"{key} {str(value)[:30]!r}" for key, value in changed.items()),
)
def test_a_checkpoint_of_another_problem_is_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"op": A, "prior": TV(0.3), "y": Y, "solver": recon.ADMM()}
    recon.solve(**arguments, stop=recon.MaxIterations(2), checkpoint=tmp_path / "run")
    before = (tmp_path / "run").read_bytes()
    with pytest.raises(
        CheckpointError, match="belongs to another problem or other solver settings: give another name"
    ):
        recon.solve(**(arguments | changed), stop=recon.MaxIterations(3), checkpoint=tmp_path / "run")
    assert (tmp_path / "run").read_bytes() == before


def test_weights_of_the_same_shape_are_told_apart(tmp_path: Path) -> None:
    def fidelity(value: float) -> tuple[str, dict[str, Tensor]]:
        return "gaussian", {"weights": torch.full((20,), value)}

    stop = recon.MaxIterations(2)
    recon.solve(A, TV(0.3), Y, fidelity=fidelity(2.0), stop=stop, checkpoint=tmp_path / "run")
    with pytest.raises(CheckpointError, match="another problem"):
        recon.solve(A, TV(0.3), Y, fidelity=fidelity(3.0), stop=stop, checkpoint=tmp_path / "run")


def test_masks_of_the_same_share_are_told_apart(tmp_path: Path) -> None:
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    y, stop = random(2, 2, dtype=torch.complex64), recon.MaxIterations(2)
    recon.solve(MaskedFourier(mask), TV(0.3), y, stop=stop, checkpoint=tmp_path / "run")
    with pytest.raises(CheckpointError, match="another problem"):
        recon.solve(MaskedFourier(mask.T.contiguous()), TV(0.3), y, stop=stop, checkpoint=tmp_path / "run")


def test_an_equal_problem_made_again_is_accepted(tmp_path: Path) -> None:
    recon.solve(A, TV(0.3), Y, stop=recon.MaxIterations(2), checkpoint=tmp_path / "run")
    A.norm()  # what is kept for speed is no part of the problem
    recon.solve(
        Matrix(A.matrix.clone(), SHAPE),
        TV(0.3),
        Y.clone(),
        stop=recon.MaxIterations(3),
        checkpoint=tmp_path / "run",
    )


def written(tmp_path: Path) -> Path:
    recon.solve(A, TV(0.3), Y, stop=recon.MaxIterations(2), checkpoint=tmp_path / "run")
    return tmp_path / "run"


def resume(file: Path) -> recon.Solution:
    return recon.solve(A, TV(0.3), Y, stop=recon.MaxIterations(3), checkpoint=file)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 0.5, 0.99, -1])
def test_a_truncated_file_is_refused(keep: float, tmp_path: Path) -> None:
    file = written(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(CheckpointError, match=r"run .*: remove it to start anew"):
        resume(file)


def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path) -> None:
    """In the header, in the bookkeeping, in the numbers: every 23rd byte, each time another bit."""
    file = written(tmp_path)
    content = file.read_bytes()
    image = resume_image(file, content)
    for place in range(0, len(content), 23):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        file.write_bytes(bytes(damaged))
        try:
            solution = resume(file)
        except CheckpointError:
            continue
        # padding between header and numbers means nothing
        assert torch.equal(solution.image, image) and damaged[place] in b" ", (
            f"byte {place} of {len(content)}"
        )


def resume_image(file: Path, content: bytes) -> Tensor:
    image = resume(file).image
    file.write_bytes(content)
    return image


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + 100 * b"\0", 200 * b"\xff"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "run"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="run is not a readable checkpoint"):
        resume(file)
    assert file.read_bytes() == content


def test_safetensors_of_another_origin_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(3)}, tmp_path / "run")
    with pytest.raises(CheckpointError, match="is not a checkpoint of this version of recon"):
        resume(tmp_path / "run")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        resume(tmp_path)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path)
    before = file.read_bytes()

    def half(tensors: Any, path: Path, metadata: Any) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("recon.checkpoint.save_file", half)
    with pytest.raises(KeyboardInterrupt):
        resume(file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"], "nothing half-written is left beside it"
