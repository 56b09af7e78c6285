"""SigPy operators as ours, and ours as SigPy's."""

import pickle

import numpy as np
import pytest
import torch
from our_operators import MAPS, MASK, OURS, check_host_operator, is_complex, relative, ridge
from recon_bridges import from_sigpy, to_sigpy

import recon

THEIRS = {
    "fft": lambda linop: linop.FFT((5, 6)),
    "finite differences": lambda linop: linop.FiniteDifference((5, 6)),
    "nonuniform fft": lambda linop: linop.NUFFT((8, 8), np.random.default_rng(0).uniform(-4, 4, (20, 2))),
    "complex multiple": lambda linop: linop.Multiply((5, 6), MAPS[0].numpy()),
    "wavelet": lambda linop: linop.Wavelet((8, 8), wave_name="haar"),
}


@pytest.mark.parametrize("name", THEIRS)
def test_theirs_conforms(sigpy, name):
    theirs = THEIRS[name](sigpy.linop)
    op = from_sigpy(theirs)
    assert op.domain == ("any" if name in ("finite differences", "wavelet") else "complex")
    assert op.adjoint_kind == "exact"
    check_host_operator(op)
    x = torch.randn(op.domain_shape, dtype=torch.complex64)
    assert relative(op(x), theirs(x.numpy())) < 1e-6


@pytest.mark.filterwarnings("ignore::DeprecationWarning:sigpy")
@pytest.mark.parametrize("name", OURS)
def test_ours_comes_back_equal(sigpy, name):
    ours = OURS[name]()
    theirs = to_sigpy(ours)
    assert (tuple(theirs.ishape), tuple(theirs.oshape)) == (ours.domain_shape, ours.range_shape)
    back = from_sigpy(theirs)
    assert back.domain == ("complex" if is_complex(name) else "any")
    check_host_operator(back)
    x = torch.randn(2, *ours.domain_shape, dtype=torch.complex128 if is_complex(name) else torch.float64)
    assert relative(back(x), ours(x)) < 1e-14  # FFTs of other batch sizes round otherwise
    assert np.array_equal(theirs.N(x[0].numpy()), ours.gram(x[0]).numpy())
    assert np.array_equal(theirs.H.H(x[0].numpy()), ours(x[0]).numpy())


@pytest.mark.parametrize("name", ["ct", "mri"])
def test_ours_solves_in_their_application(sigpy, name):
    ours = OURS[name]()
    dtype = torch.complex128 if is_complex(name) else torch.float64
    y = ours(torch.randn(ours.domain_shape, dtype=dtype))
    app = sigpy.app.LinearLeastSquares(to_sigpy(ours), y.numpy(), lamda=0.5, max_iter=200, show_pbar=False)
    found = app.run()
    assert relative(found.ravel(), ridge(ours, y, 0.5)) < 1e-9  # CG in double precision, regularised


def test_their_sense_operator_is_our_mri(sigpy):
    """SigPy centres its Fourier transform as this project does: the two models of a coil array agree."""
    linop = sigpy.linop
    coils = linop.Multiply((5, 6), MAPS.numpy())
    sense = linop.Multiply((3, 5, 6), MASK.numpy()) * linop.FFT((3, 5, 6), axes=(-2, -1)) * coils
    ours = OURS["mri"]()
    x = torch.randn(5, 6, dtype=torch.complex64)
    assert relative(from_sigpy(sense)(x), ours(x)) < 1e-6
    y = ours(x)
    settings = {"stop": recon.MaxIterations(60)}
    theirs = recon.solve(from_sigpy(sense), ("tv", {"weight": 1e-2}), y, **settings)
    own = recon.solve(ours, ("tv", {"weight": 1e-2}), y, stop=recon.SmallResiduals(1e-6))
    assert relative(theirs.image, own.image) < 1e-2


def test_ours_pickles(sigpy):
    ours = OURS["blur"]()
    x = torch.randn(6, 7)
    copy = pickle.loads(pickle.dumps(to_sigpy(ours)))
    assert np.array_equal(copy(x.numpy()), ours(x).numpy())


def test_wrong_input_says_what_and_what_to_do(sigpy):
    with pytest.raises(TypeError, match="from_sigpy takes a sigpy.linop.Linop, got str"):
        from_sigpy("fft")
    with pytest.raises(ValueError, match="computes on cpu, got a tensor on meta"):
        from_sigpy(sigpy.linop.Identity((3,)))(torch.ones(3, device="meta"))
    with pytest.raises(ImportError, match="cupy, which is not installed: pip install cupy"):
        from_sigpy(sigpy.linop.Identity((3,)), device="cuda")
