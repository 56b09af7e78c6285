"""The options that several commands have: each declared once, with how its text is read."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch


def read_range(text: str) -> tuple[float, float]:
    """The two numbers of ``--image-range``."""
    try:
        low, high = (float(part) for part in text.strip("()[] ").split(","))
    except ValueError:
        low, high = math.nan, math.nan
    if not (low < high and math.isfinite(low) and math.isfinite(high)):
        raise typer.BadParameter(f"give the lowest and the highest value, such as 0,0.04, not {text!r}")
    return low, high


def read_weight(text: str) -> float | str:
    """The number or the rule of ``--weight``."""
    from recon.weight_rules import RULES

    if text in RULES:
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise typer.BadParameter(f"must be a number >= 0 or 'auto', 'sure' or 'lcurve', got {text!r}")
    return value


def read_tolerance(text: str) -> float:
    """The number of ``--tolerance``."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise typer.BadParameter(f"must be a number > 0, got {text}")
    return value


def read_time(text: str) -> str:
    """The text of ``--time-limit``, which a rule reads once more."""
    from recon.stopping import TimeLimit

    try:
        TimeLimit(text)
    except ValueError:
        raise typer.BadParameter(f"must be a time > 0 such as 90s, 5min or 2h, got {text!r}") from None
    return text


def read_memory(text: str) -> int:
    """The bytes of ``--memory``."""
    from recon.memory import as_bytes

    try:
        return as_bytes(text)
    except ValueError:
        raise typer.BadParameter(f"must be a size such as 4GiB or 500MB, got {text!r}") from None


def usable_device(name: str | None) -> torch.device | None:
    """The device of that name, if it is there."""
    import torch

    if name is None:
        return None
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        reason = textwrap.shorten(str(error), 80, placeholder=" ...")
        raise typer.BadParameter(
            f"{name!r} cannot be used here ({reason}); there is {', '.join(there)}", param_hint="--device"
        ) from None
    return device


def given(**limits: Any) -> dict[str, Any]:
    """Those that were given."""
    return {name: value for name, value in limits.items() if value is not None}


Output = Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="The folder for the results.")]
Prior = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SPEC",
        help="Prior, such as tv or 'tv:weight=1e-3 + nonnegative' (recon list priors); all that are given are summed. "
        "Direct without one.",
    ),
]
Solver = Annotated[
    str, typer.Option(metavar="SPEC", help="Algorithm, such as admm:rho=0.5 (recon list solvers).")
]
Weight = Annotated[
    Any,
    typer.Option(
        parser=read_weight,
        metavar="NUMBER|auto|sure|lcurve",
        help="Weight of the prior, or how to choose it: auto and sure from the noise level, lcurve without; the "
        "prior's own unless given.",
    ),
]
Iterations = Annotated[int | None, typer.Option(min=1, metavar="N", help="Most iterations.")]
Tolerance = Annotated[
    Any,
    typer.Option(parser=read_tolerance, metavar="T", help="Relative tolerance that counts as converged."),
]
TimeLimit = Annotated[
    Any,
    typer.Option(parser=read_time, metavar="TIME", help="Most wall time for a problem: 90s, 5min, 2h."),
]
Fidelity = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        help="Data term: gaussian, or pwls:photons=1e4 or poisson:photons=1e4 for counted photons; the problem's own "
        "unless given.",
    ),
]
NoiseLevel = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        metavar="STD",
        help="Noise standard deviation of the data; estimated from them unless given.",
    ),
]
ImageRange = Annotated[
    Any,
    typer.Option(
        parser=read_range,
        metavar="LOW,HIGH",
        help="Range of the image's values, for learned priors; unless given, that which the problem holds.",
    ),
]
Device = Annotated[str | None, typer.Option(metavar="DEVICE", help="Where to solve: cpu, cuda, cuda:1.")]
Memory = Annotated[
    Any,
    typer.Option(
        parser=read_memory,
        metavar="SIZE",
        help="Most memory to use, such as 4GiB: a batch is solved in groups that fit; RECON_MEMORY unless given.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Seed of everything random.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="A running dask scheduler, tcp://host:8786; its workers must see the same files under the same names.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Worker processes on this machine; one a core unless given."),
]
Again = Annotated[bool, typer.Option("--again", help="Repeat what is finished too.")]
Force = Annotated[bool, typer.Option("--force", help="Write into a folder that holds other things.")]
ForceFile = Annotated[bool, typer.Option("--force", help="Replace an existing file whatever it is.")]
