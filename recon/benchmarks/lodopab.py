"""The LoDoPaB-CT recipe: low-dose parallel-beam CT of chest slices, simulated as that data set was.

Leuschner, Schmidt, Otero Baguer, Maass: LoDoPaB-CT, a benchmark dataset for low-dose computed tomography
reconstruction, Scientific Data 8, 109 (2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recon import registry
from recon.benchmarks.scores import Row, scored, solved
from recon.hounsfield import attenuation_of
from recon.linear import LinearOperator
from recon.loading import load

WATER, AIR = 20.0, 0.02  # 1/m, which makes mu = 0.01998 HU + 20
MU_MAX = (
    81.35858  # 1/m, of 3071 HU, the largest of 12 bits from -1024 on; images and logarithms are divided by it
)
WIDTH = 0.26  # m, of the square that every crop is taken to cover, whatever the size of its pixels was
PHOTONS = 4096
SAMPLES = ("ct_chest", "ct_chest_metal")
SEED = 0

PUBLISHED = (
    ("FBP, Hann window, cutoff 0.641", 30.37, 0.7386),
    ("iRadonMap", 30.99, 0.7486),
    ("TV, Douglas-Rachford", 32.00, 0.7706),
    ("TV, Adam, Poisson likelihood", 32.95, 0.8034),
    ("DIP + TV", 34.44, 0.8143),
    ("learned gradient descent", 34.67, 0.8171),
    ("FBP + U-Net", 35.48, 0.8371),
    ("learned primal-dual", 35.73, 0.8426),
)
"""Mean PSNR [dB] and SSIM of DIVal's reference reconstructors on the first 100 test images of the data set."""

NOT_THE_DATA_SET = (
    "These slices are not those of the data set (LIDC/IDRI), so the figures check the pipeline and do not compare "
    "with the published ones"
)


@dataclass(frozen=True)
class Protocol:
    """The sizes of the recipe.

    Attributes:
        side: pixels of the image along each side.
        fine_side: pixels along each side of the image that is projected.
        views: parallel views at (k + 1/2) pi / views.
        detectors: elements over the diagonal of the square.
        binning: how many pixels of the slice along each side are averaged into one of the image.
        photons: of a ray without an object.
    """

    side: int = 362
    fine_side: int = 1000
    views: int = 1000
    detectors: int = 513
    binning: int = 1
    photons: float = PHOTONS

    def reduced(self, factor: int) -> Protocol:
        """The same scan at a coarser resolution, to be done in seconds.

        The variance of noise in a filtered back-projection goes as 1 / (photons x views x pixel size^2): with pixels n
        times as large and n times fewer views, n times fewer photons leave it as it was. With the photons of the whole
        scan the error of the coarse grid would exceed the noise, and an automatic weight, which knows of noise alone,
        would fit it.

        Raises:
            ValueError: a factor that leaves less than 20 pixels, or is below 1.
        """
        if factor < 1 or self.side // factor < 20:
            raise ValueError(
                f"the size is reduced by a whole factor from 1 to {self.side // 20}, got {factor}"
            )
        return Protocol(
            self.side // factor,
            self.fine_side // factor,
            self.views // factor,
            round(self.detectors / factor),
            self.binning * factor,
            self.photons / factor,
        )

    def operator(self, side: int) -> LinearOperator:
        """The scan of ``(side, side)`` pixels on the square of 260 mm; lengths in mm."""
        made: LinearOperator = registry.make(
            "operator",
            "ct_parallel",
            shape=(side, side),
            pixel_size=1000 * WIDTH / side,
            angles=tuple((view + 0.5) * math.pi / self.views for view in range(self.views)),
            detectors=self.detectors,
            detector_size=1000 * WIDTH * math.sqrt(2) / self.detectors,
        )
        return made


@dataclass(frozen=True)
class Scan:
    """The measured problem.

    Attributes:
        operator: parallel beam on the image grid, mm.
        images: the truth ``(B, side, side)``: attenuation over `MU_MAX`, in [0, 1].
        data: -log(counts / photons) / MU_MAX, ``(B, views, detectors)`` in m, as in the files of the data set.
    """

    operator: LinearOperator
    images: Tensor
    data: Tensor

    @property
    def line_integrals(self) -> Tensor:
        """The data without unit, whose reconstruction is in 1/mm."""
        return self.data * MU_MAX


