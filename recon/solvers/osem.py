"""OSEM: expectation maximisation of emission scans over ordered subsets; one subset is MLEM."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
from torch import Tensor

from recon.emission import Emission
from recon.linear import Identity
from recon.parameters import Param
from recon.problem import Problem
from recon.solvers.algorithm import refuse_generator
from recon.stopping import MaxIterations, RelativeChange, StoppingRule
from recon.subsets import Subset


@dataclasses.dataclass
class OSEMState:
    """Image ``(B, *shape)``, and the sensitivity A_s^T 1 of every subset, ``(B, *shape)`` each."""

    x: Tensor
    sensitivity: list[Tensor]


class OSEM:
    """Fit x >= 0 to emission counts y ~ Poisson(A x + r) (Shepp and Vardi 1982; Hudson and Larkin 1994).

    For every subset s of the data in turn, an iteration going through all of them:

        x = x / (A_s^T 1) * A_s^T (y_s / (A_s x + r_s))

    With one subset this is MLEM: the likelihood never falls, and x goes to a maximum of it. With more it is about as
    many times faster at first and then goes round near the maximum. Pixels that no ray of a subset meets stay. Noise
    grows with the iterations: it takes no prior but x >= 0, which it keeps anyway; to regularise use ``pdhg`` or
    ``admm`` with fidelity ``"emission"``.

    Args:
        subsets: number of ordered subsets; more than one needs `LinearOperator.subsets`.
    """

    def __init__(
        self, subsets: Annotated[int, Param("number of ordered subsets; 1 is MLEM", ge=1)] = 8
    ) -> None:
        if int(subsets) != subsets or subsets < 1:
            raise ValueError(f"subsets must be a whole number >= 1, got {subsets!r}")
        self.subsets = int(subsets)

    def start(self, problem: Problem) -> OSEMState:
        """x0 where it is positive, and a little above zero elsewhere; without x0 a constant that explains the counts.

        Raises:
            ValueError: another data term, an operator with negative entries, or a prior.
        """
        solver = type(self).__name__.lower()
        refuse_generator(problem, solver)
        name = problem.item_fidelity.name
        if not isinstance(problem.item_fidelity, Emission):
            raise ValueError(
                f"solver={solver!r} is for counts, fidelity 'emission' (with no prior), got {name!r}: use solver='lsqr'"
            )
        if not problem.operator.nonnegative:
            raise ValueError(
                f"solver={solver!r} needs an operator without negative entries, which "
                f"{type(problem.operator).__name__} does not promise (`nonnegative`): use solver='pdhg'"
            )
        for term in problem.terms:
            kept = term.constraint and isinstance(term.K, Identity)
            if not (kept and float(term.prior(torch.full((1, 1), 1e9))) == 0):
                raise ValueError(
                    f"solver={solver!r} takes no prior but x >= 0, got {type(term.prior).__name__}: use solver='pdhg'"
                )
        counts = torch.ones_like(problem.y)
        sensitivity = [part.operator.adjoint(part.of(counts)) for part in self._subsets(problem)]
        return OSEMState(self._first(problem, sum(sensitivity[1:], start=sensitivity[0])), sensitivity)

    def step(self, problem: Problem, state: OSEMState) -> OSEMState:
        """One pass through the subsets."""
        x, term = state.x, problem.item_fidelity
        assert isinstance(term, Emission)
        for part, sensitivity in zip(self._subsets(problem), state.sensitivity, strict=True):
            expected = part.operator(x) + part.of(term.background.expand_as(problem.y))
            counts = part.of(problem.y)
            ratio = torch.where(expected > 0, counts / expected.clamp_min(1e-30), 0)
            met = sensitivity > 0
            x = torch.where(met, x * part.operator.adjoint(ratio) / torch.where(met, sensitivity, 1), x)
        return OSEMState(x, state.sensitivity)

    def image(self, state: OSEMState) -> Tensor:
        """The image x."""
        return state.x

    def account(self, problem: Problem, state: OSEMState) -> list[str]:
        """Subsets and steps."""
        count = len(state.sensitivity)
        subsets = "all data at once" if count == 1 else f"{count} subsets of the data in turn"
        return [
            f"An iteration takes {subsets}; every pixel is multiplied by the ratio of measured to expected counts over "
            "its sensitivity: there is no step size. Noise grows with the iterations."
        ]

    def default_stop(self) -> StoppingRule:
        """A relative change below 1e-3, or 100 iterations."""
        return RelativeChange(1e-3) | MaxIterations(100)

    def _subsets(self, problem: Problem) -> list[Subset]:
        operator = problem.operator
        if self.subsets == 1:
            return [Subset(operator, (slice(None),) * len(operator.range_shape))]
        held = self.__dict__.setdefault("_held", {})
        if held.get("operator") is not operator:
            held.update(operator=operator, subsets=operator.subsets(self.subsets))
        found: list[Subset] = held["subsets"]
        return found

    def _first(self, problem: Problem, sensitivity: Tensor) -> Tensor:
        axes = tuple(range(1, sensitivity.ndim))
        total = problem.y.flatten(1).sum(1).reshape(-1, *(1,) * len(axes))
        level = total / sensitivity.sum(axes, keepdim=True).clamp_min(1e-30)
        if problem.x0 is None:
            return level.expand_as(sensitivity).clone()
        # a pixel at zero would stay there
        return torch.maximum(problem.x0, 1e-3 * level)

    def __repr__(self) -> str:
        return f"OSEM(subsets={self.subsets})"


class MLEM(OSEM):
    """`OSEM` with one subset: the likelihood never falls."""

    def __init__(self) -> None:
        super().__init__(1)

    def __repr__(self) -> str:
        return "MLEM()"
