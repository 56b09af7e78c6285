"""The one loop around every algorithm: stopping per item, history, observers, checkpoints, divergence."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recon.checkpoint import Checkpoint
from recon.early_stopping import Remembering
from recon.priors import Functional
from recon.problem import Problem
from recon.solvers.algorithm import Algorithm, norm, select
from recon.stopping import Progress, StoppingRule

INTERRUPTED, STOPPED = "interrupted", "stopped by the callback"  # reasons besides those of rules
RECORD_EVERY = 10  # iterations between records of the history: an objective costs one forward operator
FAR = 1000.0  # misfits so many times the norm of the data are those of a runaway denoiser


class DivergenceError(RuntimeError):
    """The iteration left the finite numbers, the objective kept rising, or a denoiser ran away from the data.

    Attributes:
        image: the last image that was finite, in the batch shape of the data.
        iteration: where it happened.
    """

    def __init__(self, message: str, image: Tensor, iteration: int) -> None:
        super().__init__(message)
        self.image = image
        self.iteration = iteration


@dataclasses.dataclass
class Snapshot:
    """What a callback sees after an iteration: ``callback(snapshot)``; returning True stops the run.

    Attributes:
        iteration: iterations done.
        seconds: wall time so far.
        image: images of the items still running, ``(running, *shape)``.
        items: their places in the flattened batch.
        change: relative change of each.
    """

    iteration: int
    seconds: float
    image: Tensor
    items: Tensor
    change: Tensor


@dataclasses.dataclass
class Outcome:
    """What a run gives back.

    Attributes:
        image: ``(B, *shape)``.
        history: name -> one list of B values a record; ``iteration`` and ``seconds`` one value a record.
        reasons: why each item stopped.
        converged: whether each item's reason means that the problem is solved.
        iterations: iterations of each item.
        seconds: wall time.
        part: the problem of the items that ran last.
        state: of the algorithm for those items, at the end.
    """

    image: Tensor
    history: dict[str, list[Any]]
    reasons: list[str]
    converged: list[bool]
    iterations: list[int]
    seconds: float
    part: Problem
    state: Any


def run(
    problem: Problem,
    algorithm: Algorithm,
    *,
    stop: StoppingRule,
    state: Any = None,
    seconds_before: float = 0.0,
    callback: Callable[[Snapshot], bool | None] | None = None,
    report: Callable[[int, str], None] | None = None,
    metrics: dict[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
    checkpoint: Path | None = None,
    ended: str = "",
    pace: int = 1,
) -> Outcome:
    """Iterate ``algorithm`` on ``problem`` until ``stop`` fires for every item.

    An item that has stopped leaves the batch: it costs nothing more, and its image does not depend on how
    long the others run. Ctrl-C returns what there is, marked as interrupted.

    Args:
        state: the algorithm's state to start from; None starts anew.
        seconds_before: time already spent on this problem, counted in.
        callback: sees a `Snapshot` after every iteration.
        report: told the iteration and a short text, for progress bars.
        metrics: evaluated against ``problem.reference`` at every record.
        checkpoint: file that holds the whole state at intervals; an existing one is resumed, and items that
            had not converged go on.
        ended: why the user has had enough before the first iteration: only the record is made.
        pace: how many such runs share the time: limits see the time that all take at the pace of this one.

    Raises:
        ValueError: the first image is not finite.
        DivergenceError: NaN, or an objective that keeps rising.
        CheckpointError: the file belongs to another problem, or is damaged.
    """
    loop = Loop(problem, algorithm, stop, metrics or {}, state, seconds_before, pace)
    store = None if checkpoint is None else Checkpoint(checkpoint, problem, algorithm)
    if store is not None:
        store.resume(loop)
    if ended:
        loop.finish(ended)
    try:
        while loop.running.numel():
            snapshot = loop.advance()
            if report is not None:
                report(loop.iteration, loop.summary)
            if callback is not None and callback(snapshot):
                loop.finish(STOPPED)
            if store is not None:
                store.save_if_due(loop)
    except KeyboardInterrupt:
        loop.finish(INTERRUPTED)
    outcome = loop.outcome()  # before the file is written: no time that it reports is missing from the file
    if store is not None:
        store.save(loop)
    return outcome


class Loop:
    """The state of a run: which items still run, what the finished ones gave."""

    def __init__(
        self,
        problem: Problem,
        algorithm: Algorithm,
        stop: StoppingRule,
        metrics: dict[str, Callable[[Tensor, Tensor], Tensor]],
        state: Any = None,
        seconds_before: float = 0.0,
        pace: int = 1,
    ) -> None:
        self.problem, self.algorithm, self.stop, self.metrics = problem, algorithm, stop, metrics
        self.part = problem
        self.running = torch.arange(problem.items, device=problem.y.device)
        self.places = self.running  # of the items that the state holds: those running, or those that ran last
        self.state = algorithm.start(problem) if state is None else state
        self.last = problem.project(algorithm.image(self.state))
        if not bool(torch.isfinite(self.last).all()):
            source = "x0" if problem.x0 is not None else f"{type(problem.operator).__name__}.pinv(y),"
            raise ValueError(f"the first image, {source} holds NaN or infinite values: give x0=...")
        self.image = self.last.clone()
        self.change = torch.full_like(problem.strength, torch.nan)
        self.has_objective = all(isinstance(term.prior, Functional) for term in problem.terms)
        self.iteration, self.seconds_before = 0, seconds_before
        self.others, self.others_from = pace - 1, seconds_before
        self.began = time.perf_counter()
        self.reasons = [""] * problem.items
        self.converged = [False] * problem.items
        self.iterations = [0] * problem.items
        self.strength = problem.strength.clone()
        self.history: dict[str, list[Any]] = {"iteration": [], "seconds": []}
        self.latest: dict[str, Tensor] = {}
        self.lowest = torch.full_like(problem.strength, torch.inf)
        self.rises = torch.zeros_like(problem.strength, dtype=torch.long)
        self.summary = ""
        self.memories: dict[StoppingRule, Any] = {
            rule: rule.begin(self.progress()) for rule in self.rules_with_memory
        }
        self.record()

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.began

    @property
    def rules_with_memory(self) -> list[Remembering]:
        """Those among the elementary rules, each once."""
        return [rule for rule in dict.fromkeys(self.stop.members) if isinstance(rule, Remembering)]

    def progress(self) -> Progress:
        """What rules see of the items still running."""
        part, image = self.part, self.last
        iterate, validation = (getattr(self.algorithm, name, None) for name in ("iterate", "validation"))
        seconds = self.seconds
        return Progress(
            self.iteration,
            seconds + self.others * (seconds - self.others_from),
            self.change,
            getattr(self.state, "primal", None),
            getattr(self.state, "dual", None),
            lambda: part.residual_norm(image).to(part.noise_norm) / part.noise_norm.clamp_min(1e-30),
            image,
            None if iterate is None else iterate(self.state),
            None if validation is None else validation(self.state),
        )

    def advance(self) -> Snapshot:
        """One iteration of the items still running."""
        state = self.algorithm.step(self.part, self.state)
        image = self.part.project(self.algorithm.image(state))
        change = (norm(image - self.last) / norm(image).clamp_min(1e-30)).to(self.strength)
        self.iteration += 1
        if not bool(torch.isfinite(change).all()):
            self.diverged("became NaN or infinite", torch.isfinite(change))
        self.state, self.last, self.change = state, image, change
        if len(self.running) == self.problem.items:
            self.image = image  # a step leaves old states as they were, this image with them
        else:
            self.image[self.running] = image
        if self.memories:
            progress = self.progress()
            self.memories = {
                rule: rule.watch(self.memories[rule], progress) for rule in self.rules_with_memory
            }
        snapshot = Snapshot(self.iteration, self.seconds, image, self.running, change)
        stopped = self.stopped()
        if self.iteration % RECORD_EVERY == 0 or bool(stopped.any()):
            self.record()
            self.watch_objective()
        if bool(stopped.any()):
            self.keep(~stopped)
        return snapshot

    def go_on(self) -> None:
        """After a resume: the items of the state run again, but for those that are done by the present rule."""
        unsolved = torch.tensor(
            [not self.converged[place] for place in self.places.tolist()], dtype=torch.bool
        )
        self.running = self.places
        self.keep(unsolved.to(self.places.device))
        for place in self.running.tolist():
            self.reasons[place] = ""
        if self.running.numel():
            self.keep(~self.stopped())

    def stopped(self) -> Tensor:
        """Mask of the items that stop now; their reasons are noted."""
        progress = self.progress()
        progress.memories = self.memories
        stopped = torch.zeros_like(progress.change, dtype=torch.bool)
        for rule, mask in self.stop.check(progress):
            mask = mask & ~stopped
            for place in self.running[mask].tolist():
                self.reasons[place] = repr(rule)
                self.converged[place] = rule.means_converged
            self.choose(rule if rule.means_converged else self.stop, mask)
            stopped = stopped | mask
        for place in self.running.tolist():
            self.iterations[place] = self.iteration
        return stopped

    def record(self) -> None:
        """Append objective, residual and metrics of every item to the history; finished items keep theirs."""
        part, image = self.part, self.last
        predicted = part.operator(image)
        misfit = part.item_fidelity.value(predicted, part.y)
        measures = getattr(self.algorithm, "measures", None)
        values = {} if measures is None else measures(part, self.state, predicted)
        values |= {
            "objective": misfit + part.penalty(image),
            "residual": (2 * misfit).sqrt(),
            "change": self.change,
        }
        primal, dual = getattr(self.state, "primal", None), getattr(self.state, "dual", None)
        if self.iteration and primal is not None and dual is not None:
            values |= {"primal": primal, "dual": dual}
        if part.reference is not None:
            values |= {name: metric(image, part.reference) for name, metric in self.metrics.items()}
        self.history["iteration"].append(self.iteration)
        self.history["seconds"].append(self.seconds)
        for name, value in values.items():
            full = self.latest.setdefault(
                name, torch.full((self.problem.items,), torch.nan, dtype=torch.float64)
            )
            full[self.running.cpu()] = value.detach().to("cpu", torch.float64)
            column = self.history.setdefault(
                name, [[float("nan")] * self.problem.items for _ in self.history["iteration"][:-1]]
            )
            column.append(full.tolist())
        self.summary = f"objective {float(self.latest['objective'].nanmean()):.4g}"

    def watch_objective(self) -> None:
        """Stop an objective that has risen at ten records running to over ten times its lowest value.

        With a denoiser there is no objective: what is recorded is the data term, which may well rise, but not to
        many times the data (`watch_residual`).
        """
        if not self.has_objective:
            self.watch_residual()
            return
        now = self.latest["objective"].to(self.lowest)
        before = self.history["objective"][-2]
        risen = now > torch.tensor(before).to(now)
        self.lowest = torch.minimum(self.lowest, now)
        self.rises = torch.where(risen, self.rises + 1, torch.zeros_like(self.rises))
        bad = (self.rises >= 10) & (now > 10 * self.lowest)
        if bool(bad[self.running].any()):
            self.diverged("has a rising objective", ~bad[self.running])

    def watch_residual(self) -> None:
        """Stop a denoiser that carries an image far from data which an image of zeros fits better."""
        term = self.problem.item_fidelity
        if not term.quadratic:
            return
        size = term.weighted_norm(self.problem.y).to("cpu", torch.float64)
        bad = ((size > 0) & (self.latest["residual"] > FAR * size)).to(self.running.device)[self.running]
        if bool(bad.any()):
            self.diverged(
                f"came to lie over {FAR:g} times as far from the data as an image of zeros (was the denoiser trained "
                "enough, and for this image_range?)",
                ~bad,
            )

    def diverged(self, what: str, fine: Tensor) -> None:
        """Raise, with the last finite image."""
        place = int(self.running[~fine][0])
        item = f"item {place} " if self.problem.items > 1 else ""
        raise DivergenceError(
            f"{self.algorithm!r} diverged: {item}{what} at iteration {self.iteration}. Check the data's scale and "
            "the operator's adjoint (recon check), or try a larger weight or a smaller step; "
            "the last finite image is in the error's .image",
            self.problem.unflatten(self.image),
            self.iteration,
        )

    def keep(self, mask: Tensor) -> None:
        """Go on with some of the items."""
        self.running = self.running[mask]
        if bool(mask.all()) or self.running.numel() == 0:
            return  # where none is left, the state stays that of `places`, for a checkpoint
        self.places, self.image = self.running, self.image.clone()  # written to in part from now on
        places = mask.nonzero().squeeze(1)
        self.part = self.part.select(places)
        self.state = select(self.state, places)
        self.last, self.change = self.last[places], self.change[places]
        self.memories = {rule: select(memory, places) for rule, memory in self.memories.items()}

    def choose(self, rule: StoppingRule, mask: Tensor) -> None:
        """Return for some of the running items the image that the rule has kept, if it keeps one."""
        memory = next((self.memories[member] for member in rule.members if member in self.memories), None)
        if memory is None:
            return
        mask = mask & torch.isfinite(memory.lowest)
        places = self.running[mask]
        self.image = self.image.index_copy(0, places, memory.best[mask].to(self.image.dtype))
        for place, found in zip(places.tolist(), memory.found[mask].tolist(), strict=True):
            self.reasons[place] += f", image of iteration {found}"

    def finish(self, reason: str) -> None:
        """Stop every item that still runs."""
        for place in self.running.tolist():
            self.reasons[place] = reason
            self.iterations[place] = self.iteration
        self.choose(self.stop, torch.ones_like(self.running, dtype=torch.bool))
        self.running = self.running[:0]

    def outcome(self) -> Outcome:
        """What the run gave."""
        return Outcome(
            self.image,
            self.history,
            self.reasons,
            self.converged,
            self.iterations,
            self.seconds,
            self.part,
            self.state,
        )
