"""Batches within a budget of memory: solved in groups of items that fit, and merged to one result."""

from __future__ import annotations

import dataclasses
import gc
import math
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recon.memory import free_on, in_words, measured, ran_out, size_of
from recon.problem import Problem
from recon.runner import INTERRUPTED, STOPPED, DivergenceError, Loop, Outcome
from recon.solvers.algorithm import Algorithm, map_tensors
from recon.stopping import MaxIterations

MARGIN = 1.15  # what is measured holds all tensors, but no workspace of libraries
SHARE = 0.8  # of the free memory, where no budget is given
IMAGES, DATA = (
    60,
    12,
)  # a generous guess: copies of image and data that an item takes; beyond it, one measures


class OutOfMemoryError(RuntimeError):
    """A batch, or one item of it, takes more memory than there is, or than the budget allows."""


@dataclasses.dataclass
class Solved:
    """What solving some items gave.

    Attributes:
        outcome: of the run.
        strength: the weights of automatic priors, ``(B,)``.
        rounds: what the search for them saw.
    """

    outcome: Outcome
    strength: Tensor
    rounds: list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Group:
    """Items that are solved together.

    Attributes:
        first: place of the first of them in the flattened batch.
        last: place of the last.
        of: how many items there are.
        seconds_before: wall time that was spent on the groups before.
        left: how many groups are left, this one included.
        ended: why the groups before were ended by the user; "" if they were not.
    """

    first: int
    last: int
    of: int
    seconds_before: float
    left: int
    ended: str = ""

    @property
    def whole(self) -> bool:
        """Whether these are all items."""
        return self.last - self.first + 1 == self.of

    def file(self, checkpoint: Path) -> Path:
        """The group's checkpoint."""
        if self.whole:
            return checkpoint
        return checkpoint.with_name(f"{checkpoint.name}.items-{self.first}-{self.last}")


