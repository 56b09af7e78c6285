"""The state of a training in one file: nested tensors, numbers and texts, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recon.checkpoint import CheckpointError, checksum
from recon.files import written_whole

FORMAT = "recon training 3"


def save_state(path: Path, state: Any) -> None:
    """Write a nested state of dicts, lists, tensors, numbers, texts and None.

    Raises:
        TypeError: anything else in it.
    """
    tensors: dict[str, Tensor] = {}
    book = json.dumps(_taken_apart(state, tensors))
    stored = {name: _storable(tensor) for name, tensor in tensors.items()}
    header = {"format": FORMAT, "book": book, "checksum": checksum(book, stored)}
    with written_whole(path) as temporary:
        save_file(stored, temporary, metadata=header)


def load_state(path: Path) -> Any:
    """What `save_state` wrote, tensors on the CPU.

    Raises:
        CheckpointError: not such a file, or a damaged one.
    """
    remedy = "say resume=False (--anew) to start anew, or restore the file"
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            stored = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint ({error}): {remedy}") from None
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a training checkpoint of this version of recon: {remedy}")
    if header.get("checksum") != checksum(header.get("book", ""), stored):
        raise CheckpointError(f"{path} is damaged: its checksum does not fit its contents: {remedy}")
    return _put_together(json.loads(header["book"]), stored)


def on_cpu(state: Any) -> Any:
    """A copy of a nested state, its tensors on the CPU."""
    tensors: dict[str, Tensor] = {}
    book = _taken_apart(state, tensors)
    return _put_together(book, {name: _storable(tensor) for name, tensor in tensors.items()})


def _storable(tensor: Tensor) -> Tensor:
    plain = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return plain.detach().to("cpu", copy=True).contiguous()


def _taken_apart(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The value with every tensor replaced by its number; JSON's keys are texts, so dicts become pairs."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name, "complex": value.is_complex()}
    if isinstance(value, dict):
        return {
            "dict": [[_taken_apart(key, tensors), _taken_apart(item, tensors)] for key, item in value.items()]
        }
    if isinstance(value, tuple):
        return {"tuple": [_taken_apart(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_taken_apart(item, tensors) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"the state of a training holds tensors, numbers and texts, not {type(value).__name__}")


def _put_together(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_put_together(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        tensor = tensors[value["tensor"]]
        return torch.view_as_complex(tensor) if value["complex"] else tensor
    if "tuple" in value:
        return tuple(_put_together(item, tensors) for item in value["tuple"])
    return {_put_together(key, tensors): _put_together(item, tensors) for key, item in value["dict"]}
