"""Runs checks: one at a time with a verdict, or all of an object with one AssertionError for those that failed."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from recon.suggestions import did_you_mean
from recon.testing.measuring import Checks

Status = Literal["passed", "failed", "expected", "skipped"]
"""`expected`: it failed, as its declared failure says."""


@dataclass(frozen=True)
class Verdict:
    """What became of one check, and why."""

    status: Status
    message: str = ""


def run_check(check: Callable[[], None]) -> None:
    """Run one check; whatever it raises becomes an AssertionError, but for what says that it cannot be done.

    Raises:
        AssertionError: what was measured and expected; for an error inside the object, its kind and text.
        unittest.SkipTest: nothing can be measured on this machine.
    """
    try:
        check()
    except (AssertionError, unittest.SkipTest):
        raise
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error


def judge(check: Callable[[], None], expected_failure: str | None = None, skip: str | None = None) -> Verdict:
    """Run one check unless it is to be skipped; a declared failure must fail."""
    if skip is not None:
        return Verdict("skipped", skip)
    try:
        run_check(check)
    except unittest.SkipTest as reason:
        return Verdict("skipped", str(reason))
    except AssertionError as error:
        if expected_failure is not None:
            return Verdict("expected", expected_failure)
        return Verdict("failed", str(error))
    if expected_failure is not None:
        return Verdict("failed", f"passed, although it is expected to fail ({expected_failure})")
    return Verdict("passed")


def require_all(name: str, checks: Checks, expected_failures: Mapping[str, str] | None = None) -> list[str]:
    """Run all checks of the object called `name` and return their names.

    Raises:
        AssertionError: naming every check that failed, or that passed although it was expected to fail.
        ValueError: an expected failure names no check.
    """
    expected = dict(expected_failures or {})
    if complaint := unknown_checks(expected, checks):
        raise ValueError(complaint)
    verdicts = {check: judge(run, expected.get(check)) for check, run in checks.items()}
    failed = [
        f"{check}: {verdict.message}" for check, verdict in verdicts.items() if verdict.status == "failed"
    ]
    if failed:
        raise AssertionError(
            f"{name} fails {len(failed)} check{'s' if len(failed) > 1 else ''}\n" + "\n".join(failed)
        )
    return list(checks)


def unknown_checks(expected: Mapping[str, str], checks: Mapping[str, object]) -> str:
    """Say which expected failures name no check; empty if all do."""
    unknown = [name for name in expected if name not in checks]
    if not unknown:
        return ""
    return f"no such check: {unknown[0]}{did_you_mean(unknown[0], checks)} The checks are {', '.join(checks)}"