@dataclasses.dataclass(frozen=True)
class Need:
    """Memory that a solve takes [bytes]: fixed, and for every item that is solved at once."""

    fixed: int
    item: int

    def of(self, items: int) -> int:
        """Bytes for so many items at once."""
        return self.fixed + items * self.item

    def fits(self, budget: int) -> int:
        """How many items at once a budget allows; perhaps none."""
        return max(0, (budget - self.fixed) // self.item)


def items_at_once(
    problem: Problem, algorithm: Algorithm, budget: int | None, checkpoint: Path | None = None
) -> int:
    """How many items of a batch to solve at once.

    All, unless a generous guess comes near half of the budget. Then what one and two items take in a few iterations
    (`measure_need`) is compared with it. Without a budget, 0.8 of what is free on the device are taken for one.
    A checkpoint that exists decides: its groups go on.

    Raises:
        OutOfMemoryError: not even one item fits.
    """
    kept = None if checkpoint is None else _kept(checkpoint, problem.items)
    if kept is not None:
        return kept
    free = free_on(problem.y.device) if budget is None else budget
    guess = IMAGES * size_of(problem.start_like(1)) + DATA * size_of(problem.y[0])
    if problem.items * guess < free / 2 or (budget is None and problem.items == 1):
        return problem.items
    budget = int(SHARE * free) if budget is None else budget
    need = measure_need(problem, algorithm)
    fits = need.fits(budget)
    if not fits:
        raise OutOfMemoryError(
            f"one item takes about {in_words(need.of(1))} at once, more than the {in_words(budget)} of memory that "
            f"may be used: give memory='{in_words(1.05 * need.of(1)).replace(' ', '')}' or more if the machine has it, "
            "or a smaller image"
        )
    groups = math.ceil(problem.items / fits)
    return math.ceil(problem.items / groups)


def measure_need(problem: Problem, algorithm: Algorithm) -> Need:
    """The memory that solving takes, from the first iterations of one and of two items.

    Fixed is what all items share (the operator's matrix), the whole batch's data and the images of all of it.
    """
    _ = problem.terms, _peak(problem, algorithm, 1)  # what is made once and kept is there now
    one, state = _peak(problem, algorithm, 1)
    image, two = size_of(problem.start_like(1)), one
    if problem.items > 1:
        try:
            two, _ = _peak(problem, algorithm, 2)
        except Exception as error:
            if not ran_out(error):
                raise
            two = 2 * one
    item = max(two - one, 2 * state, 2 * image)  # at least the state before and after a step
    given = (problem.y, problem.x0, problem.reference, *vars(problem.item_fidelity).values())
    fixed = max(0, one - item) + size_of(given) + 2 * problem.items * image
    return Need(int(fixed), int(MARGIN * item))


def _peak(problem: Problem, algorithm: Algorithm, items: int) -> tuple[int, int]:
    """Bytes at the most, and of the state, in the first iterations of so many items (of the search for a weight)."""
    part = problem.select(torch.arange(items, device=problem.y.device))
    gc.collect()
    with measured(problem.y.device) as peak:
        if any(term.automatic for term in problem.terms):
            twins = part.beside(part.y)
            state = algorithm.start(twins)
            kept = map_tensors(state, torch.clone)
            for _ in range(2):
                state = algorithm.step(twins, state)
            twins.operator(twins.project(algorithm.image(state)))
            kept_size = size_of(list(vars(kept).values()))
        else:
            loop = Loop(part, algorithm, MaxIterations(3), {})
            with suppress(DivergenceError):  # the solve itself will say so
                for _ in range(2):
                    loop.advance()
            kept_size = size_of(list(vars(loop.state).values()))
    return peak[0], kept_size


def out_of_memory(problem: Problem, algorithm: Algorithm, error: Exception) -> OutOfMemoryError:
    """What to say when memory ran out: how many items fit."""
    device = problem.y.device
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        need = measure_need(problem, algorithm)
    except Exception as again:
        if not ran_out(again):
            raise
        return OutOfMemoryError(
            f"one item alone takes more memory than {device} has left, {in_words(free_on(device))} ({reason}): solve "
            "on a device with more, take a smaller image, or dtype=torch.float32"
        )
    fits = min(problem.items, need.fits(free_on(device)))
    advice = (
        f"{fits} at once fit: give memory='{in_words(need.of(fits)).replace(' ', '')}'"
        if fits
        else "give a device with more memory, or a smaller image"
    )
    return OutOfMemoryError(
        f"solving {problem.items} items ran out of memory on {device} ({reason}). An item takes about "
        f"{in_words(need.item)} and all together {in_words(need.fixed)} more, of which "
        f"{in_words(free_on(device))} are free: {advice}"
    )


def solve_in_groups(problem: Problem, size: int, solve: Callable[[Problem, Group], Solved]) -> Solved:
    """Solve a batch ``size`` items at a time and merge what comes.

    A user who ends one group ends those after it: they stay at their start.

    Raises:
        DivergenceError: of a group; its image holds all items, those not begun at their start.
    """
    places = torch.arange(problem.items, device=problem.y.device).split(size)
    seconds, ended = 0.0, ""
    done: list[Solved] = []
    for number, here in enumerate(places):
        group = Group(int(here[0]), int(here[-1]), problem.items, seconds, len(places) - number, ended)
        part = problem if group.whole else problem.select(here)
        try:
            solved = solve(part, group)
        except DivergenceError as error:
            if group.whole:
                raise
            rest = problem.select(torch.cat(places[number + 1 :])) if number + 1 < len(places) else None
            shape = problem.visible(problem.start[:1]).shape[1:]
            images = [problem.visible(other.outcome.image) for other in done]
            images += [error.image.reshape(-1, *shape)]
            images += [] if rest is None else [rest.visible(rest.project(rest.start))]
            where = f" (an item of {group.first} to {group.last}, which were solved together)"
            raise DivergenceError(
                f"{error}{where}", torch.cat(images).reshape(*problem.batch_shape, *shape), error.iteration
            ) from None
        done.append(solved)
        seconds = solved.outcome.seconds
        ended = next((reason for reason in solved.outcome.reasons if reason in (INTERRUPTED, STOPPED)), "")
    problem.strength = torch.cat([solved.strength for solved in done])
    return done[0] if len(done) == 1 else _merged(done)


def _merged(groups: list[Solved]) -> Solved:
    outcomes = [group.outcome for group in groups]
    return Solved(
        Outcome(
            torch.cat([outcome.image for outcome in outcomes]),
            _merged_history([outcome.history for outcome in outcomes]),
            [reason for outcome in outcomes for reason in outcome.reasons],
            [fine for outcome in outcomes for fine in outcome.converged],
            [count for outcome in outcomes for count in outcome.iterations],
            outcomes[-1].seconds,
            outcomes[-1].part,
            outcomes[-1].state,
        ),
        torch.cat([group.strength for group in groups]),
        _merged_rounds([(group.rounds, len(group.strength)) for group in groups]),
    )


def _merged_history(histories: list[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """One history of all groups: a record wherever one of them has one; the others repeat their latest.

    The seconds of a record are the sum of those that every group took up to there.
    """
    iterations = sorted({iteration for history in histories for iteration in history["iteration"]})
    rows = []
    for history in histories:
        latest, row = 0, []
        for iteration in iterations:
            while latest + 1 < len(history["iteration"]) and history["iteration"][latest + 1] <= iteration:
                latest += 1
            row.append(latest)
        rows.append(row)
    begun = [0.0, *(history["seconds"][-1] for history in histories[:-1])]
    merged: dict[str, list[Any]] = {"iteration": iterations}
    merged["seconds"] = [
        sum(h["seconds"][row[k]] - b for h, row, b in zip(histories, rows, begun, strict=True))
        for k in range(len(iterations))
    ]
    names = [name for history in histories for name in history if name not in merged]
    for name in dict.fromkeys(names):
        columns = []
        for history, row in zip(histories, rows, strict=True):
            items = len(history["objective"][0])
            column = history.get(name, [[float("nan")] * items for _ in history["iteration"]])
            columns.append([column[place] for place in row])
        merged[name] = [[value for part in parts for value in part] for parts in zip(*columns, strict=True)]
    return merged


def _merged_rounds(groups: list[tuple[list[dict[str, Any]], int]]) -> list[dict[str, Any]]:
    """The looks of all groups side by side; a group that was done before keeps its last."""
    count = max(len(rounds) for rounds, _ in groups)
    names = next((list(rounds[0]) for rounds, _ in groups if rounds), [])
    merged = []
    for look in range(count):
        record: dict[str, Any] = {name: [] for name in names}
        for rounds, items in groups:
            for name in names:
                nothing = [float("nan")] * items
                record[name] += rounds[min(look, len(rounds) - 1)][name] if rounds else nothing
        merged.append(record)
    return merged


def _kept(checkpoint: Path, items: int) -> int | None:
    """How many items at once a checkpoint was begun with; None if there is none."""
    if checkpoint.exists():
        return items
    for path in sorted(checkpoint.parent.glob(f"{checkpoint.name}.items-0-*")):
        found = re.fullmatch(r"items-0-(\d+)", path.name.removeprefix(f"{checkpoint.name}."))
        if found:
            return min(items, int(found[1]) + 1)
    return None
