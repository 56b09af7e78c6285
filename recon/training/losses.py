"""Losses between images: MSE, L1, 1 - SSIM, and weighted sums of them by name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recon.parameters import bind_arguments, parse_spec, read_parameters
from recon.suggestions import did_you_mean


class Loss(nn.Module):
    """A number from images ``(B, *shape)`` and their targets; zero where they are equal."""

    def __init__(self) -> None:  # torch's own hides that there are no arguments
        super().__init__()

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """The loss, averaged over the batch."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")


class MSE(Loss):
    """Mean squared error; of complex images mean |difference|^2."""

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """mean |image - target|^2."""
        difference = image - target
        return (
            torch.view_as_real(difference).square().sum(-1).mean()
            if difference.is_complex()
            else difference.square().mean()
        )


class L1(Loss):
    """Mean absolute error; of complex images mean |difference|."""

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """mean |image - target|."""
        difference = image - target
        return difference.abs().mean()


class OneMinusSSIM(Loss):
    """1 - SSIM (Wang et al. 2004), of magnitudes for complex images, over windows that lie inside the image.

    Args:
        window: side of the window [px].
        sigma: standard deviation of a Gaussian window [px]; 0 is a uniform one.
        data_range: the range of the values.
        k1: 0.01 in the paper.
        k2: 0.03 in the paper.
    """

    def __init__(
        self,
        window: int = 11,
        sigma: float = 1.5,
        data_range: float = 1.0,
        k1: float = 0.01,
        k2: float = 0.03,
    ) -> None:
        super().__init__()
        if window < 1 or window % 2 == 0:
            raise ValueError(f"the window of SSIM is an odd number of pixels, got {window}")
        if not (math.isfinite(data_range) and data_range > 0):
            raise ValueError(f"SSIM needs the range of the values, a number > 0, got {data_range}")
        place = torch.arange(window, dtype=torch.float64) - window // 2
        kernel = torch.exp(-place.square() / (2 * sigma**2)) if sigma > 0 else torch.ones_like(place)
        self.kernel: Tensor
        self.register_buffer("kernel", kernel / kernel.sum(), persistent=False)
        self.window = window
        self.c1, self.c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """1 - mean SSIM.

        Raises:
            ValueError: images smaller than the window.
        """
        if image.is_complex() or target.is_complex():
            image, target = image.abs(), target.abs()
        if min(image.shape[-2:]) < self.window:
            raise ValueError(
                f"SSIM with a window of {self.window} needs images at least as large, "
                f"got {tuple(image.shape[-2:])}"
            )
        x, y = (images.reshape(-1, 1, *images.shape[-2:]) for images in (image, target))
        mean_x, mean_y = self._windowed(x), self._windowed(y)
        variance_x = self._windowed(x * x) - mean_x.square()
        variance_y = self._windowed(y * y) - mean_y.square()
        covariance = self._windowed(x * y) - mean_x * mean_y
        similarity = ((2 * mean_x * mean_y + self.c1) * (2 * covariance + self.c2)) / (
            (mean_x.square() + mean_y.square() + self.c1) * (variance_x + variance_y + self.c2)
        )
        return 1 - similarity.mean()

    def _windowed(self, x: Tensor) -> Tensor:
        kernel = self.kernel.to(x)
        rows = functional.conv2d(x, kernel.reshape(1, 1, -1, 1))
        return functional.conv2d(rows, kernel.reshape(1, 1, 1, -1))


class WeightedSum(Loss):
    """A weighted sum of losses."""

    def __init__(self, parts: Mapping[str, tuple[float, Loss]]) -> None:
        super().__init__()
        self.weights = {name: float(weight) for name, (weight, _) in parts.items()}
        self.losses = nn.ModuleList([loss for _, loss in parts.values()])

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """The sum."""
        values = [
            weight * loss(image, target)
            for weight, loss in zip(self.weights.values(), self.losses, strict=True)
        ]
        return torch.stack(values).sum()


def _vgg(weights: str | None = None, layer: int = 34, distance: str = "mse", seed: int = 0) -> Loss:
    from recon.training.perceptual import VGG19

    return VGG19(weights, layer, distance, seed)  # type: ignore[arg-type]


def _random_vgg(layer: int = 34, distance: str = "mse", seed: int = 0) -> Loss:
    return _vgg("random", layer, distance, seed)


