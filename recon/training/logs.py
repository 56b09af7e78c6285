"""What a training tells while it runs: a CSV file, TensorBoard, pictures, a progress bar."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from recon.files import written_whole


def write_csv(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """One row an epoch; columns appear where a row first has them."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


class Board:
    """TensorBoard's event file, if it is wanted.

    Raises:
        ImportError: tensorboard is wanted but not installed.
    """

    def __init__(self, folder: Path | None) -> None:
        self.writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "tensorboard=True needs TensorBoard: pip install 'recon[tensorboard]'"
            ) from error
        self.writer = SummaryWriter(str(folder))

    def add(self, row: Mapping[str, float]) -> None:
        """The numbers of an epoch."""
        if self.writer is not None:
            for name, value in row.items():
                if name != "epoch":
                    self.writer.add_scalar(name, value, int(row["epoch"]))
            self.writer.flush()

    def close(self) -> None:
        """End the file."""
        if self.writer is not None:
            self.writer.close()


def save_pictures(path: Path, rows: Sequence[Sequence[Tensor | None]]) -> None:
    """A picture of images in [0, 1] side by side: a row a sample, such as input, result and true image."""
    import torch

    from recon.report import save_png

    lines = []
    for row in rows:
        tiles = []
        for image in row:
            if image is None:
                continue
            plain = image.abs() if image.is_complex() else image
            tiles.append(plain.reshape(-1, *plain.shape[-2:])[0].float().cpu().clamp(0, 1))
        lines.append(torch.cat(tiles, dim=1))
    if not lines or len({line.shape for line in lines}) > 1:
        lines = lines[:1]
    if lines:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_png(path, torch.cat(lines, dim=0), item_ndim=2, window=(0.0, 1.0))


class Bar:
    """A progress bar on a terminal; silent elsewhere."""

    def __init__(self, show: bool | None, total: int, done: int, title: str) -> None:
        self.bar: Any = None
        if not (sys.stderr.isatty() if show is None else show):
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.bar.add_task(title, total=total, completed=done, text="")

    def __enter__(self) -> Bar:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def move(self, done: int, text: str) -> None:
        """Show how many batches are done, and what the last numbers were."""
        if self.bar is not None:
            self.bar.update(self.task, completed=done, text=text)
