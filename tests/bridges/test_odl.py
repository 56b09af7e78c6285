"""ODL operators as ours with Euclidean adjoints, and ours as ODL's in its weighted spaces."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from our_operators import OURS, SINGLE, check_host_operator, is_complex, relative
from recon_bridges import from_odl, to_odl

import recon

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:odl", "ignore::DeprecationWarning:astra")
LOCAL = {"pickle_and_state_dict": "ODL's ray transforms keep local functions, which cannot be pickled"}


@pytest.fixture(params=["numpy", "pytorch"])
def impl(request):
    return request.param


def rectangle(odl, impl, dtype="float64"):
    """Pixels of 1/3 x 1/2: a cell volume that a forgotten weight would show."""
    return odl.uniform_discr([-1, -2], [1, 2], (6, 8), dtype=dtype, impl=impl)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_a_gradient_conforms(odl, dtype):
    op = from_odl(odl.Gradient(rectangle(odl, "numpy", dtype)))
    assert (op.domain_shape, op.range_shape) == ((6, 8), (2, 6, 8))
    assert op.domain == ("complex" if dtype == "complex64" else "any")
    assert op.adjoint_kind == "exact"
    check_host_operator(op, **({} if dtype == "float64" else SINGLE))


def test_torch_spaces_give_what_numpy_spaces_give(odl):
    numpy, torch_ = (from_odl(odl.Gradient(rectangle(odl, impl))) for impl in ("numpy", "pytorch"))
    x, y = torch.randn(2, 6, 8, dtype=torch.float64), torch.randn(2, 2, 6, 8, dtype=torch.float64)
    assert relative(torch_(x), numpy(x)) < 1e-14
    assert relative(torch_.adjoint(y), numpy.adjoint(y)) < 1e-14


def test_the_adjoint_is_euclidean_where_both_spaces_are_weighted(odl, impl):
    """A matrix between spaces of differently weighted points: ODL's adjoint is W_D^-1 A^T W_R."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((5, 4))
    weights = [rng.uniform(0.5, 3, size) for size in (4, 5)]
    if impl == "pytorch":
        matrix, weights = torch.from_numpy(matrix), [torch.from_numpy(w) for w in weights]
    domain, range_ = (odl.rn(len(w), weighting=w, impl=impl) for w in weights)

    class Matrix(odl.Operator):
        def __init__(self, entries, images, data):
            super().__init__(images, data, linear=True)
            self.entries = entries

        def _call(self, x):
            return self.range.element(self.entries @ x.data)

        @property
        def adjoint(self):
            back = self.entries.T * self.range.weighting.array / self.domain.weighting.array[:, None]
            return Matrix(back, self.range, self.domain)

    op = from_odl(Matrix(matrix, domain, range_))
    assert op.adjoint_kind == "exact"
    y = torch.randn(3, 5, dtype=torch.float64)
    assert relative(op.adjoint(y), y @ torch.as_tensor(matrix)) < 1e-12
    check_host_operator(op, pickle_and_state_dict="the class of this test is local")


def test_the_ray_transform_conforms_after_the_cell_volumes_are_taken_out(odl, tomo, impl):
    space = odl.uniform_discr([-2, -2], [2, 2], (8, 8), dtype="float32", impl=impl)
    for geometry in (
        tomo.parallel_beam_geometry(space, num_angles=7),
        tomo.cone_beam_geometry(space, 20, 20, num_angles=7),
    ):
        transform = tomo.RayTransform(space, geometry, impl="astra_cpu")
        op = from_odl(transform)
        assert op.adjoint_kind == "exact"
        check_host_operator(op, **LOCAL, **SINGLE)
        ratio = space.weighting.const / transform.range.weighting.const
        assert not 0.9 < ratio < 1.1, "the weights would not show"


def test_an_unmatched_back_projection_is_declared_approximate(odl, tomo):
    space = odl.uniform_discr([-4, -4], [4, 4], (8, 8), dtype="float32")
    geometry = tomo.parallel_beam_geometry(space, num_angles=7)
    op = from_odl(tomo.RayTransform(space, geometry, impl="skimage"))
    assert op.adjoint_kind == "approximate"
    assert 0.01 < op.adjoint_tolerance < 0.5
    check_host_operator(op, **LOCAL, **SINGLE)


