"""Checks of functionals: the proximal map against its own definition, the weight, the linear map inside.

All in double precision unless precision is the point. A functional sees ``z`` of shape ``(B, *K.range_shape)``.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from recon.linear import LinearOperator, real_dtype
from recon.priors import Functional
from recon.testing.devices import Call, require_device_kept
from recon.testing.measuring import (
    DOUBLE,
    EXACT,
    Check,
    Checks,
    bound,
    random,
    require,
    require_close,
    twins,
)
from recon.testing.operator_matrices import check_dense_adjoint, check_norm_bound

SHAPES = ((6, 7), (8, 8), (16, 16), (32, 32), (4, 6, 8), (3, 6, 7), (12,))
"""Image shapes that are tried in turn: the first that the prior takes."""
STEPS = (0.1, 1.0, 4.0)


class Trial:
    """A functional on images of one shape, and random arguments for it."""

    def __init__(self, prior: Functional, shape: Sequence[int] | None) -> None:
        self.prior = prior
        self.shape, self.K = _first_that_fits(prior, shape)
        single = {"real": (torch.float32,), "complex": (torch.complex64,)}
        self.dtypes = single.get(prior.domain, (torch.float32, torch.complex64))

    def draw(self, *batch: int, dtype: torch.dtype | None = None, seed: int = 0) -> Tensor:
        """Random arguments of the prox, double precision unless a type is given."""
        return random((*batch, *self.K.range_shape), dtype or DOUBLE[self.dtypes[-1]], seed)


def functional_checks(prior: Functional, shape: Sequence[int] | None) -> Checks:
    """The checks of a functional by name."""
    try:
        trial = Trial(prior, shape)
    except Exception as error:
        failure = error

        def check_linear_map() -> None:
            raise failure

        return {"linear_map": check_linear_map}
    return bound(CHECKS, trial)


def _first_that_fits(
    prior: Functional, shape: Sequence[int] | None
) -> tuple[tuple[int, ...], LinearOperator]:
    tried = (tuple(shape),) if shape is not None else SHAPES
    for place, candidate in enumerate(tried):
        try:
            return candidate, prior.K(candidate)
        except ValueError:  # a size that the transform does not take
            if place == len(tried) - 1:
                raise
    raise AssertionError("unreachable: the last shape raised")


def check_linear_map(trial: Trial) -> None:
    """K(shape) is a linear operator on images of that shape; its adjoint and norm are right."""
    require(
        isinstance(trial.K, LinearOperator), f"K gives a {type(trial.K).__name__}, not a recon.LinearOperator"
    )
    require(
        trial.K.domain_shape == trial.shape,
        f"K({trial.shape}) acts on images of shape {trial.K.domain_shape}",
    )
    check_dense_adjoint(trial.K)
    check_norm_bound(trial.K)


def check_value(trial: Trial) -> None:
    """`value` is one real number an item, and never NaN; of a constraint, zero inside its set."""
    for dtype in trial.dtypes:
        z = trial.draw(3, dtype=DOUBLE[dtype])
        for what, at in (
            ("random z", z),
            ("zeros", torch.zeros_like(z)),
            ("prox(z, 1)", trial.prior.prox(z, 1.0)),
        ):
            value = trial.prior.value(at)
            require(
                tuple(value.shape) == (3,), f"value has shape {tuple(value.shape)} for 3 items, expected (3,)"
            )
            require(not value.is_complex(), f"value is complex for {dtype}: take a modulus")
            require(not bool(torch.isnan(value).any()), f"value is NaN at {what}")
        if trial.prior.constraint:
            inside = float(value.abs().max())
            require(
                inside == 0,
                f"the constraint is {inside:g} at prox(z, 1), expected 0: the projection is not inside the set, or "
                "the indicator is too strict for rounding",
            )


def check_prox_minimises(trial: Trial) -> None:
    """p = prox(z, s) minimises E(u) = s g(u) + 1/2 |u - z|^2.

    For a convex g, E is strongly convex, so that E(u) >= E(p) + 1/2 |u - p|^2 for every u whatever; else
    E(u) >= E(p). Tried for u on the way from p to z and beyond, and to zero; other proximal points; p moved
    in one pixel, in half of them, in all, by steps from 1e-5 to 1.
    """
    for dtype in trial.dtypes:
        z = 2 * trial.draw(1, dtype=DOUBLE[dtype], seed=1)
        for step in STEPS:
            p = trial.prior.prox(z, step)
            at_p = _energy(trial.prior, p, z, step)
            require(math.isfinite(at_p), f"g(prox(z, {step:g})) is {at_p}: the prox leaves the domain of g")
            better = _better(trial, p, z, step)
            if better is None:
                continue
            at_u = _energy(trial.prior, better[0], z, step)
            raise AssertionError(
                f"prox(z, {step:g}) = p does not minimise E(u) = {step:g} g(u) + 1/2 |u - z|^2 in {z.dtype}: "
                f"E(p) = {at_p:.8g}, but E = {at_u:.8g} at u = {better[1]}"
                + (", less than E(p) + 1/2 |u - p|^2, as for a convex g" if at_u > at_p else "")
                + f". {_cause(trial, z, step)}"
            )


def _better(trial: Trial, p: Tensor, z: Tensor, step: float) -> tuple[Tensor, str] | None:
    """A point that shows that p is not the minimiser, with words for it; None if all agree."""
    at_p = _energy(trial.prior, p, z, step)
    for u, words in _others(trial, p, z, step):
        distance = 0.5 * float((u - p).abs().square().sum()) if trial.prior.convex else 0.0
        missing = at_p + distance - _energy(trial.prior, u, z, step)
        if missing > 1e-9 * max(at_p, 1.0) + 1e-6 * distance:  # rounding of sums, and of differences of E
            return u, words
    return None


def _cause(trial: Trial, z: Tensor, step: float) -> str:
    """Whether the prox is that of another step, and what that says."""
    weight = trial.prior.strength
    likely = {
        weight: f"the prox leaves the weight ({weight:g}) out: `_prox` gets step * weight, and must use all of it",
        1 / weight
        if weight
        else 0.0: f"the prox uses the weight ({weight:g}) twice: `threshold` contains it",
        0.5: "the prox must take half the threshold",
        2.0: "the prox must take twice the threshold",
    }
    for factor, words in likely.items():
        other = trial.prior.prox(z, step * factor)
        if factor not in (0, 1) and _better(trial, other, z, step) is None:
            return f"prox(z, {step * factor:g}) does minimise it: {words}"
    return "Do `_penalty` and `_prox` belong to the same function?"


def _energy(prior: Functional, u: Tensor, z: Tensor, step: float) -> float:
    return float(step * prior.value(u)[0] + 0.5 * (u - z).abs().square().sum())


def _others(trial: Trial, p: Tensor, z: Tensor, step: float) -> Iterator[tuple[Tensor, str]]:
    """Candidates for a better minimiser than p, with words for them."""
    yield from _proximal_points(trial, p, z, step)
    if trial.prior.constraint:  # any other point may lie in the set by the indicator's room for rounding only
        return
    for t in (1e-4, -1e-4, 0.01, -0.01, 0.5, 1.0, -1.0):
        yield p + t * (z - p), f"p {t:+g} (z - p)"
    for t in (1e-4, 0.01, 0.5, 1.0):
        yield (1 - t) * p, f"{1 - t:g} p"
    for size in (1e-5, 1e-3, 0.1, 1.0):
        for change in _directions(p):
            yield p + size * change, f"p moved by {size:g}"


def _proximal_points(trial: Trial, p: Tensor, z: Tensor, step: float) -> Iterator[tuple[Tensor, str]]:
    """Points that the prox itself gives: for a constraint, the points of its set."""
    prior = trial.prior
    for other in (0.5 * step, 2 * step):
        yield prior.prox(z, other), f"prox(z, {other:g})"
    for seed in (11, 12):
        inside = prior.prox(2 * trial.draw(1, dtype=z.dtype, seed=seed), step)
        yield inside, "another proximal point"
        for t in (0.1, 1e-3) if prior.convex else ():
            yield p + t * (inside - p), f"p + {t:g} (another proximal point - p)"
    for size in (1e-3, 0.1, 1.0):
        for change in itertools.islice(_directions(p), 12):
            yield prior.prox(p + size * change, step), f"prox(p moved by {size:g})"


def _directions(p: Tensor) -> Iterator[Tensor]:
    """Random directions in all values and in half of them, then single values, to and fro."""
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        keep = torch.rand(p.shape, generator=generator) < (0.5 if seed % 2 else 1.0)
        for sign in (1, -1):
            yield sign * random(p.shape, p.dtype, 100 + seed) * keep
    values = p[0].numel()
    for value in range(0, values, max(1, values // 12)):
        unit = torch.zeros_like(p).reshape(-1)
        unit[value] = 1
        for factor in (1, -1, 1j, -1j) if p.is_complex() else (1, -1):
            yield factor * unit.reshape(p.shape)


def check_prox_of_step_zero(trial: Trial) -> None:
    """prox(z, 0) = z wherever g(z) is finite; a constraint projects whatever the step."""
    for dtype in trial.dtypes:
        z = trial.draw(2, dtype=DOUBLE[dtype])
        if trial.prior.constraint:
            what = "the projection depends on the step: prox(z, 0) is not prox(z, 1)"
            require_close(trial.prior.prox(z, 0.0), trial.prior.prox(z, 1.0), what, EXACT)
            continue
        z = z if bool(torch.isfinite(trial.prior.value(z)).all()) else trial.prior.prox(z, 1.0)
        require_close(trial.prior.prox(z, 0.0), z, f"prox(z, 0) is not z in {z.dtype}", EXACT)


def check_projection(trial: Trial) -> None:
    """A constraint's prox is a projection: into the set, and leaving what is in it alone."""
    if not trial.prior.constraint:
        return
    for dtype in trial.dtypes:
        p = trial.prior.prox(3 * trial.draw(2, dtype=DOUBLE[dtype]), 1.0)
        outside = float(trial.prior.value(p).max())
        require(outside == 0, f"g(prox(z, 1)) is {outside:g}, expected 0: the prox is not inside the set")
        require_close(
            trial.prior.prox(p, 1.0),
            p,
            "the projection of a projection is another point: it is not idempotent",
            EXACT,
        )


