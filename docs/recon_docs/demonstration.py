"""`recon demo` for the home page: its pictures and its table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from recon_docs import cache
from recon_docs.markdown import table

_TABLE, _PICTURE = "{{ demo: table }}", "{{ demo: picture }}"
_SHOWN = "ct.png"


def files(config: MkDocsConfig, _: Files) -> Iterator[File]:
    """The picture that the home page shows."""
    folder = _folder()
    if folder is not None:
        yield File.generated(config, f"demo-{_SHOWN}", abs_src_path=str(folder / "demo-out" / _SHOWN))


def filled(markdown: str) -> str:
    """A page with the demo's table and picture, where the demo has run."""
    if _TABLE not in markdown and _PICTURE not in markdown:
        return markdown
    folder = _folder()
    if folder is None:
        return markdown.replace(_TABLE, "").replace(_PICTURE, "")
    picture = (
        f"![Chest CT from 60 noisy views: truth, filtered back-projection, total variation](demo-{_SHOWN})"
    )
    return markdown.replace(_PICTURE, picture).replace(_TABLE, _results(folder))


def _folder() -> Path | None:
    program = "import sys; from recon.cli import main; sys.exit(main(['demo']))"
    return cache.made("demo", [cache.python(), "-c", program], program)


def _results(folder: Path) -> str:
    record = json.loads((folder / "demo-out" / "results.json").read_text("utf-8"))
    rows = [
        (row["problem"], row["method"], f"{row['psnr']:.2f}", f"{row['ssim']:.3f}", f"{row['seconds']:.2f}")
        for row in record["results"]
    ]
    return table(("problem", "method", "PSNR [dB]", "SSIM", "seconds"), rows, right=(2, 3, 4))
