"""Computed tomography in 2-D parallel-beam geometry: the operator `ParallelBeam`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from recon.parameters import Param
from recon_operators import astra_projector
from recon_operators.angular_noise import lower_noise, noise_beside_the_bow_tie
from recon_operators.filtered_backprojection import ViewInterpolation, weighted_views
from recon_operators.fourier_projector import FourierProjector
from recon_operators.line_integrals import Projector, full_precision
from recon_operators.scan_geometry import ParallelGeometry
from recon_operators.tomography import (
    ChosenBackend,
    ParallelBackend,
    Tomography,
    detector_count,
    finite_offset,
    image_shape,
    length,
    radians,
)


class ParallelBeam(Tomography):
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
        strip: the area of each element's strip in each pixel over the element's width, ASTRA's ``strip`` kernel
            to some 1e-3 and better, by the projection slice theorem and non-uniform FFTs (`FourierProjector`).
            Exact adjoint, no matrix. FINUFFT on the CPU, on a GPU cuFINUFFT.
        fourier: the strips up to the detector's sampling limit, what is beyond left out. While every view sees the
            whole image and elements are no wider than pixels, A^T A is then one FFT pair whatever the number of
            views; elsewhere the same as ``strip``.
        astra: the ASTRA toolbox, which holds no matrix. On the CPU the same matrix, in float32; on the GPU
            one call for a batch, whose adjoint is approximate (`adjoint_kind`).
        auto: on the CPU the matrix while it fits `memory_limit`, else ``strip``; on a GPU ASTRA where it is installed
            with CUDA, else the matrix. `backend` and `repr` say which. ``fourier`` is for those who ask for it: where
            rays differ much in weight, as in `poisson`, its ripples beside edges count as much as the object.

    Raises:
        ValueError: a shape, size, angle or backend that makes no scan; the message names it and what to give.
        ImportError: ASTRA is needed and not installed.

    Warns:
        UserWarning: angles beyond 2 pi, which look like degrees; a detector that does not cover the image; a
            matrix over the memory limit.
    """

    geometry: ParallelGeometry
    backends = ("matrix", "strip", "fourier", "astra")

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
        backend: Annotated[
            ParallelBackend, Param("what computes the projections; auto: by scan, device and memory")
        ] = "auto",
        memory_limit: Annotated[
            int, Param("most that backend='auto' spends on a matrix in main memory", unit="bytes", ge=0)
        ] = 2 * 1024**3,
    ) -> None:
        geometry = _geometry(shape, pixel_size, angles, detectors, detector_size, detector_offset)
        super().__init__(geometry, backend, memory_limit)
        _warn_if_truncated(geometry)

    @property
    def nonnegative(self) -> bool:  # type: ignore[override]
        """Whether no entry of the matrix is negative: in the Fourier domain strips end in ripples."""
        return self.backend not in ("strip", "fourier")

    def _automatic_backend(self) -> ChosenBackend:
        if self.device.type == "cuda" and astra_projector.has_cuda():
            return "astra"
        if self.device.type != "cpu":
            return "matrix"
        return "matrix" if self._matrix_bytes <= self.memory_limit else "strip"

    def _projector(self, backend: str, dtype: torch.dtype, device: torch.device) -> Projector:
        if backend in ("strip", "fourier"):
            return FourierProjector(self.geometry, dtype, device, aliased=backend == "strip")
        return super()._projector(backend, dtype, device)

    def _gram(self, x: Tensor) -> Tensor:
        projector, images = self._prepared(x)
        if isinstance(projector, FourierProjector):
            return projector.gram(images)
        return projector.adjoint(projector.forward(images))

    def noise_level(self, y: Tensor) -> Tensor:
        """Root mean square over each sinogram of its noise's standard deviation.

        From differences along the detector (`sinogram_noise`) or, where that is lower, from the frequencies at which
        no object has power (`angular_noise`): views equally spaced over 180 degrees, detector in the middle.
        """
        return lower_noise(super().noise_level(y), noise_beside_the_bow_tie(y, self.geometry))

    def _pinv(self, y: Tensor, *, filter: str = "ram-lak", cutoff: float = 1.0) -> Tensor:  # type: ignore[override]  # noqa: A002
        """Filtered back-projection; see `recon_operators.filtered_backprojection`.

        With the matrix backend the back-projection interpolates the views by a matrix of its own, in the
        Fourier domain by the spectrum of that interpolation; with ASTRA it is the adjoint, a column of which sums
        to pixel_size^2 / detector_size in each view.
        """
        views = weighted_views(full_precision(y), self.geometry, filter, cutoff)
        if self.backend == "matrix":
            return ViewInterpolation(self.geometry).adjoint(views).to(y.dtype)
        projector, views = self._prepared(views)
        if isinstance(projector, FourierProjector):
            return projector.add_up(views).to(y.dtype)
        return (self.adjoint(views) * (self.geometry.detector_size / self.geometry.pixel_size**2)).to(y.dtype)


def _geometry(
    shape: Sequence[int],
    pixel_size: float,
    angles: int | Sequence[float],
    detectors: int | None,
    detector_size: float | None,
    detector_offset: float,
) -> ParallelGeometry:
    height, width = image_shape(shape)
    pixel_size = length("pixel_size", pixel_size)
    detector_size = pixel_size if detector_size is None else length("detector_size", detector_size)
    offset = finite_offset(detector_offset)
    needed = (math.hypot(height, width) * pixel_size + 2 * abs(offset)) / detector_size
    return ParallelGeometry(
        (height, width),
        pixel_size,
        radians(angles, math.pi),
        detector_count(detectors, needed),
        detector_size,
        offset,
    )


def _warn_if_truncated(geometry: ParallelGeometry) -> None:
    if not geometry.covers_image:
        needed = geometry.detectors + 2 * max(geometry.elements_missing)
        warnings.warn(
            f"the detector ({geometry.detectors} elements of {geometry.detector_size:g} mm, offset "
            f"{geometry.detector_offset:g} mm) does not cover the image at every angle: pixels outside are "
            f"not measured in every view; {needed} elements cover it (detectors=None takes enough)",
            stacklevel=3,
        )
