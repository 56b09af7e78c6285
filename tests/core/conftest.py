"""Plugins for the tests: real packages, built with hatchling and installed by pip into a folder."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The tensors of these tests are small: a second thread would only be waited for."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# distribution, version, requirements, {file: source}; the entry point is called like the first module
PACKAGES: list[tuple[str, str, list[str], dict[str, str]]] = [
    (
        "recon-good",
        "1.2.0",
        [],
        {
            "recon_good.py": """
                import recon.entries as entries
                from recon.hookspecs import hookimpl

                @hookimpl
                def recon_priors():
                    yield entries.PriorEntry(
                        name="shrink", factory="recon_good_parts:Shrink", summary="Shrinks [a lot]"
                    )

                @hookimpl
                def recon_operators():
                    yield entries.OperatorEntry(
                        name="scale",
                        factory="recon_good_parts:Scale",
                        summary="Multiplies",
                        examples=(entries.Example({"factor": 2.0}),),
                    )
                    yield entries.OperatorEntry(
                        name="needy",
                        factory="recon_good_parts:Scale",
                        summary="Needs a library",
                        requires=("surely_absent_library",),
                        extra="absent",
                    )
                    yield entries.OperatorEntry(
                        name="hollow", factory="recon_good_parts:Scael", summary="Its factory is misspelt"
                    )

                @hookimpl
                def recon_solvers():
                    yield entries.SolverEntry(name="halve", factory="recon_good_parts:Scale", summary="Half")

                @hookimpl(trylast=True)
                def recon_choose_solver(op, prior):
                    return "halve:factor=0.5"

                @hookimpl
                def recon_solve_finished(solution):
                    print("observed", solution)
                """,
            "recon_good_parts.py": """
                from typing import Annotated
                from recon.parameters import Param

                class Scale:
                    def __init__(self, factor: Annotated[float, Param("the factor", unit="mm", gt=0)]):
                        self.factor = factor

                class Shrink:
                    def __init__(self, weight: float = 1.0):
                        self.weight = weight
                """,
        },
    ),
    (
        "Recon_Clash",
        "0.3.1",
        [],
        {
            "recon_clash.py": """
                import recon.entries as entries
                from recon.hookspecs import hookimpl

                @hookimpl
                def recon_priors():
                    return [
                        entries.PriorEntry(name="shrink", factory="recon_clash:Shrink", summary="Another"),
                        entries.PriorEntry(name="grow", factory="recon_clash:Shrink", summary="Grows"),
                    ]

                class Shrink:
                    def __init__(self, weight: float = 2.0):
                        self.weight = weight
                """,
        },
    ),
    ("recon-raising", "0.1", [], {"recon_raising.py": "import surely_absent_library"}),
    ("recon-exiting", "0.1", [], {"recon_exiting.py": "import sys; sys.exit(3)"}),
    (
        "recon-signature",
        "0.1",
        [],
        {
            "recon_signature.py": """
                from recon.hookspecs import hookimpl

                @hookimpl
                def recon_operators():
                    return []

                @hookimpl
                def recon_priors(kind):
                    return []
                """,
        },
    ),
    (
        "recon-misspelt",
        "0.1",
        [],
        {
            "recon_misspelt.py": """
                from recon.hookspecs import hookimpl

                @hookimpl
                def recon_prior():
                    return []
                """,
        },
    ),
    (
        "recon-hooks",
        "0.1",
        [],
        {
            "recon_hooks.py": """
                import recon.entries as entries
                from recon.hookspecs import hookimpl

                @hookimpl
                def recon_metrics():
                    yield entries.MetricEntry(name="sound", factory="fractions:Fraction", summary="Sound")

                @hookimpl
                def recon_priors():
                    raise RuntimeError("no priors today")

                @hookimpl
                def recon_operators():
                    yield entries.OperatorEntry(name="half_done", factory="a:b", summary="Before the error")
                    raise OSError("the rest is missing")

                @hookimpl
                def recon_choose_solver(op, prior):
                    raise ZeroDivisionError("cannot choose")

                @hookimpl
                def recon_solve_finished(solution):
                    raise ValueError("cannot watch")
                """,
        },
    ),
    (
        "recon-types",
        "0.1",
        [],
        {
            "recon_types.py": """
                import recon.entries as entries
                from recon.hookspecs import hookimpl

                @hookimpl
                def recon_priors():
                    return [entries.PriorEntry(name="lost", factory="a:b", summary="By a wrong one"), "tv"]
                """,
        },
    ),
    (
        "recon-future",
        "0.1",
        ["recon>=99"],
        {
            "recon_future.py": """
                import recon.entries as entries
                from recon.hookspecs import hookimpl

                print("welcome to the future")

                @hookimpl
                def recon_noise():
                    return [entries.NoiseEntry(name="hum", factory="fractions:Fraction", summary="A hum")]
                """,
        },
    ),
]

BROKEN = ("recon-exiting", "recon-hooks", "recon-misspelt", "recon-raising", "recon-signature", "recon-types")


@pytest.fixture
def broken_distributions() -> tuple[str, ...]:
    """The names of those PACKAGES that are broken."""
    return BROKEN


@pytest.fixture(scope="session")
def installed_plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH into which pip has installed all PACKAGES."""
    root = tmp_path_factory.mktemp("plugins")
    for name, version, requirements, modules in PACKAGES:
        folder = root / name
        folder.mkdir()
        first = next(iter(modules)).removesuffix(".py")
        folder.joinpath("pyproject.toml").write_text(
            f"""
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{name}"
version = "{version}"
dependencies = {requirements}
[project.entry-points.recon]
{first} = "{first}"
[tool.hatch.build.targets.wheel]
include = ["*.py"]
"""
        )
        for file, source in modules.items():
            folder.joinpath(file).write_text(textwrap.dedent(source))
    target = root / "site"
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    sources = [str(root / name) for name, *_ in PACKAGES]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(target), *sources], check=True
    )
    return target


Runner = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_with_plugins(installed_plugins: Path) -> Runner:
    """Run Python code, or the command line, in a process that sees PACKAGES; keywords are variables."""

    def run(*command: str, code: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RECON_")}
        environment |= {"PYTHONPATH": str(installed_plugins), "COLUMNS": "200", **variables}
        code = (
            textwrap.dedent(code)
            or f"import sys; from recon.cli import main; sys.exit(main({list(command)}))"
        )
        return subprocess.run(
            [sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environment, timeout=120
        )

    return run
