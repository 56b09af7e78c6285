"""Downsampling with an antialiasing kernel: the forward model of super-resolution."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from recon.linear import Identity, LinearOperator, Step, complex_dtype, real_dtype
from recon.parameters import Param
from recon_operators.arrays import Derived
from recon_operators.circulant import term_symbol
from recon_operators.pixel_noise import noise_of_image

Kernel = Literal["lanczos3", "lanczos2", "bicubic", "box"]
Boundary = Literal["renormalise", "periodic"]

_REACH = {"lanczos3": 3.0, "lanczos2": 2.0, "bicubic": 2.0, "box": 0.5}
"""Where each kernel ends, in output pixels."""


class Downsample(LinearOperator):
    """Antialiased reduction of the last axes by a whole factor: ``(..., H, W)`` to ``(..., H/f, W/f)``.

    With ``axes=3`` volumes ``(..., D, H, W)`` become ``(..., D/f, H/f, W/f)``; other axes are left alone.

    Along each axis, output pixel i is the weighted mean of the input pixels j with weights k((j - c_i) / f):
    the kernel k is stretched by the factor f, and its centre c_i = (i + 1/2) f - 1/2 is the middle of the
    i-th block of f pixels, so both grids share their outer edges. The weights of every output pixel sum to 1.
    For ``lanczos2`` and factor 4 they are, away from the border, the 16 weights at distances 0.5/4, 1.5/4,
    ... of the downsampler with phase 0.5 in Deep Image Prior (Ulyanov et al. 2018). ``box`` is the mean over
    blocks.

    Boundary: with ``"renormalise"`` weights beyond the image are dropped and the others scaled up to sum 1,
    as Pillow does; with ``"periodic"`` the image repeats, which gives the data step of a periodic prior in
    closed form (`solve_gram`).

    Args:
        shape: image shape ``(..., H, W)``, or of a volume ``(..., D, H, W)``.
        factor: how many times smaller, a divisor of every reduced side.
        kernel: ``"lanczos3"``, ``"lanczos2"``, ``"bicubic"`` (Keys 1981, a = -1/2) or ``"box"``.
        boundary: ``"renormalise"`` or ``"periodic"``.
        axes: how many of the last axes are reduced: 2 for images and for stacks of them, 3 for volumes.

    Raises:
        ValueError: sides that the factor does not divide, unknown kernel or boundary, or fewer axes than are
            to be reduced.
    """

    domain = "any"

    def __init__(
        self,
        shape: Annotated[
            tuple[int, ...], Param("image shape (H, W), or of a volume (D, H, W)", unit="px", ge=1)
        ],
        factor: Annotated[int, Param("how many times smaller each side becomes", ge=1)],
        kernel: Annotated[Kernel, Param("antialiasing kernel")] = "lanczos3",
        boundary: Annotated[
            Boundary, Param("at the border: weights scaled up to sum 1, or the image repeated")
        ] = "renormalise",
        axes: Annotated[int, Param("how many of the last axes are reduced", ge=1)] = 2,
    ) -> None:
        shape, axes = tuple(shape), _checked_axes(tuple(shape), axes)
        factor = _checked_factor(shape[-axes:], factor)
        if kernel not in _REACH:
            raise ValueError(f"kernel must be one of {', '.join(_REACH)}, got {kernel!r}")
        if boundary not in ("renormalise", "periodic"):
            raise ValueError(f"boundary must be 'renormalise' or 'periodic', got {boundary!r}")
        super().__init__(shape, (*shape[:-axes], *(side // factor for side in shape[-axes:])))
        self.factor, self.kernel, self.boundary, self.axes = factor, kernel, boundary, axes
        self.nonnegative = kernel == "box"
        self._derived = Derived()
        self._names = tuple(f"_weights{axis}" for axis in range(-axes, 0))
        for name, side in zip(self._names, shape[-axes:], strict=True):
            matrix = downsampling_matrix(side, factor, kernel, periodic=boundary == "periodic")
            self.register_buffer(name, matrix, persistent=False)

    def _forward(self, x: Tensor) -> Tensor:
        return _separable(x, [self._matrix(name, x.dtype) for name in self._names])

    def _adjoint(self, y: Tensor) -> Tensor:
        return _separable(y, [self._matrix(name, y.dtype).T for name in self._names])

    def _norm(self) -> float:
        """Product of the largest singular values along the axes."""
        return math.prod(float(self._modes(name, torch.float64)[0].max()) for name in self._names) ** 0.5

    def _pinv(self, y: Tensor) -> Tensor:  # type: ignore[override]
        """Interpolation with the own kernel (bicubic for the box): the adjoint, scaled to keep constants."""
        return _separable(y, [self._interpolation(name, y.dtype) for name in self._names])

    def solve_gram(self, b: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator]) -> Tensor | None:
        """Exact where every term is the identity, or periodic like the operator itself; else None.

        Identity terms: the singular vectors of the matrices along the axes diagonalise the problem. Periodic
        terms: Woodbury's formula in the Fourier domain, where f^n frequencies of n axes fold onto one (Zhao et
        al., Fast single image super-resolution, IEEE Trans. Image Process. 25, 2016, for n = 2).
        """
        if terms and all(isinstance(term, Identity) for term in terms):
            return self._solve_in_modes(b, sum(rho))
        if self.boundary == "periodic":
            h = self._spectrum(b.dtype)
            others = term_symbol(h.real, rho, terms, approximate=False)
            return (
                None
                if others is None or _is_singular(others, self.axes)
                else self._folded_solver(h, others)(b)
            )
        return None

    def preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator]
    ) -> Callable[[Tensor], Tensor] | None:
        """The exact inverse of the periodic version of operator and terms."""
        h = self._spectrum(torch.float32)
        others = term_symbol(h.real, rho, terms, approximate=True)
        return None if others is None or _is_singular(others, self.axes) else self._folded_solver(h, others)

    def fourier_symbol(self) -> Tensor | None:
        """Only without reduction: a factor above 1 folds frequencies, which no symbol describes."""
        return self.approximate_symbol() if self.factor == 1 and self.boundary == "periodic" else None

    def approximate_symbol(self) -> Tensor:
        """|h|^2 / f^n, with n the reduced axes and h the Fourier transform of the kernel: folding left out."""
        symbol = self._spectrum(torch.float64).abs().square() / self.factor**self.axes
        return symbol.expand(self.domain_shape)

    def noise_level(self, y: Tensor) -> Tensor:
        """From differences of neighbouring pixels (`noise_of_image`)."""
        return noise_of_image(y)

    def extra_repr(self) -> str:
        """Shapes and kernel."""
        return f"{self.domain_shape} -> {self.range_shape}, kernel={self.kernel}, boundary={self.boundary}"

    # The two closed forms

    def _solve_in_modes(self, b: Tensor, rho: Step) -> Tensor | None:
        if float(torch.as_tensor(rho).min()) <= 0:
            return None
        modes = [self._modes(name, b.dtype) for name in self._names]
        squares = functools.reduce(
            lambda grid, values: grid.unsqueeze(-1) * values, (values for values, _ in modes)
        )
        vectors = [vectors for _, vectors in modes]
        seen = _separable(b, [matrix.T for matrix in vectors])
        unseen = b - _separable(seen, vectors)
        return _separable(seen / (squares + rho), vectors) + unseen / rho

    def _folded_solver(self, h: Tensor, others: Tensor) -> Callable[[Tensor], Tensor]:
        """Return b -> (A^H A + F^H diag(others) F)^-1 b for the periodic A with spectrum h.

        A group of the f^n frequencies k that fold onto one shares s = sum_k h_k X_k / f^n, and each of them obeys
        conj(h_k) s + others_k X_k = B_k. Eliminating X gives s. The zero frequency may be one that the terms
        do not see (others = 0, as for a gradient); then its own equation gives s, and s gives it.
        """
        axes, reduced = tuple(range(-len(self.domain_shape), 0)), self.axes
        zero: tuple[Any, ...] = (..., *(0,) * reduced)
        folding: tuple[Any, ...] = (..., *(slice(None, None, side) for side in self.range_shape[-reduced:]))
        h_zero, group = h[zero], h[folding]  # the zero frequency and those that fold onto it
        unseen = others[zero] <= 0
        inverse = others.reciprocal()
        inverse[zero] = torch.where(unseen, 1, inverse[zero])
        weighted = h * inverse
        denominator = 1 + self._fold(h.conj() * weighted).real

        def apply(b: Tensor) -> Tensor:
            B = torch.fft.fftn(b, dim=axes)
            s = self._fold(weighted * B) / denominator
            s_zero = torch.where(unseen, B[zero] / h_zero.conj(), s[zero])
            s[zero] = s_zero
            X = B * inverse - weighted.conj() * self._unfold(s)
            rest = (group * X[folding]).flatten(-reduced).sum(-1) - h_zero * X[zero]
            X[zero] = torch.where(unseen, (self.factor**reduced * s_zero - rest) / h_zero, X[zero])
            if b.is_complex():
                return torch.fft.ifftn(X, dim=axes)
            return torch.fft.irfftn(X[..., : b.shape[-1] // 2 + 1], s=self.domain_shape, dim=axes)

        return apply

    def _unfold(self, spectrum: Tensor) -> Tensor:
        """The value of each frequency of the small grid at those that fold onto it."""
        return spectrum.repeat(*(1,) * (spectrum.ndim - self.axes), *(self.factor,) * self.axes)

    def _fold(self, spectrum: Tensor) -> Tensor:
        """Sum over the frequencies that downsampling makes one, over f^n."""
        for axis in range(-self.axes, 0):
            spectrum = spectrum.unflatten(axis, (self.factor, self.range_shape[axis])).sum(axis - 1)
        return spectrum / self.factor**self.axes

    # What is computed once

    def _matrix(self, name: str, dtype: torch.dtype) -> Tensor:
        source, wanted = self.get_buffer(name), real_dtype(dtype)
        matrix: Tensor = self._derived.get((name, wanted), source, lambda: source.to(wanted))
        return matrix

    def _interpolation(self, name: str, dtype: torch.dtype) -> Tensor:
        """(side, side / factor): the transposed weights, each row scaled to sum 1."""
        source, wanted = self.get_buffer(name), real_dtype(dtype)

        def make() -> Tensor:
            matrix = source.to(torch.float64)
            if self.kernel == "box":
                periodic = self.boundary == "periodic"
                matrix = downsampling_matrix(source.shape[1], self.factor, "bicubic", periodic=periodic).to(
                    matrix
                )
            return (matrix / matrix.sum(0)).T.to(wanted).contiguous()

        matrix: Tensor = self._derived.get((name, "interpolation", wanted), source, make)
        return matrix

    def _modes(self, name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Squared singular values and right singular vectors (as columns) of one axis."""
        source, wanted = self.get_buffer(name), real_dtype(dtype)

        def make() -> tuple[Tensor, Tensor]:
            _, values, vectors = torch.linalg.svd(source.to(torch.float64), full_matrices=False)
            return values.square().to(wanted), vectors.T.to(wanted).contiguous()

        modes: tuple[Tensor, Tensor] = self._derived.get((name, "modes", wanted), source, make)
        return modes

    def _spectrum(self, dtype: torch.dtype) -> Tensor:
        """h on the unshifted FFT grid of the reduced axes: A x = every f-th pixel of F^-1 (h F x)."""
        wanted = complex_dtype(dtype)

        source = self.get_buffer(self._names[0])

        def make() -> Tensor:
            spectrum = torch.ones((), dtype=torch.complex128)
            for side in self.domain_shape[-self.axes :]:
                matrix = downsampling_matrix(side, self.factor, self.kernel, periodic=True)
                spectrum = spectrum.unsqueeze(-1) * torch.fft.fft(matrix[0]).conj()
            return spectrum.to(source.device, wanted)

        spectrum: Tensor = self._derived.get(("spectrum", wanted), source, make)
        return spectrum


