"""Looks up what plugins provide, by name, and makes it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recon.discovery import Plugin, PluginHost, PluginReport, call, normalised
from recon.entries import ENTRY_CLASSES, Entry, entry_class
from recon.parameters import ArgumentNameError, Parameter, bind_arguments, parse_spec, read_parameters
from recon.suggestions import did_you_mean

if TYPE_CHECKING:
    from recon.linear import LinearOperator
    from recon.priors import Prior
    from recon.solution import Solution

_LISTED = 40
_log = logging.getLogger(__name__)


class UnknownNameError(LookupError):
    """No plugin in use provides the name."""


class AmbiguousNameError(LookupError):
    """Several plugins provide the name; ``dist/name`` says which one is meant."""


class MissingRequirementError(ImportError):
    """The item exists, but a library that it needs is not installed."""


@dataclass(frozen=True)
class Origin:
    """How an object was made, so that it can be recorded and made again.

    ``make(origin.kind, origin.name, **origin.arguments)`` makes an equal object; `name` is ``dist/name``,
    `version` the distribution's, and `arguments` holds every argument, defaults included.
    """

    kind: str
    name: str
    version: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """An entry together with the plugin that registered it."""

    entry: Entry
    plugin: Plugin

    @property
    def name(self) -> str:
        """The name that is unique in every environment: ``dist/name``."""
        return f"{self.plugin.distribution}/{self.entry.name}"

    @property
    def version(self) -> str:
        """The version of the distribution."""
        return self.plugin.version

    def missing(self) -> tuple[str, ...]:
        """Return the required libraries that are not installed; nothing is imported."""
        return tuple(library for library in self.entry.requires if not _is_installed(library))

    @property
    def remedy(self) -> str:
        """How to install what the item requires."""
        if self.entry.extra:
            return f"pip install '{self.plugin.distribution}[{self.entry.extra}]'"
        return f"install {', '.join(self.entry.requires)}"

    def load(self) -> Any:
        """Import and return the factory.

        Raises MissingRequirementError with the remedy if a required library is not installed, and ImportError
        if the factory cannot be imported or is not there.
        """
        what = f"{self.entry.kind} {self.name}"
        if missing := self.missing():
            raise MissingRequirementError(f"{what} needs {', '.join(missing)}: {self.remedy}")
        module_name, _, attribute = self.entry.factory.partition(":")
        try:
            factory: Any = importlib.import_module(module_name)
        except ImportError as error:
            error.add_note(f"while importing {self.entry.factory}, the factory of {what} ({self.plugin})")
            raise
        for part in attribute.split("."):
            if not hasattr(factory, part):
                suggestion = did_you_mean(part, dir(factory))
                raise ImportError(f"{what} ({self.plugin}): {module_name} has no {attribute!r}{suggestion}")
            factory = getattr(factory, part)
        return factory

    def parameters(self) -> tuple[Parameter, ...]:
        """Return what the factory takes; imports the factory."""
        return read_parameters(self.load())

    def make(self, arguments: Mapping[str, Any]) -> Any:
        """Check `arguments` against the factory's signature, call it, and mark the result with its `Origin`.

        The mark is the attribute `recon_origin`; an object that takes no attributes (a tuple, a dict) stays
        without. Errors raised by the factory itself pass through.
        """
        factory = self.load()
        what = f"{self.entry.kind} {self.entry.name}"
        values = bind_arguments(what, read_parameters(factory), arguments)
        product = factory(**values)
        if product is None:
            raise TypeError(f"{what}: its factory {self.entry.factory} returned None")
        with contextlib.suppress(AttributeError, TypeError):
            origin = Origin(self.entry.kind, self.name, self.version, values)
            object.__setattr__(product, "recon_origin", origin)
        return product


class Registry:
    """The items of all plugins by kind and name; nothing is scanned before the first look-up.

    `plugins` are entry points or plugin objects (modules, or instances whose methods are hooks); by default
    the installed entry points of the group `recon`. `block` holds plugin ids or distribution names that are
    not imported, besides those that RECON_PLUGINS and RECON_DISABLE_PLUGINS in `environment` (``os.environ``
    by default) exclude. Objects are never blocked: whoever passes them wants them.

    >>> from recon.entries import PriorEntry
    >>> from recon.hookspecs import hookimpl
    >>> class Acme:
    ...     @hookimpl
    ...     def recon_priors(self):
    ...         return [PriorEntry(name="half", factory="fractions:Fraction", summary="A number, for once")]
    >>> [found.name for found in Registry([Acme()]).items("prior")]
    ['local/half']

    Safe to use from several threads.
    """

    def __init__(
        self,
        plugins: Iterable[Any] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        block: Iterable[str] = (),
    ) -> None:
        self._host = PluginHost(plugins, environment, block)

    def add(self, plugin: Any, *, name: str = "", version: str = "") -> None:
        """Add a plugin object under the id `name`, e.g. ``"recon-acme:acme"``; ``"local:..."`` by default.

        For tests and notebooks; a package has an entry point instead. Raises ValueError if the id is taken.
        """
        self._host.add(plugin, name, version)

    def plugins(self) -> tuple[PluginReport, ...]:
        """Return what became of every plugin, sorted by id; a broken one neither raises nor warns."""
        for candidate in ENTRY_CLASSES:
            self._host.entries(candidate.kind)
        return self._host.reports()

    def items(self, kind: str) -> tuple[Found, ...]:
        """Return all items of a kind, sorted by name and plugin."""
        found = self._items(kind)
        self._host.announce()
        return found

    def find(self, kind: str, name: str) -> Found:
        """Return the item called `name` (short) or ``dist/name``.

        Raises UnknownNameError with the closest name, the names there are, and the plugins that are broken or
        blocked; AmbiguousNameError if several distributions provide a short name.
        """
        self.items(kind)
        return self._find(kind, name)

    def find_by_factory(self, kind: str, factory: str) -> Found | None:
        """Return the item whose factory is ``"module:attribute"``, or None.

        `factory` is usually that of an object's class; a class that its plugin names through another module
        is recognised too, once it is imported. Nothing is imported here.
        """
        for found in self.items(kind):
            if factory in (found.entry.factory, _home_of(found.entry.factory)):
                return found
        return None

    def make(self, kind: str, spec: Any, /, **arguments: Any) -> Any:
        """Make the item that `spec` names: ``"name"``, ``"name:arg=value"`` or ``("name", {arguments})``.

        Raises what `find`, `Found.load` and `bind_arguments` raise, all before the factory is called.
        """
        kind = entry_class(kind).kind
        name, given = _read_spec(kind, spec)
        if twice := sorted(given.keys() & arguments.keys()):
            raise ArgumentNameError(f"{kind} {name}: {twice[0]!r} is given twice, in {spec!r} and by keyword")
        return self.find(kind, name).make({**given, **arguments})

    def choose_solver(self, op: LinearOperator, prior: Prior | None) -> str:
        """Return the solver that the plugins choose: its qualified name, perhaps with arguments.

        A plugin that raises or names a solver that does not exist is warned about, and the next is asked.
        Raises UnknownNameError if no plugin answers.
        """
        chosen = None
        for source, implementation in self._host.implementations("recon_choose_solver"):
            try:
                answer = call(implementation, op=op, prior=prior)
                chosen = None if answer is None else self._qualified_solver(source.plugin, answer)
            except (Exception, SystemExit) as error:
                source.fail("recon_choose_solver", error)
            if chosen is not None:
                break
        self._host.announce()
        if chosen is None:
            raise UnknownNameError(
                f"no plugin chose a solver for {type(op).__name__} with {type(prior).__name__}; name one: "
                f"solver='...'.{self._host.explain_absence('recon_choose_solver')}"
            )
        return chosen

    def notify_solve_finished(self, solution: Solution) -> None:
        """Show `solution` to every observer. Nothing is raised: errors of plugins are logged."""
        for source, implementation in self._host.implementations("recon_solve_finished"):
            try:
                call(implementation, solution=solution)
            except (Exception, SystemExit):
                _log.exception("plugin %s (%s): recon_solve_finished failed", source.plugin.id, source.plugin)
        for message in self._host.unannounced():
            _log.warning(message)

    def _items(self, kind: str) -> tuple[Found, ...]:
        return tuple(Found(entry, plugin) for entry, plugin in self._host.entries(entry_class(kind).kind))

    def _find(self, kind: str, name: str) -> Found:
        kind = entry_class(kind).kind
        items = self._items(kind)
        distribution, slash, short = name.rpartition("/")
        matches = [
            found
            for found in items
            if found.entry.name == short
            and (not slash or found.plugin.distribution == normalised(distribution))
        ]
        if len(matches) > 1:
            providers = "; ".join(f"{found.name} ({found.plugin})" for found in matches)
            raise AmbiguousNameError(
                f"{kind} {name!r} is provided by several plugins: {providers}. Use the qualified name."
            )
        if not matches:
            raise UnknownNameError(self._explain_unknown(kind, name, items))
        return matches[0]

    def _explain_unknown(self, kind: str, name: str, items: tuple[Found, ...]) -> str:
        shared = Counter(found.entry.name for found in items)
        names = sorted(found.entry.name if shared[found.entry.name] == 1 else found.name for found in items)
        plural = entry_class(kind).plural
        text = f"unknown {kind} {name!r}{did_you_mean(name, [*shared, *(found.name for found in items)])}"
        if names:
            more = f", ... ({len(names)} in all)" if len(names) > _LISTED else ""
            text += f" Known {plural}: {', '.join(names[:_LISTED])}{more}."
        for other in ENTRY_CLASSES:
            if any(name in (found.entry.name, found.name) for found in self._items(other.kind)):
                text += f" It is among the {other.plural}."
        return text + self._host.explain_absence(f"recon_{plural}", normalised(name.rpartition("/")[0]))

    def _qualified_solver(self, chooser: Plugin, answer: Any) -> str:
        """Qualify the solver's name in the answer of recon_choose_solver; its own distribution goes first."""
        if not isinstance(answer, str):
            raise TypeError(f"returned {type(answer).__name__}, not the name of a solver")
        name, colon, arguments = answer.partition(":")
        own = f"{chooser.distribution}/{name}"
        names = [found.name for found in self._items("solver")]
        return (own if own in names else self._find("solver", name).name) + colon + arguments


