"""Parallel-beam projections in the Fourier domain: the slice theorem by non-uniform FFTs, the Gram as one FFT pair."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from recon.linear import complex_dtype
from recon_operators.filtered_backprojection import fast_length
from recon_operators.nufft import NonUniformFFT, normal_kernel
from recon_operators.scan_geometry import ParallelGeometry

ACCURACY = {torch.float32: 1e-6, torch.float64: 1e-12}
"""Relative error of the transforms in each precision; the adjoint is the transpose to rounding at any accuracy."""

_BLOCK_BYTES = {"cpu": 2**20, "cuda": 2**28}
"""Memory of the padded images that one FFT pair takes together: on a CPU more leave its caches and take longer."""


class FourierProjector:
    """A and its transpose for a parallel beam whose elements average over their width, square pixels.

    The view at angle theta of pixels p wide, seen by elements d wide at s_j, is by the projection slice theorem

        y_theta[j] = 1/(P d) sum_m p^2 sinc(p f cos theta) sinc(p f sin theta) sinc(d f) X(f cos theta, f sin theta)
                     exp(2 pi i f s_j),    f = m / (P d),

    with X the sum over the pixels x[n] exp(-2 pi i k . r_n) and P elements of period, as many as see the whole
    image. With m over the whole numbers that is the area of the strip in each pixel over d, ASTRA's ``strip``; here
    m ends at the element's own sampling limit |f| < 1/(2 d), or, for elements wider than pixels, at the first
    multiple of it beyond 1/(2 p), and what lies beyond the limit is aliased as sampling does.

    Where the sum ends at the limit and the detector covers the image in every view, A^T A is exactly a convolution,
    t[m - n] (Delaney and Bresler, IEEE Trans. Image Process. 5, 1996): the P elements are a whole period, on which
    the exponentials are orthogonal.

    Args:
        geometry: the scan.
        dtype: float32 or float64.
        device: where the transforms run: FINUFFT on a CPU, cuFINUFFT on a GPU.
    """

    def __init__(
        self, geometry: ParallelGeometry, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        self.geometry, self.dtype = geometry, dtype
        self.period = _period(geometry)
        self.convolves = is_convolution(geometry)
        points = _points(geometry, self.period)
        self._transform = NonUniformFFT(points.reshape(-1, 2).to(device), geometry.shape, ACCURACY[dtype])
        # a transform is scaled by 1/sqrt(pixels)
        scale = _both_signs(geometry, self.period) * math.sqrt(math.prod(geometry.shape)) / self.period
        element = np.sinc(_frequencies(geometry, self.period) * geometry.detector_size)
        kind = complex_dtype(dtype)
        self._strips = torch.from_numpy(scale * _strips(geometry, self.period)).to(device, kind)
        self._lines = torch.from_numpy(scale * element**2 * _phases(geometry, self.period)).to(device, kind)
        self._symbol: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        """A x for ``(B, height, width)``: ``(B, views, detectors)``."""
        spectra = self._transform.forward(images.to(complex_dtype(self.dtype)))
        spectra = spectra.reshape(len(images), *self._strips.shape) * self._strips
        # beyond the sampling limit frequencies that are a multiple of P apart are one
        folds = -(-spectra.shape[-1] // self.period)
        if folds > 1:
            spectra = torch.nn.functional.pad(spectra, (0, folds * self.period - spectra.shape[-1]))
            spectra = spectra.unflatten(-1, (folds, self.period)).sum(-2)
        views = torch.fft.ifft(spectra, n=self.period, norm="forward").real
        return views[..., : self.geometry.detectors].contiguous()

    def adjoint(self, sinograms: Tensor) -> Tensor:
        """A^T y for ``(B, views, detectors)``: ``(B, height, width)``."""
        return self._spread(sinograms, self._strips)

    def add_up(self, views: Tensor) -> Tensor:
        """Views ``(B, views, detectors)`` at the pixels' middles, added up: what filtered back-projection asks for.

        Between elements a view is interpolated with the spectrum of linear interpolation, sinc^2(d f).
        """
        return self._spread(views, self._lines)

    def gram(self, images: Tensor) -> Tensor:
        """A^T A x: a convolution by FFTs on the doubled grid where it is one, else the adjoint of the forward."""
        if not self.convolves:
            return self.adjoint(self.forward(images))
        if self._symbol is None:
            symbol = _gram_symbol(self.geometry)
            self._symbol = symbol.to(images.device, self.dtype)
        height, width = self.geometry.shape
        rows, columns = (fast_length(2 * side) for side in self.geometry.shape)
        limit = _BLOCK_BYTES["cpu" if images.device.type == "cpu" else "cuda"]
        together = max(1, limit // (rows * columns * images.element_size()))
        result = torch.empty_like(images, memory_format=torch.contiguous_format)
        for first in range(0, len(images), together):
            some = slice(first, first + together)
            # rows of zeros are not transformed along, and transposed columns lie together in memory
            spectra = torch.fft.rfft(images[some], n=columns).mT.contiguous()
            spectra = torch.fft.fft(spectra, n=rows).mul_(self._symbol)
            spectra = torch.fft.ifft(spectra)[..., :height].mT.contiguous()
            result[some] = torch.fft.irfft(spectra, n=columns)[..., :width]
        return result

    def _spread(self, views: Tensor, transfer: Tensor) -> Tensor:
        spectra = torch.fft.fft(views, n=self.period)
        frequencies = transfer.shape[-1]
        folds = -(-frequencies // self.period)
        if folds > 1:
            spectra = spectra.repeat(1, 1, folds)
        spectra = spectra[..., :frequencies] * transfer.conj()
        return self._transform.adjoint(spectra.flatten(1)).real.contiguous()


def is_convolution(geometry: ParallelGeometry) -> bool:
    """Whether A^T A is a convolution: no view is truncated, and elements are no wider than pixels."""
    return geometry.covers_image and _folds(geometry) == 1


def _folds(geometry: ParallelGeometry) -> int:
    """How many times the element's sampling limit the pixels' own limit is, rounded up."""
    return max(1, math.ceil(geometry.detector_size / geometry.pixel_size * (1 - 1e-9)))


def _period(geometry: ParallelGeometry) -> int:
    """The number of elements that see the whole image in every view, the detector's among them."""
    before, after = geometry.elements_missing
    return geometry.detectors if geometry.covers_image else fast_length(geometry.detectors + before + after)


