"""CT slices at full and at a quarter of the dose, split by patient, for the experiments beside this file.

Images are in [0, 1]: attenuation over `BRIGHTEST`. Without a folder they are the slices that ship with the package: a
chest volume and a chest slice to train on, a slice of a third patient to test on. A folder has one subfolder (or
file) a patient, of files that `recon.load` reads; the last tenth of the patients is held out.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from recon_data import samples
from recon_operators.low_dose import low_dose_pair
from torch import Tensor
from torch.nn.functional import avg_pool2d

import recon

WATER, BRIGHTEST = 0.02, 0.04  # 1/mm
HU = 1000 * BRIGHTEST / WATER  # of the range [0, 1]
TISSUE = 0.15  # mean of a tile that is not mostly air


@dataclass
class Pairs:
    """Images ``(N, side, side)`` at a quarter dose and at full dose, pixel by pixel the same anatomy."""

    low: Tensor
    high: Tensor


def patients(folder: Path | None) -> tuple[list[recon.Loaded], list[recon.Loaded]]:
    """Scans to train on and scans of other patients to test on."""
    if folder is None:
        return [samples.ct_volume(), samples.ct_chest_metal()], [samples.ct_chest()]
    names = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    held = max(1, len(names) // 10)
    if len(names) <= held:
        raise ValueError(
            f"{folder} holds {len(names)} patient: one to train on and one to test on are needed"
        )
    scans = [
        [recon.load(file) for file in sorted(name.rglob("*")) if file.is_file()]
        if name.is_dir()
        else [recon.load(name)]
        for name in names
    ]
    training, test = scans[:-held], scans[-held:]
    return [scan for each in training for scan in each], [scan for each in test for scan in each]


def low_dose_pairs(
    scans: list[recon.Loaded], side: int, pool: int, photons: float, angles: int, seed: int
) -> Pairs:
    """Tiles of every slice at both doses.

    Args:
        scans: slices or volumes in HU.
        side: of a tile [pixels]; 0 keeps whole slices.
        pool: pixels that are averaged into one along each axis, of slices of 256 pixels or more.
        photons: that reach a detector element at full dose without the patient.
        angles: views of the scan.
        seed: of the noise; every slice has noise of its own.
    """
    low: list[torch.Tensor] = []
    high: list[torch.Tensor] = []
    for number, scan in enumerate(scans):
        slices = scan.attenuation(water=WATER).clamp(0, BRIGHTEST)
        slices = slices.reshape(-1, *slices.shape[-2:])
        pixel = 1.0 if scan.pixel_size is None else scan.pixel_size[-1]
        if pool > 1 and min(slices.shape[-2:]) >= 256:
            slices, pixel = avg_pool2d(slices[:, None], pool)[:, 0], pixel * pool
        ct = recon.operator("ct_parallel", shape=slices.shape[-2:], pixel_size=pixel, angles=angles)
        for first, part in enumerate(slices.split(16)):
            pair = low_dose_pair(part, ct, photons=photons, seed=seed + number, first_item=16 * first)
            for images, tiles in ((pair.low, low), (pair.high, high)):
                tiles.append(_tiles(images / BRIGHTEST, side))
    kept = [torch.cat(tiles) for tiles in (low, high)]
    tissue = kept[1].mean((1, 2)) > (TISSUE if side else 0)
    return Pairs(kept[0][tissue], kept[1][tissue])


def _tiles(images: Tensor, side: int) -> Tensor:
    """Squares of the images, side by side from the upper left."""
    if side == 0:
        return images
    tiles = images.unfold(1, side, side).unfold(2, side, side)
    return tiles.reshape(-1, side, side)
