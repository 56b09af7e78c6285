"""The weight at the corner of the L-curve: misfit against penalty, without the noise level (Hansen 1992)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from recon.priors import Functional
from recon.problem import Problem
from recon.runner import INTERRUPTED
from recon.solvers.algorithm import Algorithm, reweighted, select
from recon.weight import Watch, WeightChoice, first_guess
from recon.weight_rules.walking import Walk, WalkEnded, settled

if TYPE_CHECKING:
    from recon.checkpoint import SearchCheckpoint

WEIGHTS = 10.0 ** np.arange(0.4, -5.7, -0.4)
"""Of the weight at which the data's whole root mean square would be noise: from where hardly more than the prior
is left to where hardly anything is left of it, the largest first."""

ARM = 0.2  # of the curve's length, on either side of the corner: shorter arms turn at every kink
LEAST_TURN = 0.1  # sine of the angle by which the curve turns at a corner; without one it is below 0.01
ITERATIONS = 80  # at most at one weight


class NoCornerError(ValueError):
    """The L-curve of an image has no corner to choose the weight by."""


def choose_by_lcurve(
    problem: Problem,
    algorithm: Algorithm,
    seed: int = 0,
    watch: Watch | None = None,
    store: SearchCheckpoint | None = None,
) -> WeightChoice:
    """Choose the weight at the corner of the L-curve, log misfit |A x - y|_w against log penalty.

    The curve is walked from large to small weights, each solved from where the last one ended. Its corner is where
    it turns most towards the origin: the curvature of the circle through a point and the points a fifth of the
    curve's length to either side. (Curvature by derivatives, as in Hansen and O'Leary 1993, is largest where the curve
    hardly moves at all, at its two ends.) A quadratic penalty enters by its root, |K x|.

    The noise level is not used, which is the rule's merit; it has no guarantee, and on data that an image can fit
    exactly, as in denoising, inpainting and Cartesian MRI of one coil, there is no corner.

    Args:
        problem: with at least one prior of automatic weight, functionals all of them.
        algorithm: what will solve it.
        seed: nothing here is random.

    Raises:
        NoCornerError: the curve of an image nowhere turns towards the origin.
        ValueError: a denoiser, which has no value.
        DivergenceError: the iteration left the finite numbers.
    """
    automatic = [term for term in problem.terms if term.automatic]
    for term in automatic:
        if not isinstance(term.prior, Functional):
            raise ValueError(
                f"weight='lcurve' needs the value of the prior, and {type(term.prior).__name__} has none: choose "
                "weight='auto' or 'sure'"
            )
    size = problem.item_fidelity.weighted_norm(problem.y).to(problem.strength)
    rms = size / problem.measured_values.sqrt()
    strength = torch.where(size > 0, first_guess(problem, rms), torch.ones_like(size))
    places = torch.nonzero(size > 0).squeeze(1)
    walk = Walk(problem, algorithm, settled(algorithm, problem, ITERATIONS), watch=watch)
    rounds: list[dict[str, list[float]]] = []
    record = {name: torch.full_like(strength, torch.nan) for name in ("weight", "residual", "penalty")}
    ended = ""
    try:
        for factor in WEIGHTS if places.numel() else ():
            weights = float(factor) * strength[places]
            images = walk.to(places, weights)
            part = problem.select(places)
            for name, value in (
                ("weight", weights),
                ("residual", part.residual_norm(images)),
                ("penalty", penalty(part, images)),
            ):
                record[name][places] = value.to(strength)
            rounds.append({name: column.tolist() for name, column in record.items()})
    except KeyboardInterrupt:
        ended = INTERRUPTED
    except WalkEnded as reason:
        ended = str(reason)
    for look in rounds:
        look["curvature"] = [math.nan] * problem.items
    if ended:
        strength = walk.strength
    else:
        for place in places.tolist():
            strength[place] = _chosen(rounds, place, problem.items)
    everything = torch.arange(problem.items, device=strength.device)
    chosen = problem.select(everything)
    chosen.strength = strength
    state = reweighted(algorithm, chosen, select(walk.state, everything))
    return WeightChoice(strength, state, rounds, ended)


def penalty(problem: Problem, images: Tensor) -> Tensor:
    """The unweighted penalty of the automatic priors of each item; of quadratic ones its root."""
    terms = [term for term in problem.terms if term.automatic]
    one = torch.ones_like(problem.strength)
    total = torch.stack([term.value(images, one) for term in terms]).sum(0)
    quadratic = all(isinstance(term.prior, Functional) and term.prior.quadratic for term in terms)
    return (2 * total).sqrt() if quadratic else total


def _chosen(rounds: list[dict[str, list[float]]], place: int, items: int) -> float:
    """The weight of one item; the curvature is written into its looks."""
    weights, residual, value = (
        np.array([look[name][place] for look in rounds]) for name in ("weight", "residual", "penalty")
    )
    place_of_corner, curvature = corner(residual, value)
    for look, bend in zip(rounds, curvature, strict=True):
        look["curvature"][place] = float(bend)
    if place_of_corner is None:
        which = f" of item {place}" if items > 1 else ""
        raise NoCornerError(
            f"the L-curve{which} has no corner: it nowhere turns towards the origin, as where an image can fit the "
            "data exactly (denoising, inpainting, MRI of one coil). Choose weight='auto' or 'sure', or give a weight"
        )
    return float(np.exp(np.interp(place_of_corner, np.arange(len(weights)), np.log(weights))))


def corner(residual: np.ndarray, value: np.ndarray) -> tuple[float | None, np.ndarray]:
    """Where along a curve of points the corner lies (None: nowhere), and the curvature at each point.

    Args:
        residual: misfits from the largest weight to the smallest.
        value: penalties likewise.
    """
    with np.errstate(divide="ignore"):
        points = np.stack([np.log(residual), np.log(value)], 1)
    usable = np.isfinite(points).all(1) & (value > 1e-6 * value.max()) & (residual > 1e-6 * residual.max())
    points, numbers = points[usable], np.nonzero(usable)[0]
    none = np.full(len(residual), np.nan)
    if len(points) < 5:
        return None, none
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    moved = np.concatenate([[True], np.diff(length) > 1e-9 * max(length[-1], 1e-30)])
    if moved.sum() < 5:
        return None, none
    samples = np.linspace(0, length[-1], 401)
    curve = PchipInterpolator(length[moved], points[moved])(samples)
    number = np.interp(samples, length, numbers)
    arm = round(ARM * (len(samples) - 1))
    before, after = curve[arm:-arm] - curve[: -2 * arm], curve[2 * arm :] - curve[arm:-arm]
    sides = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    turn = (after[:, 0] * before[:, 1] - after[:, 1] * before[:, 0]) / sides

    # Menger's: 4 areas over the product of the sides of the triangle
    curvature = 2 * turn / np.linalg.norm(before + after, axis=1)
    best = int(curvature.argmax())
    at_points = np.interp(np.arange(len(residual)), number[arm:-arm], curvature, left=np.nan, right=np.nan)
    return (float(number[arm + best]) if turn[best] >= LEAST_TURN else None), at_points
