"""What was trained, on what, and how: the card of the model."""

from __future__ import annotations

from typing import Any

from recon.channels import is_conditioned
from recon.learned import LearnedPrior, operator_digest
from recon.model_files import card_of
from recon.provenance import describe, environment, plain
from recon.training.fit import FitLoop, Options
from recon.training.loader import Loader
from recon.training.objective import Objective, Setting


def record_of(
    setting: Setting,
    goal: Objective,
    source: Any,
    held: int,
    loader: Loader,
    options: Options,
    precision: str,
) -> dict[str, Any]:
    """What is trained, on what, and how, as plain values: part of the card, and what a checkpoint belongs to."""
    network, op, noise = setting.network, setting.op, loader.noise
    return {
        **card_of(network),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "objective": plain(goal.describe()),
        "data": {
            "source": source.description,
            "trained on": len(loader.places),
            "validated on": held,
            "noise": None if noise is None else noise.description,
            "noise model": None if noise is None else describe("noise", noise),
            "operator": None if op is None else operator_digest(op),
            "image range": list(loader.image_range),
            "augmentation": plain(vars(loader.augmentation)),
            "independent": loader.independent,
            "patch": loader.patch,
            "patches": loader.patches,
            "pinv": plain(loader.pinv),
        },
        "training": {
            "epochs": options.epochs,
            "batch": loader.batch_size,
            "lr": options.lr,
            "optimiser": options.optimiser,
            "schedule": options.schedule or "the objective's",
            "clip": options.clip,
            "accumulate": options.accumulate,
            "ema": options.ema,
            "monitor": options.monitor,
            "validated every": options.validate_every,
            "precision": precision,
            "seed": loader.seed,
        },
    }


def prior_of(
    loop: FitLoop, goal: Objective, unit: str, record: dict[str, Any], about: dict[str, Any] | None
) -> LearnedPrior:
    """The trained network with its card."""
    setting = loop.setting
    network, op = setting.network, setting.op
    best = next((row for row in loop.history if row["epoch"] == loop.best_epoch), None)
    last = loop.history[-1] if loop.history else {}
    training = {**record["training"], "epochs": loop.epoch, "stopped by": loop.stopped or "all epochs done"}
    if loop.relengthened:
        training["epochs changed"] = loop.relengthened
    card = {
        "architecture": record["architecture"],
        "objective": record["objective"],
        "data": record["data"],
        "training": {**training, "steps": loop.steps, "seconds": round(loop.seconds, 1)},
        "metrics": plain(best or last),
        "versions": environment(),
        **(about or {}),
    }
    trained = (
        {"digest": operator_digest(op), "description": describe("operator", op)} if op is not None else None
    )
    levels = getattr(goal, "sigma_range", None) if is_conditioned(network) else None
    return LearnedPrior(
        network.cpu(),
        image_range=loop.loader.image_range,
        unit=unit,
        complex_as=setting.channels.complex_as,
        sigma_range=levels,
        end_to_end=goal.end_to_end,
        operator=trained if goal.end_to_end else None,
        card=card,
    )