def check_separable(trial: Trial) -> None:
    """A prior declared ``separable`` treats every pixel alike and alone: its prox commutes with their order."""
    if not trial.prior.separable:
        return
    z = trial.draw(2)
    order = torch.randperm(z[0].numel(), generator=torch.Generator().manual_seed(0)).to(z.device)

    def shuffled(values: Tensor) -> Tensor:
        return values.flatten(1)[:, order].reshape(values.shape)

    for step in STEPS:
        what = f"declared separable, but prox at step {step:g} of pixels in another order is not theirs in that order"
        require_close(trial.prior.prox(shuffled(z), step), shuffled(trial.prior.prox(z, step)), what)


def check_firmly_nonexpansive(trial: Trial) -> None:
    """|Pa - Pb|^2 <= Re <Pa - Pb, a - b> for the prox of a convex g: near pairs, far pairs, several steps."""
    if not trial.prior.convex:
        return
    for dtype in trial.dtypes:
        for step in STEPS:
            for seed in range(20):
                a = 2 * trial.draw(1, dtype=DOUBLE[dtype], seed=seed)
                size = 10.0 ** (-(seed % 5))
                b = a + size * trial.draw(1, dtype=DOUBLE[dtype], seed=seed + 100)
                change = trial.prior.prox(a, step) - trial.prior.prox(b, step)
                moved = float(change.abs().square().sum())
                allowed = float((change.conj() * (a - b)).sum().real)
                length = float((a - b).abs().square().sum())
                require(
                    moved <= allowed + 1e-9 * length,
                    f"prox(., {step:g}) moves two points at distance {length**0.5:.3g} to distance {moved**0.5:.3g} "
                    f"with <Pa - Pb, a - b> = {allowed:.4g} < |Pa - Pb|^2 = {moved:.4g}: it is not firmly "
                    "non-expansive, so g is not convex, or this is not its prox. Declare convex = False if so",
                )


