"""Truncated and bit-flipped copies of real files load or raise the documented errors; nothing is written."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from recon_data.samples import sample, samples

from recon.loading import Loaded, LoadError, load

IMAGE = np.linspace(0, 255, 480).reshape(20, 24)


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("exchange/data", data=IMAGE, chunks=(5, 24), compression="gzip")
        file["exchange/data"].attrs["units"] = "counts"


def write_hdf5_contiguous(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file["kspace"] = IMAGE + 1j


WRITERS = {
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

# What must be noticed when a file is cut anywhere: its numbers come last, or its length is recorded.
NOTICED_IN_FULL = tuple(
    name
    for name in FILES
    if not name.endswith(("png", "jpg", "tif")) and name not in ("camera", "chelsea", "fan_disc_truth")
)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """The undamaged files: name -> (suffix, content)."""
    folder = tmp_path_factory.mktemp("originals")

    @cache
    def original(name: str) -> tuple[str, bytes]:
        if name in samples():
            path = sample(name)
        else:
            path = folder / name
            WRITERS[name](path)
        return path.suffix, path.read_bytes()

    return original


def load_or_refuse(folder: Path, suffix: str, content: bytes) -> Loaded | None:
    """Load `content` from a file in an otherwise empty folder; None if it was refused as documented."""
    path = folder / f"damaged{suffix}"
    path.write_bytes(content)
    before = path.stat()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return load(path)
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
    suffix, original = originals(name)
    content = bytearray(original[: round(keep * len(original))])
    for where, power, bit in flips:
        if content:
            content[int(where**power * (len(content) - 1))] ^= 1 << bit
    loaded = load_or_refuse(tmp_path, suffix, bytes(content))
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
    suffix, original = originals(name)
    assert load_or_refuse(tmp_path, suffix, original[: int(keep * len(original))]) is None


@pytest.mark.parametrize("name", NOTICED_IN_FULL)
def test_one_missing_byte_is_noticed(tmp_path, originals, name):
    suffix, original = originals(name)
    assert load_or_refuse(tmp_path, suffix, original[:-1]) is None


@pytest.mark.parametrize("name", ["camera", "chelsea", "deep.png", "photo.jpg", "strips.tif"])
def test_a_picture_cut_in_half_is_noticed(tmp_path, originals, name):
    suffix, original = originals(name)
    assert load_or_refuse(tmp_path, suffix, original[: len(original) // 2]) is None
