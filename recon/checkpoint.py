"""The whole state of a run in one file, so that a stopped run goes on where it was."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from recon.files import written_whole
from recon.problem import Problem

if TYPE_CHECKING:
    from recon.runner import Loop
    from recon.weight import _Search

SECONDS_BETWEEN = 30.0
FORMAT = "recon checkpoint 1"
SEARCH = "recon weight search 1"  # what the file holds before the weight is found
TENSORS = ("places", "last", "change", "image", "strength", "lowest", "rises")  # of the loop
BOOK = ("iteration", "reasons", "converged", "iterations", "history")


class CheckpointError(ValueError):
    """A checkpoint belongs to another problem, or is damaged."""


class Checkpoint:
    """Saves a run at most every 30 seconds and at its end; resumes it if the file is there.

    Args:
        path: the file (safetensors with the run's bookkeeping and a checksum in its header).
        problem: what is solved: the file refuses other data, another operator or prior.
        algorithm: how: the file refuses another algorithm or other settings.
    """

    def __init__(self, path: Path, problem: Problem, algorithm: Any) -> None:
        self.path = Path(path)
        self.fingerprint = _fingerprint(problem, algorithm)
        self.saved = time.monotonic()

    def save_if_due(self, loop: Loop) -> None:
        """Save if the last time was long enough ago."""
        if time.monotonic() - self.saved >= SECONDS_BETWEEN:
            self.save(loop)

    def save(self, loop: Loop) -> None:
        """Write the file."""
        tensors = {name: getattr(loop, name) for name in TENSORS}
        tensors |= {f"state.{name}": tensor for name, tensor in _flatten(loop.state).items()}
        tensors |= {f"latest.{name}": tensor for name, tensor in loop.latest.items()}
        for place, memory in enumerate(loop.memories.values()):
            tensors |= {f"memory.{place}.{name}": tensor for name, tensor in _flatten(memory).items()}
        book = {name: getattr(loop, name) for name in BOOK}
        book |= {"fingerprint": self.fingerprint, "seconds": loop.seconds}
        book["memories"] = [repr(rule) for rule in loop.memories]
        _write(self.path, FORMAT, book, tensors)
        self.saved = time.monotonic()

    def resume(self, loop: Loop) -> bool:
        """Put a loop where the file left off; False if there is no file, or one of the search for the weight only.

        Raises:
            CheckpointError: the file is of another problem or algorithm, or cannot be read.
        """
        if not self.path.exists():
            return False
        form, book, tensors = _read(self.path)
        if book["fingerprint"] != self.fingerprint:
            raise CheckpointError(
                f"{self.path} belongs to another problem or other solver settings: give another name, or remove it"
            )
        if form == SEARCH:
            return False
        device = loop.image.device
        state = {name.removeprefix("state."): tensor.to(device) for name, tensor in tensors.items()}
        loop.state = _unflatten(loop.state, state)
        loop.latest = {
            name.removeprefix("latest."): tensor
            for name, tensor in tensors.items()
            if name.startswith("latest.")
        }
        for name in TENSORS:
            setattr(loop, name, tensors[name].to(device))
        for name in BOOK:
            setattr(loop, name, book[name])
        loop.seconds_before = book["seconds"]
        loop.problem.strength = loop.strength
        if len(loop.places) != loop.problem.items:
            # back-projected all at once, as in a run from the start: a part's could differ in the last digit
            _ = loop.problem.backprojection
            loop.part = loop.problem.select(loop.places)
        self._recall(loop, book.get("memories"), tensors)
        loop.go_on()
        return True

    def _recall(self, loop: Loop, rules: list[str] | None, tensors: Mapping[str, Tensor]) -> None:
        """What the stopping rules remember; those of another rule than the file's begin here."""
        for place, rule in enumerate(loop.rules_with_memory):
            begin = f"memory.{place}."
            kept = {
                name.removeprefix(begin): tensor.to(loop.image.device)
                for name, tensor in tensors.items()
                if name.startswith(begin)
            }
            known = rules == [repr(each) for each in loop.memories]
            began = rule.begin(loop.progress())
            loop.memories[rule] = _unflatten(began, kept) if known else began


class SearchCheckpoint:
    """Keeps the search for a weight in the file that the run's checkpoint will take the place of.

    Args:
        path: the file.
        problem: what is solved.
        algorithm: how.
        seed: of the search.
        seconds_before: wall time that was spent on this problem before.

    Attributes:
        resumed: whether the file held a search.
    """

    def __init__(
        self, path: Path, problem: Problem, algorithm: Any, seed: int, seconds_before: float = 0.0
    ) -> None:
        self.path, self.seed = Path(path), seed
        self.fingerprint = _fingerprint(problem, algorithm)
        self.saved = self.began = time.monotonic()
        self.seconds_before = seconds_before
        self.resumed = False
        self.kept = _read(self.path) if self.path.exists() else None
        if self.kept is not None:
            book = self.kept[1]
            if book["fingerprint"] != self.fingerprint or book["seed"] != seed:
                raise CheckpointError(
                    f"{self.path} belongs to another problem, other solver settings or another seed: give another "
                    "name, or remove it"
                )
            self.seconds_before = book["seconds"]

    @property
    def seconds(self) -> float:
        """Wall time spent on this problem, that of earlier searches included."""
        return self.seconds_before + time.monotonic() - self.began

    def save_if_due(self, search: _Search) -> None:
        """Save if the last time was long enough ago."""
        if time.monotonic() - self.saved >= SECONDS_BETWEEN:
            self.save(search)

    def save(self, search: _Search) -> None:
        """Write the file."""
        book, tensors, states = search.remembered()
        tensors = {f"search.{name}": tensor for name, tensor in tensors.items()}
        for label, state in states.items():
            tensors |= {f"{label}.{name}": tensor for name, tensor in _flatten(state).items()}
        about = {"fingerprint": self.fingerprint, "seed": self.seed, "seconds": self.seconds}
        _write(self.path, SEARCH, book | about, tensors)
        self.saved = time.monotonic()

    def resume(self, search: _Search) -> None:
        """Put a search where the file left off."""
        if self.kept is None:
            return
        _, book, tensors = self.kept
        device = search.strength.device
        parts: dict[str, dict[str, Tensor]] = {"search": {}, "found": {}, "state": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor.to(device)
        states = {label: _unflatten(search.found, parts[label]) for label in ("found", "state")}
        search.recall(book, parts["search"], states)
        self.kept, self.resumed = None, True


def holds_run(path: Path) -> bool:
    """Whether a file is there that is not one of the search for the weight only; a damaged one counts."""
    if not path.exists():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") != SEARCH
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError):
        return True


def _write(path: Path, form: str, book: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a checkpoint, whole or not at all."""
    stored = {}
    for name, tensor in tensors.items():
        # safetensors knows no complex128: complex tensors are stored as pairs
        label = f"complex.{name}" if tensor.is_complex() else name
        plain = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
        stored[label] = plain.detach().to("cpu", copy=True).contiguous()
    text = json.dumps(book)
    header = {"format": form, "book": text, "checksum": checksum(text, stored)}
    with written_whole(path) as temporary:
        save_file(stored, temporary, metadata=header)


def _read(path: Path) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """The format, the bookkeeping and the tensors of a checkpoint."""
    remedy = "remove it to start anew"
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            # copies: what it gives is the mapped file, which the next save replaces
            stored = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint ({error}): {remedy}") from None
    form = header.get("format", "")
    if form not in (FORMAT, SEARCH):
        raise CheckpointError(f"{path} is not a checkpoint of this version of recon: {remedy}")
    if header.get("checksum") != checksum(header.get("book", ""), stored):
        raise CheckpointError(f"{path} is damaged: its checksum does not fit its contents: {remedy}")
    tensors = {
        name.removeprefix("complex."): torch.view_as_complex(tensor)
        if name.startswith("complex.")
        else tensor
        for name, tensor in stored.items()
    }
    return form, json.loads(header["book"]), tensors


def _flatten(state: Any) -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if isinstance(value, Tensor):
            flat[field.name] = value
        else:
            flat |= {f"{field.name}.{place}": tensor for place, tensor in enumerate(value)}
    return flat


def _unflatten(template: Any, tensors: Mapping[str, Tensor]) -> Any:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(template):
        value = getattr(template, field.name)
        if isinstance(value, Tensor):
            values[field.name] = tensors[field.name]
        else:
            values[field.name] = [tensors[f"{field.name}.{place}"] for place in range(len(value))]
    return dataclasses.replace(template, **values)


def checksum(book: str, tensors: Mapping[str, Tensor]) -> str:
    """A digest of a book and tensors by name."""
    digest = hashlib.sha256(book.encode())
    for name in sorted(tensors):
        feed(digest, name)
        feed(digest, tensors[name])
    return digest.hexdigest()


def _fingerprint(problem: Problem, algorithm: Any) -> str:
    """A digest of everything that the result depends on, but for the stopping rule and the start."""
    digest = hashlib.sha256()
    for part in (
        repr(problem),
        repr(algorithm),
        problem.data,
        problem.operator,
        problem.prior,
        problem.fidelity.parameters(),
        problem.image_range,
        None if problem.generator is None else problem.seed,
    ):
        feed(digest, part)
    return digest.hexdigest()


def feed(digest: Any, value: Any) -> None:
    """Add a value to a digest: arrays and modules by their contents, other objects by their type."""
    if isinstance(value, Tensor):
        array = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        digest.update(f"{array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, np.ndarray):
        feed(digest, torch.from_numpy(np.ascontiguousarray(value)))
    elif isinstance(value, nn.Module):
        digest.update(f"{type(value).__module__}.{type(value).__qualname__} {value.extra_repr()}".encode())
        for name, tensor in (*value.named_buffers(), *value.named_parameters()):
            feed(digest, name)
            feed(digest, tensor)
        for part in value.modules():  # numbers and names that an author keeps as plain attributes
            feed(digest, {name: item for name, item in vars(part).items() if _is_setting(name, item)})
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            feed(digest, key)
            feed(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)} values".encode())
        for item in value:
            feed(digest, item)
    else:
        plain = value is None or isinstance(value, str | int | float | complex | bool | Path)
        digest.update((repr(value) if plain else type(value).__qualname__).encode())


def _is_setting(name: str, value: Any) -> bool:
    public = not name.startswith("_") and name not in ("training", "recon_origin")
    return public and isinstance(value, str | int | float | complex | tuple | list | Tensor | np.ndarray)
