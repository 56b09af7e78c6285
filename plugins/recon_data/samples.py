"""The real scans and photographs that ship with the package, each with its licence and credit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from recon.suggestions import did_you_mean

if TYPE_CHECKING:
    from recon.loading import Loaded

FOLDER = Path(__file__).parent / "samples"

STONY_BROOK = (
    "Saltz J. et al. (2021), Stony Brook University COVID-19 Positive Cases, The Cancer Imaging Archive, "
    "doi:10.7937/TCIA.BBAG-2923; Clark K. et al. (2013), J. Digit. Imaging 26, doi:10.1007/s10278-013-9622-7"
)
SCHWANNOMA = (
    "Shapey J. et al. (2021), Segmentation of Vestibular Schwannoma from Magnetic Resonance Imaging, "
    "The Cancer Imaging Archive, doi:10.7937/TCIA.9YTJ-5Q73; "
    "Clark K. et al. (2013), J. Digit. Imaging 26, doi:10.1007/s10278-013-9622-7"
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One file that ships with the package.

    Attributes:
        file: where it lies.
        title: what it shows.
        licence: the SPDX name of its licence; the text is in `samples/licenses`.
        credit: who made it, to be named wherever it is shown.
        unit: the unit of its values, as in `Loaded.unit`.
        notes: what to know before using it.
        sha256: the checksum of the file.
        options: what `recon.load` needs to know beside the file, such as the name of an array.
    """

    file: Path
    title: str
    licence: str
    credit: str
    unit: str
    notes: str
    sha256: str
    options: Mapping[str, Any] = field(default_factory=dict)


