"""CT of few photons: the automatic weight holds, and noise is not taken for images in another unit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import recon


class Identical(recon.Denoiser):
    """A denoiser for values between 0 and 1."""

    value_range = (0.0, 1.0)

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return x


def test_the_automatic_weight_holds_where_rays_count_no_photon() -> None:
    """TV on a disc behind so much that one ray in thirty counts nothing: within 1.5 dB of the best of six weights."""
    axis = torch.linspace(-1, 1, 32)
    radius = (axis[:, None] ** 2 + axis**2).sqrt()
    truth = 0.1 * (radius < 0.8).float() + 0.05 * (radius < 0.4).float()
    ct = recon.operator("ct_parallel", shape=(32, 32), pixel_size=1.0, angles=60)
    y = ct.measure(truth, noise=recon.noise("poisson", photons=30), seed=0)
    assert 0.01 < float((y > math.log(30 / 0.5)).float().mean()) < 0.2
    fidelity = ("poisson", {"photons": 30.0})

    def psnr(weight: float | str) -> float:
        solution = recon.solve(
            ct, recon.prior("tv") + recon.prior("nonnegative"), y, fidelity=fidelity, weight=weight
        )
        return float(recon.metric("psnr", data_range=0.15)(solution.image, truth, item_ndim=2))

    assert psnr("auto") > max(psnr(10.0**k) for k in (-1, -0.5, 0, 0.5, 1, 1.5)) - 1.5


@pytest.mark.filterwarnings("ignore::recon.solving.ConvergenceWarning")
def test_noise_and_streaks_are_no_other_unit() -> None:
    axis = torch.linspace(-1, 1, 32)
    disc = 0.02 * (axis[:, None] ** 2 + axis**2 < 0.6).float()
    ct = recon.operator("ct_parallel", shape=(32, 32), angles=8)
    y = ct.measure(disc, noise=recon.noise("poisson", photons=30), seed=0)
    recon.solve(ct, Identical(weight=1e-3), y, image_range=(0.0, 0.02), stop=recon.MaxIterations(1))
