"""Runs a page of the tutorial as a reader would: saves its files, types its commands, compares what they print."""

from __future__ import annotations

import re
import secrets
import shlex
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

SECONDS = 300  # the longest that one command may take; the training takes 15 on a core of its own
DECIMAL = r"(?<![\w.])\d+\.\d+(?![\w.])"  # no part of a version or of 3.3e-01


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the title that names a file, its text, and the line of that text."""

    language: str
    title: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A line after ``$ ``, what the page shows below it, and whether the page goes on with ``$ echo $?``."""

    text: str
    output: list[str]
    line: int
    may_fail: bool


def run_page(page: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Go through a page in a folder: write every block with a title, run every ``console`` block in one shell.

    The output shown must be what is printed, as `matches` says. Where none is shown, none is compared. A command
    must succeed, unless the next one is ``echo $?``.

    Raises:
        AssertionError: naming page and line: other output, a failure, or a block that would not be tried.
    """
    with Shell(folder, environment) as shell:
        for block in blocks(page.read_text("utf-8")):
            place = f"{page.name}:{block.line}"
            if block.title:
                target = folder / block.title
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.text, "utf-8")
            elif block.language == "console":
                for command in commands(block):
                    _try(shell, command, f"{page.name}:{command.line}")
            else:
                assert block.language == "text", (
                    f"{place}: a {block.language} block without a title is never tried"
                )


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a text in Markdown."""
    for token in MarkdownIt().parse(text):
        if token.type == "fence" and token.map is not None:
            language, *attributes = shlex.split(token.info)
            named = dict(attribute.partition("=")[::2] for attribute in attributes)
            yield Block(language, named.get("title", ""), token.content, token.map[0] + 2)


def commands(block: Block) -> list[Command]:
    """The commands of a ``console`` block; one that ends with a backslash goes on in the next line."""
    found: list[Command] = []
    lines = iter(enumerate(block.text.splitlines(), start=block.line))
    for number, line in lines:
        if line.startswith("$ "):
            text = line[2:]
            while text.endswith("\\"):
                text += "\n" + next(lines)[1]
            if text == "echo $?" and found:
                before = found[-1]
                found[-1] = Command(before.text, before.output, before.line, may_fail=True)
            found.append(Command(text, [], number, may_fail=False))
        else:
            assert found, f"line {number}: a console block starts with a command"
            found[-1].output.append(line)
    return found


def matches(shown: list[str], printed: list[str]) -> bool:
    """Whether what is printed is what the page shows.

    Spaces do not count, ``...`` is any text or any lines, and a decimal number may differ by 1 in its last digit.
    """
    pattern, numbers = "", []
    for line in map(_spaced, shown):
        if line == "...":
            pattern += r"(?:.*\n)*?"
            continue
        for part in re.split(rf"( ?\.\.\.|{DECIMAL})", line):
            if part.endswith("..."):
                pattern += ".*" if part == "..." else "(?: .*)?"
            elif re.fullmatch(DECIMAL, part):
                pattern += rf"({DECIMAL})"
                numbers.append(part)
            else:
                pattern += re.escape(part)
        pattern += "\n"
    found = re.fullmatch(pattern + r"\n*", "".join(f"{_spaced(line)}\n" for line in printed))
    return found is not None and all(map(_close, numbers, found.groups()))


def _close(wanted: str, got: str) -> bool:
    """Whether two decimals differ by at most 1 in the last digit that is wanted (1.5 allows for rounding)."""
    return abs(float(wanted) - float(got)) < 1.5 * 10.0 ** -len(wanted.partition(".")[2])


class Shell:
    """A bash that keeps its folder and variables from one command to the next."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.status = 0

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def run(self, command: str) -> tuple[int, list[str]]:
        """The exit code and the printed lines, errors among them."""
        assert self.process.stdin is not None and self.process.stdout is not None
        mark = secrets.token_hex(8)
        watch = threading.Timer(SECONDS, self.process.kill)
        watch.start()
        self.process.stdin.write(
            f"(exit {self.status})\n{{ {command}\n}} </dev/null\nprintf '\\n{mark} %s\\n' $?\n"
        )
        self.process.stdin.flush()
        lines: list[str] = []
        for line in self.process.stdout:
            if line.startswith(mark):
                break
            lines.append(line.rstrip())
        else:
            raise AssertionError(
                f"the shell ended, or {command!r} took over {SECONDS} s:\n" + "\n".join(lines)
            )
        watch.cancel()
        self.status = int(line.split()[1])
        return self.status, lines[:-1] if lines[-1] == "" else lines


def _try(shell: Shell, command: Command, place: str) -> None:
    status, printed = shell.run(command.text)
    said = "\n".join(printed)
    assert status == 0 or command.may_fail, f"{place}: `{command.text}` ends with {status}:\n{said}"
    assert not command.output or matches(command.output, printed), (
        f"{place}: `{command.text}` prints\n{said}\nbut the page shows\n" + "\n".join(command.output)
    )


def _spaced(line: str) -> str:
    return " ".join(line.split())
