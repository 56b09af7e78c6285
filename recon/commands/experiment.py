"""`recon experiment`: the tables of a publication, computed here and shown beside the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from recon.terminal import AsJson, add_row, console, new_table, print_json


def experiment_command(
    name: Annotated[
        Literal["seed5", "ellipses"],
        typer.Argument(
            metavar="NAME",
            help="seed5: splitting of deep-learning regularisation from inversion (Liu, Kuang and Zhang 2018); "
            "ellipses: networks trained on the Ellipses benchmark.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where cells and tables are kept.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="seed5: images, one a file; the last ones are the test images, the others are trained on. "
            "Without it, pieces of the MR slices that ship: enough to see it run, too little to learn much.",
        ),
    ] = None,
    test: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="seed5: a further test image, scored apart. May be repeated."),
    ] = None,
    size: Annotated[
        Literal["small", "full"],
        typer.Option(help="small: minutes a network on a CPU; full: as published, for a GPU."),
    ] = "small",
    row: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="seed5: rows that contain this, as radial-noise0. May be repeated."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Of zero_filled, tv, admm_net, scae, snlae, gan; of dival_unet, learned_gradient, "
            "learned_primal_dual. May be repeated; all without it.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of noise, weights and training.")] = 0,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, or auto.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Train and score what the folder does not hold yet: a stopped run goes on.

    seed5 writes table.md (beside the published table), table.json and convergence.png (PSNR after every outer loop).
    """
    if name == "ellipses":
        for option, value in {"--data": data, "--test": test, "--row": row}.items():
            if value:
                raise typer.BadParameter(f"{option} is not an option of the experiment ellipses")
        _ellipses(output, size, method, seed, device, as_json)
    else:
        _seed5(output, data, tuple(test or ()), size, row or [], method, seed, device, as_json)


def _ellipses(
    output: Path, size: str, method: list[str] | None, seed: int, device: str, as_json: bool
) -> None:
    from dataclasses import asdict

    from recon.experiments.ellipses_networks import PUBLISHED, SIZES, run

    _check_methods(method, list(PUBLISHED))
    rows = run(SIZES[size], output, tuple(method or PUBLISHED), seed=seed, device=device, report=_tell)
    if as_json:
        print_json(
            {"experiment": "ellipses", "size": asdict(SIZES[size]), "rows": [asdict(row) for row in rows]}
        )
        return
    table = new_table("network", "PSNR, dB", "published", "SSIM", "published ", "seconds")
    for row in rows:
        label, psnr, ssim = PUBLISHED[row.method]
        scores = (f"{row.psnr:.2f}", f"{psnr:.2f}", f"{row.ssim:.4f}", f"{ssim:.4f}", f"{row.seconds:.0f}")
        add_row(table, label, *scores)
    console().print(table)
    typer.echo(
        f"{SIZES[size].train} training images; the published figures are of 32000. Written to {output}."
    )


def _seed5(
    output: Path,
    data: Path | None,
    test: tuple[Path, ...],
    size: str,
    row: list[str],
    method: list[str] | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    from recon.experiments import seed5, seed5_report
    from recon.experiments.seed5_table import METHODS, ROWS

    rows = [one for one in ROWS if not row or any(part in one.key for part in row)]
    if not rows:
        raise typer.BadParameter(f"--row {' '.join(row)} is in none of {', '.join(one.key for one in ROWS)}")
    _check_methods(method, list(METHODS))
    sizes = seed5.SIZES[size]
    images = seed5.read_images(sizes, data, test)
    cells = seed5.run(
        images, sizes, output, rows, tuple(method or METHODS), seed=seed, device=device, report=_tell
    )
    summary = seed5_report.write(cells, images, size, output)
    if as_json:
        print_json(summary)
        return
    for group in summary["test"]:
        table = new_table("masks, noise, rate", "method", "PSNR, dB", "published", "SSIM", "published ")
        for line in group["rows"]:
            add_row(
                table,
                line["label"],
                line["method"],
                f"{line['psnr']:.2f}",
                f"{line['published_psnr']:.2f}",
                f"{line['ssim']:.3f}",
                f"{line['published_ssim']:.2f}",
            )
        typer.echo(f"Tested on: {group['name']}")
        console().print(table)
    typer.echo(f"{summary['note']} Written to {output}.")


def _check_methods(method: list[str] | None, known: list[str]) -> None:
    for one in method or []:
        if one not in known:
            raise typer.BadParameter(f"--method {one} is none of {', '.join(known)}")


def _tell(text: str) -> None:
    typer.echo(text, err=True)
