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
from recon_operators.scan_symmetry import ScanSymmetry, find_symmetry

_INDEX_BYTES = 4
_FEWEST_COLUMNS = 8  # right-hand sides of one product; more slow MKL down, unless all fit the cache
_CACHED = 2**18


@dataclass(frozen=True, eq=False)
class SparseProjector:
    """A and its transpose for a scan: the matrices of a part of it, from which the rest follows by symmetry.

    Both are stored, because torch converts a transposed view of a sparse tensor anew at every product.

    Attributes:
        geometry: the whole scan.
        symmetry: its turns and rays.
        matrix: the part's projection matrix in mm, sparse CSR (rays, pixels) with int32 indices.
        transpose: its transpose, sparse CSR.
        rays: for each ray of the scan its place in ``(turns, rows of the matrix)``.
    """

    geometry: ParallelGeometry
    symmetry: ScanSymmetry
    matrix: Tensor
    transpose: Tensor
    rays: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """A x for ``(B, height, width)``: ``(B, views, detectors)``."""
        turns = self.symmetry.turns
        if len(turns) == 1:
            sinograms = _product(self.matrix, images.flatten(1))
        else:
            turned = images.new_empty(len(images), len(turns), *self.geometry.shape)
            for number, turn in enumerate(turns):
                turned[:, number] = turn.apply(images)
            parts = _product(self.matrix, turned.flatten(2).flatten(0, 1))
            sinograms = parts.reshape(len(images), -1).index_select(1, self.rays)
        return sinograms.reshape(-1, self.geometry.views, self.geometry.detectors)

    def adjoint(self, sinograms: Tensor) -> Tensor:
        """A^T y for ``(B, views, detectors)``: ``(B, height, width)``."""
        turns = self.symmetry.turns
        if len(turns) == 1:
            return _product(self.transpose, sinograms.flatten(1)).reshape(-1, *self.geometry.shape)
        parts = sinograms.new_zeros(len(sinograms), len(turns) * self.matrix.shape[0])
        if self.symmetry.distinct:
            parts[:, self.rays] = sinograms.flatten(1)
        else:
            parts.index_add_(1, self.rays, sinograms.flatten(1))
        spread = _product(self.transpose, parts.reshape(-1, self.matrix.shape[0]))
        spread = spread.reshape(len(sinograms), len(turns), *self.geometry.shape)
        images = turns[0].undo(spread[:, 0])
        for number, turn in enumerate(turns[1:], start=1):
            images = images + turn.undo(spread[:, number])
        return images

    @property
    def bytes(self) -> int:
        """Memory that the two matrices and the table of rays take."""
        parts = [self.rays]
        for stored in (self.matrix, self.transpose):
            parts += [stored.crow_indices(), stored.col_indices(), stored.values()]
        return sum(part.numel() * part.element_size() for part in parts)

    def to(self, device: torch.device) -> SparseProjector:
        """The same on another device."""
        moved = (self.matrix.to(device), self.transpose.to(device), self.rays.to(device))
        return SparseProjector(self.geometry, self.symmetry, *moved)


def estimated_bytes(geometry: ParallelGeometry, dtype: torch.dtype = torch.float32) -> int:
    """Memory that the matrices of a geometry will take."""
    part = find_symmetry(geometry).part
    pointers = part.views * part.detectors + part.shape[0] * part.shape[1]
    table = geometry.views * geometry.detectors * torch.int64.itemsize
    return 2 * part.entries * (dtype.itemsize + _INDEX_BYTES) + pointers * _INDEX_BYTES + table


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
                    else self.get(geometry, dtype, torch.device("cpu")).to(device)
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
    symmetry = find_symmetry(geometry)
    precision = np.float64 if dtype == torch.float64 else np.float32
    matrix, transpose = joseph_matrix(symmetry.part, precision, threads=torch.get_num_threads())
    return SparseProjector(geometry, symmetry, sparse_tensor(matrix), sparse_tensor(transpose), symmetry.rays)


def sparse_tensor(rows: SparseRows) -> Tensor:
    """The rows as a torch sparse CSR tensor on the same memory."""
    starts, columns, values = (torch.from_numpy(part) for part in (rows.starts, rows.columns, rows.values))
    with warnings.catch_warnings():
        # the products used here are MKL's and cuSPARSE's own and tested against dense ones
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(starts, columns, values, rows.shape, check_invariants=False)


def _product(matrix: Tensor, rows: Tensor) -> Tensor:
    """``rows @ matrix.T``; one row as a vector, several as column-major right-hand sides without a copy."""
    result = rows.new_empty(rows.shape[0], matrix.shape[0])
    step = max(_FEWEST_COLUMNS, _CACHED // matrix.shape[1])
    for start in range(0, rows.shape[0], step):
        some = rows[start : start + step]
        if some.shape[0] == 1:
            torch.mv(matrix, some[0], out=result[start])
        else:
            result[start : start + step] = (matrix @ some.T).T
    return result
