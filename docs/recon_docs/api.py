"""The reference of the Python API: every public name of the packages, by topic, rendered by mkdocstrings."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from types import ModuleType

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import recon
from recon_docs.markdown import page

SECTION = "Python API"

_TOPICS = {
    "Solving": ("solving", "problem", "solution", "fidelity", "runner", "weight_rules"),
    "Operators": ("linear", "algebra"),
    "Priors": ("priors",),
    "Solvers": ("solvers",),
    "Training": ("training", "learned"),
    "Stopping rules": ("stopping",),
    "Data, noise, metrics": ("loading", "saving", "simulate", "metrics", "making"),
    "Plugins": ("entries", "hookspecs", "parameters"),
}
_REST = "More"
_PACKAGES = {
    "recon.report": "Pictures and reports of images and solutions.",
    "recon.training": "What trainings are made of: objectives, losses, samples, schedules.",
    "recon.testing": "The conformance kit, for authors of plugins.",
    "recon_operators": "The operators that ship with recon, as classes, and what goes with them.",
    "recon_priors": "The priors that ship with recon, as classes.",
    "recon_networks": "The networks that ship with recon, as classes.",
    "recon_bridges": "Operators, priors and networks of other libraries as recon's, and recon's as theirs.",
}
_MODULES = {"recon_operators": ("coil_maps", "coils", "sampling")}  # functions that are no operators


def navigation() -> list[dict[str, str]]:
    """One page a topic of `recon`, one page a package."""
    topics = [{topic: _address(topic)} for topic in _by_topic()]
    return topics + [{name: f"api/{name}.md"} for name in _packages()]


def files(config: MkDocsConfig, _: Files) -> Iterator[File]:
    """The pages of `navigation`."""
    for topic, names in _by_topic().items():
        text = f"# {topic}\n\n" + "".join(_directive(recon, name) for name in names)
        yield page(config, _address(topic), text)
    for name, package in _packages().items():
        members = "".join(
            _also(name, member, home)
            if (home := canonical(package, member)) in _of_the_core()
            else _directive(package, member)
            for member in _public(package)
        )
        members += "".join(f"::: {name}.{module}\n\n" for module in _MODULES.get(name, ()))
        yield page(config, f"api/{name}.md", f"# {name}\n\n{_PACKAGES[name]}\n\n{members}")


@functools.cache
def documented() -> frozenset[str]:
    """The canonical names (``recon.linear.LinearOperator``) that have a place in these pages."""
    packages = _packages().values()
    return _of_the_core() | {canonical(package, name) for package in packages for name in _public(package)}


def _of_the_core() -> frozenset[str]:
    return frozenset(canonical(recon, name) for name in recon.__all__)


def canonical(package: ModuleType, name: str) -> str:
    """Where a public name is defined."""
    value = getattr(package, name)
    home = getattr(value, "__module__", None)
    if package is recon:
        home = recon._HOME_OF[name]
    return f"{home}.{name}"


def _directive(package: ModuleType, name: str) -> str:
    return (
        f"::: {canonical(package, name)}\n"
        f"    options:\n"
        f"      heading: {package.__name__}.{name}\n"
        f"      toc_label: {name}\n\n"
    )


def _also(package: str, name: str, home: str) -> str:
    """A name of the core that a package offers too: documented there."""
    return f"`{package}.{name}` is [`recon.{name}`][{home}].\n\n"


def _by_topic() -> dict[str, list[str]]:
    topics: dict[str, list[str]] = {topic: [] for topic in (*_TOPICS, _REST)}
    for name in recon.__all__:
        module = recon._HOME_OF[name].removeprefix("recon.").partition(".")[0]
        topics[next((topic for topic, modules in _TOPICS.items() if module in modules), _REST)].append(name)
    return {topic: names for topic, names in topics.items() if names}


def _packages() -> dict[str, ModuleType]:
    installed = {}
    for name in _PACKAGES:
        try:
            package = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        installed[name] = package
    return installed


def _public(package: ModuleType) -> list[str]:
    """The names that a package offers: its ``__all__``, else what it has taken from its own modules."""
    own = f"{package.__name__}."
    return getattr(package, "__all__", None) or sorted(
        name for name, value in vars(package).items() if getattr(value, "__module__", "").startswith(own)
    )


def _address(topic: str) -> str:
    return f"api/{topic.lower().replace(', ', '-').replace(' ', '-')}.md"
