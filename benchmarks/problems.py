"""The problems of the benchmarks: Shepp-Logan with priors of known weight, and sample data with a denoiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from recon_data import samples
from recon_operators import CartesianMRI
from recon_priors import NonNegative, TotalVariation, WaveletDenoiser, WaveletSparsity
from skimage.data import shepp_logan_phantom
from skimage.transform import resize
from torch import Tensor

import recon

VIEWS = 60
"""Of CT."""


class Posed(NamedTuple):
    """A problem.

    Attributes:
        operator: the scanner.
        prior: with its weight.
        y: data.
        truth: the image, real.
        noise_level: standard deviation of the noise, of each part of complex data.
        weight: of the prior.
        solvers: our algorithms that solve it.
        fidelity: the data term.
        peak: of the PSNR.
    """

    operator: recon.LinearOperator
    prior: recon.Prior
    y: Tensor
    truth: Tensor
    noise_level: float
    weight: float
    solvers: tuple[str, ...] = ("admm", "pdhg")
    fidelity: str = "gaussian"
    peak: float = 1.0


def phantom(side: int) -> Tensor:
    """Shepp-Logan in [0, 1]."""
    return torch.tensor(resize(shepp_logan_phantom(), (side, side), anti_aliasing=True), dtype=torch.float32)


def ct(side: int, name: str = "ct_parallel", **geometry: Any) -> Posed:
    """TV of 60 views, noise 1 % of the largest line integral."""
    op = recon.operator(name, shape=(side, side), angles=VIEWS, **geometry)
    truth = phantom(side)
    sigma = 0.01 * float(op(truth).max())
    y = op.measure(truth, noise=recon.noise("gaussian", std=sigma), seed=0)
    return Posed(op, TotalVariation(7.5 * sigma), y, truth, sigma, 7.5 * sigma)


def fan(side: int) -> Posed:
    """The same in fan beam over the full turn; the source is two, the detector one width of the image away."""
    return ct(side, "ct_fan", source_origin=2.0 * side, origin_detector=1.0 * side)


def counted(side: int) -> Posed:
    """TV and x >= 0 of the likelihood of 1e4 photons a ray."""
    op = recon.operator("ct_parallel", shape=(side, side), angles=VIEWS, pixel_size=100 / side)
    truth = 0.05 * phantom(side)
    y = op.measure(truth, noise=recon.noise("poisson", photons=1e4), seed=0)
    prior = TotalVariation(30.0) + NonNegative()
    return Posed(op, prior, y, truth, float("nan"), 30.0, fidelity="poisson:photons=1e4")


def mri(side: int) -> Posed:
    """TV of a quarter of k-space."""
    op = recon.operator("mri_cartesian", mask="random_1d:acceleration=4", shape=(side, side))
    truth = phantom(side)
    y = op.measure(truth.to(torch.complex64), noise=recon.noise("complex_gaussian", std=0.01), seed=0)
    return Posed(op, TotalVariation(3e-3, boundary="periodic"), y, truth, 0.01, 3e-3)


def coil_maps(side: int) -> Tensor:
    """Four smooth complex coils of energy 1."""
    across = torch.linspace(-1, 1, side)
    places = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    maps = torch.stack(
        [
            torch.exp(-0.4 * ((across[:, None] - a) ** 2 + (across - b) ** 2) + 1j * a * across)
            for a, b in places
        ]
    )
    return maps / maps.abs().square().sum(0).sqrt()


def coils(side: int) -> Posed:
    """Orthogonal wavelets of four coils, a quarter of k-space."""
    op = recon.operator("mri_cartesian", mask="random_1d:acceleration=4", coil_maps=coil_maps(side))
    truth = phantom(side)
    y = op.measure(truth.to(torch.complex64), noise=recon.noise("complex_gaussian", std=0.01), seed=0)
    prior = WaveletSparsity(5e-3, decimated=True)
    return Posed(op, prior, y, truth, 0.01, 5e-3, ("admm", "pdhg", "fista"))


def inpainting(side: int) -> Posed:
    """TV of 30 % of the pixels."""
    mask = (torch.rand(side, side, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    op = recon.operator("mask", mask=mask)
    truth = phantom(side)
    y = op.measure(truth, noise=recon.noise("gaussian", std=0.02), seed=0)
    return Posed(op, TotalVariation(0.01), y, truth, 0.02, 0.01)


def chest(side: int = 256) -> Posed:
    """The sample's chest slice in 1/mm from 60 views of 1e5 photons a ray."""
    sample = samples.ct_chest()
    step = sample.attenuation().shape[-1] // side
    truth = sample.attenuation()[::step, ::step].float().contiguous()
    op = recon.operator(
        "ct_parallel", shape=truth.shape, pixel_size=step * sample.pixel_size[0], angles=VIEWS
    )
    y = op.measure(truth, noise=recon.noise("poisson", photons=1e5), seed=0)
    return Posed(op, WaveletDenoiser(), y, truth, float("nan"), float("nan"), peak=0.04)


def brain() -> Posed:
    """A quarter of the columns of the sample's measured k-space, 256 x 256, one coil; its own noise."""
    kspace = samples.kspace_brain().data.to(torch.complex64)
    full = CartesianMRI(torch.ones(kspace.shape), shape=kspace.shape).pinv(kspace).abs()
    op = CartesianMRI(
        ("random_1d", {"acceleration": 4, "density": "gaussian", "seed": 1}), shape=kspace.shape
    )
    kspace, full = kspace / full.max(), full / full.max()
    return Posed(op, WaveletDenoiser(), kspace * op.mask, full, float("nan"), float("nan"))


def cat(side: int = 256) -> Tensor:
    """A square of the sample's photograph, grey, in [0, 1]."""
    return samples.chelsea().data.mean(0)[20 : 20 + side, 100 : 100 + side].float().contiguous()


def blurred(side: int = 256) -> Posed:
    """A photograph seen through a Gaussian blur of 1.5 pixels; noise 0.02."""
    truth = cat(side)
    op = recon.operator("blur", shape=truth.shape, kernel=("gaussian", 1.5))
    y = op.measure(truth, noise=recon.noise("gaussian", std=0.02), seed=0)
    return Posed(op, WaveletDenoiser(), y, truth, 0.02, float("nan"))


def holes(side: int = 256) -> Posed:
    """A photograph of which 30 % of the pixels are seen; noise 0.05."""
    truth = cat(side)
    mask = (torch.rand(side, side, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    op = recon.operator("mask", mask=mask)
    y = op.measure(truth, noise=recon.noise("gaussian", std=0.05), seed=0)
    return Posed(op, WaveletDenoiser(), y, truth, 0.05, float("nan"))


NATURAL: dict[str, Callable[[], Posed]] = {
    "CT chest, 60 views": chest,
    "MRI brain, 4x": brain,
    "blur": blurred,
    "inpainting, 30 %": holes,
}
"""Images of the sample data, 256 x 256, with a denoiser for a prior."""

PROBLEMS: dict[str, Callable[[int], Posed]] = {
    "CT TV": ct,
    "CT TV, fan": fan,
    "CT TV, photons": counted,
    "MRI TV": mri,
    "MRI wavelet, 4 coils": coils,
    "inpainting TV": inpainting,
}