NAMED: dict[str, Callable[..., Loss]] = {
    "mse": MSE,
    "l1": L1,
    "1-ssim": OneMinusSSIM,
    "vgg": _vgg,
    "vgg-random": _random_vgg,
}

_TERM = re.compile(
    r"(?:(?P<weight>[0-9.eE+-]+)\s*\*\s*)?(?P<name>\(?\s*1\s*-\s*ssim\s*\)?|[a-z][a-z0-9]*(?:-[a-z]+)*)"
    r"(?P<arguments>:(?:'[^']*'|\"[^\"]*\"|[^\s'\"])+)?",
    re.IGNORECASE,
)


def as_loss(loss: Any) -> Loss:
    """A loss from an object, from ``"mse + 0.1*(1-ssim)"``, or from ``{"mse": 1.0, "1-ssim": 0.1}``.

    The names are ``mse``, ``l1``, ``1-ssim``, ``vgg`` and ``vgg-random`` (frozen random weights). A name takes
    arguments, ``"l1 + 0.1*vgg:weights=vgg19.pth,layer=34"``, which end at a blank; quotes keep blanks and commas
    together. See `recon.training.perceptual.VGG19`. Values of a dict may also be ``(weight, loss)``:
    ``{"l1": 1.0, "vgg": (0.1, VGG19("vgg19.pth"))}``.

    Raises:
        ValueError: a text that cannot be read, or an unknown name.
        recon.parameters.ArgumentNameError: an argument that a loss does not take.
        OSError: no such file of weights.
        TypeError: anything else.
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, nn.Module):
        return WeightedSum({type(loss).__name__: (1.0, loss)})  # type: ignore[dict-item]
    if isinstance(loss, str):
        loss = _read(loss)
    if not isinstance(loss, Mapping) or not loss:
        raise TypeError(
            f"a loss is an object, a text such as 'mse + 0.1*(1-ssim)' or a dict, got {type(loss).__name__}"
        )
    parts = {name: _part(str(name), value) for name, value in loss.items()}
    if len(parts) == 1:
        (weight, only) = next(iter(parts.values()))
        if weight == 1:
            return only
    return WeightedSum(parts)


def _part(name: str, value: Any) -> tuple[float, Loss]:
    if isinstance(value, tuple):
        weight, made = value
    else:
        weight, made = value, None
    weight = float(weight)
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"the weight of the loss {name!r} must be a number >= 0, got {weight}")
    return weight, _made(name) if made is None else made


def _made(spec: str) -> Loss:
    """The loss of a name and its arguments, ``"vgg:weights=vgg19.pth"``."""
    name, given = parse_spec(spec)
    if name not in NAMED:
        raise ValueError(
            f"there is no loss {name!r}{did_you_mean(name, NAMED)} There are {', '.join(NAMED)}."
        )
    factory = NAMED[name]
    return factory(**bind_arguments(f"the loss {name}", read_parameters(factory), given))


def _read(text: str) -> dict[str, float]:
    """The terms, names with their arguments, and the weights in ``"mse + 0.1*(1-ssim)"``."""
    parts: dict[str, float] = {}
    place, plain = 0, text.strip()
    while place < len(plain):
        match = _TERM.match(plain, place)
        if match is None or (match["weight"] and not _is_number(match["weight"])):
            raise _unreadable(text, plain[place:])
        name = match["name"].lower()
        if name == "ssim":
            raise ValueError("SSIM grows with similarity: the loss is 1-ssim, as in 'mse + 0.1*(1-ssim)'")
        term = ("1-ssim" if "ssim" in name else name) + (match["arguments"] or "")
        if term in parts:
            raise ValueError(f"the loss {text!r} names {term} twice")
        parts[term] = float(match["weight"] or 1)
        place = match.end()
        rest = re.compile(r"\s*(\+\s*|$)").match(plain, place)
        if rest is None:
            raise _unreadable(text, plain[place:])
        if "+" in rest[0] and rest.end() == len(plain):
            raise ValueError(f"the loss {text!r} ends with a '+': nothing follows it")
        place = rest.end()
    if not parts:
        raise ValueError("the loss is an empty text: write it as 'mse' or 'mse + 0.1*(1-ssim)'")
    return parts


def _unreadable(text: str, rest: str) -> ValueError:
    return ValueError(
        f"cannot read the loss {text!r} from {rest!r} on: write it as 'mse + 0.1*(1-ssim)', or as "
        "'l1 + 0.1*vgg:weights=vgg19.pth' with blanks around the '+'"
    )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
