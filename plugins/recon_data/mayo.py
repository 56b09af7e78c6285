"""Low-dose CT of the Mayo Clinic: quarter- and full-dose images of the same slices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from torch.utils.data import Dataset

from recon.loading import Loaded, LoadError
from recon.parameters import Param
from recon_data.local_copies import Collection, Pair, Split, checked_index, chosen_patients, some
from recon_data.patient_folders import Series, find_patients, find_series, values_of

COLLECTION = Collection(
    name="Low Dose CT Image and Projection Data (also the AAPM 2016 Low Dose CT Grand Challenge)",
    doi="doi:10.7937/9NPB-2637",
    layout="for each patient (L067, C002, N005, ...) a folder of full-dose and one of low- or quarter-dose DICOM "
    "slices, the dose in the folders' names",
)
PATIENT = r"[LCN]\d{3}"
SAME_PLACE = 0.05  # mm
DOSES = {"full": ("full",), "low": ("quarter", "low dose", "low_dose", "lowdose", "low-dose")}


class MayoLDCT(Dataset[Pair]):
    """Pairs (low dose, full dose) of the slices of the patients in one split, in HU or 1/mm.

    Slices are paired by where they lie in the patient. Files are read when an item is asked for. Folders of
    projections are passed over. `loaded(index)` has the geometry too.

    Attributes:
        patients: the names of the patients in the split.
    """

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
        select: Annotated[
            str, Param("part of the series' paths, such as 3mm, where a patient has several")
        ] = "",
        water: Annotated[
            float | None,
            Param("attenuation of water that makes 1/mm of HU; HU stay without it", unit="1/mm", gt=0),
        ] = None,
    ) -> None:
        self.folder = COLLECTION.folder(folder)
        self.water = water
        folders = find_patients(self.folder, PATIENT)
        if not folders:
            raise COLLECTION.missing(self.folder, "has no folder of a patient")
        self.patients = chosen_patients(folders, split, fractions, seed, self.folder)
        self._index: list[tuple[Series, Series, int]] = []
        for patient in self.patients:
            low, full = (self._one(patient, folders[patient], dose, select) for dose in ("low", "full"))
            _check_places(patient, low, full)
            self._index += [(low, full, number) for number in range(low.slices)]

    def _one(self, patient: str, places: list[Path], dose: str, select: str) -> Series:
        """The one series of a patient at that dose."""
        problems: list[str] = []

        def wanted(path: Path) -> bool:
            return select in str(path) and _dose(path) == dose

        found = [
            series
            for place in places
            for series in find_series(patient, place, self.folder, wanted, problems)
            if series.stack is not None
        ]
        if problems:
            raise LoadError(problems[0])
        if not found:
            chosen = f" with '{select}' in their path" if select else ""
            raise COLLECTION.missing(self.folder, f"has no {dose}-dose slices of patient {patient}{chosen}")
        if len(found) > 1:
            listed = some([str(series.place.relative_to(self.folder)) for series in found])
            raise LoadError(
                f"{self.folder}: patient {patient} has {len(found)} {dose}-dose series ({listed}); choose with select="
            )
        return found[0]

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Pair:
        low, full = self.loaded(index)
        return Pair(values_of(low, self.water), values_of(full, self.water))

    def loaded(self, index: int) -> tuple[Loaded, Loaded]:
        """(low dose, full dose) with their unit, pixel size and place in the patient."""
        low, full, number = self._index[checked_index(index, len(self), str(self.folder))]
        return low.load_slice(number), full.load_slice(number)

    def patient_of(self, index: int) -> str:
        """Whose slice it is."""
        return self._index[checked_index(index, len(self), str(self.folder))][0].patient


def _dose(place: Path) -> str:
    """Which of `DOSES`, by the names of the folders from the innermost; "" for projections and others."""
    for part in reversed(place.parts):
        name = part.lower()
        if "projection" in name:
            return ""
        for dose, words in DOSES.items():
            if any(word in name for word in words):
                return dose
    return ""


def _check_places(patient: str, low: Series, full: Series) -> None:
    """Both must have the same slices.

    Raises:
        LoadError: one has slices that the other has not.
    """
    assert low.stack is not None and full.stack is not None, "NIfTI files have no dose in this collection"
    ours, theirs = np.array(low.stack.positions), np.array(full.stack.positions)
    alone = [
        f"{dose} dose at {place:.2f} mm"
        for dose, places, others in (("low", ours, theirs), ("full", theirs, ours))
        for place in places
        if np.abs(others - place).min() > SAME_PLACE
    ]
    if alone or len(ours) != len(theirs):
        raise LoadError(
            f"{low.place}: patient {patient}'s slices do not pair with those in {full.place}: {some(alone)} without "
            "a partner"
        )
