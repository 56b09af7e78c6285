"""Pages whose code is run when the site is built: what it prints stands below it, its pictures beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from recon_docs import blocks, cache

DOCS = Path(__file__).parents[1]
TUTORIAL = DOCS / "tutorial"  # its blocks are files and commands, which a test of its own tries
_PICTURE = re.compile(r"^!\[[^\]]*\]\(([^)#:]+)\)(\{[^}]*\})?\n?", re.MULTILINE)


def pages() -> list[Path]:
    """The hand-written pages that hold code to run."""
    return [
        path
        for path in sorted(DOCS.rglob("*.md"))
        if blocks.blocks(path.read_text("utf-8")) and not path.is_relative_to(TUTORIAL)
    ]


def files(config: MkDocsConfig, _: Files) -> Iterator[File]:
    """The pictures that the pages' code writes."""
    for path in pages():
        folder = _folder(path)
        if folder is None:
            continue
        for picture in sorted(folder.glob("*.png")):
            address = PurePosixPath(path.relative_to(DOCS).parent.as_posix()) / picture.name
            yield File.generated(config, str(address), abs_src_path=str(picture))


def with_outputs(markdown: str, address: str, files: Files) -> str:
    """A page with what its blocks printed; pictures that no run has made are left out."""
    path = DOCS / address
    if path not in pages():
        return markdown
    found = blocks.blocks(markdown)
    here = PurePosixPath(address).parent

    def kept(match: re.Match[str]) -> str:
        return match[0] if files.get_file_from_path(str(here / match[1])) else ""

    folder = _folder(path)
    if folder is not None:
        outputs = json.loads(cache.printed(folder))
        for block, output in reversed(list(zip(found, outputs, strict=True))):
            if output.strip():
                shown = f"\n\n``` {{ .text .output }}\n{output.rstrip()}\n```"
                markdown = markdown[: block.end] + shown + markdown[block.end :]
    return _PICTURE.sub(kept, markdown)


def _folder(path: Path) -> Path | None:
    text = path.read_text("utf-8")
    name = path.relative_to(DOCS).with_suffix("").as_posix()
    program = "\0".join(block.code for block in blocks.blocks(text))
    return cache.made(f"pages/{name}", [cache.python(), blocks.__file__, path], program)