def ground_truth(hounsfield: Tensor, protocol: Protocol = Protocol(), seed: int = SEED) -> Tensor:
    """Images ``(B, side, side)`` in [0, 1] of slices ``(B, rows, columns)`` in HU.

    The middle of each slice, uniform noise in [0, 1) HU that undoes the rounding to whole HU, attenuation with
    water at 20 / m and air at 0.02 / m, divided by 81.35858 / m and clipped to [0, 1].

    Raises:
        ValueError: slices smaller than the crop.
    """
    crop = protocol.side * protocol.binning
    rows, columns = hounsfield.shape[-2:]
    if min(rows, columns) < crop:
        raise ValueError(f"a slice must have {crop} x {crop} pixels or more, got {rows} x {columns}")
    top, left = (rows - crop) // 2, (columns - crop) // 2
    middle = hounsfield[..., top : top + crop, left : left + crop].double()
    uniform = torch.rand(middle.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mu = attenuation_of(middle + uniform, water=WATER, air=AIR)
    images = (mu / MU_MAX).clamp(0, 1).float()
    return torch.nn.functional.avg_pool2d(images[:, None], protocol.binning)[:, 0]


def scan(images: Tensor, protocol: Protocol = Protocol(), seed: int = SEED) -> Scan:
    """Simulate the scan of images in [0, 1]: on a finer grid, with the protocol's photons, 4096 a ray."""
    side = protocol.fine_side
    finer = torch.nn.functional.interpolate(
        images[:, None], size=(side, side), mode="bilinear", align_corners=False
    )[:, 0]
    noise = registry.make("noise", "poisson", photons=protocol.photons)
    measured = protocol.operator(side).measure(finer * (MU_MAX / 1000), noise=noise, seed=seed)
    return Scan(protocol.operator(protocol.side), images, measured / MU_MAX)


def slices(names: Sequence[str] = SAMPLES) -> Tensor:
    """CT slices ``(B, rows, columns)`` in HU: of samples by name, or of files and folders that `recon.load` reads.

    Raises:
        ValueError: images in another unit, or slices of different sizes.
    """
    found: list[Tensor] = []
    for name in names:
        loaded: Any = registry.make("dataset", name) if name in SAMPLES else load(Path(name))
        if loaded.unit != "HU":
            raise ValueError(f"{name}: slices must be CT in HU, this has the unit {loaded.unit!r}")
        found.extend(loaded.data.reshape(-1, *loaded.data.shape[-2:]))
    sizes = sorted({tuple(image.shape) for image in found})
    if len(sizes) > 1:
        raise ValueError(f"all slices must have one size, got {', '.join(map(str, sizes))}")
    return torch.stack(found)


def run(
    names: Sequence[str] = SAMPLES,
    priors: tuple[str, ...] = ("tv",),
    reduced: int = 1,
    report: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Reconstruct with FBP and with each prior under the likelihood of the counts, and score.

    Args:
        names: samples or files, as for `slices`.
        priors: names or specs, several joined by ``+``; attenuation is not negative.
        reduced: 1 for the sizes of the data set; n for images, views, detector and photons n times smaller.
        report: told what is being computed.
    """
    protocol = Protocol().reduced(reduced)
    images = ground_truth(slices(names), protocol)
    report("simulating the scan")
    problem = scan(images, protocol)
    operator, integrals, unit = problem.operator, problem.line_integrals, MU_MAX / 1000
    rows = [
        scored(PUBLISHED[0][0], images, lambda: operator.pinv(integrals, filter="hann", cutoff=0.641) / unit)
    ]
    for spec in priors:
        report(f"reconstructing with {spec}")
        fidelity = ("poisson", {"photons": protocol.photons})
        reconstruct = partial(solved, operator, integrals, spec, "nonnegative", fidelity)
        rows.append(scored(spec, images, lambda reconstruct=reconstruct: reconstruct() / unit))  # type: ignore[misc]
    return rows
