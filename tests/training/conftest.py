"""Settings of the tests of training."""

from __future__ import annotations

import pytest
import torch
from small_trainings import SmallNet, squares

import recon


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return SmallNet().eval()


@pytest.fixture
def images():
    return squares(24)


@pytest.fixture
def operator():
    """Two of three pixels are measured."""
    mask = (torch.arange(256).reshape(16, 16) % 3 != 0).float()
    return recon.operator("mask", mask=mask)