def test_an_inverse_offered_as_adjoint_is_refused(odl):
    """ODL 1.0's Fourier transforms give their inverse as adjoint, whatever the weights."""
    transform = odl.trafos.DiscreteFourierTransform(rectangle(odl, "numpy", "complex64"))
    with pytest.raises(ValueError, match=r"offers as its adjoint is none.*adjoint_tolerance=1"):
        from_odl(transform)
    op = from_odl(transform, adjoint_tolerance=1)
    x = torch.randn(6, 8, dtype=torch.complex64)
    assert relative(op(x), torch.fft.fft2(x)) < 1e-6


def test_torch_spaces_get_tensors_without_a_copy(odl):
    space = odl.rn((3, 4), dtype="float32", impl="pytorch")
    seen = []

    class Watch(odl.Operator):
        def __init__(self):
            super().__init__(space, space, linear=True)

        def _call(self, x):
            seen.append(x.data.data_ptr())
            return 2 * x

        @property
        def adjoint(self):
            return self

    op = from_odl(Watch(), adjoint_tolerance=0)
    x = torch.randn(1, 3, 4)
    op(x)
    assert seen == [x.data_ptr()]


def test_our_solver_with_their_operator_is_the_least_squares_image(odl, tomo):
    space = odl.uniform_discr([-4, -4], [4, 4], (8, 8), dtype="float32")
    geometry = tomo.parallel_beam_geometry(space, num_angles=9)
    op = from_odl(tomo.RayTransform(space, geometry, impl="astra_cpu"))
    y = op(torch.rand(8, 8))
    solution = recon.solve(op, ("tikhonov", {"weight": 0.5}), y, stop=recon.SmallResiduals(1e-6))
    matrix = op.to_dense()
    truth = torch.linalg.solve(matrix.T @ matrix + 0.5 * torch.eye(64), matrix.T @ y.flatten())
    assert relative(solution.image.flatten(), truth) < 1e-4  # single precision


def elements(space, seed):
    values = torch.randn(space.shape, generator=torch.Generator().manual_seed(seed))
    if space.is_complex:
        values = torch.complex(values, values.flip(0))
    return space.element(values if space.impl == "pytorch" else values.numpy())


@pytest.mark.parametrize("name", ["blur", "ct", "mri"])
def test_ours_has_the_adjoint_of_their_inner_products(odl, impl, name):
    ours = OURS[name]()
    dtype = "complex64" if is_complex(name) else "float32"
    weights = np.random.default_rng(0).uniform(0.5, 3, ours.domain_shape).astype("float32")
    if impl == "pytorch":
        weights = torch.from_numpy(weights)
    domain = odl.tensor_space(ours.domain_shape, dtype=dtype, weighting=weights, impl=impl)
    size = len(ours.range_shape)
    range_ = odl.uniform_discr([0] * size, [3] * size, ours.range_shape, dtype=dtype, impl=impl)
    theirs = to_odl(ours, domain, range_)
    x, y = elements(domain, 1), elements(range_, 2)
    left, right = theirs(x).inner(y), x.inner(theirs.adjoint(y))
    assert abs(left - right) < 1e-5 * theirs(x).norm() * y.norm()
    assert theirs.adjoint.adjoint is theirs
    check_host_operator(from_odl(theirs), **SINGLE)


def test_ours_with_default_spaces_comes_back_equal(odl):
    for name, make in OURS.items():
        ours = make()
        back = from_odl(to_odl(ours))
        x = torch.randn(2, *ours.domain_shape, dtype=torch.complex64 if is_complex(name) else torch.float32)
        assert relative(back(x), ours(x)) < 1e-6  # single precision
        assert back.domain == ("complex" if is_complex(name) else "any")


