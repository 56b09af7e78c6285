"""What the cone-beam operators of every path share: backends, direct reconstruction, symbol, warnings."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from recon_operators import astra_projector
from recon_operators.cone_geometry import CircularOrbit, ConeGeometry, rim
from recon_operators.cone_projector import ConeProjector
from recon_operators.ct_fan import warn_if_incomplete
from recon_operators.feldkamp import feldkamp
from recon_operators.line_integrals import LineIntegrals, Projector, full_precision, radial_frequency
from recon_operators.sinogram_noise import sinogram_noise

ConeBackend = Literal["auto", "joseph", "astra"]
_NEGLIGIBLE = 1e-3  # of the volume's height
_CENTRED = 1e-6  # of the volume's radius


class ConeTomography(LineIntegrals):
    """Line integrals of a volume along the rays of a `ConeGeometry`; the base of the cone-beam operators.

    Args:
        geometry: the scan.
        backend: ``"joseph"``, ``"astra"``, or ``"auto"``: by the device.
    """

    def __init__(self, geometry: ConeGeometry, backend: ConeBackend) -> None:
        rows, columns = geometry.detectors
        super().__init__(geometry.shape, (rows, geometry.views, columns))
        if backend not in ("auto", "joseph", "astra"):
            raise ValueError(f"backend must be 'auto', 'joseph' or 'astra', got {backend!r}")
        if backend == "astra" and not astra_projector.is_installed():
            raise ImportError(astra_projector.NOT_INSTALLED.replace("'matrix'", "'joseph'"))
        self.geometry = geometry
        self.requested_backend: ConeBackend = backend
        # the buffer carries the device; computations use the geometry's float64 vectors
        self.register_buffer(
            "sources", torch.tensor(geometry.frames[:, 0].astype(np.float32)), persistent=False
        )

    @property
    def backend(self) -> Literal["joseph", "astra"]:
        """The backend in use on the operator's device."""
        if self.requested_backend != "auto":
            return self.requested_backend
        return "astra" if self.device.type == "cuda" else "joseph"

    @property
    def direct_reconstruction(self) -> Literal["fdk", "scaled adjoint"]:
        """What `pinv` does: Feldkamp's algorithm for a circle, the adjoint scaled to the data for other paths."""
        return "scaled adjoint" if self.geometry.orbit is None else "fdk"

    def approximate_symbol(self) -> Tensor | None:
        """Eigenvalues of the convolution that A^T A nearly is for a circle, ``(slices, rows, columns)``, in mm^2.

        Slice by slice that of fan beam (`Tomography.approximate_symbol`), c/|w| with w the frequency within a
        slice, times the detector rows that a slice is seen by: the pixel size over the rows' spacing at the axis.
        None for other paths, whose views see different parts of the volume.
        """
        orbit = self.geometry.orbit
        if orbit is None:
            return None
        if self._symbol is None:
            geometry = self.geometry
            spacing = math.prod(orbit.spacing) * (orbit.source_origin / orbit.source_detector) ** 2
            scale = 2 * geometry.views * geometry.pixel_size**4 / spacing
            symbol = scale / radial_frequency(*geometry.shape[1:], self.device)
            self._symbol = symbol.expand(geometry.shape)
        return self._symbol

    def noise_level(self, y: Tensor) -> Tensor:
        """Root mean square over each item of its noise's standard deviation; see `sinogram_noise`."""
        return sinogram_noise(y.flatten(1, 2))

    def extra_repr(self) -> str:
        """Geometry for `repr`."""
        geometry = self.geometry
        rows, columns = geometry.detectors
        return (
            f"{geometry.shape} voxels of {geometry.pixel_size:g} mm -> {geometry.views} views of {rows} x {columns} "
            f"elements, backend={self.backend!r}, pinv: {self.direct_reconstruction}"
        )

    def _projector(self, backend: str, dtype: torch.dtype, device: torch.device) -> Projector:
        if backend == "joseph":
            if device.type != "cpu":
                raise RuntimeError(
                    f"backend='joseph' projects on the CPU, and the operator lies on {device}: use "
                    "backend='astra', or move operator and data to the CPU"
                )
            return ConeProjector(self.geometry)
        if device.type != "cuda" or not astra_projector.has_cuda():
            raise RuntimeError(
                f"ASTRA cannot project cone beams on {device}: it needs a CUDA device, and "
                "ASTRA installed with CUDA; on the CPU use backend='joseph'"
            )
        return astra_projector.AstraCudaProjector(self.geometry, device)

    def _pinv(self, y: Tensor, **options: Any) -> Tensor:
        """Feldkamp's algorithm where the source runs on a circle, else the adjoint scaled to fit the data."""
        if self.geometry.orbit is None:
            if options:
                raise ValueError(
                    f"pinv takes no {' or '.join(sorted(options))} here: filtered back-projection is for a source on "
                    "a circle with an upright detector opposite; other paths get the adjoint, scaled to the data. Use "
                    "a prior and a solver: recon.solve(op, 'tv', y)"
                )
            return super()._pinv(y)
        return feldkamp(full_precision(y), self.geometry, **options).to(y.dtype)


