"""A scan taken apart by views, each part reconstructed on its own: what Noise2Inverse trains and infers with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from recon.linear import LinearOperator
from recon.subsets import Subset

Strategy = Literal["X:1", "1:X"]


@dataclass(frozen=True)
class ViewSplits:
    """The views of a scan dealt out to K splits, of which a network sees some and is compared with the others.

    Of the direct reconstructions x_1, ..., x_K of the splits, section j has

        strategy     input                  target
        X:1          mean of the other x_i  x_j
        1:X          x_j                    mean of the other x_i

    Attributes:
        count: splits K, at least 2.
        strategy: what of each section is input and what is target.
    """

    count: int = 4
    strategy: Strategy = "X:1"

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 2:
            raise ValueError(
                f"splits must be a whole number >= 2, one to see and one to compare with, got {self.count!r}"
            )
        if self.strategy not in ("X:1", "1:X"):
            raise ValueError(f"strategy must be 'X:1' or '1:X', got {self.strategy!r}")

    def of(self, op: LinearOperator) -> list[Subset]:
        """The splits of an operator's views.

        Raises:
            ValueError: its data are no views that could be split, or fewer than the splits.
        """
        try:
            return op.subsets(self.count)
        except TypeError as error:
            raise ValueError(
                f"{type(op).__name__} measures nothing that could be split by views, as parallel, fan and cone beams "
                f"do ({error})"
            ) from None
        except ValueError as error:
            raise ValueError(f"{type(op).__name__} cannot be split into {self.count}: {error}") from None

    def reconstructions(self, parts: Sequence[Subset], data: Tensor, **pinv: Any) -> Tensor:
        """Direct reconstructions of the splits, ``(K, B, *domain_shape)``, of the whole data."""
        return torch.stack([part.operator.pinv(part.of(data), **pinv) for part in parts])

    def inputs(self, images: Tensor) -> Tensor:
        """What a network sees of each section, ``(K, B, *shape)``, of the splits' reconstructions."""
        return images if self.strategy == "1:X" else self._others(images)

    def targets(self, images: Tensor) -> Tensor:
        """What it is compared with."""
        return self._others(images) if self.strategy == "1:X" else images

    def apply(
        self, network: Callable[[Tensor], Tensor], op: LinearOperator, data: Tensor, **pinv: Any
    ) -> Tensor:
        """The mean over the sections of the network's images of their inputs, ``(B, *domain_shape)``."""
        inputs = self.inputs(self.reconstructions(self.of(op), data, **pinv))
        return torch.stack([network(images) for images in inputs]).mean(0)

    def _others(self, images: Tensor) -> Tensor:
        """The mean over the other splits, of each."""
        return (images.sum(0, keepdim=True) - images) / (len(images) - 1)
