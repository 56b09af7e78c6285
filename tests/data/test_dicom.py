"""DICOM: real scans against pydicom's own reading, made-up files for every way in which scanners differ."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import numpy as np
import pydicom
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut
from pydicom.sequence import Sequence
from pydicom.uid import (
    EnhancedCTImageStorage,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from recon_data.samples import sample

from recon.loading import LoadError, load

SCANS = ("ct_chest", "ct_chest_metal", "mr_brain")
PIXELS = np.arange(12, dtype=np.int16).reshape(3, 4)
CT = {"RescaleSlope": 1, "RescaleIntercept": -1024}


@pytest.mark.parametrize("name", SCANS)
def test_real_scan_equals_pydicoms_reading(name):
    dataset = pydicom.dcmread(sample(name))
    loaded = load(sample(name))
    expected = apply_modality_lut(dataset.pixel_array, dataset)
    assert loaded.data.dtype == torch.float32
    np.testing.assert_array_equal(loaded.data.numpy(), expected)
    assert loaded.pixel_size == tuple(map(float, dataset.PixelSpacing))
    assert loaded.attributes["Modality"] == dataset.Modality
    assert loaded.source == str(sample(name))


@pytest.mark.parametrize("name", SCANS)
def test_real_scan_equals_the_bytes_at_the_end_of_the_file(name):
    # An oracle without pydicom: these three files end with 512 x 512 plain 16-bit numbers.
    stored = np.frombuffer(sample(name).read_bytes()[-(2 * 512 * 512) :], "<i2").reshape(512, 512)
    intercept = {"ct_chest": -1024, "ct_chest_metal": 0, "mr_brain": 0}[name]
    np.testing.assert_array_equal(load(sample(name)).data.numpy(), stored + float(intercept))


def test_chest_is_in_hounsfield_units():
    chest = load(sample("ct_chest"))
    assert chest.unit == "HU"
    air_above_the_patient = chest.data[5:30, 230:280]
    assert -1024 <= air_above_the_patient.median() < -950
    assert chest.valid[5:30, 230:280].all()
    muscle_beside_the_spine = chest.data[370:385, 180:210]
    assert 0 < muscle_beside_the_spine.median() < 100
    vertebra = chest.data[290:310, 235:260]
    assert vertebra.median() > 150


def test_chest_padding_is_what_lies_outside_the_field_of_view():
    chest = load(sample("ct_chest"))
    rows, columns = torch.meshgrid(torch.arange(512) - 255.5, torch.arange(512) - 255.5, indexing="ij")
    radius = (rows**2 + columns**2).sqrt()
    assert chest.valid[radius < 254].all()
    assert not chest.valid[radius > 258].any()
    assert chest.data[~chest.valid].unique().tolist() == [-3024.0]
    assert chest.data[chest.valid].min() >= -1024


def test_padding_without_a_tag_is_found_and_metal_artefacts_stay_valid():
    chest = load(sample("ct_chest_metal"))
    assert chest.unit == "HU"
    assert "PixelPaddingValue" not in pydicom.dcmread(sample("ct_chest_metal"))
    assert chest.data[~chest.valid].unique().tolist() == [-2048.0]
    assert chest.data[chest.valid].min() == -1258  # the undershoot beside the metal
    assert chest.data[chest.valid].max() == 5622  # the metal itself
    assert chest.valid.float().mean() == pytest.approx(math.pi / 4, abs=0.005)  # a disc in its square


def test_mr_has_no_unit_and_no_padding():
    brain = load(sample("mr_brain"))
    assert brain.unit == ""
    assert brain.valid is None
    with pytest.raises(ValueError, match=r"converts Hounsfield units, but .*vsseg001.* has unit ''"):
        brain.attenuation()


def test_nothing_that_identifies_a_patient_is_kept(write_dicom):
    path = write_dicom(PIXELS, PatientName="Doe^Jane", PatientID="123", StudyDate="20200101", **CT)
    loaded = load(path)
    assert "Doe" not in str(loaded.attributes)
    assert "20200101" not in str(loaded.attributes)
    assert set(load(sample("ct_chest")).attributes) & {"PatientName", "PatientID", "StudyDate"} == set()


@given(
    pixels=arrays.arrays(
        st.sampled_from([np.dtype(t) for t in ("int8", "uint8", "int16", "uint16", "int32", "uint32")]),
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=6),
    ),
    slope=st.sampled_from([1, 0.5, 2, -1, 0.0001]),
    intercept=st.sampled_from([0, -1024, 0.25]),
    implicit=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rescaled_values_equal_float64_arithmetic(write_dicom, pixels, slope, intercept, implicit):
    path = write_dicom(pixels, implicit=implicit, RescaleSlope=slope, RescaleIntercept=intercept)
    loaded = load(path)
    expected = pixels.astype(np.float64) * slope + intercept
    # one rounding to the result's precision
    rtol = torch.finfo(loaded.data.dtype).eps
    np.testing.assert_allclose(loaded.data.numpy(), expected, rtol=rtol, atol=0)
    assert loaded.data.dtype == (torch.float32 if pixels.dtype.itemsize <= 2 else torch.float64)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("declared", [-2000, 63536])
def test_padding_value_of_either_sign_marks_the_same_bits(write_dicom, implicit, declared):
    # Scanners write it as US or SS whatever the pixels are; 63536 is -2000 in 16 unsigned bits.
    pixels = PIXELS.copy()
    pixels[0, :2] = -2000
    path = write_dicom(pixels, PixelPaddingValue=-2000, **CT)
    if declared > 0:
        content = bytearray(path.read_bytes())
        tag = content.index(b"\x28\x00\x20\x01SS")
        content[tag + 4 : tag + 6] = b"US"
        path.write_bytes(content)
        assert pydicom.dcmread(path).PixelPaddingValue == declared
    elif implicit:
        path = write_dicom(pixels, implicit=True, PixelPaddingValue=-2000, **CT)
    np.testing.assert_array_equal(load(path).valid.numpy(), pixels != -2000)


def test_padding_range_marks_all_between(write_dicom):
    path = write_dicom(PIXELS, PixelPaddingValue=2, PixelPaddingRangeLimit=5, **CT)
    np.testing.assert_array_equal(load(path).valid.numpy(), (PIXELS < 2) | (PIXELS > 5))


def test_low_values_are_padding_only_in_hounsfield_units(write_dicom):
    pixels = PIXELS.copy()
    pixels[0, 0] = -2048
    assert load(write_dicom(pixels, RescaleSlope=1, RescaleIntercept=0)).valid.sum() == 11
    assert load(write_dicom(pixels, Modality="MR")).valid is None


@pytest.mark.parametrize(
    ("elements", "unit"),
    [
        (CT, "HU"),
        (CT | {"RescaleType": "HU"}, "HU"),
        (CT | {"RescaleType": "US"}, ""),
        (CT | {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, ""),
        (CT | {"Modality": "MR"}, ""),
        (CT | {"Modality": "PT", "Units": "BQML"}, "Bq/mL"),
        (CT | {"Modality": "PT", "Units": "CNTS"}, ""),
        ({}, ""),
    ],
)
def test_unit_is_hu_only_where_the_file_means_it(write_dicom, elements, unit):
    assert load(write_dicom(PIXELS, **elements)).unit == unit


def test_modality_look_up_table(write_dicom):
    table = Dataset()
    table.LUTDescriptor = [12, 0, 16]
    table.ModalityLUTType = "OD"
    table["LUTData"] = DataElement("LUTData", "US", list(range(100, 112)))
    path = write_dicom(PIXELS.astype(np.uint16), ModalityLUTSequence=Sequence([table]))
    loaded = load(path)
    np.testing.assert_array_equal(loaded.data.numpy(), PIXELS + 100)
    assert loaded.unit == ""


def test_several_frames_are_a_stack(write_dicom):
    pixels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    loaded = load(write_dicom(pixels, NumberOfFrames=2, **CT))
    np.testing.assert_array_equal(loaded.data.numpy(), pixels - 1024.0)


def test_enhanced_ct_is_rescaled_frame_by_frame(write_dicom):
    def frame(intercept: float) -> Dataset:
        rescale = Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 2, intercept, "HU"
        group = Dataset()
        group.PixelValueTransformationSequence = Sequence([rescale])
        return group

    measures = Dataset()
    measures.PixelSpacing = [0.5, 0.25]
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    pixels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = write_dicom(
        pixels,
        NumberOfFrames=2,
        SOPClassUID=EnhancedCTImageStorage,
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence([frame(-1000), frame(-500)]),
    )
    loaded = load(path)
    expected = 2 * pixels + np.array([-1000, -500]).reshape(2, 1, 1)
    np.testing.assert_array_equal(loaded.data.numpy(), expected)
    assert loaded.unit == "HU"
    assert loaded.pixel_size == (0.5, 0.25)


def test_colour_is_three_planes(write_dicom):
    pixels = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    path = write_dicom(
        pixels,
        Rows=3,
        Columns=4,
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        PhotometricInterpretation="RGB",
        Modality="US",
    )
    np.testing.assert_array_equal(load(path).data.numpy(), np.moveaxis(pixels, -1, 0))


def test_run_length_compression_is_read(tmp_path):
    dataset = pydicom.dcmread(sample("ct_chest"))
    dataset.compress(RLELossless)
    path = tmp_path / "rle.dcm"
    dataset.save_as(path)
    compressed, plain = load(path), load(sample("ct_chest"))
    assert torch.equal(compressed.data, plain.data)
    assert torch.equal(compressed.valid, plain.valid)


WITHOUT_DECODERS = """
import sys
sys.modules.update(dict.fromkeys(("gdcm", "pylibjpeg", "openjpeg", "libjpeg")))  # as if not installed
from recon.loading import LoadError, load
try:
    load(sys.argv[1])
