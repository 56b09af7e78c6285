"""What each of several processes has to itself, in one checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.distributed
from lightning_fabric import Fabric

from recon.checkpoint import CheckpointError
from recon.training.state_files import on_cpu


def gathered(own: dict[str, Any], fabric: Fabric) -> list[dict[str, Any]]:
    """The state of every process in their order, at the first one; empty at the others."""
    if fabric.world_size == 1:
        return [own]
    states: list[Any] = [None] * fabric.world_size
    torch.distributed.gather_object(on_cpu(own), states if fabric.is_global_zero else None, dst=0)
    return states if fabric.is_global_zero else []


def own_part(states: list[dict[str, Any]], fabric: Fabric, path: Path) -> dict[str, Any]:
    """The state of this process, from those of all that wrote a checkpoint.

    Another number of processes shares the sums of the log evenly.

    Raises:
        CheckpointError: another number of processes, where the objective keeps a state in each.
    """
    if len(states) == fabric.world_size:
        return states[fabric.global_rank]
    if any(state["objective"] for state in states):
        raise CheckpointError(
            f"{path} was written by {len(states)} processes, each with a state of its objective, and this training has "
            f"{fabric.world_size}: start {len(states)}, or say resume=False to start anew"
        )
    names = {name for state in states for name in state["sums"]}
    sums = {name: sum(state["sums"].get(name, 0.0) for state in states) / len(states) for name in names}
    return {"sums": sums, "objective": {}}
