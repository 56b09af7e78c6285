"""recon.save: what is written comes back within the precision of the format, in its place; whole or not at all."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from recon_data.samples import sample

import recon
from recon import registry
from recon.hookspecs import hookimpl
from recon.loading import Loaded, load
from recon.saving import save

RANDOM = np.random.default_rng(0)
VOLUME = torch.from_numpy(RANDOM.normal(size=(4, 5, 6)).astype(np.float32))
OBLIQUE = torch.tensor(  # slices, rows and columns along perpendicular directions, askew in the patient
    [[1.2, -0.8, 0.0, -30], [1.6, 0.6, 0.0, 20], [0, 0, -0.7, 5], [0, 0, 0, 1]], dtype=torch.float64
)
PLACED = Loaded(data=VOLUME, affine=OBLIQUE, pixel_size=(2.0, 1.0, 0.7), source="made up")


def place_of(loaded, index):
    return loaded.affine.numpy() @ [*index, 1]


@given(
    values=arrays.arrays(
        st.sampled_from([np.dtype(t) for t in ("f4", "f8", "c8", "c16", "i2")]),
        arrays.array_shapes(min_dims=1, max_dims=4, max_side=4),
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numpy_keeps_every_value(tmp_path, values):
    loaded = load(save(tmp_path / "x.npy", torch.from_numpy(values)))
    np.testing.assert_array_equal(loaded.data.numpy(), values)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_nifti_keeps_values_and_place(tmp_path, name, dtype):
    loaded = load(save(tmp_path / name, VOLUME.to(dtype), like=PLACED))
    assert loaded.data.dtype == dtype
    assert torch.equal(loaded.data, VOLUME.to(dtype))
    torch.testing.assert_close(loaded.affine, OBLIQUE, rtol=1e-6, atol=1e-5)  # the header's float32
    assert loaded.pixel_size == pytest.approx((2, 1, 0.7))
    assert loaded.orientation == PLACED.orientation


def test_nifti_of_one_slice_of_batches_and_without_a_place(tmp_path):
    chest = load(sample("ct_chest"))
    back = load(save(tmp_path / "x.nii", chest))
    assert torch.equal(back.data[0], chest.data)
    torch.testing.assert_close(back.affine, chest.affine, rtol=1e-6, atol=1e-4)
    back = load(save(tmp_path / "x.nii", torch.stack([VOLUME, 2 * VOLUME]), pixel_size=(3, 2, 1)))
    assert torch.equal(back.data[1], 2 * VOLUME)
    assert back.affine is None
    assert back.pixel_size == (3, 2, 1)


def test_tiff_keeps_float32_and_the_size_of_a_voxel(tmp_path):
    path = save(tmp_path / "x.tif", VOLUME, pixel_size=(2.5, 0.5, 0.25))
    loaded = load(path, reader="tiff")
    assert torch.equal(loaded.data, VOLUME)
    assert loaded.pixel_size == pytest.approx((2.5, 0.5, 0.25))
    with tifffile.TiffFile(path) as file:
        assert file.imagej_metadata["unit"] == "mm"
    save(path, VOLUME[0], like=PLACED)
    assert load(path, reader="tiff").pixel_size == pytest.approx((1.0, 0.7))
    assert torch.equal(load(path).data, VOLUME[0])  # Pillow reads it too


@pytest.mark.parametrize("bits", [8, 16])
def test_png_is_within_half_a_step_of_the_window(tmp_path, bits):
    image = VOLUME[0]
    low, high = -1.0, 1.5
    picture = load(save(tmp_path / "x.png", image, window=(low, high), bits=bits)).data
    step = (high - low) / (2**bits - 1)
    shown = low + picture * (high - low)
    np.testing.assert_allclose(shown.numpy(), image.clamp(low, high).numpy(), atol=0.5001 * step)
    whole = load(save(tmp_path / "x.png", image, bits=bits)).data
    assert (whole.min(), whole.max()) == (0, 1)


def test_png_in_colour(tmp_path):
    cat = load(sample("chelsea"))
    assert torch.equal(load(save(tmp_path / "x.png", cat, window=(0, 1))).data, cat.data)


# DICOM


def test_dicom_series_in_hounsfield_units_comes_back_in_its_place(tmp_path):
    like = Loaded(data=VOLUME, affine=OBLIQUE, pixel_size=(2.0, 1.0, 0.7), attributes={"KVP": 120.0})
    hounsfield = 400 * VOLUME
    folder = save(tmp_path / "derived", hounsfield, like=like, unit="HU", writer="dicom")
    assert sorted(path.name for path in folder.iterdir()) == [f"{i:04d}.dcm" for i in (1, 2, 3, 4)]
    loaded = load(folder)
    assert loaded.unit == "HU"
    half_a_step = 0.5001 * float(hounsfield.max() - hounsfield.min()) / 65535
    flipped = loaded.affine[:3, 0] @ OBLIQUE[:3, 0] < 0  # sorted along the normal, whatever our order was
    data = loaded.data.flip(0) if flipped else loaded.data
    np.testing.assert_allclose(data.numpy(), hounsfield.numpy(), atol=half_a_step)
    for index in np.ndindex(4, 5, 6):
        ours = (3 - index[0], *index[1:]) if flipped else index
        np.testing.assert_allclose(place_of(loaded, index), place_of(like, ours), atol=1e-6)
    assert loaded.attributes["KVP"] == 120


def test_attenuation_becomes_hounsfield_units_and_padding_stays(tmp_path):
    chest = load(sample("ct_chest"))
    mu = chest.attenuation(water=0.0192)
    path = save(tmp_path / "x.dcm", mu, like=chest, unit="1/mm", water=0.0192)
    loaded = load(path)
    assert loaded.unit == "HU"
    assert torch.equal(loaded.valid, chest.valid)
    inside = chest.valid & (chest.data > -1000)  # attenuation() cuts off below air
    span = float(chest.data[chest.valid].max()) + 1000
    atol = 0.51 * span / 65534 + 2e-4  # half a step, and float32 of mu
    np.testing.assert_allclose(loaded.data[inside].numpy(), chest.data[inside].numpy(), atol=atol)
    torch.testing.assert_close(loaded.affine, chest.affine)
    assert loaded.pixel_size == chest.pixel_size


def test_a_derived_image_says_so_and_names_nobody(tmp_path, write_dicom):
    about = {
        "PatientName": "Doe^Jane",
        "PatientID": "P123",
        "StudyDate": "20200102",
        "StudyInstanceUID": "1.2.3",
    }
    about |= {"InstitutionName": "Clinic", "FrameOfReferenceUID": "1.2.4", "SeriesInstanceUID": "1.2.5"}
    about |= {"ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    about |= {"PixelSpacing": [1, 1], "RescaleSlope": 1, "RescaleIntercept": 0}
    source = load(write_dicom(np.arange(12, dtype=np.int16).reshape(3, 4), name="source.dcm", **about))
    path = save(tmp_path / "x.dcm", source)
    content = path.read_bytes()
    for secret in (b"Doe", b"P123", b"20200102", b"Clinic", b"1.2.3\0", b"1.2.4\0", b"1.2.5\0"):
        assert secret not in content
    dataset = pydicom.dcmread(path)
    assert list(dataset.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert dataset.PatientName == ""
    assert dataset.PatientIdentityRemoved == "YES"
    again = pydicom.dcmread(save(tmp_path / "y.dcm", source))
    for uid in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert dataset[uid].value != again[uid].value
    kept = pydicom.dcmread(save(tmp_path / "z.dcm", source, keep_identifiers=True))
    assert (kept.PatientName, kept.PatientID, kept.StudyInstanceUID) == ("Doe^Jane", "P123", "1.2.3")
    assert kept.FrameOfReferenceUID == "1.2.4"
    assert kept.SeriesInstanceUID not in ("1.2.5", dataset.SeriesInstanceUID)
    assert "PatientIdentityRemoved" not in kept
    with pytest.raises(ValueError, match="keep_identifiers needs like="):
        save(tmp_path / "w.dcm", source.data, unit="HU", pixel_size=(1, 1), keep_identifiers=True)


def test_what_is_no_ct_has_no_hounsfield_units(tmp_path):
    brain = load(sample("mr_brain"))
    loaded = load(save(tmp_path / "x.dcm", brain))
    assert loaded.unit == ""
    assert loaded.attributes["Modality"] == "MR"
    atol = 0.51 * float(brain.data.max()) / 65535
    np.testing.assert_allclose(loaded.data.numpy(), brain.data.numpy(), atol=atol)
    chest = load(sample("ct_chest"))
    assert load(save(tmp_path / "y.dcm", chest.attenuation(), like=chest)).unit == ""  # no unit was given


def test_without_a_place_a_series_is_axial_in_a_frame_of_its_own(tmp_path):
    folder = save(tmp_path / "d", VOLUME, unit="HU", pixel_size=(3, 2, 1), writer="dicom")
    loaded = load(folder)
    assert loaded.orientation == "SPL"
    assert loaded.pixel_size == (3, 2, 1)
    np.testing.assert_allclose(loaded.data.numpy(), VOLUME.numpy(), atol=1e-4)
    for image, sizes in ((VOLUME, None), (VOLUME[0], None), (VOLUME, (1, 1))):
        with pytest.raises(ValueError, match="needs the size of a pixel"):
            save(tmp_path / "e", image, unit="HU", pixel_size=sizes, writer="dicom")
    assert not (tmp_path / "e").exists()


# The interface


def test_a_solution_is_saved_with_the_unit_of_its_problem(tmp_path):
    mu = torch.rand(8, 8) * 0.02
    op = recon.operator("mask", mask=torch.ones(8, 8))
    problem = recon.Problem(op, op(mu))
    problem.notes["unit"] = "1/mm"
    solution = recon.solve(problem, None)
    loaded = load(save(tmp_path / "x.dcm", solution, pixel_size=(0.5, 0.5)))
    assert loaded.unit == "HU"
    np.testing.assert_allclose(loaded.attenuation().numpy(), solution.image.numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["x.npy", "x.nii.gz", "x.tif", "x.png", "x.dcm"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path, name):
    image = VOLUME[0].clone()
    image[0, 0] = float("nan")
    path = tmp_path / name
    path.write_bytes(b"what was there")
    if name in ("x.tif", "x.png", "x.dcm"):
        with pytest.raises(ValueError, match="1 values are NaN or infinite"):
            save(path, image, **({"pixel_size": (1, 1)} if name == "x.dcm" else {}))
    else:
        with pytest.raises(TypeError, match="no parameter 'windw'"):
            save(path, image, windw=(0, 1))
    assert path.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "image", "options", "message"),
    [
        ("x.jpg", VOLUME[0], {}, r"no writer for the suffix '\.jpg'; known are \.dcm, \.nii"),
        (
            "folder",
            VOLUME,
            {},
            r"no writer for the suffix ''; .*a folder of slices is written by writer= one of",
        ),
        ("x.png", VOLUME, {}, r"a picture is \(rows, columns\) or, in colour, .* not \(4, 5, 6\)"),
        ("x.png", VOLUME[0] * 1j, {}, "complex, the format is not"),
        ("x.png", VOLUME[0], {"window": (1, 1)}, r"low < high, got \(1, 1\)"),
        ("x.png", torch.zeros(2, 2), {}, "the image is constant; give window="),
        ("x.tif", VOLUME[0] * 1j, {}, "complex, the format is not"),
        ("x.dcm", VOLUME, {"unit": "HU"}, "a volume is a DICOM file a slice"),
        (
            "x.nii",
            VOLUME[:2],
            {"like": PLACED},
            r"\(2, 5, 6\) is not on the grid of like \(4, 5, 6\) \(made up\)",
        ),
        ("x.nii", VOLUME, {"like": PLACED, "pixel_size": (1, 1)}, "give like= or pixel_size=, not both"),
        ("x.nii", VOLUME, {"pixel_size": (1, 0)}, "pixel_size must be 2 or 3 distances in mm"),
        ("x.nii", VOLUME[0, 0], {}, "has 2 to 4 axes"),
    ],
)
def test_what_cannot_be_saved_says_why(tmp_path, name, image, options, message):
    with pytest.raises(ValueError, match=message):
        save(tmp_path / name, image, **options)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_not_written_into(tmp_path):
    (tmp_path / "d").mkdir()
    save(tmp_path / "d", VOLUME, unit="HU", pixel_size=(1, 1, 1), writer="dicom")
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        save(tmp_path / "d", VOLUME, unit="HU", pixel_size=(1, 1, 1), writer="dicom")
    with pytest.raises(IsADirectoryError, match="name a file in it"):
        save(tmp_path / "d", VOLUME, writer="nifti")
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


class TwoWriters:
    """A third party's plugin that claims a suffix of ours."""

    @hookimpl
    def recon_writers(self) -> list[recon.WriterEntry]:
        made = recon.WriterEntry(
            name="acme", factory="acme:write", summary="Acme", suffixes=(".nii", ".tar.acme")
        )
        return [made]


