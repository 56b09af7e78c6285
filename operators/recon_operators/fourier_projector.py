"""Parallel-beam projections in the Fourier domain: the slice theorem by non-uniform FFTs, the Gram as one FFT pair."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

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

_Array = np.ndarray[Any, Any]


class FourierProjector:
    """A and its transpose for a parallel beam whose elements average over their width, square pixels.

    The view at angle theta of pixels p wide, seen by elements d wide at s_j, is by the projection slice theorem

        y_theta[j] = 1/(P d) sum_m p^2 sinc(p f cos theta) sinc(p f sin theta) sinc(d f) X(f cos theta, f sin theta)
                     exp(2 pi i f s_j),    f = m / (P d),

    with X the sum over the pixels x[n] exp(-2 pi i k . r_n) and P elements of period, as many as see the whole
    image. With m over the whole numbers that is the area of the strip in each pixel over d, ASTRA's ``strip``. What
    lies beyond the elements' sampling limit, 1/(2 d), is aliased, as sampling does.

    Where the detector covers the image in every view and the sum ends at the limit, A^T A is exactly a convolution,
    t[m - n] (Delaney and Bresler, IEEE Trans. Image Process. 5, 1996): the P elements are a whole period, on which
    the exponentials are orthogonal.

    Args:
        geometry: the scan.
        dtype: float32 or float64.
        device: where the transforms run: FINUFFT on a CPU, cuFINUFFT on a GPU.
        aliased: whether to sum beyond the limit where A^T A could be a convolution; elsewhere that is done always.
    """

    def __init__(
        self,
        geometry: ParallelGeometry,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        *,
        aliased: bool = False,
    ) -> None:
        self.geometry, self.dtype = geometry, dtype
        self.convolves = is_convolution(geometry) and not aliased
        spectra = StripSpectra(geometry, limited=self.convolves)
        self.period = spectra.period
        self._transform = NonUniformFFT(
            spectra.points.reshape(-1, 2).to(device), geometry.shape, ACCURACY[dtype]
        )
        # a transform is scaled by 1/sqrt(pixels)
        scale = spectra.count * math.sqrt(math.prod(geometry.shape)) / spectra.period
        kind = complex_dtype(dtype)
        self._strips = torch.from_numpy(scale * spectra.strips).to(device, kind)
        self._lines = torch.from_numpy(scale * spectra.lines).to(device, kind)
        self._symbol: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        """A x for ``(B, height, width)``: ``(B, views, detectors)``."""
        spectra = self._transform.forward(images.to(complex_dtype(self.dtype)))
        spectra = spectra.reshape(len(images), *self._strips.shape).mul_(self._strips)
        # frequencies that are a multiple of P apart are one to the elements
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
            self._symbol = _gram_symbol(self.geometry).to(images.device, self.dtype)
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
    """Whether A^T A can be a convolution: no view is truncated, and elements are no wider than pixels."""
    return geometry.covers_image and _elements_in_pixels(geometry) == 1


@dataclass(frozen=True)
class StripSpectra:
    """The spectra of a scan's strips: at which points of the Fourier domain, and what the elements make of them.

    Attributes:
        geometry: the scan.
        limited: whether they end at the elements' sampling limit, else at the next multiple of it that is at least
            twice the pixels'.
    """

    geometry: ParallelGeometry
    limited: bool

    @property
    def period(self) -> int:
        """P: the detector's elements, and those that it lacks to see the whole image in every view."""
        before, after = self.geometry.elements_missing
        lacking = before + after
        return fast_length(self.geometry.detectors + lacking) if lacking else self.geometry.detectors

    @property
    def frequencies(self) -> _Array:
        """The frequencies f >= 0 [1/mm]."""
        multiple = 1 if self.limited else 2 * _elements_in_pixels(self.geometry)
        return np.arange(multiple * self.period // 2 + 1) / (self.period * self.geometry.detector_size)

    @property
    def count(self) -> _Array:
        """How many frequencies each f >= 0 stands for: the real image's spectrum is symmetric."""
        count = np.full(len(self.frequencies), 2.0)
        count[0] = 1.0
        if self.limited and self.period % 2 == 0:
            count[-1] = 1.0  # the limit, whose sign the elements cannot tell
        return count

    @property
    def points(self) -> Tensor:
        """The points (f cos theta, f sin theta) in cycles per field of view, rows first, ``(views, f, 2)``."""
        theta = np.asarray(self.geometry.angles)[:, None]
        pixels = self.frequencies * self.geometry.pixel_size
        cycles = np.stack([-pixels * np.sin(theta), pixels * np.cos(theta)], axis=-1)
        return torch.from_numpy(cycles * np.asarray(self.geometry.shape))

    @property
    def lines(self) -> _Array:
        """The spectrum of linear interpolation of a view at the transform's middle pixel, ``(views, f)``."""
        return np.sinc(self.frequencies * self.geometry.detector_size) ** 2 * self._phases

    @property
    def strips(self) -> _Array:
        """The spectrum of what the elements read of the middle pixel [mm], ``(views, f)``."""
        theta, pixel = np.asarray(self.geometry.angles)[:, None], self.geometry.pixel_size
        cosine, sine, element = np.cos(theta), np.sin(theta), self.geometry.detector_size
        cycles = self.frequencies * pixel
        strips = np.sinc(cycles * cosine) * np.sinc(cycles * sine) * np.sinc(self.frequencies * element)
        strips = strips * (pixel**2 / element) * self._phases
        if self.limited and self.period % 2 == 0:
            strips[:, -1] = 0  # what elements read at the limit depends on where they lie
        divided = pixel / element
        if abs(divided - round(divided)) < 1e-9 * divided:
            along = np.minimum(np.abs(cosine), np.abs(sine))[:, 0] < 1e-9
            strips[along] = self._along_an_axis(self._middles[along])
        return strips

    def _along_an_axis(self, middles: _Array) -> _Array:
        """`strips` of views along an axis of the image, from the middle pixel's overlap with each element.

        There all pixels lie alike between elements that divide them evenly, and what is beyond the limit is aliased
        alike: it is counted below the limit, and A^T A stays a convolution.
        """
        spacing, pixel = self.geometry.detector_size, self.geometry.pixel_size
        reach = math.ceil(pixel / spacing) + 1
        elements = np.round(middles / spacing) + np.arange(-reach, reach + 1)
        apart = np.abs(elements * spacing - middles)
        overlaps = np.clip((pixel + spacing) / 2 - apart, 0, min(pixel, spacing)) * (pixel / spacing)
        turns = elements[..., None] * (self.frequencies * spacing)
        strips = (overlaps[..., None] * np.exp(-2j * np.pi * turns)).sum(1)
        limit = self.period // 2
        if self.period % 2 == 0:
            strips[:, limit] = strips[:, limit].real / self.count[limit]
        strips[:, limit + 1 :] = 0
        return strips

    @property
    def _middles(self) -> _Array:
        """Where the transform's middle pixel lies in each view, from its first element on [mm], ``(views, 1)``."""
        geometry, theta = self.geometry, np.asarray(self.geometry.angles)[:, None]
        down, right = ((side // 2 - (side - 1) / 2) * geometry.pixel_size for side in geometry.shape)
        return right * np.cos(theta) - down * np.sin(theta) - geometry.positions[0]

    @property
    def _phases(self) -> _Array:
        """exp(-2 pi i f s) with s the place of the middle pixel, ``(views, f)``."""
        return np.exp(-2j * np.pi * self.frequencies * self._middles)


def _elements_in_pixels(geometry: ParallelGeometry) -> int:
    """The width of an element in pixels, rounded up."""
    return max(1, math.ceil(geometry.detector_size / geometry.pixel_size * (1 - 1e-9)))


@functools.lru_cache(maxsize=2)
def _gram_symbol(geometry: ParallelGeometry) -> Tensor:
    """The spectrum of the kernel of A^T A on the doubled grid, transposed, one half of columns; float64, in mm^2."""
    spectra = StripSpectra(geometry, limited=True)
    weights = torch.from_numpy(np.abs(spectra.strips) ** 2 * spectra.count / spectra.period).flatten()
    grid = tuple(fast_length(2 * side) for side in geometry.shape)
    kernel = normal_kernel(spectra.points.reshape(-1, 2), geometry.shape, weights, grid)
    return torch.fft.rfft2(kernel.real * math.prod(geometry.shape)).real.mT.contiguous()
