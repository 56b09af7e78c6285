"""An algorithm led from one weight to the next, each from where the last one ended."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from recon.problem import Problem
from recon.runner import DivergenceError
from recon.solvers.algorithm import Algorithm, map_tensors, norm, own_stop, put, reweighted, select
from recon.stopping import AnyOf, MaxIterations, Progress, RelativeChange, SmallResiduals, StoppingRule
from recon.weight import Watch


def settled(algorithm: Algorithm, problem: Problem, most: int) -> StoppingRule:
    """When an algorithm has settled at a weight well enough to judge it: twice its own tolerance, or ``most`` steps.

    One that follows a plan to its end is judged there.
    """
    own = own_stop(algorithm, problem)
    if any(isinstance(rule, MaxIterations) and rule.means_converged for rule in own.members):
        return own
    measured = [rule for rule in own.members if isinstance(rule, RelativeChange | SmallResiduals)]
    rules = [type(rule)(2 * rule.tolerance) for rule in measured] or [SmallResiduals(2e-3)]
    return AnyOf([*rules, MaxIterations(most)])


class WalkEnded(Exception):  # noqa: N818
    """A watch has ended the walk; the text says why."""


class Walk:
    """Items, and twins of them where there are any, that are solved at one weight after another.

    An item and its twin take the same number of iterations, so that they differ by their data alone. An item
    depends on its own weights only, whatever its mates do.

    Args:
        problem: the items; with twins, followed by as many twins.
        algorithm: what solves them.
        rule: when a weight is done.
        twins: whether the second half of the items are twins of the first.
        watch: asked after every iteration whether to end.

    Attributes:
        state: of every item, twins included; where a walk was ended, as far as it had come.
        strength: the weight of each item that its state belongs to.
        iterations: taken by each item at its present weight.
        converged: whether what ended them there means that item and twin are solved.
    """

    least = 3
    """Iterations after a change of weight before the rule is asked: residuals lag behind."""

    def __init__(
        self,
        problem: Problem,
        algorithm: Algorithm,
        rule: StoppingRule,
        *,
        twins: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self.problem, self.algorithm, self.rule = problem, algorithm, rule
        self.watch = watch
        self.groups = 2 if twins else 1
        self.items = problem.items // self.groups
        self.began = time.perf_counter()
        self.state = map_tensors(algorithm.start(problem), torch.clone)
        self.iterations = torch.zeros(self.items, dtype=torch.long)
        self.converged = torch.zeros(self.items, dtype=torch.bool)
        self.strength = problem.strength[: self.items].clone()
        self.fresh = True

    def places(self, items: Tensor) -> Tensor:
        """Of these items and their twins."""
        return torch.cat([items + group * self.items for group in range(self.groups)])

    def to(self, items: Tensor, strength: Tensor) -> Tensor:
        """Solve these items at a weight each, from where they are; their images, twins after items.

        Raises:
            DivergenceError: the iteration left the finite numbers.
            WalkEnded: the watch said so.
        """
        everyone = self.places(items)
        part = self.problem.select(everyone)
        part.strength = strength.to(self.problem.strength).repeat(self.groups)
        self.strength[items] = part.strength[: len(items)]
        state = select(self.state, everyone)
        if not self.fresh:
            state = reweighted(self.algorithm, part, state)
        self.fresh = False
        images = part.project(self.algorithm.image(state)).clone()
        self._settle(part, state, items, images)
        return images

    def _settle(self, part: Problem, state: Any, items: Tensor, images: Tensor) -> None:
        """Iterate until the rule fires for item and twin, writing images and states of those that are done."""
        here = torch.arange(len(items), device=items.device)  # places among `items` that still run
        last, count, iteration = images, len(items), 0
        while here.numel():
            try:
                state = self.algorithm.step(part, state)
                self._ask_watch(items[here], part, state)
            except (KeyboardInterrupt, WalkEnded):
                put(self.state, self.places(items[here]), state)
                raise
            iteration += 1
            now = part.project(self.algorithm.image(state))
            change = (norm(now - last) / norm(now).clamp_min(1e-30)).to(part.strength)
            if not bool(torch.isfinite(change).all()):
                raise DivergenceError(
                    f"{self.algorithm!r} diverged at weight {float(part.strength[~torch.isfinite(change)][0]):.3g}. "
                    "Check the data's scale and the operator's adjoint (recon check), or give a weight",
                    self.problem.start[: self.items],
                    iteration,
                )
            last = now
            fired = self._fired(part, state, now, change, iteration)
            done, solved = (mask.reshape(self.groups, -1).all(0) for mask in fired)
            if not bool(done.any()):
                continue
            finished = torch.cat([here[done] + group * count for group in range(self.groups)])
            rows = done.repeat(self.groups).nonzero().squeeze(1)
            images[finished] = now[rows]
            put(self.state, self.places(items[here[done]]), select(state, rows))
            self.iterations[items[here[done]].cpu()] = iteration
            self.converged[items[here[done]].cpu()] = solved[done].cpu()
            rest = (~done).repeat(self.groups).nonzero().squeeze(1)
            here = here[~done]
            if here.numel():
                part, state, last = part.select(rest), select(state, rest), now[rest]

    def _ask_watch(self, items: Tensor, part: Problem, state: Any) -> None:
        if self.watch is None:
            return
        ended = self.watch(items, lambda: part.project(self.algorithm.image(state))[: len(items)])
        if ended:
            raise WalkEnded(ended)

    def _fired(
        self, part: Problem, state: Any, image: Tensor, change: Tensor, iteration: int
    ) -> tuple[Tensor, Tensor]:
        """Which items may stop, and which of them because they are solved."""
        fired = torch.zeros_like(change, dtype=torch.bool)
        solved = torch.zeros_like(fired)
        if iteration < self.least:
            return fired, solved
        progress = Progress(
            iteration,
            time.perf_counter() - self.began,
            change,
            getattr(state, "primal", None),
            getattr(state, "dual", None),
            lambda: part.residual_norm(image).to(part.noise_norm) / part.noise_norm.clamp_min(1e-30),
        )
        for rule, mask in self.rule.check(progress):
            fired = fired | mask
            solved = solved | mask if rule.means_converged else solved
        return fired, solved
