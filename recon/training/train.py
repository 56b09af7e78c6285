"""`train`: any network, any operator, any objective, one call."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision, Precision
from torch import nn

from recon import registry
from recon.channels import ImageChannels, channels_of, is_conditioned, needs_operator
from recon.learned import LearnedPrior, operator_digest
from recon.linear import LinearOperator
from recon.model_files import card_of, save_model
from recon.provenance import describe, environment, plain
from recon.simulate import as_noise
from recon.solving import Named
from recon.training.fit import FitLoop, Options
from recon.training.loader import Loader, measured_range
from recon.training.losses import as_loss
from recon.training.objective import Objective, Setting
from recon.training.sources import Images, Pairs, Unpaired, as_source, split
from recon.training.transforms import as_augmentation
from recon.training.validation import Validation

WATER = 0.02  # 1/mm, at an effective energy of about 65 keV
PRECISIONS: dict[str, Literal["16-mixed", "bf16-mixed"] | None] = {
    "32": None,
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}


def train(
    network: nn.Module | Named,
    *,
    data: Any,
    op: LinearOperator | Named | None = None,
    objective: Objective | Named = "supervised",
    loss: Any = None,
    noise: Any = None,
    validation: Any = 0.1,
    image_range: tuple[float, float] | None = None,
    unit: str = "",
    water: float | None = None,
    complex_as: str = "auto",
    augment: Any = None,
    independent: bool = False,
    patch: int | None = None,
    patches: int = 1,
    pinv: dict[str, Any] | None = None,
    epochs: int = 50,
    batch: int = 8,
    lr: float | dict[str, float] | None = None,
    optimiser: str | None = None,
    schedule: str | None = None,
    clip: float | None = None,
    accumulate: int = 1,
    ema: float | None = None,
    patience: int | None = None,
    monitor: str = "auto",
    validate_every: int = 1,
    device: str = "auto",
    devices: int | str = "auto",
    nodes: int = 1,
    precision: str = "32",
    workers: int = 0,
    seed: int = 0,
    output: str | Path | None = None,
    resume: bool = True,
    checkpoint_seconds: float = 60.0,
    half: bool = False,
    tensorboard: bool = False,
    progress: bool | None = None,
    callback: Callable[[dict[str, float]], bool | None] | None = None,
    about: dict[str, Any] | None = None,
) -> LearnedPrior:
    """Train a network and return it as a prior; with `output`, keep it there as a model with its card.

    Every sample (its noise, transform and patch) is a function of `seed`, the epoch and its place; a training that
    was killed goes on from its last checkpoint as if nothing had happened. Several processes (``torchrun
    --nproc-per-node 2 script.py``) share each batch and average their gradients.

    Args:
        network: an object, or a name such as ``"unet"`` or ``"unet:channels=64"`` (`recon list networks`).
        data: images, pairs, a data set or its name, a file or a folder, or `recon.training.sources.Unpaired`; see
            `recon.training.sources.as_source`.
        op: forward operator: data are simulated of the images, and the network starts from ``op.pinv(data)``. With
            pairs of measured data and images, the data are those. A name such as ``"ct_parallel:angles=60"`` takes
            shape and pixel size from the images.
        objective: an object, or a name such as ``"supervised"`` or ``"denoising:sigma_high=0.1"``.
        loss: of objectives that take one: ``"mse"``, ``"l1"``, ``"mse + 0.1*(1-ssim)"``, a dict, an object.
        noise: noise of simulated data: an object or a name, such as ``"poisson:photons=1e4"``.
        validation: the part of the patients (or images) that is held out, or data of their own in the forms of `data`;
            0 for none.
        image_range: (low, high) of the images' values, which the network sees as [0, 1]; None measures it on the
            training images. Of complex images the range of the magnitude, from 0.
        unit: unit of the images, for the card.
        water: attenuation of water [1/mm] by which files in HU are read as 1/mm; None leaves HU, and is 0.02 where a
            CT operator is named.
        complex_as: how complex images meet the network; see `recon.channels.ImageChannels`.
        augment: random transforms: ``"flip, turns, rotate, translate, scale"``, or a dict with values.
        independent: transform the two images of a pair each on its own.
        patch: side of random patches [px] to train on; None for whole images.
        patches: patches of an image in an epoch.
        pinv: options of ``op.pinv``, such as ``{"filter": "hann"}``.
        epochs: how often all images are seen.
        batch: images of a batch, over all processes.
        lr: learning rate, or one for each player of the objective; None: the objective's, else 1e-3.
        optimiser: ``"adam"``, ``"adamw"``, ``"sgd:momentum=0.9"``, ``"rmsprop"``; None: the objective's, else adam.
        schedule: of the learning rate: see `recon.training.schedules.make_schedule`; None: the objective's, else
            cosine.
        clip: largest norm of a player's gradient.
        accumulate: batches whose gradients make one step.
        ema: decay of a moving average of the weights, which is then what is validated and kept.
        patience: epochs without a better `monitor` that end the training.
        monitor: what is watched: ``"psnr"``, ``"ssim"``, a loss by its name in the log, or ``"last"`` to keep the last
            weights; ``"auto"`` is ``"psnr"`` where there is a validation.
        validate_every: epochs from one validation to the next.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"``.
        devices: how many; under torchrun, what it started.
        nodes: machines; under torchrun, what it started.
        precision: ``"32"``, ``"bf16"`` or ``"fp16"`` (mixed precision, with loss scaling).
        workers: processes that read and transform images.
        seed: of everything random.
        output: folder for the model, checkpoints, log.csv and pictures.
        resume: go on from the checkpoint in `output`; False starts anew.
        checkpoint_seconds: longest time between two checkpoints.
        half: keep weights as float16.
        tensorboard: write TensorBoard's event files into `output`.
        progress: show a progress bar; None: on a terminal.
        callback: called with the log of every epoch; returning True stops.
        about: what else the card should say: ``licence``, ``credits``, ``notes``.

    Raises:
        ValueError, TypeError, LookupError, OSError: anything that does not fit, before the first step.
        recon.checkpoint.CheckpointError: `output` holds a damaged checkpoint, or one of another training.
        recon.training.fit.TrainingError: the loss became infinite or NaN.
    """
    _check_numbers(
        epochs=epochs, batch=batch, accumulate=accumulate, patches=patches, validate_every=validate_every
    )
    goal = _objective(objective, loss)
    source, operator, water, unit = _source_and_operator(data, op, water, unit)
    _check_source(source, goal, operator)
    held_out, places, held = _validation(source, validation, seed, goal, operator, water)
    first = source.sample(places[0])
    shown = first.target if first.target is not None else first.input
    complex_images = bool(shown is not None and shown.is_complex()) or (
        operator is not None and operator.domain == "complex"
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = _network(network, complex_images and complex_as in ("auto", "channels"))
        channels = channels_of(made, complex_as)
        bounds = (
            measured_range(source, places, goal)
            if image_range is None
            else _range(image_range, complex_images)
        )
        fabric = _fabric(device, devices, nodes, precision)
        if batch % fabric.world_size:
            raise ValueError(f"batch={batch} cannot be shared by {fabric.world_size} processes equally")
        made = made.to(fabric.device)
        operator = None if operator is None else operator.to(fabric.device)
        shared: dict[str, Any] = {
            "batch_size": batch,
            "image_range": bounds,
            "range_given": image_range is not None,
            "op": operator,
            "noise": None if noise is None else as_noise(noise),
            "pinv": dict(pinv or {}),
            "patch": patch,
            "device": fabric.device,
            "needs": _needs(goal, made),
            "workers": workers,
            "seed": seed,
        }
        loader = Loader(
            source,
            places,
            augmentation=as_augmentation(augment),
            independent=independent,
            patches=patches,
            rank=fabric.global_rank,
            ranks=fabric.world_size,
            **shared,
        )
        checks = None
        if held_out is not None and held:
            alone = len(held) < fabric.world_size  # fewer images than processes: each measures all
            rank, ranks = (0, 1) if alone else (fabric.global_rank, fabric.world_size)
            checks = Validation(Loader(held_out, held, fixed=True, rank=rank, ranks=ranks, **shared))
        setting = Setting(
            network=made,
            channels=channels,
            shape=(),
            complex_images=complex_images,
            op=operator,
            seed=seed,
            autocast=fabric.autocast,
        )
        trial = next(loader.epoch(0))
        sample = trial.target if trial.target is not None else trial.input
        assert sample is not None
        setting.shape = tuple(sample.shape[1:])
        goal.prepare(setting)
        for module in goal.modules().values():
            module.to(fabric.device)
        options = Options(
            epochs, lr, optimiser, schedule, clip, accumulate, ema, patience, monitor, checkpoint_seconds,
            validate_every, progress, tensorboard, callback,
        )  # fmt: skip
        record = _record(
            made, goal, source, len(places), len(held), operator, noise, loader, options, precision
        )
        folder = _folder(output, resume, fabric)
        loop = FitLoop(fabric, goal, setting, loader, checks, options, folder, _fingerprint(record, trial))
        loop.run()
    prior = _prior(loop, goal, channels, bounds, unit, operator, record, about)
    if folder is not None and fabric.is_global_zero:
        save_model(prior, folder, half=half)
    fabric.barrier()
    return prior


def _check_numbers(**numbers: int) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a whole number >= 1, got {number!r}")


def _objective(objective: Any, loss: Any) -> Objective:
    """The objective; a loss given beside its name is its argument."""
    if isinstance(objective, str | tuple):
        extra = {} if loss is None else {"loss": loss if isinstance(loss, str) else as_loss(loss)}
        objective = registry.make("objective", objective, **extra)
    elif loss is not None:
        raise TypeError("the objective is an object already: give the loss to it, and leave loss out")
    if not isinstance(objective, Objective):
        raise TypeError(f"the objective must be a recon.Objective or a name, got {type(objective).__name__}")
    return objective


def _source_and_operator(
    data: Any, op: Any, water: float | None, unit: str
) -> tuple[Any, LinearOperator | None, float | None, str]:
    """Samples and operator; one that is named gets the images' shape and pixel size, and CT takes HU as 1/mm."""
    if not isinstance(op, str | tuple):
        source = as_source(data, op=op, water=water)
        operator = getattr(source, "operator", None) if op is None else op
        return source, operator, water, unit
    name, given = registry._read_spec("operator", op)
    found = registry.find("operator", name)
    is_ct = "ct" in found.entry.tags
    water = WATER if water is None and is_ct else water
    source = as_source(data, water=water)
    if isinstance(source, Pairs):
        operator = registry.make("operator", op)
        return as_source(data, op=operator, water=water), operator, water, unit
    declared = {parameter.name for parameter in found.parameters()}
    arguments = dict(given)
    if "shape" in declared and "shape" not in given:
        image = source.sample(0).target
        arguments["shape"] = tuple(image.shape[-2:])
    sizes = sorted(getattr(getattr(source, "items", None), "pixel_sizes", ()))
    if "pixel_size" in declared and "pixel_size" not in given and sizes:
        if len(sizes) > 1:
            raise ValueError(
                f"{source.description} have pixels from {sizes[0]:g} to {sizes[-1]:g} mm, an operator has one size: "
                f"say which to take for all, {name}:pixel_size={sizes[0]:g}"
            )
        arguments["pixel_size"] = sizes[0]
    return source, registry.make("operator", (name, arguments)), water, unit or ("1/mm" if is_ct else "")


