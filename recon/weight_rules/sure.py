"""The weight of the least estimated error: Stein's unbiased risk estimate, its trace by a random perturbation."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recon.linear import real_dtype
from recon.problem import Problem
from recon.runner import INTERRUPTED
from recon.solvers.algorithm import Algorithm, inner, per_item, reweighted, select
from recon.weight import Watch, WeightChoice, first_guess, probe_of, spread
from recon.weight_rules.line_search import LineSearch
from recon.weight_rules.walking import Walk, WalkEnded, settled

if TYPE_CHECKING:
    from recon.checkpoint import SearchCheckpoint

PERTURBATION = 0.1  # of the noise level: 0.3 blurs the minimum, less drowns in what is left to converge
ITERATIONS = 120  # at most at one weight


class Twins:
    """Items and twins with perturbed data, from which the trace of y -> A x is measured.

    df = <b, A x(y + e b) - A x(y)> / e with random signs b, e a tenth of the noise level (Ramani, Blu and Unser 2008),
    in the whitened data where the data term has weights.

    Attributes:
        problem: items, then twins.
        sigma: noise level of each item, at least the rounding of the data.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        self.items = problem
        self.size = problem.item_fidelity.weighted_norm(problem.y).to(problem.strength)
        self.sigma = torch.maximum(problem.noise_level, 1e-6 * self.size / problem.y[0].numel() ** 0.5)
        self.probe = probe_of(problem, seed)
        change = per_item(PERTURBATION * self.sigma, self.probe).to(real_dtype(problem.y.dtype))
        self.problem = problem.beside(problem.y + change * spread(problem) * self.probe)

    def measured(self, places: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """|A x - y|_w^2 / (m sigma^2) and df / m of these items, from their images followed by their twins'."""
        part, sigma = self.items.select(places), self.sigma[places]
        own, shifted = part.operator(images).tensor_split(2)
        count = self.items.measured_values[places]
        misfit = (part.item_fidelity.weighted_norm(own - part.y).to(sigma) / sigma).square() / count
        moved = part.item_fidelity.weighted((shifted - own) * spread(part))
        return misfit, inner(self.probe[places], moved).to(sigma) / (PERTURBATION * sigma * count)


def risk(misfit: Tensor, freedom: Tensor) -> Tensor:
    """Unbiased estimate of |A x - A x_true|_w^2 / (m sigma^2): misfit - 1 + 2 df / m (Stein 1981)."""
    return misfit - 1 + 2 * freedom


def choose_by_risk(
    problem: Problem,
    algorithm: Algorithm,
    seed: int = 0,
    watch: Watch | None = None,
    store: SearchCheckpoint | None = None,
) -> WeightChoice:
    """Choose the weight at which the estimated error of the predicted data is least.

    The error of the prediction A x is estimated, not that of x: for any operator it is unbiased and needs nothing
    but the data, while the error of x itself on the range of A^H (Eldar 2009) takes the pseudo-inverse of A^H A,
    which amplifies the estimate's own spread where A is nearly singular. For denoising, inpainting and single-coil
    Cartesian MRI the two are the same; for blur and CT the prediction says less about fine detail.

    Args:
        problem: with at least one prior of automatic weight.
        algorithm: what will solve it.
        seed: of the perturbation.
        watch: asked after every iteration whether to end.
        store: not used: this search is short, and is begun again.

    Raises:
        DivergenceError: the iteration left the finite numbers.
    """
    twins = Twins(problem, seed)
    strength = torch.where(twins.size > 0, first_guess(problem, twins.sigma), torch.ones_like(twins.size))
    twins.problem.strength = strength.repeat(2)
    walk = Walk(twins.problem, algorithm, settled(algorithm, problem, ITERATIONS), twins=True, watch=watch)
    # blank data give a blank image at any weight
    searches = {int(place): LineSearch(float(strength[place])) for place in torch.nonzero(twins.size > 0)}
    record = {
        name: torch.full_like(strength, torch.nan) for name in ("weight", "risk", "residual", "freedom")
    }
    rounds: list[dict[str, list[float]]] = []
    ended = ""
    try:
        while True:
            asked = {place: w for place, search in searches.items() if (w := search.next()) is not None}
            if not asked:
                break
            places = torch.tensor(list(asked), device=strength.device)
            weights = torch.tensor(list(asked.values()), device=strength.device).to(strength)
            misfit, freedom = twins.measured(places, walk.to(places, weights))
            values = {
                "weight": weights,
                "risk": risk(misfit, freedom),
                "residual": misfit.sqrt(),
                "freedom": freedom,
            }
            for name, value in values.items():
                record[name][places] = value
            rounds.append({name: column.tolist() for name, column in record.items()})
            for place, value in zip(asked, values["risk"].tolist(), strict=True):
                searches[place].tell(value)
    except KeyboardInterrupt:
        ended = INTERRUPTED
    except WalkEnded as reason:
        ended = str(reason)
    if ended:
        strength = walk.strength
    else:
        for place, search in searches.items():
            strength[place] = search.answer()
    everything = torch.arange(problem.items, device=strength.device)
    chosen = problem.select(everything)
    chosen.strength = strength
    if not ended:
        _warn(sum(search.at_end for search in searches.values()), problem.items)
    return WeightChoice(
        strength, reweighted(algorithm, chosen, select(walk.state, everything)), rounds, ended
    )


def _warn(count: int, items: int) -> None:
    if count:
        which = "" if items == 1 else f" of {count} of {items} items"
        warnings.warn(
            f"the weight by SURE{which} went as far as it goes: the estimated error has no minimum inside. Is the "
            'noise level right? Give it, fidelity=("gaussian", {"noise_level": ...}), or give a weight',
            stacklevel=4,
        )
