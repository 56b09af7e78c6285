"""Computed tomography in 2-D parallel-beam geometry: the operator `ParallelBeam`."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from recon.linear import LinearOperator, Step
from recon.parameters import Param
from recon_operators import astra_projector
from recon_operators.filtered_backprojection import ViewInterpolation, weighted_views
from recon_operators.joseph import ParallelGeometry
from recon_operators.sinogram_noise import sinogram_noise
from recon_operators.sparse_projector import SparseProjector, estimated_bytes, sparse_projector

Backend = Literal["auto", "matrix", "astra"]
_Projector = SparseProjector | astra_projector.AstraProjector | astra_projector.AstraCudaProjector


class ParallelBeam(LinearOperator):
    """Line integrals of an image along parallel rays: the sinogram of a 2-D parallel-beam scan.

    Images ``(*batch, rows, columns)`` in 1/mm become sinograms ``(*batch, views, detectors)`` without unit,
    and the adjoint of a sinogram is in mm times its unit. Order and orientation are ASTRA's: with x to the
    right, y up (row 0 is the top) and the origin in the middle of the image, the element at position s of the
    view at angle theta integrates along the line x cos(theta) + y sin(theta) = s. Rays are integrated by
    Joseph's method.

    Backends:
        matrix: the projection matrix and its transpose, built at the first use, shared between operators of
            equal geometry and not saved with the operator. Exact adjoint, float32 and float64, CPU and GPU.
            The scan's symmetry is used: equally spaced views of a square image need an eighth of it.
        astra: the ASTRA toolbox, which holds no matrix. On the CPU the same matrix, in float32; on the GPU
            one call for a batch, whose adjoint is approximate (`adjoint_kind`).
        auto: on the CPU the matrix while it fits `memory_limit`, else ASTRA; on a GPU ASTRA where it is
            installed with CUDA, else the matrix.

    Raises:
        ValueError: a shape, size, angle or backend that makes no scan; the message names it and what to give.
        ImportError: ASTRA is needed and not installed.

    Warns:
        UserWarning: angles beyond 2 pi, which look like degrees; a detector that does not cover the image; a
            matrix over the memory limit.
    """

    domain = "real"
    nonnegative = True
    flatten_batch = True

    def __init__(
        self,
        shape: Annotated[Sequence[int], Param("image rows and columns", ge=1)],
        pixel_size: Annotated[float, Param("side of a square pixel", unit="mm", gt=0)] = 1.0,
        angles: Annotated[
            int | Sequence[float],
            Param("number of views, equally spaced over 180 degrees, or their angles in radians"),
        ] = 180,
        detectors: Annotated[
            int | None, Param("detector elements per view; none: as many as cover the image", ge=1)
        ] = None,
        detector_size: Annotated[
            float | None, Param("spacing of the detector elements; none: pixel_size", unit="mm", gt=0)
        ] = None,
        detector_offset: Annotated[
            float, Param("position of the detector's middle relative to the rotation axis", unit="mm")
        ] = 0.0,
        backend: Annotated[Backend, Param("what computes the projections")] = "auto",
        memory_limit: Annotated[
            int, Param("most that backend='auto' spends on a matrix in main memory", unit="bytes", ge=0)
        ] = 2 * 1024**3,
    ) -> None:
        geometry = _geometry(shape, pixel_size, angles, detectors, detector_size, detector_offset)
        super().__init__(geometry.shape, (geometry.views, geometry.detectors))
        if backend not in ("auto", "matrix", "astra"):
            raise ValueError(f"backend must be 'auto', 'matrix' or 'astra', got {backend!r}")
        if backend == "astra" and not astra_projector.is_installed():
            raise ImportError(astra_projector.NOT_INSTALLED)
        if memory_limit != int(memory_limit) or memory_limit < 0:
            raise ValueError(f"memory_limit must be a number of bytes >= 0, got {memory_limit!r}")
        self.geometry = geometry
        self.backend: Backend = backend
        self.memory_limit = int(memory_limit)
        # the buffer carries the device; computations use the geometry's float64 angles
        self.register_buffer("angles", torch.tensor(geometry.angles, dtype=torch.float32), persistent=False)
        self._projectors: dict[tuple[str, torch.dtype, torch.device], _Projector] = {}
        self._symbol: Tensor | None = None
        self._matrix_bytes = estimated_bytes(geometry)
        self._warned = False
        _warn_if_truncated(geometry)

    @property
    def chosen_backend(self) -> Literal["matrix", "astra"]:
        """The backend that projections use on the operator's device."""
        if self.backend != "auto":
            return self.backend
        if self.device.type == "cuda":
            return "astra" if astra_projector.has_cuda() else "matrix"
        if self.device.type != "cpu" or self._matrix_bytes <= self.memory_limit:
            return "matrix"
        return "astra"

    @property
    def adjoint_kind(self) -> Literal["exact", "approximate"]:  # type: ignore[override]
        """``"approximate"`` for ASTRA on a GPU: its back-projector is not its projector's transpose."""
        return "approximate" if self.device.type == "cuda" and self.chosen_backend == "astra" else "exact"

    @property
    def adjoint_tolerance(self) -> float:  # type: ignore[override]
        """Relative error of the adjoint on white noise; 0 for an exact one."""
        return astra_projector.CUDA_ADJOINT_TOLERANCE if self.adjoint_kind == "approximate" else 0.0

    def preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator]
    ) -> Callable[[Tensor], Tensor] | None:
        """The inverse of (c/|w| + sum_i rho_i S_i(w)) in the Fourier domain of the image.

        S_i are the `approximate_symbol` of the terms; a term that has none counts with the mean eigenvalue of
        K_i^H K_i, found by one random probe. See `approximate_symbol` for c/|w|; Ramani and Fessler, IEEE
        Trans. Med. Imaging 31, 2012.
        """
        height, width = self.domain_shape
        half = width // 2 + 1
        total: Tensor = self.approximate_symbol()[:, :half]
        for weight, term in zip(rho, terms, strict=True):
            symbol = term.approximate_symbol()
            part = _mean_eigenvalue(term, self.device) if symbol is None else symbol[:, :half].to(self.device)
            total = total + weight * part

        def apply(residual: Tensor) -> Tensor:
            spectrum = torch.fft.rfft2(residual) / total.to(residual.dtype)
            return torch.fft.irfft2(spectrum, s=(height, width))

        return apply

    def approximate_symbol(self) -> Tensor:
        """Eigenvalues c/|w| of the convolution that A^T A nearly is, ``(height, width)``, in mm^2.

        Many views measured finely make A^T A the convolution with views/pi * pixel_size^2/detector_size / |x|
        per unit area, and 1/|x| has the Fourier transform 1/|f|: with f = w/(2 pi pixel_size) and w in radian
        per pixel,

            c = 2 views pixel_size^3 / detector_size.

        At w = 0, where the finite image has no infinite eigenvalue, stands half the lowest frequency.
        """
        if self._symbol is not None:
            return self._symbol
        geometry = self.geometry
        height, width = geometry.shape
        vertical = torch.fft.fftfreq(height, device=self.device)[:, None] * 2 * math.pi
        horizontal = torch.fft.fftfreq(width, device=self.device) * 2 * math.pi
        radius = torch.sqrt(vertical.square() + horizontal.square())
        radius[0, 0] = math.pi / math.sqrt(height * width)
        self._symbol = 2 * geometry.views * geometry.pixel_size**3 / geometry.detector_size / radius
        return self._symbol

    def noise_level(self, y: Tensor) -> Tensor:
        """Root mean square over each sinogram of its noise's standard deviation; see `sinogram_noise`."""
        return sinogram_noise(y)

    def extra_repr(self) -> str:
        """Geometry for `repr`."""
        geometry = self.geometry
        return (
            f"{geometry.shape} pixels of {geometry.pixel_size:g} mm -> {geometry.views} views x "
            f"{geometry.detectors} elements of {geometry.detector_size:g} mm, backend={self.backend!r}"
        )

    def _forward(self, x: Tensor) -> Tensor:
        projector, images = self._prepared(x)
        return projector.forward(images)

    def _adjoint(self, y: Tensor) -> Tensor:
        projector, sinograms = self._prepared(y)
        return projector.adjoint(sinograms)

    def _gram(self, x: Tensor) -> Tensor:
        projector, images = self._prepared(x)
        return projector.adjoint(projector.forward(images))

    def _pinv(self, y: Tensor, *, filter: str = "ram-lak", cutoff: float = 1.0) -> Tensor:  # type: ignore[override]  # noqa: A002
        """Filtered back-projection; see `recon_operators.filtered_backprojection`.

        With the matrix backend the back-projection interpolates the views by a matrix of its own; with ASTRA it
        is the adjoint, a column of which sums to pixel_size^2 / detector_size in each view.
        """
        views = weighted_views(_full_precision(y), self.geometry, filter, cutoff)
        if self.chosen_backend == "matrix":
            return ViewInterpolation(self.geometry).adjoint(views).to(y.dtype)
        return (self.adjoint(views) * (self.geometry.detector_size / self.geometry.pixel_size**2)).to(y.dtype)

    def _prepared(self, items: Tensor) -> tuple[_Projector, Tensor]:
        items = _full_precision(items)
        key = (self.chosen_backend, items.dtype, items.device)
        if key not in self._projectors:
            self._projectors[key] = self._projector(*key)
        return self._projectors[key], items

    def _projector(self, backend: str, dtype: torch.dtype, device: torch.device) -> _Projector:
        if backend == "matrix":
            return sparse_projector(self.geometry, dtype, device)
        if device.type == "cuda":
            if not astra_projector.has_cuda():
                raise RuntimeError(
                    f"backend='astra' cannot project on {device}: the installed ASTRA sees no CUDA device; "
                    "use backend='matrix'"
                )
            return astra_projector.AstraCudaProjector(self.geometry, device)
        if self.backend == "auto":
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

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ParallelBeam:
        self._projectors.clear()  # what lies on the device left behind
        self._symbol = None
        super()._apply(fn, recurse)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Without matrices and projectors: they are made again from the geometry."""
        return {**self.__dict__, "_projectors": {}, "_symbol": None}


def _geometry(
    shape: Sequence[int],
    pixel_size: float,
    angles: int | Sequence[float],
    detectors: int | None,
    detector_size: float | None,
    detector_offset: float,
) -> ParallelGeometry:
    sides: list[Any] = np.asarray(shape).reshape(-1).tolist()
    if len(sides) != 2 or any(side != int(side) or side < 1 for side in sides):
        raise ValueError(f"shape must be two positive integers (rows, columns), got {shape!r}")
    height, width = (int(side) for side in sides)
    pixel_size = _length("pixel_size", pixel_size)
    detector_size = pixel_size if detector_size is None else _length("detector_size", detector_size)
    if not math.isfinite(detector_offset):
        raise ValueError(f"detector_offset must be a finite length in mm, got {detector_offset!r}")
    if detectors is None:
        needed = (math.hypot(height, width) * pixel_size + 2 * abs(detector_offset)) / detector_size
        detectors = math.ceil(needed - 1e-9)
    elif detectors != int(detectors) or detectors < 1:
        raise ValueError(
            f"detectors must be a positive integer (or None to cover the image), got {detectors!r}"
        )
    return ParallelGeometry(
        (height, width), pixel_size, _radians(angles), int(detectors), detector_size, float(detector_offset)
    )


def _length(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a length in mm > 0, got {value!r}")
    return float(value)


def _radians(angles: int | Sequence[float]) -> tuple[float, ...]:
    """The angles of the views, from their number or themselves."""
    given = angles.detach().cpu().numpy() if isinstance(angles, Tensor) else np.asarray(angles)
    if given.ndim == 0:
        number: Any = given.item()
        if isinstance(number, bool) or not isinstance(number, numbers.Integral) or number < 1:
            raise ValueError(
                f"angles must be a positive number of views or a list of angles in radians, got {angles!r}"
            )
        return tuple(math.pi * view / int(number) for view in range(int(number)))
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


def _warn_if_truncated(geometry: ParallelGeometry) -> None:
    height, width = geometry.shape
    theta = np.asarray(geometry.angles)
    shadow = (np.abs(np.cos(theta)) * width + np.abs(np.sin(theta)) * height) * geometry.pixel_size / 2
    reach = geometry.detectors * geometry.detector_size / 2 - abs(geometry.detector_offset)
    if shadow.max() > reach * (1 + 1e-6) + 1e-9:
        needed = math.ceil(2 * (shadow.max() + abs(geometry.detector_offset)) / geometry.detector_size - 1e-6)
        warnings.warn(
            f"the detector ({geometry.detectors} elements of {geometry.detector_size:g} mm, offset "
            f"{geometry.detector_offset:g} mm) does not cover the image at every angle: pixels outside are "
            f"not measured in every view; {needed} elements cover it (detectors=None takes enough)",
            stacklevel=3,
        )


def _full_precision(items: Tensor) -> Tensor:
    return items if items.dtype == torch.float64 else items.to(torch.float32)


def _mean_eigenvalue(term: LinearOperator, device: torch.device) -> float:
    """Mean eigenvalue of K^H K, estimated by Hutchinson's method with one vector of signs."""
    generator = torch.Generator().manual_seed(0)
    signs = 2.0 * torch.randint(0, 2, term.domain_shape, generator=generator) - 1.0
    return float(term(signs.to(device)).abs().square().sum()) / signs.numel()
