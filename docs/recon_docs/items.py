"""Reference pages of everything that plugins register: one page a kind, from the declarations themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from recon import registry
from recon.entries import ENTRY_CLASSES, Entry
from recon.facts import PARAMETER_COLUMNS, item_facts, parameter_rows
from recon.registry import Found
from recon_docs.markdown import code, page, prose, table

SECTION = "Reference"
OWN = ("recon",)  # distributions whose items are documented: what else is installed is not this project's

_USE = {
    "operator": "recon.operator({call})",
    "prior": "recon.prior({call})",
    "solver": "recon.solver({call})",
    "noise": "recon.noise({call})",
    "metric": "recon.metric({call})",
    "dataset": "recon.dataset({call})",
}
_BY_SUFFIX = {"reader": 'recon.load("file{suffix}")', "writer": 'recon.save("file{suffix}", image)'}


def navigation() -> list[dict[str, str]]:
    """Titles and pages, in the order of the kinds."""
    return [{kind.plural.capitalize(): f"reference/{kind.plural}.md"} for kind in ENTRY_CLASSES]


def files(config: MkDocsConfig, _: Files) -> Iterator[File]:
    """One page a kind."""
    for kind in ENTRY_CLASSES:
        yield page(config, f"reference/{kind.plural}.md", kind_page(kind))


def kind_page(kind: type[Entry]) -> str:
    """Everything of one kind: a table of contents, then a section an item."""
    found = [item for item in registry.items(kind.kind) if item.plugin.distribution in OWN]
    lines = [
        f"# {kind.plural.capitalize()}",
        prose((inspect.getdoc(kind) or "").split("\n\n")[0]),
        f"From a terminal: `recon list {kind.plural}` and `recon show {kind.kind} NAME`. A plugin adds more with the "
        f"hook [`recon_{kind.plural}`](hooks.md#recon_{kind.plural}).",
    ]
    if not found:
        lines.append(f"recon ships no {kind.kind}; this kind is there for plugins.")
    else:
        rows = [(f"[`{item.entry.name}`](#{item.entry.name})", item.entry.summary) for item in found]
        lines.append(table(("name", "what it is"), rows))
    return "\n\n".join([*lines, *map(item_section, found)])


def item_section(found: Found) -> str:
    """One item: facts, parameters, examples."""
    entry = found.entry
    facts = [(label, _fact(label, text)) for label, text in item_facts(found) if label]
    lines = [f"## {entry.name} {{ #{entry.name} }}", _about(found), table(("", ""), facts)]
    missing = ", ".join(found.missing())
    parameters = () if missing else found.parameters()
    if missing:
        lines.append(
            f"Its parameters are listed where {missing} is installed: `recon show {entry.kind} {entry.name}`."
        )
    elif parameters:
        rows = [
            (
                code(name),
                code(type_name),
                _default(default),
                unit,
                code(allowed),
                prose(description),
            )
            for name, type_name, default, unit, allowed, description in parameter_rows(parameters)
        ]
        lines.append(table(PARAMETER_COLUMNS, rows))
    else:
        lines.append("It takes no parameters.")
    calls = list(_calls(found))
    if calls:
        lines.append("``` { .python .norun }\n" + "\n".join(calls) + "\n```")
    return "\n\n".join(lines)


def _default(default: str) -> str:
    return default if default == "required" else code(default)


def _fact(label: str, text: str) -> str:
    if label == "factory":
        return factory_link(text)
    return code(text) if label in ("needs", "suffixes") else prose(text)


def factory_link(factory: str) -> str:
    """The class or function behind an item, linked to its documentation if that has a page."""
    module, _, attribute = factory.partition(":")
    name = f"{module}.{attribute}"
    documented = module.partition(".")[0] == "recon" or module.startswith(("recon_operators", "recon_priors"))
    return f"[`{name}`][{name}]" if documented and _is_public(name) else code(name)


def _is_public(name: str) -> bool:
    from recon_docs.api import documented

    return name in documented()


def _about(found: Found) -> str:
    """The first paragraph of the factory's docstring, or the summary."""
    text: str = ("" if found.missing() else inspect.getdoc(found.load())) or found.entry.summary
    return prose(" ".join(text.split("\n\n")[0].split()))


def _calls(found: Found) -> Iterator[str]:
    entry = found.entry
    if entry.kind in _BY_SUFFIX:
        suffixes: tuple[str, ...] = getattr(entry, "suffixes", ())
        yield from (_BY_SUFFIX[entry.kind].format(suffix=suffix) for suffix in suffixes[:1])
    elif entry.kind in _USE:
        for example in entry.examples:
            call = ", ".join(
                [repr(entry.name), *(f"{key}={value!r}" for key, value in example.kwargs.items())]
            )
            yield _USE[entry.kind].format(call=call.replace("'", '"'))
