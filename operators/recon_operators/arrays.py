"""Masks, kernels and coil maps as they are given (array, nested list, tensor, path of a file), as tensors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ArrayLike = Tensor | np.ndarray | Sequence[Any] | str | Path
"""What `as_tensor` understands; a text is the path of a file that `recon.load` reads."""

_SHOWN = 4


def as_tensor(values: ArrayLike, name: str) -> Tensor:
    """Return a copy of ``values`` as a floating-point or complex tensor.

    Double precision is kept, everything else real becomes float32. `name` is used in the messages.

    Raises:
        ValueError: ragged lists, no numbers at all, or NaN and infinite values.
        TypeError: content that is not numbers.
    """
    if isinstance(values, str | Path):
        from recon.loading import load

        values = load(values).data
    if isinstance(values, Tensor):
        tensor = values.detach().clone().resolve_conj().resolve_neg()
    else:
        tensor = _from_numpy(values, name)
    if not (tensor.is_floating_point() or tensor.is_complex()):
        tensor = tensor.to(torch.float32)
    if tensor.numel() == 0:
        raise ValueError(f"{name} holds no value: its shape is {tuple(tensor.shape)}")
    wrong = int((~torch.isfinite(tensor)).sum())
    if wrong:
        raise ValueError(
            f"{name} holds {wrong} NaN or infinite values of {tensor.numel()}: replace them first"
        )
    return tensor


def as_mask(values: ArrayLike, name: str = "mask") -> Tensor:
    """Return a sampling mask as float32 zeros and ones.

    Raises:
        ValueError: a value other than 0 and 1, or no 1 at all.
    """
    mask = as_tensor(values, name)
    if mask.is_complex():
        if bool(mask.imag.any()):
            raise ValueError(f"{name} must hold only 0 and 1, got complex values")
        mask = mask.real
    wrong = torch.unique(mask[(mask != 0) & (mask != 1)])
    if len(wrong):
        shown = ", ".join(f"{value:g}" for value in wrong[:_SHOWN].tolist())
        more = f" and {len(wrong) - _SHOWN} other values" if len(wrong) > _SHOWN else ""
        raise ValueError(
            f"{name} must hold only 0 (not measured) and 1 (measured), got {shown}{more}: threshold it "
            f"first, for example {name} > 0.5"
        )
    if not bool(mask.any()):
        raise ValueError(f"{name} of shape {tuple(mask.shape)} has no 1: nothing is measured")
    return mask.to(torch.float32)


def _from_numpy(values: Any, name: str) -> Tensor:
    try:
        array = np.array(values)
    except ValueError as error:
        raise ValueError(f"{name} must be a rectangular array: {error}") from None
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name} must hold numbers, got {array.dtype} values: {str(values)[:60]}")
    native = array.astype(array.dtype.newbyteorder("="), order="C")
    if native.dtype.itemsize > (16 if native.dtype.kind == "c" else 8):  # long double
        native = native.astype(np.complex128 if native.dtype.kind == "c" else np.float64)
    if isinstance(values, np.ndarray | np.generic) or native.dtype.kind not in "fc":
        return torch.from_numpy(native)
    # Python numbers have no precision of their own: they take PyTorch's default
    return torch.from_numpy(native).to(torch.complex64 if native.dtype.kind == "c" else torch.float32)


class Derived:
    """What an operator computes from its buffers, kept until one of them is changed, moved or replaced.

    Copies and pickles start empty: the contents can always be computed again.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[tuple[Tensor | None, ...], tuple[int, ...], Any]] = {}

    def get(self, key: Hashable, source: Tensor | Sequence[Tensor | None], make: Callable[[], Any]) -> Any:
        """Return what `make` computes from `source`, from the last time if every one is still the same."""
        sources = (source,) if isinstance(source, Tensor) else tuple(source)
        versions = tuple(
            0 if tensor is None or tensor.is_inference() else tensor._version for tensor in sources
        )
        kept = self._kept.get(key)
        if (
            kept is not None
            and versions == kept[1]
            and all(a is b for a, b in zip(sources, kept[0], strict=True))
        ):
            return kept[2]
        with torch.inference_mode(False), torch.no_grad():
            made = make()
        self._kept[key] = (sources, versions, made)
        return made

    def __reduce__(self) -> tuple[type[Derived], tuple[()]]:
        return Derived, ()
