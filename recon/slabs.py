"""Volumes larger than memory: slices on disk solved slab after slab, into one file."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon import registry
from recon.archive import FormatError, read_archive, read_record, write_archive, write_archive_in_parts
from recon.checkpoint import feed
from recon.choosing import chosen_solver
from recon.fidelity import Gaussian, as_fidelity
from recon.groups import OutOfMemoryError, _merged_history, _merged_rounds, measure_need
from recon.lifting import lifted
from recon.linear import LinearOperator, ShapeError
from recon.memory import budget_of, free_on, in_words, size_of
from recon.problem import Problem
from recon.runner import INTERRUPTED, STOPPED
from recon.scans import limited_stop, made_prior
from recon.solution import FORMAT, Solution
from recon.solving import solve

LARGEST = 512  # slices at once; more gain nothing
SHARE = 0.8  # of what is free, without a budget


@dataclasses.dataclass(frozen=True)
class Slab:
    """Slices that are solved together: those from `first` up to and without `end`."""

    first: int
    end: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"slices-{self.first:06d}-{self.end - 1:06d}"


def solve_slabs(
    op: Any,
    prior: Any,
    data: Any = None,
    *,
    output: str | Path,
    dataset: str | None = None,
    slab: int | None = None,
    memory: int | str | None = None,
    fidelity: Any = None,
    noise_level: float | None = None,
    limits: Mapping[str, Any] | None = None,
    tell: Callable[[Slab, int, Solution | None], None] | None = None,
    **options: Any,
) -> Path:
    """Solve a stack of slices that does not fit into memory, and write the images into one file.

    For operators that act on a slice: every slice is a problem of its own, so slabs give what all slices at once give.
    Only one slab is in memory. Finished slabs lie in the folder ``OUTPUT.slabs`` until all are done; then the file
    appears, whole, and the folder goes. Called again after Ctrl-C or a crash, it goes on: slabs whose data and options
    are unchanged are not solved again, and the one that was being solved goes on from its checkpoint.

    Args:
        op: operator of one slice: an object or a name; or a problem file, which holds its data.
        prior: as for `recon.solve`; it acts within a slice.
        data: ``(slices, *range_shape)``: a ``.npy`` file, an HDF5 file (with `dataset`), or anything that has a shape
            and gives slices by ``data[first:end]`` (`numpy.memmap`, `h5py.Dataset`).
        output: the solution file to write, ``.h5``; `recon.Solution.load` reads it, `h5py` its ``arrays/image``
            in parts.
        dataset: the name of the data inside an HDF5 file.
        slab: slices at once; None for as many as fit into `memory`.
        memory: most memory to use, as for `recon.solve`.
        fidelity: data term. Its arrays may have one entry a slice. None: that of the problem file, else "gaussian".
        noise_level: noise standard deviation of the data, in the place of the data term's own.
        limits: what replaces the algorithm's own limits: any of ``iterations``, ``tolerance``.
        tell: called after each slab, with the number of slices and its solution (None if it was there before).
        options: of `recon.solve`: ``solver``, ``weight``, ``stop``, ``seed``, ``device``, ``dtype``, ``image_range``.

    Returns:
        The path of the file.

    Raises:
        ShapeError: data that are not a stack for this operator; it says what to do for operators of volumes.
        OutOfMemoryError: not even one slice fits.
        KeyboardInterrupt: after Ctrl-C; what is done is kept.
    """
    output = Path(output)
    if output.suffix.lower() not in (".h5", ".hdf5"):
        raise ValueError(f"{output} must end in .h5 (it is written as HDF5)")
    for name in ("y", "x0", "reference", "checkpoint", "callback"):
        if name in options:
            raise TypeError(f"solve_slabs takes no {name}")
    prior = made_prior(prior) if prior is None or isinstance(prior, str | list) else prior
    if isinstance(prior, tuple):
        prior = registry.make("prior", prior)
    with _opened(op, data, dataset) as (operator, stack, kept_fidelity, notes, kept_range):
        options["image_range"] = options.get("image_range") or kept_range
        term = fidelity if fidelity is not None else kept_fidelity
        _check_stack(operator, stack)
        work = _Work(operator, prior, stack, term, options, output.with_name(f"{output.name}.slabs"))
        work.noise_level, work.limits = noise_level, dict(limits or {})
        size = slab if slab is not None else work.fitting(memory)
        if size < 1:
            raise ValueError(f"slab must be a number of slices >= 1, got {slab}")
        count = len(stack)
        slabs = [Slab(first, min(first + size, count)) for first in range(0, count, size)]
        for one in slabs:
            solution = work.done(one)
            if tell is not None:
                tell(one, count, solution)
        _assemble(output, work.folder, slabs, count, notes)
    shutil.rmtree(work.folder)
    return output


class _Work:
    """Solving the slabs of one stack."""

    def __init__(
        self,
        operator: LinearOperator,
        prior: Any,
        stack: Any,
        fidelity: Any,
        options: Mapping[str, Any],
        folder: Path,
    ) -> None:
        self.operator, self.prior, self.stack, self.fidelity = operator, prior, stack, fidelity
        self.options, self.folder = dict(options), folder
        self.noise_level: float | None = None
        self.limits: dict[str, Any] = {}
        digest = hashlib.sha256()
        for value in (
            operator,
            prior,
            {name: repr(value) for name, value in self.options.items() if name != "progress"},
        ):
            feed(digest, value)
        self.digest = digest.hexdigest()

    def fitting(self, memory: int | str | None) -> int:
        """How many slices fit into the memory, by what one and two take; as many as before where some are done."""
        for path in sorted(self.folder.glob("slices-000000-*")):
            found = re.match(r"slices-000000-(\d+)", path.name)
            if found:
                return int(found[1]) + 1
        few = Slab(0, min(2, len(self.stack)))
        problem = self._posed(self._data(few), self._term(few))
        need = measure_need(problem, chosen_solver(self.options.get("solver", "auto"), problem).algorithm)
        item = need.item + 2 * size_of(problem.y[0]) + 4 * size_of(problem.start_like(1))
        budget = budget_of(memory)
        if budget is None:
            budget = int(SHARE * free_on(torch.device(self.options.get("device") or "cpu")))
        fits = (budget - need.fixed) // item
        if fits < 1:
            raise OutOfMemoryError(
                f"one slice takes about {in_words(need.fixed + item)}, more than the {in_words(budget)} of memory that "
                "may be used: give more memory, or smaller slices"
            )
        return int(min(fits, LARGEST))

    def done(self, slab: Slab) -> Solution | None:
        """Solve a slab and keep it, unless it is there."""
        y, term = self._data(slab), self._term(slab)
        digest = hashlib.sha256(self.digest.encode())
        feed(digest, [y, term.name, term.parameters(), self.limits])
        key = digest.hexdigest()
        file = self.folder / f"{slab.name}.h5"
        try:
            if read_record(file, FORMAT)["provenance"].get("slab") == key:
                return None
        except (FormatError, OSError):
            pass
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint = self.folder / f"{slab.name}-{key[:16]}.run"
        posed = self._posed(y, term)
        given = dict(self.options)
        if given.get("stop") is None:
            algorithm = chosen_solver(given.get("solver", "auto"), posed).algorithm
            given["stop"] = limited_stop(algorithm, posed, self.limits)
        solution = solve(self.operator, self.prior, y, fidelity=term, checkpoint=checkpoint, **given)
        if INTERRUPTED in solution.reasons or STOPPED in solution.reasons:
            raise KeyboardInterrupt
        solution.provenance["slab"] = key
        write_archive(file, FORMAT, solution.record(), {"image": solution.image})
        for old in self.folder.glob(f"{slab.name}-*.run*"):
            old.unlink()
        return solution

    def _posed(self, y: Tensor, term: Gaussian) -> Problem:
        return lifted(
            Problem(
                self.operator, y, prior=self.prior, fidelity=term, image_range=self.options.get("image_range")
            )
        )

    def _data(self, slab: Slab) -> Tensor:
        part = self.stack[slab.first : slab.end]
        return part.clone() if isinstance(part, Tensor) else torch.from_numpy(np.array(part))

    def _term(self, slab: Slab) -> Gaussian:
        """The data term of a slab: of arrays with one entry a slice, those of its slices."""
        term = self.fidelity
        if isinstance(term, tuple) and len(term) == 2:
            name, arguments = term
            whole = 1 + len(self.operator.range_shape)
            parts = {}
            for key, value in arguments.items():
                values = value if isinstance(value, int | float | str | None) else torch.as_tensor(value)
                if isinstance(values, Tensor) and (
                    values.ndim == whole or (key == "noise_level" and values.ndim == 1 and len(values) > 1)
                ):
                    values = values[slab.first : slab.end]
                parts[key] = values
            term = name, parts
        made = as_fidelity(term)
        return made if self.noise_level is None else made.with_noise_level(self.noise_level)


@contextmanager
def _opened(
    op: Any, data: Any, dataset: str | None
) -> Iterator[tuple[LinearOperator, Any, Any, dict[str, Any], tuple[float, float] | None]]:
    """The operator, the data where they lie, the data term, the notes and the range of the images."""
    import h5py

    if data is None:
        path = Path(op) if isinstance(op, str | Path) else None
        if path is None or not path.is_file():
            raise TypeError("solve_slabs needs data, or a problem file in the place of the operator")
        from recon.storage import open_problem

        with h5py.File(path, "r") as file:
            yield open_problem(file, path)
        return
    operator = registry.make("operator", op) if isinstance(op, str | tuple) else op
    if not isinstance(data, str | Path):
        yield operator, data, "gaussian", {}, None
        return
    path = Path(data)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix.lower() == ".npy":
        yield operator, np.load(path, mmap_mode="r"), "gaussian", {}, None
    elif h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            if dataset is None or not isinstance(file.get(dataset), h5py.Dataset):
                there: list[str] = []
                file.visititems(
                    lambda name, item: there.append(name) if isinstance(item, h5py.Dataset) else None
                )
                raise ValueError(
                    f"say which dataset of {path} holds the data, one of {', '.join(there[:12])}"
                )
            yield operator, file[dataset], "gaussian", {}, None
    else:
        raise ValueError(f"{path} is neither a .npy file nor HDF5, the formats that can be read in parts")


def _check_stack(operator: LinearOperator, stack: Any) -> None:
    """Raise unless the data are a stack of what the operator gives."""
    if not isinstance(operator, LinearOperator):
        raise TypeError(f"the operator must be a recon.LinearOperator, got {type(operator).__name__}")
    shape, item = tuple(stack.shape), operator.range_shape
    name = type(operator).__name__
    if shape == item:
        raise ShapeError(
            f"{name} makes data of shape {item} of one image of shape {operator.domain_shape}: these data are one "
            "item, whose parts depend on each other, so there are no slabs. Where the whole does not fit: fewer "
            "voxels, a part of the object, single precision, a GPU with more memory; 3-D k-space that is complete "
            "along one axis falls apart into slices by an inverse FFT along it"
        )
    if len(shape) != 1 + len(item) or shape[1:] != item:
        raise ShapeError(
            f"a stack for {name} has the shape (slices, {', '.join(map(str, item))}), got {shape}"
        )
    if not shape[0]:
        raise ShapeError("the stack holds no slice")


def _facts_of_all(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """What the slabs found, as of one batch; what the solver says of itself is that of the first slab."""
    merged = {**parts[0], "items": sum(part["items"] for part in parts)}
    for name in ("measured", "converged", "iterations"):
        merged[name] = [value for part in parts for value in part[name]]
    if merged["noise"] is not None:
        levels = [level for part in parts for level in part["noise"]["levels"]]
        merged["noise"] = {**merged["noise"], "levels": levels}
    return merged


def _assemble(output: Path, folder: Path, slabs: list[Slab], count: int, notes: dict[str, Any]) -> None:
    """Copy the slabs into one solution file."""
    records = [read_record(folder / f"{slab.name}.h5", FORMAT) for slab in slabs]
    seconds = 0.0
    for record in records:  # as if one had gone on after the other
        record["history"]["seconds"] = [seconds + value for value in record["history"]["seconds"]]
        seconds += record["seconds"]
    first = records[0]
    single = [record["weight"] for record in records if record["weight"] is not None]
    merged = {
        "item_ndim": first["item_ndim"],
        "history": _merged_history([record["history"] for record in records]),
        "reason": "; ".join(dict.fromkeys(reason for record in records for reason in record["reasons"])),
        "reasons": [reason for record in records for reason in record["reasons"]],
        "converged": all(record["converged"] for record in records),
        "iterations": max(record["iterations"] for record in records),
        "seconds": seconds,
        "weight": [weight for weights in single for weight in weights] if single else None,
        "weight_search": _merged_rounds(
            [
                (record["weight_search"], slab.end - slab.first)
                for record, slab in zip(records, slabs, strict=True)
            ]
        ),
        "facts": _facts_of_all([record["facts"] for record in records]),
        "provenance": {**first["provenance"], "slabs": len(slabs), "problem": {"notes": notes}},
        "peak_memory": max((record.get("peak_memory") or 0) for record in records) or None,
    }
    merged["provenance"].pop("slab")
    images = (read_archive(folder / f"{slab.name}.h5", FORMAT)[1]["image"] for slab in slabs)
    first_image = read_archive(folder / f"{slabs[0].name}.h5", FORMAT)[1]["image"]
    shape = (count, *first_image.shape[1:])
    del first_image
    write_archive_in_parts(output, FORMAT, merged, "image", shape, images)
