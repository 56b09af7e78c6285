"""The published table of the splitting of deep-learning regularisation, and what of it can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FAMILIES = {"radial": "radial", "random_2d": "2-D random", "random_1d": "1-D random"}
RATES = (5, 4, 3)  # acceleration: 1/5, 1/4, 1/3 of k-space are measured
NOISES = (0.0, 0.1)  # standard deviation of both parts of orthonormal k-space, images in [0, 1]
METHODS = {
    "zero_filled": "zero-filled",
    "tv": "TV",
    "admm_net": "ADMM-Net",
    "scae": "SCAE",
    "snlae": "SNLAE",
    "gan": "GAN",
}


@dataclass(frozen=True, order=True)
class Row:
    """One row of the table: a family of masks, an acceleration, and a noise level."""

    family: str
    noise: float
    acceleration: int

    @property
    def key(self) -> str:
        """A name for files: ``random_1d-noise0-1of5``."""
        return f"{self.family}-noise{round(100 * self.noise)}-1of{self.acceleration}"

    @property
    def label(self) -> str:
        """In words, as in the publication."""
        return f"{FAMILIES[self.family]} {round(100 * self.noise)} % 1/{self.acceleration}"


ROWS = tuple(Row(family, noise, rate) for family in FAMILIES for noise in NOISES for rate in RATES)

PUBLISHED: Mapping[Row, tuple[tuple[float, float], ...]] = dict(
    zip(
        ROWS,
        (
            ((24.36, 0.47), (30.73, 0.86), (32.31, 0.92), (32.00, 0.92), (30.47, 0.83), (30.13, 0.84)),
            ((25.45, 0.51), (32.32, 0.90), (33.67, 0.93), (33.94, 0.94), (32.53, 0.88), (32.26, 0.90)),
            ((27.25, 0.56), (34.60, 0.94), (35.27, 0.94), (36.37, 0.96), (35.15, 0.92), (34.49, 0.94)),
            ((22.18, 0.35), (24.69, 0.49), (25.44, 0.59), (25.52, 0.73), (25.98, 0.68), (25.02, 0.73)),
            ((22.38, 0.36), (25.16, 0.49), (25.96, 0.61), (26.13, 0.70), (26.38, 0.66), (25.53, 0.74)),
            ((22.37, 0.37), (25.28, 0.49), (26.50, 0.60), (26.64, 0.74), (26.70, 0.65), (26.71, 0.75)),
            ((24.91, 0.49), (31.69, 0.89), (33.81, 0.93), (34.24, 0.94), (31.95, 0.86), (31.79, 0.89)),
            ((25.30, 0.50), (32.79, 0.90), (34.97, 0.94), (35.61, 0.95), (32.85, 0.86), (32.94, 0.91)),
            ((26.32, 0.53), (34.93, 0.93), (36.31, 0.95), (37.71, 0.96), (35.33, 0.91), (35.10, 0.94)),
            ((22.37, 0.37), (24.97, 0.51), (25.42, 0.61), (25.90, 0.73), (25.97, 0.67), (25.78, 0.75)),
            ((22.38, 0.36), (24.92, 0.49), (25.84, 0.60), (26.06, 0.74), (26.15, 0.67), (26.31, 0.75)),
            ((22.37, 0.37), (24.91, 0.47), (26.14, 0.56), (26.38, 0.72), (26.41, 0.62), (26.48, 0.76)),
            ((22.78, 0.61), (25.22, 0.75), (28.53, 0.85), (28.79, 0.87), (28.73, 0.86), (27.21, 0.81)),
            ((23.06, 0.62), (25.77, 0.76), (28.99, 0.87), (29.37, 0.88), (29.06, 0.86), (27.47, 0.82)),
            ((23.86, 0.65), (27.34, 0.81), (32.18, 0.91), (31.25, 0.91), (30.98, 0.89), (30.09, 0.86)),
            ((20.72, 0.27), (22.38, 0.39), (22.59, 0.40), (22.22, 0.61), (24.52, 0.60), (22.76, 0.67)),
            ((20.37, 0.26), (22.25, 0.37), (22.98, 0.44), (22.72, 0.63), (24.39, 0.56), (23.32, 0.69)),
            ((20.37, 0.28), (22.59, 0.37), (23.96, 0.47), (23.75, 0.62), (24.98, 0.58), (23.93, 0.70)),
        ),
        strict=True,
    )
)
"""PSNR [dB] and SSIM of every method, in the order of `METHODS` (Liu, Kuang and Zhang 2018, table 2; ADNI)."""


@dataclass(frozen=True)
class Check:
    """One statement of the published table, and whether the table here agrees."""

    statement: str
    published: bool
    here: bool


def order_checks(scores: Mapping[Row, Mapping[str, float]]) -> list[Check]:
    """The order of the methods in every row: in the published table, and here.

    Args:
        scores: mean PSNR [dB] of the methods of each row; rows and methods that are missing are left out.
    """
    checks = []
    for row in (row for row in ROWS if row in scores):
        mine = scores[row]
        printed = {name: PUBLISHED[row][place][0] for place, name in enumerate(METHODS)}
        for low, high in (
            ("zero_filled", "tv"),
            ("tv", "scae"),
            ("tv", "snlae"),
            ("tv", "gan"),
            ("admm_net", "scae"),
        ):
            if low in mine and high in mine:
                checks.append(
                    Check(
                        f"{row.label}: {METHODS[low]} < {METHODS[high]}",
                        printed[low] < printed[high],
                        mine[low] < mine[high],
                    )
                )
    return checks


def gains(scores: Mapping[str, float]) -> dict[str, float]:
    """PSNR [dB] that each method of a row adds to zero-filling."""
    if "zero_filled" not in scores:
        return {}
    return {name: value - scores["zero_filled"] for name, value in scores.items() if name != "zero_filled"}


def published_scores(row: Row) -> dict[str, float]:
    """Mean PSNR [dB] of the methods of a row, as published."""
    return {name: PUBLISHED[row][place][0] for place, name in enumerate(METHODS)}
