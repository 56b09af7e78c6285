"""Optimisers by name, and learning rates as a function of how far the training is."""

from __future__ import annotations

import ast
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from recon.parameters import SpecError, parse_spec
from recon.suggestions import did_you_mean

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}


def make_optimiser(spec: str, parameters: Sequence[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """An optimiser from ``"adam:betas=(0.5,0.999)"``: adam, adamw, sgd or rmsprop, with torch's arguments.

    Raises:
        ValueError: an unknown name or argument, or a learning rate that is not positive.
    """
    name, arguments = _read(spec, OPTIMISERS, "optimiser")
    if not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"the learning rate must be a number > 0, got {lr}")
    try:
        return OPTIMISERS[name](parameters, lr=lr, **arguments)
    except TypeError as error:
        raise ValueError(f"the optimiser {spec!r} cannot be made: {error}") from None


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The factor of the learning rate as a function of progress in [0, 1] and of epochs done.

    Attributes:
        curve: the factor after the warm-up.
        warmup: part of the training in which the rate rises linearly from 0.
        depends_on_total: whether the factor after some epochs depends on how many there will be.
    """

    curve: Callable[[float, float], float]
    warmup: float
    depends_on_total: bool

    def __call__(self, progress: float, epochs: float) -> float:
        """The factor."""
        rising = min(1.0, (progress + 1e-3 * self.warmup) / self.warmup) if self.warmup else 1.0
        return rising * self.curve(min(max(progress, 0.0), 1.0), epochs)


def make_schedule(spec: str) -> Schedule:
    """The learning rate's schedule of a name.

    - ``constant``
    - ``cosine:final=0.0``: a half cosine down to `final`
    - ``linear:start=0.5``: constant up to `start`, then linearly to 0 (CycleGAN)
    - ``exponential:final=0.1``: geometrically down to `final` (FBPConvNet)
    - ``step:every=40,factor=0.1``: times `factor` every so many epochs (fastMRI)
    - ``onecycle:peak=0.3,first=0.04,final=1e-4``: a half cosine up, then down (Smith and Topin 2018)

    Every one takes ``warmup=0.05``, the part of the training in which the rate rises linearly from 0. All but
    ``constant`` and ``step`` without a warm-up depend on how many epochs there will be.

    Raises:
        ValueError: an unknown name or argument.
    """
    name, arguments = _read(spec, _SCHEDULES, "schedule")
    warmup = float(arguments.pop("warmup", 0.0))
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is a part of the training in [0, 1), got {warmup}")
    curve, known = _SCHEDULES[name]
    for given in arguments:
        if given not in known:
            raise ValueError(
                f"the schedule {name!r} has no argument {given!r}; it has {', '.join((*known, 'warmup'))}"
            )
    values = {**known, **{key: float(value) for key, value in arguments.items()}}
    return Schedule(functools.partial(curve, **values), warmup, warmup > 0 or name not in _OF_EPOCHS)


def _cosine(progress: float, epochs: float, final: float) -> float:
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def _linear(progress: float, epochs: float, start: float) -> float:
    return 1.0 if progress <= start else max(0.0, (1 - progress) / (1 - start))


def _exponential(progress: float, epochs: float, final: float) -> float:
    return float(final**progress)


def _step(progress: float, epochs: float, every: float, factor: float) -> float:
    return float(factor ** math.floor(epochs / every))


def _onecycle(progress: float, epochs: float, peak: float, first: float, final: float) -> float:
    if progress < peak:
        return first + (1 - first) * 0.5 * (1 - math.cos(math.pi * progress / peak))
    return _cosine((progress - peak) / (1 - peak), epochs, final)


_SCHEDULES: dict[str, tuple[Callable[..., float], dict[str, float]]] = {
    "constant": (lambda progress, epochs: 1.0, {}),
    "cosine": (_cosine, {"final": 0.0}),
    "linear": (_linear, {"start": 0.5}),
    "exponential": (_exponential, {"final": 0.1}),
    "step": (_step, {"every": 40.0, "factor": 0.1}),
    "onecycle": (_onecycle, {"peak": 0.3, "first": 0.04, "final": 1e-4}),
}


_OF_EPOCHS = ("constant", "step")  # what they say of an epoch does not depend on how many there will be


def _read(spec: str, known: Any, what: str) -> tuple[str, dict[str, Any]]:
    try:
        name, texts = parse_spec(spec)
    except SpecError as error:
        raise ValueError(f"the {what} {spec!r} cannot be read: {error}") from None
    if name not in known:
        raise ValueError(
            f"there is no {what} {name!r}{did_you_mean(name, known)} There are {', '.join(known)}."
        )
    arguments = {}
    for key, text in texts.items():
        try:
            arguments[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            raise ValueError(
                f"the {what} {spec!r}: {key} must be a number, a tuple or True, got {text!r}"
            ) from None
    return name, arguments
