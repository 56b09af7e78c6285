"""Tables and the convergence figure of the splitting experiment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recon.experiments.seed5 import Cell, Images
from recon.experiments.seed5_table import METHODS, PUBLISHED, ROWS, Row, gains, order_checks, published_scores
from recon.files import written_whole
from recon.provenance import environment
from recon.report.figures import curves_png

NOTE = (
    "Mean PSNR (magnitude, peak 1) and SSIM (7 x 7, range 1) of the test images. The published figures are of 21 ADNI "
    "slices and trained on 300 others, so that the order of the methods and their gains over zero-filling compare, "
    "not the figures. TV is tuned for every row on training images; in the publication it was not (with noise, "
    "2-D random masks, TV falls there as more is measured)."
)


CONVERGENCE = next(
    row for row in ROWS if row.key == "radial-noise0-1of4"
)  # the row of the publication's figure 1


def write(cells: Sequence[Cell], images: Images, size: str, output: str | Path) -> dict[str, Any]:
    """Write table.md, table.json and convergence.png into a folder; returns what table.json holds."""
    folder = Path(output)
    by_key = {row.key: row for row in ROWS}
    groups = []
    for group, places in images.places().items():
        scores: dict[Row, dict[str, tuple[float, float]]] = {}
        for cell in cells:
            scores.setdefault(by_key[cell.row], {})[cell.method] = cell.scores(places)
        groups.append(_group(group, len(places), scores))
    summary = {
        "experiment": "seed5",
        "size": size,
        "images": {"train": len(images.train), "source": images.source},
        "test": groups,
        "cells": [asdict(cell) for cell in cells],
        "note": NOTE,
        "environment": environment(),
    }
    with written_whole(folder / "table.json") as target:
        target.write_text(json.dumps(summary, indent=1))
    with written_whole(folder / "table.md") as target:
        target.write_text(_markdown(summary))
    if curves := _curves(cells):
        with written_whole(folder / "convergence.png") as target:
            target.write_bytes(curves_png(curves, x_label="outer loop", y_label="PSNR, dB"))
    return summary


def _group(name: str, images: int, scores: Mapping[Row, Mapping[str, tuple[float, float]]]) -> dict[str, Any]:
    """The rows of one group of test images, and how they compare with the published ones."""
    psnr = {row: {method: values[0] for method, values in methods.items()} for row, methods in scores.items()}
    checks = [asdict(check) for check in order_checks(psnr)]
    return {
        "name": name,
        "images": images,
        "rows": [
            {
                "row": row.key,
                "label": row.label,
                "method": METHODS[method],
                "psnr": values[0],
                "ssim": values[1],
                "published_psnr": PUBLISHED[row][list(METHODS).index(method)][0],
                "published_ssim": PUBLISHED[row][list(METHODS).index(method)][1],
                "gain": gains(psnr[row]).get(method),
                "published_gain": gains(published_scores(row)).get(method),
            }
            for row, methods in scores.items()
            for method, values in methods.items()
        ],
        "order": checks,
        "order_agrees": sum(check["published"] == check["here"] for check in checks),
    }


def _curves(cells: Sequence[Cell]) -> dict[str, tuple[list[int], list[float]]]:
    """PSNR against outer loop in the row of the publication's figure, of test and training images."""
    with_loops = [cell for cell in cells if len(cell.loops) > 1]
    keys = {cell.row for cell in with_loops}
    shown = CONVERGENCE.key if CONVERGENCE.key in keys else min(keys, default="")
    curves = {}
    for cell in with_loops:
        if cell.row == shown:
            for images, psnr in (("test", cell.loops), ("training", cell.training_loops)):
                curves[f"{METHODS[cell.method]}, {images} images"] = (list(range(1, len(psnr) + 1)), psnr)
    return curves


def _markdown(summary: Mapping[str, Any]) -> str:
    text = ["# Splitting of deep-learning regularisation: PSNR [dB] / SSIM, here and (published)"]
    for group in summary["test"]:
        names = list(dict.fromkeys(line["method"] for line in group["rows"]))
        table: dict[str, dict[str, str]] = {}
        gained: dict[str, dict[str, str]] = {}
        for line in group["rows"]:
            table.setdefault(line["label"], {})[line["method"]] = (
                f"{line['psnr']:.2f} / {line['ssim']:.2f} "
                f"({line['published_psnr']:.2f} / {line['published_ssim']:.2f})"
            )
            if line["gain"] is not None:
                gained.setdefault(line["label"], {})[line["method"]] = (
                    f"{line['gain']:+.2f} ({line['published_gain']:+.2f})"
                )
        text += ["", f"## Tested on: {group['name']}", "", *_table("masks, noise, rate", names, table)]
        if gained:
            text += ["", "Gains over zero-filling [dB], here and (published):", ""]
            text += _table("masks, noise, rate", names[1:], gained)
        others = [check for check in group["order"] if check["published"] != check["here"]]
        text += [
            "",
            f"Two methods are in the published order in {group['order_agrees']} of {len(group['order'])} comparisons"
            + ("; not in:" if others else "."),
            "",
        ]
        text += [f"- {check['statement']}: here {'yes' if check['here'] else 'no'}" for check in others]
    return "\n".join([*text, "", summary["note"]]) + "\n"


def _table(corner: str, columns: Sequence[str], rows: Mapping[str, Mapping[str, str]]) -> list[str]:
    lines = [f"| {corner} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for label, entries in rows.items():
        lines.append(f"| {label} | " + " | ".join(entries.get(name, "-") for name in columns) + " |")
    return lines
