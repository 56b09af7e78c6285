"""Cartesian MRI: samples of the centred Fourier transform of an image, seen by one coil or several."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from torch import Tensor

from recon.algebra import checked_samples
from recon.linear import LinearOperator, Step, complex_dtype, real_dtype, solve_in_fourier
from recon.parameters import Param
from recon_operators.arrays import ArrayLike, Derived, as_mask, as_tensor
from recon_operators.circulant import circulant_inverse
from recon_operators.kspace_noise import lower, noise_beside_the_object, noise_power, outermost
from recon_operators.sampling import is_named, make_mask, unknown_mask

_NAMES = {2: "(H, W)", 3: "(D, H, W)"}
"""What the axes of images and volumes are called."""


class CartesianMRI(LinearOperator):
    """k_c = mask * F(S_c x), with the Fourier transform F and the sensitivity S_c of coil c.

    Images ``(*batch, H, W)`` become k-space ``(*batch, C, H, W)``, or ``(*batch, H, W)`` without coil maps;
    volumes ``(*batch, D, H, W)`` become ``(*batch, C, D, H, W)``. F is the orthonormal FFT with both centres
    in the middle, ``fftshift(fftn(ifftshift(x)))``, for odd and even sides. Images are complex; real ones are
    promoted.

    In the normal operator a mask that does not vary along an axis costs a transform of the other axes only:
    along a fully sampled axis F^H F is the identity. It needs no shift at all: shifting the image by its
    centre commutes with F^H M F, and where there are coil maps the shift is a phase that they carry.

    Args:
        mask: 0 or 1 on the centred k-space ``(H, W)`` or ``(D, H, W)``. It is repeated along sides of 1:
            columns ``(1, W)``, also ``(W,)``, rows ``(H, 1)``, or phase-encoding steps ``(D, H, 1)`` with a
            full readout along W; the size then comes from the coil maps or from `shape`. Or a mask of
            `sampling` by name: ``"random_1d:acceleration=4"``, ``("radial", {"acceleration": 5})``; of a
            volume it selects phase-encoding steps (D, H).
        coil_maps: complex sensitivities ``(C, H, W)`` or ``(C, D, H, W)``, or None for one coil that sees
            everything equally.
        shape: image shape ``(H, W)`` or ``(D, H, W)``; needed only without coil maps, for a mask by name or
            with sides of 1.

    Raises:
        ValueError: a mask with other values than 0 and 1 or without any 1, sizes that do not fit, NaN, coil
            maps that are zero everywhere.
    """

    domain = "complex"
    mask: Tensor

    def __init__(
        self,
        mask: Annotated[
            ArrayLike,
            Param("0/1 on the centred k-space (H, W) or (D, H, W), or columns (W,); array, path or name"),
        ],
        coil_maps: Annotated[
            ArrayLike | None, Param("complex coil sensitivities (C, H, W) or (C, D, H, W); array or path")
        ] = None,
        shape: Annotated[
            tuple[int, ...] | None,
            Param("image shape (H, W) or (D, H, W), for a mask of columns or by name", unit="px", ge=1),
        ] = None,
    ) -> None:
        maps = None if coil_maps is None else _checked_maps(as_tensor(coil_maps, "coil_maps"))
        grid = _full_mask(mask, maps, shape)
        super().__init__(tuple(grid.shape), tuple(grid.shape if maps is None else maps.shape))
        self.register_buffer("mask", grid if maps is None else grid.to(maps.device))
        # as pairs of real numbers: Module.to(torch.float64) would drop the imaginary part of a complex buffer
        self.register_buffer(
            "coil_map_parts", None if maps is None else torch.view_as_real(maps).contiguous()
        )
        self._derived = Derived()

    @property
    def coil_maps(self) -> Tensor | None:
        """The coil sensitivities ``(C, H, W)`` or ``(C, D, H, W)``, None for one homogeneous coil."""
        return torch.view_as_complex(self._map_parts) if self._coils else None

    def _forward(self, x: Tensor) -> Tensor:
        if self._coils:
            seen = self._phased_maps(x.dtype) * x.unsqueeze(self._coil_axis)
        else:
            seen = x * self._image_phase(x.dtype)
        return torch.fft.fftn(seen, dim=self._axes, norm="ortho").mul_(self._masked_phase(x.dtype))

    def _adjoint(self, y: Tensor) -> Tensor:
        phase = self._masked_phase(y.dtype).conj()
        if not self._coils:
            image = torch.fft.ifftn(y * phase, dim=self._axes, norm="ortho")
            return image.mul_(self._image_phase(y.dtype).conj())
        total: Tensor | None = None
        for coils in self._coil_groups(y.device):
            seen = y.narrow(self._coil_axis, coils.start, coils.stop - coils.start)
            image = torch.fft.ifftn(seen * phase, dim=self._axes, norm="ortho")
            image.mul_(self._conjugate_maps(y.dtype)[coils])
            total = _add_coils(total, image, self._coil_axis)
        assert total is not None
        return total

    def _gram(self, x: Tensor) -> Tensor:
        axes = self._transformed_axes
        if not axes:
            return x * (self._energy(x.dtype) if self._coils else 1)
        # an FFT along two axes is more than twice as fast where these are the last in memory
        last = axes if len(axes) == 1 else tuple(range(-len(axes), 0))

        def moved(name: str, factor: Tensor) -> Tensor:
            found: Tensor = self._derived.get(
                (name, axes, x.dtype), factor, lambda: factor.movedim(axes, last).contiguous()
            )
            return found

        x = x.movedim(axes, last).contiguous()
        if not self._coils:
            symbol = moved("moved symbol", self._symbol(real_dtype(x.dtype)))
            total = torch.fft.ifftn(torch.fft.fftn(x, dim=last).mul_(symbol), dim=last)
            return total.movedim(last, axes).contiguous()
        maps = moved("moved maps", self._phased_maps(x.dtype))
        conjugate = moved("moved conjugate maps", self._conjugate_maps(x.dtype))
        mask, total = moved("moved mask", self.mask), None
        for coils in self._coil_groups(x.device):
            kspace = torch.fft.fftn(maps[coils] * x.unsqueeze(self._coil_axis), dim=last).mul_(mask)
            image = torch.fft.ifftn(kspace, dim=last).mul_(conjugate[coils])
            total = _add_coils(total, image, self._coil_axis)
        assert total is not None
        return total.movedim(last, axes).contiguous()

    def _norm(self) -> float:
        """1 for one coil; for several the bound max sqrt(sum_c |S_c|^2), reached if all is sampled."""
        if not self._coils:
            return float(self.mask.max())
        return math.sqrt(float(self._energy(torch.complex128).max()))

    def _pinv(self, y: Tensor) -> Tensor:  # type: ignore[override]
        """Zero-filled inverse FFT; coil images are combined as sum conj(S_c) x_c / sum |S_c|^2."""
        image = self.adjoint(y)
        if not self._coils:
            return image
        energy = self._energy(image.dtype)
        seen = energy > torch.finfo(energy.dtype).eps * energy.max()
        return torch.where(seen, image / energy.where(seen, 1), 0)

    def fourier_symbol(self) -> Tensor | None:
        """The mask on the unshifted FFT grid for one coil (the image's centre does not matter), else None."""
        return None if self._coils else self._symbol(self.mask.dtype)

    def approximate_symbol(self) -> Tensor:
        """The mask for one coil; for several that of the nearest circulant, for coil maps of energy 1.

        Nearest in the Frobenius norm is the diagonal of F A^H A F^H (T. Chan, SIAM J. Sci. Stat. Comput. 9,
        1988): the mask correlated with the power spectrum of the coil maps. The maps are divided by the root
        of their energy e = sum_c |S_c|^2, so that A^H A is near e^(1/2) times this circulant times e^(1/2).
        """
        if not self._coils:
            return self._symbol(self.mask.dtype)
        symbol: Tensor = self._derived.get(
            "nearest circulant", (self._map_parts, self.mask), self._nearest_circulant
        )
        return symbol

    def solve_gram(self, b: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator]) -> Tensor | None:
        """Division in the Fourier domain, for one coil and if the FFT diagonalises every term; else None."""
        symbol = self.fourier_symbol()
        return None if symbol is None else solve_in_fourier(symbol, b, rho, terms)

    def preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator]
    ) -> Callable[[Tensor], Tensor] | None:
        """The inverse of the nearest circulant, with periodic terms, scaled by the coil energy."""
        energy = self._energy(complex_dtype(self.approximate_symbol().dtype)) if self._coils else None
        return circulant_inverse(self.approximate_symbol(), rho, terms, energy)

    @property
    def sample_mask(self) -> Tensor:
        """The mask ``(H, W)`` or ``(D, H, W)``, the same for every coil."""
        return self.mask

    def restricted(self, mask: Tensor) -> LinearOperator:
        """The places of k-space of both masks, with the same coils."""
        chosen = checked_samples(self, mask)
        if chosen.ndim > len(self.domain_shape):  # the coils' own
            return super().restricted(mask)
        return CartesianMRI(chosen.expand(self.domain_shape), self.coil_maps)

    def noise_level(self, y: Tensor) -> Tensor:
        """Standard deviation of the real and of the imaginary part; the coils' variances are averaged.

        From the outermost measured samples, where the image's own k-space is weakest (`noise_power`), or, where that
        is clearly lower, from beside the object along a fully sampled axis (`noise_beside_the_object`). Masks that
        vary along every axis leave the first alone: an image that has not faded at the highest frequencies is then a
        floor, of 0.3 % of the maximum for a clinical slice of 512 x 512, 1 to 3 % for simulated data of photographs
        and phantoms.
        """
        outer = self._derived.get("outer samples", self.mask, self._outermost)
        power = noise_power(y.flatten(self._axes[0])[..., outer])
        level = (power.mean(dim=-1) if self._coils else power).sqrt()
        sampled = [axis for axis in self._axes if axis not in varying_axes(self.mask)]
        coils = y if self._coils else y.unsqueeze(1)
        return lower(level, noise_beside_the_object(coils, self.mask, sampled))

    def extra_repr(self) -> str:
        """Shapes, coils and acceleration."""
        coils = self.range_shape[0] if self._coils else 1
        acceleration = self.mask.numel() / max(float(self.mask.sum()), 1.0)
        return f"{self.domain_shape} -> {self.range_shape}, coils={coils}, acceleration={acceleration:.2f}"

    # Factors that are computed once

    @property
    def _coils(self) -> bool:
        return len(self.range_shape) > len(self.domain_shape)

    @property
    def _axes(self) -> tuple[int, ...]:
        """The axes of the image, counted from the end; that of the coils comes before them."""
        return tuple(range(-len(self.domain_shape), 0))

    @property
    def _coil_axis(self) -> int:
        return -len(self.domain_shape) - 1

    def _coil_groups(self, device: torch.device) -> list[slice]:
        """Coils transformed together: one by one they stay in a CPU's cache, all at once they fill a GPU."""
        count = self.range_shape[0]
        size = 1 if device.type == "cpu" else count
        return [slice(start, start + size) for start in range(0, count, size)]

    @property
    def _transformed_axes(self) -> tuple[int, ...]:
        axes: tuple[int, ...] = self._derived.get("axes", self.mask, lambda: varying_axes(self.mask))
        return axes

    def _symbol(self, dtype: torch.dtype) -> Tensor:
        symbol: Tensor = self._derived.get(
            ("symbol", dtype), self.mask, lambda: torch.fft.ifftshift(self.mask).to(dtype)
        )
        return symbol

    def _image_phase(self, dtype: torch.dtype) -> Tensor:
        """The factor on the image that centres k-space."""
        return self._phase(dtype, start=[0] * len(self.domain_shape), name="image phase")

    def _masked_phase(self, dtype: torch.dtype) -> Tensor:
        """The mask times the factor on k-space that centres the image."""
        start = [-(side // 2) for side in self.domain_shape]
        factor: Tensor = self._derived.get(
            ("masked phase", dtype), self.mask, lambda: self._phase(dtype, start, "k-space phase") * self.mask
        )
        return factor

    def _phase(self, dtype: torch.dtype, start: Sequence[int], name: str) -> Tensor:
        """exp(2 pi i sum_a (n_a + start_a) c_a / N_a), c = N // 2; for even sides signs, as real numbers."""

        def make() -> Tensor:
            factor = torch.ones((), dtype=torch.complex128, device=self.mask.device)
            for side, first in zip(self.domain_shape, start, strict=True):
                steps = torch.arange(first, first + side, device=self.mask.device) * (side // 2) % side
                factor = factor.unsqueeze(-1) * torch.exp(2j * math.pi * steps.to(torch.float64) / side)
            even = all(side % 2 == 0 or side == 1 for side in self.domain_shape)
            return factor.real.round().to(real_dtype(dtype)) if even else factor.to(complex_dtype(dtype))

        phase: Tensor = self._derived.get((name, dtype), self.mask, make)
        return phase

    def _phased_maps(self, dtype: torch.dtype) -> Tensor:
        maps: Tensor = self._derived.get(
            ("maps", dtype),
            self._map_parts,
            lambda: self._maps(dtype) * self._image_phase(dtype),
        )
        return maps

    def _conjugate_maps(self, dtype: torch.dtype) -> Tensor:
        maps: Tensor = self._derived.get(
            ("conjugate maps", dtype),
            self._map_parts,
            lambda: self._phased_maps(dtype).conj().resolve_conj(),
        )
        return maps

    @property
    def _map_parts(self) -> Tensor:
        return self.get_buffer("coil_map_parts")

    def _maps(self, dtype: torch.dtype) -> Tensor:
        return torch.view_as_complex(self._map_parts).to(dtype)

    def _energy(self, dtype: torch.dtype) -> Tensor:
        """sum_c |S_c|^2."""
        energy: Tensor = self._derived.get(
            ("energy", dtype),
            self._map_parts,
            lambda: self._maps(dtype).abs().square().sum(0),
        )
        return energy

    def _nearest_circulant(self) -> Tensor:
        energy = self._energy(torch.complex128)
        seen = energy > torch.finfo(torch.float32).eps * energy.max()
        maps = self._maps(torch.complex128) * torch.where(seen, energy, torch.inf).rsqrt()
        power = torch.fft.fftn(maps, dim=self._axes).abs().square().sum(0) / self.mask.numel() ** 2
        mask = torch.fft.fftn(self._symbol(torch.float64))
        symbol = torch.fft.ifftn(mask * torch.fft.fftn(power).conj()).real
        return symbol.clamp_min(0).to(self._map_parts.dtype)

    def _outermost(self) -> Tensor:
        """Flat indices of the measured samples farthest from the centre, relative to the grid's sides."""
        squares = torch.zeros((), device=self.mask.device)
        for side in self.domain_shape:
            offset = (torch.arange(side, device=self.mask.device) - side // 2) / side
            squares = squares.unsqueeze(-1) + offset.square()
        distance = squares.where(self.mask > 0, -1.0).flatten()
        return outermost(distance, int(self.mask.sum()))


def _checked_maps(maps: Tensor) -> Tensor:
    if maps.ndim not in (3, 4):
        raise ValueError(
            f"coil_maps must be (coils, H, W), got {tuple(maps.shape)}; or (coils, D, H, W) for volumes: one "
            "coil is maps[None], a batch of different maps needs one operator each"
        )
    if not bool(maps.any()):
        raise ValueError("coil_maps are zero everywhere: no coil sees the image")
    return maps.to(complex_dtype(maps.dtype))


def _full_mask(given: ArrayLike, maps: Tensor | None, shape: Sequence[int] | None) -> Tensor:
    """The mask on the whole grid, whose size the coil maps, `shape` or the mask itself say."""
    grid = _given_grid(maps, shape)
    if is_named(given):
        if grid is None:
            raise ValueError(
                f"the mask {str(given)!r} does not tell the size of the image: give shape=(H, W) or (D, H, W)"
            )
        steps = make_mask(given, grid[:2])
        return steps.reshape(*grid[:2], *[1] * (len(grid) - 2)).expand(grid).contiguous()
    try:
        mask = as_mask(given)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error} And {unknown_mask(str(given))}") from None
    if grid is None:
        if mask.ndim not in _NAMES or 1 in mask.shape:
            raise ValueError(
                f"a mask of shape {tuple(mask.shape)} does not tell the size of the image: "
                "give shape=(H, W) or (D, H, W), or a mask of that shape"
            )
        grid = tuple(mask.shape)
    repeatable = mask.ndim == len(grid) or (mask.ndim, len(grid)) == (1, 2)
    sides = zip(mask.shape, grid[-mask.ndim :], strict=False)
    if not repeatable or any(side not in (1, whole) for side, whole in sides):
        owner = "the coil maps" if maps is not None else "shape"
        partly = f"columns ({grid[1]},) or rows ({grid[0]}, 1)" if len(grid) == 2 else "or with sides of 1"
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} does not fit {owner}, which say {_NAMES[len(grid)]} = {grid}: "
            f"give a mask of that shape, {partly}"
        )
    return mask.expand(grid).contiguous()


def _given_grid(maps: Tensor | None, shape: Sequence[int] | None) -> tuple[int, ...] | None:
    """The shape of the image as the coil maps or `shape` say, None if neither is given."""
    if shape is not None and len(shape) not in _NAMES:
        raise ValueError(f"shape must be (H, W) or (D, H, W), got {tuple(shape)}")
    if maps is None:
        return None if shape is None else tuple(shape)
    grid = tuple(maps.shape[1:])
    if shape is not None and tuple(shape) != grid:
        raise ValueError(f"shape is {tuple(shape)}, but the coil maps are for images {grid}")
    return grid


def varying_axes(mask: Tensor) -> tuple[int, ...]:
    """The axes along which the mask is not constant."""
    axes = range(-mask.ndim, 0)
    return tuple(axis for axis in axes if bool((mask != mask.narrow(axis, 0, 1)).any()))


def _add_coils(total: Tensor | None, images: Tensor, axis: int) -> Tensor:
    """Add the sum of the coil images over their axis to the total."""
    part = images.squeeze(axis) if images.shape[axis] == 1 else images.sum(axis)
    return part if total is None else total.add_(part)
