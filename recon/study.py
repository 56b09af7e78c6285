"""Studies: many scans, each solved for itself on some worker, reported together, and never twice."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from recon import registry
from recon.archive import FormatError, read_record
from recon.checkpoint import feed
from recon.cluster import Answer, connected, spread
from recon.fidelity import as_fidelity
from recon.files import checksum, written_whole
from recon.groups import SHARE
from recon.memory import budget_of, free_on
from recon.parameters import plain
from recon.priors import Prior
from recon.scans import ScanOptions, made_prior, solve_file
from recon.solution import FORMAT, Solution
from recon.stopping import StoppingRule

SUFFIXES = (".h5", ".hdf5")
FINISHED, FAILED, NOT_RUN = "finished", "failed", "not run"
COLUMNS = (
    "name", "status", "converged", "reason", "iterations", "seconds", "weight", "scores", "peak_memory", "worker",
    "resumed", "warnings", "error", "file", "folder",
)  # fmt: skip


@dataclasses.dataclass(kw_only=True)
class Scan:
    """One scan of a study and what came of it.

    Attributes:
        name: of the file in the study's folder, without its ending.
        file: the problem.
        folder: where its result lies.
        status: "finished", "failed" or "not run".
        skipped: whether the result was there already, of the same file and the same options.
        error: why it failed.
        reason, converged, iterations, seconds, weight, peak_memory: of its `Solution`.
        scores: name of a metric -> value, mean over a batch, where the problem holds a reference.
        warnings: what the solve warned of.
        worker: machine and process that solved it.
        resumed: whether it went on from a checkpoint that a run before had left.
    """

    name: str
    file: str
    folder: str
    status: str = NOT_RUN
    skipped: bool = False
    error: str = ""
    reason: str = ""
    converged: bool | None = None
    iterations: int | None = None
    seconds: float | None = None
    weight: Any = None
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    peak_memory: int | None = None
    warnings: list[str] = dataclasses.field(default_factory=list)
    worker: str = ""
    resumed: bool = False


@dataclasses.dataclass
class Study:
    """What `solve_all` gives back.

    Attributes:
        scans: in the order of their names.
        output: folder of the results, with ``batch.json``, ``batch.csv`` and ``index.html``.
        seconds: wall time.
        interrupted: whether Ctrl-C ended it.
    """

    scans: list[Scan]
    output: Path
    seconds: float
    interrupted: bool = False

    @property
    def failed(self) -> list[Scan]:
        """The scans that failed."""
        return [scan for scan in self.scans if scan.status == FAILED]

    def __repr__(self) -> str:
        count = {
            status: sum(scan.status == status for scan in self.scans)
            for status in (FINISHED, FAILED, NOT_RUN)
        }
        skipped = sum(scan.skipped for scan in self.scans)
        before = f" ({skipped} of them before)" if skipped else ""
        return (
            f"Study({len(self.scans)} scans: {count[FINISHED]} finished{before}, {count[FAILED]} failed, "
            f"{count[NOT_RUN]} not run, {self.seconds:.1f} s, in {self.output})"
        )


def solve_all(
    study: str | Path | Iterable[str | Path],
    output: str | Path,
    prior: Prior | str | Iterable[str] | None = None,
    *,
    solver: Any = "auto",
    weight: float | str | None = None,
    fidelity: Any = None,
    noise_level: float | None = None,
    image_range: tuple[float, float] | None = None,
    limits: dict[str, Any] | None = None,
    stop: StoppingRule | None = None,
    seed: int = 0,
    device: str | None = None,
    memory: int | str | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    report: bool = False,
    again: bool = False,
    tell: Callable[[Scan, int, int], None] | None = None,
) -> Study:
    """Solve every problem file of a study on the workers of a dask cluster.

    Each scan gets a folder with ``solution.h5`` and ``image.png``; ``batch.json``, ``batch.csv`` and ``index.html``
    hold all of them. A scan that fails is recorded with its error and the others go on. While it is solved its state is
    kept beside the result every 30 s: a worker that dies, or this program, loses no more than that. A scan whose
    result is there, of the same file and the same options, is not solved again. Ctrl-C ends the study with what is
    done.

    Args:
        study: folder of problem files (``.h5``, ``.hdf5``, those in folders inside included), or the files.
        output: folder for the results. Workers on other machines must see both under the same names.
        prior: as for `recon.solve`; several names are summed.
        solver: as for `recon.solve`.
        weight: as for `recon.solve`.
        fidelity: data term; None for that of each problem.
        noise_level: noise standard deviation of the data; None for what each problem says.
        image_range: of the images' values; None for what each problem says.
        limits: what replaces the algorithm's own limits: any of ``iterations``, ``tolerance``, ``time_limit``.
        stop: stopping rule in the place of the algorithm's own.
        seed: of everything random.
        device: where workers solve.
        memory: most memory that a worker uses for a scan; None for what `RECON_MEMORY` says, else for its share of
            what is free.
        scheduler: address of a running dask scheduler, ``"tcp://host:8786"``; None for workers on this machine.
        workers: how many of those; None for one a core, one on a GPU, and no more than scans.
        report: also write a ``report.html`` for each scan.
        again: solve scans that are finished too.
        tell: called with each scan when it is done, how many are, and how many there are.

    Raises:
        FileNotFoundError, ValueError: no problem files; an output inside the study.
        LookupError, TypeError: no such prior or solver.
        recon.cluster.SchedulerError: nothing answers at that address.
    """
    began = time.perf_counter()
    if stop is not None and limits:
        raise TypeError("stop takes the place of limits: give one of the two")
    names = list(prior) if prior is not None and not isinstance(prior, Prior | str) else prior
    options = ScanOptions(
        prior=names,
        solver=solver,
        weight=weight,
        limits=dict(limits or {}),
        stop=stop,
        fidelity=fidelity,
        noise_level=noise_level,
        image_range=image_range,
        seed=seed,
        device=device,
        memory=memory,
    )
    made_prior(options.prior)  # a mistyped name is an error of all scans: said once, before anything begins
    if isinstance(solver, str | tuple) and solver != "auto":
        registry.make("solver", solver)
    if fidelity is not None:
        as_fidelity(fidelity)
    result = Study(scans_of(study, Path(output)), Path(output).absolute(), 0.0)
    digest = options_digest(options)
    todo = {}
    for scan in result.scans:
        if again or not _recall(scan, digest, report):
            todo[scan.name] = scan
    on_gpu = device is not None and str(device).startswith("cuda")
    count = max(1, min(len(todo), workers or (1 if on_gpu else os.cpu_count() or 1)))
    if scheduler is None and not on_gpu and budget_of(memory) is None:
        options = dataclasses.replace(options, memory=int(SHARE * free_on(torch.device("cpu")) / count))
    done = len(result.scans) - len(todo)
    _write_books(result, 0.0)  # a run that is killed leaves a folder that is known as a study's
    try:
        if todo:
            with connected(scheduler, count) as client:
                work = {name: (scan, options, digest, report) for name, scan in todo.items()}
                for answer in spread(client, solve_scan, work):
                    done += 1
                    _note(todo[answer.name], answer)
                    _write_books(result, time.perf_counter() - began)
                    if tell is not None:
                        tell(todo[answer.name], done, len(result.scans))
    except KeyboardInterrupt:
        result.interrupted = True
    _write_books(result, time.perf_counter() - began)
    from recon.report.study import study_report

    study_report(result, result.output / "index.html")
    return result


def scans_of(study: str | Path | Iterable[str | Path], output: Path) -> list[Scan]:
    """The scans of a folder or of a list of files, and where their results go."""
    output = output.absolute()
    if isinstance(study, str | Path):
        root = Path(study).absolute()
        if not root.is_dir():
            what = "is a file: name its folder" if root.exists() else "is not there"
            raise FileNotFoundError(f"the study {study} {what}")
        if output == root or root in output.parents:
            raise ValueError(
                f"results cannot go into the study itself ({output}): choose a folder beside {root}"
            )
        found = [
            (path.relative_to(root).with_suffix("").as_posix(), path)
            for path in sorted(root.rglob("*"))
            if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
        ]
    else:
        found = [(path.stem, path) for path in (Path(item).absolute() for item in study)]
    files: dict[str, Path] = {}
    for name, path in found:
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        if name in files:
            raise ValueError(f"two scans are called {name}, {files[name]} and {path}: rename one")
        files[name] = path
    if not files:
        raise FileNotFoundError(
            f"the study {study} holds no problem file ({', '.join(SUFFIXES)}): `recon simulate` or Problem.save makes "
            "one"
        )
    return [
        Scan(name=name, file=str(path), folder=str(output / name)) for name, path in sorted(files.items())
    ]


def options_digest(options: ScanOptions) -> str:
    """What options mean for a result: all of them but where it is computed and in how much memory."""
    digest = hashlib.sha256()
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name not in ("device", "memory"):
            feed(digest, field.name)
            feed(digest, repr(value) if field.name in ("solver", "stop", "fidelity") else value)
            if hasattr(value, "parameters") and field.name == "fidelity":
                feed(digest, value.parameters())
    return digest.hexdigest()


def solve_scan(scan: Scan, options: ScanOptions, digest: str, report: bool) -> Scan:
    """Solve one scan and write its result; what a worker does.

    Raises:
        FileNotFoundError: the worker's machine does not see the file.
        Exception: whatever `solve` raises.
    """
    file, folder = Path(scan.file), Path(scan.folder)
    worker = f"{socket.gethostname()}, process {os.getpid()}"
    if not file.is_file():
        raise FileNotFoundError(
            f"{worker} sees no file {file}: all workers need the study and the output folder under the same names"
        )
    key = _key(checksum(file), digest)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / f"run-{key[:16]}.checkpoint"
    resumed = any(folder.glob(f"{checkpoint.name}*"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solution = solve_file(file, options, checkpoint=checkpoint, progress=False)
    scan = dataclasses.replace(
        scan,
        status=FINISHED,
        worker=worker,
        resumed=resumed,
        warnings=list(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, UserWarning))),
        scores=_scores(solution),
    )
    _take_over(scan, solution)
    kept = ("worker", "resumed", "warnings", "scores")
    solution.provenance["scan"] = {"key": key, **{name: getattr(scan, name) for name in kept}}
    if report:  # before the result: what is there is complete
        notes = solution.provenance["problem"]["notes"]
        solution.report(
            folder / "report.html", unit=str(notes.get("unit") or ""), title=f"Reconstruction of {scan.name}"
        )
    else:
        (folder / "report.html").unlink(missing_ok=True)  # that of an earlier result
    solution.save(folder)
    for old in (
        *folder.glob("run-*.checkpoint*"),
        *folder.glob(".*.part.*"),
    ):  # of this run and of killed ones
        old.unlink(missing_ok=True)
    return scan


def _key(file_digest: str, digest: str) -> str:
    """What a result is the result of."""
    return hashlib.sha256(f"{file_digest} {digest}".encode()).hexdigest()


def _recall(scan: Scan, digest: str, report: bool) -> bool:
    """Whether the scan's result is there, of this file and these options; it is then filled in."""
    folder = Path(scan.folder)
    try:
        record = read_record(folder / "solution.h5", FORMAT)
    except (FormatError, OSError):
        return False
    kept = record["provenance"].get("scan", {})
    if kept.get("key") != _key(checksum(Path(scan.file)), digest):
        return False
    if report and not (folder / "report.html").is_file():
        return False
    for name in ("worker", "resumed", "warnings", "scores"):
        setattr(scan, name, kept[name])
    for name in ("reason", "converged", "iterations", "seconds", "weight", "peak_memory"):
        setattr(scan, name, record[name])
    scan.status, scan.skipped = FINISHED, True
    return True


