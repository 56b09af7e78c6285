"""A measured fan-beam scan: all views and 90 degrees of them, by filtered back-projection and total variation.

Change the range of angles that is used, the prior, or the scan to one of yours, with its geometry.
"""

import math

import torch
from recon_data import samples
from recon_priors import NonNegative, TotalVariation

import recon
from recon.report import save_comparison

scan = samples.fan_disc()  # Helsinki Tomography Challenge 2022: line integrals through a disc with holes
size = 2 * scan.geometry["pixel_size"]  # 256 pixels in place of the challenge's 512
geometry = {**scan.geometry, "shape": (256, 256), "pixel_size": size}
plastic = samples.fan_disc_truth().data.reshape(256, 2, 256, 2).mean((1, 3)) > 0.5


def dice(image: torch.Tensor) -> float:
    """Overlap of what is denser than half the densest with the true disc."""
    found = image > image.quantile(0.95) / 2
    return float(2 * (found & plastic).sum() / (found.sum() + plastic.sum()))


prior = TotalVariation(weight=0.3) + NonNegative()
images = {}
for name, first, last in (("all views", 0, 360), ("90 degrees", 75, 165)):
    used = [first - 0.1 < math.degrees(angle) < last + 0.1 for angle in geometry["angles"]]
    angles = [angle for angle, is_used in zip(geometry["angles"], used, strict=True) if is_used]
    ct = recon.operator("ct_fan", **{**geometry, "angles": angles})  # warns of the lines that no ray measures
    by_tv = recon.solve(ct, prior, scan.data[used], stop=recon.MaxIterations(60))
    for method, image in (("FBP", ct.pinv(scan.data[used])), ("TV", by_tv.image)):
        images[f"{method}, {name}: Dice {dice(image):.3f}"] = image

print(*images, sep="\n")
truth = 0.0376 * plastic.float()  # 1/mm
save_comparison("ct_fan_measured.png", images, truth, (0, 0.045), "1/mm", metrics=[], pixel_size=size)
