"""PyLops: `pylops.LinearOperator` as an operator of ours, and back."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from recon.linear import Field, LinearOperator
from recon_bridges.bridged import (
    ArrayOperator,
    apply_to_array,
    field_of_data,
    numpy_dtype,
    require_ours,
    with_declared_adjoint,
)
from recon_bridges.libraries import library


class PylopsOperator(ArrayOperator):
    """A PyLops operator from images of shape ``dims`` to data of shape ``dimsd``; see `from_pylops`."""

    def __init__(self, op: Any, domain: Field, device: str | torch.device = "cpu") -> None:
        super().__init__(op.dims, op.dimsd, domain, np.dtype(op.dtype).kind != "c", device)
        self.op = op

    def _array_forward(self, x: Any) -> Any:
        return self.op.matmat(x.reshape(x.shape[0], -1).T).T.reshape(x.shape[0], *self.range_shape)

    def _array_adjoint(self, y: Any) -> Any:
        return self.op.rmatmat(y.reshape(y.shape[0], -1).T).T.reshape(y.shape[0], *self.domain_shape)


def from_pylops(
    op: Any,
    *,
    domain: Field | None = None,
    device: str | torch.device = "cpu",
    adjoint_tolerance: float | None = None,
) -> PylopsOperator:
    """A PyLops operator as an operator of ours, between images of its ``dims`` and data of its ``dimsd``.

    Args:
        op: `pylops.LinearOperator`.
        domain: the images it acts on; None: ``"real"`` where PyLops calls the operator not complex-linear (a
            real FFT), else ``"complex"`` for a complex matrix and ``"any"`` for a real one.
        device: where it computes; ``"cuda"`` hands it CuPy arrays, as operators with values on a GPU ask.
        adjoint_tolerance: relative error of the adjoint; None: measured.

    Raises:
        TypeError: not a PyLops operator.
        ValueError: an adjoint that is none.
        ImportError: a GPU is asked for, and CuPy is not installed.
    """
    pylops = library("pylops")
    if not isinstance(op, pylops.LinearOperator):
        raise TypeError(f"from_pylops takes a pylops.LinearOperator, got {type(op).__name__}")
    if domain is None:
        complex_matrix = np.dtype(op.dtype).kind == "c"
        domain = "real" if not op.clinear else "complex" if complex_matrix else "any"
    return with_declared_adjoint(PylopsOperator(op, domain, device), adjoint_tolerance)


def to_pylops(op: LinearOperator, dtype: Any = None) -> Any:
    """An operator of ours as a `pylops.LinearOperator` from ``op.domain_shape`` to ``op.range_shape``.

    It computes in the precision of the arrays it is given, on the device of ``op``: for an operator on a GPU
    every call with NumPy arrays copies there and back, with CuPy arrays nothing is copied.

    Args:
        op: the operator.
        dtype: what PyLops is told; None: double precision.

    Raises:
        TypeError: no operator of ours, one that is linear over the real numbers only, or an unfit dtype.
    """
    require_ours(op, "to_pylops")
    return _operator_class()(op, numpy_dtype(dtype, field_of_data(op)))


@functools.cache
def _operator_class() -> Any:
    class OurOperator(library("pylops").LinearOperator):  # type: ignore[misc]
        """An operator of ours that PyLops calls."""

        def __init__(self, op: LinearOperator, dtype: Any) -> None:
            super().__init__(dtype=dtype, dims=op.domain_shape, dimsd=op.range_shape, name=type(op).__name__)
            self.operator = op

        def _matvec(self, x: Any) -> Any:
            return apply_to_array(self.operator, x.reshape(self.dims), adjoint=False).reshape(-1)

        def _rmatvec(self, x: Any) -> Any:
            return apply_to_array(self.operator, x.reshape(self.dimsd), adjoint=True).reshape(-1)

        def _matmat(self, X: Any) -> Any:
            images = X.T.reshape(-1, *self.dims)
            return apply_to_array(self.operator, images, adjoint=False).reshape(X.shape[1], -1).T

        def _rmatmat(self, X: Any) -> Any:
            data = X.T.reshape(-1, *self.dimsd)
            return apply_to_array(self.operator, data, adjoint=True).reshape(X.shape[1], -1).T

        def __reduce__(self) -> Any:
            return to_pylops, (self.operator, self.dtype)

    return OurOperator