def downsampling_matrix(side: int, factor: int, kernel: Kernel, *, periodic: bool) -> Tensor:
    """Return the weights along one axis, float64 ``(side / factor, side)``; every row sums to 1."""
    centres = (torch.arange(side // factor, dtype=torch.float64) + 0.5) * factor - 0.5
    reach = math.ceil(_REACH[kernel] * factor)
    pixels = torch.floor(centres).long().unsqueeze(1) + torch.arange(-reach, reach + 2)
    weights = _kernel_values(kernel, (pixels - centres.unsqueeze(1)) / factor)
    if periodic:
        pixels = pixels % side
    else:
        weights = weights.where((pixels >= 0) & (pixels < side), 0)
        pixels = pixels.clamp(0, side - 1)
    matrix = torch.zeros(len(centres), side, dtype=torch.float64).scatter_add_(1, pixels, weights)
    return matrix / matrix.sum(1, keepdim=True)


def _kernel_values(kernel: Kernel, distance: Tensor) -> Tensor:
    d, reach = distance.abs(), _REACH[kernel]
    if kernel == "box":
        return (d < reach).to(d.dtype)
    if kernel == "bicubic":
        near, far = (1.5 * d - 2.5) * d**2 + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
        return torch.where(d < 1, near, far).where(d < reach, 0)
    return (torch.sinc(d) * torch.sinc(d / reach)).where(d < reach, 0)


def _separable(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Each matrix along its axis, the last along the last, of a real or complex tensor."""
    if x.is_complex():
        return torch.complex(_separable(x.real, matrices), _separable(x.imag, matrices))
    x = x @ matrices[-1].T
    for axis, matrix in enumerate(reversed(matrices[:-1]), 2):
        x = (matrix @ x.movedim(-axis, -2)).movedim(-2, -axis)
    return x.contiguous()


def _is_singular(others: Tensor, axes: int) -> bool:
    """Whether a frequency other than zero is left without a term."""
    return bool((others.flatten(-axes)[..., 1:] <= 0).any())


def _checked_axes(shape: tuple[int, ...], axes: int) -> int:
    if axes != int(axes) or axes < 1:
        raise ValueError(f"axes, how many are reduced, must be a whole number of at least 1, got {axes}")
    if len(shape) < axes:
        names = {1: "(..., W)", 2: "(..., H, W)", 3: "(..., D, H, W)"}.get(axes, f"of {axes} axes")
        raise ValueError(f"shape must be {names}, got {shape}")
    return int(axes)


def _checked_factor(sides: tuple[int, ...], factor: int) -> int:
    if factor != int(factor) or factor < 1:
        raise ValueError(f"factor must be a whole number of at least 1, got {factor}")
    factor = int(factor)
    if any(side % factor for side in sides):
        fitting = [side - side % factor for side in sides]
        given, cropped = (" x ".join(map(str, lengths)) for lengths in (sides, fitting))
        raise ValueError(
            f"factor {factor} does not divide the image sides {given}: crop the image to {cropped}, or pad it"
            if min(fitting)
            else f"factor {factor} is larger than the image {given}"
        )
    return factor
