"""The whole state of a run in one file, so that a stopped run goes on where it was."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recon.files import written_whole
from recon.problem import Problem

if TYPE_CHECKING:
    from recon.runner import Loop

SECONDS_BETWEEN = 30.0


class CheckpointError(ValueError):
    """A checkpoint belongs to another problem, or is damaged."""


class Checkpoint:
    """Saves a run at most every 30 seconds and at its end; resumes it if the file is there.

    Args:
        path: the file (safetensors with the run's bookkeeping in its header).
        problem: what is solved: the file refuses other data.
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
        tensors = {f"state.{name}": tensor for name, tensor in _flatten(loop.state).items()}
        tensors |= {name: getattr(loop, name) for name in ("running", "last", "image", "strength")}
        tensors["part_strength"] = loop.part.strength
        tensors |= {f"latest.{name}": tensor for name, tensor in loop.latest.items()}
        book = {
            "fingerprint": self.fingerprint,
            "iteration": loop.iteration,
            "seconds": loop.seconds,
            "reasons": loop.reasons,
            "converged": loop.converged,
            "iterations": loop.iterations,
            "history": loop.history,
            "places": loop.places.tolist(),
        }
        stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        with written_whole(self.path) as temporary:
            save_file(stored, temporary, metadata={"recon": json.dumps(book)})
        self.saved = time.monotonic()

    def resume(self, loop: Loop) -> bool:
        """Put a loop where the file left off; False if there is no file.

        Raises:
            CheckpointError: the file is of another problem or algorithm, or cannot be read.
        """
        if not self.path.exists():
            return False
        try:
            with safe_open(self.path, framework="pt") as file:
                book = json.loads((file.metadata() or {})["recon"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, OSError, json.JSONDecodeError) as error:
            raise CheckpointError(f"{self.path} is not a readable checkpoint ({error}): remove it") from None
        if book["fingerprint"] != self.fingerprint:
            raise CheckpointError(
                f"{self.path} belongs to another problem or other solver settings: give another name, or remove it"
            )
        device = loop.image.device
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        loop.running = tensors["running"]
        loop.places = torch.tensor(book["places"], device=device, dtype=torch.long)
        if loop.running.numel() and len(loop.places) != loop.problem.items:
            loop.part = loop.problem.select(loop.places)
        loop.part.strength = tensors["part_strength"]
        loop.state = _unflatten(loop.state, tensors)
        for name in ("last", "image", "strength"):
            setattr(loop, name, tensors[name])
        loop.latest = {
            name.removeprefix("latest."): tensor.cpu()
            for name, tensor in tensors.items()
            if name.startswith("latest.")
        }
        loop.iteration, loop.seconds_before = book["iteration"], book["seconds"]
        loop.reasons, loop.converged, loop.iterations = book["reasons"], book["converged"], book["iterations"]
        loop.history = book["history"]
        return True


def _flatten(state: Any) -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if isinstance(value, Tensor):
            flat[field.name] = value
        else:
            flat |= {f"{field.name}.{place}": tensor for place, tensor in enumerate(value)}
    return flat


def _unflatten(template: Any, tensors: dict[str, Tensor]) -> Any:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(template):
        value = getattr(template, field.name)
        if isinstance(value, Tensor):
            values[field.name] = tensors[f"state.{field.name}"]
        else:
            values[field.name] = [tensors[f"state.{field.name}.{place}"] for place in range(len(value))]
    return dataclasses.replace(template, **values)


def _fingerprint(problem: Problem, algorithm: Any) -> str:
    digest = hashlib.sha256()
    for text in (repr(problem), repr(algorithm), repr(problem.prior)):
        digest.update(text.encode())
    digest.update(problem.y.cpu().resolve_conj().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
