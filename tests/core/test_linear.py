"""LinearOperator against dense matrices: adjoint, algebra, norm, gradients, and what it refuses."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from small_models import (
    Blur,
    ComplexMatrix,
    Gradient,
    Masked,
    MaskedFourier,
    Matrix,
    MatrixForward,
    NonNegativeMatrix,
    RealMatrix,
)
from torch import Tensor

import recon
from recon.algebra import Gram
from recon.linear import solve_in_fourier

EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64 rounding of products of a few dozen terms


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def dense(operator: recon.LinearOperator, dtype: torch.dtype = torch.float64) -> Tensor:
    return operator.to_dense(dtype)


def assert_is(operator: recon.LinearOperator, matrix: Tensor) -> None:
    """Forward, adjoint and gram of an operator are those of a matrix."""
    torch.testing.assert_close(dense(operator, matrix.dtype), matrix, **EXACT)
    torch.testing.assert_close(dense(operator.H, matrix.dtype), matrix.mH, **EXACT)
    torch.testing.assert_close(dense(operator.gram, matrix.dtype), matrix.mH @ matrix, **EXACT)


DTYPES = [torch.float64, torch.complex128]

# torch's own forward mode calls its deprecated torch.jit.script
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")


class FourierOfRealImage(recon.LinearOperator):
    """A real image's spectrum: real domain, complex data; the adjoint is left to the base class."""

    domain = "real"

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape, shape)

    def _forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x, norm="ortho")


class FourierOfRealImageWritten(FourierOfRealImage):
    """The same with a written adjoint that forgets to take the real part."""

    def _adjoint(self, y: Tensor) -> Tensor:
        return torch.fft.ifft2(y, norm="ortho")


class Crop(recon.LinearOperator):
    """Returns a view of its input."""

    def __init__(self, size: int) -> None:
        super().__init__((size,), (size - 2,))

    def _forward(self, x: Tensor) -> Tensor:
        return x[..., 1:-1]


class ReturnsInput(recon.LinearOperator):
    """Returns its very input."""

    def __init__(self, size: int) -> None:
        super().__init__((size,), (size,))

    def _forward(self, x: Tensor) -> Tensor:
        return x

    _adjoint = _forward


class Filter(recon.LinearOperator):
    """A convolution whose kernel is learned."""

    flatten_batch = True

    def __init__(self, kernel: Tensor, size: int, adjoint: bool) -> None:
        super().__init__((size,), (size,))
        self.kernel = torch.nn.Parameter(kernel)
        self.written = adjoint

    def _forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.to(x.dtype).reshape(1, 1, -1)
        return torch.nn.functional.conv1d(x[:, None], kernel, padding="same")[:, 0]

    def _adjoint(self, y: Tensor) -> Tensor:
        if not self.written:
            return super()._adjoint(y)
        return torch.nn.functional.conv1d(
            y[:, None], self.kernel.to(y.dtype).flip(0).reshape(1, 1, -1), padding="same"
        )[:, 0]


# Algebra


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_operator_of_a_matrix_is_that_matrix(dtype: torch.dtype) -> None:
    a = random(6, 8, dtype=dtype)
    assert_is(Matrix(a, (2, 4), (3, 2)), a)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_differences_and_signs(dtype: torch.dtype) -> None:
    a, b, c = (random(3, 4, dtype=dtype, seed=seed) for seed in range(3))
    A, B, C = Matrix(a), Matrix(b), Matrix(c)
    assert_is(A + B + C, a + b + c)
    assert_is(A - B, a - b)
    assert_is(-A, -a)


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_with_numbers(dtype: torch.dtype) -> None:
    a = random(3, 4, dtype=dtype)
    A = Matrix(a)
    assert_is(2 * A, 2 * a)
    assert_is(A * -0.5, -0.5 * a)
    assert_is(A / 4, a / 4)
    assert_is((2 * A) / 2, a)


def test_products_with_complex_numbers() -> None:
    a = random(3, 4, dtype=torch.complex128)
    assert_is((1 + 2j) * Matrix(a), (1 + 2j) * a)
    assert_is(Matrix(a) / 1j, a / 1j)


@pytest.mark.parametrize("dtype", DTYPES)
def test_composition(dtype: torch.dtype) -> None:
    a, b, c = random(3, 4, dtype=dtype), random(4, 5, dtype=dtype), random(5, 2, dtype=dtype)
    assert_is(Matrix(a) @ Matrix(b) @ Matrix(c), a @ b @ c)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_adjoint_of_the_adjoint_is_the_operator_itself(dtype: torch.dtype) -> None:
    A = Matrix(random(3, 4, dtype=dtype))
    assert A.H.H is A
    assert_is(A.H, A.matrix.mH)
    assert_is(A.H @ A, A.matrix.mH @ A.matrix)
    assert_is(A.gram.gram, A.matrix.mH @ A.matrix @ A.matrix.mH @ A.matrix)


