"""The commands plugins, list and show: what they print, their exit codes, and errors in one line."""

import contextlib
import json
import os
import re
import subprocess
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer

import recon.cli
from recon import registry
from recon.cli import main
from recon.entries import Example, OperatorEntry, PriorEntry, ReaderEntry
from recon.hookspecs import hookimpl
from recon.parameters import Param
from recon.registry import Registry

HERE = __name__


class Blur:
    """An item with every sort of parameter."""

    def __init__(
        self,
        shape: Annotated[tuple[int, int], Param("height and width", unit="px", ge=1)],
        width: Annotated[float, Param("width [of the kernel]", unit="mm", gt=0)] = 1.5,
        border: Literal["wrap", "zero"] = "wrap",
        window: Annotated[str, Param("window", choices=("ramp", "hann"))] = "ramp",
    ) -> None: ...


class Acme:
    """A plugin for these tests."""

    @hookimpl
    def recon_operators(self) -> list[OperatorEntry]:
        return [
            OperatorEntry(
                name="blur",
                factory=f"{HERE}:Blur",
                summary="Blurs [evenly]",
                tags=("image", "linear"),
                nonnegative=True,
                examples=(Example({"shape": (8, 8)}, {"norm": "only a bound"}),),
            ),
            OperatorEntry(
                name="needy", factory=f"{HERE}:Blur", summary="x", requires=("surely_absent",), extra="more"
            ),
            OperatorEntry(name="hollow", factory=f"{HERE}:Blurr", summary="x"),
        ]

    @hookimpl
    def recon_readers(self) -> list[ReaderEntry]:
        return [ReaderEntry(name="raw", factory=f"{HERE}:Blur", summary="Raw", suffixes=(".raw", ".bin"))]

    @hookimpl
    def recon_priors(self) -> list[PriorEntry]:
        return [PriorEntry(name="flat", factory=f"{HERE}:Blur", summary="Flat", convex=True)]


class Other:
    """A plugin with a name that Acme has too."""

    @hookimpl
    def recon_priors(self) -> list[PriorEntry]:
        return [PriorEntry(name="flat", factory=f"{HERE}:Blur", summary="Another")]


class Broken:
    """A plugin whose hook fails."""

    @hookimpl
    def recon_priors(self) -> list[PriorEntry]:
        raise RuntimeError("no [priors]\ntoday")


@contextlib.contextmanager
def plugins(*added: Any) -> Iterator[None]:
    registry_ = Registry([], environment={})
    for plugin in added:
        registry_.add(plugin, name=f"{type(plugin).__name__}:plug", version="1.2")
    with registry.using(registry_):
        yield


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RECON_DEBUG", "RECON_PLUGINS", "RECON_DISABLE_PLUGINS", "RECON_STRICT_PLUGINS"):
        monkeypatch.delenv(name, raising=False)


def test_plugins_shows_what_each_provides(capsys: pytest.CaptureFixture[str]):
    with plugins(Acme(), Other()):
        assert main(["plugins"]) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["plugin", "version", "status", "load", "ms", "items", "error"]
    assert first.split()[:3] == ["acme:plug", "1.2", "ok"]
    assert "3 operators, 1 prior, 1 reader" in first
    assert "1 prior" in second


