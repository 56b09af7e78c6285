"""Checks of noise models: a function of the seed and the item's place, of nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from recon.simulate import Noise
from recon.testing.measuring import CLOSE, Check, Checks, bound, random, require, require_close

SHAPE = (9, 11)


def noise_checks(noise: Noise, *, zero_mean: bool = False) -> Checks:
    """The checks of a noise model by name; with `zero_mean` (the tag "zero mean" of its entry) that too."""
    return bound((*CHECKS, *((check_zero_mean,) if zero_mean else ())), noise)


def check_shape_and_dtype(noise: Noise) -> None:
    """Shape and type of the data stay, and something is added."""
    for dtype in _dtypes(noise):
        clean = _clean(3, dtype=dtype)
        noisy = noise(clean, item_ndim=2, seed=0)
        require(
            noisy.shape == clean.shape,
            f"noisy data have shape {tuple(noisy.shape)}, expected {tuple(clean.shape)}",
        )
        require(noisy.dtype == dtype, f"noisy data of {dtype} are {noisy.dtype}: the type must stay")
        require(bool(torch.isfinite(noisy).all()), "noisy data hold NaN or infinite values")
        require(
            not torch.equal(noisy, clean), "the noisy data are the clean ones: give the example a noise level"
        )


def check_seeded(noise: Noise) -> None:
    """The same seed gives the same noise whatever was drawn before, another seed another."""
    clean = _clean(2, dtype=_dtypes(noise)[0])
    torch.manual_seed(1)
    first = noise(clean, item_ndim=2, seed=7)
    torch.manual_seed(2)
    require(
        torch.equal(first, noise(clean, item_ndim=2, seed=7)),
        "the same seed gives other noise: draw from the generator that is given, not from torch's global one",
    )
    require(not torch.equal(first, noise(clean, item_ndim=2, seed=8)), "another seed gives the same noise")


def check_items_independent(noise: Noise) -> None:
    """An item's noise is that of its place: the same in a batch, in pieces of it, and alone."""
    clean = _clean(4, dtype=_dtypes(noise)[0])
    whole = noise(clean, item_ndim=2, seed=3)
    for place in range(4):
        alone = noise(clean[place], item_ndim=2, seed=3, first_item=place)
        require(torch.equal(whole[place], alone), f"item {place} has other noise in a batch than alone")
    same = clean[:1].expand(2, *SHAPE)
    pair = noise(same, item_ndim=2, seed=3)
    require(not torch.equal(pair[0], pair[1]), "two equal items get the same noise")
    nested = noise(clean.reshape(2, 2, *SHAPE), item_ndim=2, seed=3)
    require(torch.equal(nested.reshape(4, *SHAPE), whole), "a (2, 2) batch has other noise than a batch of 4")


def check_precision(noise: Noise) -> None:
    """Single precision gets the noise of double precision."""
    double, single = _dtypes(noise)
    noisy = noise(_clean(2, dtype=double), item_ndim=2, seed=5)
    rounded = noise(_clean(2, dtype=single), item_ndim=2, seed=5)
    require_close(rounded.to(double), noisy, "noise in single precision differs from double", 10 * CLOSE)


def check_sample_mask(noise: Noise) -> None:
    """Where the mask is 0 nothing was measured: the data stay clean there."""
    clean = _clean(2, dtype=_dtypes(noise)[0])
    mask = torch.zeros(SHAPE)
    mask[:, ::2] = 1
    noisy = noise(clean, item_ndim=2, seed=0, sample_mask=mask)
    fine = torch.equal(noisy[..., 1::2], clean[..., 1::2])
    require(fine, "noise is added where the sample mask is 0")


def check_input_unchanged(noise: Noise) -> None:
    """The clean data stay as they are."""
    clean = _clean(2, dtype=_dtypes(noise)[0])
    before = clean.clone()
    noise(clean, item_ndim=2, seed=0)
    require(torch.equal(clean, before), "the clean data are changed")


def check_description(noise: Noise) -> None:
    """It describes itself in one line, for the provenance of simulated data."""
    text = noise.description
    require(bool(text.strip()) and "\n" not in text, f"the description is {text!r}, expected one line")


def check_zero_mean(noise: Noise) -> None:
    """The mean of many draws is zero to within five standard errors, as the entry's tag says."""
    clean = _clean(64, dtype=_dtypes(noise)[0])
    added = noise(clean, item_ndim=2, seed=11) - clean
    parts = [added.real, added.imag] if added.is_complex() else [added]
    for part in parts:
        mean, error = float(part.mean()), float(part.std()) / part.numel() ** 0.5
        require(
            abs(mean) <= 5 * error,
            f"the mean of {part.numel()} draws is {mean:.3g}, {abs(mean) / error:.1f} standard errors from zero, "
            'although the entry has the tag "zero mean"',
        )


CHECKS: tuple[Check, ...] = (
    check_shape_and_dtype,
    check_seeded,
    check_items_independent,
    check_precision,
    check_sample_mask,
    check_input_unchanged,
    check_description,
)


def _dtypes(noise: Noise) -> tuple[torch.dtype, torch.dtype]:
    return (
        (torch.complex128, torch.complex64) if noise.domain == "complex" else (torch.float64, torch.float32)
    )


def _clean(items: int, dtype: torch.dtype) -> Tensor:
    """Data between 0.5 and 2 (line integrals, for transmission noise), with a phase where complex."""
    precise = torch.complex128 if dtype.is_complex else torch.float64
    values = 1.25 + 0.25 * random((items, *SHAPE), torch.float64).clamp(-3, 3)
    if dtype.is_complex:
        return torch.polar(values, random((items, *SHAPE), torch.float64, 1)).to(precise).to(dtype)
    return values.to(dtype)
