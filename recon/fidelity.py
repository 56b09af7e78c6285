"""Data terms f(A x; y): how far predicted data lie from measured data."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from recon.linear import Step
from recon.suggestions import did_you_mean


class Gaussian:
    """Weighted least squares: f(z; y) = 1/2 sum_j w_j |z_j - y_j|^2.

    Args:
        weights: w, broadcastable to the data, >= 0 (0 ignores a sample); None for 1 everywhere. The noise
            variance of sample j is taken as noise_level^2 / w_j.
        noise_level: noise standard deviation (of the real and of the imaginary part each, for complex data),
            a number or one an item. None: estimated from the data where it is needed; with weights from the root
            mean square of the noise, by the mean of 1 / w. Operators whose estimate is a median (photographs,
            k-space) meet that only where the weights vary little: give the level where they vary much.
    """

    name = "gaussian"
    quadratic = True
    """Whether f is quadratic in z; else `weights` are those of its expansion around the data."""
    smooth = True
    """Whether f is finite and has a gradient for every z."""
    proximal = True
    """Whether f has a proximal map; else `prox` raises."""
    noise_residual = True
    """Whether noise of the data leaves a `residual` of known size, the problem's `noise_norm`."""

    def __init__(self, weights: Any = None, noise_level: Any = None) -> None:
        self.weights: Tensor | None = None if weights is None else torch.as_tensor(weights)
        self.noise_level: Tensor | None = None if noise_level is None else torch.as_tensor(noise_level)
        for label, value in (("weights", self.weights), ("noise_level", self.noise_level)):
            if value is None:
                continue
            found = unfit(value)
            if found:
                raise ValueError(
                    f"the {label} of the Gaussian data term must be finite, real and >= 0, got {found}"
                )

    def parameters(self) -> dict[str, Any]:
        """What makes this term again: the arguments of its class."""
        return {"weights": self.weights, "noise_level": self.noise_level}

    def with_noise_level(self, noise_level: float) -> Gaussian:
        """The same term with another noise level.

        Raises:
            TypeError: a term that knows its noise from the counts.
        """
        if type(self) is not Gaussian:
            raise TypeError(
                f"fidelity {self.name!r} knows its noise from the counts: leave the noise level out"
            )
        return Gaussian(self.weights, noise_level)

    def for_items(self, y: Tensor, batch_shape: Sequence[int]) -> Gaussian:
        """The same term with one batch axis: weights and noise level laid out for ``y`` (B, *range_shape).

        Raises:
            ValueError: weights or noise level that fit neither one item nor the batch.
        """
        part = Gaussian()
        item = tuple(y.shape[1:])
        real = y.real if y.is_complex() else y
        if self.weights is not None:
            weights = self.weights.to(real)
            if weights.ndim <= len(item) and broadcasts(weights.shape, item):
                part.weights = weights.expand(1, *item)
            elif broadcasts(weights.shape, (*batch_shape, *item)):
                part.weights = weights.expand(*batch_shape, *item).reshape(y.shape)
            else:
                raise ValueError(
                    f"weights of shape {tuple(self.weights.shape)} do not fit data of shape "
                    f"{(*batch_shape, *item)}: give one weight a sample, {item}"
                )
            if not bool((part.weights.flatten(1) > 0).any(1).all()):
                raise ValueError("the weights are 0 for every sample: nothing would be fitted")
        if self.noise_level is not None:
            if self.noise_level.numel() not in (1, y.shape[0]):
                raise ValueError(
                    f"noise_level must be one number or one for each of {y.shape[0]} items, "
                    f"got {self.noise_level.numel()}"
                )
            part.noise_level = self.noise_level.to(y.device, torch.float32).reshape(-1).expand(y.shape[0])
        return part

    def select(self, items: Tensor) -> Gaussian:
        """The term for some items of a batch laid out by `for_items`."""
        part = Gaussian()
        if self.weights is not None:
            part.weights = self.weights if self.weights.shape[0] == 1 else self.weights[items]
        part.noise_level = None if self.noise_level is None else self.noise_level[items]
        return part

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        """f of each item, ``(B,)``; ``z`` and ``y`` are ``(B, *range_shape)``."""
        squares = (z - y).abs().square()
        if self.weights is not None:
            squares = squares * self.weights.to(squares)
        return 0.5 * squares.flatten(1).sum(1)

    def weighted_norm(self, residual: Tensor) -> Tensor:
        """sqrt(sum_j w_j |r_j|^2) of each item."""
        squares = residual.abs().square()
        if self.weights is not None:
            squares = squares * self.weights.to(squares)
        return squares.flatten(1).sum(1).sqrt()

    def residual(self, z: Tensor, y: Tensor) -> Tensor:
        """What the prediction z leaves of each item's data, where noise alone would leave its norm, ``(B,)``."""
        return self.weighted_norm(z - y)

    def gradient(self, z: Tensor, y: Tensor) -> Tensor:
        """Gradient in z: w (z - y)."""
        return self.weighted(z - y)

    def prox(self, z: Tensor, y: Tensor, step: Step) -> Tensor:
        """argmin_u step * f(u; y) + 1/2 |u - z|^2 = (z + step w y) / (1 + step w)."""
        weight = step if self.weights is None else step * self.weights.to(z.real if z.is_complex() else z)
        return (z + weight * y) / (1 + weight)

    def weighted(self, z: Tensor) -> Tensor:
        """w z."""
        return z if self.weights is None else z * self.weights.to(z.real if z.is_complex() else z)

    def __repr__(self) -> str:
        weights = "" if self.weights is None else f"weights of shape {tuple(self.weights.shape)}"
        level = "" if self.noise_level is None else f"noise_level={self.noise_level.tolist()}"
        return f"Gaussian({', '.join(filter(None, (weights, level)))})"