@pytest.mark.parametrize("dtype", DTYPES)
def test_stack_of_equal_shapes_has_a_new_leading_axis(dtype: torch.dtype) -> None:
    a, b = random(6, 4, dtype=dtype), random(6, 4, dtype=dtype, seed=1)
    S = recon.stack([Matrix(a, (2, 2), (2, 3)), Matrix(b, (2, 2), (2, 3))])
    assert S.range_shape == (2, 2, 3)
    assert_is(S, torch.cat([a, b]))
    x = random(5, 2, 2, dtype=dtype)
    first, second = S.split(S(x))  # type: ignore[attr-defined]
    torch.testing.assert_close(first, Matrix(a, (2, 2), (2, 3))(x))
    torch.testing.assert_close(second, Matrix(b, (2, 2), (2, 3))(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_stack_of_different_shapes_is_flat_and_splits_into_the_members_shapes(dtype: torch.dtype) -> None:
    a, b = random(6, 4, dtype=dtype), random(3, 4, dtype=dtype)
    S = recon.stack([Matrix(a, (2, 2), (2, 3)), Matrix(b, (2, 2))])
    assert S.range_shape == (9,)
    assert_is(S, torch.cat([a, b]))
    for batch in ((), (5,), (2, 3)):
        y = S(random(*batch, 2, 2, dtype=dtype))
        parts = S.split(y)  # type: ignore[attr-defined]
        assert [tuple(part.shape) for part in parts] == [(*batch, 2, 3), (*batch, 3)]
        torch.testing.assert_close(torch.cat([part.flatten(len(batch)) for part in parts], -1), y)


def test_sample_mask_of_a_stack_is_that_of_its_members() -> None:
    mask = torch.tensor([1.0, 0.0, 1.0])
    uniform = recon.stack([Masked(mask), recon.Identity((3,))])
    assert uniform.sample_mask is not None and uniform.sample_mask.tolist() == [[1, 0, 1], [1, 1, 1]]
    unequal = recon.stack([Masked(mask), Matrix(torch.ones(2, 3))])
    assert unequal.sample_mask is not None and unequal.sample_mask.tolist() == [1, 0, 1, 1, 1]
    assert recon.stack([recon.Identity((3,))]).sample_mask is None


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    complex_matrix=st.booleans(),
    complex_image=st.booleans(),
    batch=st.sampled_from([(), (1,), (3,), (2, 2)]),
    seed=st.integers(0, 1000),
)
def test_adjoint_fulfils_its_definition_for_all_shapes_and_fields(
    rows: int, columns: int, complex_matrix: bool, complex_image: bool, batch: tuple[int, ...], seed: int
) -> None:
    """Re<A x, y> = Re<x, A^H y>, for written adjoints and those by differentiation."""
    matrix = random(rows, columns, dtype=DTYPES[complex_matrix], seed=seed)
    x = random(*batch, columns, dtype=DTYPES[complex_image], seed=seed + 1)
    for operator in (Matrix(matrix), MatrixForward(matrix)):
        predicted = operator(x)
        y = torch.randn_like(predicted)
        left = (predicted.conj() * y).real.sum()
        right = (x.conj() * operator.adjoint(y)).real.sum()
        torch.testing.assert_close(left, right, **EXACT)
        assert operator.adjoint(y).shape == x.shape


# The adjoint by differentiation


@pytest.mark.parametrize("dtype", DTYPES)
def test_adjoint_without_one_written_is_the_conjugate_transpose(dtype: torch.dtype) -> None:
    a = random(6, 8, dtype=dtype)
    assert_is(MatrixForward(a, (2, 4), (3, 2)), a)
    assert_is(Blur((4, 5)), Blur((4, 5)).to_dense(torch.float64))


@pytest.mark.parametrize("make", [FourierOfRealImage, FourierOfRealImageWritten])
def test_real_image_with_complex_data(make: Callable[[tuple[int, ...]], recon.LinearOperator]) -> None:
    """The adjoint of a map from real images is real: the real part of F^H y."""
    A = make((3, 4))
    y = random(5, 3, 4, dtype=torch.complex128)
    image = A.adjoint(y)
    assert image.dtype == torch.float64
    torch.testing.assert_close(image, torch.fft.ifft2(y, norm="ortho").real, **EXACT)
    torch.testing.assert_close(A.H(y), image)
    torch.testing.assert_close(dense(A.gram), torch.eye(12, dtype=torch.float64), **EXACT)
    x = random(3, 4)
    torch.testing.assert_close(A.pinv(A(x)), x, **EXACT)
    with pytest.raises(TypeError, match="acts on real images, got torch.complex128"):
        A(y)


def test_complex_after_real_composes_with_the_real_part_in_between() -> None:
    """(F B)^H y = B^T Re(F^H y) for a real operator B."""
    b = random(12, 4)
    A = MaskedFourier(torch.ones(3, 4)) @ RealMatrix(b, (4,), (3, 4))
    assert A.domain == "real"
    y = random(3, 4, dtype=torch.complex128)
    torch.testing.assert_close(
        A.adjoint(y), b.mT @ torch.fft.ifft2(y, norm="ortho").real.reshape(-1), **EXACT
    )
    torch.testing.assert_close(dense(A.gram), b.mT @ b, **EXACT)


def test_adjoint_by_differentiation_works_where_gradients_are_switched_off() -> None:
    A, y = MatrixForward(random(3, 4)), random(2, 3)
    expected = y @ A.matrix
    with torch.no_grad():
        torch.testing.assert_close(A.adjoint(y), expected)
    with torch.inference_mode():
        torch.testing.assert_close(A.adjoint(random(2, 3)), expected)
        torch.testing.assert_close(A.gram(A.adjoint(random(2, 3))), expected @ A.matrix.mT @ A.matrix)
        assert A.norm() > 0


def test_an_operator_made_in_inference_mode_has_a_norm() -> None:
    with torch.inference_mode():
        A = Matrix(torch.eye(3) * 2)
        assert A.norm() == pytest.approx(2, rel=0.02)
    assert A.norm() == pytest.approx(2, rel=0.02)


# Gradients


GRADIENT_CASES = [
    (Matrix(random(3, 4), (2, 2)), torch.float64),
    (Matrix(random(3, 4, dtype=torch.complex128)), torch.complex128),
    (Matrix(random(3, 4, dtype=torch.complex128)), torch.float64),
    (MatrixForward(random(3, 4)), torch.float64),
    (MatrixForward(random(3, 4, dtype=torch.complex128)), torch.complex128),
    (FourierOfRealImage((2, 2)), torch.float64),
    (ComplexMatrix(random(3, 4, dtype=torch.complex128)), torch.float64),
    (Gram(Matrix(random(3, 4))), torch.float64),
    (recon.stack([Matrix(random(3, 4)), Matrix(random(2, 4))]), torch.float64),
    (1j * Matrix(random(3, 4)) @ Matrix(random(4, 2)), torch.complex128),
    (Matrix(random(3, 4)).H, torch.float64),
    (Crop(5), torch.float64),
    (ReturnsInput(3), torch.float64),
]


@pytest.mark.parametrize(("operator", "dtype"), GRADIENT_CASES)
def test_gradients_of_first_and_second_order_and_forward_mode(
    operator: recon.LinearOperator, dtype: torch.dtype
) -> None:
    x = random(2, *operator.domain_shape, dtype=dtype).requires_grad_()
    assert torch.autograd.gradcheck(operator, (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(operator, (x,), check_fwd_over_rev=True)
    y = operator(x).detach().requires_grad_()
    assert torch.autograd.gradcheck(operator.adjoint, (y,), check_forward_ad=True)


@pytest.mark.parametrize(("operator", "dtype"), GRADIENT_CASES)
def test_function_transforms(operator: recon.LinearOperator, dtype: torch.dtype) -> None:
    x = random(3, *operator.domain_shape, dtype=dtype)
    torch.testing.assert_close(torch.vmap(operator)(x), operator(x))
    last = x.movedim(0, -1)
    torch.testing.assert_close(torch.vmap(operator, in_dims=-1)(last), operator(x))
    torch.testing.assert_close(torch.vmap(torch.vmap(operator))(x[None]), operator(x[None]))
    y = operator(x)
    torch.testing.assert_close(torch.vmap(operator.adjoint)(y), operator.adjoint(y))
    _, tangent = torch.func.jvp(operator, (x,), (2 * x,))
    torch.testing.assert_close(tangent, 2 * y)
    _, pull = torch.func.vjp(operator, x)
    (back,) = pull(y)
    torch.testing.assert_close(back, operator.adjoint(y) if back.is_complex() else operator.adjoint(y).real)


def test_the_gradient_of_a_least_squares_fit_is_the_normal_residual() -> None:
    A = Matrix(random(5, 3))
    x, y = random(3).requires_grad_(), random(5)
    (0.5 * (A(x) - y).square().sum()).backward()
    torch.testing.assert_close(x.grad, A.matrix.mT @ (A.matrix @ x.detach() - y))


def test_jacobian_and_hessian_by_function_transforms() -> None:
    A = MatrixForward(random(3, 4))
    x = random(4)
    torch.testing.assert_close(torch.func.jacrev(A)(x), A.matrix)
    torch.testing.assert_close(torch.func.jacfwd(A)(x), A.matrix)
    hessian = torch.func.hessian(lambda image: 0.5 * A(image).square().sum())(x)
    torch.testing.assert_close(hessian, A.matrix.mT @ A.matrix)


@pytest.mark.parametrize("written", [True, False])
def test_a_learned_operator_passes_gradients_to_its_own_parameters(written: bool) -> None:
    A, x = Filter(random(3), 5, written), random(2, 5).requires_grad_()

    def forward(kernel: Tensor, x: Tensor) -> Tensor:
        return torch.func.functional_call(A, {"kernel": kernel}, (x,))

    assert torch.autograd.gradcheck(forward, (random(3).requires_grad_(), x))
    for operator in (A, 2 * A @ A.H, A.gram, recon.stack([A, A]), A + A):
        A.zero_grad()
        operator(x).square().sum().backward()
        assert A.kernel.grad is not None and float(A.kernel.grad.abs().sum()) > 0, operator


@pytest.mark.parametrize("written", [True, False])
def test_the_adjoint_of_a_learned_operator_reaches_its_parameters(written: bool) -> None:
    A, y = Filter(random(3), 5, written), random(2, 5)
    (gradient,) = torch.autograd.grad((A.adjoint(y) ** 2).sum(), A.kernel)

    def energy(kernel: Tensor) -> Tensor:
        return (Filter(kernel, 5, True).adjoint(y).detach() ** 2).sum()

    steps = 1e-6 * torch.eye(3, dtype=torch.float64)
    kernel = A.kernel.detach()
    expected = torch.stack([(energy(kernel + step) - energy(kernel - step)) / 2e-6 for step in steps])
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)  # central differences


# The norm


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    complex_matrix=st.booleans(),
    decay=st.floats(0, 3),
    seed=st.integers(0, 10_000),
)
def test_the_norm_is_never_below_the_largest_singular_value(
    rows: int, columns: int, complex_matrix: bool, decay: float, seed: int
) -> None:
    matrix = random(rows, columns, dtype=DTYPES[complex_matrix], seed=seed)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s = torch.arange(1, len(s) + 1, dtype=torch.float64) ** -decay
    matrix = (u * s.to(u.dtype)) @ v
    operator = (ComplexMatrix if complex_matrix else Matrix)(matrix)
    assert 1 <= operator.norm() <= 1.03


@pytest.mark.parametrize("gap", [0.9, 0.97, 0.99, 0.999])
@pytest.mark.parametrize("size", [2, 3, 30, 200])
def test_the_norm_is_not_below_the_truth_when_singular_values_lie_close(gap: float, size: int) -> None:
    """One value stands out by a little: the case in which a power iteration stops too soon."""
    for seed in range(10):
        basis = torch.linalg.qr(random(size, size, seed=seed)).Q
        values = torch.full((size,), gap, dtype=torch.float64)
        values[0] = 1
        norm = Matrix(basis @ torch.diag(values) @ basis.T).norm()
        assert 1 <= norm <= 1.03


def test_the_norm_of_a_spectrum_that_fills_an_interval() -> None:
    values = torch.linspace(0, 1, 4000)
    assert 1 <= Masked(values).norm() <= 1.03


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
def test_the_norm_follows_the_unit(scale: float) -> None:
    a = random(20, 10).float()
    truth = float(torch.linalg.matrix_norm(a.double(), 2))
    assert 1 <= Matrix(scale * a).norm() / (scale * truth) <= 1.03
    assert (
        NonNegativeMatrix(scale * a.abs()).norm()
        / (scale * float(torch.linalg.matrix_norm(a.abs().double(), 2)))
        >= 1
    )


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 30),
    columns=st.integers(1, 30),
    density=st.floats(0.02, 1),
    seed=st.integers(0, 10_000),
)
def test_the_bound_of_a_nonnegative_operator_holds_for_sparse_ones_too(
    rows: int, columns: int, density: float, seed: int
) -> None:
    """Zero rows, zero columns and separate blocks among them."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.rand(rows, columns, generator=generator, dtype=torch.float64)
    matrix *= torch.rand(rows, columns, generator=generator) < density
    truth = float(torch.linalg.matrix_norm(matrix, 2))
    bound = NonNegativeMatrix(matrix).norm()
    assert truth <= bound <= 1.1 * truth + 1e-12


@pytest.mark.parametrize("ratio", [1.0, 0.999, 0.5, 1e-3, 1e-6])
def test_the_bound_of_separate_blocks_is_that_of_the_largest(ratio: float) -> None:
    blocks = [torch.rand(4, 5, dtype=torch.float64) + 0.1 for _ in range(2)]
    blocks = [block / torch.linalg.matrix_norm(block, 2) for block in blocks]
    matrix = torch.block_diag(ratio * blocks[0], blocks[1])
    matrix = torch.cat([matrix, torch.zeros(8, 2, dtype=torch.float64)], 1)  # and pixels that no ray meets
    assert 1 <= NonNegativeMatrix(matrix).norm() <= 1.02


def test_the_norm_of_zero_is_zero() -> None:
    assert Matrix(torch.zeros(3, 4)).norm() == 0
    assert NonNegativeMatrix(torch.zeros(3, 4)).norm() == 0
    assert (0 * Matrix(torch.ones(3, 4))).norm() == 0


def test_norms_of_made_operators() -> None:
    A = Matrix(random(4, 4))
    truth = float(torch.linalg.matrix_norm(A.matrix, 2))
    assert recon.Identity((3, 3)).norm() == 1
    assert (3j * A).norm() == pytest.approx(3 * A.norm())
    assert A.H.norm() == A.norm()
    assert truth**2 <= A.gram.norm() <= 1.06 * truth**2
    assert MaskedFourier(torch.ones(4, 4)).norm() == pytest.approx(1, rel=0.03)


def test_the_norm_is_computed_once_and_again_after_a_change() -> None:
    calls = []

    class Counting(Matrix):
        def _norm(self) -> float:
            calls.append(1)
            return super()._norm()

    A = Counting(torch.eye(3))
    for _ in range(3):
        assert A.norm() == pytest.approx(1, rel=0.02)
    assert len(calls) == 1
    A.matrix.mul_(5)
    assert A.norm() == pytest.approx(5, rel=0.02)
    A.load_state_dict({"matrix": 7 * torch.eye(3)})
    assert A.norm() == pytest.approx(7, rel=0.02)
    A.matrix = 9 * torch.eye(3)
    assert A.norm() == pytest.approx(9, rel=0.02)
    A.double()
    assert A.norm() == pytest.approx(9, rel=0.02)
    frozen = Filter(torch.tensor([0.0, 2.0, 0.0]), 5, True).requires_grad_(False)
    assert frozen.norm() == pytest.approx(2, rel=0.02)
    frozen.kernel.mul_(2)
    assert frozen.norm() == pytest.approx(4, rel=0.02)


def test_the_norm_of_a_composite_sees_changes_of_its_members() -> None:
    A = Matrix(torch.eye(3))
    total = 2 * A + A
    assert total.norm() == pytest.approx(3, rel=0.02)
    A.matrix.mul_(10)
    assert total.norm() == pytest.approx(30, rel=0.02)


def test_the_norm_of_a_learned_operator_is_a_plain_number() -> None:
    A = Filter(torch.tensor([0.0, 2.0, 0.0]), 5, True)
    assert isinstance(A.norm(), float)
    with torch.no_grad():
        A.kernel.mul_(2)
    assert A.norm() == pytest.approx(4, rel=0.02)


# Dense form, measurement, direct reconstruction


def test_to_dense_in_chunks_is_the_same() -> None:
    a = random(7, 10).float()
    torch.testing.assert_close(Matrix(a).to_dense(chunk=3), a)
    assert ComplexMatrix(a).to_dense().dtype == torch.complex64
    assert not Filter(random(3), 5, True).to_dense(torch.float64).requires_grad


def test_measure_without_noise_is_the_forward_map() -> None:
    A, x = Matrix(random(3, 4)), random(2, 4)
    torch.testing.assert_close(A.measure(x), A(x))


def test_measure_adds_noise_that_depends_on_seed_and_place_only() -> None:
    from recon.simulate import GaussianNoise

    A, x = Matrix(torch.eye(500)), random(3, 500).float()
    noise = GaussianNoise(std=0.1)
    first = A.measure(x, noise=noise, seed=5)
    torch.testing.assert_close(A.measure(x, noise=noise, seed=5), first, rtol=0, atol=0)
    assert not torch.equal(A.measure(x, noise=noise, seed=6), first)
    torch.testing.assert_close(A.measure(x[:1], noise=noise, seed=5), first[:1], rtol=0, atol=0)
    residual = first - A(x)
    assert float(residual.std()) == pytest.approx(0.1, rel=0.1)  # 1500 samples: 2 %
    assert not torch.equal(residual[0], residual[1])


def test_measure_leaves_samples_that_do_not_exist_alone() -> None:
    from recon.simulate import GaussianNoise

    mask = (torch.arange(100) % 2).float()
    y = Masked(mask).measure(torch.ones(100), noise=GaussianNoise(std=0.1))
    assert torch.equal(y[mask == 0], torch.zeros(50))
    assert float((y - mask)[mask == 1].abs().min()) > 0


def test_default_pinv_is_the_back_projection_scaled_to_fit_best() -> None:
    A, y = Matrix(random(5, 3)), random(2, 5)
    x = A.pinv(y)
    back = y @ A.matrix
    for item in range(2):
        predicted = A.matrix @ back[item]
        best = torch.dot(predicted, y[item]) / torch.dot(predicted, predicted)
        torch.testing.assert_close(x[item], best * back[item])
    torch.testing.assert_close(
        A.pinv(torch.zeros(5, dtype=torch.float64)), torch.zeros(3, dtype=torch.float64)
    )
    with pytest.raises(TypeError, match="Matrix.pinv takes no options, got filter"):
        A.pinv(y, filter="hann")


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_default_pinv_does_not_depend_on_the_unit(scale: float) -> None:
    a, y = random(5, 3).float(), random(5).float()
    torch.testing.assert_close(Matrix(a).pinv(scale * y) / scale, Matrix(a).pinv(y))
    torch.testing.assert_close(Matrix(scale * a).pinv(y) * scale, Matrix(a).pinv(y))


def test_pinv_of_a_complex_operator_promotes_real_data() -> None:
    A = MaskedFourier(torch.ones(2, 2))
    y = random(3, 2, 2).float()
    torch.testing.assert_close(A.pinv(y), A.pinv(y.to(torch.complex64)))


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
def test_pinv_by_an_author_sees_what_it_asked_for(batch: tuple[int, ...]) -> None:
    class Inverse(Matrix):
        flatten_batch = True

        def _pinv(self, y: Tensor, factor: float = 1.0) -> Tensor:  # type: ignore[override]
            assert y.ndim == 2
            return factor * (y @ torch.linalg.inv(self.matrix).mT)

    A = Inverse(random(3, 3))
    x = random(*batch, 3)
    torch.testing.assert_close(A.pinv(A(x), factor=2.0), 2 * x)


def test_solve_in_fourier_against_the_dense_solution() -> None:
    G = Gradient((3, 4), periodic=True)
    dense_gradient = dense(G)
    symbol = torch.rand(3, 4, dtype=torch.float64)
    symbol = 0.5 * (symbol + symbol.flip(0, 1).roll((1, 1), (0, 1)))  # of a real operator
    columns = torch.fft.fft2(torch.eye(12, dtype=torch.float64).reshape(12, 3, 4)) * symbol
    matrix = torch.fft.ifft2(columns).real.reshape(12, 12).T + 0.3 * dense_gradient.T @ dense_gradient
    b = random(2, 3, 4)
    solved = solve_in_fourier(symbol, b, [torch.tensor([[[0.3]]], dtype=torch.float64)], [G])
    assert solved is not None
    torch.testing.assert_close(
        solved.reshape(2, 12), torch.linalg.solve(matrix, b.reshape(2, 12).T).T, rtol=1e-6, atol=1e-6
    )
    assert solve_in_fourier(torch.zeros(3, 4), b, [1.0], [G]) is None, "a singular matrix has no solution"
    assert solve_in_fourier(symbol, b, [1.0], [Gradient((3, 4))]) is None, "Neumann is not diagonal"


def test_identity() -> None:
    A = recon.Identity((2, 3))
    x = random(4, 2, 3)
    for result in (A(x), A.adjoint(x), A.gram(x), A.pinv(x)):
        assert torch.equal(result, x) and result.data_ptr() != x.data_ptr()
    solved = A.solve_gram(x, [0.5], [A])
    assert solved is not None
    torch.testing.assert_close(solved, x / 1.5)


# Noise level


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_noise_level_of_smooth_data_with_white_noise(dtype: torch.dtype) -> None:
    t = torch.linspace(0, 6, 400)
    smooth = torch.sin(t + torch.arange(30)[:, None] / 10).to(dtype)
    scale = torch.tensor([0.01, 0.1, 1.0]).reshape(3, 1, 1)
    noise = (
        torch.view_as_complex(random(3, 30, 400, 2)).to(dtype)
        if dtype.is_complex
        else random(3, 30, 400).float()
    )
    estimate = recon.Identity((30, 400)).noise_level(smooth + scale * noise)
    torch.testing.assert_close(estimate, scale.flatten(), rtol=0.03, atol=0)  # 12000 samples, correlated


def test_noise_level_uses_measured_samples_only() -> None:
    mask = torch.ones(30, 400)
    mask[:, 100:300] = 0
    y = mask * (1 + 0.1 * random(2, 30, 400).float())
    torch.testing.assert_close(Masked(mask).noise_level(y), torch.full((2,), 0.1), rtol=0.05, atol=0)


def test_noise_level_of_too_few_samples_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Identity data of shape \(5,\) cannot be estimated.*noise_level"):
        recon.Identity((5,)).noise_level(torch.ones(1, 5))


# Shapes, dtypes, devices


def test_wrong_shapes_are_refused_with_what_is_needed() -> None:
    A = Matrix(random(6, 8), (2, 4), (3, 2))
    with pytest.raises(
        recon.ShapeError, match=r"Matrix needs image of shape \(\*batch, 2, 4\), got \(4, 2\)"
    ):
        A(random(4, 2))
    with pytest.raises(recon.ShapeError, match=r"Matrix needs data of shape \(\*batch, 3, 2\), got \(2,\)"):
        A.adjoint(random(2))
    with pytest.raises(recon.ShapeError, match="needs data"):
        A.pinv(random(2, 4))
    with pytest.raises(recon.ShapeError, match="Matrix needs data"):
        A.H(random(2, 4))


def test_wrong_types_are_refused_with_the_remedy() -> None:
    A = Matrix(random(3, 4))
    with pytest.raises(TypeError, match=r"Matrix needs floating-point image, got torch.int64: .*x.float\(\)"):
        A(torch.ones(4, dtype=torch.long))
    with pytest.raises(TypeError, match="got torch.bool"):
        A(torch.ones(4, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"acts on torch tensors, got ndarray: use torch.as_tensor\(x\)"):
        A(torch.ones(4).numpy())
    with pytest.raises(TypeError, match="RealMatrix acts on real images, got torch.complex64"):
        RealMatrix(random(3, 4))(torch.ones(4, dtype=torch.complex64))
    with pytest.raises(TypeError, match="RealMatrix acts on real images, got torch.complex64"):
        RealMatrix(random(3, 4)).adjoint(torch.ones(3, dtype=torch.complex64))
    with pytest.raises(TypeError, match="Composition acts on real images"):
        (2 * RealMatrix(random(3, 4)) @ Matrix(random(4, 2)))(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(TypeError, match="ComplexMatrix .*bfloat16"):
        ComplexMatrix(random(3, 4))(torch.ones(4, dtype=torch.bfloat16))


def test_another_device_is_refused_with_the_remedy() -> None:
    A = Matrix(random(3, 4))
    with pytest.raises(
        ValueError, match=r"Matrix lies on cpu but the image on meta: move one with .to\(...\)"
    ):
        A(torch.ones(4, device="meta"))
    with pytest.raises(ValueError, match="but the data on meta"):
        A.adjoint(torch.ones(3, device="meta"))
    assert recon.Identity((4,))(torch.ones(4, device="meta")).device.type == "meta", "it has no buffers"


def test_operators_that_do_not_fit_are_refused() -> None:
    A, B = Matrix(random(3, 4)), Matrix(random(4, 5))
    with pytest.raises(
        recon.ShapeError, match=r"cannot add Matrix \(5,\) -> \(4,\) to Matrix \(4,\) -> \(3,\)"
    ):
        A + B
    with pytest.raises(recon.ShapeError, match=r"cannot compose Matrix @ Matrix: the left acts on \(5,\)"):
        B @ A
    with pytest.raises(recon.ShapeError, match="must act on one image shape"):
        recon.stack([A, B])
    with pytest.raises(ValueError, match="at least one operator"):
        recon.stack([])
    for wrong in (lambda: A + 3, lambda: A - 3, lambda: recon.stack([A, 3])):  # type: ignore[operator,list-item]
        with pytest.raises(TypeError, match="operator"):
            wrong()
    with pytest.raises(TypeError, match=r"apply with op\(x\)"):
        A @ random(4)  # type: ignore[operator]
    with pytest.raises(TypeError, match="multiplied by a number, got Matrix: compose with @"):
        A * B  # type: ignore[operator]
    with pytest.raises(TypeError, match="by a number, got Tensor"):
        A * random(3)  # type: ignore[operator]
    with pytest.raises(TypeError, match="cannot scale the real operator RealMatrix by the complex"):
        1j * RealMatrix(random(3, 4))
    with pytest.raises(TypeError, match="real images with one on complex"):
        RealMatrix(random(3, 4)) + ComplexMatrix(random(3, 4))


def test_shapes_must_be_positive() -> None:
    for wrong in ((), (0,), (3, -1)):
        with pytest.raises(ValueError, match="domain_shape must be one or more positive integers"):
            recon.LinearOperator(wrong, (1,))
        with pytest.raises(ValueError, match="range_shape"):
            recon.LinearOperator((1,), wrong)


def test_an_author_who_returns_another_shape_is_told() -> None:
    class Wrong(recon.LinearOperator):
        def _forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(recon.ShapeError, match=r"Wrong._forward returned shape \(4,\).*ask for \(3,\)"):
        Wrong((4,), (3,))(torch.ones(4))
    with pytest.raises(TypeError, match="Wrong has no _forward|LinearOperator has no _forward"):
        recon.LinearOperator((4,), (3,))(torch.ones(4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
@pytest.mark.parametrize("buffer", [torch.float32, torch.float64])
def test_precision_is_that_of_the_input_whatever_the_buffers(dtype: torch.dtype, buffer: torch.dtype) -> None:
    for make in (Matrix, MatrixForward):
        A = make(random(3, 4).to(buffer))
        x = random(2, 4, dtype=torch.complex128 if dtype.is_complex else torch.float64).to(dtype)
        assert A(x).dtype == dtype
        assert A.adjoint(A(x)).dtype == dtype
        assert A.gram(x).dtype == dtype
        assert A.pinv(A(x)).dtype == dtype


def test_a_complex_operator_promotes_real_images() -> None:
    A, x = ComplexMatrix(random(3, 4, dtype=torch.complex128)), random(2, 4)
    assert A(x).dtype == torch.complex128
    torch.testing.assert_close(A(x), A(x.to(torch.complex128)))
    assert A(x.float()).dtype == torch.complex64
    x = x.requires_grad_()
    (gradient,) = torch.autograd.grad(A(x).abs().square().sum(), x)
    assert gradient.dtype == torch.float64, "the gradient of a real image is real"


def test_conjugate_and_strided_inputs() -> None:
    A = Matrix(random(3, 4, dtype=torch.complex128))
    x = random(4, 2, dtype=torch.complex128)
    torch.testing.assert_close(A(x.T), A(x.T.contiguous()))
    torch.testing.assert_close(A(x.mH), A(x.mH.resolve_conj().clone()))
    torch.testing.assert_close(A(x.imag.T), A(x.imag.T.contiguous()))
    assert torch.equal(A(x.mH.conj().imag), A(x.T.imag.clone()))


@pytest.mark.parametrize("make", [Matrix, MatrixForward])
def test_an_empty_batch_gives_an_empty_batch(make: type[Matrix]) -> None:
    A = make(random(6, 8), (2, 4), (3, 2))
    for batch in ((0,), (3, 0), (0, 2)):
        assert A(random(*batch, 2, 4)).shape == (*batch, 3, 2)
        assert A.adjoint(random(*batch, 3, 2)).shape == (*batch, 2, 4)
        assert A.gram(random(*batch, 2, 4)).shape == (*batch, 2, 4)
        assert A.pinv(random(*batch, 3, 2)).shape == (*batch, 2, 4)
    assert ComplexMatrix(random(3, 4))(torch.ones(0, 4)).dtype == torch.complex64


@pytest.mark.parametrize("batch", [(), (1,), (5,), (2, 3)])
def test_flatten_batch_hands_over_one_batch_axis(batch: tuple[int, ...]) -> None:
    class Flat(Matrix):
        flatten_batch = True

        def _forward(self, x: Tensor) -> Tensor:
            assert x.ndim == 3
            return super()._forward(x)

        def _adjoint(self, y: Tensor) -> Tensor:
            assert y.ndim == 2
            return super()._adjoint(y)

    a = random(3, 8)
    x, y = random(*batch, 2, 4), random(*batch, 3)
    A, B = Flat(a, (2, 4)), Matrix(a, (2, 4))
    for method in ("forward", "adjoint", "pinv"):
        argument = x if method == "forward" else y
        torch.testing.assert_close(getattr(A, method)(argument), getattr(B, method)(argument))
    torch.testing.assert_close(A.gram(x), B.gram(x))


def test_the_input_is_left_as_it_was() -> None:
    for operator in (ReturnsInput(4), Crop(4), recon.Identity((4,)), Matrix(random(3, 4))):
        x = random(2, 4)
        before = x.clone()
        operator(x).mul_(0)
        assert torch.equal(x, before), f"the data of {operator} share memory with its image"


# Copies and records


@pytest.mark.parametrize(
    "operator",
    [
        Matrix(random(3, 4)),
        2 * Matrix(random(3, 4)),
        Matrix(random(3, 4)) + Matrix(random(3, 4)),
        recon.stack([Matrix(random(3, 4)), Matrix(random(2, 4))]),
        Matrix(random(3, 4)).H,
        Matrix(random(3, 4)).gram,
        Matrix(random(3, 4)) @ Matrix(random(4, 4)),
        Gradient((4,)),
    ],
    ids=lambda operator: type(operator).__name__,
)
def test_pickles_and_copies_are_the_same_operator(operator: recon.LinearOperator) -> None:
    x = random(2, 4) if operator.domain_shape == (4,) else random(2, 3)
    operator.norm()
    for twin in (pickle.loads(pickle.dumps(operator)), copy.deepcopy(operator)):
        assert torch.equal(twin(x), operator(x))
        assert twin.norm() == operator.norm()
        assert len(twin.constructor_arguments[0]) == len(operator.constructor_arguments[0])


def test_a_copy_has_buffers_of_its_own() -> None:
    A = Matrix(torch.eye(3))
    twin = copy.deepcopy(A)
    A.norm()
    twin.matrix.mul_(2)
    assert twin.norm() == pytest.approx(2, rel=0.02) and A.norm() == pytest.approx(1, rel=0.02)


def test_constructor_arguments_make_the_operator_again() -> None:
    A = Matrix(torch.eye(4), range_shape=(2, 2))
    args, kwargs = A.constructor_arguments  # type: ignore[attr-defined]
    again = Matrix(*args, **kwargs)
    assert again.range_shape == (2, 2) and torch.equal(again.matrix, A.matrix)


def test_state_dict_round_trip_and_precision_change() -> None:
    A, B = Matrix(random(3, 4)), Matrix(torch.zeros(3, 4, dtype=torch.float64))
    B.load_state_dict(A.state_dict())
    x = random(4)
    assert torch.equal(A(x), B(x))
    torch.testing.assert_close(A.float()(x.float()), B(x).float())


def test_nonnegativity_is_known_of_made_operators() -> None:
    A = NonNegativeMatrix(torch.ones(2, 2))
    made = [A, 2 * A, A @ A, A + A, A.H, A.gram, recon.stack([A, A])]
    assert all(operator.nonnegative for operator in made)
    assert not any(operator.nonnegative for operator in (-A, 1j * A, A - A, A + Matrix(torch.ones(2, 2))))


def test_an_approximate_adjoint_is_known_of_made_operators() -> None:
    class Approximate(Matrix):
        adjoint_kind = "approximate"
        adjoint_tolerance = 0.01

    A, B = Approximate(torch.eye(2)), Matrix(torch.eye(2))
    for made in (2 * A, A @ B, B + A, A.H, A.gram, recon.stack([B, A])):
        assert made.adjoint_kind == "approximate" and made.adjoint_tolerance == 0.01
    assert (B @ B).adjoint_kind == "exact"
    assert (A @ A).adjoint_tolerance == pytest.approx(0.02)


def test_repr_names_shapes() -> None:
    assert "(4,) -> (3,)" in repr(Matrix(random(3, 4)))
    assert math.prod(Gradient((3, 4)).range_shape) == 24
