"""The problems as DeepInverse solves them: its own operators, its ADMM with the best settings found by hand."""

from __future__ import annotations

from typing import Any

import torch
from deepinv_import import deepinv
from problems import VIEWS, Posed
from torch import Tensor
from trajectory import Method, Watch

from recon.priors import Denoiser

MOST = 10_000


def method(model: Any, data: Tensor, physics: Any, **options: Any) -> Method:
    """Run an optimiser; complex images are its two channels."""

    def run(watch: Watch) -> None:
        def watched(values: list, before: Tensor, image: Tensor) -> float:
            if watch(torch.complex(image[0], image[1]) if len(image) == 2 else image[0]):
                raise StopIteration
            return 0.0

        solver = model(max_iter=MOST, custom_metrics={"watch": watched}, **options)
        try:
            solver(data, physics, compute_metrics=True)
        except StopIteration:
            return

    return run


def admm(data: Tensor, physics: Any, prior: Any, weight: float, step: float) -> Method:
    """ADMM, which splits at z = x."""
    return method(
        deepinv.optim.ADMM,
        data,
        physics,
        data_fidelity=deepinv.optim.L2(),
        prior=prior,
        lambda_reg=weight,
        stepsize=step,
    )


def total_variation() -> Any:
    """Its TV, by 50 iterations inside each iteration."""
    return deepinv.optim.TVPrior(n_it_max=50)


def noisy(physics: Any, truth: Tensor) -> Tensor:
    """Its own data with noise of 1 % of the maximum."""
    clean = physics(truth[None, None])
    generator = torch.Generator().manual_seed(0)
    return clean + 0.01 * float(clean.max()) * torch.randn(clean.shape, generator=generator)


def as_channels(values: Tensor) -> Tensor:
    """Complex values as DeepInverse holds them: (1, 2, ...)."""
    return torch.view_as_real(values).movedim(-1, 0).unsqueeze(0).contiguous()


def ct(posed: Posed) -> dict[str, Method]:
    """Parallel beam by rotating the image."""
    side = len(posed.truth)
    physics = deepinv.physics.Tomography(angles=VIEWS, img_width=side, normalize=True)
    return {"tuned ADMM": admm(noisy(physics, posed.truth), physics, total_variation(), 3e-4, 100.0)}


def fan(posed: Posed) -> dict[str, Method]:
    """Fan beam of the same geometry, in units of a pixel."""
    side = len(posed.truth)
    geometry = {
        "pixel_spacing": 1.0,
        "source_radius": 2.0 * side,
        "detector_radius": 1.0 * side,
        "n_detector_pixels": posed.operator.range_shape[-1],
        "detector_spacing": 1.0,
    }
    angles = torch.arange(VIEWS) * 360 / VIEWS
    physics = deepinv.physics.Tomography(
        angles=angles, img_width=side, normalize=True, fan_beam=True, fan_parameters=geometry
    )
    return {"tuned ADMM": admm(noisy(physics, posed.truth), physics, total_variation(), 3e-4, 100.0)}


def mri(posed: Posed) -> dict[str, Method]:
    """The same data; real and imaginary part have a TV each."""
    physics = deepinv.physics.MRI(mask=posed.operator.mask, img_size=(2, *posed.truth.shape))
    return {"tuned ADMM": admm(as_channels(posed.y), physics, total_variation(), posed.weight, 10.0)}


def coils(posed: Posed) -> dict[str, Method]:
    """The same data; real and imaginary part have wavelets each."""
    physics = deepinv.physics.MultiCoilMRI(mask=posed.operator.mask, coil_maps=posed.operator.coil_maps)
    run = method(
        deepinv.optim.FISTA,
        as_channels(posed.y),
        physics,
        data_fidelity=deepinv.optim.L2(),
        prior=deepinv.optim.WaveletPrior(level=3, wv="db4"),
        lambda_reg=posed.weight,
        stepsize=1.0,
    )
    return {"FISTA": run}


def inpainting(posed: Posed) -> dict[str, Method]:
    """The same data."""
    mask = posed.operator.mask[None]
    physics = deepinv.physics.Inpainting(img_size=mask.shape, mask=mask)
    data = posed.y[None, None]
    return {"tuned ADMM": admm(data, physics, total_variation(), posed.weight, 100.0)}


class SameDenoiser(deepinv.models.base.Denoiser):
    """A denoiser of ours, for its images (B, 1, ...), or (B, 2, ...) of complex ones."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, sigma: Any = None, **_: Any) -> Tensor:
        """Denoise."""
        level = torch.as_tensor(sigma, dtype=torch.float32).reshape(-1)[0]
        if x.shape[1] == 2:
            return as_channels(self.denoiser.denoise(torch.complex(x[:, 0], x[:, 1]), level)[0])
        return self.denoiser.denoise(x[:, 0], level).unsqueeze(1)


def plug_and_play(posed: Posed, sigma: float, step: float) -> dict[str, Method]:
    """Plug-and-play ADMM with the same denoiser; the noise level that it is shown, and the step, are set by hand."""
    if posed.y.is_complex():
        physics = deepinv.physics.MRI(mask=posed.operator.mask, img_size=(2, *posed.truth.shape))
        data = as_channels(posed.y)
    else:
        mask = posed.operator.mask[None]
        physics, data = deepinv.physics.Inpainting(img_size=mask.shape, mask=mask), posed.y[None, None]
    run = method(
        deepinv.optim.ADMM,
        data,
        physics,
        data_fidelity=deepinv.optim.L2(),
        prior=deepinv.optim.PnP(SameDenoiser(posed.prior)),
        stepsize=step,
        g_param=sigma,
    )
    return {"tuned ADMM": run}


METHODS = {
    "CT TV": ct,
    "CT TV, fan": fan,
    "MRI TV": mri,
    "MRI wavelet, 4 coils": coils,
    "inpainting TV": inpainting,
    "PnP MRI brain, 4x": lambda posed: plug_and_play(posed, 0.02, 10.0),
    "PnP inpainting, 30 %": lambda posed: plug_and_play(posed, 0.05, 1.0),
}
