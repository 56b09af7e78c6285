"""The non-uniform Fourier transform of images, by FINUFFT on a CPU and cuFINUFFT on a GPU."""

from __future__ import annotations

import importlib
import importlib.util
import math
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recon.linear import real_dtype
from recon_operators.arrays import Derived

ACCURACY = 1e-6
"""Relative error asked of the transforms; single precision reaches about 1e-7 times the side of the image."""

_TOGETHER = 8
"""Transforms done by one call: on a CPU more bring no speed, and each takes four images of memory."""

_OVERSAMPLING = 1.75
"""Side of FINUFFT's grid over the image's: as accurate as 2, which makes grids of powers of two out of images of
powers of two, on which its FFT takes five times as long."""


class NonUniformFFT:
    """Sums over pixels at points of k-space, and the adjoint sums over points at the pixels.

    With pixel indices n, N pixels along an axis, and points k in cycles per field of view,

        (F x)(k) = (prod N)^(-1/2) sum_n x[n] exp(-2 pi i sum_a k_a (n_a - N_a // 2) / N_a),

    which on the integer points of the grid is the orthonormal centred FFT.

    Args:
        trajectory: points ``(samples, axes)``.
        shape: image shape, two or three axes.
        accuracy: relative error of a transform.
    """

    def __init__(self, trajectory: Tensor, shape: Sequence[int], accuracy: float = ACCURACY) -> None:
        self.trajectory, self.shape, self.accuracy = trajectory, tuple(shape), accuracy
        self._plans = Derived()
        self._lock = threading.Lock()

    def forward(self, images: Tensor) -> Tensor:
        """Complex ``(B, *shape)`` to ``(B, samples)``."""
        return self._run(images, (len(self.trajectory),), kind=2)

    def adjoint(self, samples: Tensor) -> Tensor:
        """Complex ``(B, samples)`` to ``(B, *shape)``."""
        return self._run(samples, self.shape, kind=1)

    def _run(self, items: Tensor, target: tuple[int, ...], kind: int) -> Tensor:
        result = items.new_empty((len(items), *target))
        done = 0
        with self._lock:  # a plan works in buffers of its own
            while done < len(items):
                count = _TOGETHER if len(items) - done >= _TOGETHER else 1
                self._execute(items[done : done + count], result[done : done + count], kind)
                done += count
        return result.mul_(1 / math.sqrt(math.prod(self.shape)))

    def _execute(self, source: Tensor, result: Tensor, kind: int) -> None:
        plan = self._plans.get(
            (kind, source.dtype, len(source)),
            self.trajectory,
            lambda: self._plan(kind, source.dtype, len(source)),
        )
        source = source.contiguous()
        if source.device.type == "cpu":
            plan.execute(source.numpy(), out=result.numpy())
        else:
            plan.execute(source, out=result)

    def _plan(self, kind: int, dtype: torch.dtype, count: int) -> Any:
        library, options = _library(self.trajectory.device, kind)
        points = self.trajectory.to(torch.float64) * (2 * math.pi / _sides(self.trajectory, self.shape))
        axes = [axis.to(real_dtype(dtype)).contiguous() for axis in points.unbind(-1)]
        plan = library.Plan(
            kind,
            self.shape,
            count,
            eps=self.accuracy,
            isign=1 if kind == 1 else -1,
            dtype="complex64" if dtype == torch.complex64 else "complex128",
            **options,
        )
        plan.setpts(*(axis.numpy() if axis.device.type == "cpu" else axis for axis in axes))
        return plan

    def __reduce__(self) -> tuple[type[NonUniformFFT], tuple[Tensor, tuple[int, ...], float]]:
        return NonUniformFFT, (self.trajectory, self.shape, self.accuracy)


def normal_kernel(
    trajectory: Tensor,
    shape: Sequence[int],
    weights: Tensor | None = None,
    grid: Sequence[int] | None = None,
) -> Tensor:
    """The kernel t of F^H W F, a convolution on the image: (F^H W F)[m, n] = t[m - n].

    In double precision, differences in the order of the FFT, on a grid of even sides from twice the image's on
    (None: just twice). Differences that no two pixels have, -N and beyond, are zero, so that t[-d] = conj(t[d]) and
    the spectrum is real.
    """
    sides = tuple(2 * side for side in shape) if grid is None else tuple(grid)
    # cycles per field of view of the larger grid
    points = trajectory.to(torch.float64) * (_sides(trajectory, sides) / _sides(trajectory, shape))
    strengths = torch.ones(len(trajectory), dtype=torch.complex128, device=trajectory.device)
    if weights is not None:
        strengths = strengths * weights
    transform = NonUniformFFT(points, sides, accuracy=1e-12)
    kernel = transform.adjoint(strengths[None])[0] * (math.sqrt(math.prod(sides)) / math.prod(shape))
    for axis, (side, length) in enumerate(zip(shape, sides, strict=True)):
        kernel.narrow(axis, 0, length // 2 - side + 1).zero_()
        kernel.narrow(axis, length // 2 + side, length // 2 - side).zero_()
    return torch.fft.ifftshift(kernel)


def density_compensation(trajectory: Tensor, shape: Sequence[int], iterations: int = 10) -> Tensor:
    """Weights w, one a sample, that make F^H diag(w) F the identity as nearly as samples allow.

    The fixed point w = w / (C w) of Pipe and Menon (Magn. Reson. Med. 41, 1999), where C sums what samples have
    in common: their kernel is the squared kernel of the image's support, which is positive, so that the
    iteration settles. On a full Cartesian grid w = 1.
    """
    double = [2 * side for side in shape]
    transform = NonUniformFFT(trajectory.to(torch.float64) * 2, double)
    window = torch.full((), 2.0 ** len(double), dtype=torch.float64, device=trajectory.device)
    for side in shape:
        difference = torch.arange(-side, side, dtype=torch.float64, device=trajectory.device).abs()
        window = window.unsqueeze(-1) * (1 - difference / side)
    weights = torch.ones(1, len(trajectory), dtype=torch.complex128, device=trajectory.device)
    for _ in range(iterations):
        common = transform.forward(transform.adjoint(weights) * window).real
        weights = weights / common.clamp_min(1e-12)
    return weights[0].real


def _sides(like: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.tensor(shape, dtype=torch.float64, device=like.device)


def _library(device: torch.device, kind: int) -> tuple[Any, dict[str, Any]]:
    """The library for a device and its options."""
    name = "finufft" if device.type == "cpu" else "cufinufft"
    if importlib.util.find_spec(name) is None:
        raise ImportError(
            f"the non-uniform Fourier transform on {device.type} needs {name}: pip install {name}"
        )
    library = importlib.import_module(name)
    if device.type != "cpu":
        return library, {}
    # several threads add to one grid in any order: sums at pixels would differ from call to call
    return library, {"nthreads": 1 if kind == 1 else torch.get_num_threads(), "upsampfac": _OVERSAMPLING}