def check_weight(trial: Trial) -> None:
    """The weight multiplies g: twice the weight is twice the value, and the prox of twice the step."""
    if trial.prior.constraint:
        return
    heavier, base = copy.deepcopy(trial.prior), copy.deepcopy(trial.prior)
    base.weight, heavier.weight = 0.3, 0.6
    z = trial.draw(2)
    z = z if bool(torch.isfinite(base.value(z)).all()) else base.prox(z, 1.0)
    require_close(heavier.value(z), 2 * base.value(z), "twice the weight is not twice the value", EXACT)
    what = "the prox with twice the weight is not the prox of twice the step"
    require_close(heavier.prox(z, 0.7), base.prox(z, 1.4), what, EXACT)


def check_step_per_item(trial: Trial) -> None:
    """A step for each item, ``(B, 1, ..., 1)``, gives what a loop over the items gives."""
    z, steps = trial.draw(3), (0.1, 1.0, 3.0)
    shaped = torch.tensor(steps, dtype=real_dtype(z.dtype)).reshape(3, *(1,) * (z.ndim - 1))
    wanted = torch.cat([trial.prior.prox(z[i : i + 1], step) for i, step in enumerate(steps)])
    require_close(
        trial.prior.prox(z, shaped), wanted, "prox with a step for each item differs from a loop", EXACT
    )


