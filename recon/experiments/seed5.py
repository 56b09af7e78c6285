"""Splitting of deep-learning regularisation (Liu, Kuang and Zhang 2018): the grid of its table 2, run here.

Every cell is one method on one row (masks, rate, noise): trained or tuned on the training images, scored on the
test images, and kept in a file of its own, so that a run that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recon import registry
from recon.experiments.seed5_table import METHODS, ROWS, Row
from recon.files import written_whole
from recon.linear import LinearOperator
from recon.loading import load
from recon.metrics import PSNR, SSIM
from recon.simulate import ComplexGaussianNoise
from recon.solving import ConvergenceWarning, solve

TV_WEIGHTS = tuple(10 ** (power / 3) for power in range(-13, -1))  # 5e-5 to 0.2, images in [0, 1]
TUNED_ON = 3  # training images


@dataclass(frozen=True)
class Size:
    """How large the experiment is.

    Attributes:
        side: of the images [px].
        train: training images.
        test: test images.
        loops: outer loops of the splitting.
        epochs: in each of them; ADMM-Net has as many as all loops together.
        batch: images of a batch.
        stages: of ADMM-Net.
        snlae: arguments of the non-local autoencoder.
        decay: of the TV weight inside the splitting, from loop to loop.
    """

    side: int
    train: int
    test: int
    loops: int
    epochs: int
    batch: int
    stages: int
    snlae: dict[str, Any]
    decay: float = 0.5


SIZES = {
    "small": Size(64, 24, 4, 3, 15, 4, 3, {"widths": (128, 256, 512, 256, 128)}),
    "full": Size(256, 90, 10, 5, 100, 8, 9, {}),
}


@dataclass(frozen=True)
class Images:
    """Training and test images ``(N, side, side)`` in [0, 1], and where they come from.

    Attributes:
        train: training images.
        test: test images.
        source: of the training images, in words.
        groups: the name of each test image's group; groups are scored apart, the first is the experiment's own.
    """

    train: Tensor
    test: Tensor
    source: str
    groups: tuple[str, ...]

    def places(self) -> dict[str, list[int]]:
        """The test images of every group, the experiment's own first."""
        found: dict[str, list[int]] = {}
        for place, group in enumerate(self.groups):
            found.setdefault(group, []).append(place)
        return found


@dataclass(frozen=True)
class Cell:
    """What one method gave on one row.

    Attributes:
        row: the row's key.
        method: a key of `METHODS`.
        psnr: of each test image [dB], magnitude, peak 1.
        ssim: of each test image, windows of 7 x 7, range 1.
        seconds: training and reconstruction together.
        loops: mean PSNR [dB] after every outer loop, of methods that have them, of the first group of test images.
        training_loops: the same of some training images.
        settings: what was chosen, such as the weight of TV.
    """

    row: str
    method: str
    psnr: list[float]
    ssim: list[float]
    seconds: float
    loops: list[float]
    training_loops: list[float]
    settings: dict[str, Any]

    def scores(self, places: Sequence[int]) -> tuple[float, float]:
        """Mean PSNR [dB] and SSIM of these test images."""
        psnr, ssim = (
            sum(values[place] for place in places) / len(places) for values in (self.psnr, self.ssim)
        )
        return psnr, ssim


@dataclass(frozen=True)
class Measured:
    """One row's scans of all images."""

    row: Row
    op: LinearOperator
    images: Images
    train: Tensor
    test: Tensor

    @cached_property
    def tv_weight(self) -> float:
        """The weight of TV with the best mean PSNR on training images of this row: tuned for its noise, too."""
        truth, data = self.images.train[:TUNED_ON], self.train[:TUNED_ON]
        scores = [_psnr(_with_tv(self.op, data, weight), truth) for weight in TV_WEIGHTS]
        return TV_WEIGHTS[scores.index(max(scores))]


def read_images(size: Size, folder: str | Path | None = None, others: Sequence[str | Path] = ()) -> Images:
    """Images of files; without a folder, pieces of the MR slices that ship, which is too little to learn much.

    Args:
        size: how many of which side; larger images are cut to a square and averaged down.
        folder: images, one a file; the last ones are the test images.
        others: further test images, each scored apart.

    Raises:
        ValueError: too few images, or an image smaller than the side.
    """
    found = _shipped(size) if folder is None else _in_folder(Path(folder), size)
    more = [_square(Path(path), size.side) for path in others]
    return replace(
        found,
        test=torch.stack([*found.test, *more]),
        groups=found.groups + _told_apart([Path(path) for path in others]),
    )


def _told_apart(paths: Sequence[Path]) -> tuple[str, ...]:
    """The files' names, with their folders where names repeat."""
    names = [path.name for path in paths]
    return tuple(
        name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)
    )