def _take_over(scan: Scan, solution: Solution) -> None:
    for name in ("reason", "converged", "iterations", "seconds", "weight", "peak_memory"):
        setattr(scan, name, plain(getattr(solution, name)))


def _note(scan: Scan, answer: Answer) -> None:
    """Fill in what a worker answered."""
    if answer.error:
        scan.status, scan.error = FAILED, answer.error
        return
    for field in dataclasses.fields(Scan):
        setattr(scan, field.name, getattr(answer.value, field.name))


def _scores(solution: Solution) -> dict[str, float]:
    """The usual metrics against the problem's reference, if it has one."""
    problem = solution.problem
    if problem is None or problem.reference is None:
        return {}
    from recon.report.methods import default_metrics

    scores = {}
    reference = problem.unflatten(problem.reference)
    for metric in default_metrics(problem.operator.domain_shape, str(problem.notes.get("unit") or "")):
        try:
            score = metric.score(solution.image, reference, item_ndim=solution.item_ndim)
        except ValueError:  # a constant reference has no range: the solve is fine
            continue
        scores[score.name] = float(score.value.mean())
    return scores


def _write_books(study: Study, seconds: float) -> None:
    """``batch.json`` and ``batch.csv``, each whole or not at all."""
    study.seconds = seconds
    rows = [dataclasses.asdict(scan) for scan in study.scans]
    book = {"interrupted": study.interrupted, "seconds": round(seconds, 3), "scans": rows}
    with written_whole(study.output / "batch.json") as temporary:
        temporary.write_text(json.dumps(book, indent=1, ensure_ascii=False), "utf-8")
    with (
        written_whole(study.output / "batch.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        metrics = list(dict.fromkeys(name for scan in study.scans for name in scan.scores))
        table = csv.writer(file)
        columns = [name for name in COLUMNS if name != "scores"]
        table.writerow([*columns, *metrics])
        for scan, row in zip(study.scans, rows, strict=True):
            cells = ["; ".join(map(str, v)) if isinstance(v := row[name], list) else v for name in columns]
            table.writerow([*cells, *(scan.scores.get(name, "") for name in metrics)])
