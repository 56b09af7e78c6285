"""MATLAB files of versions 4, 5 to 7, and 7.3 against SciPy's reading and the values written."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from recon_data.samples import sample

from recon.loading import LoadError, load

GRID = np.arange(12, dtype=np.float64).reshape(3, 4)
CLASSES = {
    "float64": "double",
    "float32": "single",
    "complex128": "double",
    "complex64": "single",
    "bool": "logical",
    **{name: name for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")},
}
matrices = st.sampled_from(sorted(CLASSES)).flatmap(
    lambda code: arrays.arrays(np.dtype(code), arrays.array_shapes(min_dims=2, max_dims=4, max_side=5))
)


@given(values=matrices, compressed=st.booleans())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_version_5_comes_back_as_scipy_wrote_and_reads_it(tmp_path, values, compressed):
    path = tmp_path / "data.mat"
    scipy.io.savemat(path, {"some_name": values}, do_compression=compressed)
    loaded = load(path)
    np.testing.assert_array_equal(loaded.data.numpy(), values)
    np.testing.assert_array_equal(loaded.data.numpy(), scipy.io.loadmat(path)["some_name"])
    assert loaded.attributes["variable"] == "some_name"
    if values.dtype.kind in "fc":
        assert loaded.data.numpy().dtype == values.dtype


@given(values=matrices)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_version_73_comes_back_in_matlabs_axes(tmp_path, matlab_73, values):
    write, put = matlab_73
    path = write(tmp_path / "data.mat", lambda file: put(file, "x", values, CLASSES[values.dtype.name]))
    loaded = load(path)
    np.testing.assert_array_equal(loaded.data.numpy(), values)
    if values.dtype.kind in "fc":
        assert loaded.data.numpy().dtype == values.dtype


@pytest.mark.parametrize("values", [GRID, GRID.astype(np.int16), GRID + 1j])
def test_version_4_comes_back(tmp_path, values):
    path = tmp_path / "old.mat"
    scipy.io.savemat(path, {"x": values}, format="4")
    np.testing.assert_array_equal(load(path).data.numpy(), values)


def test_a_double_stays_float64_however_matlab_packs_it(tmp_path):
    # MATLAB stores a double that holds small integers in one byte each: type 2 in place of 9.
    path = tmp_path / "packed.mat"
    scipy.io.savemat(path, {"x": np.full((1, 8), 7.0)})
    content = path.read_bytes()
    values = np.full(8, 7.0).tobytes()
    packed = content.replace(b"\x09\0\0\0\x40\0\0\0" + values, b"\x02\0\0\0\x08\0\0\0" + b"\x07" * 8)
    size = int.from_bytes(packed[132:136], "little") - 56
    packed = packed[:132] + size.to_bytes(4, "little") + packed[136:]
    path.write_bytes(packed)
    assert scipy.io.loadmat(path)["x"].dtype == np.uint8
    loaded = load(path)
    assert loaded.data.dtype == torch.float64
    assert loaded.data.tolist() == [[7.0] * 8]


def test_big_endian_files_are_read():
    # A version 5 file of a big-endian machine, made by hand: x = [1 2] as int16.
    def element(kind: int, payload: bytes) -> bytes:
        tag = kind.to_bytes(4, "big") + len(payload).to_bytes(4, "big")
        return tag + payload + bytes(-len(payload) % 8)

    matrix = (
        element(6, (10).to_bytes(4, "big") + bytes(4))
        + element(5, (1).to_bytes(4, "big") + (2).to_bytes(4, "big"))
        + element(1, b"x")
        + element(3, (1).to_bytes(2, "big") + (2).to_bytes(2, "big"))
    )
    content = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI" + element(14, matrix)
    from recon_data.mat5 import variables

    assert variables(content)["x"].values().tolist() == [[1, 2]]


def test_real_kspace_equals_scipys_reading_and_keeps_its_imaginary_part():
    loaded = load(sample("kspace_brain"))
    expected = scipy.io.loadmat(sample("kspace_brain"))["data"]
    assert loaded.data.dtype == torch.complex128
    np.testing.assert_array_equal(loaded.data.numpy(), expected)
    assert loaded.data.imag.abs().max() > 0


def test_several_variables_need_a_name(tmp_path):
    path = tmp_path / "two.mat"
    scipy.io.savemat(path, {"mask": GRID > 3, "image": GRID, "note": "hello"})
    with pytest.raises(
        LoadError, match=r"which variable\? the file has mask \(logical \(3, 4\)\), image \(double"
    ):
        load(path)
    with pytest.raises(LoadError, match=r"no variable 'imge'; the file has mask .*, image .*, note \(char"):
        load(path, variable="imge")
    with pytest.raises(
        LoadError, match=r"'note' is a char \(1,\), not an array of numbers|'note' is a char \(1, 5\)"
    ):
        load(path, variable="note")
    np.testing.assert_array_equal(load(path, variable="mask").data.numpy(), GRID > 3)


@pytest.mark.parametrize("compressed", [False, True])
def test_structs_are_listed_and_their_fields_can_be_named(tmp_path, compressed):
    path = tmp_path / "scan.mat"
    scan = {"type": "2D", "sinogram": GRID, "parameters": {"angles": GRID[0], "distance": 410.66}}
    scipy.io.savemat(path, {"CtData": scan}, do_compression=compressed)
    with pytest.raises(
        LoadError, match=r"CtData \(struct \(1, 1\)\), CtData.sinogram \(double \(3, 4\)\), CtData.par"
    ):
        load(path)
    with pytest.raises(LoadError, match="'CtData' is a struct"):
        load(path, variable="CtData")
    np.testing.assert_array_equal(load(path, variable="CtData.sinogram").data.numpy(), GRID)
    np.testing.assert_array_equal(load(path, variable="CtData.parameters.angles").data.numpy(), GRID[:1])
    with pytest.raises(LoadError, match=r"no variable 'CtData.sino'"):
        load(path, variable="CtData.sino")


def test_structs_of_version_73(tmp_path, matlab_73):
    write, put = matlab_73

    def fill(file):
        scan = file.create_group("scan")
        scan.attrs["MATLAB_class"] = np.bytes_("struct")
        put(scan, "sinogram", GRID, "double")
        put(scan, "distance", np.array([[410.66]]), "double")
        sparse = file.create_group("matrix")
        sparse.attrs["MATLAB_class"] = np.bytes_("double")
        sparse.attrs["MATLAB_sparse"] = np.uint64(3)
        put(sparse, "data", GRID[0], "double")
        file["note"] = np.array([[104, 105]], np.uint16)
        file["note"].attrs["MATLAB_class"] = np.bytes_("char")
        file["#refs#/a"] = GRID

    path = write(tmp_path / "scan.mat", fill)
    with pytest.raises(LoadError, match=r"which variable\?") as error:
        load(path)
    assert "scan.sinogram (double (3, 4))" in str(error.value)
    assert "matrix (sparse double)" in str(error.value)
    assert "distance" not in str(error.value)
    assert "#refs#" not in str(error.value)
    np.testing.assert_array_equal(load(path, variable="scan.sinogram").data.numpy(), GRID)
    with pytest.raises(LoadError, match="'note' is a char, not an array"):
        load(path, variable="note")


def test_cells_sparse_matrices_and_texts_are_named_not_read(tmp_path):
    path = tmp_path / "others.mat"
    cell = np.empty((1, 2), object)
    cell[0, 0], cell[0, 1] = GRID, "x"
    contents = {"c": cell, "s": scipy.sparse.csc_matrix(GRID), "t": "text"}
    scipy.io.savemat(path, contents)
    with pytest.raises(
        LoadError, match=r"c \(cell \(1, 2\)\), s \(sparse \(3, 4\)\), t \(char .*no array of numbers"
    ):
        load(path)
    # Beside one array they do not matter.
    scipy.io.savemat(path, contents | {"image": GRID})
    np.testing.assert_array_equal(load(path).data.numpy(), GRID)


def test_plain_hdf5_named_mat_is_told_apart_from_matlabs(tmp_path):
    import h5py

    path = tmp_path / "plain.mat"
    with h5py.File(path, "w") as file:
        file["x"] = GRID
    with pytest.raises(
        LoadError, match=r"expected a MATLAB 5 file or a MATLAB 7.3 file, found an HDF5 file.*reader="
    ):
        load(path)
    np.testing.assert_array_equal(load(path, reader="hdf5").data.numpy(), GRID)
