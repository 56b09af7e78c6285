"""An environment for plugin authors: what they install lands there, and never where the tests run."""

import os
import site
import subprocess
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

COMMANDS = {"pip": "pip._internal.cli.main", "pytest": "pytest", "recon": "recon.cli"}
"""The commands, and the module in which each one's function `main` is."""


@pytest.fixture(scope="session")
def author_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables under which `python`, `pip`, `pytest` and `recon` are those of a virtual environment.

    It sees every package of the environment that runs the tests, takes new ones by pip without a network, and
    computes on one thread.
    """
    return make_environment(tmp_path_factory.mktemp("environment"))


def make_environment(folder: Path) -> dict[str, str]:
    """Make the virtual environment in a folder and return its variables."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    bin_folder = folder / "bin"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # addsitedir also follows the .pth files there, which hold editable installs
    lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
    packages.joinpath("of_the_tests.pth").write_text("\n".join(lines) + "\n")
    for command, module in COMMANDS.items():
        script = bin_folder / command
        start = f"import sys; from {module} import main; sys.exit(main())"
        script.write_text(f'#!/bin/sh\nexec "{bin_folder}/python" -P -c "{start}" "$@"\n')
        script.chmod(0o755)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("RECON_", "PYTEST", "PIP_"))
    }
    return kept | {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(folder),
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as the value of `build isolation`
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "110",
        "LC_ALL": "C.UTF-8",
    }


Run = Callable[..., str]


@pytest.fixture(scope="session")
def run(author_environment: dict[str, str]) -> Run:
    """Run a command in that environment and return what it prints; it must succeed unless `code` says otherwise."""

    def run(*command: str, cwd: Path, code: int = 0) -> str:
        done = subprocess.run(
            command, cwd=cwd, env=author_environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    return run
