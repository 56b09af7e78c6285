"""The conformance kit as a pytest plugin, for those who ask for it: ``pytest -p recon.testing.plugin``.

It adds an item for every case of the distributions named by ``--recon-plugin DIST``; without that option, of the
one whose pyproject.toml with a table ``[project.entry-points.recon]`` lies in pytest's root folder. It also gives
the fixture `recon_registry`. A package's conftest.py may opt in with ``pytest_plugins = ["recon.testing.plugin"]``.
It is no ``pytest11`` entry point: nobody's tests load it who did not ask.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from recon.registry import Registry
    from recon.testing.generation import Case


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--recon-plugin`` and ``--recon-kind``."""
    group = parser.getgroup("recon", "conformance of recon plugins")
    group.addoption(
        "--recon-plugin",
        action="append",
        default=[],
        metavar="DIST",
        help="check everything that this distribution registers (or an item, or path.py:Class); may be repeated; "
        "default: the project in the root folder, if it is a plugin of recon",
    )
    group.addoption("--recon-kind", default=None, metavar="KIND", help="only items of this kind")


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the items of the kit."""
    for target in config.getoption("--recon-plugin") or _own_distribution(config):
        found = _cases(target, config.getoption("--recon-kind"))
        for name, group in groupby(found, key=lambda case: case.item):
            subject = Subject.from_parent(session, name=name, nodeid=name, cases=list(group))
            report = subject.ihook.pytest_make_collect_report(collector=subject)
            subject.ihook.pytest_collectreport(report=report)  # counts the items
            items += report.result


@pytest.fixture
def recon_registry() -> Iterator[Registry]:
    """An empty registry in place of the installed plugins, for one test: ``recon_registry.add(plugin)``."""
    from recon import registry

    with registry.using(registry.Registry([], environment={})) as empty:
        yield empty


class Subject(pytest.Collector):
    """What is checked: an example of an item, its entry, or a plugin."""

    def __init__(self, *, cases: list[Case], **options: Any) -> None:
        super().__init__(**options)
        self.cases = cases

    def collect(self) -> list[pytest.Item]:
        """An item for every case."""
        return [ConformanceItem.from_parent(self, name=case.check, case=case) for case in self.cases]


class ConformanceItem(pytest.Item):
    """One case, called ``recon-acme/blur[0]::adjoint``."""

    def __init__(self, *, case: Case, **options: Any) -> None:
        super().__init__(**options)
        self.case = case
        from recon.testing.parametrised import marks

        for mark in marks(case):
            self.add_marker(mark)

    def runtest(self) -> None:
        """Run the case."""
        self.case.run()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What was measured; the traceback only where the checked code itself raised."""
        if isinstance(excinfo.value, AssertionError) and excinfo.value.__cause__ is None:
            return f"{self.case.id}: {excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, None, str]:
        """Where it is listed: under its subject."""
        return self.path, None, self.case.id


def _own_distribution(config: pytest.Config) -> list[str]:
    """The name of the project in the root folder if it registers plugins of recon."""
    file = config.rootpath / "pyproject.toml"
    if not file.is_file():
        return []
    project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    return [project["name"]] if project.get("entry-points", {}).get("recon") else []


def _cases(target: str, kind: str | None) -> list[Case]:
    from recon.testing.generation import cases

    try:
        found = list(cases(target, kind))
    except (LookupError, TypeError, ValueError) as error:
        raise pytest.UsageError(f"--recon-plugin {target}: {error}") from error
    if not found:
        raise pytest.UsageError(f"--recon-plugin {target}: there is nothing to check")
    return found
