"""A folder of fastMRI files as pairs of k-space and image, split by patient."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import h5py
from torch.utils.data import Dataset

from recon.loading import Loaded, LoadError, reading
from recon.parameters import Param
from recon_data.fastmri import HDF5, read_fastmri
from recon_data.hdf5 import check_heaps
from recon_data.local_copies import Collection, Pair, Split, checked_index, chosen_patients

COLLECTION = Collection(
    name="fastMRI",
    doi="arXiv:1811.08839; on application",
    layout="the .h5 files of one of its folders, such as multicoil_train or singlecoil_val",
)
TARGETS = ("reconstruction_rss", "reconstruction_esc")


class FastMRIFolder(Dataset[Pair]):
    """Pairs (k-space, reconstruction) of the slices of the examinations in a folder.

    K-space is `(coils, rows, columns)`, or `(rows, columns)` of one coil, the image `(rows, columns)`; examinations
    differ in size, so batches of several need a `collate_fn`. A slice is read when it is asked for;
    `loaded(index)` has the pixel sizes and the header's fields of view.

    The folders of the collection are splits already: `split="all"` takes a folder whole, others deal its patients.

    Attributes:
        patients: the patients in the split, as the files name them; files without a name are their own patient.
    """

    def __init__(
        self,
        folder: Annotated[Path, Param("the folder of .h5 files")],
        *,
        split: Annotated[
            Split, Param("which patients; the folders of the collection are splits already")
        ] = "all",
        fractions: Annotated[tuple[float, float, float], Param("of train, validation, test")] = (
            0.8,
            0.1,
            0.1,
        ),
        seed: Annotated[int, Param("of the split")] = 0,
        acquisition: Annotated[str, Param("only this contrast, such as CORPD_FBK")] = "",
    ) -> None:
        self.folder = COLLECTION.folder(folder)
        paths = sorted(path for path in self.folder.iterdir() if path.suffix.lower() == ".h5")
        if not paths:
            raise COLLECTION.missing(self.folder, "has no .h5 file")
        examinations = [_examination(path) for path in paths]
        if acquisition:
            examinations = [found for found in examinations if found[3] == acquisition]
            if not examinations:
                raise LoadError(f"{self.folder}: no file of the acquisition '{acquisition}'")
        self.patients = chosen_patients(
            (found[1] for found in examinations), split, fractions, seed, self.folder
        )
        kept = set(self.patients)
        self._index = [
            (path, patient, target, number)
            for path, patient, target, _, slices in examinations
            if patient in kept
            for number in range(slices)
        ]

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Pair:
        kspace, image = self.loaded(index)
        return Pair(kspace.data, image.data)

    def loaded(self, index: int) -> tuple[Loaded, Loaded]:
        """(k-space, reconstruction) with what the header says."""
        path, _, target, number = self._index[checked_index(index, len(self), str(self.folder))]
        return read_fastmri(path, slice_number=number), read_fastmri(path, array=target, slice_number=number)

    def patient_of(self, index: int) -> str:
        """Whose slice it is, as the file names the patient."""
        return self._index[checked_index(index, len(self), str(self.folder))][1]


def _examination(path: Path) -> tuple[Path, str, str, str, int]:
    """The file, its patient, the name of its reconstruction, its contrast, and how many slices it has."""
    with reading(path, HDF5), h5py.File(path, "r") as file:
        if any(file.attrs.get_id(name).dtype.hasobject for name in file.attrs):
            check_heaps(path)
        target = next((name for name in TARGETS if name in file), None)
        if target is None or "kspace" not in file or len(file["kspace"]) != len(file[target]):
            raise LoadError(
                f"{path}: needs 'kspace' and a reconstruction of as many slices, it has {sorted(file)}"
            )
        patient = str(file.attrs.get("patient_id", path.stem))
        return path, patient, target, str(file.attrs.get("acquisition", "")), len(file["kspace"])
