"""What the CT operators of every 2-D geometry share: backends, matrices, symbol, noise level."""

from __future__ import annotations

import inspect
import math
import numbers
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from recon.linear import LinearOperator
from recon.subsets import Subset
from recon_operators import astra_projector
from recon_operators.line_integrals import LineIntegrals, Projector, radial_frequency
from recon_operators.scan_geometry import ScanGeometry
from recon_operators.sinogram_noise import sinogram_noise
from recon_operators.sparse_projector import estimated_bytes, sparse_projector
from recon_operators.view_subsets import interleaved_views

Backend = Literal["auto", "matrix", "astra"]
ChosenBackend = Literal["matrix", "strip", "fourier", "astra"]
ParallelBackend = Literal["auto", "matrix", "strip", "fourier", "astra"]


class Tomography(LineIntegrals):
    """Line integrals of an image along the rays of a `ScanGeometry`; the base of the CT operators.

    Args:
        geometry: the scan.
        backend: one of `backends`, or ``"auto"``, which chooses by scan, device and memory.
        memory_limit: most that ``"auto"`` spends on a matrix [bytes].
    """

    backends: tuple[ChosenBackend, ...] = ("matrix", "astra")

    def __init__(self, geometry: ScanGeometry, backend: ParallelBackend, memory_limit: int) -> None:
        super().__init__(geometry.shape, (geometry.views, geometry.detectors))
        if backend not in ("auto", *self.backends):
            *others, last = map(repr, ("auto", *self.backends))
            raise ValueError(f"backend must be {', '.join(others)} or {last}, got {backend!r}")
        if backend == "astra" and not astra_projector.is_installed():
            raise ImportError(astra_projector.NOT_INSTALLED)
        if memory_limit != int(memory_limit) or memory_limit < 0:
            raise ValueError(f"memory_limit must be a number of bytes >= 0, got {memory_limit!r}")
        self.geometry = geometry
        self.requested_backend: ParallelBackend = backend
        self.memory_limit = int(memory_limit)
        # the buffer carries the device; computations use the geometry's float64 angles
        self.register_buffer("angles", torch.tensor(geometry.angles, dtype=torch.float32), persistent=False)
        self._matrix_bytes = estimated_bytes(geometry)
        self._warned = False

    @property
    def backend(self) -> ChosenBackend:
        """The backend in use on the operator's device."""
        return self._automatic_backend() if self.requested_backend == "auto" else self.requested_backend

    def _automatic_backend(self) -> ChosenBackend:
        if self.device.type == "cuda" and not astra_projector.has_cuda():
            return "matrix"
        if self.device.type not in ("cpu", "cuda") or self._matrix_bytes <= self.memory_limit:
            return "matrix"
        return "astra"

    def approximate_symbol(self) -> Tensor:
        """Eigenvalues c/|w| of the convolution that A^T A nearly is, ``(height, width)``, in mm^2.

        Many views measured finely make A^T A the convolution with views/pi * pixel_size^2/spacing / |x| per
        unit area, spacing being the distance of neighbouring rays, and 1/|x| has the Fourier transform 1/|f|:
        with f = w/(2 pi pixel_size) and w in radian per pixel,

            c = 2 views pixel_size^3 / spacing.

        In fan beam the rays are detector_size / magnification apart on the rotation axis. Elsewhere they are
        denser in the views from near and sparser in those from afar, which over a turn nearly evens out.
        At w = 0, where the finite image has no infinite eigenvalue, stands half the lowest frequency.
        """
        if self._symbol is None:
            geometry = self.geometry
            scale = 2 * geometry.views * geometry.pixel_size**3 / geometry.detector_size_at_axis
            self._symbol = scale / radial_frequency(*geometry.shape, self.device)
        return self._symbol

    def subsets(self, count: int) -> list[Subset]:
        """Interleaved views; see `recon_operators.view_subsets`."""
        arguments, named = self.constructor_arguments  # type: ignore[misc]
        bound = inspect.signature(type(self)).bind(*arguments, **named).arguments
        bound["detectors"] = self.geometry.detectors  # which may have been as many as cover the image

        def scan_of(views: slice) -> LinearOperator:
            return type(self)(**bound | {"angles": self.geometry.angles[views]})

        return interleaved_views(self, count, 0, scan_of)

    def noise_level(self, y: Tensor) -> Tensor:
        """Root mean square over each sinogram of its noise's standard deviation; see `sinogram_noise`."""
        return sinogram_noise(y)

    def extra_repr(self) -> str:
        """Geometry for `repr`."""
        geometry = self.geometry
        return (
            f"{geometry.shape} pixels of {geometry.pixel_size:g} mm -> {geometry.views} views x "
            f"{geometry.detectors} elements of {geometry.detector_size:g} mm, backend={self.backend!r}"
            + (" (auto)" if self.requested_backend == "auto" else "")
        )

    def _projector(self, backend: str, dtype: torch.dtype, device: torch.device) -> Projector:
        if backend == "matrix":
            return sparse_projector(self.geometry, dtype, device)
        if device.type == "cuda":
            if not astra_projector.has_cuda():
                raise RuntimeError(
                    f"backend='astra' cannot project on {device}: the installed ASTRA sees no CUDA device; "
                    "use backend='matrix'"
                )
            return astra_projector.AstraCudaProjector(self.geometry, device)
        if self.requested_backend == "auto":
            self._explain_memory_limit()
        return astra_projector.AstraProjector(self.geometry)

    def _explain_memory_limit(self) -> None:
        needed, limit = self._matrix_bytes / 1024**3, self.memory_limit / 1024**3
        problem = (
            f"the projection matrix of {self.extra_repr()} would take {needed:.1f} GiB, over the "
            f"memory_limit of {limit:.1f} GiB"
        )
        remedy = f"pass memory_limit={self._matrix_bytes} or more to build the matrix"
        if not astra_projector.is_installed():
            raise ImportError(
                f"{problem}, and ASTRA is not installed: {remedy}, or pip install 'recon[astra]'"
            )
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{problem}: ASTRA's CPU projector is used, some ten times slower and in float32; {remedy}",
                stacklevel=2,
            )


