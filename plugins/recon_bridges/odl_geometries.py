"""ODL's tomographic geometries as operators of ours."""

from __future__ import annotations

from typing import Any

import numpy as np

from recon.linear import LinearOperator
from recon_bridges.libraries import library
from recon_bridges.odl_operators import from_odl


def odl_geometry(
    geometry: Any, space: Any = None, *, adjoint_tolerance: float | None = None
) -> LinearOperator:
    """The line integrals of an ODL geometry as an operator of ours; lengths are taken as mm.

    A `Parallel2dGeometry` whose axis of rotation is the middle of the image becomes `ParallelBeam`
    (``ct_parallel``): no ODL is involved any more. Every other geometry (fan beam, cone beam, a shifted
    axis) is projected by ODL's own ray transform through `from_odl`: by ASTRA on the CPU in 2-D, on a GPU in
    3-D; in single precision, which is all that ASTRA takes.

    The conversion follows the geometry's own definition. ODL 1.0's CPU projectors agree with it only where the
    detector is centred and has its default axis; where they alone could project, other scans are refused.

    Images ``(*batch, *space.shape)`` and sinograms ``(*batch, angles, *detector)`` have ODL's order of axes
    and orientation, so that the same arrays fit both.

    Args:
        geometry: an ODL geometry, or a `RayTransform`, which brings its own space.
        space: the image space, from `odl.uniform_discr`.
        adjoint_tolerance: as in `from_odl`, for geometries that ODL projects.

    Raises:
        TypeError: no geometry, or no image space.
        ImportError: a 3-D geometry where ASTRA sees no GPU.
        ValueError: a 2-D parallel scan that neither `ParallelBeam` nor ODL's CPU projectors compute.
    """
    odl, tomo = library("odl"), library("odl.applications.tomo")
    transform = None
    if isinstance(geometry, tomo.RayTransform):
        if space is not None:
            raise TypeError("a RayTransform brings its own image space: leave space out")
        transform, geometry, space = geometry, geometry.geometry, geometry.domain
    if not isinstance(geometry, tomo.Geometry):
        raise TypeError(f"odl_geometry takes an ODL geometry or RayTransform, got {type(geometry).__name__}")
    if not isinstance(space, odl.DiscretizedSpace):
        raise TypeError(
            f"odl_geometry needs the image space, odl.uniform_discr(...), got {type(space).__name__}"
        )
    ours = _parallel_beam(geometry, space)
    if ours is not None:
        return ours
    if transform is None:
        if geometry.ndim == 3 and not tomo.ASTRA_CUDA_AVAILABLE:
            raise ImportError(
                f"{type(geometry).__name__} is projected by ASTRA on a GPU only, and ASTRA sees none here: "
                "use a 2-D geometry, or a machine with a CUDA device"
            )
        single = space.astype("complex64" if space.is_complex else "float32")
        transform = tomo.RayTransform(single, geometry)
    _refuse_ignored_detector(geometry, transform.impl)
    return from_odl(transform, adjoint_tolerance=adjoint_tolerance)


def _parallel_beam(geometry: Any, space: Any) -> LinearOperator | None:
    """`ParallelBeam` of the same rays, or None where it has no such scan.

    ODL's image axes are x and y, both ascending; ours are rows from the top and columns. The array [i, j] seen
    as row i and column j turns ODL's plane by -90 degrees: (X, Y) = (y, -x). A point q of the image,
    measured from its middle c, falls on the detector at u = axis(phi) . (q + c - reference(phi)), and ours at
    X cos(theta) + Y sin(theta) - offset; so theta is the direction of the turned axis, and the offset
    -axis . (c - reference), if that is the same in every view.
    """
    tomo = library("odl.applications.tomo")
    detector = geometry.det_partition
    if not isinstance(geometry, tomo.Parallel2dGeometry) or space.is_complex:
        return None
    if not (space.is_uniform and detector.is_uniform and _cells_are_centred(detector, space.partition)):
        return None
    sides = np.asarray(space.cell_sides, dtype=float)
    if not np.isclose(sides[0], sides[1], rtol=1e-6):
        return None
    angles = np.asarray(geometry.angles, dtype=float)
    axes = np.asarray(geometry.det_axis(angles))
    middle = (np.asarray(space.min_pt) + np.asarray(space.max_pt)) / 2
    shift = np.einsum("vk,vk->v", axes, middle - np.asarray(geometry.det_refpoint(angles)))
    element = float(detector.cell_sides[0])
    if np.ptp(shift) > 1e-6 * element:
        return None
    from recon_operators import ParallelBeam

    return ParallelBeam(
        shape=tuple(space.shape),
        pixel_size=float(sides[0]),
        angles=np.arctan2(-axes[:, 0], axes[:, 1]).tolist(),
        detectors=int(detector.shape[0]),
        detector_size=element,
        detector_offset=float(detector.mid_pt[0]) - float(shift.mean()),
    )


def _refuse_ignored_detector(geometry: Any, impl: str) -> None:
    """ODL's CPU projectors take the detector of a 2-D parallel scan as centred and its axis as (1, 0)."""
    if not isinstance(geometry, library("odl.applications.tomo").Parallel2dGeometry) or impl == "astra_cuda":
        return
    angles = np.asarray(geometry.angles, dtype=float)
    axes = np.asarray(geometry.det_axis(angles))
    offset = float(geometry.det_partition.mid_pt[0]) + np.einsum(
        "vk,vk->v", axes, np.asarray(geometry.det_refpoint(angles))
    )
    plain = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    centred = np.abs(offset).max() < 1e-6 * float(geometry.det_partition.cell_sides[0])
    if not (centred and np.allclose(axes, plain, atol=1e-6)):
        raise ValueError(
            f"ODL's projector {impl!r} ignores the detector's position and axis in {geometry!r}: use "
            "impl='astra_cuda', or an image space around the axis of rotation, which ParallelBeam projects"
        )


def _cells_are_centred(*partitions: Any) -> bool:
    """Whether the points of the grids are the middles of their cells, as pixels and detector elements are."""
    return all(
        np.allclose(points, (edges[1:] + edges[:-1]) / 2, rtol=0, atol=1e-6 * float(np.diff(edges).min()))
        for partition in partitions
        for points, edges in zip(partition.coord_vectors, partition.cell_boundary_vecs, strict=True)
    )
