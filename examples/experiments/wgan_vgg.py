"""Four systems for low-dose CT from one objective: MSE or VGG, alone or beside a Wasserstein critic.

    python examples/experiments/wgan_vgg.py OUTPUT                     # minutes on a CPU, slices that ship
    python examples/experiments/wgan_vgg.py OUTPUT --smoke             # seconds
    python examples/experiments/wgan_vgg.py OUTPUT --images FOLDER --vgg vgg19-dcbb9e9d.pth --full

After Mbouwe, Mehdaoui and Zeddoun, who follow Yang et al. 2018 (IEEE TMI 37, 1348-1357). OUTPUT gets a model for
each system, results.md with their figures beside these, losses.png and images.png. A run that was stopped goes on.
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


@dataclass(frozen=True)
class Size:
    """What differs between the sizes of this experiment.

    Attributes:
        network: the generator.
        critic: the critic.
        layer: of VGG-19 that is compared.
        weights: of the content loss and of the critic.
        critic_steps: steps of the critic for one of the generator, each with a batch of its own if `fresh_batches`.
        fresh_batches: see `critic_steps`.
        patch: side of the patches [pixels].
        patches: of an image in an epoch.
        batch: patches of a batch.
        epochs: how often all images are seen.
        lr: rates of generator and critic; None for those of the papers.
        schedule: of the rates; None for that of the papers.
        validate_every: epochs from one validation to the next.
    """

    network: str
    critic: Any
    layer: int
    weights: tuple[float, float]
    critic_steps: int
    fresh_batches: bool
    patch: int
    patches: int
    batch: int
    epochs: int
    lr: dict[str, float] | None
    schedule: str | None
    validate_every: int = 1


FULL = Size(
    network="wgan_vgg_generator",
    critic="wgan_vgg_critic",
    layer=34,
    weights=(0.1, 1.0),
    critic_steps=4,
    fresh_batches=True,
    patch=64,
    patches=8,
    batch=128,
    epochs=100,
    lr=None,
    schedule=None,
)
SMALL = Size(
    network="wgan_vgg_generator:channels=16,depth=6,residual=true,last_relu=false",
    critic=("wgan_vgg_critic", {"channels": (16, 16, 32, 32), "features": 64}),
    layer=7,
    weights=(1.0, 0.01),
    critic_steps=1,
    fresh_batches=False,
    patch=32,
    patches=4,
    batch=8,
    epochs=15,
    lr={"network": 2e-3, "critic": 1e-3},
    schedule="cosine",
)
SMOKE = replace(
    SMALL,
    network="wgan_vgg_generator:channels=8,depth=4,residual=true,last_relu=false",
    critic=("wgan_vgg_critic", {"channels": (8, 8, 16, 16), "features": 16}),
    layer=2,
    patches=1,
    batch=4,
    epochs=6,
    validate_every=3,
)
SIZES = {"smoke": SMOKE, "small": SMALL, "full": FULL}


def main() -> None:
    """Train and compare."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--images", type=Path, help="one subfolder a patient; without it the slices that ship"
    )
    parser.add_argument(
        "--vgg", default="random", help="file of VGG-19's weights; frozen random ones without it"
    )
    arguments = settled(parser.parse_args())
    scans, held = patients(arguments.images)
    training = low_dose_pairs(scans, SCANS[arguments.size], seed=0)
    test = low_dose_pairs(held, SCANS[arguments.size], seed=1000)
    logs: dict[str, list[dict[str, float]]] = {}
    priors = {}
    began = time.perf_counter()
    for name in SYSTEMS:
        priors[name] = train(name, training, test, arguments)
        logs[name] = read_log(arguments.output / name.lower())
    seconds = time.perf_counter() - began
    report(arguments, training, test, priors, logs, seconds)


def train(name: str, training: Pairs, test: Pairs, arguments: argparse.Namespace) -> recon.LearnedPrior:
    """One system; everything but content and critic is the same for the four."""
    content, critic = SYSTEMS[name]
    size = SIZES[arguments.size]
    objective = WGAN(
        content=as_loss("mse") if content == "mse" else VGG19(arguments.vgg, layer=size.layer),
        content_weight=size.weights[0],
        adversarial_weight=size.weights[1] * critic,
        critic=size.critic,
        critic_steps=size.critic_steps,
        fresh_batches=size.fresh_batches,
    )
    players = ("network", "critic") if critic else ("network",)
    return recon.train(
        size.network,
        data=(training.low, training.high),
        validation=(test.low, test.high),
        objective=objective,
        image_range=(0.0, 1.0),
        augment="flip,turns",
        patch=size.patch,
        patches=size.patches,
        batch=size.batch,
        epochs=arguments.epochs or size.epochs,
        lr=None if size.lr is None else {player: size.lr[player] for player in players},
        schedule=size.schedule,
        monitor="last",
        validate_every=size.validate_every,
        device=arguments.device,
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
    if arguments.size != "full":
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