def unfit(value: Tensor) -> str:
    """What a weight, a count or a noise level must not be, or nothing."""
    if value.is_complex():
        return "complex values"
    bad = int((~torch.isfinite(value)).sum())
    if bad:
        return f"{bad} NaN or infinite of {value.numel()} values"
    return f"a minimum of {float(value.min()):g}" if bool((value < 0).any()) else ""


def broadcasts(shape: Sequence[int], target: Sequence[int]) -> bool:
    """Whether a shape broadcasts to the target and not beyond."""
    try:
        return tuple(torch.broadcast_shapes(tuple(shape), tuple(target))) == tuple(target)
    except RuntimeError:
        return False


def laid_out(values: Tensor, y: Tensor, batch_shape: Sequence[int], label: str) -> Tensor:
    """Values for ``y`` (B, *item): with a batch axis, which is 1 where all items share them."""
    item = tuple(y.shape[1:])
    values = values.to(y)
    if values.ndim <= len(item) and broadcasts(values.shape, item):
        return values.expand(1, *item)
    if broadcasts(values.shape, (*batch_shape, *item)):
        return values.expand(*batch_shape, *item).reshape(y.shape)
    raise ValueError(
        f"{label} of shape {tuple(values.shape)} do not fit data of shape {(*batch_shape, *item)}: give one number, "
        f"or one a ray, {item}"
    )


def as_fidelity(value: Any) -> Gaussian:
    """A data term from an object, a name, ``"name:argument=value"`` or ``(name, {arguments})``."""
    if isinstance(value, Gaussian):
        return value
    from recon.emission import Emission
    from recon.parameters import ArgumentNameError, parse_spec
    from recon.registry import UnknownNameError
    from recon.transmission import PWLS, Poisson

    known: dict[str, type[Gaussian]] = {kind.name: kind for kind in (Gaussian, PWLS, Poisson, Emission)}
    if isinstance(value, str):
        value = parse_spec(value)
    name, arguments = value if isinstance(value, tuple) and len(value) == 2 else (value, {})
    if not (isinstance(name, str) and isinstance(arguments, Mapping)):
        raise TypeError(f"fidelity must be a name, (name, {{arguments}}) or a data term, got {value!r}")
    if name not in known:
        raise UnknownNameError(
            f"there is no fidelity {name!r}{did_you_mean(name, known)} Known: {', '.join(sorted(known))}"
        )
    factory = known[name]
    accepted = inspect.signature(factory).parameters
    for key in arguments:
        if key not in accepted:
            raise ArgumentNameError(
                f"fidelity {name} has no parameter {key!r}{did_you_mean(key, accepted)} It takes {', '.join(accepted)}"
            )
    for key, parameter in accepted.items():
        if parameter.default is parameter.empty and key not in arguments:
            raise ArgumentNameError(
                f"fidelity {name} needs {key}: '{name}:{key}=...', such as '{name}:{key}=1e4'"
            )
    return factory(**{key: _number(item) for key, item in arguments.items()})


def _number(value: Any) -> Any:
    """The number that a text of the command line stands for."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"a data term's parameters are numbers or arrays, got {value!r}") from None
