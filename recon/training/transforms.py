"""Random geometric transforms of images: flips, rotations, translations, scalings, the same for both of a pair."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from recon.suggestions import did_you_mean


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to images at random; every sample of every epoch draws anew.

    Attributes:
        flip: probability of a flip, along each axis.
        turns: whether to turn by a random number of right angles (square images only keep their size).
        rotate: largest angle of a rotation [degrees].
        translate: largest shift, as a part of the image's side.
        scale: range of the magnification.
        negate: probability of the negative image.
    """

    flip: float = 0.0
    turns: bool = False
    rotate: float = 0.0
    translate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    negate: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "negate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.rotate <= 180:
            raise ValueError(f"rotate is an angle of 0 to 180 degrees, got {self.rotate}")
        if not 0 <= self.translate < 1:
            raise ValueError(f"translate is a part of the image's side in [0, 1), got {self.translate}")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is (least, largest) magnification > 0, got {self.scale}")
        if self.turns not in (True, False):
            raise ValueError(f"turns is True or False, got {self.turns!r}")

    @property
    def is_none(self) -> bool:
        """Whether nothing is done."""
        return self == Augmentation()

    def draw(self, generator: torch.Generator) -> Transform:
        """One transform."""
        flips, turns, angle, rows, columns, size, sign = torch.rand(7, generator=generator).tolist()
        low, high = self.scale
        flip = self.flip  # one number decides on both axes: its two halves are independent
        return Transform(
            flip_rows=flips < flip,
            flip_columns=(flips * 1024) % 1 < flip,
            turns=int(turns * 4) if self.turns else 0,
            angle=math.radians(self.rotate) * (2 * angle - 1),
            shift=(self.translate * (2 * rows - 1), self.translate * (2 * columns - 1)),
            scale=low * (high / low) ** size,
            negate=sign < self.negate,
        )


@dataclasses.dataclass(frozen=True)
class Transform:
    """One geometric transform of images' last two axes."""

    flip_rows: bool = False
    flip_columns: bool = False
    turns: int = 0
    angle: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    negate: bool = False

    def __call__(self, image: Tensor) -> Tensor:
        """The image ``(..., rows, columns)``, real or complex; outside of it, its border goes on.

        Flips and right angles are exact; others interpolate linearly.
        """
        if self.negate:
            image = -image
        axes = [axis for axis, flip in ((-2, self.flip_rows), (-1, self.flip_columns)) if flip]
        image = image.flip(axes) if axes else image
        if self.turns:
            square = image.shape[-2] == image.shape[-1]
            turns = self.turns if square else 2 * (self.turns // 2)  # other images keep their shape
            image = torch.rot90(image, turns, (-2, -1))
        if self.angle == 0 and self.scale == 1 and self.shift == (0.0, 0.0):
            return image
        return self._resampled(image)

    def _resampled(self, image: Tensor) -> Tensor:
        if image.is_complex():
            return torch.complex(self._resampled(image.real), self._resampled(image.imag))
        rows, columns = image.shape[-2:]
        cosine, sine = math.cos(self.angle) / self.scale, math.sin(self.angle) / self.scale
        # affine_grid works in half sides: angles are those of square pixels
        matrix = torch.tensor(
            [
                [cosine, sine * rows / columns, 2 * self.shift[1]],
                [-sine * columns / rows, cosine, 2 * self.shift[0]],
            ],
            dtype=image.dtype,
            device=image.device,
        )
        planes = image.reshape(1, -1, rows, columns)
        grid = functional.affine_grid(matrix.unsqueeze(0), list(planes.shape), align_corners=False)
        turned = functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)
        return turned.reshape(image.shape)


def as_augmentation(augment: Any) -> Augmentation:
    """From an object, None, ``"flip, turns"`` or ``{"flip": 0.5, "rotate": 10, "scale": (0.9, 1.1)}``.

    A name alone takes a usual value: flip 0.5, turns, rotate 15 degrees, translate 0.05, scale 0.9 to 1.1.

    Raises:
        ValueError: an unknown name, or a value out of range.
        TypeError: anything else.
    """
    usual = {
        "flip": 0.5,
        "turns": True,
        "rotate": 15.0,
        "translate": 0.05,
        "scale": (0.9, 1.1),
        "negate": 0.5,
    }
    if augment is None:
        return Augmentation()
    if isinstance(augment, Augmentation):
        return augment
    if isinstance(augment, str):
        augment = [name.strip() for name in augment.split(",") if name.strip()]
    if isinstance(augment, Sequence):
        unknown = [name for name in augment if name not in usual]
        if unknown:
            raise _unknown(unknown[0], usual)
        augment = {name: usual[name] for name in augment}
    if not isinstance(augment, Mapping):
        raise TypeError(
            f"augment is a list of names, a dict or an Augmentation, got {type(augment).__name__}"
        )
    unknown = [name for name in augment if name not in usual]
    if unknown:
        raise _unknown(unknown[0], usual)
    values = dict(augment)
    if "scale" in values:
        values["scale"] = tuple(values["scale"])
    return Augmentation(**values)


def _unknown(name: str, known: Mapping[str, Any]) -> ValueError:
    return ValueError(
        f"there is no transform {name!r}{did_you_mean(name, known)} There are {', '.join(known)}."
    )
