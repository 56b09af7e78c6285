"""A forward model given as a matrix, dense or sparse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

import torch
from scipy.sparse import coo_array, sparray, spmatrix
from torch import Tensor

from recon.linear import LinearOperator
from recon.parameters import Param
from recon_operators.arrays import ArrayLike, Derived, as_tensor
from recon_operators.sparse_projector import compressed_rows, product

MatrixLike: TypeAlias = ArrayLike | sparray | spmatrix
"""What `Matrix` understands; a sparse tensor is a `Tensor` too."""


class Matrix(LinearOperator):
    """A x = matrix * x, with the axes of the image flattened row by row.

    A sparse matrix stays sparse, in compressed rows, and its transpose is kept beside it. The matrix is used in
    the precision of the image.

    Args:
        matrix: ``(data, pixels)``: an array, a sparse tensor, a SciPy sparse array or matrix, or the path of a
            file that holds a dense one.
        shape: of the image, with as many pixels as the matrix has columns; None: a vector.
        data_shape: of the data, with as many values as the matrix has rows; None: a vector.

    Raises:
        ValueError: not two axes, shapes that do not fit, NaN or infinite entries.
    """

    flatten_batch = True
    entries: Tensor
    starts: Tensor | None
    columns: Tensor | None

    def __init__(
        self,
        matrix: Annotated[MatrixLike, Param("data values x pixels: array, sparse array, or path of a file")],
        shape: Annotated[
            tuple[int, ...] | None, Param("image shape; none: a vector", unit="px", ge=1)
        ] = None,
        data_shape: Annotated[tuple[int, ...] | None, Param("data shape; none: a vector", ge=1)] = None,
    ) -> None:
        rows = _sparse_rows(matrix)
        entries = as_tensor(matrix if rows is None else rows.data, "matrix")
        sides = tuple(entries.shape) if rows is None else rows.shape
        if len(sides) != 2:
            raise ValueError(f"matrix needs two axes, data values x pixels, got shape {sides}")
        super().__init__(
            _fitting_shape(shape, sides[1], "shape", "columns"),
            _fitting_shape(data_shape, sides[0], "data_shape", "rows"),
        )
        self.domain = "complex" if entries.is_complex() else "any"
        self.nonnegative = not entries.is_complex() and bool((entries >= 0).all())
        self.register_buffer("entries", entries)
        # compressed rows: row r has the entries from starts[r] to starts[r + 1]
        self.register_buffer(
            "starts", None if rows is None else torch.from_numpy(rows.indptr.astype("int64"))
        )
        self.register_buffer(
            "columns", None if rows is None else torch.from_numpy(rows.indices.astype("int64"))
        )
        self._derived = Derived()

    def _forward(self, x: Tensor) -> Tensor:
        return self._times(x.flatten(1), adjoint=False).reshape(-1, *self.range_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._times(y.flatten(1), adjoint=True).reshape(-1, *self.domain_shape)

    def _times(self, items: Tensor, *, adjoint: bool) -> Tensor:
        """The matrix or its adjoint times every row of ``items``, as rows."""
        if items.is_complex() and not self.entries.is_complex():  # a real matrix acts on both parts alike
            both = torch.cat([items.real, items.imag])
            return torch.complex(*self._times(both, adjoint=adjoint).chunk(2))
        chosen: Tensor = self._derived.get(
            (adjoint, items.dtype), self.entries, lambda: self._prepared(adjoint, items.dtype)
        )
        return items @ chosen.T if self.starts is None else product(chosen, items)

    def _prepared(self, adjoint: bool, dtype: torch.dtype) -> Tensor:
        """The matrix or its adjoint in a precision, dense or in compressed rows."""
        values = self.entries.to(dtype)
        if self.starts is None or self.columns is None:
            return values.mH.resolve_conj().contiguous() if adjoint else values
        shape = (math.prod(self.range_shape), math.prod(self.domain_shape))
        if not adjoint:
            return compressed_rows(self.starts, self.columns, values, shape)
        order = torch.argsort(self.columns, stable=True)
        row_of = torch.repeat_interleave(
            torch.arange(shape[0], device=values.device), self.starts[1:] - self.starts[:-1]
        )
        counts = torch.bincount(self.columns, minlength=shape[1])
        starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        return compressed_rows(starts, row_of[order], values[order].conj().resolve_conj(), shape[::-1])

    def extra_repr(self) -> str:
        """Shapes and kind of the matrix."""
        kind = "dense" if self.starts is None else f"sparse, {len(self.entries)} entries"
        return f"{super().extra_repr()}, {kind}"


def _sparse_rows(given: Any) -> Any:
    """A sparse matrix in SciPy's compressed rows without duplicates; None for a dense one."""
    if isinstance(given, Tensor) and given.layout != torch.strided:
        entries = given.detach().cpu().to_sparse_coo().coalesce()
        values = entries.values()
        values = (
            values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
        )  # unknown to SciPy
        given = coo_array((values.numpy(), entries.indices().numpy()), shape=tuple(entries.shape))
    if not isinstance(given, sparray | spmatrix):
        return None
    rows = given.tocsr(copy=True)
    rows.sum_duplicates()
    return rows


def _fitting_shape(shape: Sequence[int] | None, size: int, name: str, what: str) -> tuple[int, ...]:
    if shape is None:
        return (size,)
    if math.prod(shape) != size:
        raise ValueError(
            f"{name}={tuple(shape)} has {math.prod(shape)} entries, but the matrix has {size} {what}"
        )
    return tuple(shape)
