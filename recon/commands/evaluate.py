"""`recon evaluate`: compare images with the truth, every number with its convention."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.commands.existing import check_file
from recon.commands.images import (
    WATER,
    ReadImage,
    read_image,
    reference_of_solution,
    reference_of_solutions,
)
from recon.commands.scores import metrics_for, read_metrics, score_as_dict, score_row
from recon.terminal import AsJson, add_row, console, new_table, print_json

if TYPE_CHECKING:
    from recon.metrics import Metric, Score


def evaluate_command(
    result: Annotated[
        list[str],
        typer.Argument(
            metavar="RESULT...",
            help="Folders or .h5 of `recon solve`, or any images that recon.load reads; several are compared.",
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
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write an HTML page with all images under a divider."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Let the report replace a file that is no report.")
    ] = False,
    shift: Annotated[
        bool,
        typer.Option(
            "--shift",
            help="RESULT is a trained model: measure it as it was trained and under each --op, --noise and --image, "
            "beside each --prior.",
        ),
    ] = False,
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="With --shift: a true image, of other anatomy perhaps. May be repeated."
        ),
    ] = None,
    op: Annotated[
        list[str] | None,
        typer.Option(metavar="SPEC", help="With --shift: another operator, such as other masks or views."),
    ] = None,
    noise: Annotated[
        list[str] | None, typer.Option(metavar="SPEC|none", help="With --shift: another noise.")
    ] = None,
    prior: Annotated[
        list[str] | None,
        typer.Option(metavar="SPEC", help="With --shift: what to compare with, such as dip; tv without it."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="With --shift: write the table and a plot there."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score images against the truth, conventions attached.

    Without --metrics: PSNR, SSIM, NMSE and RMSE, the last in HU for attenuation in 1/mm. Several results
    make one table, a row each. With --shift, how a trained model fares away from its training.
    """
    if shift:
        from recon.commands.shift import shift_command

        if len(result) > 1:
            raise typer.BadParameter(f"--shift measures one model, got {', '.join(result)}")
        shift_command(result[0], image or [], op or [], noise or [], prior or [], output, as_json)
        return
    for option, value in {
        "--image": image,
        "--op": op,
        "--noise": noise,
        "--prior": prior,
        "--output": output,
    }.items():
        if value:
            raise typer.BadParameter(f"{option} belongs to --shift")
    with redirect_stdout(sys.stderr):
        from recon.metrics import as_metric

        chosen = None if metrics is None else [as_metric(metric) for metric in read_metrics(metrics)]
        names = _names(result)
        if report is not None:
            inputs = tuple(Path(name) for name in [*result, *([reference] if reference else [])])
            check_file(report, _is_report, force=force, inputs=inputs)
        images = [read_image(name, reader) for name in result]
        if reference is not None:
            truth = read_image(reference, reference_reader)
        elif len(images) == 1:
            truth = reference_of_solution(images[0])
        else:
            truth = reference_of_solutions(images)
        *images, truth = in_one_unit([*images, truth], water)
        first = images[0]
        item = first.data.shape[first.data.ndim - first.item_ndim :]
        if chosen is None:
            chosen = list(metrics_for(item, first.unit, first.water if water is None else water))
        scores = {name: _scores(image, truth, chosen) for name, image in zip(names, images, strict=True)}
        if report is not None:
            _write(report, dict(zip(names, images, strict=True)), truth, chosen, reference)
    written = {} if report is None else {"report": str(report)}
    if as_json:
        print_json(_as_dict(names, images, truth, scores) | written)
        return
    if len(images) == 1:
        _print_one(first, truth, scores[names[0]])
    else:
        _print_several(first, truth, scores)
    if report is not None:
        typer.echo(f"written: {report}")


