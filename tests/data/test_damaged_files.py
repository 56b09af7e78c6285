"""Truncated and bit-flipped copies of real files load or raise the documented errors; nothing is written."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
import scipy.io
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mri_files import readout, write_fastmri, write_ismrmrd
from PIL import Image
from pydicom.uid import JPEG2000Lossless, RLELossless
from recon_data.samples import sample, samples

from recon.loading import Loaded, LoadError, LoadWarning, load

IMAGE = np.linspace(0, 255, 480).reshape(20, 24)


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("exchange/data", data=IMAGE, chunks=(5, 24), compression="gzip")
        file["exchange/data"].attrs["units"] = "counts"


def write_hdf5_contiguous(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file["kspace"] = IMAGE + 1j


def write_nifti(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(IMAGE.reshape(4, 5, 24).astype(np.int16), np.eye(4)), path)


def write_readouts(path: Path) -> None:
    write_ismrmrd(path, [readout(np.ones((2, 16)) * (y + 1j), kspace_encode_step_1=y) for y in range(10)])


def write_compressed(path: Path) -> None:
    dataset = pydicom.dcmread(sample("ct_chest"))
    dataset.compress(JPEG2000Lossless if "2000" in path.name else RLELossless)
    dataset.save_as(path)


WRITERS = {
    "volume.nii": write_nifti,
    "volume.nii.gz": write_nifti,
    "scan.mrd": write_readouts,
    "fastmri.h5": lambda path: write_fastmri(path, IMAGE.reshape(2, 10, 24), IMAGE.reshape(2, 10, 24)),
    "stack.tif": lambda path: tifffile.imwrite(
        path, IMAGE.reshape(4, 5, 24).astype(np.float32), imagej=True, metadata={"unit": "mm", "spacing": 2.0}
    ),
    "deflated.tif": lambda path: tifffile.imwrite(path, IMAGE.astype(np.uint16), compression="zlib"),
    "jpeg2000.dcm": write_compressed,
    "rle.dcm": write_compressed,
    "hdf5.h5": write_hdf5,
    "latest.h5": write_hdf5_contiguous,
    "plain.mat": lambda path: scipy.io.savemat(path, {"x": IMAGE, "note": "hello"}),
    "struct.mat": lambda path: scipy.io.savemat(path, {"s": {"x": IMAGE, "y": "z"}}, do_compression=True),
    "version4.mat": lambda path: scipy.io.savemat(path, {"x": IMAGE}, format="4"),
    "archive.npz": lambda path: np.savez_compressed(path, x=IMAGE),
    "photo.jpg": lambda path: Image.fromarray(IMAGE.astype(np.uint8)).save(path),
    "deep.png": lambda path: Image.fromarray((IMAGE * 257).astype(np.uint16)).save(path),
    "strips.tif": lambda path: Image.fromarray(IMAGE.astype(np.uint8)).save(path),
}
FILES = (*samples(), *WRITERS)
# What a suffix alone does not choose.
READERS = {"fastmri.h5": "fastmri", "stack.tif": "tiff", "deflated.tif": "tiff"}

# What must be noticed when a file is cut anywhere: its numbers come last, or its length is recorded.
NOTICED_IN_FULL = tuple(
    name
    for name in FILES
    if not name.endswith(("png", "jpg", "tif"))
    and name not in ("camera", "chelsea", "fan_disc_truth", "jpeg2000.dcm", "rle.dcm")
)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """The undamaged files: name -> (suffix, content, reader)."""
    folder = tmp_path_factory.mktemp("originals")

    @cache
    def original(name: str) -> tuple[str, bytes, str | None]:
        if name in samples():
            path = sample(name)
        else:
            path = folder / name
            WRITERS[name](path)
        suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
        return suffix, path.read_bytes(), READERS.get(name)

    return original


def load_or_refuse(folder: Path, suffix: str, content: bytes, reader: str | None) -> Loaded | None:
    """Load `content` from a file in an otherwise empty folder; None if it was refused as documented."""
    path = folder / f"damaged{suffix}"
    path.write_bytes(content)
    before = path.stat()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return load(path, reader=reader)
    except (LoadError, OSError) as error:
        assert str(error).startswith(str(path))
        assert str(error).isprintable()
        return None
    finally:
        assert list(folder.iterdir()) == [path]
        assert path.read_bytes() == content
        assert path.stat().st_mtime_ns == before.st_mtime_ns
        path.unlink()


@given(
    name=st.sampled_from(FILES),
    # Most flips fall near the beginning, where the headers are.
    flips=st.lists(st.tuples(st.floats(0, 1), st.sampled_from([1, 4, 40]), st.integers(0, 7)), max_size=6),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
)
@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_damaged_files_load_or_are_refused(tmp_path, originals, name, flips, keep):
    suffix, original, reader = originals(name)
    content = bytearray(original[: round(keep * len(original))])
    for where, power, bit in flips:
        if content:
            content[int(where**power * (len(content) - 1))] ^= 1 << bit
    loaded = load_or_refuse(tmp_path, suffix, bytes(content), reader)
    if loaded is not None:
        assert loaded.data.numel() > 0


@given(name=st.sampled_from(NOTICED_IN_FULL), keep=st.floats(0, 1, exclude_max=True))
@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_truncated_file_never_passes_for_a_whole_one(tmp_path, originals, name, keep):
    suffix, original, reader = originals(name)
    assert load_or_refuse(tmp_path, suffix, original[: int(keep * len(original))], reader) is None


@pytest.mark.parametrize("name", NOTICED_IN_FULL)
def test_one_missing_byte_is_noticed(tmp_path, originals, name):
    suffix, original, reader = originals(name)
    assert load_or_refuse(tmp_path, suffix, original[:-1], reader) is None


@pytest.mark.parametrize(
    "name", ["camera", "chelsea", "deep.png", "photo.jpg", "strips.tif", "stack.tif", "rle.dcm"]
)
def test_a_picture_cut_in_half_is_noticed(tmp_path, originals, name):
    suffix, original, reader = originals(name)
    assert load_or_refuse(tmp_path, suffix, original[: len(original) // 2], reader) is None


@given(
    place=st.integers(0, 3),
    flips=st.lists(st.tuples(st.floats(0, 1), st.sampled_from([1, 4, 20]), st.integers(0, 7)), max_size=8),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
)
@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_series_with_a_damaged_slice_loads_or_is_refused(tmp_path, write_series, place, flips, keep):
    folder = tmp_path / "series"
    for file in folder.glob("*"):
        file.unlink()
    files = write_series(IMAGE.astype(np.int16).reshape(4, 10, 12))
    content = bytearray(files[place].read_bytes())
    content = content[: round(keep * len(content))]
    for where, power, bit in flips:
        if content:
            content[int(where**power * (len(content) - 1))] ^= 1 << bit
    files[place].write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", LoadWarning)
            loaded = load(folder)
    except (LoadError, OSError) as error:
        assert str(error).startswith(str(folder))
        assert str(error).isprintable()
    else:
        assert loaded.data.shape[-2:] == (10, 12) or loaded.data.ndim > 2
    assert set(folder.iterdir()) == set(files)
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    "reader", ["dicom", "fastmri", "hdf5", "image", "ismrmrd", "matlab", "nifti", "numpy", "tiff"]
)
def test_every_reader_refuses_what_is_not_its_own(tmp_path, reader):
    """Nothing at all, an empty file, a folder, text, zeros, noise, and a file of every other format."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises((LoadError, OSError), match="folder"):
        load(folder, reader=reader)
    with pytest.raises(FileNotFoundError, match="nothing"):
        load(tmp_path / "nothing", reader=reader)
    contents = [b"", b"hello", b"\0" * 2000, bytes(np.random.default_rng(0).integers(0, 256, 3000, np.uint8))]
    contents += [
        sample(name).read_bytes() for name in ("camera", "mr_brain", "kspace_brain", "ct_volume", "tooth")
    ]
    path = tmp_path / "file"
    accepted = 0
    for content in contents:
        path.write_bytes(content)
        try:
            load(path, reader=reader)
        except LoadError as error:
            assert str(error).startswith(str(path))
        else:
            accepted += 1
        assert path.read_bytes() == content
    assert accepted <= 1  # its own; the tooth needs a choice of dataset
