"""fastMRI and ISMRMRD: k-space in its place, whatever the order of the readouts; and what the header says."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from mri_files import header_xml, readout, write_fastmri, write_ismrmrd

from recon.loading import LoadError, load

RANDOM = np.random.default_rng(0)
COILS, ROWS, COLUMNS = 3, 16, 10


def spectrum(image, axes=(-2, -1)):
    shifted = np.fft.fftn(np.fft.ifftshift(image, axes=axes), axes=axes, norm="ortho")
    return np.fft.fftshift(shifted, axes=axes)


def complex_noise(*shape):
    return (RANDOM.normal(size=shape) + 1j * RANDOM.normal(size=shape)).astype(np.complex64)


KSPACE = complex_noise(COILS, ROWS, COLUMNS)


def lines(kspace=KSPACE, order=None, **index):
    """A readout for each column."""
    order = RANDOM.permutation(kspace.shape[-1]) if order is None else order
    return [readout(kspace[:, :, y], kspace_encode_step_1=int(y), **index) for y in order]


# ISMRMRD


def test_readouts_in_any_order_become_kspace(tmp_path):
    loaded = load(write_ismrmrd(tmp_path / "scan.mrd", lines()))
    assert loaded.data.dtype == torch.complex64
    np.testing.assert_array_equal(loaded.data.numpy(), KSPACE)
    assert loaded.valid is None
    assert loaded.pixel_size == (20.0, 15.0)
    assert loaded.attributes["image_field_of_view"] == (160, 150, 5)


def test_what_was_not_measured_is_zero_and_not_valid(tmp_path):
    loaded = load(write_ismrmrd(tmp_path / "scan.mrd", lines(order=[0, 4, 5, 9])))
    measured = np.isin(np.arange(COLUMNS), [0, 4, 5, 9])
    np.testing.assert_array_equal(loaded.data.numpy(), KSPACE * measured)
    np.testing.assert_array_equal(loaded.valid.numpy(), np.broadcast_to(measured, KSPACE.shape))


def test_noise_navigators_and_calibration_make_no_image(tmp_path):
    others = [readout(complex_noise(COILS, 4), flags=(flag,)) for flag in (19, 20, 23, 24, 27)]
    both = [*lines(order=range(1, COLUMNS)), readout(KSPACE[:, :, 0], flags=(20, 21))]
    loaded = load(write_ismrmrd(tmp_path / "scan.mrd", others + both))
    np.testing.assert_array_equal(loaded.data.numpy(), KSPACE)
    assert loaded.attributes["left_out"] == 5


def test_the_centre_of_kspace_goes_to_the_middle(tmp_path):
    """Steps counted from another centre, and a partial echo."""
    late = [
        readout(KSPACE[:, 4:, y], centre=ROWS // 2 - 4, kspace_encode_step_1=y - 2) for y in range(2, COLUMNS)
    ]
    loaded = load(write_ismrmrd(tmp_path / "scan.mrd", late, header_xml(centre=3)))
    expected = KSPACE.copy()
    expected[:, :4] = 0
    expected[:, :, :2] = 0
    np.testing.assert_array_equal(loaded.data.numpy(), expected)
    np.testing.assert_array_equal(loaded.valid.numpy(), expected != 0)


def test_samples_to_discard_are_discarded(tmp_path):
    made = lines()
    for place, one in enumerate(made):
        longer = np.concatenate([complex_noise(COILS, 2), one.data, complex_noise(COILS, 1)], axis=1)
        made[place] = readout(longer, centre=ROWS // 2 + 2, kspace_encode_step_1=one.idx.kspace_encode_step_1)
        made[place].discard_pre, made[place].discard_post = 2, 1
    np.testing.assert_array_equal(load(write_ismrmrd(tmp_path / "scan.mrd", made)).data.numpy(), KSPACE)


def test_removing_oversampling_keeps_the_images_values(tmp_path):
    image = complex_noise(COILS, ROWS, COLUMNS)
    path = write_ismrmrd(tmp_path / "scan.mrd", lines(spectrum(image)))
    cropped = load(path, remove_oversampling=True)
    assert cropped.data.shape == (COILS, 8, COLUMNS)
    # single precision of the file
    np.testing.assert_allclose(cropped.data.numpy(), spectrum(image[:, 4:12]), atol=2e-6)
    assert cropped.pixel_size == (20.0, 15.0)
    partly = load(write_ismrmrd(tmp_path / "part.mrd", lines(order=[1, 2])), remove_oversampling=True)
    assert partly.valid[0].all(0).nonzero().ravel().tolist() == [1, 2]


def test_slices_are_an_axis_and_averages_are_averaged(tmp_path):
    other = complex_noise(COILS, ROWS, COLUMNS)
    made = lines(slice=4) + lines(other, slice=7) + lines(other + 2, slice=7, average=1)
    path = write_ismrmrd(tmp_path / "scan.mrd", made)
    loaded = load(path)
    assert loaded.data.shape == (2, COILS, ROWS, COLUMNS)
    np.testing.assert_array_equal(loaded.data[0].numpy(), KSPACE)
    np.testing.assert_allclose(loaded.data[1].numpy(), other + 1, atol=1e-6)
    np.testing.assert_array_equal(load(path, slice_number=4).data.numpy(), KSPACE)
    with pytest.raises(LoadError, match="no slice 5; there are 4, 7"):
        load(path, slice_number=5)


def test_a_volume_has_partitions(tmp_path):
    volume = complex_noise(COILS, 6, ROWS, COLUMNS)
    made = [
        readout(volume[:, z, :, y], kspace_encode_step_1=y, kspace_encode_step_2=z)
        for z in range(6)
        for y in range(COLUMNS)
    ]
    xml = header_xml((16, 10, 6), (320.0, 150.0, 12.0), (8, 10, 6), (160.0, 150.0, 12.0))
    loaded = load(write_ismrmrd(tmp_path / "scan.mrd", made[::-1], xml))
    np.testing.assert_array_equal(loaded.data.numpy(), volume)
    assert loaded.pixel_size == (2.0, 20.0, 15.0)


@pytest.mark.parametrize(("name", "option"), [("contrast", "contrast"), ("set", "set_number")])
def test_several_images_in_one_file_ask_which(tmp_path, name, option):
    path = write_ismrmrd(tmp_path / "scan.mrd", lines() + lines(2 * KSPACE, **{name: 3}))
    with pytest.raises(LoadError, match=rf"several of '{name}' \(0, 3\); choose one with {option}="):
        load(path)
    np.testing.assert_array_equal(load(path, **{option: 3}).data.numpy(), 2 * KSPACE)


@pytest.mark.parametrize(
    ("made", "xml", "message"),
    [
        (lines(), header_xml(trajectory="radial"), "a radial scan; only Cartesian"),
        ([*lines(), lines()[0]], None, "1 lines were measured more than once"),
        ([readout(KSPACE[:, :, 0], flags=(22,))], None, "reversed direction"),
        ([readout(KSPACE[:, :, 0], kspace_encode_step_1=40)], None, "does not fit into the encoded matrix"),
        ([readout(complex_noise(COILS, 20))], None, "a readout of 20 samples .* does not fit"),
        ([readout(complex_noise(COILS, 20), flags=(19,))], None, "no readout that makes an image"),
        ([*lines(), readout(complex_noise(2, ROWS))], None, "readouts of 2, 3 coils"),
        (lines(), b"<?xml version='1.0'?><ismrmrdHeader/>", "describes no encoding"),
        (lines(), b"<!DOCTYPE a><a/>", "a document type"),
        (lines(), header_xml((60000, 60000, 1)), r"damaged: k-space of shape \(1, 3, 1, 60000, 60000\)"),
    ],
)
def test_scans_that_cannot_be_sorted_say_why(tmp_path, made, xml, message):
    with pytest.raises(LoadError, match=message):
        load(write_ismrmrd(tmp_path / "scan.mrd", made, xml))


def test_a_file_of_another_layout(tmp_path):
    with h5py.File(tmp_path / "x.mrd", "w") as file:
        file["kspace"] = KSPACE
    with pytest.raises(LoadError, match="no 'dataset/data', so no ISMRMRD raw data; the file has kspace"):
        load(tmp_path / "x.mrd")


# fastMRI


def test_fastmri_kspace_and_reconstruction(tmp_path):
    kspace = complex_noise(2, COILS, ROWS, COLUMNS)
    images = RANDOM.normal(size=(2, 8, 10))
    path = write_fastmri(tmp_path / "file1.h5", kspace, images)
    loaded = load(path, reader="fastmri")
    np.testing.assert_array_equal(loaded.data.numpy(), kspace)
    assert loaded.pixel_size == (20.0, 15.0)
    one = load(path, reader="fastmri", array="reconstruction_rss", slice_number=1)
    np.testing.assert_array_equal(one.data.numpy(), images[1].astype(np.float32))
    assert one.pixel_size == (20.0, 15.0)
    assert one.attributes["acquisition"] == "CORPD_FBK"
    assert one.attributes["max"] == 0.5
    assert "secret" not in str(one.attributes)


def test_fastmri_single_coil_without_header_and_test_masks(tmp_path):
    path = write_fastmri(tmp_path / "file1.h5", KSPACE)
    with h5py.File(path, "a") as file:
        del file["ismrmrd_header"]
        file["mask"] = np.arange(COLUMNS) % 2 == 0
    loaded = load(path, reader="fastmri", slice_number=2)
    np.testing.assert_array_equal(loaded.data.numpy(), KSPACE[2])
    assert loaded.attributes["mask"] == (True, False) * 5
    assert loaded.pixel_size is None


def test_fastmri_says_what_is_missing(tmp_path):
    path = write_fastmri(tmp_path / "file1.h5", KSPACE)
    with pytest.raises(
        LoadError, match=r"no array 'reconstruction_rss' of slices; the file has kspace \(3, 16, 10\)"
    ):
        load(path, reader="fastmri", array="reconstruction_rss")
    with pytest.raises(LoadError, match="no slice 3; it has 3, from 0"):
        load(path, reader="fastmri", slice_number=3)


def test_the_plain_reader_points_to_the_right_one(tmp_path):
    write_fastmri(tmp_path / "a.h5", KSPACE, KSPACE.real)
    with pytest.raises(LoadError, match="choose one with dataset=; or reader='fastmri'"):
        load(tmp_path / "a.h5")
    write_ismrmrd(tmp_path / "b.h5", lines())
    with pytest.raises(LoadError, match="or reader='ismrmrd'"):
        load(tmp_path / "b.h5")
