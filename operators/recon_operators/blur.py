"""Blur: circular convolution with a known kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor

from recon.linear import LinearOperator, Step, complex_dtype, real_dtype, solve_in_fourier
from recon.parameters import Param
from recon_operators.arrays import ArrayLike, Derived, as_tensor
from recon_operators.circulant import circulant_inverse

WIENER = 1e-2
"""Regularisation of the Wiener inverse, relative to the largest |h|^2: noise power over signal power."""


class Blur(LinearOperator):
    """Circular convolution of the last axes with a real kernel: the image repeats beyond its edges.

    The kernel's centre is its index ``size // 2`` along every axis (the middle of an odd kernel), so a kernel
    that is 1 there and 0 elsewhere changes nothing. It is used as given; a sum of 1 keeps the brightness.

    Args:
        shape: image shape, with at least as many axes as the kernel; more axes are blurred one by one.
        kernel: array with at most as many axes as `shape`, odd or even sides, not larger than the image; or
            ``("gaussian", sigma)`` for the last two axes, sigma in pixels, cut off at 4 sigma, with sum 1.

    Raises:
        ValueError: a kernel larger than the image, of more axes, all zero, complex, or with NaN.
    """

    domain = "any"
    kernel: Tensor

    def __init__(
        self,
        shape: Annotated[tuple[int, ...], Param("image shape", unit="px", ge=1)],
        kernel: Annotated[ArrayLike, Param("array, path of a file, or ('gaussian', sigma in pixels)")],
    ) -> None:
        super().__init__(shape, shape)
        values = (
            _gaussian_kernel(kernel, self.domain_shape) if _is_named(kernel) else as_tensor(kernel, "kernel")
        )
        _check_kernel(values, self.domain_shape)
        self.register_buffer("kernel", values)
        self.nonnegative = bool((values >= 0).all())
        self._axes = tuple(range(-values.ndim, 0))
        self._derived = Derived()

    def _forward(self, x: Tensor) -> Tensor:
        return self._filter(x, self._spectrum(x.dtype))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._filter(y, self._spectrum(y.dtype).conj())

    def _gram(self, x: Tensor) -> Tensor:
        return self._filter(x, self._power(x.dtype))

    def _norm(self) -> float:
        return math.sqrt(float(self._power(torch.complex128).max()))

    def _pinv(self, y: Tensor, regularisation: float = WIENER) -> Tensor:  # type: ignore[override]
        """Wiener inverse (1 + c) conj(h) / (|h|^2 + c max|h|^2), c = `regularisation`.

        The factor 1 + c keeps the strongest frequency, the mean of a blur of non-negative kernel, as it is.
        """
        power = self._power(y.dtype)
        largest = self._derived.get("largest", self.kernel, lambda: self._power(torch.complex128).max())
        inverse = (1 + regularisation) / (power + regularisation * largest.to(power.dtype))
        return self._filter(y, self._spectrum(y.dtype).conj() * inverse)

    def fourier_symbol(self) -> Tensor:
        """|h|^2, with h the Fourier transform of the kernel."""
        power = self._power(torch.complex128)
        return power.expand(self.domain_shape)

    def solve_gram(self, b: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator]) -> Tensor | None:
        """Division in the Fourier domain where the FFT diagonalises every term."""
        return solve_in_fourier(self.fourier_symbol(), b, rho, terms)

    def preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator]
    ) -> Callable[[Tensor], Tensor] | None:
        """The inverse with the periodic version of every term."""
        return circulant_inverse(self.fourier_symbol(), rho, terms)

    def _spectrum(self, dtype: torch.dtype) -> Tensor:
        """h on the unshifted FFT grid: whole for complex images, the half of `rfftn` for real ones."""
        spectrum: Tensor = self._derived.get(
            ("spectrum", dtype),
            self.kernel,
            lambda: self._half_if_real(self._exact_spectrum(), dtype).to(complex_dtype(dtype)),
        )
        return spectrum

    def _power(self, dtype: torch.dtype) -> Tensor:
        power: Tensor = self._derived.get(
            ("power", dtype),
            self.kernel,
            lambda: self._half_if_real(self._exact_spectrum().abs().square(), dtype).to(real_dtype(dtype)),
        )
        return power

    def _exact_spectrum(self) -> Tensor:
        """h in double precision on the grid of the blurred axes."""
        sides = self.domain_shape[-self.kernel.ndim :]
        padded = torch.zeros(sides, dtype=torch.float64, device=self.kernel.device)
        padded[tuple(slice(side) for side in self.kernel.shape)] = self.kernel.to(torch.float64)
        padded = padded.roll([-(side // 2) for side in self.kernel.shape], self._axes)
        return torch.fft.fftn(padded, dim=self._axes)

    def _half_if_real(self, full: Tensor, dtype: torch.dtype) -> Tensor:
        return full if dtype.is_complex else full[..., : full.shape[-1] // 2 + 1].contiguous()

    def _filter(self, x: Tensor, spectrum: Tensor) -> Tensor:
        if x.is_complex():
            return torch.fft.ifftn(torch.fft.fftn(x, dim=self._axes) * spectrum, dim=self._axes)
        sides = self.domain_shape[-self.kernel.ndim :]
        return torch.fft.irfftn(torch.fft.rfftn(x, dim=self._axes) * spectrum, s=sides, dim=self._axes)


def _is_named(kernel: Any) -> bool:
    if isinstance(kernel, tuple | list):
        return len(kernel) > 0 and isinstance(kernel[0], str)
    return kernel == "gaussian" if isinstance(kernel, str) else False


def _gaussian_kernel(kernel: Any, shape: tuple[int, ...]) -> Tensor:
    if kernel[0] != "gaussian" or len(kernel) != 2:
        raise ValueError(f"kernel must be an array or ('gaussian', sigma in pixels), got {kernel!r}")
    sigma = float(kernel[1])
    if not 0 < sigma < math.inf:
        raise ValueError(f"the Gaussian kernel needs a sigma > 0 pixels, got {kernel[1]}")
    result = torch.ones((), dtype=torch.float64)
    for side in shape[-2:]:
        reach = min(math.ceil(4 * sigma), (side - 1) // 2)
        offset = torch.arange(-reach, reach + 1, dtype=torch.float64)
        profile = torch.exp(-(offset**2) / (2 * sigma**2))
        result = result.unsqueeze(-1) * (profile / profile.sum())
    return result


def _check_kernel(kernel: Tensor, shape: tuple[int, ...]) -> None:
    if kernel.is_complex():
        raise ValueError(
            f"kernel must be real, got {kernel.dtype}: blur with its real and imaginary parts apart"
        )
    if not 1 <= kernel.ndim <= len(shape):
        raise ValueError(
            f"kernel has {kernel.ndim} axes, the image {shape} has {len(shape)}: give 1 to {len(shape)}"
        )
    sides = shape[-kernel.ndim :]
    if any(small > large for small, large in zip(kernel.shape, sides, strict=True)):
        raise ValueError(f"kernel of shape {tuple(kernel.shape)} is larger than the image {sides}: crop it")
    if not bool(kernel.any()):
        raise ValueError("kernel is zero everywhere: it would blur every image to nothing")
