"""`recon slabs`: reconstruct a volume larger than memory, slab after slab."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.commands.existing import PROBLEM, SOLUTION, check_file, kind_of
from recon.commands.options import (
    Device,
    Fidelity,
    ForceFile,
    ImageRange,
    Iterations,
    Memory,
    NoiseLevel,
    Prior,
    Seed,
    Solver,
    Tolerance,
    Weight,
    given,
)
from recon.terminal import AsJson, add_row, console, new_table, print_json

if TYPE_CHECKING:
    from recon.slabs import Slab
    from recon.solution import Solution


def slabs_command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="The slices: a problem file, or with --op a .npy file or an HDF5 dataset (slices, ...) of data.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE.h5", help="The solution file to write.")
    ],
    op: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC", help="Operator of one slice, such as 'ct_parallel:shape=(512,512),angles=60'."
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="The dataset of an HDF5 file that holds the data.")
    ] = None,
    slab: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Slices at once; as many as fit unless given.")
    ] = None,
    memory: Memory = None,
    prior: Prior = None,
    solver: Solver = "auto",
    weight: Weight = None,
    iterations: Iterations = None,
    tolerance: Tolerance = None,
    fidelity: Fidelity = None,
    noise_level: NoiseLevel = None,
    image_range: ImageRange = None,
    device: Device = None,
    seed: Seed = 0,
    force: ForceFile = False,
    as_json: AsJson = False,
) -> None:
    """Reconstruct a volume larger than memory, slab after slab.

    For operators that act on a slice. Finished slabs are kept beside the output until all are done: run again, the
    command goes on where it stopped.
    """
    with redirect_stdout(sys.stderr):
        from recon.scans import made_prior
        from recon.slabs import solve_slabs

        check_file(output, lambda path: kind_of(path) == SOLUTION, force=force, inputs=(file,))
        if op is None and kind_of(file) != PROBLEM:
            raise typer.BadParameter(
                f"{file} is no problem file: say which operator measured it", param_hint="--op"
            )
        written = solve_slabs(
            file if op is None else op,
            made_prior(prior),
            None if op is None else file,
            output=output,
            dataset=dataset,
            slab=slab,
            memory=memory,
            fidelity=fidelity,
            noise_level=noise_level,
            limits=given(iterations=iterations, tolerance=tolerance),
            tell=_tell,
            solver=solver,
            weight=weight,
            image_range=image_range,
            device=device,
            seed=seed,
        )
    facts = _facts(written)
    if as_json:
        print_json({**facts, "written": str(written)})
        return
    table = new_table("", "")
    table.show_header = False
    for name, value in {**facts, "written": written}.items():
        add_row(table, name, str(value))
    console().print(table)


def _tell(slab: Slab, count: int, solution: Solution | None) -> None:
    said = "there before" if solution is None else f"{solution.reason}, {solution.seconds:.2f} s"
    typer.echo(f"slices {slab.first} to {slab.end - 1} of {count}: {said}", err=True)


def _facts(path: Path) -> dict[str, Any]:
    """What is worth saying about a solution file, without its image."""
    from recon.archive import read_record
    from recon.memory import in_words
    from recon.solution import FORMAT

    record = read_record(path, FORMAT)
    return {
        "slices": len(record["reasons"]),
        "slabs": record["provenance"]["slabs"],
        "iterations": record["iterations"],
        "seconds": round(record["seconds"], 3),
        "stopped by": record["reason"],
        "converged": record["converged"],
        "memory": in_words(record["peak_memory"]) if record["peak_memory"] else "unknown",
    }
