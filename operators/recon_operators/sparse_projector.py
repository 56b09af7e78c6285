"""A projection matrix and its transpose as torch sparse tensors, built once for each geometry and shared."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recon_operators.joseph import ParallelGeometry, SparseRows, joseph_matrix

_INDEX_BYTES = 4
_MOST_COLUMNS = 8  # MKL's product slows down beyond some eight column-major right-hand sides


@dataclass(frozen=True, eq=False)
class SparseProjector:
    """A and its transpose, both stored: torch converts a transposed sparse view anew at every product.

    Attributes:
        matrix: A in mm, sparse CSR (views * detectors, height * width), int32 indices.
        transpose: A^T, sparse CSR.
    """

    matrix: Tensor
    transpose: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """A x for flat images ``(B, height * width)``: ``(B, views * detectors)``."""
        return _product(self.matrix, images)

    def adjoint(self, sinograms: Tensor) -> Tensor:
        """A^T y for flat sinograms ``(B, views * detectors)``: ``(B, height * width)``."""
        return _product(self.transpose, sinograms)

    @property
    def bytes(self) -> int:
        """Memory that the two matrices take."""
        return sum(
            part.numel() * part.element_size()
            for stored in (self.matrix, self.transpose)
            for part in (stored.crow_indices(), stored.col_indices(), stored.values())
        )


def estimated_bytes(geometry: ParallelGeometry, dtype: torch.dtype = torch.float32) -> int:
    """Memory that the matrix of a geometry and its transpose will take."""
    rows = geometry.views * geometry.detectors + geometry.shape[0] * geometry.shape[1]
    return 2 * geometry.entries * (dtype.itemsize + _INDEX_BYTES) + rows * _INDEX_BYTES


def sparse_projector(
    geometry: ParallelGeometry, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> SparseProjector:
    """The matrices of a geometry: those of a living operator or of the cache, else built now."""
    return _cache.get(geometry, dtype, torch.device(device))


def clear_cache() -> None:
    """Forget the matrices that no operator holds."""
    _cache.clear()


class MatrixCache:
    """Matrices by geometry, dtype and device.

    Operators hold their own matrices; the cache remembers them weakly, and the most recently used strongly up
    to a number of bytes, so that an operator made again finds them.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._lock = threading.Lock()
        self._building: weakref.WeakValueDictionary[_Key, _KeyLock] = weakref.WeakValueDictionary()
        self._living: weakref.WeakValueDictionary[_Key, SparseProjector] = weakref.WeakValueDictionary()
        self._recent: OrderedDict[_Key, SparseProjector] = OrderedDict()

    def __len__(self) -> int:
        """Number of projectors remembered strongly."""
        return len(self._recent)

    def get(self, geometry: ParallelGeometry, dtype: torch.dtype, device: torch.device) -> SparseProjector:
        """The projector of a geometry; threads that ask for the same one wait for a single build."""
        key = (geometry, dtype, device)
        with self._lock:
            key_lock = self._building.setdefault(key, _KeyLock())
        with key_lock.lock:  # one thread builds, the others wait and find it
            found = self._living.get(key)
            if found is None:
                found = (
                    _build(geometry, dtype)
                    if device.type == "cpu"
                    else _moved(self.get(geometry, dtype, torch.device("cpu")), device)
                )
            self._remember(key, found)
        return found

    def _remember(self, key: _Key, projector: SparseProjector) -> None:
        with self._lock:
            self._living[key] = projector
            self._recent[key] = projector
            self._recent.move_to_end(key)
            total = sum(kept.bytes for kept in self._recent.values())
            while total > self.most_bytes:
                _, dropped = self._recent.popitem(last=False)
                total -= dropped.bytes

    def clear(self) -> None:
        """Forget all but what operators hold."""
        with self._lock:
            self._recent.clear()


_Key = tuple[ParallelGeometry, torch.dtype, torch.device]


class _KeyLock:
    def __init__(self) -> None:
        self.lock = threading.Lock()


_cache = MatrixCache(most_bytes=2 * 1024**3)


def _build(geometry: ParallelGeometry, dtype: torch.dtype) -> SparseProjector:
    precision = np.float64 if dtype == torch.float64 else np.float32
    matrix, transpose = joseph_matrix(geometry, precision, threads=torch.get_num_threads())
    return SparseProjector(_as_tensor(matrix), _as_tensor(transpose))


def _as_tensor(rows: SparseRows) -> Tensor:
    starts, columns, values = (torch.from_numpy(part) for part in (rows.starts, rows.columns, rows.values))
    with warnings.catch_warnings():
        # the products used here are MKL's and cuSPARSE's own and tested against dense ones
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(starts, columns, values, rows.shape, check_invariants=False)


def _moved(projector: SparseProjector, device: torch.device) -> SparseProjector:
    return SparseProjector(projector.matrix.to(device), projector.transpose.to(device))


def _product(matrix: Tensor, rows: Tensor) -> Tensor:
    """``rows @ matrix.T``; one row as a vector, several as column-major right-hand sides without a copy."""
    result = rows.new_empty(rows.shape[0], matrix.shape[0])
    for start in range(0, rows.shape[0], _MOST_COLUMNS):
        some = rows[start : start + _MOST_COLUMNS]
        if some.shape[0] == 1:
            torch.mv(matrix, some[0], out=result[start])
        else:
            result[start : start + _MOST_COLUMNS] = (matrix @ some.T).T
    return result