except LoadError as error:
    print(error)
"""


def test_compression_without_a_decoder_names_it_and_the_remedy(write_dicom):
    path = write_dicom(PIXELS, **CT)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    command = [sys.executable, "-c", WITHOUT_DECODERS, str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert re.search(r"compressed as JPEG Lossless.*no decoder.*'recon\[dicom\]'.*pylibjpeg", said)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
def test_lossless_compression_of_a_real_scan_is_read(tmp_path, syntax):
    path = compressed(sample("ct_chest"), tmp_path / "compressed.dcm", syntax)
    loaded, plain = load(path), load(sample("ct_chest"))
    assert path.stat().st_size < sample("ct_chest").stat().st_size
    assert torch.equal(loaded.data, plain.data)
    assert torch.equal(loaded.valid, plain.valid)


def compressed(path, target, syntax):
    """A copy compressed by GDCM, which knows all syntaxes; the standard has others for lossy ones."""
    gdcm = pytest.importorskip("gdcm")
    kinds = {
        JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
        JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
        JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    }
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(kinds[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return target


def test_a_huge_declared_size_takes_no_memory(tmp_path):
    dataset = pydicom.dcmread(sample("ct_chest"))
    dataset.compress(RLELossless)
    dataset.Rows = dataset.Columns = 65535
    dataset.NumberOfFrames = 100
    dataset.save_as(tmp_path / "x.dcm")
    with pytest.raises(LoadError, match="damaged: it declares 100 frames of 65535 x 65535 pixels in"):
        load(tmp_path / "x.dcm")


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"PixelData": None}, r"a DICOM file without an image \(modality CT\)"),
        ({"Rows": 2}, r"damaged: 2 x 4 pixels need 16 bytes, it has 24"),
        ({"Rows": 30}, r"cannot read a DICOM file: it is truncated, damaged"),
        ({"PixelSpacing": [0, 1]}, r"PixelSpacing is \[0\.0, 1\.0\], expected two distances in mm"),
        ({"RescaleSlope": 0, "RescaleIntercept": 1}, r"rescale slope .* give no image"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, r"a palette colour image"),
    ],
)
def test_files_without_a_usable_image_say_why(write_dicom, elements, message):
    with pytest.raises(LoadError, match=message):
        load(write_dicom(PIXELS, **elements))


def test_odd_details_of_a_file_are_remarked_not_fatal(write_dicom):
    path = write_dicom(PIXELS, XRayTubeCurrent="1234", **CT)
    content = path.read_bytes()
    assert content.count(b"1234") == 1
    path.write_bytes(content.replace(b"1234", b"many"))
    loaded = load(path)
    np.testing.assert_array_equal(loaded.data.numpy(), PIXELS - 1024.0)
    assert loaded.attributes["XRayTubeCurrent"] == "many"
    assert any("Invalid value for VR IS: 'many'" in remark for remark in loaded.attributes["warnings"])
