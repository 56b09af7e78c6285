"""The package itself: light to import, its libraries imported when used, and named where they are missing."""

import subprocess
import sys

import pytest
import recon_bridges
import torch

from recon import registry

LIBRARIES = {"cupy", "deepinv", "odl", "pylops", "sigpy", "transformers"}


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_imports_neither_torch_nor_a_bridged_library():
    code = "import recon_bridges, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    assert not {*LIBRARIES, "torch", "numpy", "scipy"} & set(run(code).split())


def test_taking_every_function_imports_no_bridged_library():
    names = ", ".join(recon_bridges.__all__)
    code = (
        f"from recon_bridges import {names}; import sys; print(*{{m.partition('.')[0] for m in sys.modules}})"
    )
    assert not LIBRARIES & set(run(code).split())


def test_every_public_name_is_a_documented_function():
    assert len(recon_bridges.__all__) == 13
    for name in recon_bridges.__all__:
        assert getattr(recon_bridges, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'from_matlab'"):
        recon_bridges.from_matlab  # noqa: B018


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("deepinv", "pip install 'recon[deepinv]'"),
        ("odl", "pip install 'recon[odl]'"),
        ("pylops", "pip install 'recon[pylops]'"),
        ("sigpy", "pip install 'recon[sigpy]'"),
    ],
)
def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch, name, command):
    for loaded in [module for module in sys.modules if module.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(
        sys, "meta_path", [Hidden(name), *sys.meta_path]
    )  # as if it were not installed, whether it is or not
    with pytest.raises(ImportError) as error:
        getattr(recon_bridges, f"from_{name}")(object())
    assert str(error.value) == f"this bridge needs {name}, which is not installed: {command}"


class Hidden:
    def __init__(self, name):
        self.name = name

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=self.name)


def test_the_registered_prior_says_what_it_needs():
    (found,) = [item for item in registry.items("prior") if item.entry.name == "deepinv"]
    assert found.entry.requires == ("deepinv",)
    assert found.remedy == "pip install 'recon[deepinv]'"


def test_half_precision_is_computed_in_single():
    op = recon_bridges.from_scipy(torch.eye(3).numpy())
    x = torch.ones(3, dtype=torch.bfloat16)
    assert op(x).dtype == torch.bfloat16
    assert torch.equal(op(x), x)