def _in_folder(folder: Path, size: Size) -> Images:
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if len(paths) <= size.test:
        raise ValueError(
            f"{folder} has {len(paths)} files: there must be more than the {size.test} test images"
        )
    train, test = paths[: -size.test][: size.train], paths[-size.test :]
    return Images(
        torch.stack([_square(path, size.side) for path in train]),
        torch.stack([_square(path, size.side) for path in test]),
        f"{len(train)} images of {folder.name}",
        (f"{len(test)} images of {folder.name}",) * len(test),
    )


def run(
    images: Images,
    size: Size,
    output: str | Path,
    rows: Iterable[Row] = ROWS,
    methods: Iterable[str] = tuple(METHODS),
    *,
    seed: int = 0,
    device: str = "auto",
    report: Callable[[str], None] = lambda _: None,
) -> list[Cell]:
    """Compute the cells that `output` does not hold yet, and return all of them.

    Args:
        images: from `read_images`.
        size: how much is trained.
        output: folder; the cells lie in ``cells/``, trained networks in ``models/<digest>/``.
        rows: of the table.
        methods: keys of `METHODS`.
        seed: of noise, initial weights and training.
        device: to train on.
        report: told what is being computed.
    """
    folder = Path(output)
    trained = _digest(size, seed, images.train)  # other images, sizes or seeds: another training
    digest = _digest(size, seed, images.train, images.test)
    cells = []
    for row in rows:
        measured = measure(row, images, seed)
        for method in methods:
            path = folder / "cells" / row.key / f"{method}.json"
            cell = _stored(path, digest)
            if cell is None:
                report(f"{row.label}: {METHODS[method]}")
                model = folder / "models" / trained / row.key / method
                cell = compute(measured, method, size, model, seed, device)
                with written_whole(path) as target:
                    target.write_text(json.dumps({"digest": digest, **asdict(cell)}, indent=1))
            cells.append(cell)
    return cells


def measure(row: Row, images: Images, seed: int = 0) -> Measured:
    """y = K F (x + noise (xi_1 + i xi_2)) of every image, each with its own noise."""
    shape = tuple(images.train.shape[1:])
    mask = f"{row.family}:acceleration={row.acceleration},seed={seed}"
    op: LinearOperator = registry.make("operator", "mri_cartesian", mask=mask, shape=shape)
    noise = ComplexGaussianNoise(std=row.noise) if row.noise else None

    def scans(x: Tensor, first: int) -> Tensor:
        return torch.stack(
            [
                op.measure(image.to(torch.complex64), noise=noise, seed=seed + first + place)
                for place, image in enumerate(x)
            ]
        )

    return Measured(row, op, images, scans(images.train, 1000), scans(images.test, 2000))


def compute(measured: Measured, method: str, size: Size, folder: Path, seed: int, device: str) -> Cell:
    """One cell of the table."""
    began = time.perf_counter()
    settings: dict[str, Any] = {}
    loops: tuple[list[float], list[float]] = ([], [])
    if method == "zero_filled":
        found = measured.op.pinv(measured.test)
    elif method == "tv":
        settings["weight"] = measured.tv_weight
        found = _with_tv(measured.op, measured.test, settings["weight"])
    elif method == "admm_net":
        found, settings = _admm_net(measured, size, folder, seed, device)
    else:
        found, loops, settings = _splitting(measured, method, size, folder, seed, device)
    pairs = list(zip(found.abs(), measured.images.test, strict=True))
    return Cell(
        row=measured.row.key,
        method=method,
        psnr=[float(PSNR(data_range=1.0)(image, truth, item_ndim=2)) for image, truth in pairs],
        ssim=[float(SSIM(data_range=1.0)(image, truth, item_ndim=2)) for image, truth in pairs],
        seconds=time.perf_counter() - began,
        loops=loops[0],
        training_loops=loops[1],
        settings=settings,
    )


def _with_tv(op: LinearOperator, y: Tensor, weight: float) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the scores tell
        return solve(op, ("tv", {"weight": weight}), y, progress=False).image


def _admm_net(
    measured: Measured, size: Size, folder: Path, seed: int, device: str
) -> tuple[Tensor, dict[str, Any]]:
    prior = _trained(
        measured, ("admm_net", {"stages": size.stages}), "supervised", size, folder, seed, device
    )
    image = solve(measured.op, prior, measured.test, solver="feedforward", image_range=(0.0, 1.0)).image
    return image, {"stages": size.stages}


