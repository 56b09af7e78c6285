"""The diagnosis names the mistake that was planted, whatever the matrix and the shapes."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.testing import describe_adjoint

SIDES = st.lists(st.integers(2, 5), min_size=1, max_size=3)


@st.composite
def matrices(draw, complex_=None):
    """A generic matrix A with its shapes: no symmetry by which one mistake would look like another."""
    domain, range_ = tuple(draw(SIDES)), tuple(draw(SIDES))
    size = (math.prod(range_), math.prod(domain))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    is_complex = draw(st.booleans()) if complex_ is None else complex_
    dtype = torch.complex128 if is_complex else torch.float64
    return torch.randn(size, generator=generator, dtype=dtype), domain, range_


def moved(A, domain, range_, change_image=None, change_data=None):
    """The matrix of y -> change_image(A^H change_data(y)), column by column."""
    columns = []
    for unit in torch.eye(A.shape[0], dtype=A.dtype):
        data = unit.reshape(range_)
        data = data if change_data is None else change_data(data)
        image = (A.mH @ data.reshape(-1)).reshape(domain)
        columns.append((image if change_image is None else change_image(image)).reshape(-1))
    return torch.stack(columns, 1)


@given(matrices(complex_=True))
@settings(max_examples=40, deadline=None)
def test_a_missing_conjugate_is_named(case):
    A, domain, range_ = case
    assert describe_adjoint(A, A.T, domain, range_) == "B equals A^T, not A^H: the conjugate is missing."


@given(matrices(), st.floats(1e-3, 1e3).filter(lambda c: abs(c - 1) > 1e-3))
@settings(max_examples=40, deadline=None)
def test_a_scale_factor_is_named(case, factor):
    A, domain, range_ = case
    said = describe_adjoint(A, factor * A.mH, domain, range_)
    named = re.match(r"B equals (\S+) A\^H: a scale factor", said)
    assert named, said
    assert float(named[1]) == pytest.approx(factor, rel=1e-5)  # six digits are printed


@given(matrices(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_flipped_image_axis_is_named(case, data):
    A, domain, range_ = case
    axis = data.draw(st.integers(0, len(domain) - 1))
    said = describe_adjoint(A, moved(A, domain, range_, lambda x: x.flip(axis)), domain, range_)
    assert said == f"B equals A^H but for the image, which the adjoint gives flipped along image axis {axis}."


@given(matrices(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_flipped_data_axis_is_named(case, data):
    A, domain, range_ = case
    axis = data.draw(st.integers(0, len(range_) - 1))
    B = moved(A, domain, range_, change_data=lambda y: y.flip(axis))
    said = describe_adjoint(A, B, domain, range_)
    assert said == f"B equals A^H but for the data, which the adjoint takes flipped along data axis {axis}."


@given(matrices(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_roll_is_named_with_its_direction(case, data):
    A, domain, range_ = case
    of_image = data.draw(st.booleans())
    shape = domain if of_image else range_
    axis = data.draw(st.integers(0, len(shape) - 1))
    side = shape[axis]
    if side == 2:
        return  # a roll by one of two is a flip, and is called so
    shift = data.draw(st.integers(1, side // 2)) * (
        1 if side % 2 == 0 else data.draw(st.sampled_from([1, -1]))
    )
    if side % 2 == 0 and shift < side // 2:
        shift *= data.draw(st.sampled_from([1, -1]))

    def roll(x):
        return x.roll(shift, axis)

    B = moved(A, domain, range_, roll if of_image else None, None if of_image else roll)
    said = describe_adjoint(A, B, domain, range_)
    side_word = "image, which the adjoint gives" if of_image else "data, which the adjoint takes"
    name = "image" if of_image else "data"
    assert said == f"B equals A^H but for the {side_word} rolled by {shift:+d} along {name} axis {axis}."


@pytest.mark.parametrize("shift", [1, -1])
@pytest.mark.parametrize("of_image", [True, False])
def test_a_shift_that_lets_zeros_in_is_named(shift, of_image):
    A = torch.randn(12, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def shifted(x):
        result = torch.zeros_like(x)
        if shift > 0:
            result[:, 1:] = x[:, :-1]
        else:
            result[:, :-1] = x[:, 1:]
        return result

    B = moved(A, (4, 5), (3, 4), shifted if of_image else None, None if of_image else shifted)
    said = describe_adjoint(A, B, (4, 5), (3, 4))
    name = "image" if of_image else "data"
    assert said.endswith(f"shifted by {shift:+d} along {name} axis 1.")


def test_two_mistakes_at_once_are_named():
    A = torch.randn(12, 20, generator=torch.Generator().manual_seed(1), dtype=torch.complex128)
    B = moved(A, (4, 5), (3, 4), lambda x: 0.5 * x.roll(2, 1)).conj()
    assert describe_adjoint(A, B, (4, 5), (3, 4)) == (
        "B equals A^H but for the image, which the adjoint gives rolled by +2 along image axis 1, and the conjugate "
        "is missing, times 0.5."
    )


def test_swapped_axes_are_named():
    A = torch.randn(12, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    B = moved(A, (3, 3), (12,), lambda x: x.T)
    assert "with image axes 0 and 1 swapped" in describe_adjoint(A, B, (3, 3), (12,))


@given(matrices(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_weighting_in_one_direction_is_named(case, of_image):
    A, domain, range_ = case
    size = A.shape[1] if of_image else A.shape[0]
    weights = torch.linspace(0.5, 2.0, size, dtype=torch.float64).to(A.dtype)
    B = weights[:, None] * A.mH if of_image else A.mH * weights
    said = describe_adjoint(A, B, domain, range_)
    product, name = ("B = D A^H", "pixel") if of_image else ("B = A^H D", "datum")
    assert said.startswith(f"{product} with a factor of its own for every {name}, from 0.5 to 2:")


def test_fft_normalisation_is_recognised():
    n = 12
    A = torch.fft.fft(torch.eye(n, dtype=torch.complex128), norm="ortho")
    assert "one over the root of the number of pixels" in describe_adjoint(A, A.mH / n**0.5, (n,), (n,))
    assert "(the number of pixels: is there an FFT" in describe_adjoint(A, A.mH * n, (n,), (n,))


def test_sign_repetition_inverse_zero_and_nan_are_named():
    A = torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert describe_adjoint(A, -A.T, (2, 3), (6,)) == "B equals -A^H: the sign is wrong."
    assert "B equals A itself" in describe_adjoint(A, A, (2, 3), (6,))
    assert "B A is the identity" in describe_adjoint(A, torch.linalg.inv(A), (2, 3), (6,))
    assert describe_adjoint(A, 0 * A, (2, 3), (6,)) == "B is zero: the adjoint gives nothing."
    broken = A.T.clone()
    broken[0, 0] = torch.nan
    assert describe_adjoint(A, broken, (2, 3), (6,)) == "1 of the 36 entries of B are NaN or infinite."
    assert "relative error of" in describe_adjoint(A, A.T + 1e-6 * torch.ones(6, 6), (2, 3), (6,))


def test_a_wrong_boundary_is_located():
    n = 6
    A = torch.eye(n, dtype=torch.float64) - torch.eye(n, dtype=torch.float64).roll(
        1, 1
    )  # periodic differences
    B = A.T.clone()
    B[0, -1] = 0  # the wrap-around is forgotten
    said = describe_adjoint(A, B, (n,), (n,))
    assert "they differ in 1 of 6 pixels, all on the border of image axis 0" in said
    assert "at pixel (0,), datum (5,): B has 0, A^H has -1" in said


@given(matrices())
@settings(max_examples=40, deadline=None)
def test_an_unrelated_matrix_is_not_explained_away(case):
    A, domain, range_ = case
    if A.numel() < 24:
        return  # of a few numbers, some relation holds by chance
    B = torch.randn(A.mH.shape, generator=torch.Generator().manual_seed(77), dtype=A.dtype)
    assert describe_adjoint(A, B, domain, range_).startswith("B has no simple relation to A^H")


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError, match=r"A must be \(6, 4\) and B \(4, 6\) for images \(2, 2\) and data \(6,\), got"
    ):
        describe_adjoint(torch.eye(4), torch.eye(4), (2, 2), (6,))
