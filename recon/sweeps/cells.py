"""One run of a sweep: a configuration with a seed, solved by some worker, with its curves; never done twice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import socket
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from recon import making, registry
from recon.archive import FormatError, read_archive, read_record
from recon.checkpoint import feed
from recon.parameters import plain
from recon.problem import Problem
from recon.runner import INTERRUPTED
from recon.solution import FORMAT, Solution
from recon.solving import ConvergenceWarning, solve
from recon.stopping import MaxIterations
from recon.storage import FORMAT as PROBLEM_FORMAT
from recon.sweeps.naming import Spec

FINISHED, FAILED, NOT_RUN = "finished", "failed", "not run"
CURVES = ("psnr", "mse", "psnr_data", "mse_data", "loss")
"""Of the image against the true one, of the predicted data against the data, and what is minimised."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """All that a worker is told about a run.

    Attributes:
        problem: its file.
        prior: of the priors that are summed.
        solver: the algorithm; None for the one that suits.
        iterations: at which the run stops; None: as the solver stops.
        seed: of weights, inputs, and all else that is random.
        peak: that PSNR refers to; None: see `Setup`.
        device: where to solve.
        key: digest of everything that the result depends on.
    """

    problem: Path
    prior: tuple[Spec, ...]
    solver: Spec | None
    iterations: int | None
    seed: int
    peak: float | None
    device: str | None
    key: str


@dataclasses.dataclass(kw_only=True)
class Cell:
    """One run and what came of it.

    Attributes:
        configuration: its label.
        settings: full name of a variable -> its value.
        seed: of the run.
        folder: of its result: ``solution.h5`` and ``image.png``.
        status: "finished", "failed" or "not run".
        skipped: whether the result was there already.
        error: why it failed.
        reason: why it stopped.
        iterations: that it took.
        seconds: of the solve.
        warnings: what was warned of.
        worker: machine and process.
        scores: of the returned image: ``psnr`` and ``mse`` against the true one, ``psnr_data`` and ``mse_data`` of the
            data that it predicts against those measured; ``best_psnr`` on the way and its ``best_iteration``.
        curves: ``iteration``, and the same and ``loss`` at each.
    """

    configuration: str
    settings: dict[str, Any]
    seed: int
    folder: str
    status: str = NOT_RUN
    skipped: bool = False
    error: str = ""
    reason: str = ""
    iterations: int | None = None
    seconds: float | None = None
    warnings: list[str] = dataclasses.field(default_factory=list)
    worker: str = ""
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    curves: dict[str, list[float]] = dataclasses.field(default_factory=dict)


KEPT = ("warnings", "worker", "scores", "curves")


def run_cell(cell: Cell, work: Work) -> Cell:
    """Solve and write the result; what a worker does.

    Raises:
        FileNotFoundError: the worker's machine does not see the problem.
        KeyboardInterrupt: Ctrl-C, after the state was written.
        Exception: whatever `solve` raises.
    """
    worker = f"{socket.gethostname()}, process {os.getpid()}"
    if not work.problem.is_file():
        raise FileNotFoundError(
            f"{worker} sees no file {work.problem}: all workers need it under the same name"
        )
    folder = Path(cell.folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("run-*.checkpoint*"):
        if work.key[:16] not in old.name:
            old.unlink()
    problem = Problem.load(work.problem)
    prior = making.sum_of([making.prior(spec) for spec in work.prior])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ConvergenceWarning)  # a limit is what was asked for
        solution = solve(
            problem,
            prior,
            solver="auto" if work.solver is None else registry.make("solver", work.solver),
            stop=None if work.iterations is None else MaxIterations(work.iterations),
            seed=work.seed,
            device=work.device,
            progress=False,
            checkpoint=folder / f"run-{work.key[:16]}.checkpoint",
        )
    if INTERRUPTED in solution.reason:
        raise KeyboardInterrupt
    curves = curves_of(solution, work.peak)
    done = dataclasses.replace(
        cell,
        status=FINISHED,
        worker=worker,
        reason=solution.reason,
        iterations=solution.iterations,
        seconds=solution.seconds,
        warnings=list(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, UserWarning))),
        curves=curves,
        scores=scores_of(solution, curves, work.peak),
    )
    kept = {name: getattr(done, name) for name in KEPT}
    solution.provenance["sweep"] = {"key": work.key, "settings": plain(cell.settings), **kept}
    solution.save(folder)
    for old in (*folder.glob("run-*.checkpoint*"), *folder.glob(".*.part.*")):
        old.unlink(missing_ok=True)
    return done


def recall(cell: Cell, key: str) -> bool:
    """Whether the result of this key is there; the cell is then filled in."""
    try:
        record = read_record(Path(cell.folder) / "solution.h5", FORMAT)
    except (FormatError, OSError):
        return False
    kept = record["provenance"].get("sweep", {})
    if kept.get("key") != key or not set(KEPT) <= kept.keys():
        return False
    for name in KEPT:
        setattr(cell, name, kept[name])
    for name in ("reason", "iterations", "seconds"):
        setattr(cell, name, record[name])
    cell.status, cell.skipped = FINISHED, True
    return True


def key_of(digest: str, work: Mapping[str, Any]) -> str:
    """What a result is the result of: the problem's digest, and what is done with it."""
    text = json.dumps(plain(work), sort_keys=True)
    return hashlib.sha256(f"{digest} {text}".encode()).hexdigest()


