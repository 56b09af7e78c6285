"""What all checks share: random input, relative errors, and the exception that carries what was measured."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

Check = Callable[..., None]
"""A check: called with what it checks, it returns None or raises AssertionError with what it measured."""

Checks = dict[str, Callable[[], None]]
"""The checks of one object by name, ready to run."""

DOUBLE = {torch.float32: torch.float64, torch.complex64: torch.complex128}
TINY = 1e-30
CLOSE = 1e-5
"""Relative error of single precision after a transform or a sum over many rays: 1e-7 times a hundred."""
EXACT = 1e-10
"""Relative error of double precision with room for a sum over many rays; single precision reaches 1e-7."""


def bound(checks: Iterable[Check], *subject: Any, **options: Any) -> Checks:
    """The checks of an object by name; those that have a parameter called like an option get it.

    Run without gradients: a check that needs them switches them on.
    """
    ready: Checks = {}
    for check in checks:
        wanted = inspect.signature(check).parameters
        given = {name: value for name, value in options.items() if name in wanted}
        call = torch.no_grad()(functools.partial(check, *subject, **given))
        ready[check.__name__.removeprefix("check_")] = call
    return ready


def random(shape: Sequence[int], dtype: torch.dtype, seed: int = 0) -> Tensor:
    """White noise of unit variance, the same for the same seed."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed), dtype=dtype)


def require(fine: bool, otherwise: str) -> None:
    """Raise AssertionError with the text unless all is fine (`assert` is left out under ``python -O``)."""
    if not fine:
        raise AssertionError(otherwise)


def require_close(measured: Tensor, expected: Tensor, otherwise: str, tolerance: float = CLOSE) -> None:
    """Raise AssertionError unless two tensors agree in shape and value."""
    require(
        measured.shape == expected.shape,
        f"{otherwise}: shape {tuple(measured.shape)}, not {tuple(expected.shape)}",
    )
    error = relative_error(measured, expected)
    require(error <= tolerance, f"{otherwise}: relative error {error:.1e}, expected at most {tolerance:.0e}")


def relative_error(measured: Tensor, expected: Tensor) -> float:
    """|measured - expected| / |expected|; infinite where one is not finite, or where only one is zero."""
    measured, expected = measured.detach(), expected.detach()
    scale = float(expected.abs().square().sum().sqrt())
    difference = float((measured - expected).abs().square().sum().sqrt())
    if not math.isfinite(difference):
        return math.inf
    return difference / scale if scale > 0 else math.inf if difference > 0 else 0.0


def inner(x: Tensor, y: Tensor) -> Tensor:
    """<x, y>, conjugate linear in x."""
    return (x.conj() * y).sum()


def twins(module: torch.nn.Module, use: Callable[[Any], object]) -> dict[str, Any]:
    """A pickled copy, a deep copy, and a copy with the state loaded.

    The state is loaded into a copy that was used with halved buffers, so that results kept from before show.
    """
    twin = copy.deepcopy(module)
    state = {name: value.clone() for name, value in twin.state_dict().items()}
    with torch.no_grad():
        for value in twin.state_dict().values():
            if value.layout == torch.strided and (value.is_floating_point() or value.is_complex()):
                value.mul_(0.5)
    use(twin)
    twin.load_state_dict(state)
    return {
        "a pickled copy": pickle.loads(pickle.dumps(module)),  # noqa: S301 (our own bytes)
        "a deep copy": copy.deepcopy(module),
        "a copy with the state loaded": twin,
    }
