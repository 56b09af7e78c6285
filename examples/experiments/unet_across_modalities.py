"""One U-Net for undersampled MRI and for sparse-view CT: trained on either, on both, and tried on both.

    python examples/experiments/unet_across_modalities.py OUTPUT             # minutes on a CPU, data that ship
    python examples/experiments/unet_across_modalities.py OUTPUT --smoke     # seconds
    python examples/experiments/unet_across_modalities.py OUTPUT --mri FOLDER --ct FOLDER --full

After Bhutiani's U-Net for MRI and CT, which names no data, sampling or width. OUTPUT gets the models, results.md with
the published figures beside these, losses.png and images.png. A run that was stopped goes on.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from low_dose_slices import BRIGHTEST, WATER, patients
from recon_data import samples
from result_tables import read_log, save_curves, table, write_results
from run_size import parser_of, settled
from torch import Tensor
from torch.nn.functional import avg_pool2d

import recon
from recon.metric_presets import preset
from recon.report import save_comparison

METRICS = preset("bhutiani")  # SSIM, PSNR, MSE, VIF, all for images in [0, 1]
PUBLISHED = ("0.92", "35", "", "")
DIFFERENCES = """Why the numbers differ from the published ones: 0.92 (MRI) and 35 dB ("across multiple datasets") come
without data, acceleration, dose or number of images, so they are no target; what can be compared is the order. VIF is
taken with the observer's noise tied to the range [0, 1]."""


@dataclass(frozen=True)
class Size:
    """What differs between the sizes of this experiment.

    Attributes:
        side: of the images [pixels].
        most: images of a kind to train on, and to test on, evenly spread; 0 for all.
        network: the U-Net.
        batch: images of a batch.
        epochs: how often all images are seen.
        lr: learning rate.
    """

    side: int
    most: int
    network: str
    batch: int
    epochs: int
    lr: float


SIZES = {
    "smoke": Size(48, 32, "unet:channels=8,levels=2", 4, 8, 4e-3),
    "small": Size(64, 0, "unet:channels=8,levels=3", 4, 40, 2e-3),
    "full": Size(256, 0, "unet:channels=64,levels=5,norm=batch", 8, 200, 1e-3),
}


def main() -> None:
    """Train on either and on both, and try each on both."""
    parser = parser_of(__doc__)
    parser.add_argument("--mri", type=Path, help="folder of MR images; without it what ships")
    parser.add_argument(
        "--ct", type=Path, help="folder of CT scans, one subfolder a patient; without it what ships"
    )
    arguments = settled(parser.parse_args())
    size = SIZES[arguments.size]
    operators = {"MRI": mri(size.side), "CT": ct(size.side)}
    truths = {
        name: [spread(images, size.most) for images in found]
        for name, found in (
            ("MRI", mr_images(arguments.mri, size.side)),
            ("CT", ct_images(arguments.ct, size.side)),
        )
    }
    pairs = {
        name: [
            simulated(operators[name], each, name, 10 * number) for number, each in enumerate(truths[name])
        ]
        for name in operators
    }
    logs: dict[str, list[dict[str, float]]] = {}
    priors = {}
    began = time.perf_counter()
    for name, kinds in (("MRI", ["MRI"]), ("CT", ["CT"]), ("both", ["MRI", "CT"])):
        low, high = (torch.cat([pairs[kind][0][place] for kind in kinds]) for place in (1, 2))
        priors[name] = train(name, low, high, arguments)
        logs[name] = read_log(arguments.output / f"unet-{name.lower()}")
    report(arguments, operators, pairs, priors, logs, time.perf_counter() - began)


