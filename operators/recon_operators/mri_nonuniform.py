"""Non-Cartesian MRI: samples of the Fourier transform anywhere in k-space, seen by one coil or several."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from recon.linear import LinearOperator, Step, real_dtype
from recon.parameters import Param
from recon_operators.arrays import ArrayLike, Derived, as_tensor
from recon_operators.circulant import circulant_inverse
from recon_operators.kspace_noise import lower, noise_beside_the_image, noise_power, outermost
from recon_operators.nufft import NonUniformFFT, density_compensation, normal_kernel

GOLDEN_ANGLE = math.pi * (math.sqrt(5) - 1) / 2
"""Angle between successive spokes [rad] that spreads any number of them evenly (Winkelmann et al. 2007)."""


class NonCartesianMRI(LinearOperator):
    """k_c(j) = (prod N)^(-1/2) sum_n S_c[n] x[n] exp(-2 pi i k_j . (n - N // 2) / N).

    Images ``(*batch, *shape)`` become samples ``(*batch, C, ...)``, or ``(*batch, ...)`` without coil maps,
    with the axes of the trajectory. At whole numbers k_j in [-N/2, N/2) this is `CartesianMRI`. The sums are
    non-uniform FFTs; the normal operator is a convolution of the image, one FFT pair on the doubled grid
    (Fessler et al., IEEE Trans. Signal Process. 53, 2005), however many samples there are.

    Args:
        shape: image shape, ``(H, W)`` or ``(D, H, W)``.
        trajectory: points of k-space ``(..., axes)`` in cycles per field of view, in the order of `shape`'s
            axes: along an axis of N pixels they lie in [-N/2, N/2].
        coil_maps: complex sensitivities ``(C, *shape)``, or None for one coil that sees everything equally.
        density: weights ``(...)`` of the samples in `pinv`; None computes them (`density_compensation`).

    Raises:
        ValueError: sizes that do not fit, points beyond N/2, NaN, weights below zero.
        ImportError: the library of the transform is missing.

    Warns:
        UserWarning: a trajectory that covers less than a quarter of k-space, as one in cycles per pixel or
            radians does.
    """

    domain = "complex"
    flatten_batch = True
    trajectory: Tensor
    coil_map_parts: Tensor | None

    def __init__(
        self,
        shape: Annotated[tuple[int, ...], Param("image shape", unit="px", ge=1)],
        trajectory: Annotated[
            ArrayLike, Param("points of k-space (..., axes); array or path", unit="cycles/FOV")
        ],
        coil_maps: Annotated[
            ArrayLike | None, Param("complex coil sensitivities (C, *shape); array or path")
        ] = None,
        density: Annotated[
            ArrayLike | None, Param("weights of the samples in the direct reconstruction; none: computed")
        ] = None,
    ) -> None:
        shape = tuple(int(side) for side in shape)
        points = _checked_trajectory(as_tensor(trajectory, "trajectory"), shape)
        maps = None if coil_maps is None else _checked_maps(as_tensor(coil_maps, "coil_maps"), shape)
        samples = tuple(points.shape[:-1])
        super().__init__(shape, samples if maps is None else (len(maps), *samples))
        self.register_buffer("trajectory", points)
        # as pairs of real numbers: Module.to(torch.float64) would drop the imaginary part of a complex buffer
        self.register_buffer(
            "coil_map_parts", None if maps is None else torch.view_as_real(maps).contiguous()
        )
        self.register_buffer("density", None if density is None else _checked_density(density, samples))
        self._derived = Derived()

    @property
    def coil_maps(self) -> Tensor | None:
        """The coil sensitivities ``(C, *shape)``, None for one homogeneous coil."""
        return (
            None if self.coil_map_parts is None else torch.view_as_complex(self.get_buffer("coil_map_parts"))
        )

    def _forward(self, x: Tensor) -> Tensor:
        seen = self._seen(x)
        samples = self._transform.forward(seen.reshape(-1, *self.domain_shape))
        return samples.reshape(len(x), *self.range_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        images = self._transform.adjoint(y.reshape(-1, len(self._points)))
        return self._combined(images.reshape(len(y), -1, *self.domain_shape))

    def _gram(self, x: Tensor) -> Tensor:
        axes, sides = tuple(range(-len(self.domain_shape), 0)), self.domain_shape
        spectrum = torch.fft.fftn(self._seen(x), s=[2 * side for side in sides], dim=axes)
        spectrum.mul_(self._normal_symbol(real_dtype(x.dtype)))
        inside = (..., *(slice(side) for side in sides))
        return self._combined(torch.fft.ifftn(spectrum, dim=axes)[inside])

    def _pinv(self, y: Tensor) -> Tensor:  # type: ignore[override]
        """Gridding: the adjoint of density-compensated samples, coils combined as sum conj(S_c) x_c / energy.

        The image is scaled to fit the data best: compensation leaves the scale of few samples open.
        """
        image = self._adjoint(y * self._weights().to(real_dtype(y.dtype)))
        if self.coil_maps is not None:
            energy = self._energy().to(real_dtype(y.dtype))
            seen = energy > torch.finfo(energy.dtype).eps * energy.max()
            image = torch.where(seen, image / energy.where(seen, 1), 0)
        return self._fitted(image, y)

    def approximate_symbol(self) -> Tensor:
        """The eigenvalues of the circulant nearest to A^H A in the Frobenius norm (T. Chan 1988).

        The kernel of the normal operator, weighted by how often each difference of two pixels occurs: for
        several coils by the autocorrelation of their maps, divided by the root of their energy.
        """
        symbol: Tensor = self._derived.get(
            "nearest circulant", (self.trajectory, self.coil_map_parts), self._nearest_circulant
        )
        return symbol

    def preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator]
    ) -> Callable[[Tensor], Tensor] | None:
        """The inverse of the nearest circulant, with periodic terms, scaled by the coil energy."""
        symbol = self.approximate_symbol()
        energy = None if self.coil_maps is None else self._energy().to(symbol.dtype)
        return circulant_inverse(symbol, rho, terms, energy)

    def noise_level(self, y: Tensor) -> Tensor:
        """Standard deviation of the real and of the imaginary part; the coils' variances are averaged.

        From the outermost samples, where the image's own k-space is weakest, or, where that is clearly lower, from
        beyond the field of view along straight lines that are oversampled, as spokes are
        (`noise_beside_the_image`).
        """
        outer = self._derived.get("outer samples", self.trajectory, self._outermost)
        power = noise_power(y.reshape(len(y), -1, len(self._points))[..., outer])
        level = power.mean(dim=-1).sqrt()
        steps = self._derived.get("steps", self.trajectory, self._steps)
        if steps is None:
            return level
        lines = y.reshape(len(y), -1, len(steps), self.trajectory.shape[-2])
        return lower(level, noise_beside_the_image(lines, steps))

    def _steps(self) -> Tensor | None:
        """The step between samples along each line ``(lines, axes)``, if the last axis of samples runs along lines."""
        if self.trajectory.ndim < 3 or self.trajectory.shape[-2] < 16:
            return None
        points = self.trajectory.to(torch.float64)
        points = points.reshape(-1, *points.shape[-2:])
        steps = points.diff(dim=1)
        mean = steps.mean(1)
        bent = (steps - mean.unsqueeze(1)).abs().amax()
        return mean if float(bent) <= 1e-3 * float(mean.norm(dim=-1).amin()) else None

    def extra_repr(self) -> str:
        """Shapes, samples and coils."""
        coils = 1 if self.coil_maps is None else len(self.coil_maps)
        return f"{self.domain_shape} -> {self.range_shape}, coils={coils}, samples={len(self._points)}"

    # Factors that are computed once

    @property
    def _points(self) -> Tensor:
        return self.trajectory.reshape(-1, len(self.domain_shape))

    @property
    def _transform(self) -> NonUniformFFT:
        transform: NonUniformFFT = self._derived.get(
            "transform", self.trajectory, lambda: NonUniformFFT(self._points, self.domain_shape)
        )
        return transform

    def _seen(self, x: Tensor) -> Tensor:
        """What each coil sees of the images: ``(B, C, *shape)``."""
        seen = x.unsqueeze(1)
        return seen if self.coil_maps is None else seen * self.coil_maps.to(x.dtype)

    def _combined(self, images: Tensor) -> Tensor:
        """The adjoint of `_seen`."""
        if self.coil_maps is None:
            return images[:, 0].clone()
        return (self.coil_maps.conj().to(images.dtype) * images).sum(1)

    def _energy(self) -> Tensor:
        """sum_c |S_c|^2."""
        assert self.coil_maps is not None
        return self.coil_maps.abs().square().sum(0)

    def _kernel(self) -> Tensor:
        kernel: Tensor = self._derived.get(
            "kernel", self.trajectory, lambda: normal_kernel(self._points, self.domain_shape)
        )
        return kernel

    def _normal_symbol(self, dtype: torch.dtype) -> Tensor:
        """The spectrum of the normal operator's kernel on the doubled grid."""
        symbol: Tensor = self._derived.get(
            ("normal", dtype), self.trajectory, lambda: torch.fft.fftn(self._kernel()).real.to(dtype)
        )
        return symbol

    def _weights(self) -> Tensor:
        if self.density is not None:
            return self.get_buffer("density")
        weights: Tensor = self._derived.get(
            "density", self.trajectory, lambda: density_compensation(self._points, self.domain_shape)
        )
        return weights.reshape(self.trajectory.shape[:-1])

    def _nearest_circulant(self) -> Tensor:
        sides, kernel = self.domain_shape, self._kernel()
        maps = torch.ones((1, *sides), dtype=torch.complex128, device=kernel.device)
        if self.coil_maps is not None:
            energy = self._energy().to(torch.float64)
            seen = energy > torch.finfo(torch.float32).eps * energy.max()
            maps = self.coil_maps.to(torch.complex128) * torch.where(seen, energy, torch.inf).rsqrt()
        axes = tuple(range(-len(sides), 0))
        power = torch.fft.fftn(maps, s=[2 * side for side in sides], dim=axes).abs().square().sum(0)
        folded = kernel * torch.fft.ifftn(power).conj()
        for axis, side in enumerate(sides):
            folded = folded.narrow(axis, 0, side) + folded.narrow(axis, side, side)
        symbol = torch.fft.fftn(folded).real / math.prod(sides)
        return symbol.clamp_min(0).to(real_dtype(self.trajectory.dtype))

    def _outermost(self) -> Tensor:
        """Indices of the samples farthest from the centre, relative to the grid's sides."""
        sides = torch.tensor(self.domain_shape, dtype=torch.float64, device=self.trajectory.device)
        distance = (self._points / sides).norm(dim=-1)
        return outermost(distance, len(distance))


class RadialMRI(NonCartesianMRI):
    """Radial MRI: straight spokes through the centre of k-space.

    Samples ``(*batch, C, spokes, samples)``, without C if there are no coil maps. The spoke at angle theta runs
    from -N/2 to N/2 along (sin theta, cos theta), rows first; spoke 0 lies along the rows.

    Args:
        shape: image shape ``(H, W)``.
        spokes: number of spokes.
        samples: samples on a spoke; None: twice the longer side of the image.
        order: ``"golden"``: each spoke turned by the golden angle, 111.2 degrees; ``"uniform"``: equally spaced
            over 180 degrees.
        coil_maps: complex sensitivities ``(C, H, W)``, or None.
    """

    def __init__(
        self,
        shape: Annotated[tuple[int, int], Param("image shape", unit="px", ge=1)],
        spokes: Annotated[int, Param("number of spokes", ge=1)],
        samples: Annotated[int | None, Param("samples on a spoke; none: twice the longer side", ge=2)] = None,
        order: Annotated[
            Literal["golden", "uniform"],
            Param("angle between spokes: golden, or equal shares of 180 degrees"),
        ] = "golden",
        coil_maps: Annotated[
            ArrayLike | None, Param("complex coil sensitivities (C, H, W); array or path")
        ] = None,
    ) -> None:
        super().__init__(shape, radial_trajectory(shape, spokes, samples, order), coil_maps)


def radial_trajectory(
    shape: Sequence[int],
    spokes: int,
    samples: int | None = None,
    order: Literal["golden", "uniform"] = "golden",
) -> Tensor:
    """Points ``(spokes, samples, 2)`` in cycles per field of view; see `RadialMRI`.

    Raises:
        ValueError: an image without two axes, no spoke, fewer than two samples, another order.
    """
    if len(shape) != 2:
        raise ValueError(f"a radial trajectory is for images (H, W), got shape {tuple(shape)}")
    count = 2 * max(shape) if samples is None else int(samples)
    if spokes < 1 or count < 2:
        raise ValueError(f"give at least one spoke and two samples, got spokes={spokes}, samples={count}")
    if order not in ("golden", "uniform"):
        raise ValueError(f"order must be 'golden' or 'uniform', got {order!r}")
    step = GOLDEN_ANGLE if order == "golden" else math.pi / spokes
    angles = torch.arange(spokes, dtype=torch.float64) * step
    # both ends of a spoke count half a step inwards, so that the samples' middle is the centre
    along = (torch.arange(count, dtype=torch.float64) - count // 2) / count
    directions = torch.stack([angles.sin() * shape[0], angles.cos() * shape[1]], dim=-1)
    return directions[:, None, :] * along[:, None]


def _checked_trajectory(points: Tensor, shape: tuple[int, ...]) -> Tensor:
    if len(shape) not in (2, 3):
        raise ValueError(f"shape must have two or three axes, got {shape}")
    if points.is_complex() or points.ndim < 2 or points.shape[-1] != len(shape):
        raise ValueError(
            f"trajectory must be real, of shape (..., {len(shape)}) for images {shape}, got {points.dtype} of "
            f"shape {tuple(points.shape)}"
        )
    reach = points.abs().flatten(0, -2).amax(0)
    for axis, (side, most) in enumerate(zip(shape, reach.tolist(), strict=True)):
        if most > side / 2 * (1 + 1e-6):
            raise ValueError(
                f"the trajectory reaches {most:g} cycles per field of view along axis {axis}, but {side} pixels "
                f"resolve {side / 2:g}: give it in cycles per field of view, or a larger shape"
            )
    if all(most <= side / 8 for side, most in zip(shape, reach.tolist(), strict=True)):
        warnings.warn(
            f"the trajectory reaches only {float(reach.max()):g} cycles per field of view, where images of "
            f"{shape} pixels have {max(shape) / 2:g}: multiply cycles per pixel by the image's sides, radians "
            "per pixel by the sides over 2 pi",
            stacklevel=3,
        )
    return points


def _checked_maps(maps: Tensor, shape: tuple[int, ...]) -> Tensor:
    if maps.ndim != len(shape) + 1 or tuple(maps.shape[1:]) != shape:
        raise ValueError(f"coil_maps must be (coils, {', '.join(map(str, shape))}), got {tuple(maps.shape)}")
    if not bool(maps.any()):
        raise ValueError("coil_maps are zero everywhere: no coil sees the image")
    return maps if maps.is_complex() else torch.complex(maps, torch.zeros_like(maps))


def _checked_density(density: ArrayLike, samples: tuple[int, ...]) -> Tensor:
    weights = as_tensor(density, "density")
    if tuple(weights.shape) != samples or weights.is_complex() or bool((weights < 0).any()):
        raise ValueError(
            f"density needs one weight >= 0 a sample, shape {samples}, got {weights.dtype} of shape "
            f"{tuple(weights.shape)}"
        )
    return weights
