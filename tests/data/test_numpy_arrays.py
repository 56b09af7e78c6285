"""NumPy files against NumPy's own reading; objects are never unpickled."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from recon_data.samples import sample

from recon.loading import LoadError, load

GRID = np.arange(12, dtype=np.float32).reshape(3, 4)
NUMBERS = ("?", "i1", "u1", "<i2", ">i2", "u2", "i4", "f2", "f4", ">f4", "f8", "c8", ">c8", "c16", "g", "G")


@given(
    values=st.sampled_from([np.dtype(code) for code in NUMBERS]).flatmap(
        lambda dtype: arrays.arrays(
            dtype,
            arrays.array_shapes(min_dims=1, max_dims=4, max_side=5),
            elements=arrays.from_dtype(dtype, allow_nan=False) if dtype.char not in "gG" else st.just(1.5),
        )
    ),
    column_major=st.booleans(),
    archive=st.sampled_from([None, np.savez, np.savez_compressed]),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_numpy_writes_comes_back(tmp_path, values, column_major, archive):
    values = np.asarray(values, order="F" if column_major else "C")
    path = tmp_path / ("data.npz" if archive else "data.npy")
    if archive:
        archive(path, some_name=values)
    else:
        np.save(path, values)
    loaded = load(path)
    assert loaded.data.shape == values.shape
    np.testing.assert_array_equal(loaded.data.numpy(), values)
    assert loaded.data.is_complex() == np.iscomplexobj(values)
    assert loaded.data.is_contiguous()


def test_real_kspace_equals_numpys_reading():
    loaded = load(sample("kspace_brain_8_coils"))
    assert loaded.data.dtype == torch.complex64
    np.testing.assert_array_equal(
        loaded.data.numpy(), np.load(sample("kspace_brain_8_coils"), allow_pickle=False)
    )


def test_an_archive_of_several_arrays_needs_a_name(tmp_path):
    path = tmp_path / "scan.npz"
    np.savez(path, sinogram=GRID, angles=GRID[0], distance=410.66, note="fan beam")
    with pytest.raises(
        LoadError, match=r"which array\? the file has sinogram \(3, 4\) float32, angles \(4,\) float32; c"
    ):
        load(path)
    np.testing.assert_array_equal(load(path, array="angles").data.numpy(), GRID[0])
    with pytest.raises(LoadError, match=r"no array 'sino'; it has sinogram, angles, distance, note"):
        load(path, array="sino")
    with pytest.raises(LoadError, match=r"array 'note' holds <U8, not numbers"):
        load(path, array="note")
    # Only one of these is an array; numbers and texts beside it do not make a choice necessary.
    np.savez(path, sinogram=GRID, distance=410.66, note="fan beam")
    np.testing.assert_array_equal(load(path).data.numpy(), GRID)
    np.savez(path, distance=410.66)
    with pytest.raises(LoadError, match=r"which array\? the file has no arrays of numbers"):
        load(path)


class Trap:
    """Unpickling it creates a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("name", ["trap.npy", "trap.npz"])
def test_pickles_are_refused_and_never_run(tmp_path, name):
    sprung = tmp_path / "sprung"
    values = np.array([Trap(sprung)], dtype=object)
    if name.endswith("z"):
        np.savez(tmp_path / name, x=values)
    else:
        np.save(tmp_path / name, values, allow_pickle=True)
    with pytest.raises(LoadError, match="pickled Python objects, never loaded"):
        load(tmp_path / name, **({"array": "x"} if name.endswith("z") else {}))
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(LoadError, match="expected a NumPy array file"):
        load(tmp_path / "bare.npy")
    assert not sprung.exists()


def test_a_single_array_has_no_name(tmp_path):
    np.save(tmp_path / "x.npy", GRID)
    with pytest.raises(LoadError, match=r"holds a single array; array='x' is for \.npz files"):
        load(tmp_path / "x.npy", array="x")


def test_more_bytes_than_declared_are_an_error(tmp_path):
    # np.load would return the first of the two arrays and say nothing.
    with (tmp_path / "two.npy").open("wb") as file:
        np.save(file, GRID)
        np.save(file, GRID)
    with pytest.raises(
        LoadError, match=r"of shape \(3, 4\) and type float32 needs 48 bytes, the file holds 224"
    ):
        load(tmp_path / "two.npy")


def test_a_huge_declared_shape_takes_no_memory(tmp_path):
    np.save(tmp_path / "x.npy", GRID)
    content = (tmp_path / "x.npy").read_bytes()
    forged = content.replace(b"(3, 4), }" + b" " * 12, b"(3, 4000000000000), }")
    assert len(forged) == len(content)
    (tmp_path / "x.npy").write_bytes(forged)
    with pytest.raises(LoadError, match="needs 48000000000000 bytes, the file holds 48"):
        load(tmp_path / "x.npy")


def test_a_flipped_bit_in_an_archive_is_noticed(tmp_path):
    np.savez(tmp_path / "x.npz", x=GRID)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[content.index(GRID.tobytes()) + 5] ^= 1
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(LoadError, match="Bad CRC-32"):
        load(tmp_path / "x.npz")


@pytest.mark.parametrize("values", [np.zeros((0, 3)), np.array(["a"]), np.zeros(2, [("a", "f4")])])
def test_arrays_without_numbers_are_refused(tmp_path, values):
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(LoadError, match=r"is empty: shape \(0, 3\)|holds .*, not numbers"):
        load(tmp_path / "x.npy")
