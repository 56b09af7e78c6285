"""`sweep`: run a plan on workers, keep what is done, and write its books and its page."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from recon.archive import read_record
from recon.cluster import Answer, connected, spread
from recon.files import written_whole
from recon.parameters import plain
from recon.problem import Problem
from recon.solving import _check_device
from recon.storage import FORMAT as PROBLEM_FORMAT
from recon.sweeps.cells import FAILED, FINISHED, NOT_RUN, Cell, Work, key_of, problem_digest, recall, run_cell
from recon.sweeps.naming import Variable
from recon.sweeps.plan import Configuration, Plan, plan_of
from recon.sweeps.setup import Setup, read_setup, set_up

BOOK = "sweep.json"


class ForeignFolderError(FileExistsError):
    """The folder holds another sweep, or something else."""


@dataclasses.dataclass
class Sweep:
    """What `sweep` gives back.

    Attributes:
        title: of the sweep.
        size: of those that its file has; "" where it has none.
        variables: that were varied.
        configurations: of the variables, the base first where it is run.
        cells: of every configuration each seed.
        grid: whether every combination was run.
        output: folder with ``table.md``, ``table.csv``, ``sweep.json``, ``curves.csv``, ``index.html``, a picture for
            each variable, and ``cells``.
        problem: the file of the measurement that the base is of.
        facts: name -> what all runs have in common.
        seconds: wall time.
        interrupted: whether Ctrl-C ended it.
    """

    title: str
    size: str
    variables: tuple[Variable, ...]
    configurations: tuple[Configuration, ...]
    cells: list[Cell]
    grid: bool
    output: Path
    problem: Path
    facts: dict[str, Any]
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def failed(self) -> list[Cell]:
        """The runs that failed."""
        return [cell for cell in self.cells if cell.status == FAILED]

    def of(self, configuration: Configuration) -> list[Cell]:
        """The finished runs of a configuration, one a seed."""
        return [
            cell for cell in self.cells if cell.settings == configuration.settings and cell.status == FINISHED
        ]

    def __repr__(self) -> str:
        count = {
            status: sum(cell.status == status for cell in self.cells)
            for status in (FINISHED, FAILED, NOT_RUN)
        }
        skipped = sum(cell.skipped for cell in self.cells)
        before = f" ({skipped} of them before)" if skipped else ""
        return (
            f"Sweep({self.title!r}, {len(self.cells)} runs: {count[FINISHED]} finished{before}, "
            f"{count[FAILED]} failed, {count[NOT_RUN]} not run, {self.seconds:.1f} s, in {self.output})"
        )


def sweep(
    problem: Problem | Mapping[str, Any] | str | Path,
    output: str | Path,
    vary: Mapping[str, Iterable[Any]] | None = None,
    *,
    prior: Any = None,
    solver: Any = None,
    iterations: int | None = None,
    seeds: int | list[int] | None = None,
    grid: bool | None = None,
    peak: float | None = None,
    size: str | None = None,
    title: str | None = None,
    device: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    again: bool = False,
    force: bool = False,
    tell: Callable[[Cell, int, int], None] | None = None,
) -> Sweep:
    """Vary parameters of prior, solver, operator or noise and see what becomes of the image.

    One variable at a time around the base configuration, or every combination; every configuration with every seed,
    from fresh weights. A run whose result is there, of the same measurement and the same settings, is not repeated; one
    that was stopped goes on from its last state. A run that fails is recorded and the others go on. Ctrl-C ends the
    sweep with what is done; the same call finishes it.

    Args:
        problem: the measurement: a `Problem`, the ``.h5`` file of one, a table as ``[problem]`` in a sweep's file, or
            the ``.toml`` file of a whole sweep, of which the other arguments replace what it says.
        output: folder for the results.
        vary: variable -> values. A variable is a declared parameter (`recon show solver dip`), such as ``"lr"``, or
            with its part: ``"solver.lr"``, ``"prior.scales"``, ``"operator.factor"``, ``"noise.std"``, of a sum
            of priors ``"tv.weight"``; ``"iterations"`` is the length of the runs.
        prior: ``"dip"``, ``"dip:scales=3"``, ``"dip + tv"``, ``("dip", {"scales": 3})``, or a list of such, which are
            summed.
        solver: in the same forms; None for the one that suits the problem.
        iterations: of every run; None: as the solver stops.
        seeds: how many, or which: of weights, inputs and all else that is random in a solve. The measurement and its
            noise are the same for all.
        grid: every combination of the values in the place of one variable at a time.
        peak: that PSNR refers to, for image and data alike: 1 for images between 0 and 1. None: the largest magnitude
            of the true image, and of the data for theirs.
        size: of the sizes that a file has; None: ``small`` where there is one.
        title: of the sweep.
        device: where to solve: ``"cpu"``, ``"cuda"``.
        workers: processes on this machine; None for one a core, one on a GPU. One runs in this process.
        scheduler: address of a running dask scheduler, whose workers see the output under the same name.
        again: repeat runs that are finished too.
        force: write into a folder that holds another sweep; its runs stay where they are.
        tell: called with each run when it is done, how many are, and how many there are.

    Raises:
        LookupError, TypeError, ValueError: an unknown variable, a value that does not fit, nothing to vary; before the
            first run.
        ForeignFolderError: the folder holds another sweep.
        recon.cluster.SchedulerError: nothing answers at that address.
    """
    began = time.perf_counter()
    given = {
        "vary": vary, "prior": prior, "solver": solver, "iterations": iterations, "seeds": seeds, "grid": grid,
        "peak": peak, "title": title,
    }  # fmt: skip
    if device is not None and scheduler is None:
        _check_device(device)
    setup = _setup(problem, size, {name: value for name, value in given.items() if value is not None})
    plan = plan_of(setup)
    folder = Path(output).absolute()
    _check_folder(folder, setup, force)
    if scheduler is not None and workers is not None:
        raise ValueError("a running scheduler has its own workers: leave one of the two out")
    result, work = _prepared(plan, folder, device)
    todo = {cell.folder: cell for cell in result.cells if again or not recall(cell, work[cell.folder].key)}
    done = len(result.cells) - len(todo)
    _write_book(result)
    try:
        for answer in _answers(todo, work, device, workers, scheduler):
            done += 1
            cell = todo[answer.name]
            _note(cell, answer)
            result.seconds = time.perf_counter() - began
            _write_book(result)
            if tell is not None:
                tell(cell, done, len(result.cells))
    except KeyboardInterrupt:
        result.interrupted = True
    result.seconds = time.perf_counter() - began
    _write_book(result)
    from recon.report.sweep import write_sweep

    write_sweep(result)
    return result


def holds_sweep(folder: Path) -> bool:
    """Whether `sweep` has written into this folder."""
    return (folder / BOOK).is_file()


def _setup(problem: Any, size: str | None, given: dict[str, Any]) -> Setup:
    """What was asked for, from whatever form it has."""
    if isinstance(problem, str | Path) and Path(problem).suffix.lower() == ".toml":
        return read_setup(problem, size, **given)
    if size is not None:
        raise ValueError(f"size={size!r} is of a sweep's .toml file")
    if isinstance(problem, Mapping):
        from recon.sweeps.setup import measurement_of

        source: Any = measurement_of(problem)
    elif isinstance(problem, str | Path):
        source = Path(problem)
        if not source.is_file():
            raise FileNotFoundError(f"there is no problem file {source}")
    elif isinstance(problem, Problem):
        source = problem
    else:
        raise TypeError(f"a sweep takes a Problem, a file or a table, got {type(problem).__name__}")
    given = {"title": source.stem if isinstance(source, Path) else "Sweep", "vary": {}, **given}
    return set_up(source, **given)


def _check_folder(folder: Path, setup: Setup, force: bool) -> None:
    """Refuse a folder of another sweep, or of other things."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, but a sweep writes a folder: choose another name")
    if force or not folder.is_dir() or not any(folder.iterdir()):
        return
    if not holds_sweep(folder):
        raise ForeignFolderError(
            f"{folder} is not empty and holds no sweep: choose another folder, or force the use of this one"
        )
    try:
        book = json.loads((folder / BOOK).read_text("utf-8"))
        there = (book["title"], book["size"])
    except (ValueError, KeyError, TypeError):
        raise ForeignFolderError(f"{folder / BOOK} is damaged: choose another folder, or force") from None
    if there != (setup.title, setup.size):
        raise ForeignFolderError(
            f"{folder} holds the sweep {_called(*there)}, not {_called(setup.title, setup.size)}: choose another "
            "folder, or force the use of this one"
        )