def test_ours_pickles(odl):
    ours = OURS["blur"]()
    theirs = to_odl(ours, odl.uniform_discr([0, 0], [3, 4], (6, 7), dtype="float32"))
    x = np.ones((6, 7), dtype="float32")
    for op in (theirs, theirs.adjoint):
        assert np.array_equal(pickle.loads(pickle.dumps(op))(x).data, op(x).data)


def test_ours_into_a_power_space(odl):
    ours = OURS["gradient"]()
    space = odl.uniform_discr([0, 0], [1, 1], (4, 5), dtype="float32")
    theirs = to_odl(ours, space, space**2)
    x = torch.randn(4, 5)
    found = theirs(space.element(x.numpy()))
    assert relative(np.stack([part.data for part in found]), ours(x)) < 1e-6
    check_host_operator(from_odl(theirs), **SINGLE)


@pytest.mark.parametrize("solver", ["conjugate_gradient_normal", "landweber"])
def test_ours_solves_in_their_solvers(odl, impl, solver):
    """The solution of the consistent system, in spaces whose weights differ from point to point."""
    ours = OURS["blur"]()
    weights = np.random.default_rng(0).uniform(0.5, 2, (6, 7)).astype("float32")
    if impl == "pytorch":
        weights = torch.from_numpy(weights)
    domain = odl.rn((6, 7), dtype="float32", weighting=weights, impl=impl)
    range_ = odl.uniform_discr([0, 0], [3, 4], (6, 7), dtype="float32", impl=impl)
    theirs = to_odl(ours, domain, range_)
    truth = elements(domain, 3)
    found, data = domain.zero(), theirs(truth)
    if solver == "landweber":
        omega = float(1 / theirs.norm(estimate=True) ** 2)
        odl.solvers.landweber(theirs, found, data, niter=400, omega=omega)
    else:
        odl.solvers.conjugate_gradient_normal(theirs, found, data, niter=100)
    tolerance = 0.05 if solver == "landweber" else 1e-3  # a slow method; single precision
    assert (theirs(found) - data).norm() < tolerance * data.norm()


def test_wrong_input_says_what_and_what_to_do(odl):
    space = odl.rn((3, 4), dtype="float32")
    with pytest.raises(TypeError, match=r"from_odl takes an odl.Operator, got str"):
        from_odl("ray transform")
    with pytest.raises(TypeError, match=r"is not linear: bridge its derivative"):
        from_odl(odl.PowerOperator(space, 2))
    with pytest.raises(TypeError, match=r"a functional"):
        from_odl(odl.InnerProductOperator(space.one()))
    with pytest.raises(TypeError, match=r"parts of different kinds.*recon.stack"):
        from_odl(odl.DiagonalOperator(odl.IdentityOperator(space), odl.IdentityOperator(odl.rn(3))))
    with pytest.raises(TypeError, match=r"exponent 2"):
        from_odl(odl.IdentityOperator(odl.rn(3, exponent=1.0)))
    op = from_odl(odl.IdentityOperator(space))
    with pytest.raises(
        ValueError, match=r"NumPy arrays on cpu, got a tensor on meta: make the spaces with impl"
    ):
        op(torch.ones(3, 4, device="meta"))
    with pytest.raises(ValueError, match=r"the domain must have shape \(6, 7\), got \(3, 4\)"):
        to_odl(OURS["blur"](), space)
    with pytest.raises(TypeError, match=r"complex domain: give a space of dtype 'complex64'"):
        to_odl(OURS["mri"](), odl.rn((5, 6)))
    with pytest.raises(TypeError, match=r"to_odl takes a recon.LinearOperator, got int"):
        to_odl(3)


def test_importing_odl_through_the_bridge_leaves_the_process_as_it_was(odl):
    code = """
import os, warnings
import numpy as np, scipy.signal
warnings.simplefilter("ignore")
before, convolve = np.get_printoptions(), scipy.signal.convolve
from recon_bridges.libraries import library
library("odl")
import scipy.signal
assert np.get_printoptions() == before
assert "SCIPY_ARRAY_API" not in os.environ
assert scipy.signal.convolve is convolve
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
