"""Cone-beam projections on the CPU by Joseph's method, without a matrix, and their exact transpose."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recon_operators.cone_geometry import ConeGeometry
from recon_operators.joseph import share_work


class ConeProjector:
    """Rays step from layer to layer of voxels along the axis nearest to them, bilinear within each layer.

    Joseph's method (IEEE Trans. Med. Imaging 1, 1982) in three dimensions; rays are lines that start at the source
    and do not end at the detector. Threads share the lines of the data in `forward` and the slices of the volume in
    `adjoint`, where every voxel adds up its rays in one order: results do not depend on the number of threads.
    """

    def __init__(self, geometry: ConeGeometry) -> None:
        self.geometry = geometry
        self._frames = np.ascontiguousarray(geometry.voxel_frames)

    def forward(self, volumes: Tensor) -> Tensor:
        """A x for ``(B, slices, rows, columns)``: ``(B, detector rows, views, detector columns)``."""
        from recon_operators import cone_kernels as kernels

        rows, columns = self.geometry.detectors
        lines = rows * self.geometry.views
        result = volumes.new_empty(len(volumes), rows, self.geometry.views, columns)
        for volume, data in zip(volumes.detach(), result.numpy(), strict=True):
            padded = torch.nn.functional.pad(volume, (1,) * 6).numpy().reshape(-1)
            scan = (padded, self.geometry.shape, self._frames, self.geometry.pixel_size)
            share_work(
                lambda a, b, scan=scan, data=data: kernels.project(*scan, a, b, data),  # type: ignore[misc]
                lines,
                torch.get_num_threads(),
            )
        return result

    def adjoint(self, data: Tensor) -> Tensor:
        """A^T y for ``(B, detector rows, views, detector columns)``: ``(B, slices, rows, columns)``."""
        result = data.new_empty(len(data), *self.geometry.shape)
        for item, volume in zip(data.detach().contiguous().numpy(), result.numpy(), strict=True):
            share_work(
                lambda a, b, item=item, volume=volume: self._spread(item, volume, a, b),  # type: ignore[misc]
                self.geometry.shape[0],
                torch.get_num_threads(),
            )
        return result

    def _spread(self, data: np.ndarray, volume: np.ndarray, first: int, last: int) -> None:
        from recon_operators import cone_kernels as kernels

        shape = self.geometry.shape
        piece = np.zeros((last - first + 2, shape[1] + 2, shape[2] + 2), dtype=volume.dtype)
        kernels.spread(data, shape, self._frames, self.geometry.pixel_size, first, last, piece.reshape(-1))
        volume[first:last] = piece[1:-1, 1:-1, 1:-1]