def _network(network: Any, two_channels: bool) -> nn.Module:
    """The network; one made by name gets two channels for complex images unless the name says otherwise."""
    if isinstance(network, nn.Module):
        return network
    if isinstance(network, str | tuple):
        extra: dict[str, Any] = {}
        if two_channels:
            name, given = registry._read_spec("network", network)
            takes = {parameter.name for parameter in registry.find("network", name).parameters()}
            extra = {"in_channels": 2} if "in_channels" in takes and "in_channels" not in given else {}
        network = registry.make("network", network, **extra)
    if not isinstance(network, nn.Module):
        raise TypeError(f"the network must be a torch.nn.Module or a name, got {type(network).__name__}")
    return network


def _check_source(source: Any, goal: Objective, op: LinearOperator | None) -> None:
    name = type(goal).__name__
    if goal.unpaired != isinstance(source, Unpaired):
        wanted = (
            "unpaired data, recon.training.sources.Unpaired(inputs, targets)" if goal.unpaired else "pairs"
        )
        raise TypeError(f"{name} trains on {wanted}, got {source.description}")
    if not len(source):
        raise ValueError(f"{source.description}: nothing to train on")
    if "input" in goal.needs and isinstance(source, Images) and op is None:
        raise ValueError(
            f"{name} starts from degraded images, but there are true images alone: give op=... (and noise=...) to "
            "simulate data of them, or pairs (degraded, true)"
        )


