"""Checks of denoisers: any image size, any noise level including none, every item for itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recon.linear import real_dtype
from recon.priors import Denoiser
from recon.testing.devices import Call, require_device_kept
from recon.testing.measuring import CLOSE, DOUBLE, Check, Checks, bound, random, require, require_close, twins

SHAPE, ODD_SHAPE = (16, 16), (15, 17)


class Trial:
    """A denoiser on images of one shape, in the range it was made for."""

    def __init__(self, prior: Denoiser, shape: Sequence[int] | None) -> None:
        self.prior = prior
        self.shape = SHAPE if shape is None else tuple(shape)
        low, high = prior.value_range if prior.value_range is not None else (0.0, 1.0)
        self.low, self.high = float(low), float(high)
        single = {"real": (torch.float32,), "complex": (torch.complex64,)}
        self.dtypes = single.get(prior.domain, (torch.float32, torch.complex64))

    @property
    def sigma(self) -> float:
        """A usual noise level: a tenth of the range."""
        return 0.1 * (self.high - self.low)

    def draw(
        self, *batch: int, dtype: torch.dtype | None = None, shape: Sequence[int] | None = None, seed: int = 0
    ) -> Tensor:
        """Random images inside the range."""
        dtype = dtype or self.dtypes[-1]
        size = (*batch, *(self.shape if shape is None else shape))
        generator = torch.Generator().manual_seed(seed)
        x = self.low + (self.high - self.low) * torch.rand(size, generator=generator, dtype=real_dtype(dtype))
        return x.to(dtype) * (
            torch.exp(1j * random(size, real_dtype(dtype), seed)) if dtype.is_complex else 1
        )


def denoiser_checks(prior: Denoiser, shape: Sequence[int] | None) -> Checks:
    """The checks of a denoiser by name."""
    return bound(CHECKS, Trial(prior, shape))


def check_value_range(trial: Trial) -> None:
    """The range of values that it was made for is (low, high), or None for any."""
    given = trial.prior.value_range
    fine = given is None or (len(given) == 2 and given[0] < given[1])
    require(fine, f"value_range is {given}, expected (low, high) with low < high, or None")


def check_shapes(trial: Trial) -> None:
    """``(B, *shape)`` gives the same shape, for one item and several."""
    for batch in (1, 3):
        x = trial.draw(batch)
        _require_shape(trial.prior.denoise(x, trial.sigma), x)


def check_odd_sizes(trial: Trial) -> None:
    """Images of odd height and width come back in their own size (a network with strides pads and crops)."""
    shape = ODD_SHAPE if len(trial.shape) == 2 else tuple(side + 1 - side % 2 for side in trial.shape)
    x = trial.draw(1, shape=shape)
    try:
        result = trial.prior.denoise(x, trial.sigma)
    except RuntimeError as error:
        raise AssertionError(
            f"denoise fails for images of shape {shape}: {error}. Pad to what the network needs, then crop"
        ) from error
    _require_shape(result, x)


def check_noise_zero(trial: Trial) -> None:
    """For sigma = 0 the result is finite: late iterations of plug-and-play come near it."""
    _require_finite(trial, 0.0)


def check_noise_extreme(trial: Trial) -> None:
    """For very small and very large sigma the result is finite."""
    for sigma in (1e-12, 1e3 * (trial.high - trial.low)):
        _require_finite(trial, sigma)


def check_sigma_per_item(trial: Trial) -> None:
    """A noise level for each item, ``(B,)``, gives what a loop over the items gives."""
    x = trial.draw(3)
    sigma = trial.sigma * torch.tensor([0.2, 1.0, 3.0], dtype=real_dtype(x.dtype))
    wanted = torch.cat([trial.prior.denoise(x[i : i + 1], float(sigma[i])) for i in range(3)])
    result = trial.prior.denoise(x, sigma)
    require_close(result, wanted, "denoise with a sigma for each item differs from a loop", 10 * CLOSE)


def check_batch_equals_loop(trial: Trial) -> None:
    """An item's result does not depend on its mates (as with batch statistics in training mode)."""
    scale = torch.tensor([0.3, 1.0, 0.6]).reshape(3, *(1,) * len(trial.shape))
    x = trial.draw(3) * scale
    batch = trial.prior.denoise(x, trial.sigma)
    for place in range(3):
        alone = trial.prior.denoise(x[place : place + 1], trial.sigma)[0]
        require_close(
            batch[place],
            alone,
            "denoise of a batch differs from a loop over its items: is a normalisation taken over the batch, or is "
            "the network in training mode?",
            10 * CLOSE,
        )


