"""The reference of the command line, from the typer application itself: every command, argument and option."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from recon.cli import app
from recon_docs.markdown import code, page, prose, table

SECTION = "Reference"


def navigation() -> list[dict[str, str]]:
    """The one page."""
    return [{"Command line": "reference/command-line.md"}]


def files(config: MkDocsConfig, _: Files) -> Iterator[File]:
    """The one page."""
    yield page(config, "reference/command-line.md", command_line_page())


def commands() -> dict[str, Any]:
    """Every command by what is typed: ``recon``, ``recon solve``, ``recon new prior``, groups before members."""
    found: dict[str, Any] = {}

    def visit(name: str, command: Any) -> None:
        found[name] = command
        for child, member in getattr(command, "commands", {}).items():
            visit(f"{name} {child}", member)

    visit("recon", typer.main.get_command(app))
    return found


def command_line_page() -> str:
    """All commands: a table, then a section each."""
    known = commands()
    rows = [(f"[`{name}`](#{_anchor(name)})", _first_line(known[name])) for name in known]
    lines = [
        "# Command line",
        "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C. An error is one line on stderr. "
        "Every command takes `--help`. A SPEC is a name, or a name with arguments: `ct_parallel:angles=60`, "
        "`poisson:photons=1e4`; lists go into brackets: `shape=(64,64)`.",
        table(("command", "what it does"), rows),
    ]
    return "\n\n".join([*lines, *(_section(name, command) for name, command in known.items())])


def parameters(command: Any) -> list[Any]:
    """Arguments and options as declared, without the help option that every command has."""
    return [parameter for parameter in command.params if "--help" not in parameter.opts]


def label(parameter: Any) -> str:
    """What is typed for it: ``-o, --output FOLDER`` or ``FILE``."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return names
    return f"{names} {parameter.metavar or parameter.name.upper()}"


def _section(name: str, command: Any) -> str:
    usage = [name]
    declared = parameters(command)
    if any(parameter.param_type_name == "option" for parameter in declared):
        usage.append("[OPTIONS]")
    for parameter in declared:
        if parameter.param_type_name == "argument":
            written = label(parameter) + ("..." if parameter.nargs == -1 else "")
            usage.append(written if parameter.required else f"[{written}]")
    if hasattr(command, "commands"):
        usage.append("COMMAND")
    rows = [
        (code(label(parameter)), _default(parameter), prose(parameter.help or "")) for parameter in declared
    ]
    lines = [
        f"## {name} {{ #{_anchor(name)} }}",
        f"```console\n$ {' '.join(usage)}\n```",
        prose(inspect.cleandoc(command.help or "").split("\f")[0]),
    ]
    if rows:
        lines.append(table(("argument or option", "default", "what it means"), rows))
    return "\n\n".join(lines)


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if getattr(parameter, "is_flag", False) or parameter.default in (None, ()) or callable(parameter.default):
        return ""
    return code(str(parameter.default))


def _first_line(command: Any) -> str:
    return prose(inspect.cleandoc(command.help or "").split("\n", 1)[0])


def _anchor(name: str) -> str:
    return name.replace(" ", "-")
