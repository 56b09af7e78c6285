"""`recon new`: what it writes is a plugin that installs, passes its tests and solves, as it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recon import scaffold
from recon.cli import main

REPOSITORY = Path(__file__).parents[2]
KINDS = ("operator", "prior", "solver")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, run) -> Path:
    """A folder with a package of each kind, `acme-operator` and so on, all installed."""
    folder = tmp_path_factory.mktemp("packages")
    for kind in KINDS:
        run("recon", "new", kind, f"acme-{kind}", cwd=folder)
    run("pip", "install", *(f"./acme-{kind}" for kind in KINDS), cwd=folder)
    return folder


# What is written


def test_the_three_next_commands_are_printed(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "prior", "my-prior"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "my-prior holds a prior, its tests and all that pip needs. Next:",
        "",
        "  pip install -e ./my-prior",
        "  recon show prior my_prior",
        "  recon check my-prior",
    ]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "my-prior/.gitignore",
        "my-prior/README.md",
        "my-prior/my_prior/__init__.py",
        "my-prior/my_prior/prior.py",
        "my-prior/my_prior/py.typed",
        "my-prior/pyproject.toml",
        "my-prior/tests/test_conformance.py",
        "my-prior/tests/test_my_prior.py",
    ]


def test_the_place_is_made_and_quoted_where_a_shell_needs_it(tmp_path: Path, capsys):
    place = tmp_path / "my plugins"
    assert main(["new", "solver", "my-solver", "--output", str(place)]) == 0
    assert f"pip install -e '{place}/my-solver'" in capsys.readouterr().out
    assert (place / "my-solver" / "my_solver" / "solver.py").is_file()


def test_an_empty_folder_is_filled_and_another_is_left_as_it_is(tmp_path: Path, capsys):
    (tmp_path / "mine").mkdir()
    assert main(["new", "prior", "mine", "--output", str(tmp_path)]) == 0
    (tmp_path / "mine" / "README.md").write_text("edited")
    assert main(["new", "prior", "mine", "--output", str(tmp_path)]) == 1
    assert "mine is there already and not empty" in capsys.readouterr().err
    assert (tmp_path / "mine" / "README.md").read_text() == "edited"


def test_a_package_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch):
    written = Path.write_text

    def failing(path: Path, *arguments: object) -> int:
        if path.name == "test_conformance.py":
            raise OSError("the disk is full")
        return written(path, *arguments)

    monkeypatch.setattr(Path, "write_text", failing)
    with pytest.raises(OSError, match="the disk is full"):
        scaffold.write_package("prior", "mine", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "My_Prior",
            "lower-case letters and digits, the first a letter, joined by '-': 'my-prior'; try 'my-prior'",
        ),
        ("MyPrior", "try 'my-prior'"),
        ("2d-prior", "try 'd-prior'"),
        ("../mine", "try 'mine'"),
        ("-", "'-' cannot name a package: a good name is"),
        ("", "'' cannot name a package"),
        ("prior-", "try 'prior'"),
        ("lambda", "'lambda' is a keyword of Python: choose another name, such as 'my-lambda'"),
        ("json", "'json' is a module that Python"),
        ("tests", "'tests' is a module that Python or the tests have already"),
        ("torch", "a module 'torch' is installed already"),
        ("recon", "a module 'recon' is installed already"),
        ("tv", "there is a prior 'tv' already (recon/tv): choose another name"),
        ("annotated", "the class would be called 'Annotated', as something in Python is"),
        ("exception", "the class would be called 'Exception'"),
    ],
)
def test_names_that_cannot_be(tmp_path: Path, capsys, name: str, message: str):
    assert main(["new", "prior", "--output", str(tmp_path), "--", name]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_taken_among_items_of_its_own_kind(tmp_path: Path):
    assert main(["new", "operator", "tv", "--output", str(tmp_path)]) == 0


def test_an_unknown_kind(tmp_path: Path, capsys):
    assert main(["new", "proir", "mine", "--output", str(tmp_path)]) == 2
    assert "'proir' is none of operator, prior, solver; did you mean 'prior'?" in capsys.readouterr().err


def test_the_requirement_is_the_series_of_the_installed_version(monkeypatch):
    for installed, wanted in (
        ("0.1.0", "recon>=0.1,<0.2"),
        ("0.12.3.dev1", "recon>=0.12,<0.13"),
        ("2.3", "recon>=2.3,<3"),
    ):
        monkeypatch.setattr("importlib.metadata.version", lambda name, installed=installed: installed)
        assert (
            f'dependencies = ["{wanted}"]'
            in scaffold.rendered("prior", scaffold.Names("mine"))["pyproject.toml"]
        )


def test_torch_is_not_imported(tmp_path: Path):
    code = (
        "import sys; from recon.cli import main\n"
        f"assert main(['new', 'operator', 'mine', '--output', {str(tmp_path)!r}]) == 0\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=60, env={**os.environ})


# What it is worth


@pytest.mark.parametrize("kind", KINDS)
def test_lint(packages: Path, kind: str):
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "ruff",
                *command,
                "--no-cache",
                "--config",
                str(REPOSITORY / "pyproject.toml"),
                ".",
            ],
            cwd=packages / f"acme-{kind}",
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow  # mypy reads torch: minutes on a cold cache
def test_types(packages: Path):
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml"]
        + [str(packages / f"acme-{kind}" / f"acme_{kind}") for kind in KINDS],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_the_kit_finds_nothing(packages: Path, run, kind: str):
    run("recon", "check", f"acme-{kind}", cwd=packages)


def test_its_own_tests_pass(packages: Path, run):
    said = run("pytest", "-q", "--import-mode=importlib", *(f"acme-{kind}" for kind in KINDS), cwd=packages)
    assert "skipped" not in said and "xfailed" not in said


def test_recon_lists_and_shows_it(packages: Path, run):
    plugins = run("recon", "plugins", cwd=packages)
    for kind in KINDS:
        assert f"acme-{kind}:acme_{kind}" in plugins
        assert f"acme_{kind}" in run("recon", "list", f"{kind}s", cwd=packages)
    shown = run("recon", "show", "prior", "acme_prior", cwd=packages)
    assert "smallest edge, in the unit of the image" in shown


def test_the_hook_modules_import_no_library(packages: Path, run):
    code = (
        "import sys, acme_operator, acme_prior, acme_solver; "
        "assert not {'torch', 'numpy', 'scipy'} & set(sys.modules)"
    )
    run("python", "-c", code, cwd=packages)


def test_solve_uses_them_by_name(packages: Path, run):
    """Huber's prior removes noise from a step; the solver agrees with conjugate gradients."""
    packages.joinpath("use.py").write_text(
        """
import recon, torch
step = torch.zeros(32, 32)
step[:, 11:21] = 1
op = recon.operator("acme_operator", shape=(32, 32), length=5)
y = op.measure(step, noise="gaussian:std=0.02", seed=0)
plain, solution = recon.solve(op, None, y, solver="cg"), recon.solve(op, "acme_prior", y)
assert solution.converged, solution
assert (solution.image - step).norm() < 0.5 * (plain.image - step).norm()
names = [part["name"] for part in (solution.provenance["operator"], *solution.provenance["prior"])]
assert names == ["acme-operator/acme_operator", "acme-prior/acme_prior"], names
ridge = recon.solve(op, "tikhonov:weight=0.1", y, solver="acme_solver")
assert ridge.converged, ridge
reference = recon.solve(op, "tikhonov:weight=0.1", y, solver="cg").image
assert (ridge.image - reference).norm() < 1e-3 * reference.norm()
"""
    )
    run("python", "use.py", cwd=packages)
