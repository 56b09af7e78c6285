"""What is said in Python's terms, in those of the command line: ``image_range=(0, 1)`` is ``--image-range 0,1`` there.

Errors, warnings and explanations come from functions that Python calls too, and from plugins. They name a setting as a
keyword; where the command has an option of that name, it is shown as the option. Keywords inside paths and addresses,
and those whose value is Python's alone (a call, a dictionary), stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from recon.entries import KINDS

Options = Mapping[str, tuple[str, str]]
"""Name of a keyword -> the option as it is typed, and what stands for its value."""

_VALUE = r"""'[^']*'|"[^"]*"|\([^()]*\)|\[[^\[\]]*\]|\.\.\.|[\w.+/%-]*"""
_KEYWORD = re.compile(rf"(?<![\w.:,'\"])(?P<name>[a-z]\w*)=(?P<value>{_VALUE})")
_ARGUMENT = re.compile(
    rf"\b(?:{'|'.join(KINDS)}) [\w/.-]+: $"
)  # "prior tv: weight='x' ...": of an item, no option
_IN_A_PATH = re.compile(r"[/\\?&]\S*$")
"""What stands before the keywords of "runs/seed=3" and "https://a.b/x?seed=3"."""
_FILE_OR_PYTHON = re.compile(r"(?!['\"(\[])\S*(?:[/\\]|\.[A-Za-z]\w*$)|[(\[].*(?:\w\(|\{)")
"""Values such as 0.01/x, 0.01.h5, config.weight and [CG()]."""
_GOES_ON = tuple("([{/\\=")
"""What follows a value that is the beginning of a call, an index, a path, a comparison."""

_PYTHON_ONLY = (
    (r'fidelity=\("gaussian", \{"noise_level": ([^{}]*)\}\)', r"noise_level=\1"),
    (r"stop=recon\.MaxIterations\(\.\.\.\) \| \.\.\.", "iterations=..."),
    (r",? or from this image \(x0=solution\.image\)", ""),
    (r",? or recon\.[A-Z]\w*\([^()]*\)", ""),
    (r"recon\.solve\(\.\.\., (\w+=\([^()]*\))\)", r"\1"),
    (r"\bany_operator=True when you load it", "FOLDER/:any_operator=true"),
    (r"\blr=\[0\.001, 0\.01\]", "--vary lr=0.001,0.01"),
    (r"\bresume=False(?: \(--anew\))?", "anew=True"),
    (
        r"say which, data=Measurements\(y\) or data=Images\(x, 'images'\), both from recon\.training",
        "give problem files, as recon simulate writes them, which say what is data and what is image",
    ),
)
"""What has no keyword of the option's name."""


def options_of(command: Any) -> Options:
    """The options of a command of typer."""
    found = {}
    for parameter in command.params:
        typed = max(parameter.opts, key=len, default="")
        if typed.startswith("--"):
            found[parameter.name] = (typed, parameter.metavar or "VALUE")
    return found


def as_typed(text: str, options: Options) -> str:
    """The text with keywords that are options of the command written as these."""
    for pattern, replacement in _PYTHON_ONLY:
        text = re.sub(pattern, replacement, text)

    def typed(found: re.Match[str]) -> str:
        name, value = found["name"], found["value"]
        before = text[: found.start()]
        if name not in options or _ARGUMENT.search(before) or _in_a_call(before):
            return found[0]
        if (
            _IN_A_PATH.search(before)
            or _FILE_OR_PYTHON.match(value)
            or text.startswith(_GOES_ON, found.end())
        ):
            return found[0]
        option, metavar = options[name]
        if value in ("None", "False"):
            return f"no {option}"
        shown = _value(value, metavar)
        return f"{option} {shown}" if shown else option

    return _KEYWORD.sub(typed, text)


def typist(command: Any) -> Callable[[str], str]:
    """`as_typed` for the options of one command."""
    options = options_of(command)
    return lambda text: as_typed(text, options)


def usage_in_words(error: Exception) -> str:
    """What an error of typer about an argument says, with the value and what was expected."""
    details = getattr(error.__cause__, "errors", None)
    if details is not None and hasattr(error, "message"):
        error.message = "; ".join(_expected(detail) for detail in details())
    text: str = error.format_message()  # type: ignore[attr-defined]
    return text


def _expected(detail: Mapping[str, Any]) -> str:
    """One complaint of the library that checks values for typer."""
    kind, given, limits = str(detail["type"]), detail.get("input"), detail.get("ctx", {})
    if kind.startswith("int_"):
        return f"must be a whole number, got {given!r}"
    if kind.startswith("float_"):
        return f"must be a number, got {given!r}"
    for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
        if name in limits:
            return f"must be {sign} {limits[name]:g}, got {given}"
    return str(detail["msg"]).removeprefix("Value error, ")


def _value(value: str, metavar: str) -> str:
    if value in ("", "True"):
        return ""
    if value == "...":
        return metavar
    if value[0] in "'\"":
        return value if " " in value else value[1:-1]
    if value[0] in "([":
        return ",".join(part.strip() for part in value[1:-1].split(","))
    return value


def _in_a_call(before: str) -> bool:
    """Whether what follows is an argument inside ``Name(...)``."""
    depth = 0
    for place in range(len(before) - 1, -1, -1):
        if before[place] == ")":
            depth += 1
        elif before[place] == "(":
            if not depth:
                return before[place - 1 : place].isalnum()
            depth -= 1
    return False
