"""recon.load: which reader reads what, what `Loaded` promises, and how it fails."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from recon_data.samples import sample

from recon import registry
from recon.entries import ReaderEntry
from recon.hookspecs import hookimpl
from recon.loading import Loaded, LoadError, describe, load, reading, to_tensor

GRID = np.arange(12, dtype=np.float32).reshape(3, 4)


def read_acme(path: Path) -> Loaded:
    """A third party's reader."""
    with reading(path, "text"):
        return Loaded(data=torch.tensor(float(path.read_text())), source=str(path))


class AcmePlugin:
    """A third party's plugin: a format of its own and a claim on a suffix that others read too."""

    @hookimpl
    def recon_readers(self) -> list[ReaderEntry]:
        return [
            ReaderEntry(
                name="acme", factory=f"{__name__}:read_acme", summary="Acme", suffixes=(".tar.acme", ".npy")
            )
        ]


@pytest.fixture
def with_acme():
    from importlib.metadata import entry_points

    installed = [point for point in entry_points(group="recon") if point.name == "data"]
    with registry.using(registry.Registry(installed)) as in_use:
        in_use.add(AcmePlugin(), name="acme:readers")
        yield


# Choosing the reader


def test_the_suffix_chooses_the_reader_in_any_case(tmp_path):
    Image.fromarray(np.full((2, 2), 255, np.uint8)).save(tmp_path / "PICTURE.PNG")
    assert load(tmp_path / "PICTURE.PNG").data.tolist() == [[1, 1], [1, 1]]


def test_a_text_is_a_path_as_good_as_any():
    assert load(str(sample("camera"))).data.shape == (512, 512)


def test_a_third_partys_reader_reads_its_suffix(tmp_path, with_acme):
    (tmp_path / "scan.tar.acme").write_text("3.5")
    assert load(tmp_path / "scan.tar.acme").data.item() == 3.5


def test_a_suffix_of_two_readers_asks_which(tmp_path, with_acme):
    np.save(tmp_path / "x.npy", GRID)
    with pytest.raises(
        LoadError, match=r"several readers take this suffix: acme/acme, recon/numpy; .*reader=NAME"
    ):
        load(tmp_path / "x.npy")
    np.testing.assert_array_equal(load(tmp_path / "x.npy", reader="recon/numpy").data.numpy(), GRID)


def test_an_unknown_suffix_says_what_the_file_holds_and_a_name_reads_it(tmp_path):
    path = tmp_path / "IM000001"
    path.write_bytes(sample("ct_chest").read_bytes())
    with pytest.raises(
        LoadError, match=r"no reader for the suffix '' \(the file holds a DICOM file\); known are \.dcm,"
    ):
        load(path)
    assert torch.equal(load(path, reader="dicom").data, load(sample("ct_chest")).data)


def test_an_unknown_reader_or_option_gets_close_matches(tmp_path):
    with pytest.raises(LookupError, match="did you mean 'dicom'"):
        load(sample("ct_chest"), reader="dicm")
    np.savez(tmp_path / "x.npz", a=GRID, b=GRID)
    with pytest.raises(TypeError, match="no parameter 'arrray'; did you mean 'array'"):
        load(tmp_path / "x.npz", arrray="a")


# Nothing to load


def test_a_missing_file_names_a_similar_one(tmp_path):
    np.save(tmp_path / "sinogram.npy", GRID)
    with pytest.raises(
        FileNotFoundError, match=r"sinogam\.npy: no such file; did you mean 'sinogram\.npy'\?"
    ):
        load(tmp_path / "sinogam.npy")
    with pytest.raises(FileNotFoundError, match=r"no such file; its folder .*nowhere cannot be read"):
        load(tmp_path / "nowhere" / "x.npy")


def test_a_directory_is_no_file(tmp_path):
    (tmp_path / "slices.dcm").mkdir()
    with pytest.raises(
        IsADirectoryError, match=r"slices\.dcm: is a directory, and none of its files is a slice"
    ):
        load(tmp_path / "slices.dcm")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(OSError, match=r"pipe\.npy: is not a regular file"):
        load(tmp_path / "pipe.npy")


