"""Values packed into a page are those of the image, to half a step."""

import base64
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.report.values import PackedValues, bits_for, pack


def unpacked(packed: PackedValues) -> npt.NDArray[np.float64]:
    """Written from the description of `PackedValues`; the page's script is tested in the browser."""
    content = np.frombuffer(zlib.decompress(base64.b64decode(packed.packed)), dtype=np.uint8).astype(int)
    high, low = content.reshape(2, *packed.shape)
    folded = 256 * high + low
    change = np.where(folded % 2, -(folded + 1) // 2, folded // 2)
    return packed.low + packed.step * (np.cumsum(change, axis=1) % 65536)


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    bits=st.sampled_from([12, 14, 16]),
    scale=st.sampled_from([1e-12, 1e-3, 1.0, 4096.0]),
    offset=st.sampled_from([0.0, -1024.0, 1e6]),
    seed=st.integers(0, 99),
)
def test_values_come_back_to_half_a_step(
    shape: tuple[int, int], bits: int, scale: float, offset: float, seed: int
):
    values = offset + scale * np.random.default_rng(seed).normal(size=shape)
    packed = pack(values, bits)
    rounding = 4 * np.finfo(float).eps * abs(values).max()
    assert np.abs(unpacked(packed) - values).max() <= packed.step * 0.5001 + rounding
    assert packed.step * (2**bits - 1) == pytest.approx(np.ptp(values)) or np.ptp(values) == 0


def test_jumps_over_the_whole_range_come_back():
    values = np.array([[0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0]])
    np.testing.assert_allclose(unpacked(pack(values, 16)), values, atol=1e-5)  # half a step of 2^-16


def test_a_constant_image_comes_back_exactly():
    np.testing.assert_array_equal(unpacked(pack(np.full((3, 4), 0.1), 16)), np.full((3, 4), 0.1))


def test_more_pixels_get_fewer_bits():
    assert [bits_for(pixels) for pixels in (3 * 256**2, 3 * 512**2, 16 * 512**2, 64 * 512**2)] == [
        16,
        14,
        12,
        0,
    ]
