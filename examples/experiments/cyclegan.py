"""CycleGAN against supervised L1 on low-dose CT, with the same network and with pairs that are pairs.

    python examples/experiments/cyclegan.py OUTPUT                     # minutes on a CPU, slices that ship
    python examples/experiments/cyclegan.py OUTPUT --images FOLDER --full

After Park's CycleGAN for CT denoising. OUTPUT gets both models, results.md with the published figures beside these,
losses.png and images.png. A run that was stopped goes on.
"""

import argparse
import time
from pathlib import Path

import torch
from low_dose_slices import HU, Pairs, low_dose_pairs, patients
from result_tables import read_log, save_curves, table, write_results

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


def main() -> None:
    """Train both and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--images", type=Path, help="one subfolder a patient; without it the slices that ship"
    )
    parser.add_argument("--full", action="store_true", help="the published size: for a GPU")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--epochs", type=int)
    arguments = parser.parse_args()
    if not arguments.full:
        torch.set_num_threads(1)
    size = {"side": 0, "pool": 1, "angles": 720} if arguments.full else {"side": 64, "pool": 2, "angles": 180}
    photons = 4e5 if arguments.full else 6e4
    scans, held = patients(arguments.images)
    training = low_dose_pairs(scans, photons=photons, seed=0, **size)
    test = low_dose_pairs(held, photons=photons, seed=1000, **size)
    began = time.perf_counter()
    priors = {
        "CycleGAN": unsupervised(training, test, arguments),
        "supervised L1": supervised(training, test, arguments),
    }
    logs = {name: read_log(arguments.output / folder) for name, folder in FOLDERS.items()}
    report(arguments, training, test, priors, logs, time.perf_counter() - began)


def network(full: bool) -> str:
    """The published generator, or a small one at full resolution, which learns in few steps."""
    if full:
        return "resnet_generator"
    return "wgan_vgg_generator:channels=16,depth=6,residual=true,last_relu=false"


def settings(arguments: argparse.Namespace, name: str) -> dict:
    """What both trainings share."""
    full = arguments.full
    return {
        "image_range": (0.0, 1.0),
        "augment": "flip",
        "patch": 128 if full else 32,
        "patches": 1 if full else 4,
        "batch": 32 if full else 8,
        "epochs": arguments.epochs or (160 if full else 25),
        "monitor": "last",
        "device": arguments.device if full else "cpu",
        "output": arguments.output / name,
    }


def unsupervised(training: Pairs, test: Pairs, arguments: argparse.Namespace) -> recon.LearnedPrior:
    """Low dose of one half of the slices, full dose of the other: no slice is seen at both."""
    objective = CycleGAN(critic="patchgan" if arguments.full else "patchgan:channels=16,layers=1")
    return recon.train(
        network(arguments.full),
        data=Unpaired(training.low[::2], training.high[1::2]),
        validation=(test.low, test.high),
        objective=objective,
        lr=None if arguments.full else {"network": 1e-3, "critics": 1e-3},
        **settings(arguments, "cyclegan"),
    )


def supervised(training: Pairs, test: Pairs, arguments: argparse.Namespace) -> recon.LearnedPrior:
    """The same network on as many pairs: the first half of the slices, at both doses."""
    return recon.train(
        network(arguments.full),
        data=(training.low[::2], training.high[::2]),
        validation=(test.low, test.high),
        loss="l1",
        lr=2e-4 if arguments.full else 2e-3,
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
    if not arguments.full:
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
