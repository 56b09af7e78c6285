"""Folders of patients with DICOM series or NIfTI volumes, split by patient (also CHAOS, TCGA-LIHC and ADNI)."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from torch import Tensor
from torch.utils.data import Dataset

from recon.loading import Loaded, LoadError, LoadWarning, folder_ending
from recon.parameters import Param
from recon_data.dicom_series import SUFFIXES as DICOM_SUFFIXES
from recon_data.dicom_series import Slice, Stack, by_series, headers, read_stack, sort_slices
from recon_data.local_copies import Collection, Split, checked_index, chosen_patients, some
from recon_data.nifti import read_nifti, read_shape

NIFTI_SUFFIXES = (".nii", ".nii.gz")
AIR = -1000.0  # HU; what padding counts as
DEEPEST = 4  # levels of folders above those of the patients


@dataclass(frozen=True)
class Series:
    """One volume of a patient: a DICOM series in order, or a NIfTI file (then without a `stack`)."""

    patient: str
    place: Path
    stack: Stack | None
    slices: int

    def load(self) -> Loaded:
        """The volume."""
        return read_nifti(self.place) if self.stack is None else read_stack(self.stack, str(self.place))

    def load_slice(self, number: int) -> Loaded:
        """One slice of it; of a DICOM series, no other file is read."""
        if self.stack is None:
            return slice_of(self.load(), number)
        alone = replace(
            self.stack,
            slices=self.stack.slices[number : number + 1],
            positions=(self.stack.positions[number],),
        )
        loaded = read_stack(alone, str(self.stack.slices[number].path))
        return slice_of(replace(loaded, affine=_moved(loaded.affine, number)), 0)


def slice_of(volume: Loaded, number: int) -> Loaded:
    """One slice of a volume, in its place."""
    return replace(
        volume,
        data=volume.data[..., number, :, :],
        valid=None if volume.valid is None else volume.valid[..., number, :, :],
        affine=_moved(volume.affine, number),
        pixel_size=None if volume.pixel_size is None else volume.pixel_size[-2:],
    )


def _moved(affine: Tensor | None, slices: int) -> Tensor | None:
    if affine is None:
        return None
    affine = affine.clone()
    affine[:3, 3] += slices * affine[:3, 0]
    return affine


class PatientFolders(Dataset[Tensor]):
    """Slices or volumes of the patients in one split; files are read when an item is asked for.

    An item is a tensor, `(rows, columns)` or `(slices, rows, columns)`, in HU for CT, with padding as air, or
    in 1/mm with `water`; `loaded(index)` has its geometry too. Slices of different sizes cannot be batched.

    Attributes:
        patients: the names of the patients in the split.
        left_out: what could not be used, and why, a sentence each (scouts, series without positions).
    """

    collection: ClassVar[Collection] = Collection(
        name="a collection",
        doi="from where you know it",
        layout="a folder for each patient, with DICOM series or .nii and .nii.gz volumes at any depth",
    )
    pattern: ClassVar[str] = ""

    def __init__(
        self,
        folder: Annotated[Path, Param("the local copy")],
        *,
        split: Annotated[Split, Param("which patients")] = "train",
        fractions: Annotated[tuple[float, float, float], Param("of train, validation, test")] = (
            0.8,
            0.1,
            0.1,
        ),
        seed: Annotated[int, Param("of the split")] = 0,
        items: Annotated[Literal["slices", "volumes"], Param("what an item is")] = "slices",
        select: Annotated[str, Param("part of a series' path below the folder; all series without it")] = "",
        patient: Annotated[
            str, Param("regular expression of the names of the patients' folders, at any depth")
        ] = "",
        water: Annotated[
            float | None,
            Param("attenuation of water that makes 1/mm of HU; HU stay without it", unit="1/mm", gt=0),
        ] = None,
    ) -> None:
        self.folder = self.collection.folder(folder)
        self.water = water
        folders = find_patients(self.folder, patient or self.pattern)
        if not folders:
            raise self.collection.missing(self.folder, "has no folder of a patient")
        self.patients = chosen_patients(folders, split, fractions, seed, self.folder)
        left_out: list[str] = []
        self.series = [
            series
            for name in self.patients
            for place in folders[name]
            for series in find_series(name, place, self.folder, lambda path: select in str(path), left_out)
        ]
        self.left_out = tuple(left_out)
        if not self.series:
            wanted = f" with '{select}' in its path" if select else ""
            why = f" ({some(left_out)})" if left_out else ""
            raise self.collection.missing(self.folder, f"has no series{wanted} in its split '{split}'{why}")
        if left_out:
            text = f"{self.folder}: {len(left_out)} series are left out: {some(left_out)}"
            warnings.warn(LoadWarning(text), stacklevel=2)
        self._index: list[tuple[Series, int | None]] = [
            (series, number)
            for series in self.series
            for number in ([None] if items == "volumes" else range(series.slices))
        ]
        self._last: tuple[Series, Loaded] | None = None

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Tensor:
        return values_of(self.loaded(index), self.water)

    def loaded(self, index: int) -> Loaded:
        """The item with its unit, pixel size and place in the patient."""
        series, number = self._index[checked_index(index, len(self), str(self.folder))]
        if series.stack is not None and number is not None:
            return series.load_slice(number)
        if self._last is None or self._last[0] is not series:  # neighbouring slices share their volume's file
            self._last = (series, series.load())
        return self._last[1] if number is None else slice_of(self._last[1], number)

    def patient_of(self, index: int) -> str:
        """Whose item it is."""
        return self._index[checked_index(index, len(self), str(self.folder))][0].patient


def values_of(found: Loaded, water: float | None) -> Tensor:
    """HU with padding as air, or 1/mm with `water`; other units as they are."""
    if found.unit != "HU":
        return found.data
    if water is not None:
        return found.attenuation(water=water)
    return found.data if found.valid is None else found.data.where(found.valid, AIR)


def find_patients(folder: Path, pattern: str = "") -> dict[str, list[Path]]:
    """The folders of each patient: those in `folder`, or those at some depth whose whole name fits `pattern`."""
    found: dict[str, list[Path]] = {}
    level = [folder]
    for _ in range(DEEPEST if pattern else 1):
        below: list[Path] = []
        for place in sorted(item for parent in level for item in parent.iterdir() if item.is_dir()):
            if not pattern or re.fullmatch(pattern, place.name):
                if not place.name.startswith("."):
                    found.setdefault(place.name, []).append(place)
            else:
                below.append(place)
        level = below
    return found


def find_series(
    patient: str, place: Path, root: Path, wanted: Callable[[Path], bool], left_out: list[str]
) -> list[Series]:
    """The volumes of a patient below `place`, by path; why others are not used is added to `left_out`.

    `wanted` tells from a folder's, or a NIfTI file's, path below `root`.
    """
    found: list[Series] = []
    for parent, names, files in os.walk(place):
        names.sort()
        paths = [Path(parent) / name for name in sorted(files) if not name.startswith(".")]
        for path in paths:
            if path.name.lower().endswith(NIFTI_SUFFIXES) and wanted(path.relative_to(root)):
                with _noted(left_out):
                    found.append(_nifti_series(patient, path))
        slices = [path for path in paths if folder_ending(path) in (*DICOM_SUFFIXES, "")]
        groups: dict[str, list[Slice]] = {}
        if slices and wanted(Path(parent).relative_to(root)):
            with _noted(left_out):
                groups = by_series(headers(slices)[0])
        for uid in sorted(groups):
            with _noted(left_out):
                stack = sort_slices(groups[uid], parent)
                found.append(Series(patient, Path(parent), stack, len(stack.slices)))
    return found


@contextmanager
def _noted(left_out: list[str]) -> Iterator[None]:
    try:
        yield
    except LoadError as error:
        left_out.append(str(error))


def _nifti_series(patient: str, path: Path) -> Series:
    shape = read_shape(path)
    if len(shape) != 3:
        raise LoadError(f"{path}: a volume has three axes, this one has {len(shape)}")
    return Series(patient, path, None, shape[0])


class CHAOS(PatientFolders):
    """CHAOS: healthy abdomens in CT or MR (Kavur et al. 2021, doi:10.1016/j.media.2020.101950).

    `folder` is the folder CT or MR of a set: patients of the two have the same numbers and are other people.
    `select="T2SPIR"` or `select="InPhase"` chooses an MR sequence.
    """

    collection = Collection(
        name="CHAOS",
        doi="doi:10.5281/zenodo.3362844",
        layout="Train_Sets/CT/<number>/DICOM_anon/*.dcm and Train_Sets/MR/<number>/T2SPIR/DICOM_anon/*.dcm; "
        "name its folder CT or MR",
    )
    pattern = r"\d+"


class TCGALIHC(PatientFolders):
    """TCGA-LIHC: CT and MR of liver cancer, The Cancer Imaging Archive (Erickson et al. 2016)."""

    collection = Collection(
        name="TCGA-LIHC",
        doi="doi:10.7937/K9/TCIA.2016.IMMQW8UQ",
        layout="<patient, TCGA-xx-xxxx>/<study>/<series>/*.dcm, as the archive's retriever leaves it",
    )
    pattern = r"TCGA-[0-9A-Z]{2}-[0-9A-Z]{4}"


class ADNI(PatientFolders):
    """ADNI: MR of brains, ageing and Alzheimer's disease; data on application."""

    collection = Collection(
        name="ADNI",
        doi="Alzheimer's Disease Neuroimaging Initiative, data on application",
        layout="<subject, nnn_S_nnnn>/<sequence>/<date>/<image>/*.dcm or *.nii, as the archive delivers it",
    )
    pattern = r"\d{3}_S_\d{4,5}"
