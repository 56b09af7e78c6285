"""Noise impedance: a network fits a photograph sooner than the same pixels shuffled, and noise last.

The experiment of Deep Image Prior (Ulyanov et al. 2018, figure 2) with its four targets, all in one batch. Every
error is divided by the variance of its target, so that curves of different contrast can be compared: without that, a
chart shows mostly how far each target is from grey.

    python examples/experiments/noise_impedance.py [--side 64] [--iterations 400] [--preset small_128]
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from recon_data import samples

import recon


def targets(side: int) -> dict[str, torch.Tensor]:
    """The photograph, with noise, its pixels shuffled, and noise, all on the scale from 0 to 1."""
    stream = torch.Generator().manual_seed(0)
    photograph = samples.camera().data[40:, 150:][: 4 * side, : 4 * side]
    image = torch.nn.functional.avg_pool2d(photograph[None], 4)[0]
    shuffled = image.reshape(-1)[torch.randperm(image.numel(), generator=stream)].reshape(image.shape)
    return {
        "image": image,
        "image + noise": image + 25 / 255 * torch.randn(image.shape, generator=stream),
        "pixels shuffled": shuffled,
        "uniform noise": torch.rand(image.shape, generator=stream),
    }


def main() -> None:
    """Fit the four targets and draw their errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--preset", default="small_128")
    options = parser.parse_args()
    images = targets(options.side)
    batch = torch.stack(list(images.values()))
    variance = batch.var((1, 2), unbiased=False)
    curves = []

    def record(snapshot: recon.Snapshot) -> None:
        curves.append((snapshot.image - batch).square().mean((1, 2)) / variance)

    recon.solve(
        recon.Identity(batch.shape[1:]),
        recon.prior("dip", preset=options.preset),
        batch,
        solver=recon.DIP(output="latest", reg_noise=0.0, lr=0.01),
        image_range=(-0.3, 1.3),
        stop=recon.MaxIterations(options.iterations),
        callback=record,
    )
    errors = torch.stack(curves)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, curve in zip(images, errors.T, strict=True):
        below = (curve < 0.5).nonzero()
        when = f"iteration {int(below[0]) + 1}" if len(below) else "never"
        print(f"{name:16} half of the variance fitted at {when}; left at the end: {float(curve[-1]):.3f}")
        axes.plot(range(1, len(curve) + 1), curve, label=name)
    axes.set(xscale="log", xlabel="iteration", ylabel="mean squared error / variance", ylim=(0, 1.5))
    axes.legend()
    figure.savefig("noise_impedance.png", dpi=120)


if __name__ == "__main__":
    main()
