"""What importing recon, listing and looking up may import, and what the core may never name."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import recon

CORE = Path(recon.__file__).parent
PLUGIN_PACKAGES = ("recon_operators", "recon_priors", "recon_networks", "recon_data", "recon_bridges")
HEAVY = (
    "astra", "h5py", "jinja2", "matplotlib", "nibabel", "numba", "numpy", "odl", "pandas", "PIL",
    "pydicom", "safetensors", "scipy", "skimage", "tifffile", "torch", "torchmetrics",
)  # fmt: skip


def imported_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh process has imported after running the code."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RECON_")}
    report = "\nimport sys; print('MODULES', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code + report],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_import_recon_imports_no_library_and_no_plugin():
    imported = imported_by("import recon")
    assert not imported & {*HEAVY, *PLUGIN_PACKAGES, "typer", "rich"}


@pytest.mark.parametrize("module", ["entries", "hookspecs", "parameters", "discovery", "registry"])
def test_what_a_plugin_module_needs_imports_no_library(module: str):
    imported = imported_by(f"import recon.{module}")
    assert not imported & {*HEAVY, *PLUGIN_PACKAGES, "typer", "rich"}


@pytest.mark.parametrize(
    "command",
    [
        ["plugins"],
        ["plugins", "--json"],
        ["list", "operators"],
        ["list", "priors", "--json"],
        ["list", "readers"],
    ],
    ids=" ".join,
)
def test_listing_imports_no_heavy_library(command: list[str]):
    imported = imported_by(f"from recon.cli import main; assert main({command}) == 0")
    assert not imported & set(HEAVY)
    assert {"recon_operators", "recon_priors", "recon_data"} <= imported, "the plugins were asked"


def test_looking_up_a_name_imports_no_factory():
    imported = imported_by("from recon import registry; assert registry.items('operator') is not None")
    assert not imported & set(HEAVY)


def imported_names(tree: ast.AST) -> set[str]:
    """Return every module that the source names in an import, by statement or by call."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = (
                node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            )
            if function in ("import_module", "__import__", "find_spec", "load_module"):
                names.add(str(node.args[0].value))
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_imports_no_operator_no_prior_neither_astra_nor_odl(path: Path):
    names = imported_names(ast.parse(path.read_text(encoding="utf-8")))
    assert not names & {*PLUGIN_PACKAGES, "astra", "odl"}
    folders = {"operators", "plugins", "tests", "examples", "benchmarks"}
    assert not names & folders, "importable in a checkout only"


def test_imports_of_every_form_are_seen():
    source = """
import a.b, c
from d.e import f
from . import g
def later():
    import h
    import importlib
    importlib.import_module("i.j")
    __import__("k")
    if importlib.util.find_spec("l"): ...
"""
    assert imported_names(ast.parse(source)) == {"a", "c", "d", "h", "importlib", "i", "k", "l"}
