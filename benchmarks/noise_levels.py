"""Noise levels estimated from MRI and fan-beam data of a sharp phantom, over the truth.

    .venv/bin/python benchmarks/noise_levels.py [--size 256] [--json FILE]

Shepp-Logan with white noise; in MRI relative to the image's maximum of 1, in fan beam to the largest line integral.
``simple`` is the estimate from the outermost samples of k-space, or from differences along the detector.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from preconditioners import coil_maps
from recon_operators import CartesianMRI, FanBeam, RadialMRI
from recon_operators.kspace_noise import noise_power
from recon_operators.sinogram_noise import sinogram_noise
from setting import environment, print_table
from skimage.data import shepp_logan_phantom
from skimage.transform import resize
from torch import Tensor

import recon


def scans(size: int) -> dict[str, recon.LinearOperator]:
    """By name."""
    shape, maps = (size, size), coil_maps(8, size)
    made: dict[str, recon.LinearOperator] = {}
    for coils, given in (("1 coil", None), ("8 coils", maps)):
        for mask in ("random_1d", "random_2d"):
            sampling = (f"{mask}:acceleration=4", given, shape if given is None else None)
            made[f"{coils}, {mask}"] = CartesianMRI(*sampling)
        made[f"{coils}, 48 spokes"] = RadialMRI(shape, 48, coil_maps=given)
    for views in (90, 360, 720):
        fan = FanBeam(shape, angles=views, source_origin=2.0 * size, origin_detector=1.0 * size)
        made[f"fan, {views} views"] = fan
    return made


def simple(operator: recon.LinearOperator, y: Tensor) -> float:
    """The estimate that looks beside no object."""
    if isinstance(operator, FanBeam):
        return float(sinogram_noise(y)[0])
    assert isinstance(operator, CartesianMRI | RadialMRI)
    flat = y.reshape(1, -1, math.prod(operator.range_shape[-2:]))
    return float(noise_power(flat[..., operator._outermost()]).mean().sqrt())


def row(name: str, operator: recon.LinearOperator, image: Tensor) -> dict[str, Any]:
    """Estimates over the truth at three levels."""
    clean = operator(image if operator.domain == "real" else image.to(torch.complex64))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(clean.shape, generator=generator, dtype=clean.dtype)
    noise = noise * math.sqrt(2) if noise.is_complex() else noise
    if operator.sample_mask is not None:
        noise = noise * operator.sample_mask
    unit = float(clean.max()) if operator.domain == "real" else 1.0
    found: dict[str, Any] = {"scan": name}
    for level in (0.001, 0.005, 0.02):
        y = (clean + level * unit * noise).unsqueeze(0)
        found[f"{level:.1%}"] = round(float(operator.noise_level(y)[0]) / (level * unit), 2)
        found[f"{level:.1%}, simple"] = round(simple(operator, y) / (level * unit), 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    side = (options.size, options.size)
    image = torch.tensor(resize(shepp_logan_phantom(), side, anti_aliasing=True), dtype=torch.float32)
    rows = [row(name, operator, image) for name, operator in scans(options.size).items()]
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
