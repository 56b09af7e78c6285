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
    (``ct_parallel``), and such a `FanBeamGeometry` with a flat detector across the central ray becomes `FanBeam`
    (``ct_fan``): no ODL is involved any more. Every other geometry (cone beam, a mirrored or tilted
    detector, a shifted axis or source) is projected by ODL's own ray transform through `from_odl`: by ASTRA on
    the CPU in 2-D, on a GPU in 3-D; in single precision, which is all that ASTRA takes.

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
        ValueError: a 2-D parallel scan that neither `ParallelBeam` nor ODL's CPU projectors compute, or a fan
            beam with a curved detector, which nothing here computes.
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
    ours = _parallel_beam(geometry, space) or _fan_beam(geometry, space)
    if ours is not None:
        return ours
    if isinstance(geometry, tomo.FanBeamGeometry) and not isinstance(geometry.detector, tomo.Flat1dDetector):
        raise ValueError(
            f"the curved detector of {geometry!r} is projected neither by ODL nor by FanBeam: resample the data to "
            "a flat detector"
        )
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

    A point q of the image falls on the detector at u = axis(phi) . (q - reference(phi)), and ours at
    X cos(theta) + Y sin(theta) - offset; so theta is the direction of the turned axis, and the offset
    axis . reference, if that is the same in every view.
    """
    if not isinstance(geometry, library("odl.applications.tomo").Parallel2dGeometry):
        return None
    pixels = _pixels(geometry, space)
    if pixels is None:
        return None
    element = float(geometry.det_partition.cell_sides[0])
    axes, references = (
        _turned(geometry.det_axis(_angles(geometry))),
        _around_middle(geometry, space, "det_refpoint"),
    )
    shift = _along(axes, references)
    if np.ptp(shift) > 1e-6 * element:
        return None
    from recon_operators import ParallelBeam

    return ParallelBeam(
        **pixels,
        angles=np.arctan2(axes[:, 1], axes[:, 0]).tolist(),
        detectors=int(geometry.det_partition.shape[0]),
        detector_size=element,
        detector_offset=float(geometry.det_partition.mid_pt[0]) + float(shift.mean()),
    )


def _fan_beam(geometry: Any, space: Any) -> LinearOperator | None:
    """`FanBeam` of the same rays, or None where it has no such scan.

    Ours has the source at -source_origin n and the detector's points at origin_detector n + u a, with the axis
    a = (cos theta, sin theta) and n = (-sin theta, cos theta). So the turned axis must be across the central ray
    and have the source on that side of it, and distances and shift must be the same in every view.
    """
    tomo = library("odl.applications.tomo")
    if not isinstance(geometry, tomo.FanBeamGeometry) or not isinstance(
        geometry.detector, tomo.Flat1dDetector
    ):
        return None
    pixels = _pixels(geometry, space)
    if pixels is None:
        return None
    axes = _turned(geometry.det_axis(_angles(geometry)))
    normals = np.stack([-axes[:, 1], axes[:, 0]], axis=1)
    sources, references = (_around_middle(geometry, space, name) for name in ("src_position", "det_refpoint"))
    source, detector = -_along(normals, sources), _along(normals, references)
    aside, shift = _along(axes, sources), _along(axes, references)
    element = float(geometry.det_partition.cell_sides[0])
    tolerance = 1e-6 * min(element, pixels["pixel_size"])
    if np.abs(aside).max() > tolerance or max(map(np.ptp, (source, detector, shift))) > tolerance:
        return None
    radius = np.hypot(*space.shape) * pixels["pixel_size"] / 2
    if source.mean() <= radius + pixels["pixel_size"] or detector.mean() < -tolerance:
        return None  # a source inside the image, or a detector between source and axis
    from recon_operators import FanBeam

    return FanBeam(
        **pixels,
        angles=np.arctan2(axes[:, 1], axes[:, 0]).tolist(),
        source_origin=float(source.mean()),
        origin_detector=max(0.0, float(detector.mean())),
        detectors=int(geometry.det_partition.shape[0]),
        detector_size=element,
        detector_offset=float(geometry.det_partition.mid_pt[0]) + float(shift.mean()),
    )


def _pixels(geometry: Any, space: Any) -> dict[str, Any] | None:
    """Shape and size of square pixels, or None for images and detectors of another kind."""
    detector = geometry.det_partition
    if space.is_complex or not (space.is_uniform and detector.is_uniform):
        return None
    sides = np.asarray(space.cell_sides, dtype=float)
    if not (_cells_are_centred(detector, space.partition) and np.isclose(sides[0], sides[1], rtol=1e-6)):
        return None
    return {"shape": tuple(space.shape), "pixel_size": float(sides[0])}


def _turned(vectors: Any) -> Any:
    """ODL's image axes are x and y, both ascending; ours are rows from the top and columns.

    The array [i, j] seen as row i and column j turns ODL's plane by -90 degrees: (X, Y) = (y, -x).
    """
    vectors = np.asarray(vectors, dtype=float)
    return np.stack([vectors[:, 1], -vectors[:, 0]], axis=1)


def _around_middle(geometry: Any, space: Any, position: str) -> Any:
    """A position in every view, measured from the middle of the image, in our plane."""
    middle = (np.asarray(space.min_pt) + np.asarray(space.max_pt)) / 2
    return _turned(np.asarray(getattr(geometry, position)(_angles(geometry))) - middle)


def _angles(geometry: Any) -> Any:
    return np.asarray(geometry.angles, dtype=float)


def _along(directions: Any, vectors: Any) -> Any:
    return np.einsum("vk,vk->v", directions, vectors)


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
