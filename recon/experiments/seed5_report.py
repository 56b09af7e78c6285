"""Tables and the convergence figure of the splitting experiment."""

from __future__ import annotations

import json
from collections.abc import Sequence
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


def write(cells: Sequence[Cell], images: Images, size: str, output: str | Path) -> dict[str, Any]:
    """Write table.md, table.json and convergence.png into a folder; returns what table.json holds."""
    folder = Path(output)
    by_key = {row.key: row for row in ROWS}
    scores: dict[Row, dict[str, float]] = {}
    for cell in cells:
        scores.setdefault(by_key[cell.row], {})[cell.method] = cell.mean_psnr
    lines = [_line(by_key[cell.row], cell) for cell in cells]
    checks = [asdict(check) for check in order_checks(scores)]
    agree = sum(check["published"] == check["here"] for check in checks)
    summary = {
        "experiment": "seed5",
        "size": size,
        "images": {"train": len(images.train), "test": len(images.test), "source": images.source},
        "rows": lines,
        "gains": {
            row.key: {"here": gains(mine), "published": gains(published_scores(row))}
            for row, mine in scores.items()
        },
        "order": checks,
        "order_agrees": f"{agree} of {len(checks)}",
        "note": NOTE,
        "environment": environment(),
    }
    with written_whole(folder / "table.json") as target:
        target.write_text(json.dumps(summary, indent=1))
    with written_whole(folder / "table.md") as target:
        target.write_text(_markdown(scores, cells, summary))
    curves = {
        f"{METHODS[cell.method]}, {by_key[cell.row].label}": (list(range(1, len(cell.loops) + 1)), cell.loops)
        for cell in cells
        if len(cell.loops) > 1
    }
    if curves:
        shown = dict(list(curves.items())[:8])
        with written_whole(folder / "convergence.png") as target:
            target.write_bytes(curves_png(shown, x_label="outer loop", y_label="PSNR, dB"))
    return summary


def _line(row: Row, cell: Cell) -> dict[str, Any]:
    psnr, ssim = PUBLISHED[row][list(METHODS).index(cell.method)]
    return {
        "row": row.key,
        "label": row.label,
        "method": METHODS[cell.method],
        "psnr": cell.mean_psnr,
        "ssim": cell.mean_ssim,
        "published_psnr": psnr,
        "published_ssim": ssim,
        "seconds": cell.seconds,
        "settings": cell.settings,
        "loops": cell.loops,
    }


def _markdown(scores: dict[Row, dict[str, float]], cells: Sequence[Cell], summary: dict[str, Any]) -> str:
    ssim = {(cell.row, cell.method): cell.mean_ssim for cell in cells}
    used = [name for name in METHODS if any(name in row for row in scores.values())]
    text = [
        "# Splitting of deep-learning regularisation: PSNR [dB] / SSIM, here and (published)",
        "",
        "| masks, noise, rate | " + " | ".join(METHODS[name] for name in used) + " |",
        "|---" * (len(used) + 1) + "|",
    ]
    for row, mine in scores.items():
        entries = []
        for name in used:
            psnr, similarity = PUBLISHED[row][list(METHODS).index(name)]
            here = f"{mine[name]:.2f} / {ssim[row.key, name]:.2f}" if name in mine else "-"
            entries.append(f"{here} ({psnr:.2f} / {similarity:.2f})")
        text.append(f"| {row.label} | " + " | ".join(entries) + " |")
    text += ["", NOTE, "", f"Order of the methods as published in {summary['order_agrees']} comparisons:", ""]
    text += [
        f"- {check['statement']}: published {_yes(check['published'])}, here {_yes(check['here'])}"
        for check in summary["order"]
    ]
    return "\n".join(text) + "\n"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
