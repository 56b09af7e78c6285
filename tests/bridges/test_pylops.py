"""PyLops operators as ours, and ours as PyLops'."""

import pickle

import numpy as np
import pytest
import torch
from our_operators import OURS, SINGLE, check_host_operator, is_complex, relative, ridge
from recon_bridges import from_pylops, to_pylops

import recon

THEIRS = {
    "matrix": lambda pylops: pylops.MatrixMult(np.random.default_rng(0).standard_normal((7, 6))),
    "gradient": lambda pylops: pylops.Gradient((5, 6), dtype="float64"),
    "fft2": lambda pylops: pylops.signalprocessing.FFT2D((5, 6)),
    "real fft": lambda pylops: pylops.signalprocessing.FFT((6,), real=True, dtype="float64"),
    "restriction": lambda pylops: pylops.Restriction((4, 5), [0, 2, 3], axis=-1, dtype="float32"),
    "product": lambda pylops: (
        2 * pylops.FirstDerivative((4, 5), axis=0) @ pylops.Smoothing2D((3, 3), dims=(4, 5))
    ),
}
FIELDS = {"fft2": "complex", "real fft": "real"}


@pytest.mark.parametrize("name", THEIRS)
def test_theirs_conforms(pylops, name):
    theirs = THEIRS[name](pylops)
    op = from_pylops(theirs)
    assert op.domain == FIELDS.get(name, "any")
    assert (op.domain_shape, op.range_shape) == (tuple(theirs.dims), tuple(theirs.dimsd))
    assert op.adjoint_kind == "exact"
    check_host_operator(op, **(SINGLE if name == "restriction" else {}))
    x = torch.randn(op.domain_shape, dtype=torch.float64)
    assert relative(op(x), theirs.matvec(x.numpy().ravel()).reshape(op.range_shape)) < 1e-12


@pytest.mark.parametrize("name", OURS)
def test_ours_passes_their_dot_test_and_comes_back_equal(pylops, name):
    ours = OURS[name]()
    theirs = to_pylops(ours)
    assert (theirs.dims, theirs.dimsd) == (ours.domain_shape, ours.range_shape)
    flag = 3 if is_complex(name) else 0
    assert pylops.utils.dottest(theirs, *theirs.shape, complexflag=flag, rtol=1e-10, raiseerror=True)
    back = from_pylops(theirs)
    check_host_operator(back)
    x = torch.randn(2, *ours.domain_shape, dtype=torch.complex128 if is_complex(name) else torch.float64)
    assert relative(back(x), ours(x)) < 1e-14  # FFTs of other batch sizes round otherwise


def test_ours_solves_in_their_solver(pylops):
    ours = OURS["ct"]()
    x = torch.rand(ours.domain_shape, dtype=torch.float64)
    y = ours(x)
    cgls = pylops.optimization.basic.cgls
    found = cgls(to_pylops(ours), y.numpy().ravel(), niter=200, damp=0.5, tol=1e-14)[0]
    assert relative(found.ravel(), ridge(ours, y, 0.25)) < 1e-6  # where its rule stops


def test_ours_joins_their_algebra_and_pickles(pylops):
    ours = OURS["blur"]()
    sum_ = 2 * to_pylops(ours) + pylops.Identity(42)
    x = torch.randn(6, 7, dtype=torch.float64)
    assert relative(sum_ @ x.numpy().ravel(), (2 * ours(x) + x).ravel()) < 1e-12
    copy = pickle.loads(pickle.dumps(to_pylops(ours)))
    assert np.array_equal(copy @ x.numpy(), ours(x).numpy())


def test_our_solver_with_their_operator(pylops):
    op = from_pylops(pylops.Smoothing2D((3, 3), dims=(12, 12)))
    image = torch.zeros(12, 12, dtype=torch.float64)
    image[3:9, 4:8] = 1
    blurred = op(image)
    solution = recon.solve(op, ("tv", {"weight": 1e-4}), blurred, stop=recon.MaxIterations(80))
    assert relative(solution.image, image) < 0.05 < relative(blurred, image)


def test_wrong_input_says_what_and_what_to_do(pylops):
    with pytest.raises(TypeError, match="from_pylops takes a pylops.LinearOperator, got ndarray"):
        from_pylops(np.eye(3))
    with pytest.raises(ValueError, match="computes on cpu, got a tensor on meta"):
        from_pylops(pylops.Identity(3))(torch.ones(3, device="meta"))
