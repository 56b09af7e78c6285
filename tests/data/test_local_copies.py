"""Datasets of a local copy: the files' own numbers, in the right units, split by patient, read when asked for."""

from __future__ import annotations

import math
import pickle

import h5py
import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mri_files import write_fastmri
from recon_data.local_copies import SPLITS, Pair, split_patients
from torch.utils.data import DataLoader

import recon
from recon import registry
from recon.loading import LoadError, LoadWarning

RANDOM = np.random.default_rng(0)

# Splits


@given(
    patients=st.lists(st.text(min_size=1, max_size=6), max_size=40),
    fractions=st.tuples(st.integers(0, 10), st.integers(0, 10), st.integers(1, 10)),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=60, deadline=None)
def test_no_patient_is_in_two_splits_and_none_is_lost(patients, fractions, seed):
    shares = [share / sum(fractions) for share in fractions]
    split = split_patients(patients, shares, seed)
    everyone = [name for part in split.values() for name in part]
    assert sorted(everyone) == sorted(set(patients))
    assert split == split_patients(patients[::-1], shares, seed)
    for name, share in zip(SPLITS, shares, strict=True):
        assert abs(len(split[name]) - share * len(set(patients))) <= 1


def test_splits_are_the_same_on_every_machine_and_change_with_the_seed():
    names = [f"patient{i}" for i in range(10)]
    assert split_patients(names, (0.6, 0.2, 0.2), 0) == {  # recorded; SHA-256 has no platform
        "train": ("patient0", "patient1", "patient3", "patient4", "patient7", "patient8"),
        "validation": ("patient5", "patient6"),
        "test": ("patient2", "patient9"),
    }
    assert split_patients(names, seed=0) != split_patients(names, seed=1)
    with pytest.raises(ValueError, match="must sum to 1"):
        split_patients(names, (0.5, 0.1, 0.1))


# LoDoPaB-CT


def disc(points, centre, radius):
    return (((points - centre) ** 2).sum(-1) < radius**2).astype(np.float32)


@pytest.fixture(scope="module")
def lodopab(tmp_path_factory):
    """A first part of the test split: image 0 a disc off the middle, with its exact line integrals.

    As the collection was made: with ODL, whose first image axis is x, and which measures along
    u (cos t, sin t) + s (-sin t, cos t).
    """
    folder = tmp_path_factory.mktemp("lodopab")
    mu, centre, radius = 0.02, np.array([40.0, -25.0]), 30.0  # 1/mm, mm
    side = 260 / 362
    axis = (np.arange(362) - 180.5) * side
    image = mu * disc(np.stack(np.meshgrid(axis, axis, indexing="ij"), -1), centre, radius)
    angle = (np.arange(1000)[:, None] + 0.5) * math.pi / 1000
    u = (np.arange(513) - 256) * math.sqrt(2) * 260 / 513
    distance = u - (centre[0] * np.cos(angle) + centre[1] * np.sin(angle))
    sinogram = 2 * mu * np.sqrt(np.clip(radius**2 - distance**2, 0, None))
    mu_max = 81.35858  # 1/m
    for kind, values in (("ground_truth", 1000 * image / mu_max), ("observation", sinogram / mu_max)):
        (folder / f"{kind}_test").mkdir()
        with h5py.File(folder / f"{kind}_test" / f"{kind}_test_000.hdf5", "w") as file:
            file["data"] = np.stack([values, 0 * values, values / 2]).astype(np.float32)
    return folder, image


def test_lodopab_is_in_physical_units_as_the_operator_sees_it(lodopab):
    folder, image = lodopab
    dataset = recon.dataset("lodopab", folder=folder, split="test", partial=True)
    assert len(dataset) == 3
    pair = dataset[0]
    assert isinstance(pair, Pair)
    assert pair.image.max().item() == pytest.approx(0.02)
    assert torch.equal(pair.image, torch.rot90(dataset[0].image, 4))
    assert pair.image.sum().item() == pytest.approx(image.sum(), rel=1e-5)
    some = dataset.geometry | {"angles": dataset.geometry["angles"][::50]}  # 20 views, for time
    op = recon.operator("ct_parallel", **some)
    data = pair.data[::50]
    # a disc of pixels against a disc: 1 % of the longest chord on average, at its edge more
    error = (op(pair.image) - data).norm() / data.norm()
    assert error < 0.02
    upside_down = (op(pair.image.flip(0)) - data).norm() / data.norm()
    assert upside_down > 0.5
    torch.testing.assert_close(dataset[-1].data, pair.data / 2)


def test_lodopab_as_in_the_files_and_in_batches(lodopab):
    dataset = recon.dataset("lodopab", folder=lodopab[0], split="test", partial=True, normalised=True)
    assert dataset[0].image.max().item() == pytest.approx(20 / 81.35858)
    batch = next(iter(DataLoader(dataset, batch_size=2)))
    assert batch.data.shape == (2, 1000, 513)
    assert batch.image.shape == (2, 362, 362)
    assert len(pickle.loads(pickle.dumps(dataset))) == 3
    with pytest.raises(IndexError, match="has 3 items, there is no 3"):
        dataset[3]


