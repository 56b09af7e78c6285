"""What an algorithm is: start, step and image over a dataclass of tensors."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import torch
from torch import Tensor

from recon.priors import Denoiser
from recon.problem import Problem
from recon.stopping import MaxIterations, SmallResiduals, StoppingRule


class Algorithm(Protocol):
    """Three functions over a state: it knows no progress bar, no file, no clock.

    A state is a dataclass whose fields are tensors with one leading item axis, or lists of such tensors;
    fields named ``primal`` and ``dual`` (one value an item) are shown to stopping rules. `step` leaves the
    old state as it was. A method ``reweighted(problem, state)``, where there is one, gives the state to go
    on from after the weight of a prior has changed; without one, the state itself is. A method ``searching()``
    gives the algorithm that finds an automatic weight, where a setting of this one would not follow the weight; then
    ``check(problem)`` refuses what `start` would refuse, before the search rather than after it.
    A method ``account(problem, state)`` says in a list of sentences what it chose for itself, such as step sizes
    and penalties and where they came from; `Solution.explain` repeats them.

    Where there are such methods, `stop_for(problem)` is asked in place of `default_stop`, rules that measure the
    variance watch `iterate(state)` in place of the image, `validation(state)` is the error on measurements kept back
    from the fit (None: there are none), and `measures(problem, state, predicted)` adds values to the history by name,
    one an item. ``unused`` names the settings of `recon.solve` that it cannot look at, among ``weight``, ``stop`` and
    ``x0``, each with the reason: given nevertheless, they are refused.
    """

    def start(self, problem: Problem) -> Any:
        """The first state."""

    def step(self, problem: Problem, state: Any) -> Any:
        """The next state."""

    def image(self, state: Any) -> Tensor:
        """The reconstruction ``(B, *domain_shape)`` that a state stands for."""

    def default_stop(self) -> StoppingRule:
        """When to stop if the user does not say."""


class Iterative:
    """Defaults shared by the algorithms here: 500 iterations at most, residuals below 1e-3."""

    def default_stop(self) -> StoppingRule:
        """Relative residuals below 1e-3, or 500 iterations."""
        return SmallResiduals(1e-3) | MaxIterations(500)


def refuse_generator(problem: Problem, name: str) -> None:
    """Raise ValueError if the prior has a generator, of which the algorithm of this name knows nothing."""
    if problem.generator is not None:
        raise ValueError(
            f"solver={name!r} takes no generator, got the prior {type(problem.generator).__name__}: choose a solver "
            "that fits the generator's weights to the data, or leave this prior out"
        )


def refuse_without_prox(problem: Problem, name: str) -> None:
    """Raise ValueError if the data term has no proximal map, which the algorithm of this name needs."""
    if not problem.item_fidelity.proximal:
        raise ValueError(
            f"solver={name!r} needs a proximal map of the data term, and fidelity {problem.item_fidelity.name!r} has "
            "none: use solver='dip' with a generator such as the prior 'dip'"
        )


def refuse_unseen_data_term(problem: Problem, name: str) -> None:
    """Raise ValueError if the data term does not compare data, which an algorithm that applies an inverse relies on."""
    if not problem.item_fidelity.proximal:
        raise ValueError(
            f"solver={name!r} inverts the data themselves, which fidelity {problem.item_fidelity.name!r} does not "
            "compare: use solver='dip' with a generator such as the prior 'dip'"
        )


def refuse_denoisers(problem: Problem, name: str) -> None:
    """Raise ValueError if the prior has a denoiser, which has no functional to minimise."""
    for term in problem.terms:
        if isinstance(term.prior, Denoiser):
            raise ValueError(
                f"solver={name!r} minimises functionals, got the prior {type(term.prior).__name__}, a denoiser: use "
                "solver='admm'"
            )


def looks_at(algorithm: Algorithm, setting: str) -> bool:
    """Whether a setting of `recon.solve` changes anything for the algorithm."""
    return setting not in getattr(algorithm, "unused", {})


def refuse_unused(algorithm: Algorithm, **given: Any) -> None:
    """Raise ValueError if a setting was given that the algorithm cannot look at."""
    for setting, value in given.items():
        if value is not None and not looks_at(algorithm, setting):
            why = getattr(algorithm, "unused")[setting]  # noqa: B009
            raise ValueError(
                f"{setting} was given, but the solver {type(algorithm).__name__.lower()} {why}: leave {setting} "
                "out, or choose another solver"
            )


def own_stop(algorithm: Algorithm, problem: Problem) -> StoppingRule:
    """The algorithm's own rule, for this problem where it knows one."""
    for_problem = getattr(algorithm, "stop_for", None)
    rule: StoppingRule = algorithm.default_stop() if for_problem is None else for_problem(problem)
    return rule


def select(state: Any, items: Tensor) -> Any:
    """A state for some of its items."""
    return map_tensors(state, lambda tensor: tensor[items])


def reweighted(algorithm: Algorithm, problem: Problem, state: Any) -> Any:
    """The state to go on from after the weight of a prior has changed."""
    change = getattr(algorithm, "reweighted", None)
    return state if change is None else change(problem, state)


def put(state: Any, items: Tensor, part: Any) -> None:
    """Write the states of some items into a state of all, in place."""
    for field in dataclasses.fields(state):
        whole, new = getattr(state, field.name), getattr(part, field.name)
        pairs = [(whole, new)] if isinstance(whole, Tensor) else zip(whole, new, strict=True)
        for target, source in pairs:
            target[items] = source.to(target.dtype)


def map_tensors(state: Any, change: Any) -> Any:
    """The state with every tensor changed."""
    changed = {}
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if isinstance(value, Tensor):
            changed[field.name] = change(value)
        elif isinstance(value, list):
            changed[field.name] = [change(tensor) for tensor in value]
    return dataclasses.replace(state, **changed)


def per_item(values: Tensor, like: Tensor) -> Tensor:
    """One value an item, shaped to multiply tensors ``like`` (B, ...)."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Real part of <a, b> of each item."""
    if a.is_complex():
        a, b = torch.view_as_real(a), torch.view_as_real(b)
    return torch.linalg.vecdot(a.flatten(1), b.flatten(1))  # not reshape: a batch may be empty


def norm(a: Tensor) -> Tensor:
    """Euclidean norm of each item (torch's vector_norm along an axis is ten times slower)."""
    return inner(a, a).sqrt()
