"""Solutions come back from their files as they went in; damaged files are refused, interrupted writes leave nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from small_models import L1, TV, MaskedFourier, Matrix
from torch import Tensor

import recon
from recon.archive import FormatError
from recon.provenance import environment, plain


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def solved(
    batch: tuple[int, ...] = (), shape: tuple[int, ...] = (3, 4), dtype: torch.dtype = torch.float32
) -> recon.Solution:
    size = math.prod(shape)
    operator = Matrix(random(size + 3, size), shape)
    y = random(*batch, size + 3, dtype=dtype, seed=1)
    return recon.solve(
        operator, L1(0.1), y, reference=random(*shape, dtype=dtype), stop=recon.MaxIterations(15)
    )


def text(history: Any) -> str:
    """As text NaN is equal to NaN."""
    return json.dumps(history)


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
def test_a_solution_comes_back_as_it_was(batch: tuple[int, ...], dtype: torch.dtype, tmp_path: Path) -> None:
    solution = solved(batch, dtype=dtype)
    folder = solution.save(tmp_path / "deep" / "out")
    assert folder == tmp_path / "deep" / "out"
    assert sorted(path.name for path in folder.iterdir()) == ["image.png", "solution.h5"]
    for path in (folder, folder / "solution.h5", str(folder)):
        again = recon.Solution.load(path)
        assert torch.equal(again.image, solution.image) and again.image.dtype == dtype
        assert again.problem is None
        for name in (
            "item_ndim",
            "reason",
            "reasons",
            "converged",
            "iterations",
            "seconds",
            "weight",
            "weight_search",
            "provenance",
        ):
            assert getattr(again, name) == getattr(solution, name), name
        assert text(again.history) == text(solution.history)
        assert repr(again) == repr(solution)


@pytest.mark.filterwarnings("ignore:the automatic weight")  # no image explains these data
def test_the_chosen_weight_and_its_search_come_back(tmp_path: Path) -> None:
    operator, y = Matrix(random(30, 12), (3, 4)), random(2, 30, seed=1)
    solution = recon.solve(
        operator, TV(), y, fidelity=("gaussian", {"noise_level": 0.5}), stop=recon.MaxIterations(3)
    )
    assert solution.weight is not None and solution.weight_search
    again = recon.Solution.load(solution.save(tmp_path))
    assert again.weight == solution.weight and again.weight_search == solution.weight_search


def test_a_long_run_of_a_large_batch_fits_into_its_file(tmp_path: Path) -> None:
    """HDF5 keeps at most 64 KiB in an attribute; a history is easily more."""
    solution = recon.solve(
        Matrix(random(6, 4), (2, 2)), L1(0.1), random(200, 6, seed=1), stop=recon.MaxIterations(120)
    )
    assert len(text(solution.history)) > 200_000
    again = recon.Solution.load(solution.save(tmp_path))
    assert text(again.history) == text(solution.history)


@pytest.mark.parametrize("shape", [(12,), (2, 3, 4), (2, 2, 2, 3)])
def test_images_of_any_number_of_axes_are_saved(shape: tuple[int, ...], tmp_path: Path) -> None:
    solution = solved(shape=shape)
    again = recon.Solution.load(solution.save(tmp_path))
    assert torch.equal(again.image, solution.image)


def test_conjugate_images_are_saved(tmp_path: Path) -> None:
    solution = solved(dtype=torch.complex64)
    solution.image = solution.image.conj()
    assert torch.equal(recon.Solution.load(solution.save(tmp_path)).image, solution.image.resolve_conj())


def test_provenance_of_arrays_and_odd_values_is_json(tmp_path: Path) -> None:
    values = {
        "array": np.ones((2, 3)),
        "tensor": torch.ones(4),
        "one": np.ones(1),
        "none": np.ones(0),
        "scalar": torch.tensor(2.5),
        "complex": 1 + 2j,
        "complex array": np.ones(1, dtype=complex),
        "number": np.float32(0.5),
        "path": tmp_path,
        "list": [1, (2, None)],
        "long": list(range(100)),
        "nested": {1: torch.ones(2)},
    }
    record = plain(values)
    assert json.loads(json.dumps(record)) == record
    assert record["array"] == "array (2, 3) float64" and record["tensor"] == "array (4,) torch.float32"
    assert record["one"] == 1.0 and record["scalar"] == 2.5 and record["complex"] == "(1+2j)"
    assert record["none"] == "array (0,) float64" and record["long"] == "100 values"
    assert record["nested"] == {"1": "array (2,) torch.float32"}


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        (["/home/me/.venv/bin/recon", "solve", "my scan.h5", "-o", "out"], "recon solve 'my scan.h5' -o out"),
        (["scripts/study.py"], "study.py"),
        (["/lib/ipykernel_launcher.py", "-f", "/home/me/.local/share/kernel-1.json"], "a notebook"),
        ([], "''"),
    ],
)
def test_the_command_is_recorded_without_folders_that_nobody_typed(
    typed: list[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", typed)
    assert environment()["command"] == command


def test_a_solution_of_an_operator_made_of_arrays_is_saved(tmp_path: Path) -> None:
    """Composites and complex factors too: what they are made of is recorded as text."""
    A = Matrix(random(8, 4))
    for operator in (2 * A, (1 + 2j) * A, A @ Matrix(random(4, 4)), recon.stack([A, A])):
        y = random(*operator.range_shape, dtype=torch.complex64)
        solution = recon.solve(operator, L1(0.1), y, stop=recon.MaxIterations(2))
        assert recon.Solution.load(solution.save(tmp_path)).provenance == solution.provenance


# Damage


def saved(tmp_path: Path) -> Path:
    return solved((2,)).save(tmp_path) / "solution.h5"


def test_nothing_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", tmp_path / "none.h5"):
        with pytest.raises(FileNotFoundError, match="there is no solution at"):
            recon.Solution.load(path)


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(keep: float, tmp_path: Path) -> None:
    file = saved(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(FormatError, match=r"solution.h5 cannot be read as HDF5 \(.*\): is it complete"):
        recon.Solution.load(file)


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "solution.h5"
    file.write_text("hello")
    with pytest.raises(FormatError, match="cannot be read as HDF5"):
        recon.Solution.load(file)
    with h5py.File(file, "w") as other:
        other["image"] = np.ones(3)
    with pytest.raises(FormatError, match="is HDF5 but not a recon solution"):
        recon.Solution.load(file)


def test_damage_anywhere_is_an_error_or_harmless(tmp_path: Path) -> None:
    """Bytes flipped all over the file: never another exception, never other numbers."""
    file = saved(tmp_path)
    content = file.read_bytes()
    truth = recon.Solution.load(file)
    refused = 0
    for place in range(0, len(content), 53):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        file.write_bytes(bytes(damaged))
        try:
            solution = recon.Solution.load(file)
        except FormatError as error:
            assert "solution.h5" in str(error)
            refused += 1
        else:
            assert torch.equal(solution.image, truth.image), f"byte {place}"
            assert text(solution.history) == text(truth.history), f"byte {place}"
            assert solution.provenance == truth.provenance, f"byte {place}"
    assert refused > 5


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = solved(), solved((2,))
    folder = first.save(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def interrupt(*_: Any, **__: Any) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("recon.archive._checksum", interrupt)
        with pytest.raises(KeyboardInterrupt):
            second.save(folder)
        with pytest.raises(KeyboardInterrupt):
            second.save(tmp_path / "new")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not any((tmp_path / "new").glob("*")), "nothing half-written"
    assert torch.equal(recon.Solution.load(folder).image, first.image)


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    from recon.files import written_whole

    target = tmp_path / "a" / "b.txt"
    with written_whole(target) as temporary:
        temporary.write_text("one")
        assert not target.exists() and temporary.parent == target.parent
    assert target.read_text() == "one"
    for failure in (ValueError, KeyboardInterrupt):
        with pytest.raises(failure), written_whole(target) as temporary:
            temporary.write_text("tw")
            raise failure
        assert target.read_text() == "one" and list(target.parent.iterdir()) == [target]
    with written_whole(target) as temporary:
        temporary.write_text("two")
    assert target.read_text() == "two"


def test_the_peak_of_memory_is_kept(tmp_path: Path) -> None:
    solution = solved()
    assert solution.peak_memory is not None and 2**25 < solution.peak_memory < 2**36, "bytes of this process"
    assert recon.Solution.load(solution.save(tmp_path)).peak_memory == solution.peak_memory


def test_repr_says_how_it_ended_and_which_weight_was_chosen() -> None:
    solution = solved()
    assert repr(solution).startswith(
        "Solution(image (3, 4), not converged: MaxIterations(15) after 15 iterations, "
    )
    solution.weight = 0.0123456
    assert "weight 0.0123)" in repr(solution)
    solution.weight = [0.1, 0.2]
    assert "weight 0.1, 0.2)" in repr(solution)


def test_a_masked_fourier_solution_names_no_lost_arguments() -> None:
    mask = torch.ones(4, 4)
    solution = recon.solve(MaskedFourier(mask), TV(0.1), torch.ones(4, 4), stop=recon.MaxIterations(1))
    assert json.dumps(solution.provenance)
