"""SciPy operators and matrices as operators of ours, and back."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from our_operators import OURS, check_host_operator, is_complex, relative, ridge
from recon_bridges import from_scipy, to_scipy

import recon

RANDOM = np.random.default_rng(0)
REAL = RANDOM.standard_normal((12, 20))
COMPLEX = REAL + 1j * RANDOM.standard_normal((12, 20))
FUNCTIONS = {"pickle_and_state_dict": "SciPy operators made of functions cannot be pickled"}


@pytest.mark.parametrize(
    "matrix",
    [
        REAL,
        REAL.astype(np.float32),
        COMPLEX,
        np.eye(12, 20, dtype=np.int64),
        scipy.sparse.csr_array(REAL * (REAL > 0.5)),
        scipy.sparse.csc_matrix(COMPLEX.astype(np.complex64)),
        scipy.sparse.linalg.aslinearoperator(REAL),
    ],
    ids=["dense", "float32", "complex", "integers", "csr", "csc complex64", "operator"],
)
def test_a_matrix_conforms_and_is_the_matrix(matrix):
    op = from_scipy(matrix, shape=(4, 5), range_shape=(3, 4))
    check_host_operator(op)
    truth = matrix @ np.eye(20)
    assert relative(op.to_dense(torch.complex128), torch.as_tensor(truth)) < 1e-6  # float32 storage
    assert op.adjoint_kind == "exact"


def test_shapes_default_to_vectors():
    op = from_scipy(REAL)
    assert (op.domain_shape, op.range_shape, op.domain) == ((20,), (12,), "any")


def test_functions_get_vectors_one_by_one():
    """A function of a vector that would do something else with a column, like an FFT along the last axis."""
    op = from_scipy(
        scipy.sparse.linalg.LinearOperator(
            (6, 6), matvec=np.fft.fft, rmatvec=lambda y: 6 * np.fft.ifft(y), dtype=np.complex128
        )
    )
    x = torch.randn(3, 6, dtype=torch.complex128)
    assert relative(op(x), torch.fft.fft(x)) < 1e-12
    check_host_operator(op, **FUNCTIONS)


@pytest.mark.parametrize("name", OURS)
def test_ours_as_theirs_conforms_and_comes_back_equal(name):
    ours = OURS[name]()
    back = from_scipy(to_scipy(ours), ours.domain_shape, ours.range_shape)
    check_host_operator(back, **FUNCTIONS)
    dtype = torch.complex128 if is_complex(name) else torch.float64
    x = torch.randn(2, *ours.domain_shape, dtype=dtype)
    assert relative(back(x), ours(x)) < 1e-14  # FFTs of other batch sizes round otherwise
    y = ours(x)
    assert relative(back.adjoint(y), ours.adjoint(y)) < 1e-14


@pytest.mark.parametrize("name", ["ct", "mri"])
def test_lsqr_with_ours_solves_the_ridge_problem(name):
    ours = OURS[name]()
    x = torch.randn(ours.domain_shape, dtype=torch.complex128 if is_complex(name) else torch.float64)
    y = ours(x)
    found = scipy.sparse.linalg.lsqr(to_scipy(ours), y.numpy().ravel(), damp=0.5, atol=1e-12, btol=1e-12)[0]
    assert relative(found, ridge(ours, y, 0.25)) < 1e-9  # lsqr's tolerance times the conditioning


def test_ours_takes_many_columns_whole_numbers_and_complex_vectors_of_a_real_operator():
    ours = OURS["ct"]()
    theirs, matrix = to_scipy(ours), OURS["ct"]().to_dense(torch.float64).numpy()
    columns = RANDOM.standard_normal((42, 3))
    assert relative(theirs @ columns, matrix @ columns) < 1e-12
    assert relative(theirs @ np.arange(42), matrix @ np.arange(42)) < 1e-12
    assert relative(theirs @ (columns[:, 0] + 2j), matrix @ (columns[:, 0] + 2j)) < 1e-12
    assert relative(theirs.H @ (1j * matrix[:, 0]), matrix.T @ (1j * matrix[:, 0])) < 1e-12


def test_precision_is_that_of_the_vector_and_the_type_is_said_as_asked():
    ours = OURS["blur"]()
    assert to_scipy(ours).dtype == np.float64
    assert to_scipy(ours, dtype=np.float32).dtype == np.float32
    assert to_scipy(ours).matvec(np.ones(42, dtype=np.float32)).dtype == np.float32
    with pytest.raises(TypeError, match="a complex type for this operator, got float32"):
        to_scipy(OURS["mri"](), dtype=np.float32)


def test_gradients_reach_through_and_the_solver_solves():
    matrix = scipy.sparse.csr_array(np.eye(20) + 0.1 * RANDOM.standard_normal((20, 20)))
    op = from_scipy(matrix, (4, 5))
    y = torch.randn(20, dtype=torch.float64)
    x = torch.zeros(4, 5, dtype=torch.float64, requires_grad=True)
    (op(x) - y).square().sum().backward()
    assert relative(x.grad.flatten(), torch.as_tensor(-2 * matrix.T @ y.numpy())) < 1e-12
    solution = recon.solve(op, ("tikhonov", {"weight": 0.1}), y, stop=recon.SmallResiduals(1e-10))
    dense = matrix.toarray()
    truth = np.linalg.solve(dense.T @ dense + 0.1 * np.eye(20), dense.T @ y.numpy())
    assert relative(solution.image.flatten(), truth) < 1e-8


def test_no_memory_is_shared_with_the_input():
    op = from_scipy(scipy.sparse.linalg.LinearOperator((4, 4), matvec=lambda v: v, rmatvec=lambda v: v))
    x = torch.ones(1, 4, dtype=torch.float64)
    y = op._run(x, adjoint=False)
    y.zero_()
    assert float(x.sum()) == 4


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: from_scipy("matrix"), TypeError, "from_scipy takes a scipy.*got str"),
        (lambda: from_scipy(np.ones(3)), ValueError, "two axes, got an array of shape \\(3,\\)"),
        (lambda: from_scipy(REAL, shape=(4, 4)), ValueError, "16 elements.*have 20"),
        (lambda: from_scipy(REAL, range_shape=(5, 5)), ValueError, "range_shape=\\(5, 5\\) has 25"),
        (
            lambda: from_scipy(scipy.sparse.linalg.LinearOperator((4, 4), matvec=lambda v: v)),
            TypeError,
            "has no adjoint.*rmatvec=",
        ),
        (
            lambda: from_scipy(
                scipy.sparse.linalg.LinearOperator((4, 4), matvec=lambda v: v, rmatvec=lambda v: -v)
            ),
            ValueError,
            "is none: its relative error is",
        ),
        (lambda: from_scipy(np.nan * REAL), ValueError, "its relative error is nan"),
        (lambda: from_scipy(REAL, domain="Real"), ValueError, "domain must be"),
        (lambda: from_scipy(REAL, adjoint_tolerance=-1), ValueError, "adjoint_tolerance must be"),
        (lambda: to_scipy(REAL), TypeError, "to_scipy takes a recon.LinearOperator, got ndarray"),
    ],
    ids=lambda value: None,
)
def test_wrong_input_says_what_and_what_to_do(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_tensor_elsewhere_is_refused_not_copied():
    op = from_scipy(REAL)
    with pytest.raises(ValueError, match="computes on cpu, got a tensor on meta: move the tensor"):
        op(torch.ones(20, device="meta"))


class SpectrumOfRealImages(recon.LinearOperator):
    domain = "real"

    def __init__(self):
        super().__init__((6,), (4,))

    def _forward(self, x):
        return torch.fft.rfft(x)


def test_an_operator_linear_over_the_reals_only_is_refused():
    with pytest.raises(TypeError, match="linear over the real numbers only"):
        to_scipy(SpectrumOfRealImages())


def test_an_adjoint_that_is_a_little_off_is_declared_approximate():
    off = REAL + 0.01 * RANDOM.standard_normal(REAL.shape)
    op = from_scipy(
        scipy.sparse.linalg.LinearOperator(
            (12, 20), matvec=lambda v: REAL @ v.ravel(), rmatvec=lambda v: off.T @ v.ravel()
        )
    )
    truth = np.linalg.norm(off - REAL) / np.linalg.norm(REAL)
    assert op.adjoint_kind == "approximate"
    assert truth < op.adjoint_tolerance < 4 * truth  # twice an estimate from sixteen pairs
    check_host_operator(op, **FUNCTIONS)
    assert from_scipy(scipy.sparse.linalg.aslinearoperator(off), adjoint_tolerance=0).adjoint_kind == "exact"
