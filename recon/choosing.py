"""Which algorithm solves a problem when the user does not say, and why."""

from __future__ import annotations

import dataclasses
from typing import Any

from recon import registry
from recon.priors import Denoiser, Functional
from recon.problem import Problem
from recon.registry import UnknownNameError
from recon.solvers.admm import ADMM
from recon.solvers.algorithm import Algorithm
from recon.solvers.cg import CG
from recon.solvers.direct import Direct
from recon.solvers.feedforward import Feedforward

Named = str | tuple[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class SolverChoice:
    """An algorithm and how it came to be used.

    Attributes:
        algorithm: that solves the problem.
        asked: what the user asked for: ``"auto"``, another name, or the algorithm itself as text.
        why: a sentence.
    """

    algorithm: Algorithm
    asked: str
    why: str


def chosen_solver(solver: Algorithm | Named, problem: Problem) -> SolverChoice:
    """The algorithm of that name, or the one that fits the problem for ``"auto"``.

    Raises:
        LookupError, TypeError, ValueError: no such solver, or arguments that it does not take.
    """
    if not isinstance(solver, str | tuple):
        for method in ("start", "step", "image", "default_stop"):
            if not callable(getattr(solver, method, None)):
                raise TypeError(f"{type(solver).__name__} is no solver: it has no method {method!r}")
        return SolverChoice(solver, repr(solver), "it was asked for")
    if solver != "auto":
        asked = solver if isinstance(solver, str) else solver[0]
        return SolverChoice(registry.make("solver", solver), asked, "it was asked for")
    try:
        answer = registry.choose_solver(problem.operator, problem.prior)
    except UnknownNameError:
        algorithm, why = default_solver(problem)
        return SolverChoice(algorithm, "auto", why)
    return SolverChoice(
        registry.make("solver", answer), "auto", f"a plugin chose {answer!r} for this operator and prior"
    )


def default_solver(problem: Problem) -> tuple[Algorithm, str]:
    """The core's own choice and its reason: direct without a prior, CG for quadratic priors, else ADMM."""
    if problem.generator is not None:
        return registry.make("solver", "dip"), "the image is what a generator makes, whose weights are fitted"
    if any(isinstance(term.prior, Denoiser) and term.prior.end_to_end for term in problem.terms):
        return Feedforward(), "the network was trained to give the image in one step"
    if not problem.terms:
        return Direct(), "there is no prior: the operator's direct reconstruction is all that can be said"
    quadratic = all(isinstance(term.prior, Functional) and term.prior.quadratic for term in problem.terms)
    if quadratic and problem.item_fidelity.quadratic:
        return CG(), "data term and priors are quadratic: one linear system, for which nothing is faster"
    return ADMM(), "a prior is not quadratic, and every functional, constraint and denoiser can be split off"
