"""The reference of the hooks, from their specifications: signature, when they are called, an example."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from recon.hookspecs import PROJECT, ReconSpecs
from recon_docs.markdown import code, page, prose, table

SECTION = "Reference"

_REGISTERING = "when a name of its kind is first looked up; once"
_OTHERS = {
    "recon_choose_solver": 'in every `recon.solve(..., solver="auto")`, until one implementation answers',
    "recon_solve_finished": "at the end of every `recon.solve`, of every implementation",
}


def navigation() -> list[dict[str, str]]:
    """The one page."""
    return [{"Hooks": "reference/hooks.md"}]


def files(config: MkDocsConfig, _: Files) -> Iterator[File]:
    """The one page."""
    yield page(config, "reference/hooks.md", hooks_page())


def specifications() -> dict[str, Callable[..., Any]]:
    """The hooks by name, in the order of the source."""
    return {
        name: function for name, function in vars(ReconSpecs).items() if hasattr(function, f"{PROJECT}_spec")
    }


def hooks_page() -> str:
    """All hooks: a table, then a section each."""
    hooks = specifications()
    rows = [(f"[`{name}`](#{name})", _first_line(function)) for name, function in hooks.items()]
    lines = [
        "# Hooks",
        prose(inspect.getdoc(ReconSpecs) or ""),
        table(("hook", "what an implementation does"), rows),
        "How a plugin is packaged and found: [Plugins](../concepts/plugins.md).",
    ]
    return "\n\n".join([*lines, *(_section(name, function) for name, function in hooks.items())])


def called(name: str, function: Callable[..., Any]) -> str:
    """When a hook is called. Those without arguments register things."""
    if name in _OTHERS:
        return _OTHERS[name]
    if list(inspect.signature(function).parameters) != ["self"]:
        raise LookupError(f"say in docs/recon_docs/hooks_page.py when the hook {name} is called")
    return _REGISTERING


def _section(name: str, function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    arguments = [value for key, value in signature.parameters.items() if key != "self"]
    shown = f"def {name}({', '.join(map(_plain, arguments))}) -> {signature.return_annotation}: ..."
    text, example = _split(inspect.getdoc(function) or "")
    facts = [("called", called(name, function))]
    facts += [(code(argument.name), code(argument.annotation)) for argument in arguments]
    facts.append(("returns", code(signature.return_annotation)))
    if getattr(function, f"{PROJECT}_spec")["firstresult"]:
        facts.append(("several answers", "the first that is not None counts"))
    lines = [
        f"## {name} {{ #{name} }}",
        f"``` {{ .python .norun }}\n{shown}\n```",
        prose(text),
        table(("", ""), facts),
    ]
    if example:
        lines.append(f"``` {{ .pycon }}\n{example}\n```")
    return "\n\n".join(lines)


def _plain(argument: inspect.Parameter) -> str:
    return f"{argument.name}: {argument.annotation}"


def _first_line(function: Callable[..., Any]) -> str:
    return prose((inspect.getdoc(function) or "").split("\n", 1)[0])


def _split(text: str) -> tuple[str, str]:
    """A docstring's words and its doctest."""
    before, prompt, after = text.partition(">>> ")
    return before.strip(), f"{prompt}{after}".strip()
