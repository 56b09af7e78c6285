"""The "did you mean" part of an error message."""

from collections.abc import Iterable


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about the unknown name `given`: the closest known name, or a full stop.

    >>> "no parameter 'sise'" + did_you_mean("sise", ["size", "angles"])
    "no parameter 'sise'; did you mean 'size'?"
    >>> "no parameter 'kernel'" + did_you_mean("kernel", ["size", "angles"])
    "no parameter 'kernel'."
    """
    from difflib import get_close_matches

    by_folded = {_folded(name): name for name in known}
    close = get_close_matches(_folded(given), by_folded, n=1)
    return f"; did you mean {by_folded[close[0]]!r}?" if close else "."


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")
