"""Writes the package of a new plugin: a working example of its kind, from the files in `templates`."""

from __future__ import annotations

import builtins
import importlib.util
import keyword
import re
import sys
import typing
from dataclasses import dataclass
from pathlib import Path

from recon import registry
from recon.files import folder_written_whole

TEMPLATES = Path(__file__).parent / "templates"

_DIST = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_IN_TEMPLATES = ("State",)  # the other classes there
_GOOD = "a good name is words of lower-case letters and digits, the first a letter, joined by '-': 'my-prior'"


@dataclass(frozen=True)
class Kind:
    """What differs between the packages of two kinds, beside their files.

    Attributes:
        name: the kind, as in `recon.entries`.
        article: for sentences.
        description: what the example is, in a line.
        usage: how it is used, one line of Python; ``{item}`` stands for its name.
    """

    name: str
    article: str
    description: str
    usage: str


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "operator",
            "an",
            "motion blur along the rows of an image",
            'recon.solve(recon.operator("{item}", shape=y.shape, length=9), "tv", y)',
        ),
        Kind(
            "prior",
            "a",
            "Huber's penalty on differences between neighbouring pixels",
            'recon.solve(op, "{item}", y)',
        ),
        Kind(
            "solver",
            "a",
            "gradient descent: least squares, alone or with quadratic priors",
            'recon.solve(op, "tikhonov", y, solver="{item}")',
        ),
    )
}
"""The kinds that a package can be written for."""


class NameNotPossibleError(ValueError):
    """A package cannot have this name."""


@dataclass(frozen=True)
class Names:
    """The names in a package, all made of that of the distribution.

    >>> names = Names("my-prior")
    >>> names.module, names.class_name
    ('my_prior', 'MyPrior')
    """

    dist: str

    @property
    def module(self) -> str:
        """The package's import name, which is the item's name too."""
        return self.dist.replace("-", "_")

    @property
    def class_name(self) -> str:
        """The name of the class."""
        return "".join(word.capitalize() for word in self.dist.split("-"))


def checked_names(kind: str, name: str) -> Names:
    """The names that a package called `name` will hold.

    Raises:
        NameNotPossibleError: a name that is no distribution's, that Python or an installed module has already,
            or under which an item of this kind is registered.
    """
    if not _DIST.fullmatch(name):
        words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower())
        similar = "-".join(words).lstrip("0123456789-")
        hint = f"; try {similar!r}" if _DIST.fullmatch(similar) else ""
        raise NameNotPossibleError(f"{name!r} cannot name a package: {_GOOD}{hint}")
    names = Names(name)
    module, class_name = names.module, names.class_name
    if keyword.iskeyword(module) or keyword.issoftkeyword(module):
        raise NameNotPossibleError(
            f"{module!r} is a keyword of Python: choose another name, such as 'my-{name}'"
        )
    if module in sys.stdlib_module_names or module == "tests":
        raise NameNotPossibleError(
            f"{module!r} is a module that Python or the tests have already: choose another name, such as 'my-{name}'"
        )
    for found in registry.items(kind):
        if found.entry.name == module:
            raise NameNotPossibleError(
                f"there is {KINDS[kind].article} {kind} {module!r} already ({found.name}): choose another name"
            )
    if importlib.util.find_spec(module) is not None:
        raise NameNotPossibleError(
            f"a module {module!r} is installed already, and the new package would hide it or be hidden: "
            "choose another name"
        )
    if hasattr(builtins, class_name) or hasattr(typing, class_name) or class_name in _IN_TEMPLATES:
        raise NameNotPossibleError(
            f"the class would be called {class_name!r}, as something in Python is: "
            f"choose another name, such as 'my-{name}'"
        )
    return names


def write_package(kind: str, name: str, parent: Path) -> Path:
    """Write the package `name` of a kind into a new folder of that name in `parent`, whole or not at all.

    Args:
        kind: a key of `KINDS`.
        name: of the distribution, such as ``"my-prior"``.
        parent: where the folder goes; it is made if it is not there.

    Returns:
        The folder.

    Raises:
        NameNotPossibleError: see `checked_names`.
        FileExistsError: something is there already.
        OSError: it cannot be written there.
    """
    names = checked_names(kind, name)
    folder = parent / name
    if folder.is_symlink() or folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise FileExistsError(
            f"{folder} is there already and not empty: choose another name, or another place by --output"
        )
    contents = rendered(kind, names)
    with folder_written_whole(folder) as temporary:
        for file, text in contents.items():
            path = temporary / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    return folder


def rendered(kind: str, names: Names) -> dict[str, str]:
    """The text of every file of the package, by its path in the package."""
    import jinja2

    about, module = KINDS[kind], names.module
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - these are Python and TOML files, and the names are checked
    )
    values = {
        "kind": kind,
        "article": about.article,
        "description": about.description,
        "usage": about.usage.format(item=module),
        "dist": names.dist,
        "module": module,
        "item": module,
        "class_name": names.class_name,
        "requirement": _requirement(),
    }
    files = {
        "pyproject.toml": "package/pyproject.toml",
        "README.md": "package/README.md",
        ".gitignore": "package/gitignore",
        f"{module}/__init__.py": f"{kind}/__init__.py",
        f"{module}/{kind}.py": f"{kind}/{kind}.py",
        "tests/test_conformance.py": "package/tests/test_conformance.py",
        f"tests/test_{module}.py": f"{kind}/test.py",
    }
    texts = {
        file: environment.get_template(f"{template}.jinja").render(values) for file, template in files.items()
    }
    return {**texts, f"{module}/py.typed": ""}


def _requirement() -> str:
    """The versions of recon that keep the contract of the installed one: ``recon>=0.1,<0.2``."""
    from importlib.metadata import version

    major, minor = (int(part) for part in version("recon").split(".")[:2])
    following = f"0.{minor + 1}" if major == 0 else f"{major + 1}"
    return f"recon>={major}.{minor},<{following}"