def _needs(goal: Objective, network: nn.Module) -> tuple[str, ...]:
    return tuple({*goal.needs, *(("data",) if needs_operator(network) else ())})


def _validation(
    source: Any, validation: Any, seed: int, goal: Objective, op: LinearOperator | None, water: float | None
) -> tuple[Any, list[int], list[int]]:
    """What is validated on, places to train on, places to validate on."""
    if isinstance(validation, int | float) and not isinstance(validation, bool):
        if goal.unpaired:  # an unpaired target is no truth to measure against
            return None, list(range(len(source))), []
        places, held = split(source, float(validation), seed)
        return source, places, held
    other = as_source(validation, op=op, label="validation", water=water)
    return other, list(range(len(source))), list(range(len(other)))


def _range(bounds: Any, complex_images: bool) -> tuple[float, float]:
    low, high = (float(bound) for bound in bounds)
    if not (-float("inf") < low < high < float("inf")):
        raise ValueError(f"image_range must be (low, high) with low < high, got {bounds}")
    if complex_images and low != 0:
        raise ValueError(f"of complex images image_range is that of the magnitude, (0, high), got {bounds}")
    return low, high


def _fabric(device: str, devices: int | str, nodes: int, precision: str) -> Fabric:
    """Devices, processes and precision, launched."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device!r} cannot be used here: there is no CUDA; say device='cpu'")
    started = os.environ.get("LOCAL_WORLD_SIZE")  # by torchrun
    if started is not None:
        devices, nodes = int(started), int(os.environ["WORLD_SIZE"]) // int(started)
    count: Any = 1 if devices == "auto" else int(devices)
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device.split(":")[0]
    if ":" in device:
        count = [int(device.split(":")[1])]
    mixed = PRECISIONS[precision]
    several = started is not None or (isinstance(count, int) and count * nodes > 1)
    fabric = Fabric(
        accelerator=kind,
        devices=count,
        num_nodes=nodes,
        strategy="ddp" if several else "auto",
        # an object, as fabric's own name for it refuses fp16 on a CPU, which torch can
        plugins=Precision() if mixed is None else MixedPrecision(mixed, kind),
    )
    fabric.launch()
    return fabric


def _folder(output: str | Path | None, resume: bool, fabric: Fabric) -> Path | None:
    """The folder to write to; without `resume` its checkpoints go."""
    if output is None:
        return None
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, but a model is a folder: choose another name")
    if not resume and fabric.is_global_zero:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    fabric.barrier()
    return folder


def _record(
    network: nn.Module,
    goal: Objective,
    source: Any,
    training: int,
    held: int,
    op: LinearOperator | None,
    noise: Any,
    loader: Loader,
    options: Options,
    precision: str,
) -> dict[str, Any]:
    """What was trained, on what, and how, as plain values: part of the card, and what a checkpoint belongs to."""
    schedule = options.schedule or "the objective's"
    endless = schedule.startswith("constant")
    return {
        **card_of(network),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "objective": plain(goal.describe()),
        "data": {
            "source": source.description,
            "trained on": training,
            "validated on": held,
            "noise": None if noise is None else as_noise(noise).description,
            "operator": None if op is None else operator_digest(op),
            "image range": list(loader.image_range),
            "augmentation": plain(vars(loader.augmentation)),
            "independent": loader.independent,
            "patch": loader.patch,
            "patches": loader.patches,
            "pinv": plain(loader.pinv),
        },
        "training": {
            "epochs": 0 if endless else options.epochs,
            "batch": loader.batch_size,
            "lr": options.lr,
            "optimiser": options.optimiser,
            "schedule": schedule,
            "clip": options.clip,
            "accumulate": options.accumulate,
            "ema": options.ema,
            "precision": precision,
            "seed": loader.seed,
        },
    }


def _fingerprint(record: dict[str, Any], trial: Any) -> str:
    """A digest of the settings and of the first batch: other data are found by it."""
    from recon.checkpoint import feed

    digest = hashlib.sha256(json.dumps(plain(record), sort_keys=True).encode())
    feed(digest, [tensor for tensor in (trial.target, trial.data) if tensor is not None and trial.op is None])
    return digest.hexdigest()


def _prior(
    loop: FitLoop,
    goal: Objective,
    channels: ImageChannels,
    bounds: tuple[float, float],
    unit: str,
    op: LinearOperator | None,
    record: dict[str, Any],
    about: dict[str, Any] | None,
) -> LearnedPrior:
    """The trained network with its card."""
    network = loop.setting.network
    best = next((row for row in loop.history if row["epoch"] == loop.best_epoch), None)
    last = loop.history[-1] if loop.history else {}
    training = {**record["training"], "epochs": loop.epoch, "stopped by": loop.stopped or "all epochs done"}
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
        network.cpu() if network is not None else network,
        image_range=bounds,
        unit=unit,
        complex_as=channels.complex_as,
        sigma_range=levels,
        end_to_end=goal.end_to_end,
        operator=trained if goal.end_to_end else None,
        card=card,
    )