def test_lodopab_says_what_is_missing(lodopab, tmp_path):
    folder = lodopab[0]
    with pytest.raises(
        FileNotFoundError,
        match=r"lacks observation_test_001\.hdf5, ground_truth_test_001.* and 49 more \(partial=True uses what is "
        r"there\); a local copy of LoDoPaB-CT has ground_truth_<split>_000\.hdf5.*doi:10\.5281/zenodo\.3384092",
    ):
        recon.dataset("lodopab", folder=folder, split="test")
    with pytest.raises(FileNotFoundError, match="lacks observation_train_000"):
        recon.dataset("lodopab", folder=folder, partial=True)
    for kind in ("observation", "ground_truth"):
        with h5py.File(tmp_path / f"{kind}_test_000.hdf5", "w") as file:
            file["data"] = np.zeros((1, 5, 5), np.float32)
    dataset = recon.dataset("lodopab", folder=tmp_path, split="test", partial=True)
    with pytest.raises(
        LoadError, match=r"observation_test_000\.hdf5: expected images of shape \(1000, 513\)"
    ):
        dataset[0]


# Folders of patients


VOLUME = RANDOM.integers(0, 2000, (3, 4, 5)).astype(np.int16)


def test_folders_of_patients_are_sliced_in_order_and_split(write_series, tmp_path):
    for number in range(10):
        write_series(VOLUME[::-1] + number, f"set/P{number}/study/a", step=(0, 0, -2), origin=(0, 0, 4))
    folder = tmp_path / "set"
    everyone = recon.dataset("patients", folder=folder, split="all")
    assert len(everyone) == 30
    np.testing.assert_array_equal(everyone[4].numpy(), VOLUME[1] + 1 - 1024.0)
    names = [set(recon.dataset("patients", folder=folder, split=split).patients) for split in SPLITS]
    assert [len(part) for part in names] == [8, 1, 1]
    assert len(set.union(*names)) == 10
    train = recon.dataset("patients", folder=folder, split="train")
    assert {train.patient_of(place) for place in range(len(train))} == names[0]
    volumes = recon.dataset("patients", folder=folder, split="all", items="volumes", water=0.02)
    np.testing.assert_allclose(
        volumes[3].numpy(), (0.02 * (VOLUME + 3 - 1024.0) / 1000 + 0.02).clip(0), rtol=1e-5
    )
    batch = next(iter(DataLoader(everyone, batch_size=3, num_workers=0)))
    assert batch.shape == (3, 4, 5)


def test_a_slice_of_a_series_and_of_a_volume_lies_in_its_place(write_series, tmp_path):
    write_series(VOLUME, "set/P1/dicom", origin=(1, 2, 3))
    nibabel.save(
        nibabel.Nifti1Image(VOLUME.T, np.diag([1, 1, 2, 1.0])),
        write_folder(tmp_path / "set/P1/n") / "v.nii.gz",
    )
    dataset = recon.dataset("patients", folder=tmp_path / "set", split="all")
    assert len(dataset) == 6
    np.testing.assert_allclose(dataset.loaded(2).affine[:3, 3], [-1, -2, 7])
    np.testing.assert_allclose(dataset.loaded(5).affine[:3, 3], [0, 0, 4])
    np.testing.assert_array_equal(dataset[5].numpy(), VOLUME[2])
    chosen = recon.dataset("patients", folder=tmp_path / "set", split="all", select="dicom")
    assert len(chosen) == 3


def write_folder(path):
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_series_that_cannot_be_used_are_named_and_left_out(write_series, tmp_path):
    write_series(VOLUME, "set/P1/good")
    write_series(VOLUME, "set/P1/scout", ImagePositionPatient=None)
    with pytest.warns(LoadWarning, match="1 series are left out: .*scout: its slices cannot be put in order"):
        dataset = recon.dataset("patients", folder=tmp_path / "set", split="all")
    assert len(dataset) == 3
    assert len(dataset.left_out) == 1


@pytest.mark.parametrize(
    ("name", "below", "patient"),
    [
        ("tcga_lihc", "TCGA-LIHC/TCGA-BC-4073/01-01-2000/1-AP", "TCGA-BC-4073"),
        ("adni", "ADNI/002_S_0295/MPRAGE/2006-04-18/I13722", "002_S_0295"),
        ("chaos", "Train_Sets/CT/17/DICOM_anon", "17"),
    ],
)
def test_collections_find_their_patients(write_series, tmp_path, name, below, patient):
    write_series(VOLUME, f"copy/{below}", Modality="MR")
    dataset = recon.dataset(name, folder=tmp_path / "copy", split="all")
    assert dataset.patients == (patient,)
    assert len(dataset) == 3


