"""Blur against shifted copies and SciPy, and its closed forms."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_operators import Blur, Gradient

from recon.linear import Identity


@st.composite
def blurs(draw):
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.lists(st.integers(1, 8), min_size=ndim, max_size=ndim)))
    axes = draw(st.integers(1, ndim))
    sides = tuple(draw(st.integers(1, side)) for side in shape[-axes:])
    return shape, sides, draw(st.integers(0, 99))


def sum_of_shifts(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """y[i] = sum_m k[m] x[i - (m - centre)] with indices modulo the sides."""
    total, axes = np.zeros_like(x), tuple(range(x.ndim - kernel.ndim, x.ndim))
    for index, weight in np.ndenumerate(kernel):
        shift = [i - side // 2 for i, side in zip(index, kernel.shape, strict=True)]
        total += weight * np.roll(x, shift, axes)
    return total


@given(blurs(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_it_is_the_circular_convolution_around_the_kernels_middle(blur, is_complex):
    shape, sides, seed = blur
    generator = np.random.default_rng(seed)
    kernel = generator.standard_normal(sides)
    x = generator.standard_normal(shape) + (1j * generator.standard_normal(shape) if is_complex else 0)
    op = Blur(shape, kernel)
    assert np.allclose(op(torch.from_numpy(x)).numpy(), sum_of_shifts(x, kernel), atol=1e-12)
    truth = float(torch.linalg.matrix_norm(op.to_dense(torch.float64), 2))
    assert op.norm() == pytest.approx(truth, rel=1e-9)


def test_an_odd_kernel_blurs_as_scipy_does():
    generator = np.random.default_rng(0)
    x, kernel = generator.standard_normal((12, 9)), generator.standard_normal((5, 3))
    blurred = Blur((12, 9), kernel)(torch.from_numpy(x))
    assert np.allclose(blurred.numpy(), scipy.ndimage.convolve(x, kernel, mode="wrap"), atol=1e-12)


def test_a_gaussian_is_named_by_its_sigma(photograph):
    op = Blur((128, 128), ("gaussian", 1.7))
    truth = scipy.ndimage.gaussian_filter(photograph.numpy(), 1.7, mode="wrap", radius=7)  # ceil(4 sigma)
    assert np.allclose(op(photograph).numpy(), truth, atol=1e-12)
    assert float(op.kernel.sum()) == pytest.approx(1, abs=1e-12)
    assert op.nonnegative
    assert tuple(Blur((4, 5), ["gaussian", 3]).kernel.shape) == (3, 5)
    assert tuple(Blur((2, 16, 16), ("gaussian", 1)).kernel.shape) == (9, 9)


def test_a_kernel_that_is_one_in_the_middle_changes_nothing():
    x = torch.randn(2, 7, 6)
    for sides in ((1, 1), (3, 5), (4, 2), (7, 6)):
        kernel = torch.zeros(sides)
        kernel[sides[0] // 2, sides[1] // 2] = 1
        assert torch.allclose(Blur((7, 6), kernel)(x), x, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_the_data_step_is_solved_exactly(dtype):
    op, K = Blur((16, 15), ("gaussian", 1.0)), Gradient((16, 15), "periodic")
    x = torch.randn(2, 16, 15, dtype=dtype)
    b = op.gram(x) + 0.1 * K.gram(x) + 0.02 * x
    assert torch.allclose(op.solve_gram(b, [0.1, 0.02], [K, Identity((16, 15))]), x, atol=1e-10)
    assert op.solve_gram(b, [0.1], [Gradient((16, 15))]) is None


def test_the_wiener_inverse_sharpens_and_keeps_constants(photograph):
    op = Blur((128, 128), ("gaussian", 1.0))
    blurred = op(photograph)
    sharpened = op.pinv(blurred)
    assert float((sharpened - photograph).norm()) < 0.7 * float((blurred - photograph).norm())
    closer = op.pinv(blurred, regularisation=1e-6)
    assert float((closer - photograph).norm()) < 0.2 * float((blurred - photograph).norm())
    constant = torch.full((128, 128), 0.3)
    assert torch.allclose(op.pinv(constant), constant, atol=1e-6)


def test_a_pinv_option_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="cutoff"):
        Blur((8, 8), ("gaussian", 1.0)).pinv(torch.ones(8, 8), cutoff=0.5)


@pytest.mark.parametrize(
    ("shape", "kernel", "said"),
    [
        ((4, 5), np.ones((5, 5)), r"kernel of shape \(5, 5\) is larger than the image \(4, 5\)"),
        ((4, 5), np.ones((1, 3, 3)), r"kernel has 3 axes, the image \(4, 5\) has 2"),
        ((4, 5), np.zeros((3, 3)), "zero everywhere"),
        ((4, 5), np.ones((3, 3)) * 1j, "kernel must be real"),
        ((4, 5), [[1.0, float("nan")]], "1 NaN or infinite values"),
        ((4, 5), ("gaussian", 0.0), "sigma > 0 pixels, got 0.0"),
        ((4, 5), ("gaussian", 1.0, 2.0), r"\('gaussian', sigma in pixels\), got"),
        ((4, 5), ("disc", 2.0), r"\('gaussian', sigma in pixels\), got \('disc', 2.0\)"),
        ((4, 5), "gaussian", r"\('gaussian', sigma in pixels\), got 'gaussian'"),
    ],
)
def test_kernels_that_do_not_fit_are_refused(shape, kernel, said):
    with pytest.raises(ValueError, match=said):
        Blur(shape, kernel)