def check_empty_batch(trial: Trial) -> None:
    """A batch of no items gives no items."""
    x = trial.draw(0)
    _require_shape(trial.prior.denoise(x, trial.sigma), x)


def check_dtypes(trial: Trial) -> None:
    """The type of the image is kept, in single and double precision."""
    for dtype in trial.dtypes:
        for given in (dtype, DOUBLE[dtype]):
            result = trial.prior.denoise(trial.draw(1, dtype=given), trial.sigma)
            require(
                result.dtype == given,
                f"denoise of {given} gives {result.dtype}: convert back with .to(x.dtype)",
            )


def check_device(trial: Trial) -> None:
    """The result lies on the device of the image; see `recon.testing.devices`."""

    def calls(moved: Denoiser, device: torch.device) -> list[Call]:
        x = trial.draw(2).to(device)
        sigma = torch.full((2,), trial.sigma, device=device)
        return [
            ("denoise", lambda: moved.denoise(x, sigma)),
            ("denoise", lambda: moved.denoise(x, trial.sigma)),
        ]

    require_device_kept(trial.prior, calls)


def check_input_unchanged(trial: Trial) -> None:
    """denoise does not write into the image or into sigma."""
    x = trial.draw(2)
    sigma = torch.full((2,), trial.sigma, dtype=real_dtype(x.dtype))
    before, sigma_before = x.clone(), sigma.clone()
    trial.prior.denoise(x, sigma)
    require(torch.equal(x, before), "denoise changes its input: an in-place operation on x?")
    require(torch.equal(sigma, sigma_before), "denoise changes the tensor of noise levels")


def check_deterministic(trial: Trial) -> None:
    """The same input gives the same output (no dropout left on, no unseeded noise)."""
    x = trial.draw(2)
    fine = torch.equal(trial.prior.denoise(x, trial.sigma), trial.prior.denoise(x, trial.sigma))
    require(fine, "denoise gives two different results: is the network in training mode?")


def check_pickle_and_state_dict(trial: Trial) -> None:
    """A pickled copy, a deep copy, and a copy with the state loaded do the same as the denoiser."""
    x = trial.draw(1)
    wanted = trial.prior.denoise(x, trial.sigma)
    for what, same in twins(trial.prior, lambda twin: twin.denoise(x, trial.sigma)).items():
        require(
            torch.equal(same.denoise(x, trial.sigma), wanted),
            f"{what} gives another result than the denoiser",
        )


def _require_shape(result: Tensor, x: Tensor) -> None:
    require(
        result.shape == x.shape,
        f"denoise of {tuple(x.shape)} gives {tuple(result.shape)}, expected the same (a network's channel axis is "
        "added and removed inside)",
    )


def _require_finite(trial: Trial, sigma: float) -> None:
    for level in (sigma, torch.full((2,), sigma)):
        result = trial.prior.denoise(trial.draw(2), level)
        bad = int((~torch.isfinite(result)).sum())
        require(
            bad == 0,
            f"denoise with sigma={sigma:g} gives {bad} NaN or infinite of {result.numel()} values, expected a finite "
            "image: is something divided by sigma?",
        )


CHECKS: tuple[Check, ...] = (
    check_value_range,
    check_shapes,
    check_odd_sizes,
    check_noise_zero,
    check_noise_extreme,
    check_sigma_per_item,
    check_batch_equals_loop,
    check_empty_batch,
    check_dtypes,
    check_device,
    check_input_unchanged,
    check_deterministic,
    check_pickle_and_state_dict,
)
