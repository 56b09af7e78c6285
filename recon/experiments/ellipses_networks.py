"""Networks on the Ellipses benchmark: trained on generated images, scored beside the published figures."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recon.benchmarks import ellipses
from recon.benchmarks.scores import Row, scored
from recon.files import written_whole
from recon.solving import solve


@dataclass(frozen=True)
class Size:
    """How much is trained: images, epochs, images of a batch, and the arguments of each network."""

    train: int
    test: int
    epochs: int
    batch: int
    networks: dict[str, dict[str, Any]]


SIZES = {
    "small": Size(
        800,
        10,
        15,
        4,
        {
            "dival_unet": {"channels": (16, 16, 32, 32)},
            "learned_gradient": {"iterations": 5, "features": 16},
            "learned_primal_dual": {"iterations": 5, "features": 16},
        },
    ),
    "full": Size(
        32000,
        100,
        30,
        16,
        {
            "dival_unet": {"channels": (64, 64, 128, 128, 256)},
            "learned_gradient": {"iterations": 10, "features": 64},
            "learned_primal_dual": {"iterations": 10, "features": 64},
        },
    ),
}
PUBLISHED = {
    "dival_unet": ("FBP + U-Net", 29.36, 0.8987),
    "learned_gradient": ("learned gradient descent", 30.30, 0.9162),
    "learned_primal_dual": ("learned primal-dual", 32.27, 0.9403),
}
"""Method, PSNR [dB] and SSIM of DIVal's reference reconstructors, trained on 32000 images."""


def run(
    size: Size,
    output: str | Path,
    networks: Iterable[str] = tuple(PUBLISHED),
    *,
    seed: int = 0,
    device: str = "auto",
    report: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Train each network that `output` does not hold yet, and score it on the first test images.

    Args:
        size: how much is trained.
        output: folder: ``<network>.json`` holds the scores, ``models/<digest>/<network>`` the model.
        networks: of `PUBLISHED`.
        seed: of the training.
        device: to train on.
        report: told what is being computed.
    """
    folder, digest = Path(output), _digest(size, seed)
    rows = []
    training: ellipses.Scan | None = None
    test = ellipses.scan(size.test)
    for name in networks:
        path = folder / f"{name}.json"
        row = _stored(path, digest)
        if row is None:
            if training is None:
                report(f"simulating {size.train} scans")
                training = ellipses.scan(size.train, part="train")
            report(f"training {name}")
            row = _trained(name, size, training, test, folder / "models" / digest / name, seed, device)
            with written_whole(path) as target:
                target.write_text(json.dumps({"digest": digest, **asdict(row)}, indent=1))
        rows.append(row)
    return rows


def _trained(
    name: str, size: Size, training: ellipses.Scan, test: ellipses.Scan, folder: Path, seed: int, device: str
) -> Row:
    from recon.training.sources import Pairs
    from recon.training.train import train

    began = time.perf_counter()
    prior = train(
        (name, size.networks[name]),
        op=training.operator,
        data=Pairs(
            list(zip(training.data, training.images, strict=True)), f"{size.train} ellipses", measured=True
        ),
        objective="supervised",
        image_range=(0.0, 1.0),
        validation=0,
        monitor="last",
        epochs=size.epochs,
        batch=size.batch,
        lr=2e-3,
        schedule="cosine",
        clip=1.0,
        seed=seed,
        device=device,
        output=folder,
        progress=False,
    )
    spent = time.perf_counter() - began

    def reconstruct() -> Tensor:
        operator = test.operator
        parts = []
        for some in test.data.split(10):
            parts.append(solve(operator, prior, some, image_range=(0.0, 1.0), progress=False).image)
        return torch.cat(parts)

    row = scored(name, test.images, reconstruct)
    return Row(row.method, row.psnr, row.ssim, row.seconds + spent)


def _digest(size: Size, seed: int) -> str:
    return hashlib.sha256(json.dumps([asdict(size), seed], sort_keys=True).encode()).hexdigest()[:16]


def _stored(path: Path, digest: str) -> Row | None:
    """Scores that were computed before, of the same sizes."""
    if not path.exists():
        return None
    values = json.loads(path.read_text())
    return Row(**values) if values.pop("digest") == digest else None