def spread(images: Tensor, most: int) -> Tensor:
    """At most so many of the images, evenly spread."""
    return images[:: -(-len(images) // most)] if most else images


def mri(side: int) -> recon.LinearOperator:
    """A third of the lines of k-space, the centre among them."""
    mask = "random_1d:acceleration=3,centre_fraction=0.08"
    return recon.operator("mri_cartesian", shape=(side, side), mask=mask)


def ct(side: int) -> recon.LinearOperator:
    """Few views."""
    return recon.operator("ct_parallel", shape=(side, side), pixel_size=1.0, angles=max(24, side // 3))


def mr_images(folder: Path | None, side: int) -> tuple[Tensor, Tensor]:
    """MR magnitudes in [0, 1] to train on, and of another patient."""
    if folder is None:
        head = samples.mr_brain().data
        other = samples.kspace_brain().data
        image = recon.operator("mri_cartesian", mask=torch.ones(other.shape)).pinv(other).abs()
        two_sizes = torch.cat([_tiles(head, side, pool) for pool in (1, 2)])
        return _normalised(two_sizes), _normalised(_tiles(image, side, 1))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    images = [_tiles(recon.load(path).data.abs(), side, 1) for path in files]
    held = max(1, len(images) // 10)
    return _normalised(torch.cat(images[:-held])), _normalised(torch.cat(images[-held:]))


def ct_images(folder: Path | None, side: int) -> tuple[Tensor, Tensor]:
    """CT slices in [0, 1] to train on, and of other patients."""

    def tiles(scans: list[recon.Loaded]) -> Tensor:
        slices = [scan.attenuation(water=WATER).clamp(0, BRIGHTEST) / BRIGHTEST for scan in scans]
        return torch.cat(
            [_tiles(each, side, 2 if min(each.shape[-2:]) >= 2 * side else 1) for each in slices]
        )

    training, test = patients(folder)
    return tiles(training), tiles(test)


def _tiles(images: Tensor, side: int, pool: int) -> Tensor:
    """Squares side by side, of images whose pixels are averaged first; those that are nearly empty go."""
    images = avg_pool2d(images.reshape(-1, 1, *images.shape[-2:]), pool)[:, 0]
    tiles = images.unfold(1, side, side).unfold(2, side, side).reshape(-1, side, side)
    return tiles[tiles.mean((1, 2)) > 0.3 * images.mean()]


def _normalised(images: Tensor) -> Tensor:
    """The whole set by one number: nothing is scaled image by image."""
    return (images / torch.quantile(images.flatten()[:: max(1, images.numel() // 10**6)], 0.999)).clamp(0, 1)


def simulated(op: recon.LinearOperator, truth: Tensor, name: str, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Data, direct reconstruction and truth; one percent of noise."""
    noise = recon.noise("complex_gaussian" if name == "MRI" else "gaussian", std=0.01)
    data = op.measure(truth, noise=noise, seed=seed)
    direct = op.pinv(data)
    return data, direct.abs() if direct.is_complex() else direct, truth


def train(name: str, low: Tensor, high: Tensor, arguments: argparse.Namespace) -> recon.LearnedPrior:
    """The U-Net with batch norm on pairs, by the mixed loss of pixels and structure."""
    size = SIZES[arguments.size]
    return recon.train(
        size.network,
        data=(low, high),
        validation=0,
        loss="mse + 0.1*(1-ssim)",
        image_range=(0.0, 1.0),
        augment="flip",  # turned images would have aliases along the other axis
        batch=size.batch,
        epochs=arguments.epochs or size.epochs,
        lr=size.lr,
        clip=1.0,
        device=arguments.device,
        output=arguments.output / f"unet-{name.lower()}",
    )


def report(arguments, operators, pairs, priors, logs, seconds: float) -> None:
    """Every network on every kind of test image, beside the direct reconstruction and total variation."""
    rows: dict[str, tuple[float | str, ...]] = {}
    for kind, op in operators.items():
        data, direct, truth = pairs[kind][1]
        images = {"zero-filled" if kind == "MRI" else "FBP": direct}
        found = recon.solve(op, "tv", data, image_range=(0.0, 1.0)).image
        images["TV"] = found.abs() if found.is_complex() else found
        for name, prior in priors.items():
            with torch.no_grad():
                images[f"U-Net trained on {name}"] = torch.cat(
                    [prior.denoise(each, 0.0) for each in direct.split(8)]
                )
        for name, each in images.items():
            published = PUBLISHED if name == f"U-Net trained on {kind}" else ("",) * 4
            rows[f"{kind}: {name}"] = (
                *(float(metric(each, truth).mean()) for metric in METRICS),
                *published[:2],
            )
        save_comparison(
            arguments.output / f"images-{kind.lower()}.png",
            {name: each[0] for name, each in images.items()},
            reference=truth[0],
            window=(0.0, 1.0),
            metrics=METRICS[:2],
        )
    columns = ("SSIM", "PSNR [dB]", "MSE", "VIF", "published SSIM", "published PSNR")
    numbers = {name: [len(each[2]) for each in pairs[name]] for name in pairs}
    text = (
        f"MRI with a third of the lines ({numbers['MRI'][0]} images to train on, {numbers['MRI'][1]} to test on) and "
        f"CT with {operators['CT'].range_shape[0]} views ({numbers['CT'][0]} and {numbers['CT'][1]}), 1 % noise; test "
        f"images are of other patients; {len(logs['both'])} epochs, {seconds:.0f} s for the three networks."
    )
    write_results(arguments.output, "One U-Net across MRI and CT", [text, table(columns, rows), DIFFERENCES])
    save_curves(arguments.output / "losses.png", logs, ["loss"])
    print(table(columns, rows))


if __name__ == "__main__":
    main()
