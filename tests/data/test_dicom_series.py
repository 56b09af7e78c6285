"""DICOM series: every voxel lands where the file says, whatever the names, the order and the orientation."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid
from recon_data.dicom_series import read_series
from recon_data.samples import sample

from recon.loading import LoadError, LoadWarning, load

VOLUME = np.arange(4 * 3 * 5, dtype=np.int16).reshape(4, 3, 5)
UNUSED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def rotation(angles):
    """A rotation matrix of three angles about x, y, z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [place for place in range(3) if place != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    order=st.permutations(range(4)),
    spacing=st.tuples(st.floats(0.3, 2), st.floats(0.3, 2)),
    gap=st.floats(0.5, 5),
)
@settings(max_examples=25, deadline=None, suppress_health_check=UNUSED, derandomize=True)
def test_every_voxel_lies_where_its_file_says(write_series, tmp_path, angles, order, spacing, gap):
    """The value of each voxel is a linear function of its place in the patient, so `affine` predicts it."""
    turned = rotation(angles)
    along_row, along_column, normal = turned.T  # a right-handed system, as in DICOM
    origin = np.array([-31.0, 12.0, 140.0])
    gradient = np.array([3.0, -2.0, 5.0])
    slices, rows, columns = np.meshgrid(range(4), range(3), range(5), indexing="ij")
    places = (  # DICOM's coordinates: left, back, head
        origin
        + slices[..., None] * gap * normal
        + rows[..., None] * spacing[0] * along_column
        + columns[..., None] * spacing[1] * along_row
    )
    values = np.round(100 * places @ gradient).astype(np.int32)
    uid = generate_uid()
    folder = f"series{len(list(tmp_path.iterdir()))}"
    for place in order:  # files come to be in any order
        write_series(
            values[place : place + 1],
            folder,
            orientation=tuple(np.concatenate([along_row, along_column]).round(9)),
            origin=tuple((origin + place * gap * normal).round(6)),
            spacing=spacing,
            uid=uid,
            RescaleIntercept=0,
        )
    loaded = load(tmp_path / folder)
    index = np.stack([slices, rows, columns, np.ones_like(slices)], axis=-1)
    found = index @ loaded.affine.numpy().T  # towards right, front, head
    predicted = 100 * (found[..., :3] * [-1, -1, 1]) @ gradient
    # rounding to integers, and positions written with 16 characters
    np.testing.assert_allclose(loaded.data.numpy(), predicted, atol=0.52)
    assert loaded.pixel_size == pytest.approx((gap, *spacing), rel=1e-6)


def test_an_axial_series_runs_from_the_feet_to_the_head(write_series, tmp_path):
    files = write_series(VOLUME[::-1], origin=(0, 0, 6), step=(0, 0, -2))  # scanned from the head down
    loaded = load(tmp_path / "series")
    np.testing.assert_array_equal(loaded.data.numpy(), VOLUME - 1024.0)
    assert (loaded.unit, loaded.orientation) == ("HU", "SPL")
    assert loaded.attributes["SlicePositions"] == (0, 2, 4, 6)
    assert loaded.source == str(tmp_path / "series")
    assert torch.equal(read_series(files[::-1]).data, loaded.data)


def test_each_slice_has_its_own_rescale_and_padding(write_series, tmp_path):
    volume = VOLUME.copy()
    volume[2, 0, 0] = -2000
    write_series(volume, RescaleSlope=[1, 2, 1, 0.5], RescaleIntercept=[-1024, -1000, -1024, 0])
    loaded = load(tmp_path / "series")
    expected = volume * np.array([1, 2, 1, 0.5]).reshape(4, 1, 1)
    expected += np.array([-1024, -1000, -1024, 0]).reshape(4, 1, 1)
    np.testing.assert_array_equal(loaded.data.numpy(), expected)
    assert (~loaded.valid).nonzero().tolist() == [[2, 0, 0]]


def test_files_without_a_suffix_and_other_files_in_the_folder(write_series, tmp_path):
    write_series(VOLUME[:2], suffix="")
    write_series(VOLUME[2:], suffix=".123", origin=(0, 0, 4), uid=pydicom_uid(tmp_path / "series"))
    (tmp_path / "series" / "readme.txt").write_text("hello")
    (tmp_path / "series" / "VERSION").touch()
    (tmp_path / "series" / ".hidden").write_text("x")
    loaded = load(tmp_path / "series")
    np.testing.assert_array_equal(loaded.data.numpy(), VOLUME - 1024.0)
    assert loaded.attributes["warnings"] == ("2 other files are no DICOM images: VERSION, readme.txt",)


def pydicom_uid(folder):
    return pydicom.dcmread(next(folder.iterdir())).SeriesInstanceUID


def test_several_series_are_listed_and_one_is_chosen(write_series, tmp_path):
    write_series(VOLUME, uid="1.2.3.10")
    write_series(VOLUME[:2] + 5, uid="1.2.3.20", SeriesNumber=8)
    folder = tmp_path / "series"
    with pytest.raises(
        LoadError,
        match=r"2 series, choose one with series=: .*1\.2\.3\.10 \(CT, series 7, 4 of 3 x 5\).*1\.2\.3\.20",
    ):
        load(folder)
    assert load(folder, series="1.2.3.20").data.shape == (2, 3, 5)
    assert load(folder, series="10").data.shape == (4, 3, 5)
    with pytest.raises(LoadError, match=r"no series '1\.2\.3'; there are 1\.2"):
        load(folder, series="1.2.3")


