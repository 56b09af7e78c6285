"""Filtered back-projection of cone-beam data from a circle: Feldkamp, Davis and Kress."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon.linear import LinearOperator
from recon_operators.cone_geometry import CircularOrbit, ConeGeometry
from recon_operators.filtered_backprojection import filter_views
from recon_operators.joseph import share_work
from recon_operators.view_coverage import redundancy_weights, view_weights

_Array = np.ndarray[Any, Any]


def feldkamp(
    data: Tensor,
    geometry: ConeGeometry,
    filter: str = "ram-lak",  # noqa: A002
    cutoff: float = 1.0,
) -> Tensor:
    """The volume from line integrals ``(B, rows, views, columns)`` of a circular scan.

        f(x) = integral over theta of (source_origin / depth)^2 ((weight * cos(kappa) * p_theta) * h)(u(x), v(x))

    kappa is the angle between a ray and the central one, h the ramp along the columns, and the weights are those
    of fan beam (`redundancy_weights`): Parker's for a short scan, Wang's for a shifted detector. In the plane of the
    circle this is fan-beam filtered back-projection; off it, it is the approximation of Feldkamp, Davis and Kress,
    J. Opt. Soc. Am. A 1, 1984: exact for objects that do not change along z, and for others low in density by what
    the circle does not measure.

    Args:
        data: float32 or float64.
        geometry: a scan with an `orbit`.
        filter: one of `recon_operators.filtered_backprojection.WINDOWS`.
        cutoff: where the window ends, as a fraction of the detector's Nyquist frequency.

    Raises:
        ValueError: the path is no circle.
    """
    orbit = geometry.orbit
    if orbit is None:
        raise ValueError(
            "filtered back-projection needs a source on a circle and an upright detector opposite"
        )
    weights = torch.as_tensor(ray_weights(geometry, orbit), dtype=data.dtype, device=data.device)
    spacing = orbit.spacing[1] * orbit.source_origin / orbit.source_detector
    return ViewAddition(geometry, orbit)(filter_views(data * weights, spacing, filter, cutoff))


def ray_weights(geometry: ConeGeometry, orbit: CircularOrbit) -> _Array:
    """Redundancy, share of the turn and cos(kappa) of each ray, ``(rows, views, columns)``."""
    fan = orbit.fan(geometry)
    redundancy = redundancy_weights(fan) * view_weights(fan.angles, 2 * math.pi)[:, None]
    if orbit.mirrored:
        redundancy = redundancy[:, ::-1]
    v, u = (
        (np.arange(count) - (count - 1) / 2) * size + shift
        for count, size, shift in zip(geometry.detectors, orbit.spacing, orbit.offset, strict=True)
    )
    cosine = orbit.source_detector / np.sqrt(orbit.source_detector**2 + u**2 + v[:, None] ** 2)
    return np.asarray(redundancy * cosine[:, None, :])


class ViewAddition(LinearOperator):
    """Adds up views at the voxels' middles, each interpolated linearly and times (source_origin / depth)^2.

    Views ``(rows, views, columns)`` become a volume ``(slices, rows, columns)``. On the CPU compiled loops, on other
    devices torch.
    """

    domain = "real"
    nonnegative = True
    flatten_batch = True

    def __init__(self, geometry: ConeGeometry, orbit: CircularOrbit) -> None:
        rows, columns = geometry.detectors
        super().__init__((rows, geometry.views, columns), geometry.shape)
        self.pixels, self.rises, self.foot = _places(geometry, orbit)

    def _forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return self.by_torch(x)
        from recon_operators import cone_kernels as kernels

        slices, height, width = self.range_shape
        volumes = x.new_empty(len(x), height, width, slices)
        for item, volume in zip(x, volumes.numpy(), strict=True):
            views = torch.nn.functional.pad(item.permute(1, 2, 0), (1, 1, 1, 1)).contiguous().numpy()
            scan = (views, self.pixels, self.rises, self.foot)
            share_work(
                lambda a, b, scan=scan, volume=volume: kernels.add_views(*scan, a, b, volume),  # type: ignore[misc]
                height,
                torch.get_num_threads(),
            )
        return volumes.permute(0, 3, 1, 2).contiguous()

    def _adjoint(self, y: Tensor) -> Tensor:
        if y.device.type != "cpu":
            return super()._adjoint(y)
        from recon_operators import cone_kernels as kernels

        rows, views, columns = self.domain_shape
        result = y.new_empty(len(y), rows, views, columns)
        for volume, item in zip(y.permute(0, 2, 3, 1).contiguous().numpy(), result, strict=True):
            padded = np.zeros((views, columns + 2, rows + 2), dtype=volume.dtype)
            scan = (volume, self.pixels, self.rises, self.foot)
            share_work(
                lambda a, b, scan=scan, padded=padded: kernels.spread_to_views(*scan, a, b, padded),  # type: ignore[misc]
                views,
                torch.get_num_threads(),
            )
            item.copy_(torch.from_numpy(padded[:, 1:-1, 1:-1]).permute(2, 0, 1))
        return result

    def by_torch(self, x: Tensor) -> Tensor:
        """The same on any device: one `grid_sample` for each view."""
        slices, height, width = self.range_shape
        rows, _, columns = self.domain_shape
        pixels = torch.as_tensor(self.pixels, device=x.device, dtype=torch.float64)
        y = torch.arange(height, device=x.device, dtype=torch.float64)[:, None]
        z = torch.arange(slices, device=x.device, dtype=torch.float64)[:, None]
        total = x.new_zeros(len(x), slices, height * width)
        for view, (place, depth) in enumerate(pixels):
            across = torch.arange(width, device=x.device, dtype=torch.float64)
            distance = (depth[0] + depth[1] * y + depth[2] * across).reshape(-1)
            nearness = torch.where(distance > 0, 1 / distance, 0.0)  # 0 behind the source
            u = (place[0] + place[1] * y + place[2] * across).reshape(-1) * nearness
            v = self.foot + nearness * (float(self.rises[0]) * z + float(self.rises[1]))
            grid = torch.stack([(2 * u + 1).expand_as(v) / columns - 1, (2 * v + 1) / rows - 1], dim=2)
            seen = torch.nn.functional.grid_sample(
                x[:, None, :, view], grid.to(x.dtype).expand(len(x), -1, -1, -1), align_corners=False
            )
            total = total + seen[:, 0] * nearness.square().to(x.dtype)
        return total.reshape(len(x), slices, height, width)


def _places(geometry: ConeGeometry, orbit: CircularOrbit) -> tuple[_Array, _Array, float]:
    """Where pixels are seen; see `recon_operators.cone_kernels.add_views`."""
    source, _, across, _ = geometry.frames.transpose(1, 0, 2)
    size, (slices, height, width) = geometry.pixel_size, geometry.shape
    direction = across / np.linalg.norm(across, axis=1, keepdims=True)
    outward = np.stack([-np.sin(orbit.angles), np.cos(orbit.angles)], axis=1)
    corner = np.array([-(width - 1), height - 1]) * size / 2 - source[:, :2]

    def along(vectors: _Array) -> _Array:
        """vector . (pixel - source) as coefficients of (1, row, column)."""
        return np.stack(
            [np.sum(vectors * corner, axis=1), -size * vectors[:, 1], size * vectors[:, 0]], axis=1
        )

    rows, columns = geometry.detectors
    depth = along(outward) / orbit.source_origin
    magnification = orbit.source_detector / orbit.source_origin
    centre = (columns - 1) / 2 - orbit.offset[1] / orbit.spacing[1]
    place = along(direction[:, :2]) * magnification / orbit.spacing[1] + centre * depth
    sign = 1 if orbit.upwards else -1
    step = sign * magnification / orbit.spacing[0]
    lowest = -(slices - 1) / 2 * size - orbit.height
    foot = (rows - 1) / 2 - orbit.offset[0] / orbit.spacing[0]
    return np.stack([place, depth], axis=1), np.array([step * size, step * lowest]), float(foot)