_in_use = Registry()


@contextlib.contextmanager
def using(registry: Registry) -> Iterator[Registry]:
    """Make `registry` the one behind the functions of this module inside the block, for all threads.

    For tests and the command line.
    """
    global _in_use
    before, _in_use = _in_use, registry
    try:
        yield registry
    finally:
        _in_use = before


def installed() -> Registry:
    """Return the registry behind the functions of this module: that of the installed plugins."""
    return _in_use


def make(kind: str, spec: Any, /, **arguments: Any) -> Any:
    """Make an item of the installed plugins; see `Registry.make`."""
    return _in_use.make(kind, spec, **arguments)


def find(kind: str, name: str) -> Found:
    """Find an item of the installed plugins; see `Registry.find`."""
    return _in_use.find(kind, name)


def items(kind: str) -> tuple[Found, ...]:
    """Return all items of a kind of the installed plugins; see `Registry.items`."""
    return _in_use.items(kind)


def find_by_factory(kind: str, factory: str) -> Found | None:
    """Find the item of the installed plugins with this factory; see `Registry.find_by_factory`."""
    return _in_use.find_by_factory(kind, factory)


def choose_solver(op: LinearOperator, prior: Prior | None) -> str:
    """Let the installed plugins choose a solver; see `Registry.choose_solver`."""
    return _in_use.choose_solver(op, prior)


def notify_solve_finished(solution: Solution) -> None:
    """Show a finished solution to the installed observers; see `Registry.notify_solve_finished`."""
    _in_use.notify_solve_finished(solution)


def _read_spec(kind: str, spec: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(spec, str):
        return parse_spec(spec)
    match spec:
        case (str() as name, Mapping() as arguments):
            return name, arguments
    raise TypeError(
        f"give the {kind} as 'name', 'name:arg=value' or ('name', {{arguments}}), "
        f"not as {type(spec).__name__}"
    )


def _is_installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ValueError:  # a module put into sys.modules by hand has no spec
        return True


def _home_of(factory: str) -> str:
    """Return where the class behind ``"module:attribute"`` is defined, if its module is imported already."""
    module_name, _, attribute = factory.partition(":")
    target: Any = sys.modules.get(module_name)
    for part in attribute.split("."):
        target = getattr(target, part, None)
    return f"{getattr(target, '__module__', '')}:{getattr(target, '__qualname__', '')}"
