"""The one generator of cases; `recon check`, `conformance_test` and the pytest plugin are its front ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from recon.entries import DatasetEntry
from recon.parameters import bind_arguments
from recon.registry import Found
from recon.testing.data import no_network
from recon.testing.entries import entry_checks, match_checks, plugin_checks
from recon.testing.kinds import checks_of, kind_of
from recon.testing.measuring import Checks
from recon.testing.running import Verdict, judge, run_check, unknown_checks
from recon.testing.targets import find_target


@dataclass(frozen=True)
class Case:
    """One check of one thing.

    Attributes:
        item: what is checked: ``"recon/mask[0]"`` (the first example of an item), ``"recon/mask"`` (its
            entry), ``"recon:operators"`` (a plugin), ``"blur.py:Blur"`` or a class name.
        check: the name of the check.
        kind: the kind of the item; "plugin" for a plugin.
        measure: the check itself.
        expected_failure: why it is known to fail; it must fail then.
        skip: why it cannot be run here: a library that the item requires is not installed.
    """

    item: str
    check: str
    kind: str
    measure: Callable[[], None]
    expected_failure: str | None = None
    skip: str | None = None

    @property
    def id(self) -> str:
        """``"recon/mask[0]::dense_adjoint"``."""
        return f"{self.item}::{self.check}"

    def run(self) -> None:
        """Run the check; `expected_failure` and `skip` are the caller's to heed.

        Raises:
            AssertionError: what was measured, what was expected and, where known, the likely mistake.
            unittest.SkipTest: nothing can be measured on this machine (no GPU).
        """
        run_check(self.measure)

    def judge(self) -> Verdict:
        """Run the check and say what became of it; never raises."""
        return judge(self.measure, self.expected_failure, self.skip)


def cases(target: Any, kind: str | None = None) -> Iterator[Case]:
    """Yield every check of a target.

    Args:
        target: an item's name or ``dist/name`` (its examples are checked; or, with arguments as in a spec,
            ``"blur:shape=(8,8),kernel=..."`` alone), a distribution with everything it registers, a class in
            a file, ``"path.py:Class"`` or ``"path.py:Class:shape=(8,8)"``, or an object.
        kind: only items of this kind; "plugin" for the plugins themselves.

    Raises:
        recon.testing.targets.TargetError: nothing has this name (a LookupError).
        recon.entries.UnknownKindError: there is no such kind.
    """
    found = find_target(target, kind)
    for report in found.plugins:
        yield from _cases(report.plugin.id, "plugin", plugin_checks(report))
    for item, arguments in found.items:
        yield from _item_cases(item, arguments)
    for label, made in (found.objects or {}).items():
        yield from _cases(label, kind_of(made), checks_of(made))


def _item_cases(found: Found, arguments: Mapping[str, Any] | None) -> Iterator[Case]:
    """The checks of an entry, then those of what each of its examples makes."""
    kind, entry = found.entry.kind, found.entry
    if missing := found.missing():
        skip = f"needs {', '.join(missing)}: {found.remedy}"
        yield from _cases(found.name, kind, entry_checks(found), skip=skip)
        return
    if arguments is not None:  # those of the user: what is wrong with them is no fault of the item
        bind_arguments(f"{kind} {entry.name}", found.parameters(), arguments)
    yield from _cases(found.name, kind, entry_checks(found))
    if arguments is not None:
        yield from _made_cases(f"{found.name}[given]", found, arguments, {})
        return
    for index, example in enumerate(entry.examples):
        if kind == "reader" and "path" not in example.kwargs:
            continue  # there is no file to read
        yield from _made_cases(f"{found.name}[{index}]", found, example.kwargs, example.expected_failures)


def _made_cases(
    item: str, found: Found, arguments: Mapping[str, Any], expected: Mapping[str, str]
) -> Iterator[Case]:
    kind = found.entry.kind
    try:
        with no_network() if isinstance(found.entry, DatasetEntry) else nullcontext():
            made = found.make(arguments)
    except Exception as error:
        failure = error

        def raise_again() -> None:
            raise failure

        yield from _cases(item, kind, {"example": raise_again}, expected)
        return
    checks: Checks = {"example": lambda: None, **match_checks(found, made), **checks_of(made, found.entry)}
    if complaint := unknown_checks(expected, checks):

        def complain() -> None:
            raise AssertionError(f"the example declares failures of {complaint}")

        checks["expected_failures"] = complain
    yield from _cases(item, kind, checks, expected)


def _cases(
    item: str,
    kind: str,
    checks: Checks,
    expected: Mapping[str, str] | None = None,
    skip: str | None = None,
) -> Iterator[Case]:
    for check, measure in checks.items():
        yield Case(item, check, kind, measure, (expected or {}).get(check), skip)
