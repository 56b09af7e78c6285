"""ASTRA's projectors on torch tensors; the one file that imports ASTRA.

ASTRA is licensed under the GPL-3 and is an optional extra of this project.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon_operators.cone_geometry import ConeGeometry
from recon_operators.scan_geometry import FanGeometry, ScanGeometry

# ASTRA's GPU back-projector interpolates the sinogram at the pixel; the transpose of its forward projector
# would spread each ray. On white noise the two differ by up to 18 % (more views: less); on smooth sinograms
# by about 1 %.
CUDA_ADJOINT_TOLERANCE = 0.2

NOT_INSTALLED = "backend='astra' needs the ASTRA toolbox: pip install 'recon[astra]', or use backend='matrix'"

_UNWRITTEN = 2.0**126  # exact in float32; no projection of sensible data comes near it
_MOST_DIRECTION_CHANGES = 8


def is_installed() -> bool:
    """Whether ASTRA can be imported, found out without importing it."""
    return find_spec("astra") is not None


@functools.cache
def has_cuda() -> bool:
    """Whether ASTRA is installed and sees a CUDA device."""
    return is_installed() and bool(_astra().use_cuda())


def _astra() -> Any:
    try:
        import astra
    except ImportError as error:
        raise ImportError(NOT_INSTALLED) from error
    return astra


class AstraProjector:
    """ASTRA's CPU projectors, in float32 and without a matrix, so any size fits; several threads for a batch.

    ``linear`` in parallel beam is the matrix of `projection_matrix`, ray by ray. In fan beam ``line_fanflat``
    weights a pixel by the length of the ray inside it.
    """

    def __init__(self, geometry: ScanGeometry) -> None:
        astra = _astra()
        self.geometry = geometry
        if isinstance(geometry, FanGeometry):
            kernel, kind, vectors = "line_fanflat", "fanflat_vec", _fan_vectors(geometry)
        else:
            kernel, kind, vectors = "linear", "parallel_vec", _parallel_vectors(geometry, y_up=True)
        self._number = astra.create_projector(
            kernel,
            astra.create_proj_geom(kind, geometry.detectors, vectors),
            astra.create_vol_geom(*geometry.shape),
        )
        weakref.finalize(self, astra.projector.delete, self._number)

    def forward(self, images: Tensor) -> Tensor:
        """A x for ``(B, height, width)``: ``(B, views, detectors)``."""
        direct = _astra().projector.direct_FP
        return self._apply(direct, images, (self.geometry.views, self.geometry.detectors))

    def adjoint(self, sinograms: Tensor) -> Tensor:
        """A^T y for ``(B, views, detectors)``: ``(B, height, width)``."""
        return self._apply(_astra().projector.direct_BP, sinograms, self.geometry.shape)

    def _apply(self, direct: Callable[..., Any], items: Tensor, shape: tuple[int, int]) -> Tensor:
        source = items.detach().to(torch.float32).contiguous().numpy()
        result = np.zeros((len(source), *shape), dtype=np.float32)
        threads = min(torch.get_num_threads(), len(source))
        if threads == 1:
            for item, target in zip(source, result, strict=True):
                direct(self._number, item, out=target)
        else:  # the calls release the interpreter lock
            with ThreadPoolExecutor(threads) as pool:
                for done in [
                    pool.submit(direct, self._number, item, out=target)
                    for item, target in zip(source, result, strict=True)
                ]:
                    done.result()
        return torch.from_numpy(result).to(items.dtype).mul_(self.geometry.pixel_size)


class AstraCudaProjector:
    """ASTRA's CUDA projectors on one device, on the tensors' own memory.

    In parallel beam a batch of slices is one 3-D call; fans of slices above each other would tilt, so in fan
    beam each image is a 2-D call, and in cone beam each volume a 3-D one. ASTRA keeps the geometry of a call in
    the device's constant memory, so calls on one device take turns.
    """

    def __init__(self, geometry: ScanGeometry | ConeGeometry, device: torch.device) -> None:
        self.geometry, self.device = geometry, device
        self._planar = isinstance(geometry, FanGeometry)  # 2-D calls
        self._one_by_one = self._planar or isinstance(geometry, ConeGeometry)
        self._order = _smooth_order(geometry)
        self._numbers: dict[int, int] = {}

    def forward(self, images: Tensor) -> Tensor:
        """A x for ``(B, *image shape)``: ``(B, *data shape)``, in 2-D ``(B, views, detectors)``."""
        sinograms = self._apply("direct_FP", images, self._data_shape())
        if self._order is None:
            return sinograms
        return sinograms.index_select(-2, torch.argsort(torch.as_tensor(self._order, device=self.device)))

    def adjoint(self, sinograms: Tensor) -> Tensor:
        """Approximately A^T y for ``(B, *data shape)``: ``(B, *image shape)``."""
        if self._order is not None:
            sinograms = sinograms.index_select(-2, torch.as_tensor(self._order, device=self.device))
        return self._apply("direct_BP", sinograms, self.geometry.shape)

    def _data_shape(self) -> tuple[int, ...]:
        if isinstance(self.geometry, ConeGeometry):
            rows, columns = self.geometry.detectors
            return rows, self.geometry.views, columns
        return self.geometry.views, self.geometry.detectors

    def _apply(self, call: str, items: Tensor, shape: tuple[int, ...]) -> Tensor:
        source = items.detach().to(torch.float32).contiguous()
        result = source.new_empty(len(source), *shape)
        if self._one_by_one:
            for one, its_result in zip(source, result, strict=True):
                self._run(call, 0, one, its_result)
        else:
            self._run(call, len(source), source, result)
        return result.to(items.dtype).mul_(self.geometry.pixel_size)

    def _run(self, call: str, slices: int, source: Tensor, result: Tensor) -> None:
        """One call for a stack of slices, or for a bare image or volume where ``slices`` is 0."""
        with _one_call_at_a_time(self.device), torch.cuda.device(self.device):
            number = self._projector(slices)
            if not self._written(call, number, source, result):
                torch.cuda.empty_cache()  # ASTRA takes its memory from the driver, not from torch's reserve
                if not self._written(call, number, source, result):
                    raise RuntimeError(
                        f"ASTRA's {call} wrote no result for {tuple(source.shape)} on {self.device} and said "
                        "nothing: most likely the device's memory is full; use a smaller batch, or "
                        "another backend"
                    )

    def _written(self, call: str, number: int, source: Tensor, result: Tensor) -> bool:
        """Run a call and find out whether it did anything: ASTRA 2.5.0 does not raise when one fails."""
        module = _astra().projector if self._planar else _astra().projector3d
        direct = getattr(module, call)

        def largest(source: Tensor, result: Tensor) -> float:
            result.fill_(_UNWRITTEN)
            # ASTRA's stream waits for the default stream only, so work queued on torch's own is finished
            # first
            torch.cuda.current_stream(self.device).synchronize()
            direct(number, source, out=result)
            return float(torch.linalg.vector_norm(result, float("inf")))

        found = largest(source, result)
        if found == 0 and bool(source.any()):
            # a failed call can leave zeros; zeros are also right for rays that miss the image: ones tell
            # which
            found = largest(torch.ones_like(source), torch.empty_like(result)) or _UNWRITTEN
        return found != _UNWRITTEN

    def _projector(self, slices: int) -> int:
        """ASTRA's number of the projector for a stack of slices, or a bare item; one for each size met."""
        if slices not in self._numbers:
            astra, options = _astra(), {"GPUIndex": self.device.index or 0}
            if self._planar:
                number = astra.create_projector("cuda", *self._flat(), options=options)
                weakref.finalize(self, astra.projector.delete, number)
            else:
                stack = isinstance(self.geometry, ScanGeometry)
                geometries = self._stacked(slices) if stack else self.cone_geometries()
                number = astra.create_projector("cuda3d", *geometries, options=options)
                weakref.finalize(self, astra.projector3d.delete, number)
            self._numbers[slices] = number
        return self._numbers[slices]

    def _flat(self) -> tuple[Any, Any]:
        astra, geometry = _astra(), self.geometry
        assert isinstance(geometry, FanGeometry)
        vectors = self._ordered(_fan_vectors(geometry))
        return (
            astra.create_proj_geom("fanflat_vec", geometry.detectors, vectors),
            astra.create_vol_geom(*geometry.shape),
        )

    def _stacked(self, slices: int) -> tuple[Any, Any]:
        astra, geometry = _astra(), self.geometry
        assert isinstance(geometry, ScanGeometry)
        # ASTRA counts the rows of a 2-D image downwards along -y, those of a 3-D slice along +y
        flat = _parallel_vectors(geometry, y_up=False)
        vectors = np.zeros((geometry.views, 12))
        vectors[:, 0:2], vectors[:, 3:5], vectors[:, 6:8] = flat[:, 0:2], flat[:, 2:4], flat[:, 4:6]
        vectors[:, 11] = 1.0
        return (
            astra.create_proj_geom("parallel3d_vec", slices, geometry.detectors, self._ordered(vectors)),
            astra.create_vol_geom(*geometry.shape, slices),
        )

    def cone_geometries(self) -> tuple[Any, Any]:
        """ASTRA's projection and volume geometry of a cone-beam scan, in voxels."""
        astra, geometry = _astra(), self.geometry
        assert isinstance(geometry, ConeGeometry)
        slices, height, width = geometry.shape
        mirrored = geometry.frames * np.array([1.0, -1.0, 1.0]) / geometry.pixel_size  # y as in `_stacked`
        return (
            astra.create_proj_geom("cone_vec", *geometry.detectors, self._ordered(mirrored.reshape(-1, 12))),
            astra.create_vol_geom(height, width, slices),
        )

    def _ordered(self, vectors: np.ndarray) -> np.ndarray:
        return vectors if self._order is None else vectors[self._order]


