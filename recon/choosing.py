"""Which algorithm solves a problem when the user does not say, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from recon import registry
from recon.linear import Identity, complex_dtype, real_dtype
from recon.priors import Denoiser, Functional
from recon.problem import Problem
from recon.registry import UnknownNameError
from recon.solvers.admm import ADMM
from recon.solvers.algorithm import Algorithm
from recon.solvers.cg import CG
from recon.solvers.dip import DIP
from recon.solvers.direct import Direct
from recon.solvers.feedforward import Feedforward
from recon.solvers.fista import FISTA
from recon.solvers.hqs import HQS
from recon.solvers.splitting import Splitting
from recon.terms import Term

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
        trained = as_trained(problem)
        if trained is not None:
            return SolverChoice(trained, "auto", _why_as_trained(problem))
        name, why = preferred(problem, known_solvers())
        own = OWN.get(name)
        return SolverChoice(registry.make("solver", name) if own is None else own(), "auto", why)
    return SolverChoice(
        registry.make("solver", answer), "auto", f"a plugin chose {answer!r} for this operator and prior"
    )


def as_trained(problem: Problem) -> Algorithm | None:
    """The splitting in which a network of the prior was trained, as its card says; None for other priors."""
    for term in problem.terms:
        objective = _objective_of(term)
        if objective.get("name") == "splitting":
            return Splitting(**{name: objective[name] for name in ("rho", "eta", "decay", "loops")})
    return None


def _objective_of(term: Term) -> dict[str, Any]:
    """What the card of a learned prior says of its training's objective; empty for other priors."""
    return getattr(term.prior, "card", {}).get("objective") or {}


def _why_as_trained(problem: Problem) -> str:
    why = "the network was trained in turn with the data: it is applied so, with the settings of its training"
    beside = next(
        found for term in problem.terms if (found := _objective_of(term)).get("name") == "splitting"
    )
    if beside.get("prior") and len(problem.terms) == 1:
        why += f"; in training {beside['prior']} stood beside the data, which is left out here: add it to the prior"
    return why


OWN: dict[str, Callable[[], Algorithm]] = {
    "direct": Direct,
    "cg": CG,
    "fista": FISTA,
    "admm": ADMM,
    "hqs": HQS,
    "dip": DIP,
    "feedforward": Feedforward,
}
"""What is there without any plugin."""


def known_solvers() -> frozenset[str]:
    """The names of all solvers that can be made."""
    return frozenset(OWN) | {found.entry.name for found in registry.items("solver") if not found.missing()}


def preferred(problem: Problem, known: frozenset[str]) -> tuple[str, str]:
    """The core's own choice and its reason.

    A network that was trained by splitting is applied so before any of these (`as_trained`). The first that fits of:

    1. a generator: ``dip``;
    2. a network trained end to end: ``feedforward``, where it is known;
    3. no prior: ``direct``;
    4. data term and priors all quadratic: ``cg``;
    5. least squares, one convex functional of the image itself or of an orthonormal transform (and quadratic ones),
       and no closed form of ADMM's x-step: ``fista``, where it is known. It needs no inner solver: half the time of
       ADMM for l1 and CT, a fifth for l1 and a dense matrix;
    6. least squares and one denoiser that was trained for any noise level: ``hqs``, where it is known. Its noise
       levels fall from those of aliasing to that of the data: 0 to 2 dB more than ADMM at one level in CT and MRI, and
       half the passes;
    7. else ``admm``. Primal-dual hybrid gradients were at best on a par with it, with a preconditioner and without.

    Args:
        problem: to be solved.
        known: names of the solvers that there are.
    """
    if problem.generator is not None:
        return "dip", "the image is what a generator makes, whose weights are fitted"
    if "feedforward" in known and any(getattr(term.prior, "end_to_end", False) for term in problem.terms):
        return "feedforward", "the network was trained end to end: it is applied once"
    if not problem.terms:
        return "direct", "there is no prior: the operator's direct reconstruction is all that can be said"
    least_squares = problem.item_fidelity.quadratic
    other = [t for t in problem.terms if not (isinstance(t.prior, Functional) and t.prior.quadratic)]
    if not other and least_squares:
        return "cg", "data term and priors are quadratic: one linear system, for which nothing is faster"
    if least_squares and "fista" in known and _on_image(other) and not has_closed_form(problem):
        why = (
            "one prior acts on the image itself, and the operator knows no closed form of the x-step of ADMM"
        )
        return "fista", why
    denoisers = [term.prior for term in problem.terms if isinstance(term.prior, Denoiser)]
    if least_squares and "hqs" in known and len(denoisers) == 1 and denoisers[0].conditioned:
        return "hqs", (
            "the denoiser was trained for any noise level: it starts at a high one, for what undersampling leaves in "
            "the first image, and falls to that of the data"
        )
    return "admm", "a prior is not quadratic, and every functional, constraint and denoiser can be split off"


def _on_image(terms: Sequence[Term]) -> bool:
    """Whether this is one convex functional of the image itself, or of an orthonormal transform of it."""
    if len(terms) != 1 or not isinstance(terms[0].prior, Functional) or not terms[0].prior.convex:
        return False
    K = terms[0].K
    return isinstance(K, Identity) or bool(getattr(K, "orthonormal", False))


def has_closed_form(problem: Problem) -> bool:
    """Whether the operator solves (A^H A + sum_i K_i^H K_i) x = b at once."""
    if problem.item_fidelity.weights is not None:
        return False
    maps, ones = [term.K for term in problem.terms], [1.0] * len(problem.terms)
    kind = complex_dtype(problem.y.dtype) if problem.is_complex else real_dtype(problem.y.dtype)
    b = torch.zeros((1, *problem.operator.domain_shape), dtype=kind, device=problem.y.device)
    with torch.no_grad():
        return problem.operator.solve_gram(b, ones, maps) is not None
