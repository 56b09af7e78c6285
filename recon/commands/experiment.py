"""`recon experiment`: the tables of a publication, computed here and shown beside the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from recon.terminal import AsJson, add_row, console, new_table, print_json


def experiment_command(
    name: Annotated[
        Literal["seed5"],
        typer.Argument(
            help="seed5: splitting of deep-learning regularisation from inversion (Liu, Kuang and Zhang 2018)."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where cells and tables are kept.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Training images, one a file; the last ones are the test images unless --test names others. Without "
            "it, pieces of the MR slices that ship: enough to see it run, too little to learn much.",
        ),
    ] = None,
    test: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Test image. May be repeated.")
    ] = None,
    size: Annotated[
        Literal["small", "full"],
        typer.Option(help="small: minutes on a CPU; full: as published, for a GPU."),
    ] = "small",
    row: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Rows that contain this, such as radial-noise0. May be repeated."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Of zero_filled, tv, admm_net, scae, snlae, gan. May be repeated; all without it.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of noise, weights and training.")] = 0,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, or auto.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Compute the cells that the folder does not hold yet, and write the tables: a stopped run goes on.

    The folder gets table.md (beside the published table), table.json and convergence.png (PSNR after every outer
    loop).
    """
    from recon.experiments import seed5, seed5_report
    from recon.experiments.seed5_table import METHODS, ROWS

    rows = [one for one in ROWS if not row or any(part in one.key for part in row)]
    if not rows:
        raise typer.BadParameter(
            f"--row {' '.join(row or [])} is in none of {', '.join(one.key for one in ROWS)}"
        )
    unknown = [one for one in method or [] if one not in METHODS]
    if unknown:
        raise typer.BadParameter(f"--method {unknown[0]} is none of {', '.join(METHODS)}")
    if test and data is None:
        raise typer.BadParameter("--test needs --data: the images to train on")
    sizes = seed5.SIZES[size]
    images = seed5.read_images(sizes, data, tuple(test or ()))
    cells = seed5.run(
        images,
        sizes,
        out,
        rows,
        tuple(method or METHODS),
        seed=seed,
        device=device,
        report=lambda text: typer.echo(text, err=True),
    )
    summary = seed5_report.write(cells, images, size, out)
    if as_json:
        print_json(summary)
        return
    table = new_table("masks, noise, rate", "method", "PSNR, dB", "published", "SSIM", "published ")
    for line in summary["rows"]:
        add_row(
            table,
            line["label"],
            line["method"],
            f"{line['psnr']:.2f}",
            f"{line['published_psnr']:.2f}",
            f"{line['ssim']:.3f}",
            f"{line['published_ssim']:.2f}",
        )
    console().print(table)
    typer.echo(f"{summary['note']} Written to {out}.")
