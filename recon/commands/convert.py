"""`recon convert`: write an image in another format, with what is known of it."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.commands.existing import SOLUTION, check_file, kind_of
from recon.commands.images import load_file
from recon.parameters import parse_spec
from recon.terminal import AsJson, add_row, console, new_table, print_json

if TYPE_CHECKING:
    from recon.loading import Loaded
    from recon.solution import Solution


def convert_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A solution of `recon solve`, any file or folder of slices that recon.load reads, or a sample.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="What to write; its ending chooses the format (recon list writers)."
        ),
    ],
    like: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Image on the same grid, whose pixel size and place are taken over."
        ),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(metavar="UNIT", help="Unit of the values, such as HU; the source's unless given."),
    ] = None,
    reader: Annotated[
        str | None, typer.Option(metavar="SPEC", help="Reader of SOURCE, such as hdf5:dataset=image.")
    ] = None,
    writer: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help='Writer and its options, such as "png:window=(0,0.03)" or dicom.'),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write an image in another format: NumPy, PNG, TIFF, NIfTI or DICOM.

    A volume becomes a folder of DICOM slices with --writer dicom and a FILE without an ending.
    """
    with redirect_stdout(sys.stderr):
        from recon.saving import save

        inputs = tuple(Path(name) for name in (source, like) if name is not None)
        if not output.is_dir():
            check_file(output, lambda _: False, force=force, inputs=inputs)
        name, given = parse_spec(writer) if writer is not None else (None, {})
        options: dict[str, Any] = dict(given)
        image = _read(source, reader)
        grid = None if like is None else load_file(like, None)
        written = save(output, image, like=grid, unit=unit, writer=name, **options)
    if as_json:
        print_json({"source": source, "written": str(written)})
        return
    table = new_table("", "")
    table.show_header = False
    add_row(table, "image", repr(image))
    add_row(table, "written", str(written))
    console().print(table)


def _read(source: str, reader: str | None) -> Solution | Loaded:
    from recon.solution import Solution

    place = Path(source)
    if reader is None and (kind_of(place) == SOLUTION or kind_of(place / "solution.h5") == SOLUTION):
        return Solution.load(place)
    return load_file(source, reader)