def check_batch_equals_loop(trial: Trial) -> None:
    """A batch gives what its items give one by one: value and prox."""
    for dtype in trial.dtypes:
        z = trial.draw(3, dtype=DOUBLE[dtype]) * torch.tensor([0.1, 1.0, 10.0]).reshape(
            3, *(1,) * len(trial.K.range_shape)
        )
        for what, call in (("value", trial.prior.value), ("prox", lambda z: trial.prior.prox(z, 1.0))):
            loop = torch.cat([call(item[None]) for item in z])
            batch = call(z)
            if what == "value" and not bool(torch.isfinite(loop).all()):
                require(torch.equal(batch, loop), f"{what} of a batch differs from a loop over its items")
                continue
            require(batch.shape == loop.shape, f"{what} of a batch has shape {tuple(batch.shape)}")
            for place in range(3):  # by item: the large one would hide the small one
                message = f"{what} of a batch differs from a loop over its items"
                require_close(batch[place], loop[place], message, EXACT)


def check_empty_batch(trial: Trial) -> None:
    """A batch of no items gives no items."""
    z = trial.draw(0)
    value, prox = trial.prior.value(z), trial.prior.prox(z, 1.0)
    require(
        tuple(value.shape) == (0,), f"value of an empty batch has shape {tuple(value.shape)}, expected (0,)"
    )
    require(
        prox.shape == z.shape,
        f"prox of an empty batch has shape {tuple(prox.shape)}, expected {tuple(z.shape)}",
    )