# What the constructors check


def image_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of an image.

    Raises:
        ValueError: not two positive integers.
    """
    sides: list[Any] = np.asarray(shape).reshape(-1).tolist()
    if len(sides) != 2 or any(side != int(side) or side < 1 for side in sides):
        raise ValueError(f"shape must be two positive integers (rows, columns), got {shape!r}")
    height, width = (int(side) for side in sides)
    return height, width


def length(name: str, value: float, *, least: float | None = None) -> float:
    """A finite length [mm] above 0, or from ``least`` on.

    Raises:
        ValueError: it is none.
    """
    fine = value > 0 if least is None else value >= least
    if not (math.isfinite(value) and fine):
        raise ValueError(f"{name} must be a length in mm {'>' if least is None else '>='} 0, got {value!r}")
    return float(value)


def finite_offset(value: float) -> float:
    """The offset of a detector [mm].

    Raises:
        ValueError: it is not finite.
    """
    if not math.isfinite(value):
        raise ValueError(f"detector_offset must be a finite length in mm, got {value!r}")
    return float(value)


def detector_count(detectors: int | None, needed: float) -> int:
    """The number of detector elements: as given, or as many as are needed.

    Raises:
        ValueError: not a positive integer.
    """
    if detectors is None:
        return max(1, math.ceil(needed - 1e-9))
    if detectors != int(detectors) or detectors < 1:
        raise ValueError(
            f"detectors must be a positive integer (or None to cover the image), got {detectors!r}"
        )
    return int(detectors)


def radians(angles: int | Sequence[float] | Tensor, full_range: float) -> tuple[float, ...]:
    """The angles of the views: as given, or a number of them equally spaced over ``full_range`` [radian].

    Raises:
        ValueError: no positive number, or angles that are none.
    """
    given = angles.detach().cpu().numpy() if isinstance(angles, Tensor) else np.asarray(angles)
    if given.ndim == 0:
        number: Any = given.item()
        if isinstance(number, bool) or not isinstance(number, numbers.Integral) or number < 1:
            raise ValueError(
                f"angles must be a positive number of views or a list of angles in radians, got {angles!r}"
            )
        return tuple(full_range * view / int(number) for view in range(int(number)))
    theta = given.astype(np.float64).reshape(-1)
    if theta.size == 0:
        raise ValueError("angles is empty: give the number of views, or at least one angle in radians")
    if not np.isfinite(theta).all():
        raise ValueError(f"angles must be finite radians, got {theta[~np.isfinite(theta)][0]} among them")
    largest = float(np.abs(theta).max())
    if largest > 2 * math.pi + 1e-6:
        warnings.warn(
            f"angles up to {largest:g} are beyond 2 pi and look like degrees: pass radians, "
            "numpy.deg2rad(angles)",
            stacklevel=4,
        )
    return tuple(theta.tolist())