def _called(title: str, size: str) -> str:
    return f"{title!r}" + (f" of size {size}" if size else "")


def _prepared(plan: Plan, folder: Path, device: str | None) -> tuple[Sweep, dict[str, Work]]:
    """The cells, and what workers are told of each; the measurements are written."""
    problems = _measured(plan, folder)
    cells, work = [], {}
    for configuration in plan.configurations:
        settings = configuration.settings
        file, digest = problems[plan.measuring(settings)]
        prior = tuple(plan.specs("prior", settings))
        solvers = plan.specs("solver", settings)
        for seed in plan.setup.seeds:
            place = folder / "cells" / _file_name(f"{configuration.label}, seed={seed}")
            asked = {
                "prior": [list(spec) for spec in prior],
                "solver": [list(spec) for spec in solvers],
                "iterations": plan.iterations(settings),
                "seed": seed,
                "peak": plan.setup.peak,
            }
            work[str(place)] = Work(
                problem=file, prior=prior, solver=solvers[0] if solvers else None, seed=seed, device=device,
                iterations=plan.iterations(settings), peak=plan.setup.peak, key=key_of(digest, asked),
            )  # fmt: skip
            cells.append(
                Cell(configuration=configuration.label, settings=dict(settings), seed=seed, folder=str(place))
            )
    first = problems[plan.measuring(plan.configurations[0].settings)][0]
    facts = _facts(plan, read_record(first, PROBLEM_FORMAT))
    made = Sweep(
        plan.setup.title, plan.setup.size, plan.variables, plan.configurations, cells, plan.setup.grid, folder,
        first, facts,
    )  # fmt: skip
    return made, work


