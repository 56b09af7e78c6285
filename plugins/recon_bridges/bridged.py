"""What the bridges share: arrays that cross without a copy, and an adjoint that is measured, not trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from recon.linear import Field, LinearOperator, real_dtype
from recon_bridges.libraries import library

EXACT = 1e-5
"""Relative error of an adjoint that is put down to rounding in single precision."""
NO_ADJOINT = 0.5
"""Relative error from which on a map is no approximation of the adjoint at all."""
_PROBES = 4

_Operator = TypeVar("_Operator", bound=LinearOperator)


def with_declared_adjoint(operator: _Operator, tolerance: float | None) -> _Operator:
    """The operator, saying how exact its adjoint is: as given, else as measured now.

    Another library's adjoint is not taken on trust, as gradients and solvers rely on it: its relative error
    is estimated (`adjoint_error`). Above 1e-5 it is ``"approximate"``, with twice the estimate as tolerance.

    Args:
        operator: a bridged operator.
        tolerance: relative error to declare instead of measuring, which takes four applications each way.

    Raises:
        ValueError: what is offered as the adjoint is something else, or a tolerance below 0.
    """
    if tolerance is None:
        error = adjoint_error(operator)
        if not error <= NO_ADJOINT:  # also where the operator gives NaN
            raise ValueError(
                f"what {operator} offers as its adjoint is none: its relative error is {error:.2g}, so that no "
                "solver would converge. Mend it there, or pass adjoint_tolerance=1 to use it all the same"
            )
        tolerance = 2 * error if error > EXACT else 0.0
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"adjoint_tolerance must be a number >= 0 or None, got {tolerance!r}")
    operator.adjoint_tolerance = float(tolerance)
    operator.adjoint_kind = "approximate" if tolerance > 0 else "exact"
    return operator


def adjoint_error(operator: LinearOperator) -> float:
    """An estimate of |B - A^H|_F / |A|_F for the adjoint B that an operator computes, in single precision.

    From all pairs of four random x and four y, as E |y^H M x|^2 = |M|_F^2 for white x and y.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.complex64 if operator.domain == "complex" else torch.float32
    x = torch.randn(_PROBES, *operator.domain_shape, generator=generator, dtype=images).to(operator.device)
    with torch.no_grad():
        data = operator(x)
        y = torch.randn(data.shape, generator=generator, dtype=data.dtype).to(data.device)
        image = operator.adjoint(y)
    pairs = _inner_products(y, data) - _inner_products(image, x)
    mismatch = (pairs if operator.domain != "real" else pairs.real).abs()
    size = float(_inner_products(data, data).diagonal().real.mean())
    return 0.0 if size == 0 else math.sqrt(float(mismatch.square().mean()) / size)


def _inner_products(a: Tensor, b: Tensor) -> Tensor:
    """<a_i, b_j> for every pair of items, summed in double precision."""
    return a.to(torch.complex128).flatten(1).conj() @ b.to(torch.complex128).flatten(1).T