def warn_of_unmeasured(geometry: ConeGeometry, stacklevel: int) -> None:
    """Tell what a scan does not measure.

    Of a circle around the middle of the volume: lines in its plane, and slices that some view does not see whole;
    of any other path: points that no view sees.
    """
    orbit = geometry.orbit
    radius = math.hypot(*geometry.half_sides[:2])
    if (
        orbit is None
        or max(*np.abs(orbit.axis), abs(orbit.height)) > _CENTRED * radius
        or orbit.source_origin <= radius
    ):
        _warn_of_unseen_points(geometry, stacklevel + 1)
    else:
        warn_if_incomplete(orbit.fan(geometry), stacklevel + 1)
        _warn_of_unseen_slices(geometry, orbit, stacklevel + 1)


def _warn_of_unseen_slices(geometry: ConeGeometry, orbit: CircularOrbit, stacklevel: int) -> None:
    """Tell which slices the detector's rows are too few for, at their rim and nearest to the source."""
    half = geometry.shape[0] * geometry.pixel_size / 2
    radius = min(geometry.shape[1:]) * geometry.pixel_size / 2
    nearest = orbit.source_origin - radius
    ends = (orbit.offset[0] + sign * geometry.detectors[0] * orbit.spacing[0] / 2 for sign in (-1.0, 1.0))
    low, high = sorted((1 if orbit.upwards else -1) * end * nearest / orbit.source_detector for end in ends)
    missing = 1 - max(0.0, min(half, high) - max(-half, low)) / (2 * half)
    if missing <= _NEGLIGIBLE:
        return
    reach = half * orbit.source_detector / nearest
    needed = 2 * (reach + abs(orbit.offset[0])) / orbit.spacing[0]
    seen = (
        f"only those from {max(low, -half):.4g} to {min(high, half):.4g} mm are"
        if min(half, high) > max(-half, low)
        else "none is"
    )
    warnings.warn(
        f"the detector's {geometry.detectors[0]} rows are too few for the slices from {-half:.4g} to {half:.4g} mm: "
        f"{seen} seen in every view (within {radius:g} mm of the axis); {math.ceil(needed - 1e-6)} rows see them all",
        stacklevel=stacklevel + 1,
    )


def _warn_of_unseen_points(geometry: ConeGeometry, stacklevel: int) -> None:
    """Tell how much of the cylinder inside the volume no view sees."""
    half_x, half_y, half_z = geometry.half_sides
    radius = min(half_x, half_y)
    layers = [
        rim(share * radius, height * half_z, 16)
        for share in (0.0, 0.5, 1.0)
        for height in (0.02, 0.25, 0.5, 0.75, 1)
    ]
    points = np.vstack(layers) * (1 - 1e-9)
    seen = geometry.seen(points).sum(axis=0)
    unseen = float(np.mean(seen == 0))
    if unseen > 0:
        worst = points[np.argmin(seen)]
        place = ", ".join(f"{value:.3g}" for value in worst)
        warnings.warn(
            f"about {unseen:.0%} of the cylinder inside the volume (radius {radius:g} mm, height {2 * half_z:g} mm) is "
            f"seen in no view, such as the point at ({place}) mm: it stays what the prior makes of it",
            stacklevel=stacklevel + 1,
        )
