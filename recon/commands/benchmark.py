"""`recon benchmark`: a published benchmark, run here and shown beside the published figures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from recon.commands.options import usable_device
from recon.terminal import AsJson, add_row, console, new_table, print_json


def benchmark_command(
    name: Annotated[
        Literal["ellipses", "lodopab"],
        typer.Argument(metavar="NAME", help="Which benchmark: ellipses or lodopab."),
    ],
    prior: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC", help="Prior to reconstruct with, such as tv or wavelet+tv. May be repeated."
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=3200,
            metavar="N",
            help="ellipses: how many images, 100 without it; the published figures are for 100.",
        ),
    ] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="lodopab: a CT slice in HU, of 362 x 362 pixels or more, or a folder of them; without it the "
            "samples that ship. May be repeated.",
        ),
    ] = None,
    reduced: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=18,
            metavar="N",
            help="lodopab: image, views, detector and photons N times smaller than published, which keeps the noise "
            "of the image.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="DEVICE", help="ellipses: where to solve: cpu, cuda, cuda:1; cpu without it."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="ellipses: prior, such as tv, to whose images the network of a deep image prior is fitted first.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a published benchmark and compare with its published figures.

    ellipses: generated images, 30 noisy parallel views (DIVal). lodopab: the recipe of LoDoPaB-CT, 4096 photons a
    ray, on CT slices that ship or are given: not the data set. Without --prior: FBP and total variation.
    """
    from recon.provenance import environment

    priors = tuple(prior or ["tv"])
    if name == "ellipses":
        _refuse(name, {"--slices": slices, "--reduced": reduced})
        about, rows, published, note = _ellipses(priors, images or 100, usable_device(device), start)
    else:
        _refuse(name, {"--images": images, "--device": device, "--start": start})
        about, rows, published, note = _lodopab(priors, slices, reduced or 1)
    if as_json:
        print_json(
            {
                "benchmark": name,
                **about,
                "rows": [asdict(row) for row in rows],
                "published": [
                    {"method": method, "psnr": psnr, "ssim": ssim} for method, psnr, ssim in published
                ],
                "note": note,
                "environment": environment(),
            }
        )
        return
    table = new_table("method", "PSNR, dB", "SSIM", "seconds")
    for row in rows:
        add_row(table, f"recon: {row.method}", f"{row.psnr:.2f}", f"{row.ssim:.4f}", f"{row.seconds:.1f}")
    for method, psnr, ssim in published:
        add_row(table, f"published: {method}", f"{psnr:.2f}", f"{ssim:.4f}", "")
    console().print(table)
    typer.echo(note)


def _ellipses(
    priors: tuple[str, ...], images: int, device: Any, start: str | None
) -> tuple[dict[str, Any], Any, Any, str]:
    from recon.benchmarks import ellipses

    rows = ellipses.run(images, priors, _tell, device, start)
    note = (
        f"means over the first {images} test images; PSNR and SSIM (7 x 7) with the range of each image; published "
        "figures: DIVal, 100 images"
    )
    return {"images": images}, rows, ellipses.PUBLISHED, note


def _lodopab(
    priors: tuple[str, ...], slices: list[str] | None, reduced: int
) -> tuple[dict[str, Any], Any, Any, str]:
    from recon.benchmarks import lodopab

    names = tuple(slices or lodopab.SAMPLES)
    rows = lodopab.run(names, priors, reduced, _tell)
    smaller = f", everything {reduced} times smaller than published" if reduced > 1 else ""
    note = (
        f"means over the slices of {', '.join(names)}{smaller}; PSNR and SSIM (7 x 7) with the range of each image; "
        f"published figures: the first 100 test images. {lodopab.NOT_THE_DATA_SET}."
    )
    return {"slices": list(names), "reduced": reduced}, rows, lodopab.PUBLISHED, note


def _refuse(name: str, options: dict[str, Any]) -> None:
    for option, value in options.items():
        if value is not None:
            raise typer.BadParameter(f"{option} is not an option of the benchmark {name}")


def _tell(text: str) -> None:
    typer.echo(text, err=True)