def in_one_unit(images: Sequence[ReadImage], water: float | None) -> list[ReadImage]:
    """Images and their truth in the same unit.

    HU become attenuation if another is attenuation; an unknown unit is taken to be that of the others, but
    not if that is HU.

    Args:
        images: what is scored, and what it is scored against.
        water: attenuation of water [1/mm]; None takes the one that the attenuation was made with.

    Raises:
        ValueError: two units that are not converted, or an unknown unit beside HU.
    """
    with_unit = {image.unit: image for image in images}  # the last of each unit speaks for it
    if "HU" in with_unit and "" in with_unit:
        raise ValueError(
            f"{with_unit[''].source} does not say its unit, the other is in HU: save it with its unit, or "
            "convert the other first"
        )
    if "HU" in with_unit and "1/mm" in with_unit:
        level = water or next((i.water for i in images if i.unit == "1/mm" and i.water), WATER)
        images = [image.as_attenuation(level) if image.unit == "HU" else image for image in images]
    known = {image.unit: image for image in images if image.unit}
    if len(known) > 1:
        one, other = [*known.values()][:2]
        raise ValueError(
            f"{one.source} is in {one.unit}, {other.source} in {other.unit}: convert one of them first"
        )
    unit = next(iter(known), "")
    return [dataclasses.replace(image, unit=unit) for image in images]


def _names(results: Sequence[str]) -> list[str]:
    """What the results are called: by their folder or file, or as they were typed where that is ambiguous.

    Raises:
        typer.BadParameter: one result twice.
    """
    twice = sorted({name for name in results if results.count(name) > 1})
    if twice:
        raise typer.BadParameter(f"{twice[0]} is given twice", param_hint="RESULT")
    short = []
    for name in results:
        path = Path(name)
        if path.name == "solution.h5" and path.parent.name:
            path = path.parent
        short.append(path.name if path.is_dir() else path.stem)
    return [
        name if short.count(own) > 1 or not own else own for name, own in zip(results, short, strict=True)
    ]


def _scores(image: ReadImage, truth: ReadImage, metrics: Sequence[Metric]) -> list[Score]:
    try:
        return [metric.score(image.data, truth.data, item_ndim=image.item_ndim) for metric in metrics]
    except ValueError as error:
        raise ValueError(f"{image.source} against {truth.source}: {error}") from None


def _write(
    path: Path,
    images: Mapping[str, ReadImage],
    truth: ReadImage,
    metrics: Sequence[Metric],
    reference: str | None,
) -> None:
    from recon.report import comparison_report

    results = {
        name: image.data if image.solution is None else dataclasses.replace(image.solution, image=image.data)
        for name, image in images.items()
    }
    problem = next((image.problem["file"] for image in images.values() if image.problem), "")
    against = reference or f"the reference in {Path(problem).name}"  # no folder that nobody typed
    unit = f" Values are in {truth.unit}." if truth.unit else ""
    comparison_report(
        results,
        path,
        truth.data,
        item_ndim=max(image.item_ndim for image in images.values()),
        metrics=metrics,
        unit=truth.unit,
        title=" and ".join(images) if len(images) < 3 else "Comparison of reconstructions",
        summary=f"Compared with {against}.{unit}",
    )


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        return b'<meta name="generator" content="recon">' in file.read(500)


def _as_dict(
    names: Sequence[str], images: Sequence[ReadImage], truth: ReadImage, scores: Mapping[str, Sequence[Score]]
) -> dict[str, Any]:
    """One result as it is, several in a list."""
    shared = {"reference": truth.source, "unit": truth.unit}
    results = [
        {
            "result": image.source,
            "image_shape": list(image.data.shape),
            "scores": [score_as_dict(score) for score in scores[name]],
        }
        for name, image in zip(names, images, strict=True)
    ]
    if len(results) == 1:
        return shared | results[0]
    return shared | {"results": [{"name": name, **row} for name, row in zip(names, results, strict=True)]}


def _print_one(image: ReadImage, truth: ReadImage, scores: Sequence[Score]) -> None:
    table = new_table("metric", "value", "convention")
    for score in scores:
        add_row(table, *score_row(score, image.unit))
    typer.echo(f"{image.source} against {truth.source}" + (f", in {image.unit}" if image.unit else ""))
    console().print(table)


def _print_several(image: ReadImage, truth: ReadImage, scores: Mapping[str, Sequence[Score]]) -> None:
    """One table, a row a result, the best values marked; below it the conventions."""
    from recon.report.methods import comparison_table

    compared = comparison_table(scores, image.unit)
    table = new_table(*compared.columns)
    for line, row in enumerate(compared.rows):
        cells = (f"{cell} *" if (line, column) in compared.best else cell for column, cell in enumerate(row))
        add_row(table, *cells)
    typer.echo(f"{compared.caption}: {truth.source}" + (f", in {image.unit}" if image.unit else ""))
    console().print(table)
    for note in [*compared.notes, *(["* the best value"] if compared.best else [])]:
        typer.echo(note)
