"""A small CT scan, as a problem file and as data, for the commands to work on."""

from pathlib import Path

import pytest
import torch

import recon


@pytest.fixture
def disc() -> torch.Tensor:
    """Attenuation [1/mm] of a disc of water with a dense core."""
    axis = torch.linspace(-1, 1, 24)
    radius = (axis[:, None] ** 2 + axis**2).sqrt()
    return 0.02 * (radius < 0.8).float() + 0.02 * (radius < 0.3).float()


@pytest.fixture
def scan(tmp_path: Path, disc: torch.Tensor) -> Path:
    """The file of its scan; in millimetres, with noise of 0.01."""
    ct = recon.operator("ct_parallel", shape=disc.shape, angles=18)
    y = ct.measure(disc, noise=recon.noise("gaussian", std=0.01), seed=0)
    problem = recon.Problem(ct, y, reference=disc, image_range=(0.0, 0.04))
    problem.notes = {"unit": "1/mm", "water": 0.02}
    (tmp_path / "study").mkdir()
    return problem.save(tmp_path / "study" / "scan.h5")
