"""`recon evaluate`: compare an image with the truth, every number with its convention."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Annotated

import typer

from recon.commands.images import WATER, ReadImage, read_image, reference_of_solution
from recon.commands.scores import metrics_for, read_metrics, score_as_dict, score_row
from recon.terminal import AsJson, add_row, console, new_table, print_json


def evaluate_command(
    result: Annotated[
        str,
        typer.Argument(
            metavar="RESULT", help="Folder or .h5 of `recon solve`, or any image that recon.load reads."
        ),
    ],
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The true image: any image, or a problem that holds it; a solution knows its own.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="SPECS", help="Such as psnr,ssim:data_range=1.0 (recon list metrics)."),
    ] = None,
    water: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            metavar="MU",
            help=f"Attenuation of water [1/mm] between HU and 1/mm; {WATER:g} unless known.",
        ),
    ] = None,
    reader: Annotated[
        str | None, typer.Option(metavar="SPEC", help="Reader of RESULT, such as matlab:variable=image.")
    ] = None,
    reference_reader: Annotated[
        str | None, typer.Option(metavar="SPEC", help="Reader of the reference, in the same form.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score an image against the truth, conventions attached.

    Without --metrics: PSNR, SSIM, NMSE and RMSE, the last in HU for attenuation in 1/mm.
    """
    with redirect_stdout(sys.stderr):
        from recon.metrics import as_metric

        chosen = None if metrics is None else [as_metric(metric) for metric in read_metrics(metrics)]
        image = read_image(result, reader)
        truth = reference_of_solution(image) if reference is None else read_image(reference, reference_reader)
        image, truth = in_one_unit(image, truth, water)
        item = image.data.shape[image.data.ndim - image.item_ndim :]
        if chosen is None:
            chosen = list(metrics_for(item, image.unit, image.water if water is None else water))
        scores = [metric.score(image.data, truth.data, item_ndim=image.item_ndim) for metric in chosen]
    if as_json:
        print_json(
            {
                "result": image.source,
                "reference": truth.source,
                "unit": image.unit,
                "image_shape": list(image.data.shape),
                "scores": [score_as_dict(score) for score in scores],
            }
        )
        return
    table = new_table("metric", "value", "convention")
    for score in scores:
        add_row(table, *score_row(score, image.unit))
    typer.echo(f"{image.source} against {truth.source}" + (f", in {image.unit}" if image.unit else ""))
    console().print(table)


def in_one_unit(image: ReadImage, truth: ReadImage, water: float | None) -> tuple[ReadImage, ReadImage]:
    """Both images in the same unit.

    HU become attenuation if the other is attenuation; an unknown unit is taken to be that of the other, but
    not if that is HU.

    Args:
        image: what is scored.
        truth: what it is scored against.
        water: attenuation of water [1/mm]; None takes the one that the attenuation was made with.

    Raises:
        ValueError: two units that are not converted, or one unit of two.
    """
    units = {image.unit, truth.unit}
    if units == {"HU", "1/mm"}:
        attenuation, other = (image, truth) if image.unit == "1/mm" else (truth, image)
        level = water or attenuation.water or WATER
        converted = other.as_attenuation(level)
        return (image, converted) if other is truth else (converted, truth)
    if len(units) > 1 and "" not in units:
        raise ValueError(
            f"{image.source} is in {image.unit}, {truth.source} in {truth.unit}: convert one of them first"
        )
    if "HU" in units and "" in units:
        unknown = image if image.unit == "" else truth
        raise ValueError(
            f"{unknown.source} does not say its unit, the other is in HU: save it with its unit, or convert "
            "the other first"
        )
    unit = image.unit or truth.unit
    return replace(image, unit=unit), replace(truth, unit=unit)
