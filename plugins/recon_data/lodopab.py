"""LoDoPaB-CT: low-dose parallel-beam CT of the chest (Leuschner et al. 2021, doi:10.1038/s41597-021-00893-z)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import h5py
import torch
from torch import Tensor
from torch.utils.data import Dataset

from recon.loading import LoadError, reading, to_tensor
from recon.parameters import Param
from recon_data.hdf5 import read_values
from recon_data.local_copies import Collection, Pair, checked_index, some

COLLECTION = Collection(
    name="LoDoPaB-CT",
    doi="doi:10.5281/zenodo.3384092",
    layout="ground_truth_<split>_000.hdf5, observation_<split>_000.hdf5 and so on, in it or in folders of the "
    "names of the zip files (ground_truth_train, observation_train, ...)",
)
IMAGES = {"train": 35820, "validation": 3522, "test": 3553}
IMAGES_PER_FILE = 128
MU_MAX = 81.35858 / 1000  # 1/mm; the images are divided by it, and so are the logarithms of the counts
SHAPE, DETECTORS, VIEWS = (362, 362), 513, 1000
SIDE = 260.0  # mm, of the square that the image covers


class LoDoPaB(Dataset[Pair]):
    """The pairs of one split: line integrals `(1000, 513)` and attenuation `(362, 362)` in 1/mm.

    Images are turned as this project's operators see them (rows from top to bottom): `ct_parallel(**geometry)`
    of an image gives its data up to noise. Files are read when an item is asked for.

    Attributes:
        geometry: arguments of the operator `ct_parallel`.
    """

    def __init__(
        self,
        folder: Annotated[Path, Param("the local copy")],
        *,
        split: Annotated[
            Literal["train", "validation", "test"], Param("of the collection, by patient")
        ] = "train",
        normalised: Annotated[
            bool, Param("values as in the files, divided by 0.08135858 1/mm, rather than 1/mm")
        ] = False,
        partial: Annotated[bool, Param("use the files that are there, from the first without a gap")] = False,
    ) -> None:
        self.folder = COLLECTION.folder(folder)
        self.split = split
        self.scale = 1.0 if normalised else MU_MAX
        self.files = self._files(partial)
        last = _dataset_length(self.files[-1][1])
        self.length = min(IMAGES[split], IMAGES_PER_FILE * (len(self.files) - 1) + last)

    def _files(self, partial: bool) -> list[tuple[Path, Path]]:
        """(observation, ground truth) of each part."""
        found: list[tuple[Path, Path]] = []
        absent: list[str] = []
        for number in range(math.ceil(IMAGES[self.split] / IMAGES_PER_FILE)):
            pair = []
            for kind in ("observation", "ground_truth"):
                name = f"{kind}_{self.split}_{number:03d}.hdf5"
                places = (self.folder / name, self.folder / f"{kind}_{self.split}" / name)
                pair.append(next((place for place in places if place.is_file()), places[0]))
            absent.extend(place.name for place in pair if not place.is_file())
            if absent and partial:
                break
            found.append((pair[0], pair[1]))
        if (absent and not partial) or not found:
            remedy = "" if partial else " (partial=True uses what is there)"
            raise COLLECTION.missing(self.folder, f"lacks {some(absent)}{remedy}")
        return found

    @property
    def geometry(self) -> dict[str, Any]:
        """Arguments of `ct_parallel`: mm, radians, views in the middle of 1000 equal parts of 180 degrees."""
        return {
            "shape": SHAPE,
            "pixel_size": SIDE / SHAPE[0],
            "angles": [(view + 0.5) * math.pi / VIEWS for view in range(VIEWS)],
            "detectors": DETECTORS,
            "detector_size": math.sqrt(2) * SIDE / DETECTORS,
        }

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Pair:
        index = checked_index(index, self.length, f"LoDoPaB-CT's {self.split} split")
        number, row = divmod(index, IMAGES_PER_FILE)
        observation, ground_truth = self.files[number]
        data = self._read(observation, row, (VIEWS, DETECTORS))
        image = torch.rot90(self._read(ground_truth, row, SHAPE))
        # the data are -log(counts) / mu_max in 1/m; their product with it has no unit
        return Pair(data if self.scale == 1 else 1000 * self.scale * data, self.scale * image)

    def _read(self, path: Path, row: int, shape: tuple[int, int]) -> Tensor:
        with reading(path, "an HDF5 file"), h5py.File(path, "r") as file:
            dataset = file.get("data")
            if not isinstance(dataset, h5py.Dataset) or dataset.shape[1:] != shape or row >= len(dataset):
                has = dataset.shape if isinstance(dataset, h5py.Dataset) else "no dataset 'data'"
                raise LoadError(
                    f"{path}: expected images of shape {shape} and at least {row + 1}, it has {has}"
                )
            return to_tensor(read_values(dataset, path, row), f"{path}: image {row}")


def _dataset_length(path: Path) -> int:
    with reading(path, "an HDF5 file"), h5py.File(path, "r") as file:
        return len(file["data"])
