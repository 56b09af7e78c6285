"""What a plugin registers: one frozen dataclass a kind, naming a factory imported only when used."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from recon.suggestions import did_you_mean

Domain = Literal["real", "complex", "any"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_DEVICES = ("cpu", "cuda")
_DOMAINS = ("real", "complex", "any")


def _is_suffix(value: object) -> bool:
    return isinstance(value, str) and value.startswith(".") and value == value.lower()


class UnknownKindError(ValueError):
    """There is no such kind of plugin item."""


@dataclass(frozen=True)
class Example:
    """Tiny arguments for a factory, used by the conformance kit and the documentation.

    `kwargs` are plain Python values (numbers, strings, tuples, nested lists); the factory converts them.
    `expected_failures` maps the name of a conformance check to the reason why it is known to fail.

    >>> Example({"shape": (8, 8)}, expected_failures={"norm": "the norm is only estimated"}).kwargs
    {'shape': (8, 8)}
    """

    kwargs: Mapping[str, Any] = field(default_factory=dict)
    expected_failures: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for check, reason in self.expected_failures.items():
            if not isinstance(reason, str) or not reason.strip():
                raise ValueError(f"expected_failures[{check!r}] needs a reason in words, got {reason!r}")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One named item of a plugin. Register one of the subclasses, which say what kind of item it is.

    - `name`: lower-case letters, digits and underscores, e.g. ``"ct_parallel"``.
    - `factory`: ``"module:attribute"`` of the class or function that makes the item; imported on first use.
    - `summary`: one line for ``recon list``.
    - `requires`: import names of optional libraries, looked for but never imported, e.g. ``("astra",)``.
    - `extra`: the extra of the plugin's distribution that installs them, for ``pip install 'dist[extra]'``.
    - `devices`: a part of ``("cpu", "cuda")``.
    - `domain`: the images it takes: ``"real"``, ``"complex"`` or ``"any"``.
    - `tags`: free words for searching.
    - `examples`: tiny arguments with which it can be tried; at least one.
    """

    kind: ClassVar[str] = ""
    plural: ClassVar[str] = ""
    _more_sequences: ClassVar[tuple[str, ...]] = ()

    name: str
    factory: str
    summary: str
    requires: tuple[str, ...] = ()
    extra: str = ""
    devices: tuple[str, ...] = _DEVICES
    domain: Domain = "any"
    tags: tuple[str, ...] = ()
    examples: tuple[Example, ...] = field(default=(Example(),), hash=False)

    def __post_init__(self) -> None:
        if not self.kind:
            raise TypeError(f"register {', '.join(c.__name__ for c in ENTRY_CLASSES)}, not the bare Entry")
        self._check(
            "name",
            isinstance(self.name, str) and _NAME.fullmatch(self.name),
            "letters a-z, digits and '_', letter first",
        )
        self._check(
            "factory",
            isinstance(self.factory, str) and _FACTORY.fullmatch(self.factory),
            "'module:attribute', such as 'acme.blur:MotionBlur'",
        )
        self._check(
            "summary",
            isinstance(self.summary, str) and self.summary.strip() and "\n" not in self.summary,
            "one line of text",
        )
        self._check("domain", self.domain in _DOMAINS, f"one of {', '.join(_DOMAINS)}")
        self._check("extra", isinstance(self.extra, str), "the name of an extra")
        for sequence in ("requires", "devices", "tags", "examples", *self._more_sequences):
            self._freeze(sequence)
        self._check(
            "requires",
            all(isinstance(library, str) and library.isidentifier() for library in self.requires),
            "top-level import names, such as ('astra',)",
        )
        self._check(
            "devices",
            self.devices and all(device in _DEVICES for device in self.devices),
            f"a part of {_DEVICES}, not empty",
        )
        self._check("tags", all(isinstance(tag, str) for tag in self.tags), "words")
        self._check(
            "examples",
            self.examples and all(isinstance(example, Example) for example in self.examples),
            "one recon.Example or more",
        )

    def _freeze(self, attribute: str) -> None:
        """Turn a list into a tuple; refuse a bare string, whose letters would pass for items."""
        value = getattr(self, attribute)
        self._check(
            attribute, isinstance(value, Iterable) and not isinstance(value, str | Mapping), "a tuple"
        )
        object.__setattr__(self, attribute, tuple(value))

    def _check(self, attribute: str, fine: object, expected: str) -> None:
        if not fine:
            label = f"{type(self).__name__}(name={self.name!r})"
            raise ValueError(f"{label}: {attribute}={getattr(self, attribute)!r} must be {expected}")


@dataclass(frozen=True, kw_only=True)
class OperatorEntry(Entry):
    """A forward operator. `nonnegative`: its matrix has no negative entry (as in CT)."""

    kind: ClassVar[str] = "operator"
    plural: ClassVar[str] = "operators"
    linear: bool = True
    nonnegative: bool = False


