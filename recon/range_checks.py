"""The range of values that a learned prior is told the image has, against the values that the data give it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from recon.learned import LearnedPrior, ModelError
from recon.priors import Generator, Prior
from recon.problem import Problem

Range = tuple[float, float]

WIDER = 50.0
"""Nine tenths of the direct reconstruction spread over so many times a range are values in another unit: noise and
streaks do not reach that far."""
DARKER = 100.0
"""A range that reaches so many times as far from zero as the direct reconstruction is one in another unit: an image
may be dark, or flat, in its own."""
MOST_VALUES = 1_000_000
"""Of an image that are looked at."""
TRAINED = 8.0
"""Images of one unit differ less in the width of their range."""


def warn_of_other_unit(problem: Problem, items: int = 1) -> None:
    """Warn where a range of the image cannot be one in the unit of the problem, as far as the data tell.

    Generators, denoisers and learned networks map the image to their own range of values by it: told a wrong one, a
    network sees black, white or noise and makes of it what it can. The data are asked by the direct reconstruction,
    as a first image x0 may be anything.

    Args:
        problem: as it is solved.
        items: of the whole batch, whose first ones the problem has.
    """
    told = list(_told(problem))
    if not told:
        return
    spread = torch.stack(_spread(problem.visible(problem.direct)), 1).tolist()
    for prior, own, bounds, said in told:
        mistakes = [_mistake(values, bounds) for values in spread]
        item, wrong = next(((item, one) for item, one in enumerate(mistakes) if one), (0, None))
        if wrong is None:
            continue
        values, advice = wrong
        which = f"item {item} of the batch" if max(items, problem.items) > 1 else "this image"
        warnings.warn(
            f"{said} does not fit {which}: its direct reconstruction has {values}. {_name(prior)} works on values "
            f"from {own[0]:g} to {own[1]:g}, to which that range is mapped: {advice}",
            RuntimeWarning,
            stacklevel=5,
        )


def _mistake(spread: list[float], bounds: Range) -> tuple[str, str] | None:
    """What is wrong with the bounds for an image of such values (`_spread`), and what to do; None if nothing is."""
    low, high, most_low, most_high = spread
    least, most = bounds
    width, reach, peak = most - least, max(abs(least), abs(most)), max(abs(low), abs(high))
    values = f"values from {low:.3g} to {high:.3g}"
    advice = (
        "give the image's own, in the unit of the problem, here perhaps "
        f"image_range=({float(f'{low:.2g}'):g}, {float(f'{high:.2g}'):g})"
    )
    if high < least or low > most:
        return f"{values}, outside of it", advice
    if most_high - most_low > WIDER * width:
        return f"{values}, {(most_high - most_low) / width:.0f} times as wide", advice
    if 0 < DARKER * peak < reach:
        return (
            f"{values}, and that range reaches {reach / peak:.0f} times as far from zero",
            "if they are in another unit than the range, give the range in the unit of the problem",
        )
    return None


def check_trained_range(prior: LearnedPrior, given: Range | None) -> None:
    """Refuse images said to be in another unit than those that a network was trained on end to end.

    Raises:
        ModelError: the ranges' widths tell so.
    """
    trained = prior.image_range
    if trained is None or given is None:
        return
    ratio = (given[1] - given[0]) / (trained[1] - trained[0])
    if not 1 / TRAINED < ratio < TRAINED:
        unit = f" {prior.unit}" if prior.unit else ""
        raise ModelError(
            f"this network was trained end to end on images in {trained}{unit}, but these are said to be in {given}: "
            "bring them to that unit, or use the network as a denoiser (solver='admm')"
        )


def _told(problem: Problem) -> Iterator[tuple[Prior, Range, Range, str]]:
    """Priors with a range of their own: it, the range of the image that is mapped to it, and who said that."""
    given = problem.image_range
    generator = None if given is None else problem.fitted_generator
    if generator is not None and generator.value_range is not None and given is not None:
        yield generator, generator.value_range, given, _as_given(given)
    for term in problem.terms:
        own = getattr(term.prior, "value_range", None)
        if own is None or term.image_range is None:
            continue
        if term.image_range == given:
            yield term.prior, own, given, _as_given(given)
        else:
            unit = getattr(term.prior, "unit", "")
            least, most = term.image_range
            said = (
                f"the range ({least:g}, {most:g}){' ' if unit else ''}{unit} that this prior was trained on"
            )
            yield term.prior, own, (least, most), said


def _name(prior: Prior) -> str:
    return type(prior.network if isinstance(prior, LearnedPrior | Generator) else prior).__name__


def _as_given(bounds: Range) -> str:
    return f"image_range=({bounds[0]:g}, {bounds[1]:g})"


def _spread(images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Least and largest value of each item, and those between which nine tenths of its values lie; each ``(B,)``."""
    flat = (images.abs() if images.is_complex() else images).flatten(1)
    some = flat[:, :: max(1, flat.shape[1] // MOST_VALUES)].sort(1).values
    last = some.shape[1] - 1
    found = flat.amin(1), flat.amax(1), some[:, round(0.05 * last)], some[:, round(0.95 * last)]
    low, high, most_low, most_high = (values.double() for values in found)
    return low, high, most_low, most_high
