"""The Python code of every page runs, from top to bottom, as a reader would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from built_site import ROOT

RUNNER = ROOT / "docs" / "recon_docs" / "blocks.py"
PAGES = [
    path
    for path in sorted((ROOT / "docs").rglob("*.md"))
    if "\n```python\n" in path.read_text("utf-8") and path.parent.name != "tutorial"  # has a test of its own
]


def run(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RUNNER), str(page)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT / "docs").as_posix())
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    done = run(page, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(json.loads(done.stdout)) == page.read_text("utf-8").count("\n```python\n")


def test_there_are_pages_with_code() -> None:
    names = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES}
    assert {"index.md", "first-reconstruction.md", "how-to/ct.md", "concepts/weight.md"} <= names


def test_an_error_in_a_page_is_found_and_its_line_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\n```python\nvalue = 1\n```\n\n``` { .python .norun }\nno python at all\n```\n\n"
        "```python\nprint(value)\nmissing()\n```\n"
    )
    done = run(page, tmp_path)
    assert done.returncode != 0
    assert f'"{page}", line 13' in done.stderr
    assert "missing" in done.stderr


def test_what_each_block_prints_is_told_apart(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n```python\nclass A: pass\nprint(1)\n```\n\n```python\nprint(A.__module__)\n```\n"
    )
    assert json.loads(run(page, tmp_path).stdout) == ["1\n", "__main__\n"]
