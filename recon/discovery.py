"""Finds plugins, imports and asks each one on its own, and keeps what went wrong with it."""

from __future__ import annotations

import inspect
import logging
import os
import re
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import Any, Literal

import pluggy

from recon.entries import Entry, entry_class
from recon.hookspecs import PROJECT, ReconSpecs
from recon.suggestions import did_you_mean

GROUP = "recon"
"""The entry-point group of plugins."""
ALLOW, DISABLE, STRICT = "RECON_PLUGINS", "RECON_DISABLE_PLUGINS", "RECON_STRICT_PLUGINS"

HOOKS = tuple(name for name in vars(ReconSpecs) if name.startswith("recon_"))

_CORE = str(Path(__file__).parent) + os.sep
_PLUGGY = str(Path(pluggy.__file__).parent) + os.sep
_log = logging.getLogger(__name__)


class PluginError(RuntimeError):
    """A plugin is broken; raised only under RECON_STRICT_PLUGINS=1 (otherwise it is a warning)."""


class UnknownPluginError(LookupError):
    """A plugin that is to be blocked does not exist."""


@dataclass(frozen=True)
class Plugin:
    """Identity of a plugin: `id` is ``distribution:entry_point``, the distribution's name normalised."""

    id: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


@dataclass(frozen=True)
class PluginReport:
    """What became of one plugin: the names of its items by kind, or why it is broken or blocked."""

    plugin: Plugin
    status: Literal["ok", "broken", "blocked"]
    milliseconds: float
    items: Mapping[str, tuple[str, ...]]
    error: str
    note: str


@dataclass(frozen=True)
class _Problem:
    """An error in a plugin's code: in one hook, or in the whole plugin if `hook` is empty."""

    hook: str
    text: str
    error: BaseException

    def __str__(self) -> str:
        return f"{self.hook}: {self.text}" if self.hook else self.text


@dataclass
class _Source:
    """A plugin that was discovered or added, and what is known about it so far."""

    plugin: Plugin
    target: Any  # the EntryPoint to load, or the plugin object itself
    blocked_by: str = ""
    registered: bool = False
    announced: bool = False
    seconds: float = 0.0
    note: str = ""
    problems: list[_Problem] = field(default_factory=list)
    entries: dict[str, list[Entry]] = field(default_factory=dict)

    @property
    def plugin_names(self) -> set[str]:
        """The names by which it can be blocked."""
        return {self.plugin.id, self.plugin.distribution}

    @property
    def error(self) -> str:
        return "; ".join(map(str, self.problems))

    @property
    def complaint(self) -> str:
        ignored = "" if self.registered else " and ignored"
        return f"plugin {self.plugin.id} ({self.plugin}) is broken{ignored}: {self.error}"

    def fail(self, hook: str, error: BaseException) -> None:
        """Record an error of one hook, or of the whole plugin if `hook` is empty; of each hook the first."""
        _log.debug("plugin %s is broken", self.plugin.id, exc_info=error)
        if all(problem.hook != hook for problem in self.problems):
            # Without its traceback, whose frames would keep images and operators alive.
            self.problems.append(_Problem(hook, _describe(error), error.with_traceback(None)))

    def report(self) -> PluginReport:
        names = {
            kind: tuple(sorted(e.name for e in entries)) for kind, entries in sorted(self.entries.items())
        }
        return PluginReport(
            plugin=self.plugin,
            status="blocked" if self.blocked_by else "broken" if self.problems else "ok",
            milliseconds=1000 * self.seconds,
            items={kind: listed for kind, listed in names.items() if listed},
            error=self.error or self.blocked_by,
            note=self.note,
        )


