"""What a sweep is asked to do: in Python, or as a TOML file with a table for each size."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recon.making import summands
from recon.suggestions import did_you_mean
from recon.sweeps.measuring import Measurement
from recon.sweeps.naming import Spec, read_spec

BASE = ("prior", "solver", "iterations", "seeds", "peak", "grid")
TABLES = ("title", "problem", "base", "vary", "size")


class ConfigError(ValueError):
    """A file of a sweep that cannot be read as one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """A sweep.

    Attributes:
        problem: how the measurement is made, a problem file, or a problem.
        prior: name and arguments of each prior that is summed.
        solver: the algorithm; None for the one that suits.
        vary: variable -> list of values.
        iterations: of every run; None: as the solver stops.
        seeds: every configuration runs with each of them.
        grid: every combination of the values; else one variable at a time.
        peak: that PSNR refers to, of image and data alike; None: the largest magnitude of the true image, and of the
            data for theirs.
        title: of the sweep.
        size: of those that its file has.
    """

    problem: Any
    prior: tuple[Spec, ...]
    vary: Mapping[str, Any]
    solver: Spec | None = None
    iterations: int | None = None
    seeds: tuple[int, ...] = (0,)
    grid: bool = False
    peak: float | None = None
    title: str = ""
    size: str = ""

    def __post_init__(self) -> None:
        if self.iterations is not None and not (_is_integer(self.iterations) and self.iterations >= 1):
            raise ValueError(f"iterations must be an integer >= 1, got {self.iterations!r}")
        if self.peak is not None and not (isinstance(self.peak, int | float) and self.peak > 0):
            raise ValueError(f"peak must be a number > 0, got {self.peak!r}")
        if not isinstance(self.grid, bool):
            raise ValueError(f"grid must be true or false, got {self.grid!r}")


def read_setup(path: str | Path, size: str | None = None, **changes: Any) -> Setup:
    """Read the TOML file of a sweep.

    Args:
        path: the file: ``title``; tables ``[problem]`` (see `Measurement`, or ``file``), ``[base]`` (prior, solver,
            iterations, seeds, peak, grid) and ``[vary]``; what ``[size.NAME.problem]``, ``.base`` and ``.vary`` say
            comes before them.
        size: one of its sizes; None: ``small`` where there is one.
        changes: of `Setup`, in the place of what the file says.

    Raises:
        FileNotFoundError: no such file.
        ConfigError: no TOML, a key that means nothing, or a size that is not there.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML file: {error}") from None
    _check_keys(path, "", content, TABLES)
    sizes = _table(path, "size", content)
    if size is None and sizes:
        size = "small" if "small" in sizes else next(iter(sizes))
    if size is not None and size not in sizes:
        known = f"it has {', '.join(sizes)}" if sizes else "it has none"
        raise ConfigError(
            f"{path} has no size {size!r}{did_you_mean(size, sizes)} {known[0].upper()}{known[1:]}"
        )
    chosen = {} if size is None else _table(path, f"size.{size}", content, sizes[size])
    _check_keys(path, f"size.{size}", chosen, ("problem", "base", "vary"))
    tables = {
        name: _table(path, name, content) | _table(path, f"size.{size}.{name}", chosen, chosen.get(name, {}))
        for name in ("problem", "base", "vary")
    }
    _check_keys(path, "base", tables["base"], BASE)
    title = content.get("title", path.stem)
    if not isinstance(title, str):
        raise ConfigError(f"{path}: title is a text, got {title!r}")
    given: dict[str, Any] = {"title": title, "size": size or "", "vary": tables["vary"], **tables["base"]}
    given |= changes
    try:
        return set_up(_problem(path, tables["problem"]), **given)
    except ValueError as error:
        error.add_note(f"in {path}")
        raise


def set_up(
    problem: Any, *, prior: Any = None, solver: Any = None, seeds: int | Sequence[int] = 1, **others: Any
) -> Setup:
    """A `Setup` of what a caller gives: specs as text, seeds as their number."""
    if prior is None:
        raise ValueError("a sweep needs a prior: prior='dip', or [base] prior = ... in its file")
    several = [
        one
        for given in (prior if isinstance(prior, list) else [prior])
        for one in (summands(given) if isinstance(given, str) else [given])
    ]
    chosen = None if solver in (None, "auto") else read_spec(solver)
    return Setup(
        problem=problem,
        prior=tuple(read_spec(one) for one in several),
        solver=chosen,
        seeds=read_seeds(seeds),
        **others,
    )


def read_seeds(seeds: Any) -> tuple[int, ...]:
    """The seeds of a list, or so many from 0 on.

    Raises:
        ValueError: none, a negative one, or one twice.
    """
    if _is_integer(seeds):
        if seeds < 1:
            raise ValueError(f"a sweep needs at least one seed, got {seeds}")
        return tuple(range(seeds))
    if not isinstance(seeds, list | tuple | range) or not all(
        _is_integer(seed) and seed >= 0 for seed in seeds
    ):
        raise ValueError(f"seeds are their number, or a list of integers >= 0, got {seeds!r}")
    if not seeds:
        raise ValueError("a sweep needs at least one seed, got an empty list")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"a seed is listed twice: {list(seeds)}")
    return tuple(seeds)


def measurement_of(
    table: Mapping[str, Any], folder: Path | None = None, where: str = "the sweep"
) -> Measurement:
    """The measurement that a table ``[problem]`` describes, with paths relative to the folder.

    Raises:
        ConfigError, ValueError: keys that mean nothing, no image, values that do not fit.
    """
    names = [field.name for field in dataclasses.fields(Measurement)]
    _check_keys(where, "problem", table, ("file", *names))
    if "image" not in table:
        raise ConfigError(
            f"{where}: [problem] needs an image (a file, or the name of a sample), or a problem file"
        )
    return Measurement.of(table, folder or Path.cwd())


def _problem(path: Path, table: dict[str, Any]) -> Measurement | Path:
    if "file" not in table:
        return measurement_of(table, path.parent, str(path))
    _check_keys(path, "problem", table, ("file",))
    file = path.parent / str(table["file"])
    if not file.is_file():
        raise FileNotFoundError(f"{path}: there is no problem file {file}")
    return file


def _table(path: Path, name: str, content: Mapping[str, Any], value: Any = None) -> dict[str, Any]:
    found = content.get(name, {}) if value is None else value
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: {name} is a table, [{name}], got {found!r}")
    return dict(found)


def _check_keys(path: Path | str, table: str, found: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in found:
        if key not in known:
            where = f"[{table}] of {path}" if table else str(path)
            raise ConfigError(
                f"{where} has no {key!r}{did_you_mean(key, known)} It may have {', '.join(known)}"
            )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
