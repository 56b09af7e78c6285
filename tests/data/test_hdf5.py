"""HDF5 files against h5py's own reading."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recon.loading import LoadError, load

GRID = np.arange(12, dtype=np.float32).reshape(3, 4)
NUMBERS = [
    np.dtype(t) for t in ("?", "i1", "u1", "<i2", ">i2", "u2", "i4", "f2", "f4", ">f4", "f8", "c8", "c16")
]


@given(
    values=st.sampled_from(NUMBERS).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=1, max_dims=4, max_side=5))
    ),
    chunked=st.booleans(),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_h5py_writes_comes_back(tmp_path, values, chunked):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        compression = {"chunks": values.shape, "compression": "gzip"} if chunked else {}
        file.create_dataset("group/image", data=values, **compression)
    loaded = load(path)
    assert loaded.data.shape == values.shape
    np.testing.assert_array_equal(loaded.data.numpy(), values)  # exact in every dtype: nothing is rounded
    assert loaded.data.is_complex() == np.iscomplexobj(values)


def test_data_exchange_needs_the_name_and_takes_the_unit(tmp_path):
    path = tmp_path / "tooth.h5"
    counts = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    with h5py.File(path, "w") as file:
        file["implements"] = "exchange"
        file.attrs["facility"] = np.bytes_("beamline")
        for name, values in (("data", counts), ("data_white", counts[:1]), ("theta", np.arange(2.0))):
            file[f"exchange/{name}"] = values
        file["exchange/data"].attrs["units"] = "counts"
        file["exchange/data"].attrs["range"] = [0, 23]
    loaded = load(path, dataset="exchange/data")
    np.testing.assert_array_equal(loaded.data.numpy(), counts)
    assert loaded.unit == "counts"
    assert loaded.attributes == {"facility": "beamline", "units": "counts", "range": (0, 23)}
    with pytest.raises(
        LoadError, match=r"which dataset\? the file has exchange/data \(2, 3, 4\) float32, exchange/d"
    ):
        load(path)
    with pytest.raises(LoadError, match=r"no dataset 'exchange'; the file has exchange/data"):
        load(path, dataset="exchange")
    with pytest.raises(LoadError, match="dataset '/implements' holds text, not numbers"):
        load(path, dataset="implements")


def test_fastmri_layout_keeps_complex64(tmp_path):
    path = tmp_path / "brain.h5"
    kspace = (GRID + 1j * GRID[::-1]).astype(np.complex64)
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        file["reconstruction_rss"] = GRID
        file["ismrmrd_header"] = "<header/>"
    loaded = load(path, dataset="kspace")
    assert loaded.data.dtype == torch.complex64
    np.testing.assert_array_equal(loaded.data.numpy(), kspace)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([2**24], np.int32), torch.float32),
        (np.array([2**24 + 1], np.int32), torch.float64),
        (np.array([-(2**24) - 1], np.int64), torch.float64),
        (np.array([2**63], np.uint64), torch.float64),
        (np.array([65535], np.uint16), torch.float32),
    ],
)
def test_integers_take_float32_unless_it_would_round_them(tmp_path, values, dtype):
    path = tmp_path / "integers.h5"
    with h5py.File(path, "w") as file:
        file["x"] = values
    loaded = load(path)
    assert loaded.data.dtype == dtype
    assert loaded.data.item() == int(values[0])


def test_virtual_and_external_datasets_are_read(tmp_path):
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["x"] = GRID
    layout = h5py.VirtualLayout(GRID.shape, "f4")
    layout[:] = h5py.VirtualSource(tmp_path / "source.h5", "x", GRID.shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    np.testing.assert_array_equal(load(tmp_path / "virtual.h5").data.numpy(), GRID)
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset(
            "x", GRID.shape, "f4", external=[(str(tmp_path / "raw"), 0, GRID.nbytes)], data=GRID
        )
    np.testing.assert_array_equal(load(tmp_path / "external.h5").data.numpy(), GRID)


def test_a_dataset_that_was_never_written_is_no_data(tmp_path):
    # What an interrupted acquisition leaves: h5py itself would return zeros.
    path = tmp_path / "planned.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", (8, 64, 64), np.complex64)
        file.create_dataset("chunked", (8, 64, 64), np.complex64, chunks=(1, 64, 64))
    for name in ("kspace", "chunked"):
        with pytest.raises(
            LoadError, match=r"declares 262144 bytes .* holds 0 for it: never written, or damaged"
        ):
            load(path, dataset=name)


@pytest.mark.parametrize("values", [np.zeros((0, 3)), np.zeros(2, [("a", "f4"), ("b", "i4")]), "text"])
def test_datasets_without_numbers_are_refused(tmp_path, values):
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["x"] = values
    with pytest.raises(LoadError, match=r"is empty: shape|holds .*, not numbers"):
        load(path, dataset="x")


def test_a_file_without_arrays_says_so(tmp_path):
    path = tmp_path / "scalars.h5"
    with h5py.File(path, "w") as file:
        file["number"] = 3.0
    with pytest.raises(LoadError, match=r"which dataset\? the file has no arrays of numbers"):
        load(path)
    assert load(path, dataset="number").data.item() == 3


def test_a_damaged_text_heap_is_refused_instead_of_read_for_ever(tmp_path):
    path = tmp_path / "heap.h5"
    with h5py.File(path, "w") as file:
        file["x"] = GRID
        file["x"].attrs["units"] = "counts"
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    free_space = content.index(bytes(8) + (4096 - 40).to_bytes(8, "little"), heap)
    content[free_space + 9] ^= 8  # its size: now it ends early, among zeros, which libhdf5 follows endlessly
    path.write_bytes(content)
    with pytest.raises(LoadError, match="damaged at byte"):
        load(path)


def test_attributes_that_are_no_plain_values_are_left_out(tmp_path):
    path = tmp_path / "scales.h5"
    with h5py.File(path, "w") as file:
        file["x"] = GRID
        file["x"].attrs["axis"] = file["x"].ref
        file["x"].attrs["names"] = np.array(["rows", "columns"], dtype=h5py.string_dtype())
        file["x"].attrs["units"] = 3
    loaded = load(path)
    assert loaded.attributes == {"names": ("rows", "columns"), "units": 3}
    assert loaded.unit == ""
