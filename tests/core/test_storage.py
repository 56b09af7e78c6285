"""Problems come back from their files on another machine, and a file can do no more than pose a problem."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import h5py
import numpy as np
import pytest
import torch
from small_models import L1, Matrix
from torch import Tensor

import recon
from recon import registry, storage
from recon.archive import FormatError, read_archive, write_archive
from recon.registry import Registry


class Diagonal(recon.LinearOperator):
    """Takes its arguments in every form: for the tests of files."""

    def __init__(
        self,
        values: Annotated[Any, recon.Param("numbers, an array, or the path of a file with an array")],
        shape: Annotated[tuple[int, int] | None, recon.Param("image shape, or that of the values")] = None,
        scale: Annotated[complex, recon.Param("a factor")] = 1.0,
        kernel: Annotated[Literal["box", "cubic"], recon.Param("a name")] = "box",
        exact: Annotated[bool, recon.Param("a switch")] = True,
        other: Annotated[Any, recon.Param("whatever else")] = None,
    ) -> None:
        if isinstance(values, str | Path):
            values = recon.load(values).data
        tensor = torch.as_tensor(values)
        tensor = tensor if tensor.is_complex() else tensor.float()
        super().__init__(shape or tensor.shape, shape or tensor.shape)
        self.register_buffer("values", (tensor * scale).reshape(self.domain_shape))
        self.kernel, self.exact, self.other = kernel, exact, other

    def _forward(self, x: Tensor) -> Tensor:
        return x * self.values

    def _adjoint(self, y: Tensor) -> Tensor:
        return y * self.values.conj()


class Plugin:
    """Registers the operator above."""

    @recon.hookimpl
    def recon_operators(self) -> list[recon.OperatorEntry]:
        return [recon.OperatorEntry(name="diagonal", factory="test_storage:Diagonal", summary="A diagonal")]


@pytest.fixture(autouse=True)
def registered() -> Iterator[Registry]:
    with registry.using(Registry([Plugin()])) as used:
        yield used


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def there_and_back(problem: recon.Problem, tmp_path: Path) -> recon.Problem:
    path = problem.save(tmp_path / "problem.h5")
    assert path == tmp_path / "problem.h5"
    return recon.Problem.load(path)


def same(one: recon.Problem, other: recon.Problem) -> None:
    """Two problems that any solver solves alike."""
    assert type(one.operator) is type(other.operator)
    assert torch.equal(one.data, other.data) and one.data.dtype == other.data.dtype
    x = torch.ones(one.operator.domain_shape, dtype=one.y.dtype)
    assert torch.equal(one.operator(x), other.operator(x))
    for name in ("x0", "reference"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert (mine is None) == (theirs is None) and (mine is None or torch.equal(mine, theirs)), name
    for name in ("weights", "noise_level"):
        mine, theirs = getattr(one.fidelity, name), getattr(other.fidelity, name)
        assert (mine is None) == (theirs is None) and (mine is None or torch.equal(mine, theirs)), name
    assert one.image_range == other.image_range and one.notes == other.notes


# Round trips


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_a_problem_comes_back_as_it_was(dtype: torch.dtype, batch: tuple[int, ...], tmp_path: Path) -> None:
    problem = recon.Problem(
        Diagonal(torch.tensor([1.0, 2.0, 3.0])),
        random(*batch, 3, dtype=dtype),
        fidelity=("gaussian", {"weights": random(*batch, 3).abs(), "noise_level": 0.3}),
        x0=random(3, dtype=dtype),
        reference=random(*batch, 3, dtype=dtype),
        image_range=(-1.0, 2.5),
    )
    problem.notes = {"unit": "1/mm", "pixel_size": [0.5, 0.5], "seed": 3, "noise": None}
    again = there_and_back(problem, tmp_path)
    same(problem, again)
    options = {"stop": recon.MaxIterations(5)}
    assert torch.equal(
        recon.solve(again, L1(0.1), **options).image, recon.solve(problem, L1(0.1), **options).image
    )  # type: ignore[arg-type]


def test_the_least_comes_back_too(tmp_path: Path) -> None:
    problem = recon.Problem(Diagonal([1.0, 2.0]), torch.ones(2))
    same(problem, there_and_back(problem, tmp_path))
    levels = recon.Problem(
        Diagonal([1.0, 2.0]), torch.ones(3, 2), fidelity=recon.Gaussian(noise_level=[0.1, 0.2, 0.3])
    )
    same(levels, there_and_back(levels, tmp_path))


@pytest.mark.parametrize(
    "arguments",
    [
        {"values": [1.0, 2.0]},
        {"values": [[1.0, 2.0], [3.0, 4.0]]},
        {"values": (1, 2, 3)},
        {"values": [[1.0, 2j], [0.5 + 1j, 4]]},
        {"values": np.array([1.0, 2.0], dtype=np.float32)},
        {"values": np.array([1, 2], dtype=np.uint8)},
        {"values": np.array([True, False])},
        {"values": np.array([1 + 2j, 2.0])},
        {"values": random(4, dtype=torch.complex64)},
        {"values": random(4, dtype=torch.complex64).conj()},
        {"values": random(2, 3).T},
        {"values": torch.nn.Parameter(random(4))},
        {"values": [1.0, 2.0, 3.0, 4.0], "shape": (2, 2)},
        {"values": [1.0, 2.0], "scale": 1 + 2j},
        {"values": [1.0, 2.0], "scale": np.float64(2.0)},
        {"values": [1.0, 2.0], "scale": torch.tensor(2.0)},
        {"values": [1.0, 2.0], "kernel": "cubic", "exact": False},
        {"values": [1.0, 2.0], "other": {"a": [1, None], "b": {"dataset": "x"}}},
        {"values": [1.0, 2.0], "other": [torch.ones(2), np.ones((2, 2)), "text", ()]},
        {"values": [1.0, 2.0], "other": float("inf")},
        {"values": [[float(i * j % 7) for i in range(200)] for j in range(100)]},
    ],
    ids=lambda arguments: str(arguments)[:40],
)
@pytest.mark.parametrize("by_name", [False, True])
def test_arguments_of_every_kind_come_back(arguments: dict[str, Any], by_name: bool, tmp_path: Path) -> None:
    operator = recon.operator("diagonal", **arguments) if by_name else Diagonal(**arguments)
    problem = recon.Problem(operator, torch.ones(operator.range_shape))
    again = there_and_back(problem, tmp_path)
    same(problem, again)
    assert (again.operator.kernel, again.operator.exact) == (operator.kernel, operator.exact)
    assert listed(again.operator.other) == listed(operator.other)


def listed(value: Any) -> Any:
    """Arrays and tuples as lists."""
    if isinstance(value, Tensor | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [listed(item) for item in value]
    if isinstance(value, dict):
        return {key: listed(item) for key, item in value.items()}
    return value


@pytest.mark.parametrize("kind", [str, Path])
def test_files_that_arguments_name_are_embedded(kind: type, tmp_path: Path) -> None:
    """The file opens elsewhere, where they are not."""
    folder = tmp_path / "here"
    folder.mkdir()
    np.save(folder / "values.npy", np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32))
    import recon_data  # reading a file takes a reader

    with registry.using(Registry([Plugin(), recon_data])):
        operator = Diagonal(kind(folder / "values.npy"))
        recon.Problem(operator, torch.ones(2, 2)).save(tmp_path / "problem.h5")
    (folder / "values.npy").unlink()
    again = recon.Problem.load(tmp_path / "problem.h5")
    assert torch.equal(again.operator(torch.ones(2, 2)), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


def test_a_name_is_not_taken_for_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "box").write_text("a file that happens to lie here")
    problem = recon.Problem(Diagonal([1.0, 2.0], kernel="box"), torch.ones(2))
    assert there_and_back(problem, tmp_path).operator.kernel == "box"


def test_conjugate_data_are_stored(tmp_path: Path) -> None:
    problem = recon.Problem(Diagonal([1.0, 2.0]), random(2, dtype=torch.complex64).conj())
    same(problem, there_and_back(problem, tmp_path))


def test_notes_of_any_length(tmp_path: Path) -> None:
    problem = recon.Problem(Diagonal([1.0, 2.0]), torch.ones(2))
    problem.notes = {"header": "x" * 100_000}
    assert there_and_back(problem, tmp_path).notes == problem.notes


def test_the_prior_is_not_stored(tmp_path: Path) -> None:
    assert (
        there_and_back(recon.Problem(Diagonal([1.0, 2.0]), torch.ones(2), prior=L1(0.1)), tmp_path).prior
        is None
    )


# What cannot be stored


def combinations() -> dict[str, recon.LinearOperator]:
    one, other = Diagonal([1.0, 2.0]), Diagonal(random(2), scale=3.0)
    return {
        "scaled": 2.5 * one,
        "complex": (1 + 2j) * Diagonal(random(2, dtype=torch.complex64)),
        "sum": one + other,
        "difference": one - 2 * other,
        "composition": one @ other @ one,
        "stack": recon.stack([one, other, one]),
        "adjoint": recon.stack([one, other]).H,
        "gram": recon.stack([one, 3 * other]).gram,
    }


@pytest.mark.parametrize("kind", combinations())
def test_operators_made_of_registered_ones_come_back(kind: str, tmp_path: Path) -> None:
    operator = combinations()[kind]
    dtype = torch.complex64 if kind == "complex" else torch.float32
    problem = recon.Problem(operator, random(*operator.range_shape, dtype=dtype))
    same(problem, there_and_back(problem, tmp_path))


def test_a_combination_of_a_later_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "problem.h5"
    recon.Problem(2 * Diagonal([1.0, 2.0]), torch.ones(2)).save(path)
    record, arrays = read_archive(path, storage.FORMAT)
    record["operator"]["combination"] = "kron"
    write_archive(path, storage.FORMAT, record, arrays)
    with pytest.raises(
        FormatError, match="an operator that is a 'kron' of others; this version knows adjoint"
    ):
        recon.Problem.load(path)


def test_an_operator_that_no_plugin_registers_is_refused(tmp_path: Path) -> None:
    problem = recon.Problem(Matrix(torch.eye(2)), torch.ones(2))
    with pytest.raises(
        TypeError,
        match=r"Matrix is not registered by a plugin, so a file could not name it: register it \(recon.OperatorEntry\)",
    ):
        problem.save(tmp_path / "problem.h5")
    with pytest.raises(TypeError, match="Matrix is not registered"):
        recon.Problem(Diagonal([1.0, 2.0]) + Matrix(torch.eye(2)), torch.ones(2)).save(
            tmp_path / "problem.h5"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, lambda x: x, np.array(["a"]), np.array([None])], ids=type
)
def test_arguments_that_no_file_can_hold_are_refused_and_nothing_is_left(value: Any, tmp_path: Path) -> None:
    problem = recon.Problem(Diagonal([1.0, 2.0], other=value), torch.ones(2))
    with pytest.raises(TypeError, match=r"operator argument other of type \w+ cannot be stored in a file"):
        problem.save(tmp_path / "problem.h5")
    assert list(tmp_path.iterdir()) == []


def test_notes_that_no_file_can_hold_are_refused(tmp_path: Path) -> None:
    problem = recon.Problem(Diagonal([1.0, 2.0]), torch.ones(2))
    problem.notes = {"mask": torch.ones(2)}
    with pytest.raises(TypeError, match="notes"):
        problem.save(tmp_path / "problem.h5")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = recon.Problem(Diagonal([1.0, 2.0]), torch.ones(2))
    path = first.save(tmp_path / "problem.h5")
    before = path.read_bytes()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recon.archive._checksum", interrupt)
    with pytest.raises(KeyboardInterrupt):
        recon.Problem(Diagonal([5.0, 6.0]), torch.zeros(2)).save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


# What is not read


def written(tmp_path: Path) -> Path:
    problem = recon.Problem(
        Diagonal(random(30)),
        random(2, 30),
        fidelity=recon.Gaussian(weights=random(30).abs()),
        reference=random(30),
    )
    return problem.save(tmp_path / "problem.h5")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        recon.Problem.load(tmp_path / "none.h5")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        recon.Problem.load(tmp_path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.h5"
    file.write_text("hello")
    with pytest.raises(FormatError, match=r"a.h5 cannot be read as HDF5 \(.*\): is it complete"):
        recon.Problem.load(file)
    with h5py.File(file, "w") as other:
        other["kspace"] = np.ones(3)
    with pytest.raises(FormatError, match=r"is HDF5 but not a recon problem \(its format is None"):
        recon.Problem.load(file)


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(keep: float, tmp_path: Path) -> None:
    file = written(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(FormatError, match="problem.h5"):
        recon.Problem.load(file)


def test_a_file_with_parts_missing_is_refused(tmp_path: Path) -> None:
    for part in ("record", "arrays/data", "arrays/operator", "arrays"):
        file = written(tmp_path)
        with h5py.File(file, "a") as contents:
            del contents[part]
        with pytest.raises(FormatError, match="problem.h5"):
            recon.Problem.load(file)


def test_damage_anywhere_is_an_error_or_harmless(tmp_path: Path) -> None:
    """Bytes flipped all over the file: never another exception, never other numbers."""
    file = written(tmp_path)
    content = file.read_bytes()
    truth = recon.Problem.load(file)
    refused = 0
    for place in range(0, len(content), 53):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        file.write_bytes(bytes(damaged))
        try:
            problem = recon.Problem.load(file)
        except FormatError:
            refused += 1
        else:
            same(truth, problem)
    assert refused > 5


def test_an_operator_that_is_not_installed_here_is_named(tmp_path: Path) -> None:
    file = written(tmp_path)
    with registry.using(Registry([])), pytest.raises(LookupError, match=r"unknown operator 'local/diagonal'"):
        recon.Problem.load(file)


@pytest.mark.parametrize(
    "name", ["os:system", "small_models:Matrix", "test_storage:Diagonal", "antigravity", "../diagonal"]
)
def test_a_file_cannot_make_anything_be_imported_or_called(name: str, tmp_path: Path) -> None:
    file = written(tmp_path)
    record, arrays = read_archive(file, storage.FORMAT)
    record["operator"]["name"] = name
    write_archive(file, storage.FORMAT, record, arrays)
    before = set(sys.modules)
    with pytest.raises(LookupError, match="unknown operator"):
        recon.Problem.load(file)
    assert "antigravity" not in set(sys.modules) - before


def test_arguments_that_the_operator_does_not_take_are_refused(tmp_path: Path) -> None:
    """As from a file of a newer version of the plugin."""
    problem = recon.Problem(Diagonal([1.0, 2.0]), torch.ones(2))
    problem.operator.constructor_arguments = ((), {"values": [1.0, 2.0], "colour": "red"})
    file = tmp_path / "problem.h5"
    with pytest.raises(TypeError):
        problem.save(file)
    assert not file.exists()


def test_json_in_the_file_is_json(tmp_path: Path) -> None:
    """Other programs can read what the operator was made of."""
    with h5py.File(written(tmp_path)) as contents:
        operator = json.loads(contents["record"].asstr()[()])["operator"]
        assert operator["name"] == "local/diagonal"
        assert operator["arguments"]["values"] == {"array": "operator/values"}
        assert contents["arrays/operator/values"].shape == (30,)
