"""Four systems for low-dose CT from one objective: MSE or VGG, alone or beside a Wasserstein critic.

    python examples/experiments/wgan_vgg.py OUTPUT                     # minutes on a CPU, slices that ship
    python examples/experiments/wgan_vgg.py OUTPUT --images FOLDER --vgg vgg19-dcbb9e9d.pth --full

After Mbouwe, Mehdaoui and Zeddoun, who follow Yang et al. 2018 (IEEE TMI 37, 1348-1357). OUTPUT gets a model for
each system, results.md with their figures beside these, losses.png and images.png. A run that was stopped goes on.
"""

import argparse
import time
from pathlib import Path

import torch
from low_dose_slices import HU, Pairs, low_dose_pairs, patients
from result_tables import read_log, save_curves, table, write_results

import recon
from recon.metrics import PSNR, RMSE, SSIM
from recon.published_metrics import GlobalSSIM
from recon.report import save_comparison
from recon.training import VGG19, WGAN, as_loss

SYSTEMS = {  # content, weight of the critic
    "Generator-MSE": ("mse", 0.0),
    "WGAN-MSE": ("mse", 1.0),
    "Generator-VGG": ("vgg", 0.0),
    "WGAN-VGG": ("vgg", 1.0),
}
PUBLISHED = {  # their table 3: SSIM over one window, PSNR, 640 images
    "Generator-MSE": (37.871, 0.9967),
    "Generator-VGG": (33.325, 0.9901),
    "WGAN-MSE": (31.521, 0.9856),
    "WGAN-VGG": (35.654, 0.9941),
}
METRICS = (PSNR(data_range=1.0), SSIM(data_range=1.0), RMSE(), GlobalSSIM())
DIFFERENCES = """Why the numbers differ from the published ones:

- theirs are of noise with standard deviation 0.015 in the image (36.5 dB before any network; they write variance), the
  same field on every image, rescaled image by image on the input alone; ours is what a quarter of the dose adds in the
  sinogram, another field on every slice, on one scale for both doses;
- their test images are other slices of patients that they trained on; ours are of another patient;
- their SSIM is one window over a batch, near 1 for almost anything (`global SSIM` here); judge by `SSIM` and `RMSE`;
- their critic ended in a sigmoid; a Wasserstein critic has none;
- of their four systems only Generator-MSE beats the noisy input, by their own figures."""


def main() -> None:
    """Train and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--images", type=Path, help="one subfolder a patient; without it the slices that ship"
    )
    parser.add_argument(
        "--vgg", default="random", help="file of VGG-19's weights; frozen random ones without it"
    )
    parser.add_argument("--full", action="store_true", help="the published size: for a GPU")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--epochs", type=int)
    arguments = parser.parse_args()
    if not arguments.full:
        torch.set_num_threads(1)
    training, test = data(arguments.images, arguments.full)
    logs: dict[str, list[dict[str, float]]] = {}
    priors = {}
    began = time.perf_counter()
    for name in SYSTEMS:
        priors[name] = train(name, training, test, arguments)
        logs[name] = read_log(arguments.output / name.lower())
    seconds = time.perf_counter() - began
    report(arguments, training, test, priors, logs, seconds)


def data(folder: Path | None, full: bool) -> tuple[Pairs, Pairs]:
    """Pairs to train on, and pairs of other patients."""
    scans, held = patients(folder)
    size = {"side": 0, "pool": 1, "angles": 720} if full else {"side": 64, "pool": 2, "angles": 180}
    photons = 4e5 if full else 6e4
    return (
        low_dose_pairs(scans, photons=photons, seed=0, **size),
        low_dose_pairs(held, photons=photons, seed=1000, **size),
    )


def train(name: str, training: Pairs, test: Pairs, arguments: argparse.Namespace) -> recon.LearnedPrior:
    """One system; everything but content and critic is the same for the four."""
    content, critic = SYSTEMS[name]
    loss = as_loss("mse") if content == "mse" else VGG19(arguments.vgg, layer=34 if arguments.full else 7)
    full = arguments.full
    objective = WGAN(
        content=loss,
        content_weight=0.1 if full else 1.0,
        adversarial_weight=critic if full else 0.01 * critic,
        critic="wgan_vgg_critic"
        if full
        else ("wgan_vgg_critic", {"channels": (16, 16, 32, 32), "features": 64}),
        critic_steps=4 if full else 1,
        fresh_batches=full,
    )
    network = (
        "wgan_vgg_generator"
        if full
        else "wgan_vgg_generator:channels=16,depth=6,residual=true,last_relu=false"
    )
    return recon.train(
        network,
        data=(training.low, training.high),
        validation=(test.low, test.high),
        objective=objective,
        image_range=(0.0, 1.0),
        augment="flip,turns",
        patch=64 if full else 32,
        patches=8 if full else 4,
        batch=128 if full else 8,
        epochs=arguments.epochs or (100 if full else 15),
        lr=None if full else {"network": 2e-3, "critic": 1e-3} if critic else {"network": 2e-3},
        schedule=None if full else "cosine",
        monitor="last",
        device=arguments.device if full else "cpu",
        output=arguments.output / name.lower(),
    )


def report(arguments, training: Pairs, test: Pairs, priors, logs, seconds: float) -> None:
    """The table beside theirs, the losses, and one image of each system."""
    results = {"low dose": scores(test.low, test.high)}
    shown = {"low dose": test.low[0]}
    for name, prior in priors.items():
        with torch.no_grad():
            images = torch.cat([prior.denoise(part, 0.0) for part in test.low.split(8)])
        results[name], shown[name] = scores(images, test.high), images[0]
    rows = {name: (*values, *(PUBLISHED.get(name) or ("", ""))) for name, values in results.items()}
    columns = ("PSNR [dB]", "SSIM", "RMSE [HU]", "global SSIM", "their PSNR", "their global SSIM")
    weights = "frozen random weights" if arguments.vgg == "random" else "ImageNet's weights"
    where = arguments.images.name if arguments.images else "the slices that ship"
    text = (
        f"{len(training.high)} images to train on, {len(test.high)} of other patients to test on, {where}; "
        f"{len(logs['WGAN-VGG'])} epochs each, {seconds:.0f} s for the four; VGG-19 with {weights}."
    )
    if not arguments.full:
        text += " Small networks, patches of 32 pixels, an early VGG layer, a critic of weight 0.01: a smoke test."
    write_results(
        arguments.output,
        "WGAN-VGG and its relatives on quarter-dose CT",
        [text, table(columns, rows), DIFFERENCES],
    )
    losses = ["content", "critic_of_true", "critic_of_made", "psnr", "ssim"]
    save_curves(arguments.output / "losses.png", logs, losses)
    save_comparison(
        arguments.output / "images.png", shown, reference=test.high[0], window=(0.3, 0.7), metrics=METRICS[:2]
    )
    print(table(columns, rows))


def scores(images: torch.Tensor, truth: torch.Tensor) -> list[float]:
    """Means over the images, the RMSE in HU."""
    values = [float(metric(images, truth).mean()) for metric in METRICS]
    values[2] *= HU
    return values


if __name__ == "__main__":
    main()
