r"""Formulas as MathML: what arithmatex marks as ``\(...\)`` and ``\[...\]`` becomes what browsers draw themselves."""

from __future__ import annotations

import functools
import html
import re

from latex2mathml.converter import convert

_MARKED = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)


def with_mathml(page: str) -> str:
    """A page's HTML with its formulas as MathML."""
    return _MARKED.sub(lambda match: _formula(match[2]), page)


def _formula(marked: str) -> str:
    text = html.unescape(marked).strip()
    return mathml(text[2:-2].strip(), "block" if text.startswith(r"\[") else "inline")


@functools.cache
def mathml(latex: str, display: str) -> str:
    """One formula. The source stays beside it for whoever copies or reads it aloud."""
    made: str = convert(latex, display=display)
    if "\\" in re.sub("<[^>]*>", "", made):
        raise ValueError(f"the formula {latex!r} holds a command that is not understood: {made}")
    escaped = html.escape(latex, quote=True)
    made = made.replace("<math ", f'<math alttext="{escaped}" ', 1)
    made = made.replace("<mo>&#x0007C;</mo>", '<mo stretchy="false" lspace="0" rspace="0">|</mo>')
    return f'<div class="formula">{made}</div>' if display == "block" else made
