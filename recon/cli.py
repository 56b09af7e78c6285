"""The command line: `recon plugins`, `list` and `show`, those of `recon.commands`, and `main`.

A command is a function with ``@app.command()``, here or in a module with a ``typer.Typer`` of its own that is
attached by ``app.add_typer(module.app)``. Commands import heavy libraries inside their function, let errors
pass to `main`, which prints them in one line, and end with ``raise typer.Exit(code)`` for an exit code.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Annotated, Any

import typer

from recon import commands, registry
from recon.commands.wording import typist, usage_in_words
from recon.discovery import PluginReport, UnknownPluginError
from recon.entries import KINDS, UnknownKindError, entry_class
from recon.facts import as_dict, example_calls, item_facts, parameter_lines
from recon.parameters import ArgumentNameError, ArgumentValueError, Parameter, SpecError
from recon.registry import AmbiguousNameError, Found, Registry, UnknownNameError
from recon.terminal import FAILED, INTERRUPTED, MISUSED, OK, AsJson, add_row, console, new_table, print_json

_MISUSE = (
    AmbiguousNameError,
    ArgumentNameError,
    ArgumentValueError,
    SpecError,
    UnknownKindError,
    UnknownNameError,
    UnknownPluginError,
)
_EXPECTED = (ArithmeticError, ImportError, OSError, RuntimeError, TypeError, ValueError, Warning, *_MISUSE)

app = typer.Typer(
    name="recon",
    help="Computational imaging: any forward operator, any prior, one solve.",
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(commands.app)

Kind = Annotated[str, typer.Argument(metavar="KIND", help=f"{', '.join(KINDS)}; singular or plural.")]
NoPlugin = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PLUGIN", help="Do not import this plugin (its id or its distribution). May be repeated."
    ),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    An error becomes one line on stderr; RECON_DEBUG=1 shows where it came from. Threads with nothing to do sleep
    (OMP_WAIT_POLICY=PASSIVE, unless the user sets it): by default they spin, on the core that another program or
    the thread they wait for needs, which makes a solve up to ten times slower on a machine that is not idle.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported, inside a command
    given = list(sys.argv[1:] if arguments is None else arguments)
    with _one_line_warnings(given):
        try:
            code = app(args=given, prog_name="recon", standalone_mode=False)
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED
        except Exception as error:
            code = _tell(error, given)
    if code == INTERRUPTED:
        typer.secho("interrupted", fg="red", err=True)
    return code if isinstance(code, int) else OK


@app.callback()
def _start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    no_plugin: NoPlugin = None,
) -> None:
    if no_plugin:
        context.with_resource(registry.using(Registry(block=no_plugin)))
    if version:
        typer.echo(f"recon {_version()}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("plugins")
def plugins_command(context: typer.Context, as_json: AsJson = False, no_plugin: NoPlugin = None) -> None:
    """List the plugins: what they provide, how long they took to load, what is wrong with them.

    The exit code is 1 if a plugin is broken.
    """
    if no_plugin:
        context.with_resource(registry.using(Registry(block=no_plugin)))
    with redirect_stdout(sys.stderr):  # what a plugin prints when it is imported is no part of the answer
        reports = registry.installed().plugins()
    if as_json:
        print_json([_report_as_dict(report) for report in reports])
    else:
        _print_reports(reports)
    if any(report.status == "broken" for report in reports):
        raise typer.Exit(FAILED)


@app.command("list")
def list_command(kind: Kind, as_json: AsJson = False) -> None:
    """List everything of one kind that the plugins provide; nothing heavy is imported."""
    with redirect_stdout(sys.stderr):
        found = registry.items(kind)
    if as_json:
        print_json([as_dict(item) for item in found])
        return
    if not found:
        typer.echo(f"There is no {entry_class(kind).kind}: see `recon plugins`.")
        return
    shared = Counter(item.entry.name for item in found)
    table = new_table("name", "plugin", "status", "summary")
    for item in found:
        name = item.entry.name if shared[item.entry.name] == 1 else item.name
        status = f"needs {', '.join(item.missing())}" if item.missing() else "ok"
        add_row(table, name, str(item.plugin), status, item.entry.summary)
    console().print(table)


@app.command("show")
def show_command(
    kind: Kind,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name, or dist/name.")],
    as_json: AsJson = False,
) -> None:
    """Show one item: what it is, the parameters it takes, and how to install what it needs.

    The exit code is 1 if its parameters cannot be read because it, or a library that it needs, is missing.
    """
    with redirect_stdout(sys.stderr):
        found = registry.find(kind, name)
        parameters, error = _parameters_or_error(found)
    if as_json:
        declared = [parameter.as_dict() for parameter in parameters]
        print_json({**as_dict(found), "parameters": declared, "error": error})
    else:
        _print_found(found, parameters)
        if error:
            typer.secho(f"error: {error}", fg="red", err=True)
    if error:
        raise typer.Exit(FAILED)


def _as_typed(text: str, arguments: Sequence[str]) -> str:
    """The text with the settings it names as options of the command that was called."""
    known: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    command = next((known[argument] for argument in arguments if argument in known), None)
    return text if command is None else typist(command)(text)


def _tell(error: Exception, arguments: Sequence[str]) -> int:
    """Print an error in one line and return the exit code it deserves."""
    if os.environ.get("RECON_DEBUG", "") not in ("", "0"):
        traceback.print_exception(error)
    if hasattr(error, "format_message"):  # an error of typer about the command line
        message, code = usage_in_words(error), getattr(error, "exit_code", MISUSED)
    else:
        message, code = _one_line(error), MISUSED if isinstance(error, _MISUSE) else FAILED
        message = _as_typed(message, arguments)
    typer.secho(f"error: {message}", fg="red", err=True)
    return code


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = " ".join(str(error).split())
    text = " ".join(
        [text or type(error).__name__, *(f"({note})" for note in getattr(error, "__notes__", ()))]
    )
    if isinstance(error, _EXPECTED):
        return text
    return f"{type(error).__name__}: {text} (unexpected; RECON_DEBUG=1 shows where)"


@contextmanager
def _one_line_warnings(arguments: Sequence[str]) -> Iterator[None]:
    """Show warnings as one line on stderr, without the place in the source."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        text = _as_typed(" ".join(str(message).split()), arguments)
        typer.secho(f"warning: {text}", fg="yellow", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("recon")
    except PackageNotFoundError:
        return "(not installed)"


def _report_as_dict(report: PluginReport) -> dict[str, Any]:
    return {
        "id": report.plugin.id,
        "distribution": report.plugin.distribution,
        "version": report.plugin.version,
        "status": report.status,
        "load_ms": round(report.milliseconds, 1),
        "items": {kind: list(names) for kind, names in report.items.items()},
        "error": report.error,
        "note": report.note,
    }


def _print_reports(reports: Iterable[PluginReport]) -> None:
    table = new_table("plugin", "version", "status", "load ms", "items", "error")
    for report in reports:
        counts = ", ".join(
            f"{len(names)} {entry_class(kind).plural if len(names) > 1 else kind}"
            for kind, names in report.items.items()
        )
        remark = "; ".join(filter(None, [report.error, report.note]))
        plugin = report.plugin
        add_row(table, plugin.id, plugin.version, report.status, f"{report.milliseconds:.1f}", counts, remark)
    console().print(table)
    if not table.row_count:
        typer.echo("No plugin is installed; in a source tree, `pip install -e .` registers the built-ins.")


def _parameters_or_error(found: Found) -> tuple[tuple[Parameter, ...], str]:
    try:
        return found.parameters(), ""
    except Exception as error:
        if os.environ.get("RECON_DEBUG", "") not in ("", "0"):
            raise
        return (), _one_line(error)


def _print_found(found: Found, parameters: tuple[Parameter, ...]) -> None:
    facts = new_table("", "")
    facts.show_header = False
    for label, text in item_facts(found):
        add_row(facts, label, text)
    console().print(facts)
    if parameters:
        table = new_table("parameter", "default", "what it is")
        table.columns[-1].max_width = 70
        for line in parameter_lines(parameters):
            add_row(table, *line)
        typer.echo()
        console().print(table)
    for call in example_calls(found.entry):
        typer.echo(f"\nexample: {call}")
