"""recon convert, from the shell's point of view: a solution and a scan in other formats."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

import recon
from recon.cli import main


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def corner() -> Path:
    """A part of the chest slice that ships with the package, in HU."""
    from recon_data.samples import sample

    dataset = pydicom.dcmread(sample("ct_chest"))
    dataset.PixelData = np.ascontiguousarray(dataset.pixel_array[240:272, 240:272]).tobytes()
    dataset.Rows = dataset.Columns = 32
    dataset.save_as("slice.dcm")
    return Path("slice.dcm")


def test_a_solution_becomes_dicom_in_the_place_of_its_slice(corner, capsys):
    assert run("simulate", corner, "--op", "ct_parallel:angles=40", "--water", 0.0192, "-o", "scan.h5") == 0
    assert run("solve", "scan.h5", "-o", "out") == 0
    capsys.readouterr()
    assert run("convert", "out", "image.dcm", "--like", corner, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"source": "out", "written": "image.dcm"}
    source, loaded = recon.load(corner), recon.load("image.dcm")
    assert loaded.unit == "HU"
    torch.testing.assert_close(loaded.affine, source.affine)
    image = recon.Solution.load("out").image
    expected = 1000 * (image / 0.0192 - 1)  # with the water that the scan was simulated with
    torch.testing.assert_close(loaded.data, expected, atol=0.05, rtol=0)


def test_options_of_reader_and_writer(corner):
    assert run("convert", corner, "image.png", "--writer", "png:window=(-1000,1000),bits=16") == 0
    shown = recon.load("image.png").data * 2000 - 1000
    torch.testing.assert_close(shown, recon.load(corner).data.clamp(-1000, 1000), atol=0.02, rtol=0)
    np.savez("two.npz", a=np.ones((2, 3, 4)), b=np.zeros(3))
    assert run("convert", "two.npz", "a.nii.gz", "--reader", "numpy:array=a") == 0
    assert recon.load("a.nii.gz").data.shape == (2, 3, 4)


def test_a_sample_volume_becomes_a_folder_of_slices_and_back():
    assert run("convert", "ct_volume", "slices", "--writer", "dicom") == 0
    assert len(list(Path("slices").iterdir())) == 30
    assert run("convert", "slices", "again.nii") == 0
    again, volume = recon.load("again.nii").oriented("SPL"), recon.dataset("ct_volume").oriented("SPL")
    torch.testing.assert_close(again.data, volume.data, atol=0.05, rtol=0)
    torch.testing.assert_close(again.affine, volume.affine, atol=1e-4, rtol=0)


def test_nothing_is_replaced_unasked(corner, capsys):
    Path("x.npy").write_bytes(b"mine")
    assert run("convert", corner, "x.npy") == 1
    assert "x.npy exists and this command did not write it" in capsys.readouterr().err
    assert Path("x.npy").read_bytes() == b"mine"
    assert run("convert", corner, corner, "--force") == 1
    assert "is the input itself" in capsys.readouterr().err
    assert run("convert", corner, "x.npy", "--force") == 0
    assert run("convert", corner, "x.jpg") == 1
    assert "no writer for the suffix '.jpg'" in capsys.readouterr().err
    assert run("convert", corner, "y.png", "--writer", "png:windw=(0,1)") == 2
    assert "did you mean 'window'" in capsys.readouterr().err
