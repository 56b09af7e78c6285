"""The prior `dip`: made for the images of a problem, fresh for every solve, and a solve that knows when to stop."""

from __future__ import annotations

import pytest
import torch
from recon_networks import DeepImagePrior
from torch import Tensor

import recon

TINY = "dip:filters=8,scales=2,depth=4"
QUICK = recon.MaxIterations(5)


def blocks(side: int = 32) -> Tensor:
    """A piecewise constant image in [0, 1]."""
    image = torch.full((side, side), 0.2)
    image[side // 8 : side // 2, side // 4 : -side // 4] = 0.9
    image[side // 2 :, side // 3 :] = 0.5
    return image


def made_for(shape: tuple[int, ...], *, is_complex: bool = False, **settings: object) -> DeepImagePrior:
    prior = DeepImagePrior(filters=4, scales=2, depth=2, **settings)  # type: ignore[arg-type]
    return prior.for_images(shape, is_complex=is_complex, seed=0, like=torch.zeros(0))


def test_it_is_made_for_the_shape_of_the_images() -> None:
    assert made_for((16, 20))().shape == (1, 1, 16, 20)
    assert made_for((3, 16, 20))().shape == (1, 3, 16, 20)
    assert made_for((8, 16, 20))().shape == (1, 1, 8, 16, 20), "a volume"
    assert made_for((3, 16, 20), axes=3)().shape == (1, 1, 3, 16, 20), "a thin one"
    assert made_for((16, 20), is_complex=True)().shape == (1, 2, 16, 20)
    assert made_for((3, 16, 20), is_complex=True)().shape == (1, 6, 16, 20)
    with pytest.raises(ValueError, match="has no images yet"):
        DeepImagePrior()()
    with pytest.raises(ValueError, match="1 to 3 axes"):
        made_for((2, 3, 16, 20))


def test_weights_and_input_follow_the_seed_and_nothing_else() -> None:
    prior, like = DeepImagePrior(filters=4, scales=2), torch.zeros(0)
    torch.manual_seed(5)
    first = prior.for_images((12, 12), is_complex=False, seed=1, like=like)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after), "the global stream is left alone"
    again = prior.for_images((12, 12), is_complex=False, seed=1, like=like)
    other = prior.for_images((12, 12), is_complex=False, seed=2, like=like)
    assert torch.equal(first(), again()) and not torch.equal(first(), other())
    assert not torch.equal(first.fixed_input, other.fixed_input)


def test_inputs() -> None:
    mesh = made_for((9, 5), input="meshgrid").fixed_input
    assert mesh.shape == (1, 2, 9, 5)
    assert torch.equal(mesh[0, 0, 0], torch.linspace(0, 1, 5)) and torch.equal(
        mesh[0, 1, :, 0], torch.linspace(0, 1, 9)
    )
    uniform = made_for((64, 64), scale=0.5).fixed_input
    assert float(uniform.min()) >= 0 and 0.49 < float(uniform.max()) <= 0.5
    normal = made_for((64, 64), input="normal", scale=0.5).fixed_input
    assert float(normal.std()) == pytest.approx(0.5, rel=0.05)


def test_small_images_lose_the_coarsest_scales() -> None:
    assert DeepImagePrior("denoise", filters=2, shape=(16, 16)).network.scales == 2  # type: ignore[union-attr]
    assert DeepImagePrior("denoise", filters=2, shape=(256, 16)).network.scales == 2  # type: ignore[union-attr]
    assert DeepImagePrior("denoise", filters=2, shape=(128, 128)).network.scales == 5  # type: ignore[union-attr]


def test_scales_filters_and_skips_of_the_sweeps() -> None:
    network = DeepImagePrior("denoise", scales=3, shape=(128, 128)).network
    assert network.scales == 3  # type: ignore[union-attr]
    network = DeepImagePrior("jpeg", scales=6, shape=(256, 256)).network
    assert network.scales == 6 and network.last[0].in_channels == 8  # type: ignore[union-attr, index]
    with pytest.raises(ValueError, match="one for each of 3 scales"):
        DeepImagePrior(filters=(4, 4), scales=3, shape=(64, 64))
    with pytest.raises(ValueError, match="network='dip_unet:argument=value'"):
        DeepImagePrior(network="dip_unet", filters=4, shape=(64, 64))
    with pytest.raises(LookupError, match="no network is called|unknown network"):
        DeepImagePrior(network="dip_uent", shape=(64, 64))
    with pytest.raises(ValueError, match="preset"):
        recon.prior("dip", preset="denoising")


def test_noise_is_removed_before_it_is_fitted() -> None:
    truth = blocks()
    noisy = truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    op = recon.Identity(truth.shape)

    def error(image: Tensor) -> float:
        return float((image - truth).square().mean().sqrt())

    prior = "dip:filters=16,scales=3,skip=0,depth=8"
    stopped = recon.solve(op, prior, noisy)
    assert stopped.converged and "MovingVariance" in stopped.reason
    assert error(stopped.image) < 0.45 * error(noisy)
    again = recon.solve(op, prior, noisy, stop=recon.MaxIterations(30))
    assert error(again.image) > 1.2 * error(stopped.image), "and not before the image is there"


def test_it_fits_complex_images_volumes_and_colours() -> None:
    for shape, dtype in (
        ((12, 16), torch.complex64),
        ((8, 8, 12), torch.float32),
        ((3, 12, 16), torch.float32),
    ):
        y = torch.randn(2, *shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
        solution = recon.solve(recon.Identity(shape), TINY, y, stop=recon.MaxIterations(30))
        assert solution.image.shape == y.shape and solution.image.dtype == dtype
        losses = solution.history["loss"]
        assert losses[-1][0] < losses[0][0] and losses[-1][1] < losses[0][1]


def test_total_variation_beside_it_makes_smoother_images() -> None:
    truth = blocks()
    noisy = truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    tv = recon.prior("tv", weight=1.0)
    op, stop = recon.Identity(truth.shape), recon.MaxIterations(150)
    alone = recon.solve(op, recon.prior("dip", filters=16, scales=2, depth=4), noisy, stop=stop).image
    both = recon.solve(op, recon.prior("dip", filters=16, scales=2, depth=4) + tv, noisy, stop=stop).image
    assert float(tv(both[None])) < 0.7 * float(tv(alone[None]))


def test_the_seed_of_the_solve_decides() -> None:
    y = blocks(16)
    images = [
        recon.solve(recon.Identity(y.shape), TINY, y, seed=seed, stop=QUICK).image for seed in (0, 0, 1)
    ]
    assert torch.equal(images[0], images[1]) and not torch.equal(images[0], images[2])


def test_double_precision_is_kept() -> None:
    y = blocks(16).double()
    assert recon.solve(recon.Identity(y.shape), TINY, y, stop=QUICK).image.dtype == torch.float64


def test_advice_of_a_preset_reaches_the_solver() -> None:
    y = blocks(16)
    with pytest.warns(recon.ConvergenceWarning):
        solution = recon.solve(
            recon.Identity(y.shape), "dip:preset=denoise,filters=4,scales=2", y, solver="dip:iterations=20"
        )
    assert "MovingVariance(patience=100" in solution.provenance["stop"]
    assert solution.iterations == 20
