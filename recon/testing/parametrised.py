"""Cases as a parametrised pytest test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from recon.testing.generation import Case, cases


def conformance_test(target: Any, kind: str | None = None) -> Callable[[Case], None]:
    """Return a test function that runs every check of `target`.

    An author's whole test file::

        from recon.testing import conformance_test

        test_conformance = conformance_test("recon-motion-blur")

    Args:
        target: what `recon.testing.cases` takes: a distribution, a name, ``path.py:Class`` or an object.
        kind: only items of this kind; "plugin" for the plugins themselves.

    Declared failures are strict xfails with their reason; an item whose library is not installed is skipped.

    Raises:
        LookupError: nothing has this name, or it registers nothing.
    """
    parameters = [pytest.param(case, id=case.id, marks=marks(case)) for case in cases(target, kind)]
    if not parameters:
        raise LookupError(f"{target} registers nothing that can be checked")

    @pytest.mark.parametrize("case", parameters)
    def test_conformance(case: Case) -> None:
        case.run()

    test_conformance.__doc__ = f"{target} keeps every promise of what it registers."
    return test_conformance


def marks(case: Case) -> list[pytest.MarkDecorator]:
    """What pytest must know of a case."""
    if case.skip is not None:
        return [pytest.mark.skip(reason=case.skip)]
    if case.expected_failure is not None:
        return [pytest.mark.xfail(reason=case.expected_failure, strict=True, raises=AssertionError)]
    return []