@dataclass(frozen=True, kw_only=True)
class PriorEntry(Entry):
    """A prior. `convex`: True, False, or None if it is not known."""

    kind: ClassVar[str] = "prior"
    plural: ClassVar[str] = "priors"
    convex: bool | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkEntry(Entry):
    """A network architecture."""

    kind: ClassVar[str] = "network"
    plural: ClassVar[str] = "networks"


@dataclass(frozen=True, kw_only=True)
class SolverEntry(Entry):
    """A solver. `needs`: what it asks of the operator and the prior, e.g. ``("adjoint", "prox")``."""

    kind: ClassVar[str] = "solver"
    plural: ClassVar[str] = "solvers"
    needs: tuple[str, ...] = ()
    _more_sequences: ClassVar[tuple[str, ...]] = ("needs",)


@dataclass(frozen=True, kw_only=True)
class ObjectiveEntry(Entry):
    """A training objective."""

    kind: ClassVar[str] = "objective"
    plural: ClassVar[str] = "objectives"


@dataclass(frozen=True, kw_only=True)
class DatasetEntry(Entry):
    """A dataset. `licence`: its name or address."""

    kind: ClassVar[str] = "dataset"
    plural: ClassVar[str] = "datasets"
    licence: str = ""


@dataclass(frozen=True, kw_only=True)
class ReaderEntry(Entry):
    """A file reader.

    - `suffixes`: the file name endings it reads, lower case with the dot: ``(".dcm",)``; none if it reads only
      when it is asked for by name.
    - `folders`: the endings of the files in the folders that it reads as one; ``""`` is no ending.
    """

    kind: ClassVar[str] = "reader"
    plural: ClassVar[str] = "readers"
    suffixes: tuple[str, ...]
    folders: tuple[str, ...] = ()
    _more_sequences: ClassVar[tuple[str, ...]] = ("suffixes", "folders")

    def __post_init__(self) -> None:
        super().__post_init__()
        expected = "lower-case endings with the dot, such as ('.dcm',)"
        self._check("suffixes", all(map(_is_suffix, self.suffixes)), expected)
        self._check("folders", all(suffix == "" or _is_suffix(suffix) for suffix in self.folders), expected)


@dataclass(frozen=True, kw_only=True)
class WriterEntry(Entry):
    """A file writer.

    The factory takes `path`, where to write (a fresh name that ends as the user's), and `image`, a
    `recon.Loaded`; further parameters are options of `recon.save`. It returns `path`.

    - `suffixes`: the file name endings it writes, lower case with the dot.
    - `folders`: whether it also writes a folder of files, one a slice.
    """

    kind: ClassVar[str] = "writer"
    plural: ClassVar[str] = "writers"
    suffixes: tuple[str, ...]
    folders: bool = False
    _more_sequences: ClassVar[tuple[str, ...]] = ("suffixes",)

    def __post_init__(self) -> None:
        super().__post_init__()
        expected = "lower-case endings with the dot, such as ('.dcm',)"
        self._check("suffixes", all(map(_is_suffix, self.suffixes)), expected)


@dataclass(frozen=True, kw_only=True)
class MetricEntry(Entry):
    """An image metric. `higher_is_better`: the direction in which images improve."""

    kind: ClassVar[str] = "metric"
    plural: ClassVar[str] = "metrics"
    higher_is_better: bool = True


@dataclass(frozen=True, kw_only=True)
class NoiseEntry(Entry):
    """A noise model."""

    kind: ClassVar[str] = "noise"
    plural: ClassVar[str] = "noise"


ENTRY_CLASSES: tuple[type[Entry], ...] = (
    OperatorEntry,
    PriorEntry,
    NetworkEntry,
    SolverEntry,
    ObjectiveEntry,
    DatasetEntry,
    ReaderEntry,
    WriterEntry,
    MetricEntry,
    NoiseEntry,
)
KINDS: tuple[str, ...] = tuple(entry_class.kind for entry_class in ENTRY_CLASSES)


def entry_class(kind: str) -> type[Entry]:
    """Return the entry class of a kind, named in the singular or the plural.

    >>> entry_class("operators").__name__
    'OperatorEntry'

    Raises UnknownKindError, naming the kinds that exist.
    """
    for candidate in ENTRY_CLASSES:
        if kind in (candidate.kind, candidate.plural):
            return candidate
    suggestion = did_you_mean(str(kind), [*KINDS, *(candidate.plural for candidate in ENTRY_CLASSES)])
    raise UnknownKindError(f"unknown kind {kind!r}{suggestion} The kinds are {', '.join(KINDS)}.")