class PluginHost:
    """The plugins of one environment. Nothing is scanned before `load`, which every other method calls.

    The arguments are those of `recon.registry.Registry`.

    An error in one plugin never reaches another: it is caught where the plugin's code runs, kept, and told by
    `announce`. All methods may be called from several threads.
    """

    def __init__(
        self, plugins: Iterable[Any] | None, environment: Mapping[str, str] | None, block: Iterable[str]
    ) -> None:
        self._given = None if plugins is None else list(plugins)
        self._environment = os.environ if environment is None else environment
        self._block = tuple(block)
        self._lock = threading.RLock()
        self._loaded = False
        self._busy_with = ""
        self._sources: list[_Source] = []
        self._notes: list[str] = []
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(ReconSpecs)

    def load(self) -> None:
        """List the plugins, decide which are blocked, then import and register the others; only once."""
        with self._lock:
            if self._busy_with:
                raise RuntimeError(
                    f"the plugins were asked for while {self._busy_with} was being loaded; "
                    "a plugin module may only declare its hooks"
                )
            if self._loaded:
                return
            targets = _installed_entry_points() if self._given is None else self._given
            sources = [
                _source_of_entry_point(target)
                if isinstance(target, EntryPoint)
                else _source_of_object(target)
                for target in map(_standard, targets)
            ]
            self._apply_blocking([source for source in sources if isinstance(source.target, EntryPoint)])
            self._loaded = True
            for source in sorted(sources, key=lambda source: source.plugin.id):
                self._admit(source)

    def add(self, plugin: Any, name: str, version: str) -> None:
        """Add a plugin object under the id `name` (``"local:..."`` if empty); ValueError if it is taken."""
        with self._lock:
            self.load()
            source = _source_of_object(plugin, name, version)
            if any(known.plugin.id == source.plugin.id for known in self._sources):
                raise ValueError(f"there is already a plugin {source.plugin.id!r}; add it under another name")
            self._admit(source)

    def entries(self, kind: str) -> list[tuple[Entry, Plugin]]:
        """Return all entries of a kind, sorted by name and plugin; each plugin is asked once."""
        with self._lock:
            implementations = self.implementations(f"recon_{entry_class(kind).plural}")
            for source in self._sources:
                own = [implementation for other, implementation in implementations if other is source]
                if own and kind not in source.entries:
                    source.entries[kind] = []
                    self._ask(source, own, kind)
            pairs = [
                (entry, source.plugin) for source in self._sources for entry in source.entries.get(kind, ())
            ]
        return sorted(pairs, key=lambda pair: (pair[0].name, pair[1].id))

    def implementations(self, hook: str) -> list[tuple[_Source, pluggy.HookImpl]]:
        """Return the implementations of a hook: those marked tryfirst, then by plugin id, then trylast."""
        with self._lock:
            self.load()
            by_id = {source.plugin.id: source for source in self._sources}
            implementations = getattr(self._manager.hook, hook).get_hookimpls()
            pairs = [
                (by_id[implementation.plugin_name], implementation) for implementation in implementations
            ]
        return sorted(pairs, key=lambda pair: (pair[1].trylast, not pair[1].tryfirst, pair[0].plugin.id))

    def reports(self) -> tuple[PluginReport, ...]:
        """Return what is known about every plugin so far, sorted by id."""
        with self._lock:
            self.load()
            return tuple(source.report() for source in self._sources)

    def announce(self) -> None:
        """Warn about what is wrong, once per plugin; with RECON_STRICT_PLUGINS=1 raise if one is broken."""
        with self._lock:
            for source in self._sources:
                if source.problems and self._environment.get(STRICT, "") not in ("", "0"):
                    raise PluginError(f"{source.complaint} ({STRICT} is set)") from source.problems[0].error
            messages = self.unannounced()
        for message in messages:
            warnings.warn(message, RuntimeWarning, stacklevel=_levels_to_caller())

    def unannounced(self) -> list[str]:
        """Return what nobody has been told yet, and take it as told."""
        with self._lock:
            messages, self._notes = self._notes, []
            for source in self._sources:
                if source.problems and not source.announced:
                    source.announced = True
                    messages.append(
                        f"{source.complaint} (upgrade or uninstall {source.plugin.distribution}, "
                        f"or disable it: {DISABLE}={source.plugin.id})"
                    )
        return messages

    def explain_absence(self, hook: str, distribution: str = "") -> str:
        """Say which plugins may be the reason why `hook` did not provide something, after a space."""
        with self._lock:
            sources = list(self._sources)
        if not sources:
            return " No plugin is installed; in a source tree, `pip install -e .` registers the built-ins."
        text = ""
        if distribution and all(source.plugin.distribution != distribution for source in sources):
            text += f" No plugin of a distribution {distribution!r} is installed."
        broken = [
            f"{source.plugin.id} ({source.plugin}: {problem})"
            for source in sources
            for problem in source.problems
            if problem.hook in ("", hook)
        ]
        if broken:
            text += f" Broken plugins, which may provide it: {'; '.join(broken)}."
        if blocked := [
            f"{source.plugin.id} ({source.blocked_by})" for source in sources if source.blocked_by
        ]:
            text += f" Blocked plugins, which may provide it: {'; '.join(blocked)}."
        return text

    def _apply_blocking(self, sources: list[_Source]) -> None:
        """Mark the sources that must not be imported; raise UnknownPluginError if `block` names none."""
        known = sorted({name for source in sources for name in source.plugin_names})
        for token in self._block:
            if normalised(token) not in known:
                raise UnknownPluginError(
                    f"there is no plugin {token!r} to block{did_you_mean(token, known)} "
                    f"The plugins are {', '.join(sorted(source.plugin.id for source in sources)) or 'none'}."
                )
        blocked = {normalised(token) for token in self._block}
        disabled = set(_tokens(self._environment.get(DISABLE, "")))
        allowed = set(_tokens(self._environment[ALLOW])) if ALLOW in self._environment else None
        self._notes += [
            f"{ALLOW} allows {token!r}, but no such plugin is installed{did_you_mean(token, known)}"
            for token in sorted((allowed or set()) - set(known))
        ]
        for source in sources:
            if source.plugin_names & blocked:
                source.blocked_by = "blocked on the command line"
            elif source.plugin_names & disabled:
                source.blocked_by = f"blocked by {DISABLE}"
            elif allowed is not None and not source.plugin_names & allowed:
                source.blocked_by = f"not in {ALLOW}"

    def _admit(self, source: _Source) -> None:
        """Take a source in, and unless it is blocked import and register it."""
        self._sources.append(source)
        self._sources.sort(key=lambda known: known.plugin.id)
        if source.blocked_by:
            return
        with self._watching(source, hook=""):
            try:
                self._register(source)
                source.registered = True
            finally:
                # pluggy 1.6 keeps the hooks that came before a faulty one.
                if not source.registered and self._manager.has_plugin(source.plugin.id):
                    self._manager.unregister(name=source.plugin.id)
        if isinstance(source.target, EntryPoint) and source.target.dist is not None:
            source.note = _version_conflict(source.target.dist)
            if source.note:
                self._notes.append(f"plugin {source.plugin.id} ({source.plugin}): {source.note}")

    def _register(self, source: _Source) -> None:
        """Import a plugin and register its hooks; raises whatever is wrong with it."""
        target = source.target
        plugin = target.load() if isinstance(target, EntryPoint) else target
        _refuse_unmarked_hooks(plugin)
        self._manager.register(plugin, name=source.plugin.id)
        for caller in self._manager.get_hookcallers(plugin) or ():
            for implementation in caller.get_hookimpls():
                if implementation.plugin_name != source.plugin.id:
                    continue
                if not caller.has_spec() and not implementation.optionalhook:
                    raise TypeError(f"there is no hook {caller.name!r}{did_you_mean(caller.name, HOOKS)}")
                if implementation.wrapper or implementation.hookwrapper:
                    raise TypeError(f"{caller.name} must not be a hook wrapper")

    def _ask(self, source: _Source, implementations: list[pluggy.HookImpl], kind: str) -> None:
        """Call a registration hook of one plugin; its entries count only if all of them are sound."""
        expected = entry_class(kind)
        with self._watching(source, hook=f"recon_{expected.plural}"):
            entries: list[Entry] = []
            for implementation in implementations:
                entries += _checked_entries(call(implementation), expected)
            self._refuse_shared_names(source, entries, kind)
            source.entries[kind] = entries

    def _refuse_shared_names(self, source: _Source, entries: list[Entry], kind: str) -> None:
        """Raise if a name is not unique within its distribution, so that ``dist/name`` is ambiguous."""
        counts = Counter(entry.name for entry in entries)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"{kind} {twice[0]!r} is registered twice")
        for other in self._sources:
            if other is not source and other.plugin.distribution == source.plugin.distribution:
                for entry in other.entries.get(kind, ()):
                    if entry.name in counts:
                        raise ValueError(f"{kind} {entry.name!r} is already registered by {other.plugin.id}")

    @contextmanager
    def _watching(self, source: _Source, hook: str) -> Iterator[None]:
        """Run code of a plugin: time it, keep its errors, and refuse a use of the plugins from inside it."""
        self._busy_with = source.plugin.id
        began = time.perf_counter()
        try:
            yield
        except (Exception, SystemExit) as error:
            source.fail(hook, error)
        finally:
            self._busy_with = ""
            source.seconds += time.perf_counter() - began


