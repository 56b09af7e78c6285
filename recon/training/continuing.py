"""Whether a training may go on from a checkpoint, and what another number of epochs does to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recon.checkpoint import CheckpointError, feed
from recon.provenance import plain
from recon.training.objective import Objective
from recon.training.schedules import Schedule
from recon.training.sources import Sample

IMPATIENT = "no better"
"""How what a training says begins that stopped for lack of patience."""
REMEDY = "give another folder, or say resume=False (--anew) to start anew there"


def identity_of(record: dict[str, Any], samples: Iterable[Sample]) -> dict[str, Any]:
    """What a checkpoint belongs to: all that decides over a step, as plain values.

    How long a training goes on is no part of it: another number of epochs, or another patience, may be given to the
    same one. Nor is the device.

    Args:
        record: what `record_of` says.
        samples: a few, in their own unit: other images or data are found by them.
    """
    digest = hashlib.sha256()
    for sample in samples:
        shown = (sample.target, sample.input, sample.data)
        feed(digest, [tensor for tensor in shown if tensor is not None])
    found: dict[str, Any] = json.loads(
        json.dumps(plain({**record, "images": {"digest": digest.hexdigest()}}))
    )
    del found["training"]["epochs"]
    return found


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """Where two identities differ, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = sorted(before.keys() | now.keys())
        parts = [
            differences(before.get(key), now.get(key), f"{name} {key}" if name else key) for key in names
        ]
        return [line for part in parts for line in part]
    if before == now:
        return []
    if name.endswith("digest"):
        return ["the images or data are others"]
    if name == "data operator":  # of which there is a digest
        return ["the operator is another"]
    return [f"{name} was {_short(before)} and is {_short(now)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_belongs(state: Mapping[str, Any], identity: dict[str, Any], path: Path) -> None:
    """Refuse the checkpoint of another training.

    Raises:
        CheckpointError: it differs in what the message names.
    """
    changed = differences(state["identity"], identity)
    if changed:
        more = f", and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise CheckpointError(
            f"{path} belongs to another training: {'; '.join(changed[:5])}{more}: say it as before, {REMEDY}"
        )


def check_length(
    state: Mapping[str, Any], epochs: int, done: float, objective: Objective, path: Path
) -> None:
    """Refuse a number of epochs that the training of a checkpoint cannot have.

    Args:
        state: of the checkpoint.
        epochs: how many there shall be.
        done: epochs that it has trained, with the part of the last one.
        objective: what is trained.
        path: of the checkpoint.

    Raises:
        CheckpointError: more are done already, or the objective depends on their number.
    """
    before = state["epochs"]
    if before != epochs and objective.depends_on_epochs:
        raise CheckpointError(
            f"{path} is of a training of {before} epochs, and {type(objective).__name__} divides them among its "
            f"stages, so that it cannot become one of {epochs}: say epochs={before}, {REMEDY}"
        )
    if epochs < done:
        raise CheckpointError(
            f"{path} has trained {done:g} epochs already, more than epochs={epochs}: say as many or more, {REMEDY}"
        )


def change_of_length(before: int, epochs: int, done: float, schedules: Mapping[str, Schedule]) -> str:
    """For the card: what another number of epochs did to the learning rates."""
    said = f"from {before} to {epochs} after {done:g}"
    moved = [player for player, schedule in schedules.items() if schedule.depends_on_total]
    if moved:
        said += (
            f"; the learning rate of {', '.join(moved)} went on from where its schedule stands in {epochs}"
        )
    return said


def still_stopped(stopped: str, longer: bool, patience: int | None, fruitless: int) -> str:
    """Why a training that goes on is at its end already; "" if it is not.

    One that stopped for lack of patience goes on if there is more now; any other if it shall become longer.

    Args:
        stopped: why it had stopped, or "".
        longer: whether there shall be more epochs than before.
        patience: epochs without progress that end it, or None.
        fruitless: epochs since its best one.
    """
    if stopped.startswith(IMPATIENT):
        return stopped if patience is not None and fruitless >= patience else ""
    return "" if longer else stopped
