"""SciPy: `scipy.sparse.linalg.LinearOperator`, sparse and dense matrices as operators of ours, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recon.linear import Field, LinearOperator
from recon_bridges.bridged import (
    ArrayOperator,
    apply_to_array,
    checked_shape,
    field_of_data,
    numpy_dtype,
    require_ours,
    with_declared_adjoint,
)
from recon_bridges.libraries import library


class ScipyOperator(ArrayOperator):
    """A SciPy operator or matrix on flattened images; see `from_scipy`."""

    def __init__(
        self,
        op: Any,
        shape: Sequence[int],
        range_shape: Sequence[int],
        domain: Field,
    ) -> None:
        super().__init__(shape, range_shape, domain, np.dtype(op.dtype).kind != "c")
        self.op = op
        self._transpose = op.conj().T if _is_matrix(op) else None

    def _array_forward(self, x: Any) -> Any:
        columns = x.reshape(x.shape[0], -1)
        if self._transpose is not None:
            data = (self.op @ columns.T).T
        else:  # one by one: functions written for vectors may do something else with columns
            data = np.stack([np.asarray(self.op.matvec(column)) for column in columns])
        return np.asarray(data).reshape(x.shape[0], *self.range_shape)

    def _array_adjoint(self, y: Any) -> Any:
        columns = y.reshape(y.shape[0], -1)
        if self._transpose is not None:
            images = (self._transpose @ columns.T).T
        else:
            try:
                images = np.stack([np.asarray(self.op.rmatvec(column)) for column in columns])
            except NotImplementedError:
                raise TypeError(
                    f"the SciPy operator {self.op!r} has no adjoint: make it with "
                    "LinearOperator(shape, matvec=..., rmatvec=...)"
                ) from None
        return np.asarray(images).reshape(y.shape[0], *self.domain_shape)


def from_scipy(
    op: Any,
    shape: Sequence[int] | None = None,
    range_shape: Sequence[int] | None = None,
    *,
    domain: Field | None = None,
    adjoint_tolerance: float | None = None,
) -> ScipyOperator:
    """A SciPy linear operator, sparse matrix or dense matrix as an operator of ours.

    Args:
        op: `scipy.sparse.linalg.LinearOperator`, a SciPy sparse matrix or array, or a 2-D NumPy array.
        shape: shape of the images whose flattened values the operator takes; None: vectors.
        range_shape: shape of the data; None: vectors.
        domain: the images it acts on; None: ``"complex"`` for a complex matrix, else ``"any"``.
        adjoint_tolerance: relative error of the adjoint; None: measured.

    Raises:
        TypeError: something else, or an operator without an adjoint (`rmatvec`).
        ValueError: shapes that do not fit, or an adjoint that is none.
    """
    linalg, sparse = library("scipy.sparse.linalg"), library("scipy.sparse")
    if isinstance(op, np.ndarray) and op.ndim != 2:
        raise ValueError(f"a matrix has two axes, got an array of shape {op.shape}")
    if not (isinstance(op, linalg.LinearOperator | np.ndarray) or sparse.issparse(op)):
        raise TypeError(
            "from_scipy takes a scipy.sparse.linalg.LinearOperator, a sparse matrix or a NumPy array, got "
            f"{type(op).__name__}" + _advice(op)
        )
    if isinstance(op, np.ndarray) and op.dtype.kind not in "fc":
        op = op.astype(np.float64)
    rows, columns = op.shape
    if domain is None:
        domain = "complex" if np.dtype(op.dtype).kind == "c" else "any"
    images, data = checked_shape(shape, columns, "shape"), checked_shape(range_shape, rows, "range_shape")
    return with_declared_adjoint(ScipyOperator(op, images, data, domain), adjoint_tolerance)


def to_scipy(op: LinearOperator, dtype: Any = None) -> Any:
    """An operator of ours as a `scipy.sparse.linalg.LinearOperator` on flattened images.

    It computes in the precision of the vectors it is given, on the device of ``op``: for an operator on a GPU
    every call copies there and back.

    Args:
        op: the operator.
        dtype: what SciPy is told, by which its solvers choose their precision; None: double.

    Raises:
        TypeError: no operator of ours, one that is linear over the real numbers only, or an unfit dtype.
    """
    require_ours(op, "to_scipy")
    columns, rows = op.domain_shape, op.range_shape

    def forward(x: Any) -> Any:
        return apply_to_array(op, x.reshape(columns), adjoint=False).reshape(-1)

    def adjoint(y: Any) -> Any:
        return apply_to_array(op, y.reshape(rows), adjoint=True).reshape(-1)

    def forward_many(x: Any) -> Any:
        return apply_to_array(op, x.T.reshape(-1, *columns), adjoint=False).reshape(x.shape[1], -1).T

    def adjoint_many(y: Any) -> Any:
        return apply_to_array(op, y.T.reshape(-1, *rows), adjoint=True).reshape(y.shape[1], -1).T

    return library("scipy.sparse.linalg").LinearOperator(
        (int(np.prod(rows)), int(np.prod(columns))),
        matvec=forward,
        rmatvec=adjoint,
        matmat=forward_many,
        rmatmat=adjoint_many,
        dtype=numpy_dtype(dtype, field_of_data(op)),
    )


def _is_matrix(op: Any) -> bool:
    return isinstance(op, np.ndarray) or bool(library("scipy.sparse").issparse(op))


def _advice(op: Any) -> str:
    home = type(op).__module__.partition(".")[0]
    return f": use from_{home}" if home in ("pylops", "sigpy", "odl", "deepinv") else ""
