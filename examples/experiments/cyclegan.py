"""CycleGAN against supervised L1 on low-dose CT, with the same network and with pairs that are pairs.

    python examples/experiments/cyclegan.py OUTPUT                     # minutes on a CPU, slices that ship
    python examples/experiments/cyclegan.py OUTPUT --smoke             # seconds
    python examples/experiments/cyclegan.py OUTPUT --images FOLDER --full

After Park's CycleGAN for CT denoising. OUTPUT gets both models, results.md with the published figures beside these,
losses.png and images.png. A run that was stopped goes on.
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from low_dose_slices import HU, SCANS, Pairs, low_dose_pairs, patients
from result_tables import read_log, save_curves, table, write_results
from run_size import parser_of, settled

import recon
from recon.metric_presets import preset
from recon.metrics import PSNR, RMSE, SSIM
from recon.report import save_comparison
from recon.training import CycleGAN, Unpaired

PUBLISHED = {"low dose": (34.17, 0.893), "CycleGAN": (37.50, 0.954), "supervised L1": (13.28, 0.374)}
FOLDERS = {"CycleGAN": "cyclegan", "supervised L1": "supervised"}
METRICS = (PSNR(data_range=1.0), SSIM(data_range=1.0), RMSE())
DIFFERENCES = """Why the numbers differ from the published ones:

- the code behind their supervised row shuffles the full-dose slices and crops and flips the two images of a pair apart,
  so that its targets are other images, which is enough to explain 13.28 dB. Here a pair is one slice, cut and turned
  together; so nothing supports their explanation that supervised training smooths too much;
- their SSIM takes a data range of 2 for images in [0, 1], which raises it (columns "as theirs" do the same);
- theirs is the quarter dose of real scans, ours is simulated in the sinogram, one field of noise a slice."""


@dataclass(frozen=True)
class Size:
    """What differs between the sizes of this experiment.

    Attributes:
        network: the generator, of both.
        critic: CycleGAN's critics.
        patch: side of the patches [pixels].
        patches: of an image in an epoch.
        batch: patches of a batch.
        epochs: how often all images are seen.
        cycle_lr: rates of CycleGAN's players; None for those of the paper.
        supervised_lr: rate of the supervised network.
        validate_every: epochs from one validation to the next.
    """

    network: str
    critic: str
    patch: int
    patches: int
    batch: int
    epochs: int
    cycle_lr: dict[str, float] | None
    supervised_lr: float
    validate_every: int = 1


FULL = Size("resnet_generator", "patchgan", 128, 1, 32, 160, None, 2e-4)
SMALL = Size(
    # at full resolution, which learns in few steps
    network="wgan_vgg_generator:channels=16,depth=6,residual=true,last_relu=false",
    critic="patchgan:channels=16,layers=1",
    patch=32,
    patches=4,
    batch=8,
    epochs=25,
    cycle_lr={"network": 1e-3, "critics": 1e-3},
    supervised_lr=2e-3,
)
SMOKE = replace(
    SMALL,
    network="wgan_vgg_generator:channels=8,depth=4,residual=true,last_relu=false",
    critic="patchgan:channels=8,layers=1",
    patches=1,
    batch=4,
    epochs=10,
    validate_every=5,
)
SIZES = {"smoke": SMOKE, "small": SMALL, "full": FULL}


def main() -> None:
    """Train both and compare."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--images", type=Path, help="one subfolder a patient; without it the slices that ship"
    )
    arguments = settled(parser.parse_args())
    scans, held = patients(arguments.images)
    training = low_dose_pairs(scans, SCANS[arguments.size], seed=0)
    test = low_dose_pairs(held, SCANS[arguments.size], seed=1000)
    began = time.perf_counter()
    priors = {
        "CycleGAN": unsupervised(training, test, arguments),
        "supervised L1": supervised(training, test, arguments),
    }
    logs = {name: read_log(arguments.output / folder) for name, folder in FOLDERS.items()}
    report(arguments, training, test, priors, logs, time.perf_counter() - began)


def settings(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """What both trainings share."""
    size = SIZES[arguments.size]
    return {
        "image_range": (0.0, 1.0),
        "augment": "flip",
        "patch": size.patch,
        "patches": size.patches,
        "batch": size.batch,
        "epochs": arguments.epochs or size.epochs,
        "monitor": "last",
        "validate_every": size.validate_every,
        "device": arguments.device,
        "output": arguments.output / name,
    }


def unsupervised(training: Pairs, test: Pairs, arguments: argparse.Namespace) -> recon.LearnedPrior:
    """Low dose of one half of the slices, full dose of the other: no slice is seen at both."""
    size = SIZES[arguments.size]
    return recon.train(
        size.network,
        data=Unpaired(training.low[::2], training.high[1::2]),
        validation=(test.low, test.high),
        objective=CycleGAN(critic=size.critic),
        lr=size.cycle_lr,
        **settings(arguments, "cyclegan"),
    )


def supervised(training: Pairs, test: Pairs, arguments: argparse.Namespace) -> recon.LearnedPrior:
    """The same network on as many pairs: the first half of the slices, at both doses."""
    size = SIZES[arguments.size]
    return recon.train(
        size.network,
        data=(training.low[::2], training.high[::2]),
        validation=(test.low, test.high),
        loss="l1",
        lr=size.supervised_lr,
        optimiser="adam:betas=(0.5,0.999)",
        schedule="linear:start=0.5",
        **settings(arguments, "supervised"),
    )


def report(arguments, training: Pairs, test: Pairs, priors, logs, seconds: float) -> None:
    """The table beside theirs, the losses, and one image of each."""
    images = {"low dose": test.low}
    for name, prior in priors.items():
        with torch.no_grad():
            images[name] = torch.cat([prior.denoise(part, 0.0) for part in test.low.split(8)])
    rows = {name: (*scores(each, test.high), *PUBLISHED[name]) for name, each in images.items()}
    columns = (
        *("PSNR [dB]", "SSIM", "RMSE [HU]", "PSNR as theirs", "SSIM as theirs"),
        *("their PSNR", "their SSIM"),
    )
    where = arguments.images.name if arguments.images else "the slices that ship"
    text = (
        f"{len(training.high[::2])} images to train on, {len(test.high)} of other patients to test on, {where}; "
        f"{len(logs['CycleGAN'])} epochs each, {seconds:.0f} s for both."
    )
    if arguments.size != "full":
        text += (
            " A small generator at full resolution and patches of 32 pixels: a check that everything works."
        )
    write_results(
        arguments.output,
        "CycleGAN and supervised L1 on quarter-dose CT",
        [text, table(columns, rows), DIFFERENCES],
    )
    save_curves(arguments.output / "losses.png", logs, ["loss", "cycle", "identity", "critic_loss", "psnr"])
    shown = {name: each[0] for name, each in images.items()}
    save_comparison(
        arguments.output / "images.png", shown, reference=test.high[0], window=(0.3, 0.7), metrics=METRICS[:2]
    )
    print(table(columns, rows))


def scores(images: torch.Tensor, truth: torch.Tensor) -> list[float]:
    """Means over the images, the RMSE in HU; then PSNR and SSIM as in Park's code, on HU."""
    values = [float(metric(images, truth).mean()) for metric in METRICS]
    values[2] *= HU
    in_hu = [HU * each - 1000 for each in (images, truth)]
    return values + [float(metric(*in_hu).mean()) for metric in preset("park")]


if __name__ == "__main__":
    main()
