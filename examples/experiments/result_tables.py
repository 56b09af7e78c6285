"""Tables of results as Markdown, and curves of the losses, for the experiments beside this file."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

from recon.files import written_whole

mpl.use("Agg")
import matplotlib.pyplot as plt


def table(columns: Sequence[str], rows: Mapping[str, Sequence[float | str]]) -> str:
    """A Markdown table; numbers with four significant digits."""
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, values in rows.items():
        cells = [value if isinstance(value, str) else f"{value:.4g}" for value in values]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_results(folder: Path, title: str, parts: Sequence[str]) -> None:
    """``results.md``: a title, then paragraphs and tables."""
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / "results.md") as path:
        path.write_text("\n\n".join([f"# {title}", *parts]) + "\n", "utf-8")


def read_log(folder: Path) -> list[dict[str, float]]:
    """What a training logged, one row an epoch, whether it was stopped in between or not."""
    with (folder / "log.csv").open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def save_curves(path: Path, logs: Mapping[str, Sequence[Mapping[str, float]]], names: Sequence[str]) -> None:
    """What the trainings logged under `names`, one panel each, one line a training, against the epoch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(
        1, len(names), figsize=(3.6 * len(names), 3.0), layout="constrained", squeeze=False
    )
    for panel, name in zip(axes[0], names, strict=True):
        for label, log in logs.items():
            rows = [row for row in log if name in row]
            if rows:
                panel.plot([row["epoch"] for row in rows], [row[name] for row in rows], label=label)
        panel.set(title=name.replace("_", " "), xlabel="epoch")
        if panel.lines:
            panel.legend(fontsize="x-small")
    with written_whole(path) as whole:
        figure.savefig(whole, dpi=110, format="png")
    plt.close(figure)
