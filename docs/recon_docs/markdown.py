"""Markdown pieces that the generators share, and the pages they make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File


def page(config: MkDocsConfig, address: str, content: str) -> File:
    """A page that exists in memory only."""
    return File.generated(config, address, content=content)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """A Markdown table; the columns numbered in `right` are numbers."""
    right = set(right)
    rule = ["---:" if number in right else "---" for number in range(len(columns))]
    lines = [columns, rule, *([cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cell(text: str) -> str:
    """Text that cannot break a table."""
    return " ".join(text.split()).replace("|", "&#124;")


def code(text: str) -> str:
    """Inline code, also for text with bars, inside or outside a table; nothing for nothing."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "&#124;")
    return f"<code>{escaped}</code>" if text else ""


def prose(text: str) -> str:
    """A docstring's words as Markdown: nothing in it is HTML."""
    return text.replace("<", "&lt;")
