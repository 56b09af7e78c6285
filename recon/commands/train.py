"""`recon train`: train a network on images, or on problem files, and keep it as a model with its card."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.commands.existing import check_folder
from recon.commands.options import Force, Seed, read_range
from recon.terminal import AsJson, add_row, console, new_table, print_json

if TYPE_CHECKING:
    from recon.learned import LearnedPrior
    from recon.training.objective import Objective


def train_command(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="Such as unet:channels=32 (recon list networks).")
    ],
    data: Annotated[
        str,
        typer.Option(metavar="DATA", help="Folder or file of images or problems, or the name of a data set."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="The model's folder; a stopped training goes on."
        ),
    ],
    targets: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The true images of --data, in files of the same names; for --objective cyclegan the images of the "
            "other kind, in files of any names.",
        ),
    ] = None,
    op: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="Operator that data are simulated with; of CT, HU become 1/mm."),
    ] = None,
    objective: Annotated[
        str, typer.Option(metavar="SPEC", help="What is minimised (recon list objectives).")
    ] = "supervised",
    loss: Annotated[
        str | None, typer.Option(metavar="LOSS", help="Such as l1, 'mse + 0.1*(1-ssim)' or vgg:weights=FILE.")
    ] = None,
    noise: Annotated[
        str | None, typer.Option(metavar="SPEC", help="Noise of simulated data, such as poisson:photons=1e4.")
    ] = None,
    validation: Annotated[
        str, typer.Option(metavar="PART|DATA", help="Part of the patients held out, or data of their own.")
    ] = "0.1",
    validation_targets: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="The true images of --validation, where that is a folder of inputs."
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, metavar="N", help="How often all images are seen.")] = 50,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Images of a batch.")] = 8,
    lr: Annotated[float | None, typer.Option(metavar="RATE", help="Learning rate.")] = None,
    optimiser: Annotated[
        str | None, typer.Option(metavar="SPEC", help="adam, adamw, sgd or rmsprop, with arguments.")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="constant, cosine, linear, exponential, step or onecycle."),
    ] = None,
    patch: Annotated[
        int | None, typer.Option(min=1, metavar="PX", help="Side of random patches; whole images without it.")
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Of flip, turns, rotate, translate, scale, negate; with commas."),
    ] = None,
    image_range: Annotated[
        Any,
        typer.Option(
            parser=read_range, metavar="LOW,HIGH", help="Range of the images' values; measured unless given."
        ),
    ] = None,
    clip: Annotated[float | None, typer.Option(metavar="NORM", help="Largest norm of the gradient.")] = None,
    accumulate: Annotated[int, typer.Option(min=1, metavar="N", help="Batches that make one step.")] = 1,
    ema: Annotated[
        float | None, typer.Option(metavar="DECAY", help="Moving average of the weights, such as 0.999.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Epochs without progress that end the training.")
    ] = None,
    precision: Annotated[str, typer.Option(metavar="NAME", help="32, bf16 or fp16.")] = "32",
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda or auto.")] = "auto",
    devices: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many; torchrun's own number under torchrun.")
    ] = 1,
    workers: Annotated[int, typer.Option(min=0, metavar="N", help="Processes that read images.")] = 0,
    seed: Seed = 0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard's files too.")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Keep weights as float16.")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Begin again rather than go on.")] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a network and keep it as a model: weights, model card, log and checkpoints in a folder.

    A training that was stopped, or killed, goes on from its last checkpoint when the same command is given again; a
    finished one does with more --epochs.
    `recon solve --prior FOLDER/` uses the model.
    """
    with redirect_stdout(sys.stderr):
        check_folder(output, _is_ours, force=force)
        from recon.training.setup import made_objective, takes_attenuation
        from recon.training.train import train

        goal = made_objective(objective, loss)
        held = _validation(validation)
        shown, operator = _beside(data, targets, objective, goal, op)
        prior = train(
            network,
            data=shown,
            op=operator,
            objective=goal,
            noise=noise,
            unit="1/mm" if takes_attenuation(op) else "",
            validation=_held_out(held, validation_targets, op),
            image_range=image_range,
            augment=augment,
            patch=patch,
            epochs=epochs,
            batch=batch,
            lr=lr,
            optimiser=optimiser,
            schedule=schedule,
            clip=clip,
            accumulate=accumulate,
            ema=ema,
            patience=patience,
            precision=precision,
            device=device,
            devices=devices,
            workers=workers,
            seed=seed,
            tensorboard=tensorboard,
            half=half,
            output=output,
            resume=not anew,
        )
    if as_json:
        print_json(prior.card)
    else:
        _print(prior, output)


def _beside(
    data: str, targets: Path | None, objective: str, goal: Objective, op: str | None
) -> tuple[Any, Any]:
    """What is trained on, and the operator, made where the targets say its shape."""
    from recon.training.pairing import from_two_folders

    name = objective.partition(":")[0]
    if targets is None:
        if goal.unpaired:
            raise typer.BadParameter(
                f"{name} turns images of one kind into those of another: give these too",
                param_hint="--targets",
            )
        return data, op
    inputs_too = "input" in goal.needs or "data" in goal.needs
    if not ("target" in goal.needs and inputs_too):
        unseen = "its inputs" if "target" in goal.needs else "them"
        raise typer.BadParameter(
            f"{name} would not look at {unseen}: give what it learns from as --data alone",
            param_hint="--targets",
        )
    return from_two_folders(data, targets, unpaired=goal.unpaired, op=op)


def _held_out(held: float | str, targets: Path | None, op: str | None) -> Any:
    """The part that is held out, or data of their own."""
    from recon.training.pairing import from_two_folders

    if targets is None:
        return held
    if not isinstance(held, str):
        raise typer.BadParameter(
            "give their inputs too, --validation FOLDER", param_hint="--validation-targets"
        )
    return from_two_folders(held, targets, op=op)[0]


def _is_ours(folder: Path) -> bool:
    """Whether an earlier training wrote this folder."""
    return (folder / "card.json").is_file() or (folder / "checkpoints").is_dir()


def _validation(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _print(prior: LearnedPrior, output: Path) -> None:
    card: dict[str, Any] = prior.card
    table = new_table("", "")
    table.show_header = False
    add_row(table, "network", f"{card['architecture']['name']}, {card.get('parameters', 0)} parameters")
    add_row(table, "trained on", str(card["data"]["source"]))
    for name, value in card["metrics"].items():
        if name not in ("seconds", "lr"):
            add_row(table, name, f"{value:.4g}")
    add_row(table, "stopped by", str(card["training"]["stopped by"]))
    add_row(table, "written", str(output))
    console().print(table)
