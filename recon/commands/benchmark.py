"""`recon benchmark`: a published benchmark, run here and shown beside the published figures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from recon.terminal import AsJson, add_row, console, new_table, print_json


def benchmark_command(
    name: Annotated[Literal["ellipses"], typer.Argument(help="Which benchmark: ellipses.")],
    prior: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC", help="Prior to reconstruct with, such as tv or wavelet+tv. May be repeated."
        ),
    ] = None,
    images: Annotated[
        int,
        typer.Option(
            min=1, max=3200, metavar="N", help="How many images; the published figures are for 100."
        ),
    ] = 100,
    as_json: AsJson = False,
) -> None:
    """Run a published benchmark and compare with its published figures.

    ellipses: generated images, 30 noisy parallel views (DIVal). Without --prior: FBP and total variation.
    """
    from recon.benchmarks import ellipses
    from recon.provenance import environment

    rows = ellipses.run(images, tuple(prior or ["tv"]), lambda text: typer.echo(text, err=True))
    if as_json:
        print_json(
            {
                "benchmark": name,
                "images": images,
                "rows": [asdict(row) for row in rows],
                "published": [
                    {"method": method, "psnr": psnr, "ssim": ssim}
                    for method, psnr, ssim in ellipses.PUBLISHED
                ],
                "environment": environment(),
            }
        )
        return
    table = new_table("method", "PSNR, dB", "SSIM", "seconds")
    for row in rows:
        add_row(table, f"recon: {row.method}", f"{row.psnr:.2f}", f"{row.ssim:.4f}", f"{row.seconds:.1f}")
    for method, psnr, ssim in ellipses.PUBLISHED:
        add_row(table, f"published: {method}", f"{psnr:.2f}", f"{ssim:.4f}", "")
    console().print(table)
    typer.echo(
        f"means over the first {images} test images; PSNR and SSIM (7 x 7) with the range of each image; published "
        "figures: DIVal, 100 images"
    )