@pytest.mark.parametrize("suffix", [".dcm", ".h5", ".mat", ".npy", ".npz", ".png", ".jpg", ".tif"])
def test_an_empty_file_says_so(tmp_path, suffix):
    path = tmp_path / f"empty{suffix}"
    path.touch()
    with pytest.raises(LoadError, match=r"empty\.\w+: is empty \(0 bytes\)"):
        load(path)


def test_paths_that_the_system_refuses(tmp_path):
    (tmp_path / "loop.npy").symlink_to(tmp_path / "loop.npy")
    with pytest.raises(OSError, match=r"loop\.npy: cannot be read: Too many levels of symbolic links"):
        load(tmp_path / "loop.npy")
    with pytest.raises(OSError, match="cannot be read: File name too long"):
        load(tmp_path / ("x" * 300 + ".npy"))
    with pytest.raises(NotADirectoryError, match="cannot be read: Not a directory"):
        load(sample("camera") / "x.npy")
    with pytest.raises(ValueError, match="null"):
        load("x\0.npy")


def test_a_file_without_permission_says_so(tmp_path):
    path = tmp_path / "secret.npy"
    np.save(path, GRID)
    path.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:  # root may read everything: be nobody for a moment
            os.seteuid(65534)
        with pytest.raises(PermissionError, match=r"secret\.npy: cannot be read: Permission denied"):
            load(path)
    finally:
        if root:
            os.seteuid(0)


# Content of another kind


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0" * 300, "nothing but zero bytes"),
        (b"<!DOCTYPE html><p>Not found \xc3\xa9</p>", "text"),
        ("\u00e9".encode() * 400, "text"),
        (b"%PDF-1.7 \xff", "a PDF document"),
        (b"\x00\x01\x02\x03", "unknown content"),
        (bytes(range(256)), "unknown content"),
        (b"\x1f\x8b\x08", "a gzip file"),
    ],
)
@pytest.mark.parametrize("suffix", [".dcm", ".h5", ".mat", ".npy", ".npz", ".png", ".jpg", ".tif"])
def test_content_that_does_not_match_the_suffix_is_named(tmp_path, suffix, content, words):
    assert describe(content[:512]) == words
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=rf"file\.\w+: expected an? [A-Z].*, found {words}"):
        load(path)


@pytest.mark.parametrize("name", ["ct_chest", "kspace_brain", "kspace_brain_8_coils", "camera"])
@pytest.mark.parametrize("suffix", [".dcm", ".h5", ".mat", ".npy", ".npz", ".png", ".jpg", ".tif"])
def test_a_real_file_under_a_wrong_suffix_is_recognised(tmp_path, name, suffix):
    right = {".npy": {".npy", ".npz"}}.get(sample(name).suffix, {sample(name).suffix})
    path = tmp_path / f"renamed{suffix}"
    path.write_bytes(sample(name).read_bytes())
    if suffix in right:
        assert torch.equal(load(path).data, load(sample(name)).data)
    else:
        with pytest.raises(
            LoadError, match=r"expected an? .*, found an? \w+.*choose the reader with reader=NAME"
        ):
            load(path)


def test_an_error_is_one_printable_line():
    error = LoadError("variable 'a\nb\x00\u202e" + "x" * 5000 + "' is damaged")
    assert str(error).startswith("variable 'a b??x")
    assert len(str(error)) == 1000
    assert str(error).isprintable()


@pytest.mark.parametrize(
    "failure", [KeyError("x"), RecursionError(), MemoryError(), SyntaxError("bad"), OSError("cut")]
)
def test_reading_turns_every_parsers_failure_into_one_error(tmp_path, failure):
    path = tmp_path / "x.txt"
    path.write_text("hello")
    message = r"x\.txt: cannot read text: it is truncated, damaged or of an unsupported kind \(.+\)"
    with pytest.raises(LoadError, match=message) as caught, reading(path, "text"):
        raise failure
    assert caught.value.__cause__ is failure


