"""A projection matrix and its transpose as torch sparse tensors, built once for each geometry and shared."""

from __future__ import annotations

import functools
import threading
import warnings
import weakref
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recon_operators.joseph import SparseRows, projection_matrix
from recon_operators.scan_geometry import ScanGeometry
from recon_operators.scan_symmetry import ScanSymmetry, find_symmetry

_INDEX_BYTES = 4
_MOST_COLUMNS = 64
# numbers of a block of right-hand sides: beyond 32 MiB every allocation is paged in anew, which many columns at a
# time outweigh at 512 x 512 and above
_LARGEST_BLOCK = 2**24


@dataclass(frozen=True, eq=False)
class SparseProjector:
    """A and its transpose for a scan: the matrices of a part of it, from which the rest follows by symmetry.

    An image becomes a block of right-hand sides, one for each turn of the image, and the sinogram is picked
    from the products; a batch adds right-hand sides.

    Attributes:
        geometry: the whole scan.
        matrix: projection matrix of the part in mm, sparse CSR (rays, pixels) with int32 indices.
        transpose: its transpose, stored too: torch converts a transposed view anew at every product.
        tables: how images are turned and rays are picked; None if the part is the whole.
    """

    geometry: ScanGeometry
    matrix: Tensor
    transpose: Tensor
    tables: TurnTables | None

    def forward(self, images: Tensor) -> Tensor:
        """A x for ``(B, height, width)``: ``(B, views, detectors)``."""
        result = images.new_empty(len(images), self.geometry.views * self.geometry.detectors)
        for some in self._chunks(len(images)):
            result[some] = self._forward(images[some].flatten(1))
        return result.reshape(-1, self.geometry.views, self.geometry.detectors)

    def adjoint(self, sinograms: Tensor) -> Tensor:
        """A^T y for ``(B, views, detectors)``: ``(B, height, width)``."""
        result = sinograms.new_empty(len(sinograms), self.transpose.shape[0])
        for some in self._chunks(len(sinograms)):
            result[some] = self._adjoint(sinograms[some].flatten(1))
        return result.reshape(-1, *self.geometry.shape)

    def _chunks(self, items: int) -> list[slice]:
        """Slices of a batch whose right-hand sides make a block of good size."""
        turns = 1 if self.tables is None else self.tables.turns
        columns = min(_MOST_COLUMNS, _LARGEST_BLOCK // max(self.matrix.shape))
        step = max(1, columns // turns)
        return [slice(first, first + step) for first in range(0, items, step)]

    def _forward(self, images: Tensor) -> Tensor:
        if self.tables is None:
            return product(self.matrix, images)
        pixels, items = images.shape[1], images.shape[0]
        turned = _picked(images.T.contiguous(), self.tables.turned_pixels).reshape(pixels, -1)
        parts = _block_product(self.matrix, turned)
        return _picked(parts.reshape(-1, items), self.tables.rays).T

    def _adjoint(self, sinograms: Tensor) -> Tensor:
        if self.tables is None:
            return product(self.transpose, sinograms)
        items = sinograms.shape[0]
        padded = torch.nn.functional.pad(sinograms, (0, 1)).T.contiguous()
        first, *others = self.tables.sources
        parts = _picked(padded, first)
        for sources in others:
            parts = parts + _picked(padded, sources)
        spread = _block_product(self.transpose, parts.reshape(self.matrix.shape[0], -1))
        return torch.nn.functional.embedding_bag(
            self.tables.turned_back, spread.reshape(-1, items), mode="sum"
        ).T

    @functools.cached_property
    def bytes(self) -> int:
        """Memory that the matrices and tables take, found once.

        The cache asks it of every projector that it keeps: were the tensors touched again each time, they would count
        as needed by whatever is being measured (`recon.memory.Meter`).
        """
        parts = [] if self.tables is None else self.tables.tensors
        for stored in (self.matrix, self.transpose):
            parts = [*parts, stored.crow_indices(), stored.col_indices(), stored.values()]
        return sum(part.numel() * part.element_size() for part in parts)

    def to(self, device: torch.device) -> SparseProjector:
        """The same on another device."""
        tables = None if self.tables is None else self.tables.to(device)
        return SparseProjector(self.geometry, self.matrix.to(device), self.transpose.to(device), tables)


@dataclass(frozen=True, eq=False)
class TurnTables:
    """A scan's symmetry as int32 tables; "row" counts pairs (pixel or ray of the part, turn), turn fastest.

    Attributes:
        turns: number of turns.
        turned_pixels: for each row the pixel of the image that the turn brings there.
        turned_back: for each pixel of the image its row for each turn, ``(pixels, turns)``.
        rays: for each ray of the scan its row.
        sources: for each row the ray of the scan that it belongs to, or the number of rays for none; several
            tables where several rays share a row.
    """

    turns: int
    turned_pixels: Tensor
    turned_back: Tensor
    rays: Tensor
    sources: tuple[Tensor, ...]

    @staticmethod
    def of(symmetry: ScanSymmetry, detectors: int) -> TurnTables | None:
        """The tables of a symmetry and the whole detector, or None for the trivial one."""
        turns = len(symmetry.turns)
        if turns == 1:
            return None
        height, width = symmetry.part.shape
        pixels = torch.arange(height * width).reshape(height, width)
        turned = torch.stack([turn.apply(pixels).flatten() for turn in symmetry.turns], dim=1)
        back = torch.stack([turn.undo(pixels).flatten() for turn in symmetry.turns], dim=1)
        part_rays = symmetry.part.views * symmetry.part.detectors
        places = symmetry.rays(detectors)
        rays = places % part_rays * turns + places // part_rays
        return TurnTables(
            turns,
            turned.flatten().to(torch.int32),
            (back * turns + torch.arange(turns)).to(torch.int32),
            rays.to(torch.int32),
            _sources(rays, part_rays * turns),
        )

    @property
    def tensors(self) -> list[Tensor]:
        """All tables."""
        return [self.turned_pixels, self.turned_back, self.rays, *self.sources]

    def to(self, device: torch.device) -> TurnTables:
        """The same on another device."""
        pixels, back, rays, *sources = (table.to(device) for table in self.tensors)
        return TurnTables(self.turns, pixels, back, rays, tuple(sources))


def _sources(rays: Tensor, rows: int) -> tuple[Tensor, ...]:
    """Tables that together list every ray once at its row."""
    tables = []
    left = torch.arange(len(rays))
    while len(left):
        table = torch.full((rows,), len(rays))
        table[rays[left]] = left
        tables.append(table.to(torch.int32))
        left = left[table[rays[left]] != left]
    return tuple(tables)


def estimated_bytes(geometry: ScanGeometry, dtype: torch.dtype = torch.float32) -> int:
    """Memory that the matrices and tables of a geometry will take."""
    symmetry = find_symmetry(geometry)
    part, turns = symmetry.part, len(symmetry.turns)
    rays, pixels = part.views * part.detectors, part.shape[0] * part.shape[1]
    tables = 0 if turns == 1 else 2 * turns * pixels + turns * rays + geometry.views * geometry.detectors
    return 2 * part.entries * bytes_per_entry(dtype) + (rays + pixels + tables) * _INDEX_BYTES


def bytes_per_entry(dtype: torch.dtype) -> int:
    """Memory of one entry of one matrix: its value and its column."""
    return dtype.itemsize + _INDEX_BYTES


def sparse_projector(
    geometry: ScanGeometry, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
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

    def get(self, geometry: ScanGeometry, dtype: torch.dtype, device: torch.device) -> SparseProjector:
        """The projector of a geometry; threads that ask for the same one wait for a single build."""
        key = (geometry, dtype, device)
        with self._lock:
            key_lock = self._building.setdefault(key, _KeyLock())
        with key_lock.lock:  # one thread builds, the others wait and find it
            found = self._living.get(key)
            if found is None:
                found = (
                    build_projector(geometry, dtype)
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


_Key = tuple[ScanGeometry, torch.dtype, torch.device]


class _KeyLock:
    def __init__(self) -> None:
        self.lock = threading.Lock()


_cache = MatrixCache(most_bytes=2 * 1024**3)


def build_projector(
    geometry: ScanGeometry, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> SparseProjector:
    """The matrices of a geometry, built now and remembered nowhere."""
    symmetry = find_symmetry(geometry)
    precision = np.float64 if dtype == torch.float64 else np.float32
    matrix, transpose = projection_matrix(symmetry.part, precision, threads=torch.get_num_threads())
    tables = TurnTables.of(symmetry, geometry.detectors)
    built = SparseProjector(geometry, sparse_tensor(matrix), sparse_tensor(transpose), tables)
    return built if torch.device(device).type == "cpu" else built.to(torch.device(device))


def sparse_tensor(rows: SparseRows) -> Tensor:
    """The rows as a torch sparse CSR tensor on the same memory."""
    starts, columns, values = (torch.from_numpy(part) for part in (rows.starts, rows.columns, rows.values))
    return compressed_rows(starts, columns, values, rows.shape)


def compressed_rows(starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A torch sparse CSR tensor on the same memory."""
    with warnings.catch_warnings():
        # the products used here are MKL's and cuSPARSE's own and tested against dense ones
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=False)


def _picked(rows: Tensor, index: Tensor) -> Tensor:
    """``rows[index]``; rows of one number as a vector, which torch picks five times as fast."""
    if rows.shape[1] == 1:
        return rows[:, 0].index_select(0, index)[:, None]
    return rows.index_select(0, index)


def product(matrix: Tensor, rows: Tensor) -> Tensor:
    """``rows @ matrix.T``; a single row as a vector, for which the sparse product is fastest."""
    if len(rows) == 1:
        return torch.mv(matrix, rows[0])[None]
    return _block_product(matrix, rows.T.contiguous()).T


def _block_product(matrix: Tensor, block: Tensor) -> Tensor:
    """``matrix @ block`` for a contiguous block of columns.

    On the CPU a sum of weighted rows of the block, for which torch's embedding_bag has generated vector code:
    with many columns some three times as fast as MKL's sparse product.
    """
    if block.device.type == "cpu" and block.dtype == torch.float32:
        return torch.nn.functional.embedding_bag(
            matrix.col_indices(),
            block,
            matrix.crow_indices(),
            mode="sum",
            per_sample_weights=matrix.values(),
            include_last_offset=True,
        )
    return matrix @ block