def call(implementation: pluggy.HookImpl, **arguments: Any) -> Any:
    """Call a hook implementation with those of the arguments that it asks for."""
    return implementation.function(*(arguments[name] for name in implementation.argnames))


def normalised(name: str) -> str:
    """Return a distribution's name as packaging compares it; an entry point after a colon is kept.

    >>> normalised("Recon_Acme:My_Plugin")
    'recon-acme:My_Plugin'
    """
    distribution, colon, entry_point = name.strip().partition(":")
    return re.sub(r"[-_.]+", "-", distribution).lower() + colon + entry_point


def _tokens(variable: str) -> list[str]:
    return [normalised(token) for token in variable.split(",") if token.strip()]


def _installed_entry_points() -> Iterable[Any]:
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)


def _standard(target: Any) -> Any:
    """The target, an entry point of the backport `importlib_metadata` as one of the standard library.

    Once the backport has been imported, as by a dask worker, `importlib.metadata` itself finds such.
    """
    backport = sys.modules.get("importlib_metadata")
    if backport is None or not isinstance(target, backport.EntryPoint):
        return target
    made = EntryPoint(target.name, target.value, target.group)
    vars(made).update(dist=target.dist)  # it has no setter
    return made


def _source_of_entry_point(entry_point: EntryPoint) -> _Source:
    # The metadata of a damaged installation may lack the name; its plugin must not stop the others.
    metadata: Any = {} if entry_point.dist is None else entry_point.dist.metadata
    distribution = normalised(metadata.get("Name") or entry_point.module.partition(".")[0])
    version = metadata.get("Version") or ""
    return _Source(Plugin(f"{distribution}:{entry_point.name}", distribution, version), entry_point)


