"""The range of values that a learned prior is told the image has, against the values that the data give it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from torch import Tensor

from recon.learned import LearnedPrior, ModelError
from recon.priors import Generator, Prior
from recon.problem import Problem

Range = tuple[float, float]

OTHER_UNIT = 50.0
"""A range so many times as wide as the values of the direct reconstruction is one in another unit, or so many times
narrower than nine tenths of them: noise and streaks do not reach that far."""
MOST_VALUES = 1_000_000
"""Of an image that are looked at."""
TRAINED = 8.0
"""Images of one unit differ less in the width of their range."""


def warn_of_other_unit(problem: Problem) -> None:
    """Warn where a range of the image cannot be one in the unit of the problem, as far as its first image tells.

    Generators, denoisers and learned networks map the image to their own range of values by it: told a wrong one, a
    network sees black, white or noise and makes of it what it can.

    Args:
        problem: as it is solved.
    """
    told = list(_told(problem))
    if not told:
        return
    values = problem.visible(problem.start)
    low, high, most_low, most_high = _spread(values.abs() if values.is_complex() else values)
    for prior, own, (least, most), said in told:
        width = most - least
        outside = (high < least) | (low > most)
        tiny = (high > low) & (width > OTHER_UNIT * (high - low))
        huge = most_high - most_low > OTHER_UNIT * width
        wrong = (outside | tiny | huge).nonzero()
        if not wrong.numel():
            continue
        item = int(wrong[0])
        whole = float(high[item] - low[item])
        if bool(outside[item]):
            why = "outside of it"
        elif bool(tiny[item]):
            why = f"1/{width / whole:.0f} as wide"
        else:
            why = f"{float(most_high[item] - most_low[item]) / width:.0f} times as wide"
        warnings.warn(
            f"{said} does not fit this image: its direct reconstruction has values from {float(low[item]):.3g} to "
            f"{float(high[item]):.3g}, {why}. {_name(prior)} works on values from {own[0]:g} to {own[1]:g}, to "
            "which that range is mapped: give the image's own, in the unit of the problem, here perhaps "
            f"image_range=({float(low[item]):.2g}, {float(high[item]):.2g})",
            RuntimeWarning,
            stacklevel=5,
        )


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


def _spread(values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Least and largest value of each item, and those between which nine tenths of its values lie; each ``(B,)``."""
    flat = values.flatten(1).double()
    some = flat[:, :: max(1, flat.shape[1] // MOST_VALUES)].sort(1).values
    last = some.shape[1] - 1
    return flat.amin(1), flat.amax(1), some[:, round(0.05 * last)], some[:, round(0.95 * last)]
