"""Downsampling against Pillow, against the definition, and its closed-form data steps."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from recon_operators import Downsample, Gradient
from recon_operators.resample import downsampling_matrix

from recon.linear import Identity
from recon.testing.dense import conjugate_gradient_iterations

PILLOW = {
    "lanczos3": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
}
KERNELS = ["lanczos3", "lanczos2", "bicubic", "box"]


@pytest.mark.parametrize("kernel", PILLOW)
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
def test_it_agrees_with_pillow_up_to_the_border(kernel, factor):
    x = torch.randn(12 * factor, 7 * factor, generator=torch.Generator().manual_seed(0))
    reduced = Image.fromarray(x.numpy()).resize((7, 12), PILLOW[kernel])
    measured = Downsample(tuple(x.shape), factor, kernel)(x)
    assert np.allclose(measured.numpy(), np.asarray(reduced), atol=2e-6)  # both in single precision


def test_lanczos2_by_four_has_the_weights_of_the_deep_image_prior_downsampler():
    distances = (np.arange(16) - 7.5) / 4
    weights = np.sinc(distances) * np.sinc(distances / 2)
    matrix = downsampling_matrix(40, 4, "lanczos2", periodic=False).numpy()
    expected = np.zeros(40)
    expected[4 * 5 - 6 : 4 * 5 + 10] = weights / weights.sum()  # output pixel 5 begins at input pixel 20
    assert np.allclose(matrix[5], expected, atol=1e-15)


@given(
    st.sampled_from(KERNELS),
    st.sampled_from(["renormalise", "periodic"]),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(1, 5),
)
@settings(max_examples=50, deadline=None)
def test_constants_stay_constant_both_ways_and_the_norm_is_exact(kernel, boundary, factor, rows, columns):
    op = Downsample((rows * factor, columns * factor), factor, kernel, boundary)
    ones, fewer = (
        torch.ones(op.domain_shape, dtype=torch.float64),
        torch.ones(op.range_shape, dtype=torch.float64),
    )
    assert torch.allclose(op(ones), fewer, atol=1e-12)
    assert torch.allclose(op.pinv(fewer), ones, atol=1e-12)
    truth = float(torch.linalg.matrix_norm(op.to_dense(torch.float64), 2))
    assert op.norm() == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("factor", [2, 3])
def test_a_ramp_is_sampled_at_the_middles_of_the_blocks(kernel, factor):
    ramp = torch.arange(20.0 * factor, dtype=torch.float64).expand(20 * factor, -1)
    middles = (torch.arange(20.0) + 0.5) * factor - 0.5
    measured = Downsample(tuple(ramp.shape), factor, kernel)(ramp)
    assert torch.allclose(measured[:, 4:-4], middles[4:-4].double().expand(20, -1), atol=1e-12)


def test_the_box_is_the_mean_over_blocks_and_the_only_kernel_without_negative_weights():
    x = torch.randn(3, 8, 12)
    means = torch.nn.functional.avg_pool2d(x, 4)
    assert torch.allclose(Downsample((8, 12), 4, "box")(x), means, atol=1e-6)
    for kernel in KERNELS:
        op = Downsample((16, 16), 4, kernel)
        assert op.nonnegative == bool((op.to_dense() >= 0).all())


def test_an_image_that_repeats_may_be_shifted_by_the_factor():
    op = Downsample((12, 18), 3, "lanczos3", "periodic")
    x = torch.randn(12, 18, dtype=torch.float64)
    shifted = op(x.roll((3, -6), (0, 1)))
    assert torch.allclose(shifted, op(x).roll((1, -2), (0, 1)), atol=1e-12)


def test_further_axes_are_left_alone():
    x = torch.randn(2, 3, 8, 8)
    one, all_at_once = Downsample((8, 8), 2), Downsample((3, 8, 8), 2)
    assert torch.equal(one(x), all_at_once(x))


def written_out(x, factor, kernel, periodic):
    """The definition along the last axis in NumPy, output sample by output sample."""
    reach = {"lanczos3": 3, "bicubic": 2}[kernel]

    def weight(t):
        t = abs(t)
        if t >= reach:
            return 0.0
        if kernel == "lanczos3":
            return np.sinc(t) * np.sinc(t / 3)
        return 1.5 * t**3 - 2.5 * t**2 + 1 if t < 1 else -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2

    side = x.shape[-1]
    result = np.zeros((*x.shape[:-1], side // factor))
    for i in range(side // factor):
        centre, total = (i + 0.5) * factor - 0.5, 0.0
        for j in range(-4 * side, 5 * side):
            if periodic or 0 <= j < side:
                w = weight((j - centre) / factor)
                result[..., i] += w * x[..., j % side]
                total += w
        result[..., i] /= total
    return result


@pytest.mark.parametrize("boundary", ["renormalise", "periodic"])
@pytest.mark.parametrize("kernel", ["lanczos3", "bicubic"])
def test_volumes_are_reduced_along_all_three_axes(kernel, boundary):
    x = np.random.default_rng(0).standard_normal((6, 4, 10))
    expected = x
    for axis in range(3):
        expected = np.moveaxis(
            written_out(np.moveaxis(expected, axis, -1), 2, kernel, boundary == "periodic"), -1, axis
        )
    op = Downsample((6, 4, 10), 2, kernel, boundary, axes=3)
    assert op.range_shape == (3, 2, 5)
    found = op(torch.from_numpy(np.stack([x, -x])))
    assert np.allclose(found, [expected, -expected], rtol=0, atol=1e-13)
    assert op.norm() == pytest.approx(
        float(torch.linalg.matrix_norm(op.to_dense(torch.float64), 2)), rel=1e-9
    )
    assert torch.allclose(op.pinv(torch.ones(3, 2, 5)), torch.ones(6, 4, 10), atol=1e-6)


def test_volumes_of_blocks_and_single_axes():
    x = torch.randn(2, 8, 4, 6)
    means = torch.nn.functional.avg_pool3d(x, 2)
    assert torch.allclose(Downsample((8, 4, 6), 2, "box", axes=3)(x), means, atol=1e-6)
    assert torch.allclose(
        Downsample((8, 4, 6), 2, "box", axes=1)(x), x.unflatten(-1, (3, 2)).mean(-1), atol=1e-6
    )
    stack = Downsample((8, 4, 6), 2)
    assert stack.range_shape == (8, 2, 3)  # a stack of images, unless axes=3 says that it is a volume


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize(("shape", "axes"), [((24, 16), 2), ((2, 12, 8), 2), ((8, 4, 12), 3), ((3, 8), 1)])
def test_the_data_step_with_a_periodic_gradient_is_solved_exactly(dtype, shape, axes):
    op = Downsample(shape, 4, "lanczos3", "periodic", axes)
    gradient, identity = Gradient(shape, "periodic"), Identity(shape)
    x = torch.randn(2, *shape, dtype=dtype)
    for rho, terms in (([0.01], [gradient]), ([0.01, 0.3], [gradient, identity])):
        b = op.gram(x) + sum(weight * K.gram(x) for weight, K in zip(rho, terms, strict=True))
        assert torch.allclose(op.solve_gram(b, rho, terms), x, atol=1e-9)
    assert op.solve_gram(x, [0.01], [Gradient(shape)]) is None
    assert op.solve_gram(x, [], []) is None


@pytest.mark.parametrize("boundary", ["renormalise", "periodic"])
@pytest.mark.parametrize("shape", [(24, 16), (8, 4, 12)])
def test_the_data_step_with_the_identity_is_solved_exactly(boundary, shape):
    op, identity = Downsample(shape, 4, "lanczos2", boundary, len(shape)), Identity(shape)
    x = torch.randn(2, *shape, dtype=torch.float64)
    b = op.gram(x) + 0.05 * x
    assert torch.allclose(op.solve_gram(b, [0.02, 0.03], [identity, identity]), x, atol=1e-12)
    assert op.solve_gram(b, [0.0], [identity]) is None


def test_single_precision_solves_to_single_precision():
    op, K = Downsample((64, 64), 4, boundary="periodic"), Gradient((64, 64), "periodic")
    x = torch.rand(1, 64, 64)
    solved = op.solve_gram(op.gram(x) + 0.01 * K.gram(x), [0.01], [K])
    assert solved.dtype == torch.float32
    assert float((solved - x).norm() / x.norm()) < 1e-4  # 1e-7 times a condition number of some hundreds


@pytest.mark.parametrize("rho", [0.003, 0.03])
def test_the_preconditioner_cuts_the_iterations_of_a_border_without_periodicity(rho):
    shape = (24, 24)
    op, K = Downsample(shape, 4), Gradient(shape)
    A, D = op.to_dense(torch.float64), K.to_dense(torch.float64)
    M = A.T @ A + rho * D.T @ D
    P = op.preconditioner([rho], [K])(torch.eye(576, dtype=torch.float64).reshape(576, *shape)).reshape(
        576, 576
    )
    plain, steered = conjugate_gradient_iterations(M, None, 1e-3), conjugate_gradient_iterations(M, P, 1e-3)
    assert steered <= 0.7 * plain, (plain, steered)  # the border is a large part of this small image


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_direct_reconstruction_beats_repeated_pixels(kernel, factor, photograph):
    op = Downsample((128, 128), factor, kernel)
    y = op(photograph)
    repeated = y.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    error = float((op.pinv(y) - photograph).square().mean())
    assert error < 0.85 * float((repeated - photograph).square().mean())


def test_the_noise_level_is_found_on_a_reduced_photograph(photograph):
    op = Downsample((128, 128), 2)
    y = op.measure(photograph.float()) + 0.1 * torch.randn(
        4, 64, 64, generator=torch.Generator().manual_seed(0)
    )
    assert op.noise_level(y).tolist() == pytest.approx([0.1] * 4, rel=0.15)  # fine texture adds to the noise


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ((12, 9), 2),
            "factor 2 does not divide the image sides 12 x 9: crop the image to 12 x 8, or pad it",
        ),
        (((4, 4), 8), "factor 8 is larger than the image 4 x 4"),
        (((4, 4), 0), "factor must be a whole number of at least 1, got 0"),
        (((4, 4), 1.5), "factor must be a whole number of at least 1, got 1.5"),
        (((4, 4), 2, "hann"), "kernel must be one of lanczos3, lanczos2, bicubic, box, got 'hann'"),
        (((4, 4), 2, "box", "zero"), "boundary must be 'renormalise' or 'periodic', got 'zero'"),
        (((4,), 2), r"shape must be \(..., H, W\), got \(4,\)"),
        (((4, 4), 2, "box", "periodic", 3), r"shape must be \(..., D, H, W\), got \(4, 4\)"),
        (
            ((5, 4, 4), 2, "box", "periodic", 3),
            "does not divide the image sides 5 x 4 x 4: crop the image to 4 x 4",
        ),
        (
            ((4, 4), 2, "box", "periodic", 0),
            "axes, how many are reduced, must be a whole number of at least 1",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        Downsample(*arguments)


def test_norm_is_that_of_an_average():
    """The box averages f^2 pixels: its norm is 1/f."""
    assert Downsample((12, 12), 3, "box").norm() == pytest.approx(1 / 3)
    assert math.isclose(Downsample((12, 12), 1, "bicubic").norm(), 1.0)
