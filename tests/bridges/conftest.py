"""The bridged libraries: tests of one that is not installed are skipped, or fail where all are required."""

import os
import warnings
from types import ModuleType

import pytest
import torch
from recon_bridges.libraries import library

REQUIRED = os.environ.get("RECON_REQUIRE_BRIDGES") == "1"


def installed(name: str) -> ModuleType:
    """The library, its own warnings at import passed over."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return library(name)
    except ImportError as error:
        reason = f"{error}; make test-bridges installs what is tested"
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def deepinv() -> ModuleType:
    return installed("deepinv")


@pytest.fixture(scope="session")
def odl() -> ModuleType:
    return installed("odl")


@pytest.fixture(scope="session")
def tomo(odl: ModuleType) -> ModuleType:
    return installed("odl.applications.tomo")


@pytest.fixture(scope="session")
def pylops() -> ModuleType:
    return installed("pylops")


@pytest.fixture(scope="session")
def sigpy() -> ModuleType:
    return installed("sigpy")


@pytest.fixture(scope="session")
def transformers() -> ModuleType:
    return installed("transformers")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