def _source_of_object(plugin: Any, name: str = "", version: str = "") -> _Source:
    own_name = getattr(plugin, "__name__", None) or type(plugin).__name__
    plugin_id = normalised(name or f"local:{own_name}")
    return _Source(Plugin(plugin_id, plugin_id.partition(":")[0], version), plugin)


def _version_conflict(distribution: Distribution) -> str:
    """Say which requirement of a plugin's distribution excludes the running version of recon."""
    own = [
        line
        for line in distribution.requires or ()
        if re.match(rf"\s*{PROJECT}(?![\w.-])", line, re.IGNORECASE)
    ]
    if not own:
        return ""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    try:
        running = version(PROJECT)
    except PackageNotFoundError:
        return ""
    for requirement in map(Requirement, own):
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and not requirement.specifier.contains(running, prereleases=True):
            return f"it asks for {requirement}, but this is {PROJECT} {running}; it may not work"
    return ""


def _refuse_unmarked_hooks(plugin: Any) -> None:
    """Raise if a module defines a function that is named like a hook but is not marked as one."""
    if inspect.ismodule(plugin):
        for name in HOOKS:
            function = vars(plugin).get(name)
            if inspect.isfunction(function) and not hasattr(function, f"{PROJECT}_impl"):
                raise TypeError(f"{name} is not marked with @recon.hookimpl")


def _checked_entries(returned: Any, expected: type[Entry]) -> list[Entry]:
    """Return what a registration hook returned as a list; raise if it holds anything but such entries."""
    wanted = f"an iterable of {expected.__name__}"
    if isinstance(returned, Entry | str) or not isinstance(returned, Iterable):
        raise TypeError(f"returned {_class_name(returned)}, not {wanted}")
    entries = list(returned)
    for entry in entries:
        if not isinstance(entry, expected):
            raise TypeError(f"returned {_class_name(entry)} as an item, not {wanted}")
    return entries


def _class_name(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def _describe(error: BaseException) -> str:
    """Return the error in one line, with the place in the plugin's source where it happened."""
    text = " ".join(str(error).split())
    if isinstance(error, SystemExit):
        text = f"exit code {error.code}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_CORE, _PLUGGY, "<"))
        and "importlib" not in Path(frame.filename).parts
    ]
    if not frames:
        return f"{type(error).__name__}: {text}"
    path = Path(frames[-1].filename)
    return f"{type(error).__name__}: {text} ({path.parent.name}/{path.name}:{frames[-1].lineno})"


def _levels_to_caller() -> int:
    """Return the `stacklevel` with which a warning of the caller points at the code that uses recon."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_CORE):
        frame, level = frame.f_back, level + 1
    return level
