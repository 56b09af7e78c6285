"""The reconstructions at many weights, each begun where the last one ended."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recon.choosing import Named, chosen_solver
from recon.items import psnr_of_items
from recon.lifting import lifted
from recon.linear import LinearOperator
from recon.priors import Prior, checked_weight
from recon.problem import Problem
from recon.solvers.algorithm import Algorithm
from recon.solving import posed, weighted
from recon.stopping import StoppingRule
from recon.weight import first_guess
from recon.weight_rules.sure import Twins
from recon.weight_rules.sure import risk as estimated_risk
from recon.weight_rules.walking import Walk

DECADES, PER_DECADE = 2, 4  # of the default weights, to either side of the first guess


@dataclasses.dataclass(frozen=True)
class WeightPath:
    """Reconstructions at every weight of a path, in the order in which the weights were given.

    Attributes:
        weights: ``(W,)``.
        images: ``(W, *batch, *domain_shape)``.
        residual: |A x - y|_w, ``(W, *batch)``.
        objective: f(A x; y) + sum g_i(K_i x), likewise; denoisers add nothing.
        risk: estimated squared error of A x over that of the data, likewise (see `choose_by_risk`); None unless
            asked for.
        psnr: against the reference, peak: its largest magnitude, likewise; None without one.
        iterations: taken at each weight from the weight before, likewise.
        converged: whether the stopping rule that ended them means that the problem is solved, likewise.
        seconds: wall time of the whole path.
    """

    weights: Tensor
    images: Tensor
    residual: Tensor
    objective: Tensor
    risk: Tensor | None
    psnr: Tensor | None
    iterations: Tensor
    converged: Tensor
    seconds: float


def weight_path(
    op: LinearOperator | Problem | Named,
    prior: Prior | Named,
    y: Any = None,
    *,
    weights: Sequence[float] | None = None,
    solver: Algorithm | Named = "auto",
    fidelity: Any = "gaussian",
    stop: StoppingRule | None = None,
    x0: Any = None,
    reference: Any = None,
    image_range: tuple[float, float] | None = None,
    risk: bool = False,
    seed: int = 0,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> WeightPath:
    """Solve at many weights of the prior, walking from the largest to the smallest.

    A large weight leaves few degrees of freedom and is solved quickly; every smaller one begins at the image, the
    splits and the duals of the one before. A batch walks all at once, every item for itself.

    Args:
        op: as for `recon.solve`.
        prior: likewise.
        y: likewise.
        weights: at least one, >= 0; None takes 17 from a hundred times to a hundredth of the scale that the noise
            sets (the mean of that scale in a batch).
        solver: as for `recon.solve`.
        fidelity: likewise.
        stop: when a weight is done; None for the algorithm's own rule. A `TimeLimit` counts from the start of the
            path.
        x0: as for `recon.solve`.
        reference: likewise.
        image_range: likewise.
        risk: also estimate the error of the predicted data at every weight, which takes twice the work.
        seed: of that estimate.
        device: as for `recon.solve`.
        dtype: likewise.

    Raises:
        ShapeError, TypeError, ValueError, LookupError: anything that does not fit.
        DivergenceError: the iteration left the finite numbers.
    """
    began = time.perf_counter()
    problem = posed(op, prior, y, fidelity, x0, reference, image_range, device, dtype)
    if problem.prior is None:
        raise ValueError("a path of weights needs a prior to weigh")
    problem = lifted(problem.with_prior(weighted(problem.prior, "auto")))
    algorithm = chosen_solver(solver, problem).algorithm
    with torch.no_grad():
        twins = Twins(problem, seed) if risk else None
        given = _checked(weights) if weights is not None else _around(problem)
        order = torch.argsort(given, descending=True, stable=True)
        rows = _walked(
            problem, algorithm, algorithm.default_stop() if stop is None else stop, given[order], twins
        )
    back = torch.argsort(order)
    columns = {
        name: torch.stack([row[name] for row in rows])[back].reshape(len(given), *problem.batch_shape)
        for name in rows[0]
        if name != "images"
    }
    images = torch.stack([problem.unflatten(row["images"]) for row in rows])[back.to(problem.y.device)]
    return WeightPath(
        given,
        images,
        residual=columns["residual"],
        objective=columns["objective"],
        risk=columns.get("risk"),
        psnr=columns.get("psnr"),
        iterations=columns["iterations"],
        converged=columns["converged"],
        seconds=time.perf_counter() - began,
    )


def _walked(
    problem: Problem, algorithm: Algorithm, rule: StoppingRule, weights: Tensor, twins: Twins | None
) -> list[dict[str, Tensor]]:
    """What was found at each weight, in this order."""
    strength = problem.strength.clone()
    whole = problem if twins is None else twins.problem
    whole.strength = torch.full_like(whole.strength, float(weights[0]))
    walk = Walk(whole, algorithm, rule, twins=twins is not None)
    everything = torch.arange(problem.items, device=strength.device)
    rows = []
    for weight in weights.tolist():
        images = walk.to(everything, torch.full_like(strength, weight))
        part = problem.select(everything)
        part.strength = torch.full_like(strength, weight)
        own = images[: problem.items]
        row = {
            "images": own,
            "residual": part.residual_norm(own).cpu(),
            "objective": part.objective(own).cpu(),
            "iterations": walk.iterations.clone(),
            "converged": walk.converged.clone(),
        }
        if twins is not None:
            row["risk"] = estimated_risk(*twins.measured(everything, images)).cpu()
        if problem.reference is not None:
            row["psnr"] = psnr_of_items(part.visible(own), problem.reference).cpu()
        rows.append(row)
    return rows


def _checked(weights: Sequence[float]) -> Tensor:
    values = [checked_weight(float(weight), "every weight of a path") for weight in weights]
    if not values:
        raise ValueError("weights must hold at least one weight, got none")
    return torch.tensor(values, dtype=torch.float32)


def _around(problem: Problem) -> Tensor:
    """Weights around the scale that the noise sets."""
    scale = float(first_guess(problem, problem.noise_level).log().mean().exp())
    count = DECADES * PER_DECADE
    return (scale * 10.0 ** (torch.arange(count, -count - 1, -1) / PER_DECADE)).to(torch.float32)