def _splitting(
    measured: Measured, method: str, size: Size, folder: Path, seed: int, device: str
) -> tuple[Tensor, tuple[list[float], list[float]], dict[str, Any]]:
    """SCAE, SNLAE or the GAN's generator, trained in the splitting and applied in it."""
    eta = 1.0 if measured.row.noise else 50.0  # without noise the data are all but exact
    rho = 0.5
    weight = measured.tv_weight
    tv = registry.make("prior", ("tv", {"weight": weight}))
    goal: dict[str, Any] = {
        "rho": rho,
        "eta": eta,
        "loops": size.loops,
        "prior": tv,
        "decay": size.decay,
        "input_step": "inference",
    }
    if method == "gan":
        goal |= {"adversarial": 1e-3}
    network = ("snlae", size.snlae) if method == "snlae" else "scae"
    prior = _trained(measured, network, ("splitting", goal), size, folder, seed, device)
    solver = ("splitting", {"rho": rho, "eta": eta, "decay": size.decay, "loops": size.loops})

    def applied(data: Tensor, truth: Tensor, scored: list[int]) -> tuple[Tensor, list[float]]:
        loops: list[float] = []
        image = solve(
            measured.op,
            prior + tv,
            data,
            solver=solver,
            image_range=(0.0, 1.0),
            callback=lambda snapshot: loops.append(_psnr(snapshot.image[scored], truth[scored])),
        ).image
        return image, loops

    own = next(iter(measured.images.places().values()))
    image, loops = applied(measured.test, measured.images.test, own)
    some = list(range(min(len(own), len(measured.train))))
    _, training_loops = applied(measured.train[some], measured.images.train[some], some)
    return image, (loops, training_loops), {"rho": rho, "eta": eta, "weight": weight, "decay": size.decay}


def _trained(
    measured: Measured, network: Any, objective: Any, size: Size, folder: Path, seed: int, device: str
) -> Any:
    from recon.training.sources import Pairs
    from recon.training.train import train

    pairs = Pairs(
        list(zip(measured.train, measured.images.train.to(torch.complex64), strict=True)),
        f"{measured.images.source}, {measured.row.label}",
        measured=True,
    )
    return train(
        network,
        op=measured.op,
        data=pairs,
        objective=objective,
        validation=0,
        monitor="last",
        image_range=(0.0, 1.0),
        complex_as="separate",
        epochs=size.loops * size.epochs,
        batch=size.batch,
        lr=1e-3,
        clip=1.0,
        seed=seed,
        device=device,
        output=folder,
        progress=False,
    )


def _psnr(images: Tensor, truth: Tensor) -> float:
    return float(PSNR(data_range=1.0)(images.abs(), truth, item_ndim=2).mean())


def _square(path: Path, side: int) -> Tensor:
    """A file's image in [0, 1]: its magnitude over its largest value, a centred square, averaged to the side."""
    image = load(path).data
    image = (image.abs() if image.is_complex() else image).float().squeeze()
    if image.ndim != 2 or min(image.shape) < side:
        raise ValueError(
            f"{path}: expected an image of at least {side} x {side} pixels, got {tuple(image.shape)}"
        )
    return _reduced(image, side)


def _reduced(image: Tensor, side: int) -> Tensor:
    factor = min(image.shape) // side
    rows, columns = ((length - factor * side) // 2 for length in image.shape)
    piece = image[rows : rows + factor * side, columns : columns + factor * side]
    small = torch.nn.functional.avg_pool2d(piece[None, None], factor)[0, 0].clamp_min(0)
    return small / small.max().clamp_min(1e-30)


def _shipped(size: Size) -> Images:
    """Pieces of one brain slice that ships to train on, a slice of another scanner to test on."""
    brain = registry.make("dataset", "mr_brain").data.float().squeeze()
    generator = torch.Generator().manual_seed(0)
    pieces: list[Tensor] = []
    while len(pieces) < size.train:
        row, column = (
            int(torch.randint(length - 2 * size.side, (), generator=generator)) for length in brain.shape
        )
        piece = brain[row : row + 2 * size.side, column : column + 2 * size.side]
        if float((piece > 0.1 * brain.max()).float().mean()) > 0.3:  # not air
            pieces.append(_reduced(piece, size.side))
    kspace = registry.make("dataset", "kspace_brain").data.to(torch.complex64)
    full = registry.make("operator", "mri_cartesian", mask=torch.ones(kspace.shape))
    test = _reduced(full.pinv(kspace).abs(), size.side)
    return Images(
        torch.stack(pieces),
        test[None],
        "pieces of one brain slice that ships",
        ("a slice of another scanner",),
    )


def _digest(size: Size, seed: int, *images: Tensor) -> str:
    digest = hashlib.sha256(json.dumps([asdict(size), seed], sort_keys=True).encode())
    for part in images:
        digest.update(part.numpy().tobytes())
    return digest.hexdigest()[:16]


def _stored(path: Path, digest: str) -> Cell | None:
    """A cell that was computed before, of the same images and sizes."""
    if not path.exists():
        return None
    values = json.loads(path.read_text())
    return Cell(**values) if values.pop("digest") == digest else None
