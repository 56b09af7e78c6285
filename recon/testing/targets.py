"""What is to be checked: an object, an item's name, a distribution, or a class in a file."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon import registry
from recon.discovery import PluginReport, normalised
from recon.entries import KINDS, entry_class
from recon.parameters import SpecError, bind_arguments, parse_spec, read_parameters
from recon.registry import Found, UnknownNameError
from recon.suggestions import did_you_mean
from recon.testing.kinds import kind_of

PLUGIN = "plugin"
"""The kind of the plugins themselves, beside those of their items."""

_FILE = re.compile(r"(?P<path>.*\.py)(?::(?P<rest>.*))?", re.DOTALL)


class TargetError(UnknownNameError):
    """There is nothing to check under this name."""


@dataclass(frozen=True)
class Target:
    """What a target names: plugins and registered items, or objects with a label of their own.

    Attributes:
        plugins: plugins to check as a whole, for a distribution.
        items: registered items, each with the arguments to make it of, or None for its examples.
        objects: label to object.
    """

    plugins: tuple[PluginReport, ...] = ()
    items: tuple[tuple[Found, Mapping[str, Any] | None], ...] = ()
    objects: Mapping[str, Any] | None = None


def find_target(target: Any, kind: str | None = None) -> Target:
    """What `target` names; `kind` leaves only items of that kind ("plugin": the plugins themselves).

    Raises:
        TargetError: nothing has this name; the closest names are in the message.
        recon.entries.UnknownKindError: there is no such kind.
        recon.parameters.SpecError, TypeError, ValueError: arguments that cannot be read, or do not fit.
    """
    wanted = KINDS if kind is None else () if kind == PLUGIN else (entry_class(kind).kind,)
    if not isinstance(target, str):
        if kind_of(target) not in wanted:
            raise TargetError(f"{_described(target)} is not {_any_of(wanted)}: there is nothing to check")
        name = target.__name__ if isinstance(target, type) else type(target).__name__
        return Target(objects={name: target() if isinstance(target, type) else target})
    if match := _FILE.fullmatch(target):
        return Target(objects=_from_file(Path(match["path"]), match["rest"] or "", wanted))
    found = [item for each in wanted for item in registry.items(each)]
    if of_distribution := _of_distribution(target, found, whole=kind in (None, PLUGIN)):
        return of_distribution
    name, arguments = parse_spec(target)
    distribution, slash, short = name.rpartition("/")
    matching = [
        item
        for item in found
        if item.entry.name == short and (not slash or item.plugin.distribution == normalised(distribution))
    ]
    if not matching:
        raise TargetError(_explain(name, found, kind))
    return Target(items=tuple((item, arguments or None) for item in matching))


def _of_distribution(name: str, found: list[Found], *, whole: bool) -> Target | None:
    plugins = tuple(
        report
        for report in registry.installed().plugins()
        if report.plugin.distribution == normalised(name) or report.plugin.id == normalised(name)
    )
    if not plugins:
        return None
    ids = {report.plugin.id for report in plugins}
    items = tuple((item, None) for item in found if item.plugin.id in ids)
    return Target(plugins=plugins if whole else (), items=items)


def _explain(name: str, found: list[Found], kind: str | None) -> str:
    """Why nothing has this name: the closest one, and what there is."""
    distributions = sorted({report.plugin.distribution for report in registry.installed().plugins()})
    shorts, full = {item.entry.name for item in found}, {item.name for item in found}
    what = f"no {kind or 'item'} or distribution is called {name!r}"
    if (Path(name).is_file() or Path(name + ".py").is_file()) and not name.endswith(".py"):
        return f"{what}; for a class in a file write path.py:Class"
    elsewhere = sorted(
        f"{candidate.kind} {name}"
        for candidate in map(entry_class, KINDS)
        if kind is not None
        for item in registry.items(candidate.kind)
        if name in (item.entry.name, item.name)
    )
    if elsewhere:
        return f"{what}; there is {', '.join(elsewhere)}"
    broken = [
        f"{report.plugin.id} ({report.error})"
        for report in registry.installed().plugins()
        if report.status != "ok"
    ]
    return (
        f"{what}{did_you_mean(name, [*shorts, *full, *distributions])} "
        f"Distributions with plugins: {', '.join(distributions) or 'none'}; `recon list KIND` shows their "
        "items, and a package under development must be installed (pip install -e .)"
        + (f". Plugins that did not load: {'; '.join(broken)}" if broken else "")
    )


# A class in a file


def _from_file(path: Path, rest: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    """The object made of ``Class:argument=value`` in a file, labelled ``file.py:Class``."""
    if not path.is_file():
        near = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise TargetError(f"there is no file {path}{did_you_mean(path.name, near)}")
    module = _imported(path)
    fitting = [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and kind_of(value) in kinds
    ]
    if not rest:
        if others := [name for name in fitting if kind_of(vars(module)[name]) != "network"]:
            fitting = others  # networks beside another item are its parts
        if len(fitting) != 1:
            raise TargetError(
                f"{path.name} defines {', '.join(fitting) or 'nothing that can be checked'}: "
                f"write {path}:Class" + (f", such as {path}:{fitting[0]}" if fitting else "")
            )
        rest = fitting[0]
    name, arguments = parse_spec(rest)
    if not hasattr(module, name):
        there = f"it defines {', '.join(fitting)}" if fitting else "it defines nothing that can be checked"
        raise TargetError(f"{path.name} has no {name!r}{did_you_mean(name, vars(module))} In it, {there}")
    attribute = getattr(module, name)
    is_object = bool(kind_of(attribute)) and not inspect.isclass(attribute)
    if inspect.isclass(attribute) and kind_of(attribute) not in kinds:
        raise TargetError(_not_checkable(path, name, attribute, kinds))
    if is_object and arguments:
        raise SpecError(f"{path.name}:{name} is an object already: it takes no arguments")
    made = attribute if is_object else _made(path, name, attribute, arguments)
    if kind_of(made) not in kinds:
        raise TargetError(_not_checkable(path, name, made, kinds))
    return {f"{path.name}:{name}": made}


def _made(path: Path, name: str, factory: Any, arguments: Mapping[str, Any]) -> Any:
    """Call the class or function with its arguments, as the registry does."""
    if not callable(factory):
        raise TargetError(f"{path.name}:{name} is {_described(factory)}, not a class or a function")
    parameters = read_parameters(factory)
    needed = [parameter for parameter in parameters if parameter.required and parameter.name not in arguments]
    try:
        values = bind_arguments(f"{path.name}:{name}", parameters, arguments)
    except TypeError as error:
        if needed:
            error.add_note(f"write {path}:{name}:{','.join(p.name + '=...' for p in needed)}")
        raise
    try:
        return factory(**values)
    except Exception as error:
        error.add_note(f"while making {path.name}:{name}")
        raise


def _imported(path: Path) -> Any:
    """The module of a file, or an ImportError that says in which line it fails."""
    path = path.resolve()
    try:
        return _executed(path)
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = f" in line {frames[-1].lineno}" if frames else ""
        raise ImportError(f"{path.name} fails{line}: {type(error).__name__}: {error}") from error


def _executed(path: Path) -> Any:
    """The module of a file: as part of its package where it lies in one, else on its own."""
    folder, parts = path.parent, [path.stem]
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    if len(parts) > 1:
        importlib.invalidate_caches()
        return importlib.import_module(".".join(part for part in parts if part != "__init__"))
    name = f"recon_checked_{path.stem}"  # whatever library is called like the file
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # pickle looks classes up there
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _any_of(kinds: tuple[str, ...]) -> str:
    """The kinds among these of which an object can be recognised, in words."""
    words = {"operator": "an operator", "prior": "a prior", "solver": "a solver", "metric": "a metric"}
    words |= {"noise": "a noise model", "network": "a network", "objective": "a training objective"}
    named = [words[kind] for kind in kinds if kind in words] or [
        f"of a kind that can be checked ({kinds[0]})"
    ]
    return " or ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def _not_checkable(path: Path, name: str, found: Any, kinds: tuple[str, ...]) -> str:
    hint = ""
    if kind_of(found):
        hint = f" (it is a {kind_of(found)})"
    elif methods := [
        m for m in ("start", "step", "image", "default_stop") if callable(getattr(found, m, None))
    ]:
        hint = f"; as a solver it has {', '.join(methods)} only"
    return (
        f"{path.name}:{name} is {_described(found)}{hint}, not {_any_of(kinds)}: an operator "
        "derives from recon.LinearOperator, a prior from recon.Functional, Denoiser or Generator, and a solver "
        "has start, step, image and default_stop"
    )


def _described(found: Any) -> str:
    if inspect.isclass(found):
        bases = ", ".join(base.__name__ for base in found.__bases__)
        return f"a class derived from {bases}"
    return f"a {type(found).__name__}"