_device_locks: dict[int, threading.Lock] = {}
_device_locks_guard = threading.Lock()


@contextlib.contextmanager
def _one_call_at_a_time(device: torch.device) -> Iterator[None]:
    with _device_locks_guard:
        lock = _device_locks.setdefault(device.index or 0, threading.Lock())
    with lock:
        yield


def _parallel_vectors(geometry: ScanGeometry, *, y_up: bool) -> np.ndarray:
    """Ray direction, detector middle and step between elements of each view, in pixels, ``(views, 6)``."""
    theta = np.asarray(geometry.angles)
    sign = 1.0 if y_up else -1.0
    along = np.stack([np.cos(theta), sign * np.sin(theta)], axis=1)
    rays = np.stack([np.sin(theta), -sign * np.cos(theta)], axis=1)
    middle = along * (geometry.detector_offset / geometry.pixel_size)
    return np.hstack([rays, middle, along * (geometry.detector_size / geometry.pixel_size)])


def _fan_vectors(geometry: FanGeometry) -> np.ndarray:
    """Source, detector middle and step between elements of each view, in pixels, ``(views, 6)``."""
    theta = np.asarray(geometry.angles)
    along = np.stack([np.cos(theta), np.sin(theta)], axis=1)
    towards_source = np.stack([np.sin(theta), -np.cos(theta)], axis=1)
    middle = along * geometry.detector_offset - towards_source * geometry.origin_detector
    lengths = [towards_source * geometry.source_origin, middle, along * geometry.detector_size]
    return np.hstack(lengths) / geometry.pixel_size


def _smooth_order(geometry: ScanGeometry | ConeGeometry) -> np.ndarray | None:
    """An order of the views in which rays turn slowly, or None if theirs is good.

    ASTRA launches its kernels anew whenever the axis nearest to the rays changes, which for golden-angle views
    is at almost every one.
    """
    if isinstance(geometry, ConeGeometry):
        central = geometry.frames[:, 1] - geometry.frames[:, 0]
        nearest = np.argmax(np.abs(central), axis=1)
        turned = np.arctan2(central[:, 1], central[:, 0])
    else:
        period = 2 * np.pi if isinstance(geometry, FanGeometry) else np.pi
        theta = np.asarray(geometry.angles)
        nearest = np.abs(np.cos(theta)) < np.abs(np.sin(theta))
        turned = np.mod(theta, period)
    if np.count_nonzero(nearest[1:] != nearest[:-1]) <= _MOST_DIRECTION_CHANGES:
        return None
    return np.argsort(turned, kind="stable")
