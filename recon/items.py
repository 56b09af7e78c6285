"""Solving some items of a batch: the search for the weight, then the run."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from recon.checkpoint import SearchCheckpoint, holds_run
from recon.groups import Group, Solved
from recon.problem import Problem
from recon.range_checks import warn_of_other_unit
from recon.runner import STOPPED, Snapshot, run
from recon.solvers.algorithm import Algorithm, looks_at
from recon.stopping import Progress, StoppingRule, TimeLimit
from recon.weight import Watch, WeightChoice


@dataclasses.dataclass
class ItemSolver:
    """Solves groups of items: searches for their weight if it is automatic, then runs the algorithm.

    Attributes:
        algorithm: what solves.
        rule: when it stops.
        search: finds automatic weights, as `recon.weight.choose_weight` does.
        seed: of the search.
        callback: sees a `Snapshot` after every iteration; in the search its iteration is 0.
        report: told the iteration and a short text, for progress bars.
        checkpoint: file of the whole batch; a group has its own beside it.
        began: when `solve` was called, by `time.perf_counter`.
    """

    algorithm: Algorithm
    rule: StoppingRule
    search: Callable[..., WeightChoice]
    seed: int
    callback: Callable[[Snapshot], bool | None] | None
    report: Callable[[int, str], None]
    checkpoint: Path | None
    began: float

    def __call__(self, problem: Problem, group: Group) -> Solved:
        """Solve a group of items; the first one's time counts from the call of `solve`."""
        before = group.seconds_before if group.first else time.perf_counter() - self.began
        file = None if self.checkpoint is None else group.file(self.checkpoint)
        if not group.first:
            warn_of_other_unit(problem, group.of)
        state, rounds, ended = None, [], group.ended
        if not ended and searches_weight(self.algorithm, problem) and not (file and holds_run(file)):
            self._tell(group, 0, "search for the weight")
            searching = getattr(self.algorithm, "searching", lambda: self.algorithm)()
            store = (
                file if file is None else SearchCheckpoint(file, problem, self.algorithm, self.seed, before)
            )
            clock = _Clock(before if store is None else store.seconds_before)
            watch = self._watch(problem, group, clock)
            choice = self.search(problem, searching, self.seed, watch, store)
            state = choice.state if searching is self.algorithm else None
            rounds, ended, before = choice.rounds, choice.ended, clock.seconds
            problem.strength = choice.strength
        outcome = run(
            problem,
            self.algorithm,
            stop=self.rule,
            state=state,
            seconds_before=before,
            callback=self._seen(problem, group),
            report=lambda iteration, text: self._tell(group, iteration, text),
            metrics={"psnr": lambda x, reference: psnr_of_items(problem.visible(x), reference)}
            if _has_values(problem.reference)
            else {},
            checkpoint=None if ended else file,
            ended=ended,
            pace=group.left,
        )
        return Solved(outcome, problem.strength, rounds)

    def _tell(self, group: Group, iteration: int, text: str) -> None:
        which = "" if group.whole else f"items {group.first} to {group.last} of {group.of}: "
        self.report(iteration, which + text)

    def _seen(self, problem: Problem, group: Group) -> Callable[[Snapshot], bool | None] | None:
        """The callback, shown the images that were asked for and told their places in the whole batch."""
        callback = self.callback
        if callback is None:
            return None

        def seen(snapshot: Snapshot) -> bool | None:
            image, items = problem.visible(snapshot.image), snapshot.items + group.first
            return callback(dataclasses.replace(snapshot, image=image, items=items))

        return seen

    def _watch(self, problem: Problem, group: Group, clock: _Clock) -> Watch:
        """Ends the search for the weight where the callback says so, or a limit of time."""
        timed = any(isinstance(member, TimeLimit) for member in self.rule.members)
        callback = self._seen(problem, group)

        def watch(places: Tensor, images: Callable[[], Tensor]) -> str:
            seconds, unknown = clock.seconds, torch.full((len(places),), torch.inf)
            if callback is not None:
                change = torch.full_like(unknown, torch.nan, device=places.device)
                if callback(Snapshot(0, seconds, images(), places, change)):
                    return STOPPED
            if timed:
                paced = seconds + (group.left - 1) * (seconds - clock.before)
                progress = Progress(0, paced, unknown, unknown, unknown, lambda: unknown)
                for rule, mask in self.rule.check(progress):
                    if bool(mask.any()):
                        return repr(rule)
            return ""

        return watch


def searches_weight(algorithm: Algorithm, problem: Problem) -> bool:
    """Whether a weight is to be found: a prior has an automatic one, and the algorithm depends on it."""
    return looks_at(algorithm, "weight") and any(term.automatic for term in problem.terms)


class _Clock:
    """Wall time, from what had been spent before."""

    def __init__(self, before: float) -> None:
        self.before, self.began = before, time.perf_counter()

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.began


def psnr_of_items(image: Tensor, reference: Tensor) -> Tensor:
    """PSNR of each item, peak: the largest magnitude of its reference."""
    from recon.metrics import PSNR

    axes = tuple(range(1, reference.ndim))
    peak = reference.abs().amax(axes, keepdim=True)
    return PSNR(data_range=1.0)(image / peak, reference / peak, item_ndim=len(axes))


def _has_values(reference: Tensor | None) -> bool:
    """Whether every item of the reference has a value to take a peak from."""
    return reference is not None and bool((reference != 0).flatten(1).any(1).all())
