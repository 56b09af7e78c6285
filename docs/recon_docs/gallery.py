"""The gallery: every script of `examples/` with its picture, what it prints, and its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from recon_docs import cache
from recon_docs.markdown import page, prose

SECTION = "Gallery"
_HEIGHT = 320  # px, of a thumbnail: strips are cut at the sides by the card


def navigation() -> list[dict[str, str]]:
    """One page a script, behind the overview."""
    return [{title(path): f"gallery/{path.stem}.md"} for path in scripts()]


def scripts() -> list[Path]:
    """The examples that are scripts of one file."""
    return sorted((cache.ROOT / "examples").glob("*.py"))


def files(config: MkDocsConfig, _: Files) -> Iterator[File]:
    """The overview, the pages, and what the scripts wrote."""
    cards = []
    for path in scripts():
        program = path.name + path.read_text("utf-8")
        folder = cache.made(f"gallery/{path.stem}", [cache.python(), path], program)
        for name, written in _written(path, folder).items():
            yield File.generated(config, f"gallery/{name}", abs_src_path=str(written))
        cards.append(_card(path, with_picture=folder is not None))
        yield page(config, f"gallery/{path.stem}.md", _example_page(path, folder))
    yield page(config, "gallery/index.md", _overview(cards))


def _written(path: Path, folder: Path | None) -> dict[str, Path]:
    """A script's picture, its thumbnail and its report by their names beside the script's page."""
    if folder is None:
        return {}
    picture, report = folder / f"{path.stem}.png", folder / f"{path.stem}.html"
    if not picture.is_file():
        raise FileNotFoundError(f"{path} has not written {picture.name}")
    written = {picture.name: picture, f"{path.stem}.small.png": _thumbnail(picture)}
    return written | ({_report_name(path): report} if report.is_file() else {})


def _report_name(path: Path) -> str:
    return f"{path.stem}.report.html"  # NAME.html is the page


def title(path: Path) -> str:
    """What a script's docstring says first, up to a colon or its full stop."""
    return _about(path)[0]


def _about(path: Path) -> tuple[str, str]:
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or path.stem.replace("_", " ").capitalize()
    line, _, rest = text.partition("\n")
    name, _, more = line.strip().partition(": ")
    return name.rstrip("."), "\n\n".join(filter(None, [more[:1].upper() + more[1:], rest.strip()]))


def _overview(cards: list[str]) -> str:
    return (
        "# Gallery\n\nEach picture is made by the script behind it, from data that ship with recon. "
        "The scripts are in `examples/`; run one with `python examples/NAME.py`.\n\n"
        f'<div class="gallery" markdown>\n\n{"".join(cards)}\n</div>\n'
    )


def _card(path: Path, *, with_picture: bool) -> str:
    picture = f"![{title(path)}]({path.stem}.small.png)" if with_picture else ""
    return f'<div class="card" markdown>\n[{picture} {title(path)}]({path.stem}.md)\n</div>\n\n'


def _example_page(path: Path, folder: Path | None) -> str:
    first, rest = _about(path)
    lines = [f"# {first}", prose(rest)]
    if folder is not None:
        lines.append(f"[![{first}]({path.stem}.png)]({path.stem}.png)")
        if (folder / f"{path.stem}.html").is_file():
            lines.append(f"It also writes [a report]({_report_name(path)}).")
        output = cache.printed(folder).strip()
        if output:
            lines.append(f"It prints:\n\n``` {{ .text .output }}\n{output}\n```")
    source = path.read_text("utf-8").rstrip()
    lines.append(f'``` {{ .python .norun title="examples/{path.name}" }}\n{source}\n```')
    return "\n\n".join(filter(None, lines)) + "\n"


def _thumbnail(picture: Path) -> Path:
    from PIL import Image

    small = picture.with_suffix(".small.png")
    if not small.is_file():
        with Image.open(picture) as image:
            image.thumbnail((image.width, _HEIGHT))
            image.save(small)
    return small
