"""`train`: any network, any operator, any objective, one call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recon.channels import channels_of
from recon.learned import LearnedPrior
from recon.linear import LinearOperator
from recon.model_files import save_model
from recon.simulate import as_noise
from recon.solving import Named
from recon.training.continuing import identity_of
from recon.training.fit import FitLoop, Options
from recon.training.loader import Loader, has_complex_images, measured_range, shape_of
from recon.training.objective import Objective, Setting
from recon.training.record import prior_of, record_of
from recon.training.setup import (
    check_monitor,
    check_noise,
    check_numbers,
    check_remembering,
    check_source,
    check_whole,
    checked_range,
    launched_fabric,
    made_network,
    made_objective,
    needs_of,
    output_folder,
    source_and_operator,
    validation_of,
)
from recon.training.transforms import as_augmentation
from recon.training.validation import Validation


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
    was killed goes on from its last checkpoint as if nothing had happened, and a finished one with more `epochs` from
    its last state. Several processes (``torchrun
    --nproc-per-node 2 script.py``) share each batch and average their gradients.

    Args:
        network: an object, or a name such as ``"unet"`` or ``"unet:channels=64"`` (`recon list networks`).
        data: images, pairs, a data set or its name, a file or a folder, `recon.training.sources.Unpaired`, or, for
            objectives that need no true images, measured data (`recon.training.sources.Measurements`); see
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
        epochs: how often all images are seen. May be raised when a training goes on: schedules that depend on it
            (cosine, linear, exponential, onecycle, any with a warmup) then go on from where they stand in the new
            number, so that the learning rate may rise again; with ``"constant"`` and ``"step"`` the result is that of
            a training that had so many from the start. The card says so.
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
            weights; ``"auto"`` is the objective's where there is a validation: ``"psnr"``, or ``"held_out"``, the
            loss on held-out data, of objectives that look at no true image.
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
        recon.checkpoint.CheckpointError: `output` holds a damaged checkpoint, or one of another training; the message
            names what differs.
        recon.training.fit.TrainingError: the loss became infinite or NaN.
    """
    check_numbers(
        epochs=epochs, batch=batch, accumulate=accumulate, patches=patches, validate_every=validate_every
    )
    goal = made_objective(objective, loss)
    source, operator, water, unit = source_and_operator(data, op, water, unit, goal)
    check_source(source, goal, operator)
    check_whole(goal, patch)
    held_out, places, held = validation_of(source, validation, seed, goal, operator, water)
    check_monitor(monitor, held_out, held)
    complex_images = has_complex_images(source.sample(places[0]), operator)
    options = Options(
        epochs, lr, optimiser, schedule, clip, accumulate, ema, patience, monitor, checkpoint_seconds,
        validate_every, progress, tensorboard, callback,
    )  # fmt: skip
    fabric = launched_fabric(device, devices, nodes, precision)
    check_remembering(goal, fabric.world_size, augment, patch)
    if batch % fabric.world_size:
        raise ValueError(f"batch={batch} cannot be shared by {fabric.world_size} processes equally")
    goal.check(epochs=epochs, processes=fabric.world_size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = made_network(network, complex_images and complex_as in ("auto", "channels")).to(fabric.device)
        check_noise(noise, source, needs_of(goal, made), operator)
        operator = None if operator is None else operator.to(fabric.device)
        given = None if image_range is None else checked_range(image_range, complex_images)
        shared: dict[str, Any] = {
            "batch_size": batch,
            "image_range": measured_range(source, places, operator, pinv) if given is None else given,
            "range_given": given is not None,
            "op": operator,
            "noise": None if noise is None else as_noise(noise),
            "pinv": dict(pinv or {}),
            "patch": patch,
            "device": fabric.device,
            "needs": needs_of(goal, made),
            "workers": workers,
            "seed": seed,
        }
        alone = len(held) < fabric.world_size  # fewer images than processes: each measures all
        share: dict[str, Any] = {"rank": fabric.global_rank, "ranks": fabric.world_size}
        checks = (
            Validation(Loader(held_out, held, fixed=True, **({} if alone else share), **shared))
            if held
            else None
        )
        shared |= {"augmentation": as_augmentation(augment), "independent": independent, "patches": patches}
        shared |= {"steady": goal.remembers}
        loader = Loader(source, places, **share, **shared)
        trial = next(loader.epoch(0))
        channels, shape = channels_of(made, complex_as), shape_of(trial)
        setting = Setting(
            made, channels, shape, complex_images, operator, seed, fabric.autocast, dict(pinv or {})
        )
        goal.prepare(setting)
        for module in goal.modules().values():
            module.to(fabric.device)
        record = record_of(setting, goal, source, len(held), loader, options, precision)
        folder = output_folder(output, resume, fabric)
        # that of the first process: each measures the range of the images on a device of its own
        identity = fabric.broadcast(identity_of(record, map(source.sample, places[:batch])), src=0)
        loop = FitLoop(fabric, goal, setting, loader, checks, options, folder, identity)
        loop.run()
    prior = prior_of(loop, goal, unit, record, about)
    if folder is not None and fabric.is_global_zero:
        save_model(prior, folder, half=half)
    fabric.barrier()
    return prior
