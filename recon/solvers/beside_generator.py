"""The automatic weight of a prior that stands beside a generator: a share of the one that it has alone."""

from __future__ import annotations

import copy

from recon.priors import Generator, SumOfPriors
from recon.problem import Problem
from recon.solvers.admm import ADMM, ADMMState
from recon.solvers.generator_fit import check_priors

SHARED = 0.4
"""Of the weight that fits the noise without a generator, what suits beside one: Baguer et al. 2020 found by grids
3.2e-4 in place of 7.7e-4 on the Ellipses, and 7.0 in place of 20.6 on LoDoPaB."""


class WithoutGenerator(ADMM):
    """ADMM on the problem without its generator, at 1/SHARED of the weight that the search believes in."""

    def start(self, problem: Problem) -> ADMMState:
        check_priors(problem)
        return super().start(_without_generator(problem))

    def step(self, problem: Problem, state: ADMMState) -> ADMMState:
        return super().step(_without_generator(problem), state)


def _without_generator(problem: Problem) -> Problem:
    part = copy.copy(problem)
    assert problem.prior is not None
    part.prior = SumOfPriors([one for one in problem.prior.members if not isinstance(one, Generator)])
    part.strength = problem.strength / SHARED
    return part
