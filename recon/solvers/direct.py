"""The direct reconstruction: the operator's own inverse, in one step."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from recon.problem import Problem
from recon.solvers.algorithm import refuse_unseen_data_term
from recon.stopping import Progress, StoppingRule


@dataclasses.dataclass
class DirectState:
    """The image."""

    x: Tensor


class Done(StoppingRule):
    """Fires after the first iteration: nothing is iterated.

    Args:
        what: was done, in a word or two.
    """

    def __init__(self, what: str = "direct reconstruction") -> None:
        self.what = what

    def fires(self, progress: Progress) -> Tensor:
        """All items."""
        return torch.ones_like(progress.change, dtype=torch.bool)

    def __repr__(self) -> str:
        return self.what


class Direct:
    """x = A^+ y: filtered back-projection, zero-filled inverse FFT, ... as the operator defines `pinv`."""

    unused = {"stop": "takes one step", "x0": "starts from no image"}  # noqa: RUF012

    def start(self, problem: Problem) -> DirectState:
        """The direct reconstruction.

        Raises:
            ValueError: a prior, or a data term that does not compare the data.
        """
        refuse_unseen_data_term(problem, "direct")
        if problem.terms or problem.generator is not None:
            raise ValueError(
                "solver='direct' takes no prior: leave the prior out (None), or choose solver='admm'"
            )
        return DirectState(problem.operator.pinv(problem.usable_data))

    def step(self, problem: Problem, state: DirectState) -> DirectState:
        """Nothing is left to do."""
        return state

    def image(self, state: DirectState) -> Tensor:
        """The image."""
        return state.x

    def account(self, problem: Problem, state: DirectState) -> list[str]:
        """What was applied."""
        said = [f"{type(problem.operator).__name__}.pinv, applied once: nothing is chosen, nothing iterated."]
        if problem.item_fidelity.weights is not None or not problem.item_fidelity.quadratic:
            said.append("It looks at the data term for samples of weight 0 alone, which it fills in.")
        return said

    def default_stop(self) -> StoppingRule:
        """At once."""
        return Done()

    def __repr__(self) -> str:
        return "Direct()"
