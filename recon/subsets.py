"""A part of an operator's data: what ordered-subsets algorithms go through in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from recon.linear import LinearOperator


@dataclass(frozen=True)
class Subset:
    """Some of an operator's rows, as an operator of their own.

    Attributes:
        operator: acts on the same images; its data are ``data[..., *rows]`` of the whole data.
        rows: one slice for each axis of the whole operator's `range_shape`.
    """

    operator: LinearOperator
    rows: tuple[slice, ...]

    def of(self, data: Tensor) -> Tensor:
        """These rows of data ``(*batch, *range_shape)`` of the whole operator."""
        rows: tuple[Any, ...] = (..., *self.rows)
        return data[rows]
