"""A matrix as an operator: dense and sparse, real and complex, against NumPy and SciPy."""

import numpy as np
import pytest
import scipy.sparse
import torch
from recon_operators import Matrix

import recon
from recon.testing import check_operator

RANDOM = np.random.default_rng(0)
DENSE = RANDOM.standard_normal((12, 9))
SPARSE = scipy.sparse.random_array((12, 9), density=0.3, rng=1)
COMPLEX = SPARSE + 1j * scipy.sparse.random_array((12, 9), density=0.3, rng=2)
WITH_DUPLICATES = scipy.sparse.coo_array(([1.0, 2.0, 4.0], ([0, 0, 3], [1, 1, 2])), shape=(12, 9))


@pytest.mark.parametrize(
    "matrix",
    [
        DENSE,
        DENSE.astype(np.float32),
        DENSE + 2j,
        SPARSE,
        SPARSE.tocsc(),
        COMPLEX,
        WITH_DUPLICATES,
        torch.from_numpy(SPARSE.toarray()).to_sparse_coo(),
        scipy.sparse.eye_array(12, 9, dtype=np.int64),
    ],
    ids=["dense", "single", "complex", "coo", "csc", "complex-sparse", "duplicates", "torch", "integers"],
)
def test_it_is_the_matrix(matrix):
    dense = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    dense = np.asarray(dense.to_dense() if isinstance(dense, torch.Tensor) else dense)
    operator = Matrix(matrix, (3, 3), (2, 6))
    x = RANDOM.standard_normal((4, 3, 3)) + (1j if np.iscomplexobj(dense) else 0)
    expected = (dense.astype(x.dtype) @ x.reshape(4, 9).T).T.reshape(4, 2, 6)
    # the matrix given in single precision is multiplied in double
    assert np.allclose(operator(torch.from_numpy(x)).numpy(), expected, atol=1e-13)
    check_operator(operator)


def test_it_solves_by_name_and_is_kept_in_a_problem_file(tmp_path):
    x = torch.rand(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for operator in (
        recon.operator("matrix", matrix=SPARSE, shape=(3, 3)),
        Matrix(torch.from_numpy(COMPLEX.toarray()).to_sparse_csr(), (3, 3)),
    ):
        problem = recon.Problem(operator, operator(x))
        again = recon.Problem.load(problem.save(tmp_path / "problem.h5"))
        assert torch.equal(again.operator(x), operator(x))
        assert torch.equal(again.operator.adjoint(problem.data), operator.adjoint(problem.data))


def test_least_squares_with_it_is_the_normal_equations_solution():
    operator = Matrix(scipy.sparse.csr_array(DENSE))
    y = torch.from_numpy(RANDOM.standard_normal(12))
    expected = np.linalg.solve(DENSE.T @ DENSE + 0.5 * np.eye(9), DENSE.T @ y.numpy())
    solution = recon.solve(operator, "tikhonov:weight=0.5", y, stop=recon.SmallResiduals(1e-10))
    assert np.allclose(solution.image.numpy(), expected, atol=1e-8)  # the residual rule's 1e-10, conditioned


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"matrix": np.ones(3)}, "needs two axes, data values x pixels, got shape \\(3,\\)"),
        ({"matrix": np.ones((2, 3)), "shape": (2, 2)}, "has 4 entries, but the matrix has 3 columns"),
        ({"matrix": np.ones((2, 3)), "data_shape": (3,)}, "has 3 entries, but the matrix has 2 rows"),
        ({"matrix": scipy.sparse.csr_array([[np.nan, 1.0]])}, "NaN"),
        ({"matrix": scipy.sparse.csr_array((12, 9))}, "matrix holds no value"),
    ],
)
def test_what_is_no_matrix_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Matrix(**arguments)


@pytest.mark.parametrize("dtype", [np.uint16, np.int8, np.bool_, np.longdouble])
def test_matrices_of_any_numbers_are_kept_in_a_problem_file(tmp_path, dtype):
    operator = Matrix(scipy.sparse.csr_array(np.eye(3, dtype=dtype)))
    problem = recon.Problem(operator, torch.tensor([1.0, 2.0, 3.0]))
    again = recon.Problem.load(problem.save(tmp_path / "problem.h5"))
    assert torch.equal(again.operator(torch.ones(3)), torch.ones(3))


def test_sparse_tensors_of_half_precision_are_taken():
    operator = Matrix(torch.eye(3, dtype=torch.bfloat16).to_sparse())
    assert torch.equal(operator(torch.ones(3)), torch.ones(3))


def test_the_range_of_the_image_may_come_from_an_array(tmp_path):
    problem = recon.Problem(Matrix(np.eye(2)), torch.ones(2), image_range=(0, np.float32(2)))
    assert recon.Problem.load(problem.save(tmp_path / "problem.h5")).image_range == (0.0, 2.0)
