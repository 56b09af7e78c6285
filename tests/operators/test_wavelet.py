"""The wavelet transform against PyWavelets, and what makes it a tight frame or a basis."""

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_operators import Wavelet

WAVELETS = ("haar", "db2", "db4", "sym5", "coif1")
shapes = st.lists(st.integers(4, 11), min_size=1, max_size=3).map(tuple)


def random(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.filterwarnings("ignore:Level value:UserWarning")  # small images feel their borders
@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize("shape", [(16,), (16, 24), (8, 16, 12)], ids=str)
def test_decimated_it_is_the_periodised_transform_of_pywavelets(wavelet, shape):
    x = random(*shape)
    nested = pywt.wavedecn(x.numpy(), wavelet, mode="periodization", level=2)
    expected = pywt.coeffs_to_array(nested)[0]
    # both add up some 2 x 10 x 3 products of order 1 in double precision
    assert np.allclose(Wavelet(shape, wavelet, 2, decimated=True)(x).numpy(), expected, atol=1e-13)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_undecimated_it_is_the_normalised_stationary_transform_of_pywavelets(wavelet):
    x = random(16, 32)
    approximation, *details = pywt.swt2(x.numpy(), wavelet, level=2, norm=True, trim_approx=True)
    # PyWavelets names its three details horizontal, vertical, diagonal; ours count low to high, last axis first
    expected = [approximation] + [
        band for horizontal, vertical, diagonal in details for band in (vertical, horizontal, diagonal)
    ]
    assert np.allclose(Wavelet((16, 32), wavelet, 2)(x).numpy(), np.stack(expected), atol=1e-13)


@pytest.mark.parametrize("decimated", [True, False])
@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize("shape", [(16,), (16, 24), (8, 16, 12)], ids=str)
def test_the_inverse_can_be_differentiated(shape, wavelet, decimated):
    """It is linear: the gradient of <w, W^+ y> in y is its adjoint at w, and W^+ = W^H."""
    operator, w = Wavelet(shape, wavelet, 2, decimated), random(2, *shape)
    y = random(2, *operator.range_shape, seed=1).requires_grad_()
    (gradient,) = torch.autograd.grad((w * operator.pinv(y)).sum(), y)
    assert torch.allclose(gradient, operator(w), atol=1e-13)  # as above


@given(shapes, st.sampled_from(WAVELETS), st.integers(1, 2), st.booleans(), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_frame_is_tight_for_images_of_any_size(shape, wavelet, levels, is_complex, seed):
    x = random(*shape, dtype=torch.complex128 if is_complex else torch.float64, seed=seed)
    operator = Wavelet(shape, wavelet, levels)
    # PyWavelets gives its coefficients to 1e-11
    assert torch.allclose(operator.adjoint(operator(x)), x, atol=1e-9)
    assert torch.allclose(operator(x).norm(), x.norm(), rtol=1e-9)


def test_the_frame_does_not_depend_on_where_the_image_begins():
    x, operator = random(12, 13), Wavelet((12, 13), "db4", 3)
    assert torch.allclose(operator(x.roll((3, 5), (0, 1))), operator(x).roll((3, 5), (1, 2)), atol=1e-12)


def test_a_constant_image_has_no_details():
    bands = Wavelet((9, 10), "db4", 3)(torch.ones(9, 10, dtype=torch.float64))
    assert float(bands[1:].abs().max()) < 1e-10
    assert torch.allclose(bands[0], torch.ones(9, 10, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"shape": (8, 8), "wavelet": "db44"}, "no wavelet 'db44'; did you mean"),
        ({"shape": (8, 8), "wavelet": "bior2.2"}, "not orthogonal"),
        ({"shape": (8, 8), "wavelet": "dmey"}, "not orthogonal"),
        ({"shape": (8, 8), "levels": 0}, "levels must be a whole number >= 1, got 0"),
        ({"shape": (8, 8), "levels": 4}, "levels=4 is too many for an image of \\(8, 8\\) pixels: at most 3"),
        ({"shape": (8, 12), "levels": 3, "decimated": True}, "divisible by 8, got \\(8, 12\\)"),
    ],
)
def test_what_is_no_transform_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Wavelet(**arguments)