def problem_digest(file: Path) -> str:
    """What a problem file says, without when and where it was written."""
    record, arrays = read_archive(file, PROBLEM_FORMAT)
    digest = hashlib.sha256()
    feed(digest, json.dumps({**record, "environment": None}, sort_keys=True))
    for name in sorted(arrays):
        feed(digest, name)
        feed(digest, arrays[name])
    return digest.hexdigest()


def curves_of(solution: Solution, peak: float | None) -> dict[str, list[float]]:
    """The history of a run of one image in the terms of a sweep; what a run does not tell is left out."""
    history, problem = solution.history, solution.problem
    assert problem is not None
    curves: dict[str, list[float]] = {"iteration": [int(step) for step in history["iteration"]]}
    if "psnr" in history and problem.reference is not None:
        largest = float(problem.reference.abs().max())  # the peak of the history
        curves["mse"] = [largest**2 * 10 ** (-value / 10) for value in history["psnr"]]
        top = largest if peak is None else peak
        curves["psnr"] = [_decibel(top, value) for value in curves["mse"]]
    squares = history.get("mse")
    if squares is None and problem.fidelity.name == "gaussian" and problem.fidelity.weights is None:
        squares = [value**2 / problem.data.numel() for value in history["residual"]]
    if squares is not None:
        top = float(problem.data.abs().max()) if peak is None else peak
        curves["mse_data"] = [float(value) for value in squares]
        curves["psnr_data"] = [_decibel(top, value) for value in squares]
    curves["loss"] = [float(value) for value in history.get("loss", history["objective"])]
    return curves


def scores_of(solution: Solution, curves: Mapping[str, list[float]], peak: float | None) -> dict[str, float]:
    """Scores of the image that was returned, and the best on the way."""
    problem = solution.problem
    assert problem is not None
    scores: dict[str, float] = {}
    image = solution.image.to(problem.data.device)
    if problem.reference is not None:
        truth = problem.unflatten(problem.reference).to(image.device)
        scores["mse"] = float((image - truth).abs().square().mean(dtype=torch.float64))
        scores["psnr"] = _decibel(float(truth.abs().max()) if peak is None else peak, scores["mse"])
    if "mse_data" in curves:
        predicted = problem.operator(image)
        scores["mse_data"] = float((predicted - problem.data).abs().square().mean(dtype=torch.float64))
        top = float(problem.data.abs().max()) if peak is None else peak
        scores["psnr_data"] = _decibel(top, scores["mse_data"])
    scores["loss"] = curves["loss"][-1]
    finite = [
        (value, step)
        for value, step in zip(curves.get("psnr", []), curves["iteration"], strict=False)
        if math.isfinite(value)
    ]
    if finite:
        scores["best_psnr"], step = max(finite)
        scores["best_iteration"] = float(step)
    return scores


def _decibel(peak: float, square: float) -> float:
    return 10 * math.log10(peak**2 / max(float(square), 1e-300)) if peak > 0 else math.nan
