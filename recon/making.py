"""Items of the registry by name: ``recon.operator("ct_parallel", shape=(512, 512))``."""

from __future__ import annotations

import functools
import operator as operator_module
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon import registry
from recon.parameters import SpecError, parse_spec, split_sum

if TYPE_CHECKING:
    from recon.linear import LinearOperator
    from recon.metrics import Metric
    from recon.priors import Prior
    from recon.simulate import Noise
    from recon.solvers.algorithm import Algorithm


def operator(name: str, /, **arguments: Any) -> LinearOperator:
    """A forward operator by name: ``"ct_parallel"``, ``"dist/name"`` or ``"name:argument=value"``.

    Raises:
        LookupError: no such name (close matches are named), or an ambiguous one.
        TypeError, ValueError: arguments that the operator does not take.
        ImportError: a library that it needs is not installed.
    """
    made: LinearOperator = registry.make("operator", name, **arguments)
    return made


def prior(name: Any, /, **arguments: Any) -> Prior:
    """A prior by name, as `operator`; or a trained one from its folder: ``recon.prior("model/")``.

    A path is what names a folder or a file that is there, or ends in ``/``; ``"model/:weight=0.1"`` has arguments.
    Names joined by ``+`` are summed: ``"tv:weight=1e-3 + wavelet"``; a folder with one in its name is written
    ``"learned:folder='a+b' + tv"`` there.

    Raises:
        FileNotFoundError, recon.learned.ModelError: there is no such model, or it does not fit.
        recon.parameters.SpecError: nothing before or after a ``+``.
        TypeError: arguments beside a sum, which do not say whose they are.
    """
    if isinstance(name, str) and len(several := summands(name)) > 1:
        if arguments:
            raise TypeError(
                f"{', '.join(arguments)} beside the sum {name!r}: say of which prior, as in "
                f"{several[0].partition(':')[0]}:{next(iter(arguments))}=... + {several[1]}"
            )
        try:
            return sum_of([prior(one) for one in several])
        except (registry.UnknownNameError, FileNotFoundError) as error:
            if (folder := _torn_folder(name)) is None:
                raise
            written = f"in a sum, write learned:folder={folder!r}"
            if (Path(folder) / "card.json").is_file():
                raise SpecError(f"the folder {folder} has a '+' in its name: {written}") from None
            raise type(error)(
                f"there is no trained model in {folder} ({written}), and as a sum: {error}"
            ) from None
    if isinstance(name, str) and "," in name.partition(":")[0] and not Path(name).exists():
        raise SpecError(
            f"{name!r} is no name: priors are summed by '+', as in '{' + '.join(name.split(','))}'"
        )
    if isinstance(name, str) and (found := _model_path(name)) is not None:
        folder, given = found
        name, arguments = "learned", {"folder": folder, **given, **arguments}
    made: Prior = registry.make("prior", name, **arguments)
    return made


def sum_of(priors: Sequence[Prior]) -> Prior:
    """The sum of one prior or more."""
    first, *others = priors
    return functools.reduce(operator_module.add, others, first)


def summands(text: str) -> list[str]:
    """The priors that a text names: ``"tv:weight=1e-3 + wavelet"`` names two.

    A ``+`` inside brackets or quotes or before a digit, as in ``1e+3``, belongs to a value. A trained model whose
    folder has one in its name is named alone.
    """
    if (Path(text.partition(":")[0]) / "card.json").is_file():
        return [text]
    return split_sum(text)


def _torn_folder(text: str) -> str | None:
    """The path in a sum whose ``+``, without spaces beside it, may be part of it: ``"a/b+c/:weight=1 + tv"``."""
    found = re.search(r"(?<!\S)[^\s:'\"]+\+[^\s:'\"]+", text)
    return None if found is None or not re.search(r"[/\\]", found[0]) else found[0]


def _model_path(name: str) -> tuple[str, dict[str, Any]] | None:
    """The folder in ``"folder/:argument=value"`` and the arguments, still as text; None if it is a prior's name."""
    path, colon, rest = name.partition(":")
    there = Path(path)
    if not (path.endswith(("/", os.sep)) or (there / "card.json").is_file()):
        return None
    return path, parse_spec(f"learned:{rest}")[1] if colon else {}


def noise(name: str, /, **arguments: Any) -> Noise:
    """A noise model by name; as `operator`."""
    made: Noise = registry.make("noise", name, **arguments)
    return made


def metric(name: str, /, **arguments: Any) -> Metric:
    """A metric by name; as `operator`."""
    made: Metric = registry.make("metric", name, **arguments)
    return made


def solver(name: str, /, **arguments: Any) -> Algorithm:
    """An algorithm by name; as `operator`."""
    made: Algorithm = registry.make("solver", name, **arguments)
    return made


def dataset(name: str, /, **arguments: Any) -> Any:
    """A dataset by name: a sample that ships with a plugin, or a local copy of one that you downloaded.

    ``recon.dataset("lodopab", folder="/data/lodopab", split="test")``; as `operator`. Datasets of a local copy
    have a length and are indexed; `recon show dataset NAME` lists their arguments.
    """
    return registry.make("dataset", name, **arguments)
