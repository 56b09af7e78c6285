"""The events of MkDocs that this site handles: generated pages, executed pages, tables, mathematics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from recon_docs import (
    api,
    benchmarks,
    command_line,
    demonstration,
    execution,
    gallery,
    hooks_page,
    items,
    maths,
)

_FOLDERS = {"Tutorials": "tutorial", "How-to": "how-to", "Concepts": "concepts"}
_generators = (items, hooks_page, command_line, api, gallery)


def on_config(config: MkDocsConfig) -> None:
    """Put into the navigation what mkdocs.yml does not name: pages of a section's folder, and generated ones."""
    named = str(config.nav)
    for section in config.nav or []:
        for title, pages in section.items():
            if isinstance(pages, str):
                continue
            if title in _FOLDERS:
                folder = Path(config.docs_dir) / _FOLDERS[title]
                found = [f"{folder.name}/{path.name}" for path in sorted(folder.glob("*.md"))]
                pages += [address for address in found if f"'{address}'" not in named]
            for generator in _generators:
                pages += generator.navigation() if title == generator.SECTION else []


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, run the pages and examples whose code has changed, add their pictures."""
    for generator in (*_generators, execution, demonstration):
        for file in generator.files(config, files):
            files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in measured tables and what the code of the page printed."""
    markdown = benchmarks.filled(markdown)
    markdown = demonstration.filled(markdown)
    return execution.with_outputs(markdown, page.file.src_uri, files)


def on_page_content(html: str, **_: Any) -> str:
    """Turn formulas into MathML."""
    return maths.with_mathml(html)