def _frequencies(geometry: ParallelGeometry, period: int) -> np.ndarray:
    """The frequencies f >= 0 [1/mm]."""
    highest = (_folds(geometry) * period - 1) // 2  # below the limit, whose own sign is ambiguous
    return np.arange(highest + 1) / (period * geometry.detector_size)


def _both_signs(geometry: ParallelGeometry, period: int) -> np.ndarray:
    """How many frequencies each f >= 0 stands for: the real image's spectrum is symmetric."""
    count = np.full(len(_frequencies(geometry, period)), 2.0)
    count[0] = 1.0
    return count


def _points(geometry: ParallelGeometry, period: int) -> Tensor:
    """The points (f cos theta, f sin theta) in cycles per field of view, rows first, ``(views, f, 2)``."""
    theta = np.asarray(geometry.angles)[:, None]
    pixels = _frequencies(geometry, period) * geometry.pixel_size
    cycles = np.stack([-pixels * np.sin(theta), pixels * np.cos(theta)], axis=-1)
    return torch.from_numpy(cycles * np.asarray(geometry.shape))


def _middles(geometry: ParallelGeometry) -> np.ndarray:
    """Where the transform's middle pixel lies along each view, from its first element on [mm], ``(views, 1)``."""
    theta = np.asarray(geometry.angles)[:, None]
    down, right = ((side // 2 - (side - 1) / 2) * geometry.pixel_size for side in geometry.shape)
    return right * np.cos(theta) - down * np.sin(theta) - geometry.positions[0]


def _phases(geometry: ParallelGeometry, period: int) -> np.ndarray:
    """exp(-2 pi i f s) with s the place of the middle pixel, ``(views, f)``."""
    return np.exp(-2j * np.pi * _frequencies(geometry, period) * _middles(geometry))


def _strips(geometry: ParallelGeometry, period: int) -> np.ndarray:
    """The spectrum of what the elements read of the middle pixel [mm], ``(views, f)``.

    Along an axis of the image all pixels lie alike between elements that divide them evenly, and what is beyond the
    sampling limit is aliased alike: the strips are exact there. Elsewhere they end at the limit.
    """
    theta, pixel = np.asarray(geometry.angles)[:, None], geometry.pixel_size
    cosine, sine = np.cos(theta), np.sin(theta)
    samples = _frequencies(geometry, period)
    strips = np.sinc(samples * pixel * cosine) * np.sinc(samples * pixel * sine)
    strips = strips * np.sinc(samples * geometry.detector_size) * (pixel**2 / geometry.detector_size)
    strips = strips * _phases(geometry, period)
    divided = pixel / geometry.detector_size
    if abs(divided - round(divided)) < 1e-9 * divided:
        along = np.minimum(np.abs(cosine), np.abs(sine))[:, 0] < 1e-9
        strips[along] = _aliased_strips(geometry, period, _middles(geometry)[along])
    return strips


def _aliased_strips(geometry: ParallelGeometry, period: int, middles: np.ndarray) -> np.ndarray:
    """As `_strips`, of views along an axis with the middle pixel at ``middles``: from the overlap with each element."""
    spacing, pixel = geometry.detector_size, geometry.pixel_size
    reach = math.ceil(pixel / spacing) + 1
    nearest = np.round(middles / spacing)
    elements = nearest + np.arange(-reach, reach + 1)  # (views, elements)
    apart = np.abs(elements * spacing - middles)
    overlap = np.clip((pixel + spacing) / 2 - apart, 0, min(pixel, spacing)) * (pixel / spacing)
    turns = elements[..., None] * (_frequencies(geometry, period) * spacing)
    return (overlap[..., None] * np.exp(-2j * np.pi * turns)).sum(1)


@functools.lru_cache(maxsize=2)
def _gram_symbol(geometry: ParallelGeometry) -> Tensor:
    """The spectrum of the kernel of A^T A on the doubled grid, transposed, one half of columns; float64, in mm^2."""
    period = _period(geometry)
    powers = np.abs(_strips(geometry, period)) ** 2 * _both_signs(geometry, period) / period
    weights = torch.from_numpy(powers).flatten()
    grid = tuple(fast_length(2 * side) for side in geometry.shape)
    points = _points(geometry, period).reshape(-1, 2)
    kernel = normal_kernel(points, geometry.shape, weights, grid).real * math.prod(geometry.shape)
    return torch.fft.rfft2(kernel).real.mT.contiguous()