class ArrayOperator(LinearOperator):
    """An operator of a library that computes on NumPy arrays, or on a GPU on CuPy arrays.

    Tensors share their memory with the arrays that the library sees. Tensors elsewhere are refused, as a
    hidden copy to and fro would cost more than most operators. Half precision is computed in single.

    An author writes `_array_forward` and `_array_adjoint` for arrays with one batch axis.

    Args:
        domain_shape, range_shape: as of every operator.
        domain: the images it acts on.
        is_real: whether the library computes with a real matrix: where the domain is ``"any"``, complex
            images then go as their two real parts.
        device: where the library computes; a GPU needs CuPy.
    """

    flatten_batch = True

    def __init__(
        self,
        domain_shape: Sequence[int],
        range_shape: Sequence[int],
        domain: Field,
        is_real: bool,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__(domain_shape, range_shape)
        if domain not in ("real", "complex", "any"):
            raise ValueError(f"domain must be 'real', 'complex' or 'any', got {domain!r}")
        self.domain = domain
        self.is_real = is_real
        self._device = torch.device(device)
        if self._device.type != "cpu":
            library("cupy")

    @property
    def device(self) -> torch.device:
        """Where the library computes; `.to()` does not move it."""
        return self._device

    def _array_forward(self, x: Any) -> Any:
        raise NotImplementedError

    def _array_adjoint(self, y: Any) -> Any:
        raise NotImplementedError

    def _forward(self, x: Tensor) -> Tensor:
        return self._through(x, adjoint=False)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._through(y, adjoint=True)

    def _through(self, items: Tensor, *, adjoint: bool) -> Tensor:
        if items.is_complex() and self.is_real and self.domain == "any":
            return complex_parts(lambda parts: self._through(parts, adjoint=adjoint), items)
        array = to_array(items)
        result = self._array_adjoint(array) if adjoint else self._array_forward(array)
        return to_tensor(result, array)

    def _checked(self, x: Tensor, *, adjoint: bool) -> Tensor:
        x = super()._checked(x, adjoint=adjoint)
        if x.device.type != self.device.type:
            raise ValueError(
                f"{type(self).__name__} computes on {self.device}, got a tensor on {x.device}: move the tensor "
                f"with .to('{self.device}') and back, or solve with device='{self.device}'"
            )
        return x


def complex_parts(apply: Any, items: Tensor) -> Tensor:
    """A real linear map of complex items (B, ...): real and imaginary parts as one batch of twice the size."""
    real, imaginary = apply(torch.cat([items.real, items.imag])).tensor_split(2)
    return torch.complex(real, imaginary)


def to_array(x: Tensor) -> Any:
    """A NumPy array, or a CuPy array for a tensor on a GPU, that shares memory with the tensor.

    Types that NumPy libraries do not compute in become single precision, which is a copy.
    """
    x = x.detach()
    if real_dtype(x.dtype) not in (torch.float32, torch.float64):
        x = x.to(torch.complex64 if x.is_complex() else torch.float32)
    x = x.contiguous().resolve_conj().resolve_neg()
    return x.numpy() if x.device.type == "cpu" else library("cupy").from_dlpack(x)


def to_tensor(values: Any, given: Any) -> Tensor:
    """The tensor of an array; a copy only if it shares memory with the array ``given`` or is read-only."""
    if not isinstance(values, Tensor) and hasattr(values, "toDlpack"):  # a CuPy array
        cupy = library("cupy")
        values = cupy.ascontiguousarray(values)
        shared = cupy.may_share_memory(values, given)
        return torch.from_dlpack(values.copy() if shared else values)
    array = np.require(np.asarray(values), requirements=("C", "W"))
    return torch.from_numpy(array.copy() if np.may_share_memory(array, given) else array)


def require_ours(op: Any, name: str) -> None:
    """Raise a TypeError for what is no operator of ours; ``name`` is the function that was called."""
    if not isinstance(op, LinearOperator):
        raise TypeError(f"{name} takes a recon.LinearOperator, got {type(op).__name__}")


def field_of_data(operator: LinearOperator) -> Literal["real", "complex"]:
    """Whether other libraries see an operator of ours as a real or as a complex matrix.

    Raises:
        TypeError: it maps real images to complex data, and is linear over the real numbers only.
    """
    if operator.domain == "complex":
        return "complex"
    if operator._gives_complex_data():
        if operator.domain == "real":
            raise TypeError(
                f"{type(operator).__name__} maps real images to complex data, which is linear over the real "
                "numbers only: make an operator whose domain is 'complex', or stack real and imaginary data"
            )
        return "complex"
    return "real"


def apply_to_array(operator: LinearOperator, values: Any, *, adjoint: bool) -> Any:
    """An operator of ours on a NumPy or CuPy array ``(*batch, *shape)``, in the array's precision and place.

    The operator computes on its own device. Types other than single and double precision become double;
    complex values given to an operator on real images go as two real items.
    """
    if hasattr(values, "toDlpack"):
        x = torch.from_dlpack(values)
    else:
        array = np.asarray(values)
        if array.dtype.char not in "fdFD":  # whole numbers, half and long precision
            array = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
        x = torch.from_numpy(np.require(array, requirements=("C", "W")))
    origin = x.device
    has_buffers = next(operator.buffers(), next(operator.parameters(), None)) is not None
    x = x.to(operator.device) if has_buffers else x
    apply = operator.adjoint if adjoint else operator
    with torch.no_grad():
        if x.is_complex() and operator.domain == "real" and not (adjoint and operator._gives_complex_data()):
            result = complex_parts(apply, x.unsqueeze(0)).squeeze(0)
        else:
            result = apply(x)
    return to_array(result.to(origin))


def numpy_dtype(dtype: Any, field: Literal["real", "complex"]) -> Any:
    """The NumPy type of an operator seen as a matrix; None: double precision.

    Raises:
        TypeError: a type that cannot hold the operator's values.
    """
    if dtype is None:
        return np.dtype(np.complex128 if field == "complex" else np.float64)
    found = np.dtype(dtype)
    if found.kind not in "fc" or (field == "complex" and found.kind != "c"):
        wanted = "a complex type" if field == "complex" else "a floating-point or complex type"
        raise TypeError(f"dtype must be {wanted} for this operator, got {found}")
    return found


def checked_shape(shape: Sequence[int] | None, size: int, name: str) -> tuple[int, ...]:
    """The shape of vectors of ``size`` numbers; None: the vector itself."""
    if shape is None:
        return (size,)
    sides = tuple(int(side) for side in shape)
    if math.prod(sides) != size:
        raise ValueError(
            f"{name}={sides} has {math.prod(sides)} elements, but the operator's vectors have {size}"
        )
    return sides
