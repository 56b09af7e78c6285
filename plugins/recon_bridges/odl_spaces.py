"""ODL spaces seen from here: shape, numbers, place, weights, and tensors as their elements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon.linear import Shape, real_dtype
from recon_bridges.libraries import library


class SpaceView:
    """A tensor space (`odl.rn`, `odl.uniform_discr`, ...), or a power of one, as a space of torch tensors.

    A power space, such as the range of a gradient, has its number of parts as first axis.

    Attributes:
        shape: of the tensors.
        dtype: torch type of the elements.
        device: where the elements lie.
        is_torch: whether ODL keeps them as torch tensors (``impl="pytorch"``), else as NumPy arrays.
        weights: of the space's inner product <a, b> = sum_i w_i a_i conj(b_i): a number, or a tensor that
            broadcasts against `shape`.

    Raises:
        TypeError: another kind of space, or one without a weighted Euclidean inner product.
    """

    def __init__(self, space: Any) -> None:
        odl = library("odl")
        self.space = space
        self._parts: SpaceView | None = None
        self.shape: Shape
        self.dtype: torch.dtype
        self.device: torch.device
        self.is_torch: bool
        if isinstance(space, odl.ProductSpace):
            if len(space) == 0 or not space.is_power_space:
                raise TypeError(
                    f"the product space {space!r} has parts of different kinds, which one tensor cannot hold: "
                    "bridge the parts one by one (odl.ComponentProjection @ op) and join them with recon.stack"
                )
            self._parts = SpaceView(space[0])
            inside = self._parts
            self.shape = (len(space), *inside.shape)
            self.dtype, self.device, self.is_torch = inside.dtype, inside.device, inside.is_torch
        elif isinstance(space, odl.core.space.base_tensors.TensorSpace | odl.DiscretizedSpace):
            self.shape = tuple(space.shape)
            self.dtype = _torch_dtype(space)
            self.device = torch.device(space.device)
            self.is_torch = space.impl == "pytorch"
        else:
            raise TypeError(
                f"only operators between tensor spaces (odl.rn, odl.uniform_discr, ...) and powers of them are "
                f"images and data, got {space!r}" + (": a functional" if isinstance(space, odl.Field) else "")
            )
        self.weights = self._found_weights()

    @property
    def is_complex(self) -> bool:
        """Whether its numbers are complex."""
        return self.dtype.is_complex

    def element(self, values: Tensor) -> Any:
        """The element that holds these values; shares their memory where type and order are the space's."""
        values = values.detach().to(self.dtype).contiguous().resolve_conj().resolve_neg()
        return self._element(values if self.is_torch else values.numpy())

    def values(self, element: Any) -> Tensor:
        """The values of an element, on the space's device."""
        if self._parts is not None:
            return torch.stack([self._parts.values(part) for part in element])
        data = element.data
        return (
            data if isinstance(data, Tensor) else torch.from_numpy(np.require(data, requirements=("C", "W")))
        )

    def _element(self, values: Any) -> Any:
        if self._parts is None:
            return self.space.element(values)
        return self.space.element([self._parts._element(part) for part in values])

    def _found_weights(self) -> float | Tensor:
        weighting = self.space.weighting
        constant, array = getattr(weighting, "const", None), getattr(weighting, "array", None)
        if weighting.exponent != 2 or (constant is None and array is None):
            raise TypeError(
                f"the space {self.space!r} has no inner product with a weight for each point, so that the "
                "Euclidean adjoint cannot be found: use a constant or an array as weighting, and exponent 2"
            )
        own: float | Tensor = float(constant) if constant is not None else self._as_weights(array)
        if self._parts is None or self._parts.weights == 1:
            return own
        return own * self._parts.weights

    def _as_weights(self, array: Any) -> Tensor:
        weights = torch.as_tensor(np.asarray(array) if not isinstance(array, Tensor) else array)
        weights = weights.to(self.device, real_dtype(self.dtype))
        if self._parts is not None:  # one weight a part
            weights = weights.reshape(-1, *(1,) * (len(self.shape) - 1))
        return weights


def _torch_dtype(space: Any) -> torch.dtype:
    name = str(space.dtype_identifier)
    if name not in ("float32", "float64", "complex64", "complex128"):
        raise TypeError(
            f"the space {space!r} holds {name}: make it with dtype 'float32', 'float64', 'complex64' or "
            "'complex128'"
        )
    return getattr(torch, name)


def is_one(weights: float | Tensor) -> bool:
    """Whether these weights change nothing."""
    return not isinstance(weights, Tensor) and math.isclose(weights, 1.0, rel_tol=1e-12)
