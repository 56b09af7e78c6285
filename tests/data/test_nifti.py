"""NIfTI: against nibabel's own reading; the place in the patient, scaling, and files that lie about themselves."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.loading import LoadError, load

VOLUME = np.arange(2 * 3 * 4, dtype=np.int16).reshape(4, 3, 2)  # NIfTI's order: x, y, z
AFFINE = np.array([[-2, 0, 0, 10], [0, 1.5, 0.5, -20], [0, -0.5, 3, 30], [0, 0, 0, 1.0]])


def write(path, values=VOLUME, affine=AFFINE, kind=nibabel.Nifti1Image, change=None):
    image = kind(values, affine)
    if change is not None:
        change(image)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i2", "int32", "float32", "float64", "complex64"])
def test_values_and_places_are_nibabels(tmp_path, kind, name, dtype):
    path = write(tmp_path / name, VOLUME.astype(dtype), kind=kind)
    loaded, image = load(path), nibabel.load(path)
    np.testing.assert_array_equal(loaded.data.numpy(), np.asarray(image.dataobj).T)
    for index in np.ndindex(4, 3, 2):
        place = loaded.affine.numpy() @ [*index[::-1], 1]
        np.testing.assert_allclose(place, image.affine @ [*index, 1], atol=1e-6)
    assert loaded.pixel_size == pytest.approx(image.header.get_zooms()[::-1])


@given(codes=st.permutations(["LR", "PA", "IS"]), ends=st.tuples(*[st.integers(0, 1)] * 3))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_turning_is_nibabels_reorientation(tmp_path, codes, ends):
    wanted = "".join(pair[end] for pair, end in zip(codes, ends, strict=True))
    path = write(tmp_path / "v.nii")
    turned, image = load(path).oriented(wanted), nibabel.load(path)
    now = nibabel.io_orientation(image.affine)
    transform = nibabel.orientations.ornt_transform(now, nibabel.orientations.axcodes2ornt(wanted[::-1]))
    expected = image.as_reoriented(transform)
    np.testing.assert_array_equal(turned.data.numpy(), np.asarray(expected.dataobj).T)
    np.testing.assert_allclose(turned.affine.numpy()[:, [2, 1, 0, 3]], expected.affine, atol=1e-9)
    assert turned.orientation == wanted
    assert turned.pixel_size == pytest.approx(expected.header.get_zooms()[::-1])


def test_an_orientation_must_name_three_directions(tmp_path):
    with pytest.raises(ValueError, match=r"one letter each of L/R, P/A and I/S, such as 'SPL'; got 'SPP'"):
        load(write(tmp_path / "v.nii")).oriented("SPP")


def test_the_header_scales_once(tmp_path):
    def scale(image):
        image.header.set_slope_inter(0.1, -7)

    loaded = load(write(tmp_path / "v.nii", change=scale))
    assert loaded.data.dtype == torch.float32
    slope = np.float64(np.float32(0.1))  # as the header holds it
    np.testing.assert_array_equal(loaded.data.numpy(), (VOLUME.T * slope - 7).astype(np.float32))


def test_series_of_volumes_units_of_length_and_of_values(tmp_path):
    def in_metres(image):
        image.header.set_xyzt_units("meter", "sec")

    four = np.stack([VOLUME, VOLUME + 100], axis=-1)
    path = write(tmp_path / "v.nii", four, np.diag([0.001, 0.002, 0.003, 1]), change=in_metres)
    loaded = load(path, unit="HU")
    assert loaded.data.shape == (2, 2, 3, 4)
    np.testing.assert_array_equal(loaded.data[1].numpy(), VOLUME.T + 100)
    assert loaded.pixel_size == pytest.approx((3, 2, 1))
    np.testing.assert_allclose(np.diag(loaded.affine.numpy()), [0, 2, 0, 1], atol=1e-6)
    assert loaded.attenuation().min() > 0.01
    assert load(path).unit == ""


def test_without_a_form_there_is_no_place(tmp_path):
    def forget(image):
        image.set_sform(None, 0)
        image.set_qform(None, 0)

    loaded = load(write(tmp_path / "v.nii", change=forget))
    assert loaded.affine is None
    assert loaded.orientation == ""
    assert loaded.pixel_size is not None
    with pytest.raises(ValueError, match="does not say how it lies in the patient"):
        loaded.oriented("SPL")


def forged(path, offset, content):
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(content)] = content
    return bytes(raw)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("offset", "content", "message"),
    [
        (42, np.array([32000, 32000, 32000], "<i2").tobytes(), r"declares \d+ bytes, the file holds \d+"),
        (42, np.array([0], "<i2").tobytes(), r"declares the shape \(0, 3, 2\)|cannot read"),
        (108, np.array([1e9], "<f4").tobytes(), r"declares \d+ bytes, the file holds"),
        (344, b"ni1\0", "a header whose values are in another file"),
        (70, np.array([128], "<i2").tobytes(), "declares|ends after"),
        (0, b"\0\0\0\0", "not a NIfTI volume, or damaged"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path, compress, offset, content, message):
    raw = forged(write(tmp_path / "v.nii"), offset, content)
    path = tmp_path / ("bad.nii.gz" if compress else "bad.nii")
    path.write_bytes(gzip.compress(raw) if compress else raw)
    with pytest.raises(LoadError, match=message):
        load(path)


def test_a_cut_file_is_refused_even_in_gzips_last_byte(tmp_path):
    for name in ("v.nii", "v.nii.gz"):
        path = write(tmp_path / name)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(LoadError, match=name):
            load(path)


def test_colours_are_no_measurements(tmp_path):
    colours = np.zeros((4, 3, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(LoadError, match="holds colours, which are no measurements"):
        load(write(tmp_path / "v.nii", colours))
