"""The sample files: complete, unaltered, licensed, credited, and what they claim to be."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import recon_data.samples
import torch
from recon_data.samples import FOLDER, sample, samples

from recon import registry
from recon.loading import load

LICENCE_FILES = {
    "Apache-2.0": "Apache-2.0-TotalSegmentator.txt",
    "CC-BY-4.0": "CC-BY-4.0.txt",
    "MIT": "MIT-Peder-Larson.txt",
    "BSD-3-Clause": "BSD-3-Clause-mikgroup.txt",
}


@pytest.mark.parametrize("name", samples())
def test_every_sample_is_the_recorded_file(name):
    item = samples()[name]
    assert hashlib.sha256(item.file.read_bytes()).hexdigest() == item.sha256
    loaded = load(sample(name), **item.options)
    assert loaded.unit == item.unit
    assert loaded.data.isfinite().all()


def test_every_file_is_a_recorded_sample_and_the_total_is_small():
    files = {path for path in FOLDER.iterdir() if path.is_file()}
    assert files == {item.file for item in samples().values()} | {FOLDER / "CREDITS.md"}
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 8e6


@pytest.mark.parametrize("name", samples())
def test_every_sample_is_credited_and_its_licence_is_there(name):
    item = samples()[name]
    rows = [row for row in (FOLDER / "CREDITS.md").read_text().splitlines() if item.file.name in row]
    assert len(rows) == 1
    assert item.title in rows[0]
    assert item.credit.partition(",")[0] in rows[0] or "as above" in rows[0]
    if item.licence == "CC0-1.0":
        assert "creativecommons.org/publicdomain/zero/1.0" in rows[0]
    else:
        own = {"tooth": "BSD-3-Clause-UChicago-Argonne.txt"}
        licence = FOLDER / "licenses" / own.get(name, LICENCE_FILES[item.licence])
        assert f"licenses/{licence.name}" in rows[0]
        assert licence.stat().st_size > 500


@pytest.mark.parametrize("name", samples())
def test_every_sample_is_a_dataset_of_the_registry_with_its_licence(name):
    found = registry.find("dataset", name)
    assert found.entry.licence == samples()[name].licence
    assert found.entry.summary == samples()[name].title
    assert torch.equal(
        registry.make("dataset", name).data, load(sample(name), **samples()[name].options).data
    )


def test_an_unknown_sample_names_the_known_ones():
    with pytest.raises(
        ValueError, match=r"no sample 'ct_chst'; there are ct_chest, .*did you mean 'ct_chest'"
    ):
        sample("ct_chst")


def test_kspace_is_centred_and_gives_an_image_of_a_head():
    kspace = load(sample("kspace_brain")).data
    peak = divmod(int(kspace.abs().argmax()), 256)
    assert abs(peak[0] - 128) <= 1
    assert abs(peak[1] - 128) <= 1
    image = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(kspace), norm="ortho")).abs()
    # Signal in the middle, air in the corners: the noise floor is far below the tissue.
    assert image[96:160, 96:160].mean() > 5 * image[:16, :16].mean()


def test_eight_coil_kspace_is_undersampled_eightfold_around_a_full_centre():
    kspace = load(sample("kspace_brain_8_coils")).data
    measured = kspace.abs() > 0
    assert (measured == measured[:1]).all()  # every coil measures the same positions
    assert 6 < 1 / measured[0].float().mean() < 10
    assert measured[0, 110:120, 85:95].all()
    peak = divmod(int(kspace.abs().sum(0).argmax()), 180)
    assert abs(peak[0] - 115) <= 2
    assert abs(peak[1] - 90) <= 2


def test_the_fan_beam_scan_comes_with_its_geometry():
    scan = recon_data.samples.fan_disc()
    geometry = scan.geometry
    assert scan.data.shape == (len(geometry["angles"]), geometry["detectors"]) == (549, 560)
    assert geometry["shape"] == tuple(recon_data.samples.fan_disc_truth().data.shape)
    # the data set says 0.1483223173330444 mm, and 410.66 mm of 553.74
    assert geometry["pixel_size"] == pytest.approx(0.1483223173330444, rel=1e-9)
    assert geometry["source_origin"] + geometry["origin_detector"] == pytest.approx(553.74)
    with pytest.warns(UserWarning, match=r"leave gaps of 52.5, 18.5, 14.5 degrees"):
        operator = registry.make("operator", "ct_fan", **geometry)
    assert operator.range_shape == tuple(scan.data.shape)


def test_naming_readers_and_samples_imports_no_heavy_library():
    code = (
        "import sys, recon_data, recon_data.samples\n"
        "list(recon_data.recon_readers()), list(recon_data.recon_writers()), list(recon_data.recon_datasets())\n"
        "recon_data.samples.sample('ct_chest')\n"
        "heavy = {'torch', 'numpy', 'scipy', 'h5py', 'pydicom', 'PIL', 'nibabel', 'tifffile'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_samples_lie_in_the_package():
    assert Path(recon_data.samples.__file__).parent == FOLDER.parent
    assert np.all([item.file.parent == FOLDER for item in samples().values()])
