"""What an entry declares, for readers: the facts and tables of `recon show` and of the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from recon.entries import Entry, Example
from recon.parameters import Parameter, in_words, plain
from recon.registry import Found

PARAMETER_COLUMNS = ("parameter", "type", "default", "unit", "allowed", "description")


def item_facts(found: Found) -> list[tuple[str, str]]:
    """Labels and texts that say what an item is; nothing that is empty."""
    entry = found.entry
    facts = [
        (entry.kind, f"{found.name} ({found.plugin})"),
        ("", entry.summary),
        ("factory", entry.factory),
        ("images", entry.domain),
        ("devices", ", ".join(entry.devices)),
        ("tags", ", ".join(entry.tags)),
        *_own_facts(entry),
        ("needs", ", ".join(entry.requires) + (f" (missing: {found.remedy})" if found.missing() else "")),
    ]
    return [(label, text) for label, text in facts if text]


def parameter_rows(parameters: Sequence[Parameter]) -> list[tuple[str, ...]]:
    """One row of `PARAMETER_COLUMNS` a parameter."""
    return [
        (
            parameter.name,
            parameter.type_name,
            "required" if parameter.required else str(parameter.as_dict()["default"]),
            parameter.about.unit,
            parameter.bounds or ", ".join(map(str, parameter.about.choices)),
            parameter.about.description,
        )
        for parameter in parameters
    ]


def parameter_lines(parameters: Sequence[Parameter]) -> list[tuple[str, str, str]]:
    """Name, default with its unit, and all else in words, of each parameter: what a narrow terminal can show."""
    lines = []
    for parameter, (name, _, default, unit, allowed, description) in zip(
        parameters, parameter_rows(parameters), strict=True
    ):
        kind = in_words(parameter.annotation)
        if parameter.about.choices:
            said = f"{kind}, one of {allowed}"
        else:
            said = "; ".join(filter(None, [kind, f"{allowed} {unit}".strip()]))
        shown = f"{default} {unit}" if unit and isinstance(parameter.default, int | float) else default
        lines.append((name, shown, f"{description} ({said})" if description else said))
    return lines


def example_calls(entry: Entry) -> list[str]:
    """The entry's examples as calls: ``"tv(weight=0.1)"``."""
    return [
        f"{entry.name}({', '.join(f'{name}={value!r}' for name, value in example.kwargs.items())})"
        for example in entry.examples
        if example.kwargs
    ]


def as_dict(found: Found) -> dict[str, Any]:
    """An entry and its provenance as JSON-ready values."""
    return {
        "kind": found.entry.kind,
        "name": found.entry.name,
        "qualified_name": found.name,
        "plugin": found.plugin.id,
        "version": found.version,
        "missing": list(found.missing()),
        **{
            field.name: plain(getattr(found.entry, field.name))
            for field in fields(found.entry)
            if field.name not in ("name", "examples")
        },
        "examples": [_example_as_dict(example) for example in found.entry.examples],
    }


def _example_as_dict(example: Example) -> dict[str, Any]:
    return {"kwargs": plain(example.kwargs), "expected_failures": plain(example.expected_failures)}


def _own_facts(entry: Entry) -> list[tuple[str, str]]:
    """The fields that only this kind of entry has."""
    common = {field.name for field in fields(Entry)}
    return [
        (field.name.replace("_", " "), str(plain(getattr(entry, field.name))))
        for field in fields(entry)
        if field.name not in common and getattr(entry, field.name) not in ("", ())
    ]