def _measured(plan: Plan, folder: Path) -> dict[str, tuple[Path, str]]:
    """Each measurement of the plan, written: its file and digest. Nothing is written unless all can be made."""
    made: dict[str, Problem] = {}
    for configuration in plan.configurations:
        name = plan.measuring(configuration.settings)
        try:
            made[name] = made.get(name) or plan.problem(configuration.settings)
        except (TypeError, ValueError) as error:
            error.add_note(f"in the configuration {configuration.label}")
            raise
    found = {}
    for name, problem in made.items():
        file = problem.save(folder / "problems" / f"{_file_name(name or 'measured')}.h5")
        found[name] = (file, problem_digest(file))
    return found


def _facts(plan: Plan, record: Mapping[str, Any]) -> dict[str, Any]:
    setup = plan.setup
    specs = {part.label: {"name": part.name, **plain(part.arguments)} for part in plan.parts}
    base = {variable.key: plain(variable.base) for variable in plan.variables}
    return {
        **specs,
        "base": base,
        "iterations": setup.iterations,
        "seeds": list(setup.seeds),
        "peak": setup.peak,
        "image_range": record["image_range"],
        "notes": plain(record["notes"]),
        "environment": record["environment"],
    }


def _answers(
    todo: Mapping[str, Cell],
    work: Mapping[str, Work],
    device: str | None,
    workers: int | None,
    scheduler: str | None,
) -> Iterable[Answer]:
    """Run what is to do; answers come as they are done."""
    if not todo:
        return
    on_gpu = device is not None and device.startswith("cuda")
    count = max(1, min(len(todo), workers or (1 if on_gpu else os.cpu_count() or 1)))
    if scheduler is None and count == 1:
        for name, cell in todo.items():
            try:
                answer = Answer(name, run_cell(cell, work[name]))
            except Exception as error:
                answer = Answer(name, error=f"{type(error).__name__}: {' '.join(str(error).split())}")
            yield answer
        return
    with connected(scheduler, count) as client:
        yield from spread(client, run_cell, {name: (cell, work[name]) for name, cell in todo.items()})


def _note(cell: Cell, answer: Answer) -> None:
    """Fill in what a worker answered."""
    if answer.error:
        cell.status, cell.error = FAILED, answer.error
        return
    for field in dataclasses.fields(Cell):
        setattr(cell, field.name, getattr(answer.value, field.name))


def _file_name(text: str) -> str:
    """A name for a file that tells what it is of; long ones end in a digest."""
    plainer = re.sub(r"[^A-Za-z0-9.=_-]+", "_", text).strip("_")
    if len(plainer) <= 80 and plainer == text.replace(", ", "_"):
        return plainer
    return f"{plainer[:80]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _write_book(result: Sweep) -> None:
    """``sweep.json``, whole or not at all."""
    rows = []
    for cell in result.cells:
        row = dataclasses.asdict(cell)
        row["folder"] = Path(cell.folder).relative_to(result.output).as_posix()
        row["settings"] = plain(cell.settings)
        del row["curves"]  # those are in curves.csv and in each solution
        rows.append(row)
    book = {
        "title": result.title,
        "size": result.size,
        "grid": result.grid,
        "interrupted": result.interrupted,
        "seconds": round(result.seconds, 3),
        "variables": {variable.key: plain(variable.values) for variable in result.variables},
        "facts": result.facts,
        "cells": rows,
    }
    with written_whole(result.output / BOOK) as temporary:
        temporary.write_text(json.dumps(book, indent=1, ensure_ascii=False), "utf-8")
