"""Everything that a training is made of, from what a user gives: checked, found, made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision, Precision
from torch import nn

from recon import registry
from recon.channels import needs_operator
from recon.linear import LinearOperator
from recon.training.losses import as_loss
from recon.training.objective import Objective
from recon.training.sources import Images, Measurements, Pairs, Unpaired, as_source, split

WATER = 0.02  # 1/mm, at an effective energy of about 65 keV
PRECISIONS: dict[str, Literal["16-mixed", "bf16-mixed"] | None] = {
    "32": None,
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}


def check_numbers(**numbers: int) -> None:
    """Refuse anything but whole numbers from 1 on."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a whole number >= 1, got {number!r}")


def made_objective(objective: Any, loss: Any) -> Objective:
    """The objective; a loss given beside its name is its argument."""
    if isinstance(objective, str | tuple):
        extra: dict[str, Any] = {}
        if loss is not None:
            _check_takes_loss(objective)
            extra = {"loss": loss if isinstance(loss, str) else as_loss(loss)}
        objective = registry.make("objective", objective, **extra)
    elif loss is not None:
        raise TypeError("the objective is an object already: give the loss to it, and leave loss out")
    if not isinstance(objective, Objective):
        raise TypeError(f"the objective must be a recon.Objective or a name, got {type(objective).__name__}")
    return objective


def _check_takes_loss(objective: Any) -> None:
    name, _ = registry._read_spec("objective", objective)
    takes = [parameter.name for parameter in registry.find("objective", name).parameters()]
    if "loss" not in takes:
        remedy = f": write {name}:content=... into the objective" if "content" in takes else ""
        raise ValueError(f"objective {name!r} takes no loss=, its losses are its own{remedy}")


def learns_from_data(goal: Objective) -> bool:
    """Whether an objective trains on measured data and looks at no true image."""
    return "data" in goal.needs and "target" not in goal.needs


def source_and_operator(
    data: Any, op: Any, water: float | None, unit: str, goal: Objective
) -> tuple[Any, LinearOperator | None, float | None, str]:
    """Samples and operator; one that is named gets the images' shape and pixel size, and CT takes HU as 1/mm."""
    measured = learns_from_data(goal)
    if not isinstance(op, str | tuple):
        source = as_source(data, op=op, water=water, measured=measured)
        operator = getattr(source, "operator", None) if op is None else op
        return source, operator, water, unit
    is_ct = takes_attenuation(op)
    water = WATER if water is None and is_ct else water
    name, given = registry._read_spec("operator", op)
    declared = {parameter.name for parameter in registry.find("operator", name).parameters()}
    source = as_source(data, water=water, measured=measured)
    whole = measured and ("shape" in given or "shape" not in declared)  # it can tell data from images
    if isinstance(source, Pairs | Measurements) or whole:
        operator = registry.make("operator", op)
        source = as_source(data, op=operator, water=water, measured=measured)
        return source, operator, water, unit or ("1/mm" if is_ct and whole else "")
    return source, named_operator(op, source), water, unit or ("1/mm" if is_ct else "")


def takes_attenuation(op: Any) -> bool:
    """Whether this names an operator of CT, for which images in HU become 1/mm."""
    if not isinstance(op, str | tuple):
        return False
    return "ct" in registry.find("operator", registry._read_spec("operator", op)[0]).entry.tags


def named_operator(op: Any, source: Any) -> LinearOperator:
    """The operator of that name; what it leaves open of shape and pixel size is that of the source's images.

    Raises:
        ValueError: images with pixels of several sizes.
    """
    name, given = registry._read_spec("operator", op)
    found = registry.find("operator", name)
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
    made: LinearOperator = registry.make("operator", (name, arguments))
    return made


def made_network(network: Any, two_channels: bool) -> nn.Module:
    """The network; one made by name gets two channels for complex images unless the name says otherwise."""
    if isinstance(network, nn.Module):
        return network
    if isinstance(network, str | tuple):
        extra: dict[str, Any] = {}
        if two_channels:
            name, given = registry._read_spec("network", network)
            takes = {parameter.name for parameter in registry.find("network", name).parameters()}
            doubled = {"in_channels": 2, "complex_images": True}
            extra = {key: value for key, value in doubled.items() if key in takes and key not in given}
        network = registry.make("network", network, **extra)
    if not isinstance(network, nn.Module):
        raise TypeError(f"the network must be a torch.nn.Module or a name, got {type(network).__name__}")
    return network


