"""Real images and k-space for the tests of the operators."""

import pytest
import torch
from recon_data import samples


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def photograph() -> torch.Tensor:
    """The camera photograph in [0, 1], reduced to 128 x 128 by block means; float64."""
    image = samples.camera().data.to(torch.float64)
    return image.reshape(128, image.shape[0] // 128, 128, image.shape[1] // 128).mean((1, 3))


@pytest.fixture(scope="session")
def brain_kspace() -> torch.Tensor:
    """Measured k-space of a brain, fully sampled, one coil, 256 x 256; complex128."""
    return samples.kspace_brain().data.to(torch.complex128)
