"""The Python blocks of a Markdown page: found, and run in one namespace as a reader would.

As a program, ``python blocks.py PAGE`` runs the blocks of a page and prints a JSON list of what each printed.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block marked ``python``; ``{ .python .norun }`` marks code that is only shown.

    Attributes:
        code: what is between the fences.
        line: of the page on which the code begins, from 1.
        end: offset in the page behind the closing fence.
    """

    code: str
    line: int
    end: int


def blocks(markdown: str) -> list[Block]:
    """The blocks of a page that are run."""
    return [
        Block(match[1], markdown.count("\n", 0, match.start(1)) + 1, match.end())
        for match in _BLOCK.finditer(markdown)
    ]


def run(path: Path) -> list[str]:
    """Run the blocks of a page one after another in one namespace; what each printed."""
    main = ModuleType("__main__")
    sys.modules["__main__"] = main  # so that classes of the page can be found again, as pickling does
    printed = []
    for block in blocks(path.read_text("utf-8")):
        code = compile(
            "\n" * (block.line - 1) + block.code, str(path), "exec"
        )  # tracebacks name the page's line
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(code, vars(main))  # noqa: S102 - the page's own code is what is being run
        printed.append(output.getvalue())
    return printed


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]))))