_SAMPLES = MappingProxyType(
    {
        "ct_chest": Sample(
            file=FOLDER / "ct_sbu_A002304_axial_19010112-135.dcm",
            title="CT of the chest, axial slice",
            licence="CC-BY-4.0",
            credit=STONY_BROOK,
            unit="HU",
            notes="512 x 512, 0.640625 mm pixels, GE; padding outside the round field of view, which cuts "
            "the body",
            sha256="7343af528149826fa3cd2b37bda09dd772b75b0688fe871a2a38fd384fa14464",
        ),
        "ct_chest_metal": Sample(
            file=FOLDER / "ct_sbu_A046441_axial_19010101-23.dcm",
            title="CT of the chest with a metal lead, axial slice",
            licence="CC-BY-4.0",
            credit=STONY_BROOK,
            unit="HU",
            notes="512 x 512, 0.618 mm pixels, Toshiba; stored in HU (slope 1, intercept 0); padding -2048 "
            "without a padding tag; metal up to 5622 HU",
            sha256="d0358f47262eade832d012685c24f212109a8f744324f9339aa52e0c2f2c2f80",
        ),
        "ct_volume": Sample(
            file=FOLDER / "ct_totalseg_example_ct_sm.nii.gz",
            title="CT of the body, a volume",
            licence="Apache-2.0",
            credit="TotalSegmentator, Wasserthal J. et al. (2023), doi:10.1148/ryai.230024",
            unit="HU",
            notes="30 slices of 101 x 122 voxels of 3 mm, rows towards the front of the patient; oriented('SPL') turns "
            "it",
            sha256="e50c00b2914e2cac0aaee8e7f3b5f57d44d9f21bfd5c0577271c54c0cb49e9fb",
            options={"unit": "HU"},
        ),
        "tooth": Sample(
            file=FOLDER / "sino_parallel_tooth.h5",
            title="Parallel-beam CT of a tooth, raw counts of two detector rows",
            licence="BSD-3-Clause",
            credit="Copyright (c) 2013-2019, UChicago Argonne, LLC (TomoPy)",
            unit="counts",
            notes="181 views over 180 degrees, 2 rows, 640 elements; flats, darks and angles in exchange/data_white, "
            "data_dark and theta; the axis falls on element 295.5",
            sha256="ab1d9bd073b7fb1beae4defa991c2a2626605c5cf1f4be0d0203656bc47b6489",
            options={"dataset": "exchange/data"},
        ),
        "mr_brain": Sample(
            file=FOLDER / "mr_brain_vsseg001_060.dcm",
            title="MR image of the brain, T1 with contrast, axial slice",
            licence="CC-BY-4.0",
            credit=SCHWANNOMA,
            unit="",
            notes="512 x 512, 0.41015625 mm pixels, Siemens 1.5 T; no rescale tags",
            sha256="991e40788abd9bda1cd52128b8e51081389b67d1c98162ea365d8876fdb55f8e",
        ),
        "kspace_brain": Sample(
            file=FOLDER / "mri_ksp_brain_se_t1_sag.mat",
            title="MR k-space of a brain, T1 spin echo, sagittal, fully sampled",
            licence="MIT",
            credit="Copyright (c) 2021 Peder Larson",
            unit="",
            notes="one channel, 256 x 256, complex128, zero frequency in the middle; the image has a phase",
            sha256="28efd2d75c8e9af0bef6a55c3110153e2a911e75f31d92a15d3160e2ef466de6",
        ),
        "kspace_brain_8_coils": Sample(
            file=FOLDER / "mri_ksp_brain8ch_poisson_sigpy.npy",
            title="MR k-space of a brain, 8 coils, Poisson-disc undersampled about 8 times",
            licence="BSD-3-Clause",
            credit="Copyright (c) 2019 mikgroup",
            unit="",
            notes="8 x 230 x 180, complex64, zero frequency in the middle, fully sampled around it; zeros "
            "were not measured",
            sha256="bcfd07b767d26602bfccd08329321be57d500dc3f6b208cccddeb59162573045",
        ),
        "camera": Sample(
            file=FOLDER / "img_camera.png",
            title="Photograph of a photographer, grey",
            licence="CC0-1.0",
            credit="Lav Varshney",
            unit="",
            notes="512 x 512",
            sha256="b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
        ),
        "chelsea": Sample(
            file=FOLDER / "img_chelsea.png",
            title="Photograph of a cat, colour",
            licence="CC0-1.0",
            credit="Stefan van der Walt",
            unit="",
            notes="300 x 451",
            sha256="596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        ),
    }
)


def samples() -> Mapping[str, Sample]:
    """Every sample by its name."""
    return _SAMPLES


def sample(name: str) -> Path:
    """The file of the sample `name`, for `recon.load`.

    Raises:
        ValueError: there is no sample of that name.
    """
    if name not in _SAMPLES:
        raise ValueError(f"no sample '{name}'; there are {', '.join(_SAMPLES)}{did_you_mean(name, _SAMPLES)}")
    return _SAMPLES[name].file


def _load(name: str) -> Loaded:
    """The sample, with its title, licence and credit among its attributes."""
    from recon.loading import load

    found = _SAMPLES[name]
    loaded = load(found.file, **found.options)
    about = {"title": found.title, "licence": found.licence, "credit": found.credit}
    return replace(loaded, attributes={**loaded.attributes, **about})


def ct_chest() -> Loaded:
    """The sample `ct_chest` [HU]."""
    return _load("ct_chest")


def ct_chest_metal() -> Loaded:
    """The sample `ct_chest_metal` [HU]."""
    return _load("ct_chest_metal")


def ct_volume() -> Loaded:
    """The sample `ct_volume` [HU]."""
    return _load("ct_volume")


def tooth() -> Loaded:
    """The sample `tooth` [counts]."""
    return _load("tooth")


def mr_brain() -> Loaded:
    """The sample `mr_brain`."""
    return _load("mr_brain")


def kspace_brain() -> Loaded:
    """The sample `kspace_brain` (complex)."""
    return _load("kspace_brain")


def kspace_brain_8_coils() -> Loaded:
    """The sample `kspace_brain_8_coils` (complex)."""
    return _load("kspace_brain_8_coils")


def camera() -> Loaded:
    """The sample `camera`, between 0 and 1."""
    return _load("camera")


def chelsea() -> Loaded:
    """The sample `chelsea`, between 0 and 1, colour."""
    return _load("chelsea")
