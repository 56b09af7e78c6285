"""The gradient against NumPy's differences, and its closed forms against the dense matrix."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_operators import Gradient

from recon.linear import Identity

shapes = st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple)
boundaries = st.sampled_from(["neumann", "periodic"])


def numpy_gradient(x: np.ndarray, boundary: str, spacing: tuple[float, ...]) -> np.ndarray:
    components = []
    for axis, step in enumerate(spacing):
        if boundary == "periodic":
            difference = np.roll(x, -1, axis) - x
        else:
            difference = np.diff(x, axis=axis, append=np.take(x, [-1], axis))
        components.append(difference / step)
    return np.stack(components)


@given(shapes, boundaries, st.booleans(), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_it_is_the_forward_difference_along_every_axis(shape, boundary, is_complex, seed):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal(shape) + (1j * generator.standard_normal(shape) if is_complex else 0)
    spacing = tuple(generator.uniform(0.5, 2, len(shape)))
    measured = Gradient(shape, boundary, spacing)(torch.from_numpy(x)).numpy()
    assert measured.shape == (len(shape), *shape)
    assert np.allclose(measured, numpy_gradient(x, boundary, spacing), atol=1e-12)


@given(shapes, boundaries, st.booleans(), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_adjoint_and_laplacian_are_those_of_the_matrix(shape, boundary, unit_spacing, seed):
    spacing = 1.0 if unit_spacing else tuple(0.5 + 0.25 * axis for axis in range(len(shape)))
    op = Gradient(shape, boundary, spacing)
    matrix = op.to_dense(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    y = torch.randn(2, *op.range_shape, generator=generator, dtype=torch.float64)
    assert torch.allclose(op.adjoint(y).flatten(1), y.flatten(1) @ matrix, atol=1e-12)
    assert torch.allclose(op.gram(x).flatten(1), x.flatten(1) @ (matrix.T @ matrix), atol=1e-12)


@given(shapes, boundaries)
@settings(max_examples=40, deadline=None)
def test_the_norm_is_exact(shape, boundary):
    op = Gradient(shape, boundary, spacing=tuple(0.7 + 0.2 * axis for axis in range(len(shape))))
    truth = float(torch.linalg.matrix_norm(op.to_dense(torch.float64), 2))
    assert op.norm() == pytest.approx(truth, rel=1e-12, abs=1e-12)


def test_a_ramp_has_its_slope_as_gradient_in_units_of_the_spacing():
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(5.0), indexing="ij")
    gradient = Gradient((6, 5), spacing=(0.5, 2.0))(3 * rows + 4 * columns)
    assert torch.equal(gradient[0, :-1], torch.full((5, 5), 6.0))
    assert torch.equal(gradient[1, :, :-1], torch.full((6, 4), 2.0))
    assert not gradient[0, -1].any()
    assert not gradient[1, :, -1].any()


@pytest.mark.parametrize("shape", [(8,), (6, 7), (3, 4, 5)])
def test_the_fourier_symbol_holds_the_eigenvalues_of_the_periodic_laplacian(shape):
    op = Gradient(shape, "periodic", spacing=1.5)
    x = torch.randn(shape, dtype=torch.float64)
    spectrum = torch.fft.fftn(op.gram(x))
    assert torch.allclose(spectrum, op.fourier_symbol() * torch.fft.fftn(x), atol=1e-10)


def test_without_periodicity_the_symbol_is_only_approximate():
    op = Gradient((6, 7))
    assert op.fourier_symbol() is None
    assert torch.equal(op.approximate_symbol(), Gradient((6, 7), "periodic").fourier_symbol())
    assert op.solve_gram(torch.ones(1, 6, 7), [1.0], [Identity((6, 7))]) is None


def test_the_symbol_is_computed_once_and_follows_the_operator():
    op = Gradient((16, 16), "periodic")
    assert op.fourier_symbol() is op.fourier_symbol()
    assert op.fourier_symbol().dtype == torch.float64
    assert op.to(torch.float32).fourier_symbol().dtype == torch.float32
    assert not op.state_dict()


@pytest.mark.parametrize("boundary", ["neumann", "periodic"])
@pytest.mark.parametrize("shape", [(9,), (6, 7), (3, 4, 5)])
def test_the_pseudo_inverse_integrates(boundary, shape):
    op = Gradient(shape, boundary, spacing=tuple(1 + 0.5 * axis for axis in range(len(shape))))
    x = torch.randn(2, *shape, dtype=torch.float64)
    axes = tuple(range(1, x.ndim))
    assert torch.allclose(op.pinv(op(x)), x - x.mean(axes, keepdim=True), atol=1e-12)
    y = torch.randn(2, *op.range_shape, dtype=torch.float64)  # not a gradient of anything
    truth = y.flatten(1) @ torch.linalg.pinv(op.to_dense(torch.float64)).T
    assert torch.allclose(op.pinv(y).flatten(1), truth, atol=1e-10)


@pytest.mark.parametrize("spacing", [0.0, -1.0, math.inf, math.nan, (1.0,), (1.0, 2.0, 3.0)])
def test_spacings_that_make_no_sense_are_refused(spacing):
    with pytest.raises(ValueError, match="spacing must be one positive number, or 2 of them"):
        Gradient((4, 5), spacing=spacing)


def test_an_unknown_boundary_is_refused():
    with pytest.raises(ValueError, match="boundary must be 'neumann' or 'periodic', got 'reflect'"):
        Gradient((4, 5), "reflect")


@pytest.mark.parametrize("boundary", ["periodic", "neumann"])
def test_the_identity_is_preconditioned_by_the_gradient_beside_it(boundary):
    """I + 3 G^T G + 0.5 I: exactly where the gradient is periodic, else but for the border."""
    shape, identity = (12, 9), Identity((12, 9))
    rho, maps = [0.5, torch.full((1, 1, 1), 3.0)], [identity, Gradient((12, 9), boundary)]
    units = torch.eye(108, dtype=torch.float64).reshape(108, *shape)
    system = units * 1.5 + 3 * maps[1].gram(units)
    apply = identity.preconditioner(rho, maps)
    inverse = apply(units).reshape(108, 108)
    assert torch.allclose(inverse, inverse.T, atol=1e-12) and float(torch.linalg.eigvalsh(inverse).min()) > 0
    product = torch.linalg.eigvals(inverse @ system.reshape(108, 108)).real
    if boundary == "periodic":
        assert torch.allclose(
            product, torch.ones_like(product), atol=1e-6
        )  # the penalty came in single precision
    else:
        assert int(((product - 1).abs() > 0.2).sum()) <= 2 * (12 + 9), "the differences across the border"
    assert identity.preconditioner([0.5], [identity]) is None
