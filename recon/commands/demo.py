"""`recon demo`: four reconstructions of real data, as a table, pictures and one HTML report."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import typer

from recon.commands.existing import check_folder
from recon.commands.options import Force, Output
from recon.terminal import AsJson, add_row, console, new_table, print_json


def demo_command(
    output: Output = Path("demo-out"),
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Reconstruct real CT and MRI data and photographs.

    With data that ship with the package: CT from 60 noisy views, MRI from a quarter of the k-space,
    inpainting and super-resolution, each solved directly and with total variation, in about a minute. Writes
    pictures, results.json and report.html.
    """
    check_folder(output, _holds_demo, force=force)
    with redirect_stdout(sys.stderr):
        from recon import demo

        cases = demo.run(output, tell=lambda line: typer.echo(line, err=True))
    if as_json:
        record = json.loads((output / demo.RECORD).read_text("utf-8"))
        print_json({**record, "written": str(output)})
        return
    table = new_table(*demo.COLUMNS)
    for name in demo.COLUMNS[2:]:
        table.columns[demo.COLUMNS.index(name)].justify = "right"
    for row in demo.rows(cases):
        add_row(table, *row)
    console().print(table)
    for line in demo.conventions(cases):
        typer.echo(line)
    typer.echo(
        f"\nwritten: {output / 'report.html'} and the pictures {', '.join(f'{case.name}.png' for case in cases)}"
    )


def _holds_demo(folder: Path) -> bool:
    from recon.demo import FORMAT, RECORD

    try:
        return json.loads((folder / RECORD).read_text("utf-8")).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        return False
