"""SigPy: `sigpy.linop.Linop` as an operator of ours, and back."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from recon.linear import Field, LinearOperator
from recon_bridges.bridged import (
    ArrayOperator,
    apply_to_array,
    field_of_data,
    require_ours,
    to_array,
    with_declared_adjoint,
)
from recon_bridges.libraries import library


class SigpyOperator(ArrayOperator):
    """A SigPy operator from images of its ``ishape`` to data of its ``oshape``; see `from_sigpy`."""

    def __init__(self, op: Any, domain: Field | None = None, device: str | torch.device = "cpu") -> None:
        super().__init__(op.ishape, op.oshape, domain or "any", domain in (None, "any"), device)
        self.op = op
        if domain is None:
            self.domain = "complex" if self._turns_complex() else "any"

    def _array_forward(self, x: Any) -> Any:
        return _each(self.op, x)

    def _array_adjoint(self, y: Any) -> Any:
        return _each(self.op.H, y)

    def _turns_complex(self) -> bool:
        """Whether real images give complex data, or real data complex images; SigPy does not declare it."""
        x, y = (
            to_array(torch.zeros(1, *shape, device=self.device))
            for shape in (self.domain_shape, self.range_shape)
        )
        return bool(self._array_forward(x).dtype.kind == "c" or self._array_adjoint(y).dtype.kind == "c")


def from_sigpy(
    op: Any,
    *,
    domain: Field | None = None,
    device: str | torch.device = "cpu",
    adjoint_tolerance: float | None = None,
) -> SigpyOperator:
    """A SigPy operator as an operator of ours, between images of its ``ishape`` and data of its ``oshape``.

    Args:
        op: `sigpy.linop.Linop`.
        domain: the images it acts on; None tries it on zeros: ``"complex"`` where real values become complex,
            else ``"any"``.
        device: where it computes; ``"cuda"`` hands it CuPy arrays, as operators with values on a GPU ask.
        adjoint_tolerance: relative error of the adjoint; None: measured.

    Raises:
        TypeError: not a SigPy operator.
        ValueError: an adjoint that is none.
        ImportError: a GPU is asked for, and CuPy is not installed.
    """
    if not isinstance(op, library("sigpy").linop.Linop):
        raise TypeError(f"from_sigpy takes a sigpy.linop.Linop, got {type(op).__name__}")
    return with_declared_adjoint(SigpyOperator(op, domain, device), adjoint_tolerance)


def to_sigpy(op: LinearOperator) -> Any:
    """An operator of ours as a `sigpy.linop.Linop`; its normal operator is ``op.gram``.

    It computes in the precision of the arrays it is given, on the device of ``op``: for an operator on a GPU
    every call with NumPy arrays copies there and back, with CuPy arrays nothing is copied.

    Raises:
        TypeError: no operator of ours, or one that is linear over the real numbers only.
    """
    require_ours(op, "to_sigpy")
    field_of_data(op)
    return _linop_class()(op)


def _each(op: Any, items: Any) -> Any:
    results = [op(item) for item in items]
    return np.stack(results) if isinstance(items, np.ndarray) else library("cupy").stack(results)


@functools.cache
def _linop_class() -> Any:
    class OurLinop(library("sigpy").linop.Linop):  # type: ignore[misc]
        """An operator of ours that SigPy calls."""

        def __init__(self, op: LinearOperator) -> None:
            super().__init__(op.range_shape, op.domain_shape, repr_str=type(op).__name__)
            self.operator = op

        def _apply(self, input: Any) -> Any:  # noqa: A002 (SigPy's name)
            return apply_to_array(self.operator, input, adjoint=False)

        def _adjoint_linop(self) -> Any:
            return OurLinop(self.operator.H)

        def _normal_linop(self) -> Any:
            return OurLinop(self.operator.gram)

        def __reduce__(self) -> Any:
            return to_sigpy, (self.operator,)

    return OurLinop