def test_plugins_as_json(capsys: pytest.CaptureFixture[str]):
    with plugins(Acme()):
        assert main(["plugins", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report.pop("load_ms") >= 0
    assert report == {
        "id": "acme:plug",
        "distribution": "acme",
        "version": "1.2",
        "status": "ok",
        "items": {"operator": ["blur", "hollow", "needy"], "prior": ["flat"], "reader": ["raw"]},
        "error": "",
        "note": "",
    }


def test_a_broken_plugin_makes_plugins_exit_with_1_and_shows_its_error(capsys: pytest.CaptureFixture[str]):
    with plugins(Acme(), Broken()):
        assert main(["plugins"]) == 1
        shown = capsys.readouterr()
        assert "recon_priors: RuntimeError: no [priors] today (core/test_cli_plugins.py:" in shown.out
        assert shown.err == "", "the table says it; no warning besides"
        assert main(["plugins", "--json"]) == 1
        statuses = {report["id"]: report["status"] for report in json.loads(capsys.readouterr().out)}
    assert statuses == {"acme:plug": "ok", "broken:plug": "broken"}


def test_without_plugins_every_command_says_so(capsys: pytest.CaptureFixture[str]):
    with plugins():
        assert main(["plugins"]) == 0
        assert "pip install -e ." in capsys.readouterr().out
        assert main(["list", "priors"]) == 0
        assert "There is no prior" in capsys.readouterr().out
        assert main(["list", "priors", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == []
        assert main(["show", "prior", "tv"]) == 2
        assert "No plugin is installed" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["operator", "operators"])
def test_list_shows_names_plugins_needs_and_summaries(kind: str, capsys: pytest.CaptureFixture[str]):
    with plugins(Acme()):
        assert main(["list", kind]) == 0
    header, blur, hollow, needy = (line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert header.split() == ["name", "plugin", "status", "summary"]
    assert blur.split(maxsplit=4) == ["blur", "acme", "1.2", "ok", "Blurs [evenly]"]
    assert hollow.split()[0] == "hollow"
    assert needy.split()[:5] == ["needy", "acme", "1.2", "needs", "surely_absent"]


def test_list_shows_ambiguous_names_in_full(capsys: pytest.CaptureFixture[str]):
    with plugins(Acme(), Other()):
        assert main(["list", "priors"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "name",
        "acme/flat",
        "other/flat",
    ]


def test_list_as_json_holds_the_whole_entry(capsys: pytest.CaptureFixture[str]):
    with plugins(Acme()):
        assert main(["list", "operators", "--json"]) == 0
    blur, _, needy = json.loads(capsys.readouterr().out)
    assert blur == {
        "kind": "operator",
        "name": "blur",
        "qualified_name": "acme/blur",
        "plugin": "acme:plug",
        "version": "1.2",
        "missing": [],
        "factory": f"{HERE}:Blur",
        "summary": "Blurs [evenly]",
        "requires": [],
        "extra": "",
        "devices": ["cpu", "cuda"],
        "domain": "any",
        "tags": ["image", "linear"],
        "linear": True,
        "nonnegative": True,
        "examples": [{"kwargs": {"shape": [8, 8]}, "expected_failures": {"norm": "only a bound"}}],
    }
    assert needy["missing"] == ["surely_absent"]


def test_show_tells_all_about_one_item(capsys: pytest.CaptureFixture[str]):
    with plugins(Acme()):
        assert main(["show", "operator", "blur"]) == 0
        out = capsys.readouterr().out
        for part in (
            "acme/blur (acme 1.2)",
            "Blurs [evenly]",
            f"{HERE}:Blur",
            "image, linear",
            "nonnegative  True",
        ):
            assert part in out
        rows = [" ".join(line.split()) for line in out.splitlines()]
        assert "shape required height and width (2 whole numbers in brackets like (2,3); >= 1 px)" in rows
        assert "width 1.5 mm width [of the kernel] (a number; > 0 mm)" in rows
        assert "border wrap 'wrap' or 'zero'" in rows
        assert "window ramp window (text, one of ramp, hann)" in rows
        assert "example: blur(shape=(8, 8))" in out
        assert main(["show", "readers", "raw"]) == 0
        assert "suffixes  ['.raw', '.bin']" in capsys.readouterr().out


def test_show_as_json_is_a_schema(capsys: pytest.CaptureFixture[str]):
    with plugins(Acme()):
        assert main(["show", "operator", "acme/blur", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["qualified_name"] == "acme/blur"
    assert shown["error"] == ""
    assert [parameter["name"] for parameter in shown["parameters"]] == ["shape", "width", "border", "window"]
    assert shown["parameters"][1] == {
        "name": "width",
        "type": "float",
        "required": False,
        "description": "width [of the kernel]",
        "unit": "mm",
        "default": 1.5,
        "gt": 0,
    }


def test_show_still_tells_about_an_item_that_cannot_be_made(capsys: pytest.CaptureFixture[str]):
    with plugins(Acme()):
        assert main(["show", "operator", "needy"]) == 1
        shown = capsys.readouterr()
        assert "surely_absent (missing: pip install 'acme[more]')" in shown.out
        assert shown.err == "error: operator acme/needy needs surely_absent: pip install 'acme[more]'\n"
        assert main(["show", "operator", "hollow", "--json"]) == 1
        assert "has no 'Blurr'; did you mean 'Blur'?" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["list", "opertors"],
            "error: unknown kind 'opertors'; did you mean 'operators'? The kinds are operator, ",
        ),
        (
            ["show", "operator", "blurr"],
            "error: unknown operator 'blurr'; did you mean 'blur'? Known operators: ",
        ),
        (
            ["show", "prior", "flat"],
            "error: prior 'flat' is provided by several plugins: acme/flat (acme 1.2); other",
        ),
        (["lst"], "error: No such command 'lst'"),
        (["list"], "error: Missing argument"),
        (["list", "priors", "--jsn"], "error: No such option: --jsn"),
        (["plugins", "--no-plugin", "acmee"], "error: there is no plugin 'acmee' to block"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
):
    with plugins(Acme(), Other()):
        assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(error)
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_recon_alone_shows_the_commands(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in ("plugins", "list", "show", "--version"))
    assert main(["--help"]) == 0
    assert main(["show", "--help"]) == 0


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]):
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"recon {version('recon')}\n"


# Errors of any command


@pytest.fixture
def failing_command(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """Attach a command module with a command that raises what the test puts into the list."""
    to_raise: list[BaseException] = []
    commands = typer.Typer()

    @commands.command()
    def fail() -> None:
        raise to_raise[0]

    attached = list(recon.cli.app.registered_groups)
    recon.cli.app.add_typer(commands)
    yield to_raise
    recon.cli.app.registered_groups[:] = attached


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (ValueError("weight=-1\nmust be >= 0"), 1, "error: weight=-1 must be >= 0\n"),
        (
            FileNotFoundError(2, "No such file or directory", "a.h5"),
            1,
            "error: a.h5: No such file or directory\n",
        ),
        (OSError("disk full"), 1, "error: disk full\n"),
        (RuntimeError(), 1, "error: RuntimeError\n"),
        (KeyError("x"), 1, "error: KeyError: 'x' (unexpected; RECON_DEBUG=1 shows where)\n"),
        (registry.UnknownNameError("unknown"), 2, "error: unknown\n"),
        (typer.BadParameter("no [good]"), 2, "error: Invalid value: no [good]\n"),
        (typer.Exit(3), 3, ""),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (typer.Abort(), 130, "interrupted\n"),
    ],
)
def test_every_error_is_one_line_and_an_exit_code(
    error: BaseException,
    code: int,
    shown: str,
    failing_command: list[BaseException],
    capsys: pytest.CaptureFixture[str],
):
    failing_command.append(error)
    assert main(["fail"]) == code
    assert capsys.readouterr().err.strip("\n") == shown.strip("\n")


def test_notes_of_an_error_are_told(failing_command: list[BaseException], capsys: pytest.CaptureFixture[str]):
    error = ImportError("no module x")
    error.add_note("while importing acme:Blur")
    failing_command.append(error)
    assert main(["fail"]) == 1
    assert capsys.readouterr().err == "error: no module x (while importing acme:Blur)\n"


def test_debugging_shows_the_traceback(
    failing_command: list[BaseException], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RECON_DEBUG", "1")
    failing_command.append(ValueError("bad"))
    assert main(["fail"]) == 1
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert shown.endswith("error: bad\n")


def test_warnings_are_one_line_on_stderr(capsys: pytest.CaptureFixture[str]):
    with plugins(Acme(), Broken()), warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["list", "priors", "--json"]) == 0
    shown = capsys.readouterr()
    assert len(json.loads(shown.out)) == 1
    assert shown.err.startswith(
        "warning: plugin broken:plug (broken 1.2) is broken: recon_priors: RuntimeError"
    )
    assert shown.err.count("\n") == 1


# Real packages in a real process


def test_installed_plugins_are_listed_with_their_errors(
    run_with_plugins: Any, broken_distributions: tuple[str, ...]
):
    done = run_with_plugins("plugins", "--json", RECON_DISABLE_PLUGINS="recon,recon-raising:recon_raising")
    assert done.returncode == 1
    reports = {
        report["distribution"]: report
        for report in json.loads(done.stdout)
        if report["distribution"] != "recon"
    }
    assert {name for name, report in reports.items() if report["status"] == "broken"} == set(
        broken_distributions
    ) - {"recon-raising"}
    assert reports["recon-raising"]["status"] == "blocked"
    assert reports["recon-good"]["items"]["operator"] == ["hollow", "needy", "scale"]
    assert reports["recon-hooks"]["items"] == {"metric": ["sound"]}
    assert reports["recon-future"]["note"].startswith("it asks for recon>=99")
    assert done.stderr == "welcome to the future\n", "what a plugin prints stays out of the JSON"


def test_plugins_can_be_left_out_for_one_command(
    run_with_plugins: Any, broken_distributions: tuple[str, ...]
):
    blocked = [option for name in broken_distributions for option in ("--no-plugin", name)]
    done = run_with_plugins(*blocked, "--no-plugin", "recon", "list", "priors")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "name", "grow", "recon-clash/shrink", "recon-good/shrink",
    ]  # fmt: skip
    assert "broken" not in done.stderr
    done = run_with_plugins("plugins", *blocked, "--no-plugin", "recon")
    assert done.returncode == 0
    assert done.stdout.count("blocked on the command line") >= len(broken_distributions) + 1


def test_strict_mode_fails_a_command_but_not_plugins(run_with_plugins: Any):
    variables = {"RECON_STRICT_PLUGINS": "1", "RECON_PLUGINS": "recon-good,recon-raising"}
    done = run_with_plugins("list", "priors", **variables)
    assert done.returncode == 1
    assert done.stderr.startswith("error: plugin recon-raising:recon_raising (recon-raising 0.1) is broken")
    assert done.stderr.count("\n") == 1
    done = run_with_plugins("plugins", **variables)
    assert done.returncode == 1
    assert "recon-good:recon_good" in done.stdout


def test_the_console_script_runs_and_survives_a_closed_pipe():
    script = Path(sys.executable).with_name("recon")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RECON_")}
    done = subprocess.run([script, "plugins"], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "recon:operators" in done.stdout
    piped = subprocess.run(
        f"{script} list priors --json | true", shell=True, capture_output=True, text=True, env=environment
    )
    assert "Traceback" not in piped.stderr
    assert "BrokenPipe" not in piped.stderr


def test_tables_fit_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with plugins(Acme(), types.SimpleNamespace()):
        assert main(["plugins"]) == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 60
    first_column = "".join(line[: lines[0].index("version")].strip() for line in lines)
    assert "simplenamespace:plug" in first_column, "wrapped, not cut"