@pytest.mark.parametrize(
    "name", ["lodopab", "mayo_ldct", "chaos", "tcga_lihc", "adni", "fastmri", "patients"]
)
def test_a_missing_folder_says_what_belongs_there_and_where_it_is_had(tmp_path, name):
    entry = registry.find("dataset", name).entry
    assert entry.licence
    with pytest.raises(
        FileNotFoundError, match=r"no such folder; a local copy of .* has .*obtain it under its own"
    ):
        recon.dataset(name, folder=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="is empty; a local copy of"):
        recon.dataset(name, folder=tmp_path)
    (tmp_path / "readme.txt").write_text("x")
    (tmp_path / "other").mkdir()
    with pytest.raises((FileNotFoundError, LoadError), match="a local copy of|is empty"):
        recon.dataset(name, folder=tmp_path)


# Mayo Clinic


def mayo_copy(write_series, patient="L067", low="quarter_3mm", full="full_3mm", low_places=3):
    write_series(VOLUME[:low_places] + 40, f"mayo/{low}/{patient}/{low}", step=(0, 0, 2))
    write_series(VOLUME[::-1], f"mayo/{full}/{patient}/{full}", step=(0, 0, -2), origin=(0, 0, 4))


def test_low_and_full_dose_are_paired_by_place(write_series, tmp_path):
    mayo_copy(write_series)
    dataset = recon.dataset("mayo_ldct", folder=tmp_path / "mayo", split="all")
    assert (len(dataset), dataset.patients) == (3, ("L067",))
    for number in range(3):
        np.testing.assert_array_equal(dataset[number].image.numpy(), VOLUME[number] - 1024.0)
        np.testing.assert_array_equal(dataset[number].data.numpy(), VOLUME[number] + 40 - 1024.0)
    low, full = dataset.loaded(2)
    torch.testing.assert_close(low.affine, full.affine)
    assert dataset.patient_of(2) == "L067"


def test_the_archives_names_are_understood_and_projections_passed_over(write_series, tmp_path):
    study = "mayo/LDCT/C002/12-23-2021-NA"
    write_series(VOLUME, f"{study}/1.000000-Low Dose Images-39882")
    write_series(VOLUME, f"{study}/1.000000-Full dose images-67226")
    write_series(VOLUME, f"{study}/1.000000-Full Dose Projections-1", ImagePositionPatient=None)
    assert len(recon.dataset("mayo_ldct", folder=tmp_path / "mayo", split="all")) == 3


def test_slices_without_a_partner_are_named(write_series, tmp_path):
    mayo_copy(write_series, low_places=2)
    with pytest.raises(
        LoadError, match=r"patient L067's slices do not pair .*: full dose at 4\.00 mm without"
    ):
        recon.dataset("mayo_ldct", folder=tmp_path / "mayo", split="all")


def test_several_reconstructions_of_a_patient_ask_which(write_series, tmp_path):
    mayo_copy(write_series)
    mayo_copy(write_series, low="quarter_1mm", full="full_1mm")
    with pytest.raises(
        LoadError, match=r"patient L067 has 2 low-dose series \(quarter_1mm.*choose with select="
    ):
        recon.dataset("mayo_ldct", folder=tmp_path / "mayo", split="all")
    assert len(recon.dataset("mayo_ldct", folder=tmp_path / "mayo", split="all", select="3mm")) == 3


# fastMRI


def test_fastmri_pairs_by_patient(tmp_path):
    for number in range(6):
        kspace = RANDOM.normal(size=(2, 3, 16, 10)) + 1j
        write_fastmri(
            tmp_path / f"file{number}.h5",
            kspace,
            np.full((2, 8, 10), number),
            patient_id=f"patient{number // 2}",
            acquisition="CORPD_FBK" if number < 4 else "CORPDFS_FBK",
        )
    everyone = recon.dataset("fastmri", folder=tmp_path)
    assert (len(everyone), len(everyone.patients)) == (12, 3)
    assert everyone[3].data.shape == (3, 16, 10)
    assert torch.equal(everyone[3].image, torch.full((8, 10), 1.0))
    assert everyone.loaded(3)[0].pixel_size == (20.0, 15.0)
    parts = [
        recon.dataset("fastmri", folder=tmp_path, split=split, fractions=(0.34, 0.33, 0.33))
        for split in SPLITS
    ]
    seen = [{part.patient_of(place) for place in range(len(part))} for part in parts]
    assert all(len(part) == 4 for part in parts)
    assert len(set.union(*seen)) == 3
    assert len(recon.dataset("fastmri", folder=tmp_path, acquisition="CORPD_FBK")) == 8
    with pytest.raises(LoadError, match="no file of the acquisition 'T2'"):
        recon.dataset("fastmri", folder=tmp_path, acquisition="T2")
    batch = next(iter(DataLoader(everyone, batch_size=2)))
    assert batch.data.shape == (2, 3, 16, 10)


def test_fastmri_without_a_reconstruction_is_named(tmp_path):
    write_fastmri(tmp_path / "a.h5", RANDOM.normal(size=(2, 3, 4, 5)))
    with pytest.raises(
        LoadError, match=r"a\.h5: needs 'kspace' and a reconstruction .* it has \['ismrmrd_header'"
    ):
        recon.dataset("fastmri", folder=tmp_path)