def check_dtypes(trial: Trial) -> None:
    """The type of z is kept, single precision agrees with double, and double is not rounded to single inside."""
    for dtype in trial.dtypes:
        double = trial.draw(2, dtype=DOUBLE[dtype])
        for z in (double, double.to(dtype)):
            prox, value = trial.prior.prox(z, 0.5), trial.prior.value(z)
            require(prox.dtype == z.dtype, f"prox of {z.dtype} gives {prox.dtype}: the type must stay")
            wanted = real_dtype(z.dtype)
            require(value.dtype == wanted, f"value of {z.dtype} gives {value.dtype}, expected {wanted}")
        precise, single = trial.prior.prox(double, 0.5), trial.prior.prox(double.to(dtype), 0.5)
        require_close(single.to(double.dtype), precise, "prox differs in single and double precision")
        rounded = double.to(dtype).to(double.dtype)
        blind = torch.equal(precise, trial.prior.prox(rounded, 0.5))
        moves = not torch.equal(precise, trial.prior.prox(rounded * (1 + 1e-6), 0.5))  # it is not constant
        require(
            not (blind and moves),
            f"prox in {double.dtype} does not see what single precision does not see: z is rounded "
            "inside (a .float()?)",
        )


def check_device(trial: Trial) -> None:
    """prox and value stay on the device of z; see `recon.testing.devices`."""

    def calls(moved: Functional, device: torch.device) -> list[Call]:
        z = trial.draw(2, dtype=trial.dtypes[-1]).to(device)
        return [("prox", lambda: moved.prox(z, 0.5)), ("value", lambda: moved.value(z))]

    require_device_kept(trial.prior, calls)


def check_input_unchanged(trial: Trial) -> None:
    """prox and value do not write into z."""
    for dtype in trial.dtypes:
        z = trial.draw(2, dtype=dtype)
        before = z.clone()
        for what, call in (("value", trial.prior.value), ("prox", lambda z: trial.prior.prox(z, 0.5))):
            call(z)
            require(
                torch.equal(z, before), f"{what} in {dtype} changes its input: an in-place operation on z?"
            )


def check_finite(trial: Trial) -> None:
    """prox is finite for extreme steps, extreme values and zero, in single precision."""
    for dtype in trial.dtypes:
        for size in (0.0, 1e-30, 1.0, 1e12):
            z = size * trial.draw(1, dtype=dtype)
            for step in (0.0, 1e-12, 1.0, 1e12):
                result = trial.prior.prox(z, step)
                require(
                    bool(torch.isfinite(result).all()),
                    f"prox(z, {step:g}) in {dtype} is not finite for |z| of the order {size:g}: "
                    "is there a division by a magnitude or a step that may be zero?",
                )


def check_deterministic(trial: Trial) -> None:
    """The same input gives the same output, to the last bit."""
    z = trial.draw(2)
    require(
        torch.equal(trial.prior.prox(z, 0.5), trial.prior.prox(z, 0.5)), "prox gives two different results"
    )


def check_pickle_and_state_dict(trial: Trial) -> None:
    """A pickled copy, a deep copy, and a copy with the state loaded do the same as the prior."""
    z = trial.draw(2)
    wanted = trial.prior.prox(z, 0.5)
    for what, same in twins(trial.prior, lambda twin: twin.prox(z, 0.5)).items():
        require(torch.equal(same.prox(z, 0.5), wanted), f"{what} gives another result than the prior")


def check_image_value(trial: Trial) -> None:
    """Called with images, the prior gives g(K x), one number an item."""
    x = random((2, *trial.shape), DOUBLE[trial.dtypes[-1]])
    value, expected = trial.prior(x), trial.prior.value(trial.K(x))
    require(
        tuple(value.shape) == (2,), f"prior(x) has shape {tuple(value.shape)} for 2 images, expected (2,)"
    )
    finite = torch.isfinite(expected)
    require(torch.equal(torch.isfinite(value), finite), "prior(x) is not g(K x)")
    require_close(value[finite], expected[finite], "prior(x) is not g(K x)", EXACT)


CHECKS: tuple[Check, ...] = (
    check_linear_map,
    check_value,
    check_image_value,
    check_prox_minimises,
    check_prox_of_step_zero,
    check_projection,
    check_separable,
    check_firmly_nonexpansive,
    check_weight,
    check_step_per_item,
    check_batch_equals_loop,
    check_empty_batch,
    check_dtypes,
    check_device,
    check_input_unchanged,
    check_finite,
    check_deterministic,
    check_pickle_and_state_dict,
)