def test_a_missing_slice_is_reported_with_its_place(write_series, tmp_path):
    files = write_series(np.concatenate([VOLUME, VOLUME]))
    files[3].unlink()
    with pytest.warns(LoadWarning, match=r"missing slices: 1; gaps unlike the usual 2 mm: 4\.00 to 8\.00 mm"):
        loaded = load(tmp_path / "series")
    assert loaded.data.shape == (7, 3, 5)
    assert loaded.affine is None
    assert loaded.pixel_size == (1, 1)
    assert "missing" in loaded.attributes["warnings"][0]


def test_uneven_spacing_is_reported(write_series, tmp_path):
    write_series(VOLUME)
    write_series(VOLUME[:1], origin=(0, 0, 7.3), uid=pydicom_uid(tmp_path / "series"))
    with pytest.warns(LoadWarning, match=r"not evenly spaced; gaps .*: 6\.00 to 7\.30 mm"):
        load(tmp_path / "series")


def test_a_tilted_gantry_shears_the_geometry(write_series, tmp_path):
    write_series(VOLUME, step=(0, 0.5, 2))
    with pytest.warns(LoadWarning, match="tilted"):
        loaded = load(tmp_path / "series")
    np.testing.assert_allclose(loaded.affine[:3, 0], [0, -0.5, 2])


def test_two_slices_in_one_place_are_refused(write_series, tmp_path):
    write_series(VOLUME)
    write_series(VOLUME[:1] + 9, uid=pydicom_uid(tmp_path / "series"))
    with pytest.raises(LoadError, match=r"where another lies: 1, such as .* at 0\.000 mm: duplicates"):
        load(tmp_path / "series")


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"ImagePositionPatient": None}, "does not say where it lies: ImagePositionPatient is missing"),
        ({"ImageOrientationPatient": None}, "does not say where it lies: ImageOrientationPatient is missing"),
        ({"orientation": (1, 0, 0, 1, 0, 0)}, "is not two perpendicular directions"),
        ({"PixelSpacing": None}, "no PixelSpacing"),
        ({"Modality": ["CT", "CT", "MR", "CT"]}, "slices in different units: '', 'HU'"),
    ],
)
def test_what_is_no_stack_says_why(write_series, tmp_path, elements, message):
    write_series(VOLUME, **elements)
    with pytest.raises(LoadError, match=message):
        load(tmp_path / "series")


def test_a_scout_or_another_size_in_the_series_is_named(write_series, tmp_path):
    write_series(VOLUME, "scout")
    uid = pydicom_uid(tmp_path / "scout")
    write_series(VOLUME[:1], "scout", orientation=(1, 0, 0, 0, 0, -1), origin=(0, 9, 0), uid=uid)
    with pytest.raises(LoadError, match=r"1 of 5 slices have another orientation.*a scout"):
        load(tmp_path / "scout")
    write_series(VOLUME, "sizes")
    write_series(VOLUME[:1, :2], "sizes", origin=(0, 0, 50), uid=pydicom_uid(tmp_path / "sizes"))
    with pytest.raises(LoadError, match="slices of 2 sizes in one series: 2 x 5, 3 x 5"):
        load(tmp_path / "sizes")


def test_a_damaged_slice_is_named(write_series, tmp_path):
    files = write_series(VOLUME)
    files[1].write_bytes(files[1].read_bytes()[:-9])
    with pytest.raises(LoadError, match=files[1].name):
        load(tmp_path / "series")
    files[1].write_bytes(b"")
    with pytest.raises(LoadError, match=f"{files[1].name}: is empty"):
        load(tmp_path / "series")


def test_a_real_slice_knows_its_place():
    dataset = pydicom.dcmread(sample("ct_chest"))
    loaded = load(sample("ct_chest"))
    corner = loaded.affine.numpy() @ [0, 0, 0, 1]
    np.testing.assert_allclose(corner[:3] * [-1, -1, 1], dataset.ImagePositionPatient)
    opposite = loaded.affine.numpy() @ [0, 511, 511, 1]
    np.testing.assert_allclose((opposite - corner)[:2], [-511 * 0.640625, -511 * 0.640625])
    assert loaded.orientation == "SPL"
    assert load(sample("mr_brain")).orientation[0] == "S"


def test_a_folder_of_two_real_scans_is_two_series(tmp_path):
    for name in ("ct_chest", "mr_brain"):
        (tmp_path / f"{name}.dcm").write_bytes(sample(name).read_bytes())
    with pytest.raises(LoadError, match="2 series, choose one"):
        load(tmp_path)
    chest = load(tmp_path, series=pydicom.dcmread(sample("ct_chest")).SeriesInstanceUID)
    assert torch.equal(chest.data[0], load(sample("ct_chest")).data)
    assert torch.equal(chest.affine, load(sample("ct_chest")).affine)


def test_series_is_for_folders(write_series):
    with pytest.raises(LoadError, match="a single file; series= chooses in a folder"):
        load(write_series(VOLUME)[0], series="1")
    with pytest.raises(LoadError, match="no DICOM images"):
        read_series([])
