"""`recon evaluate --shift`: a trained model away from its training."""

from __future__ import annotations

from pathlib import Path

import typer

from recon.terminal import add_row, console, new_table, print_json


def shift_command(
    model: str,
    images: list[str],
    operators: list[str],
    noises: list[str],
    priors: list[str],
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure, write and print."""
    from recon.experiments.shift import measure_shift, summary_of, write_shift

    if not images:
        raise typer.BadParameter("--shift needs --image FILE: true images to measure on")
    from recon.commands.images import WATER, read_image

    read = {}
    for name in images:
        image = read_image(name, None)
        image = image.as_attenuation(WATER) if image.unit == "HU" else image
        read[Path(name).stem] = image.data.squeeze()
    found = measure_shift(
        model, read, operators, noises, priors or ["tv"], report=lambda text: typer.echo(text, err=True)
    )
    if output is not None:
        write_shift(found, output)
    if as_json:
        print_json(summary_of(found))
        return
    table = new_table("condition", *(f"{name}, dB" for name in found.methods()))
    for condition in found.conditions():
        scores = found.scores(condition)
        trained = " (as trained)" if condition.trained else ""
        add_row(table, condition.label + trained, *(f"{scores[name]:.2f}" for name in found.methods()))
    console().print(table)
    gain = found.gains()
    if gain:
        typer.echo(
            f"the model beside the best other method: {gain['mean']:+.2f} dB on average, {gain['least']:+.2f} dB where "
            "it does worst"
        )
