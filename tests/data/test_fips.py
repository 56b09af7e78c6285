"""The reader of the Finnish tomographic datasets: files of their form, and one of the originals."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from recon_data import samples

from recon.loading import LoadError, load
from recon.making import operator

ORIGINAL = Path(__file__).parents[3] / "shared" / "data" / "sino_fan_htc2022_tb_075-165.mat"
SINOGRAM = np.arange(3 * 40, dtype=np.float64).reshape(3, 40) / 7
PARAMETERS = {
    "projectName": "tiny",
    "geometryType": "Cone",
    "distanceSourceOrigin": 410.66,
    "distanceSourceDetector": 553.74,
    "distanceUnit": "mm",
    "angles": np.array([[10.0, 10.5, 11.0]]),
    "pixelSize": 0.05,
    "pixelSizePost": 0.2,
    "freeRayAtDetector": np.array([[1, 128, 1, 128]]),
    "scanNote": "",
}


def write(
    path: Path, name: str = "CtDataLimited", *, sinogram: np.ndarray = SINOGRAM, **changes: object
) -> Path:
    parameters = {key: value for key, value in {**PARAMETERS, **changes}.items() if value is not None}
    content = {name: {"type": "2d", "sinogram": sinogram, "parameters": parameters}}
    scipy.io.savemat(path, content, do_compression=True)
    return path


@pytest.mark.parametrize("name", ["CtDataLimited", "CtDataFull", "CtData"])
def test_the_sinogram_comes_with_the_arguments_of_its_operator(tmp_path, name):
    loaded = load(write(tmp_path / "scan.mat", name), reader="fips")
    np.testing.assert_array_equal(loaded.data.numpy(), SINOGRAM)
    assert loaded.data.dtype == torch.float64
    geometry = loaded.geometry
    assert geometry["angles"] == pytest.approx(tuple(math.radians(angle) for angle in (10, 10.5, 11)))
    assert (geometry["detectors"], geometry["detector_size"]) == (40, 0.2)
    assert geometry["source_origin"] == 410.66
    assert geometry["origin_detector"] == pytest.approx(143.08)
    assert geometry["pixel_size"] == pytest.approx(0.2 * 410.66 / 553.74)
    assert loaded.attributes["variable"] == name
    assert loaded.attributes["projectName"] == "tiny"
    with pytest.warns(UserWarning, match="leave gaps"):  # three views; the detector is long enough
        ct = operator("ct_fan", **geometry)
    assert ct.range_shape == SINOGRAM.shape
    assert ct.geometry.field_of_view >= geometry["shape"][0] * geometry["pixel_size"] / 2


def test_the_shape_of_the_image_can_be_chosen(tmp_path):
    loaded = load(write(tmp_path / "scan.mat"), reader="fips", shape=(8, 9))
    assert loaded.geometry["shape"] == (8, 9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixelSizePost": None}, "its parameters lack 'pixelSizePost'; there are projectName, "),
        ({"angles": np.array([[1.0, 2.0]])}, r"a sinogram of shape \(3, 40\) for 2 angles"),
        ({"angles": np.array([[1.0, np.nan, 2.0]])}, "'angles' holds 3 numbers, expected finite ones"),
        ({"distanceUnit": "cm"}, "distances in 'cm', expected mm"),
        ({"distanceSourceDetector": 400.0}, "impossible geometry: source to origin 410.66 mm"),
        ({"sinogram": SINOGRAM[0]}, r"a sinogram of shape \(1, 40\) for 3 angles"),
    ],
)
def test_what_makes_no_scan_is_named(tmp_path, changes, message):
    with pytest.raises(LoadError, match=message):
        load(write(tmp_path / "scan.mat", **changes), reader="fips")


def test_a_file_without_such_a_struct_says_what_it_has(tmp_path):
    scipy.io.savemat(tmp_path / "other.mat", {"x": np.ones((2, 3))})
    with pytest.raises(
        LoadError, match=r"expected one struct with 'sinogram' and 'parameters'; .* x \(double"
    ):
        load(tmp_path / "other.mat", reader="fips")


def test_damaged_files_and_other_formats_are_refused(tmp_path):
    content = write(tmp_path / "scan.mat").read_bytes()
    (tmp_path / "cut.mat").write_bytes(content[: len(content) // 2])
    with pytest.raises(LoadError, match="cannot read a MATLAB 5 file"):
        load(tmp_path / "cut.mat", reader="fips")
    with pytest.raises(LoadError, match="expected a MATLAB 5 file, found a PNG picture"):
        load(samples.sample("camera"), reader="fips")


@pytest.mark.skipif(
    not ORIGINAL.exists(), reason="the original file of the challenge does not ship with the project"
)
def test_the_original_file_is_a_part_of_the_sample():
    loaded, sample = load(ORIGINAL, reader="fips", shape=(512, 512)), samples.fan_disc()
    angles = np.array(sample.geometry["angles"])
    first = int(np.argmin(np.abs(angles - loaded.geometry["angles"][0])))
    assert torch.equal(loaded.data.float(), sample.data[first : first + 181])
    np.testing.assert_allclose(loaded.geometry["angles"], angles[first : first + 181], rtol=1e-12)
    others = {key: value for key, value in loaded.geometry.items() if key != "angles"}
    assert others == {key: pytest.approx(sample.geometry[key]) for key in others}
