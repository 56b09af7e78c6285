"""Random ellipses: the generated images that learned CT reconstruction is commonly measured on."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from recon.parameters import Param

Part = Literal["train", "validation", "test"]

_MOST = 70
_SEEDS = {"train": 42, "validation": 2, "test": 1}
_LENGTHS = {"train": 32000, "validation": 3200, "test": 3200}


class Ellipses(Dataset[Tensor]):
    """Images (size, size) between 0 and 1 of some 40 overlapping ellipses, the same in every run.

    The protocol of DIVal (Leuschner et al. 2021; images as
    in Adler and Oktem 2017): on [-1, 1]^2 at most 70 ellipses, their number from
    Poisson(40), values from U(-0.4, 1), half axes from 0.2 Exp(1), centres from U(-0.9, 0.9), angles from
    U(0, 2 pi). Values add; the smallest is taken from every pixel that is not zero, then the largest becomes 1.
    An image is drawn when it is asked for.

    Args:
        part: 32000 images to train on, 3200 to validate, 3200 to test, drawn from seeds 42, 2 and 1.
        size: pixels of a side.
    """

    def __init__(
        self,
        part: Annotated[Part, Param("which images")] = "test",
        size: Annotated[int, Param("image side", unit="px", ge=1)] = 128,
    ) -> None:
        if part not in _SEEDS:
            raise ValueError(f"part must be 'train', 'validation' or 'test', got {part!r}")
        self.part, self.size = part, size
        self._random = np.random.RandomState(_SEEDS[part])
        self._drawn: list[np.ndarray] = []

    def __len__(self) -> int:
        return _LENGTHS[self.part]

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        while len(self._drawn) <= index:
            self._drawn.append(self._draw())
        return torch.from_numpy(rasterised(self._drawn[index], self.size)).to(torch.float32)

    def first(self, count: int) -> Tensor:
        """The first images, ``(count, size, size)``."""
        return torch.stack([self[index] for index in range(count)])

    def _draw(self) -> np.ndarray:
        """Value, half axes, centre and angle of each ellipse of the next image: ``(ellipses, 6)``."""
        random = self._random
        columns = [
            random.uniform(-0.4, 1.0, _MOST),
            0.2 * random.exponential(1.0, _MOST),
            0.2 * random.exponential(1.0, _MOST),
            random.uniform(-0.9, 0.9, _MOST),
            random.uniform(-0.9, 0.9, _MOST),
            random.uniform(0.0, 2 * math.pi, _MOST),
        ]
        return np.stack(columns, axis=1)[: min(random.poisson(40), _MOST)]


def rasterised(ellipses: np.ndarray, size: int) -> np.ndarray:
    """The normalised image (size, size) of ellipses ``(count, 6)``, sampled at the middles of the pixels."""
    middles = (2 * np.arange(size) + 1) / size - 1
    image = np.zeros((size, size))
    for value, first, second, across, along, angle in ellipses:
        horizontal, vertical = middles[:, None] - across, middles[None, :] - along
        u = horizontal * math.cos(angle) + vertical * math.sin(angle)
        v = vertical * math.cos(angle) - horizontal * math.sin(angle)
        image += value * ((u / first) ** 2 + (v / second) ** 2 <= 1)
    image[image != 0] -= image.min()
    largest = image.max()
    return image / largest if largest > 0 else image