def test_a_suffix_of_two_writers_asks_which(tmp_path):
    from importlib.metadata import entry_points

    installed = [point for point in entry_points(group="recon") if point.name == "data"]
    with registry.using(registry.Registry(installed)) as in_use:
        in_use.add(TwoWriters(), name="acme:writers")
        with pytest.raises(
            ValueError, match=r"several writers take this suffix: acme/acme, recon/nifti; .*writer=N"
        ):
            save(tmp_path / "x.nii", VOLUME)
        save(tmp_path / "x.nii", VOLUME, writer="nifti")
        save(tmp_path / "x.nii.gz", VOLUME)
        with pytest.raises(ValueError, match="suffixes=.* must be lower-case endings"):
            recon.WriterEntry(name="a", factory="b:c", summary="d", suffixes=("nii",))


def test_a_pixel_size_replaces_what_an_image_says_and_like_is_an_image(tmp_path):
    assert load(save(tmp_path / "x.nii", PLACED, pixel_size=(4, 5, 6))).pixel_size == (4, 5, 6)
    assert load(tmp_path / "x.nii").affine is None
    with pytest.raises(TypeError, match="like is what recon.load returned, got str"):
        save(tmp_path / "x.nii", VOLUME, like="scan.nii")


def test_flipped_views_and_foreign_byte_orders_are_saved(tmp_path):
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    for name, array in (
        ("flipped", image[::-1]),
        ("foreign", image.astype(">f4")),
        ("strided", image[:, ::2]),
    ):
        recon.save(tmp_path / f"{name}.npy", array)
        assert np.array_equal(recon.load(tmp_path / f"{name}.npy").data.numpy(), array)