def test_reading_keeps_remarks_and_stops_at_warnings_about_values(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("hello")
    with reading(path, "text") as remarks:
        warnings.warn("odd but harmless", UserWarning, stacklevel=1)
        warnings.warn("odd but harmless", UserWarning, stacklevel=1)
    assert remarks == ["odd but harmless"]
    with pytest.raises(LoadError, match="discards the imaginary part"), reading(path, "text"):
        np.array([1j]).astype(float)


# What comes back


def chest(values, valid=None, unit="HU"):
    return Loaded(
        data=torch.tensor(values), unit=unit, valid=None if valid is None else torch.tensor(valid), source="s"
    )


def test_attenuation_inverts_the_hounsfield_scale():
    mu = chest([-3024.0, -1000.0, -1010.0, 0.0, 1000.0], [False, True, True, True, True]).attenuation(
        water=0.0192
    )
    torch.testing.assert_close(mu, torch.tensor([0, 0, 0, 0.0192, 0.0384]), rtol=1e-6, atol=1e-9)
    # LoDoPaB's convention, in 1/m there: mu = HU * 19.98 / 1000 + 20
    mu = chest([-500.0, 250.0]).attenuation(water=0.02, air=0.00002)
    torch.testing.assert_close(mu, torch.tensor([-500.0, 250.0]) * 0.01998e-3 + 0.02, rtol=1e-6, atol=0)


@given(
    hounsfield=st.floats(-900, 4000),
    water=st.floats(0.015, 0.03),
    air=st.floats(0, 1e-4),
)
@settings(max_examples=50, deadline=None)
def test_attenuation_round_trip(hounsfield, water, air):
    image = Loaded(data=torch.tensor(hounsfield, dtype=torch.float64), unit="HU")
    mu = image.attenuation(water=water, air=air).item()
    assert 1000 * (mu - water) / (water - air) == pytest.approx(hounsfield, rel=1e-9, abs=1e-9)


def test_attenuation_of_a_real_slice():
    image = load(sample("ct_chest"))
    mu = image.attenuation()
    expected = np.clip(0.02 * (1 + image.data.double().numpy() / 1000), 0, None) * image.valid.numpy()
    np.testing.assert_allclose(mu.numpy(), expected, rtol=1e-5, atol=1e-8)  # float32 against float64
    assert mu.dtype == torch.float32
    assert mu.min() == 0
    assert mu.max() < 0.09
    assert (mu[~image.valid] == 0).all()


@pytest.mark.parametrize("unit", ["", "1/mm", "counts"])
def test_attenuation_of_anything_but_hounsfield_units_is_refused(unit):
    with pytest.raises(
        ValueError, match=rf"attenuation\(\) converts Hounsfield units, but s has unit '{unit}'"
    ):
        chest([1.0], unit=unit).attenuation()


@pytest.mark.parametrize(
    ("water", "air"), [(0, 0), (-0.02, 0), (0.02, 0.02), (0.02, -1), (float("nan"), 0), (20, 30)]
)
def test_attenuation_of_impossible_materials_is_refused(water, air):
    with pytest.raises(ValueError, match="need 0 <= air < water, both in one unit; got air="):
        chest([1.0]).attenuation(water, air)


def test_loaded_checks_its_mask_and_shows_itself_in_one_line():
    with pytest.raises(
        ValueError, match=r"valid must be a bool tensor of the shape of data \(2,\), got torch.float32"
    ):
        chest([1.0, 2.0], [1.0, 0.0])
    assert repr(chest([1.0, 2.0], [True, False])) == (
        "Loaded(shape=(2,), dtype=float32, unit='HU', padding=1 pixels, source='s')"
    )


def test_to_tensor_refuses_what_is_no_number():
    for values in (
        np.array(["a"]),
        np.array([object()]),
        np.array(["2020-01-01"], "M8[D]"),
        np.zeros(1, [("a", "f4")]),
    ):
        with pytest.raises(LoadError, match=r"x holds .*, not numbers"):
            to_tensor(values, "x")
