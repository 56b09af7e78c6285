"""Networks trained without true images beside the same networks trained with them: Noise2Inverse and SSDU.

    python examples/experiments/without_truth.py OUTPUT            # minutes on a CPU
    python examples/experiments/without_truth.py OUTPUT --smoke    # seconds
    python examples/experiments/without_truth.py OUTPUT --full     # for a GPU

After Hendriksen, Pelt and Batenburg 2020 and Yaman et al. 2020, on images of random ellipses. Every scan is measured
once, and every training sees the same scans. OUTPUT gets the models, results.md, losses.png and images-ct.png and
images-mri.png. A run that was stopped goes on.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from result_tables import read_log, save_curves, table, write_results
from run_size import parser_of, settled
from torch import Tensor

import recon
from recon.report import save_comparison
from recon.training import Measurements

DIFFERENCES = """Why the numbers differ from the published ones: the data are others. The publications have foam
phantoms with Poisson noise and knees of fastMRI, which do not ship; what can be compared is the order, and how near
training without true images comes to training with them."""


MRI_NOISE = 0.01  # standard deviation of the real and of the imaginary part, of images up to 1


@dataclass(frozen=True)
class Size:
    """What differs between the sizes of this experiment.

    Attributes:
        side: of the images [pixels].
        views: of a CT scan.
        scans: to train on, and to test on.
        epochs: how often all scans are seen, in CT and in MRI.
        networks: for CT, for MRI unrolled, and for MRI from images to images.
        noise: standard deviation of the CT scans.
    """

    side: int
    views: int
    scans: tuple[int, int]
    epochs: tuple[int, int]
    networks: tuple[str, str, str]
    noise: float


SIZES = {
    "smoke": Size(
        side=32,
        views=64,
        scans=(32, 8),
        epochs=(20, 6),
        networks=(
            "unet:channels=8,levels=2",
            "modl:iterations=2,features=8,layers=3,inner=4",
            "dncnn:channels=8,depth=4,norm=none",
        ),
        noise=1.5,
    ),
    "small": Size(
        side=48,
        views=96,
        scans=(48, 12),
        epochs=(20, 8),
        networks=(
            "unet:channels=8,levels=3",
            "modl:iterations=3,features=16,layers=3,inner=5",
            "dncnn:channels=16,depth=5,norm=none",
        ),
        noise=2.5,
    ),
    "full": Size(
        side=256,
        views=512,
        scans=(1000, 100),
        epochs=(100, 100),
        networks=(
            "unet:channels=32,levels=4",
            "modl:iterations=10,features=64,layers=5",
            "dncnn:channels=64,depth=17,norm=none",
        ),
        noise=8.0,
    ),
}


def main() -> None:
    """Train with and without true images, and try on scans that none has seen."""
    arguments = settled(parser_of(__doc__).parse_args())
    size = SIZES[arguments.size]
    truth = recon.dataset("ellipses", part="train", size=size.side).first(size.scans[0])
    test = recon.dataset("ellipses", part="test", size=size.side).first(size.scans[1])
    began = time.perf_counter()
    rows: dict[str, tuple[float, ...]] = {}
    logs: dict[str, list[dict[str, float]]] = {}
    for kind, op, noise in (
        ("CT", ct(size), ("gaussian", {"std": size.noise})),
        ("MRI", mri(size), ("complex_gaussian", {"std": MRI_NOISE})),
    ):
        images = truth if kind == "CT" else truth.to(torch.complex64)
        data = op.measure(images, noise=noise, seed=1)
        seen = op.measure(test.to(images.dtype), noise=noise, seed=2)
        known = ("gaussian", {"noise_level": noise[1]["std"]})
        found = {"zero-filled" if kind == "MRI" else "FBP": op.pinv(seen)}
        found["TV"] = recon.solve(op, "tv", seen, image_range=(0, 1), fidelity=known).image
        for name, prior in trained(kind, op, data, images, size, arguments, logs):
            found[name] = recon.solve(op, prior, seen, image_range=(0, 1)).image
        rows |= {f"{kind}: {name}": scores(image, test) for name, image in found.items()}
        shown = {name: image[0].abs() if image.is_complex() else image[0] for name, image in found.items()}
        arguments.output.mkdir(parents=True, exist_ok=True)
        path = arguments.output / f"images-{kind.lower()}.png"
        save_comparison(path, shown, reference=test[0], window=(0.0, 1.0))
    save_curves(arguments.output / "losses.png", logs, ["loss"])
    seconds = time.perf_counter() - began
    write_results(
        arguments.output,
        "Trained without true images",
        [
            f"{size.scans[0]} scans to train on, {size.scans[1]} to test on, {size.side} x {size.side} pixels; CT with "
            f"{size.views} views, MRI with four coils and a quarter of k-space. {seconds:.0f} s.",
            table(["PSNR [dB]", "SSIM"], rows),
            DIFFERENCES,
        ],
    )  # fmt: skip


def ct(size: Size) -> recon.LinearOperator:
    """Many noisy views: what Noise2Inverse is for."""
    return recon.operator("ct_parallel", shape=(size.side, size.side), pixel_size=1.0, angles=size.views)


def mri(size: Size) -> recon.LinearOperator:
    """A quarter of k-space, seen by four coils from the corners."""
    at = torch.linspace(-1, 1, size.side)
    maps = []
    for row, column in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        magnitude = torch.exp(-((at[:, None] - row) ** 2 + (at - column) ** 2) / 3)
        maps.append(magnitude * torch.exp(1j * (row * at[:, None] + column * at)))
    mask = "random_2d:acceleration=4,centre_fraction=0.15"
    return recon.operator("mri_cartesian", mask=mask, coil_maps=torch.stack(maps).to(torch.complex64))


def trained(
    kind: str,
    op: recon.LinearOperator,
    data: Tensor,
    truth: Tensor,
    size: Size,
    arguments: argparse.Namespace,
    logs: dict[str, Any],
) -> Iterator[tuple[str, recon.Prior]]:
    """Name and prior of each training, one after the other."""
    unet, modl, dncnn = size.networks
    if kind == "CT":
        runs = {
            "Noise2Inverse, X:1": (unet, "noise2inverse"),
            "Noise2Inverse, 1:X": (unet, "noise2inverse:strategy=1:X"),
            "U-Net, supervised": (unet, "supervised"),
        }
    else:
        runs = {
            "MoDL, SSDU": (modl, "ssdu"),
            "MoDL, SSDU, uniform": (modl, "ssdu:selection=uniform"),
            "MoDL, supervised": (modl, "supervised"),
            "DnCNN, SSDU, uniform": (dncnn, "ssdu:selection=uniform"),
            "DnCNN, supervised": (dncnn, "supervised"),
        }
    for name, (network, objective) in runs.items():
        folder = arguments.output / f"{kind} {name}".lower().replace(", ", "-").replace(" ", "-").replace(
            ":", ""
        )
        prior = recon.train(
            network,
            op=op,
            data=(data, truth) if objective == "supervised" else Measurements(data),
            objective=objective,
            validation=0,
            monitor="last",
            image_range=(0.0, 1.0),
            epochs=arguments.epochs or size.epochs[kind == "MRI"],
            batch=4,
            lr=3e-3,
            clip=1.0,
            device=arguments.device,
            output=folder,
        )
        logs[f"{kind}: {name}"] = read_log(folder)
        yield name, prior


def scores(image: Tensor, truth: Tensor) -> tuple[float, float]:
    """PSNR and SSIM of magnitudes, averaged over the images."""
    shown = image.abs() if image.is_complex() else image
    psnr, ssim = recon.metric("psnr", data_range=1.0), recon.metric("ssim", data_range=1.0)
    return float(psnr(shown, truth, item_ndim=2).mean()), float(ssim(shown, truth, item_ndim=2).mean())


if __name__ == "__main__":
    main()