def check_source(source: Any, goal: Objective, op: LinearOperator | None) -> None:
    """Refuse samples that the objective cannot train on."""
    name = type(goal).__name__
    if goal.unpaired != isinstance(source, Unpaired):
        wanted = (
            "unpaired images of two kinds: recon.training.Unpaired(inputs, targets), --targets in a terminal"
            if goal.unpaired
            else "pairs"
        )
        raise TypeError(f"{name} trains on {wanted}, got {source.description}")
    if not len(source):
        raise ValueError(f"{source.description}: nothing to train on")
    if isinstance(source, Measurements):
        if not learns_from_data(goal):
            raise TypeError(
                f"{name} needs true images, and {source.description} are none: of data alone learn "
                "objective='noise2inverse' (views) and 'ssdu' (k-space)"
            )
        if op is None:
            raise ValueError(f"{source.description} are data: give the operator that measured them, op=...")
    if "input" in goal.needs and isinstance(source, Images) and op is None:
        raise ValueError(
            f"{name} starts from degraded images, but there are true images alone: give op=... (and noise=...) to "
            "simulate data of them, or pairs (degraded, true), in a terminal with --targets FOLDER"
        )


def check_noise(noise: Any, source: Any, needs: tuple[str, ...], op: LinearOperator | None) -> None:
    """Refuse noise that no data would be given."""
    if noise is None:
        return
    if "input" not in needs and "data" not in needs:
        why = "this objective simulates none (the level of a denoiser's is its own argument): leave noise out"
    elif op is None:
        why = "there is no operator to simulate them with: give op=..., or leave noise out"
    elif isinstance(source, Measurements) or (isinstance(source, Pairs) and source.measured):
        why = f"those of {source.description} are measured and have their own: leave noise out"
    else:
        return
    raise ValueError(f"noise is that of simulated data, but {why}")


def check_monitor(monitor: str, held_out: Any, held: list[int]) -> None:
    """Refuse to watch what needs true images where held-out samples have none."""
    if monitor in ("psnr", "ssim") and held and held_out.sample(held[0]).target is None:
        raise ValueError(
            f"monitor={monitor!r} needs true images, and {held_out.description} have none to hold out: leave it out, "
            "or give validation data with true images"
        )


def check_whole(goal: Objective, patch: int | None) -> None:
    """Refuse patches, which have no data of their own, where an objective needs the data."""
    if patch is not None and "data" in goal.needs:
        raise ValueError(
            f"{type(goal).__name__} needs the data of whole images, so that patch={patch} would spoil it: leave patch "
            "out"
        )


def check_remembering(goal: Objective, processes: int, augment: Any, patch: int | None) -> None:
    """Refuse what would change the samples that an objective remembers, or hide some of them."""
    if not goal.remembers:
        return
    name = type(goal).__name__
    if processes > 1:
        raise ValueError(
            f"{name} remembers every sample, of which each of {processes} processes would see a part: train in one "
            "process (devices=1)"
        )
    for label, value in (("augment", augment), ("patch", patch)):
        if value:
            raise ValueError(
                f"{name} remembers every sample, whole and as it was, so that {label}={value!r} would spoil it: leave "
                f"{label} out"
            )


def needs_of(goal: Objective, network: nn.Module) -> tuple[str, ...]:
    """What batches must hold."""
    return tuple({*goal.needs, *(("data",) if needs_operator(network) else ())})


def validation_of(
    source: Any, validation: Any, seed: int, goal: Objective, op: LinearOperator | None, water: float | None
) -> tuple[Any, list[int], list[int]]:
    """What is validated on, places to train on, places to validate on."""
    if isinstance(validation, int | float) and not isinstance(validation, bool):
        if goal.unpaired:  # an unpaired target is no truth to measure against
            return None, list(range(len(source))), []
        places, held = split(source, float(validation), seed)
        return source, places, held
    other = as_source(validation, op=op, label="validation", water=water, measured=learns_from_data(goal))
    if isinstance(other, Measurements) and not learns_from_data(goal):
        raise TypeError(f"{other.description} have no true images to validate {type(goal).__name__} on")
    return other, list(range(len(source))), list(range(len(other)))


def checked_range(bounds: Any, complex_images: bool) -> tuple[float, float]:
    """The range of the images, as given."""
    low, high = (float(bound) for bound in bounds)
    if not (-float("inf") < low < high < float("inf")):
        raise ValueError(f"image_range must be (low, high) with low < high, got {bounds}")
    if complex_images and low != 0:
        raise ValueError(f"of complex images image_range is that of the magnitude, (0, high), got {bounds}")
    return low, high


def launched_fabric(device: str, devices: int | str, nodes: int, precision: str) -> Fabric:
    """Devices, processes and precision, launched."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if device.split(":")[0] not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu, cuda or such as cuda:1, got {device!r}")
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


def output_folder(output: str | Path | None, resume: bool, fabric: Fabric) -> Path | None:
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
