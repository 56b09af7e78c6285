"""Vectorial and Huber total variation: singular values against LAPACK, colours, channels of an operator."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from recon_operators import Blur, Mask
from recon_priors import TV, HuberTV, VectorialTV
from recon_priors.vectorial_tv import shrink_singular_values, sum_of_singular_values
from torch import Tensor

import recon
from recon.testing import check_operator, check_prior


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 3),
    seed=st.integers(0, 1000),
    size=st.sampled_from([1e-6, 1.0, 1e6]),
    step=st.floats(0, 3),
    dtype=st.sampled_from([torch.float64, torch.complex128]),
    rank_one=st.booleans(),
)
def test_singular_values_are_those_of_lapack(rows, columns, seed, size, step, dtype, rank_one) -> None:
    J = random(2, rows, columns, 3, dtype=dtype, seed=seed)
    if rank_one:
        J = J[:, :, :1] * J[:, :1]
    J = size * J
    U, S, Vh = torch.linalg.svd(J.movedim(-1, 1), full_matrices=False)
    torch.testing.assert_close(sum_of_singular_values(J), S.sum(-1), rtol=1e-10, atol=0)
    shrunk = (U * (S - size * step).clamp_min(0).unsqueeze(-2)) @ Vh
    torch.testing.assert_close(
        shrink_singular_values(J, size * step), shrunk.movedim(1, -1), rtol=0, atol=1e-10 * size
    )


@pytest.mark.parametrize("shape", [(3, 5, 6), (2, 3, 4, 5), (3, 3, 4, 5)])
@pytest.mark.parametrize("coupling", ["nuclear", "joint", "separate"])
def test_they_conform_on_images_and_volumes(shape: tuple[int, ...], coupling: str) -> None:
    check_prior(VectorialTV(0.3, coupling), shape=shape)


def test_one_channel_is_total_variation() -> None:
    x = random(2, 1, 6, 7, dtype=torch.complex128)
    for coupling in ("nuclear", "joint", "separate"):
        torch.testing.assert_close(VectorialTV(0.3, coupling)(x), TV(0.3)(x[:, 0]))


def test_the_gradient_of_the_nuclear_prox_is_right() -> None:
    z = random(1, 3, 2, 3, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: VectorialTV(1.0).prox(z, 0.3), (z,))


def test_separate_channels_are_solved_as_each_alone_and_the_axis_is_where_it_is_said_to_be() -> None:
    y = random(3, 8, 9)
    stop = recon.SmallResiduals(1e-8) | recon.MaxIterations(3000)
    image = recon.solve(recon.Identity((3, 8, 9)), VectorialTV(0.3, "separate"), y, stop=stop).image
    alone = recon.solve(recon.Identity((8, 9)), TV(0.3), y, stop=stop).image
    torch.testing.assert_close(image, alone, rtol=0, atol=1e-5)
    last = recon.solve(
        recon.Identity((8, 9, 3)), VectorialTV(0.3, "separate", axis=-1), y.movedim(0, -1), stop=stop
    ).image
    torch.testing.assert_close(last.movedim(-1, 0), image, rtol=0, atol=1e-5)


def test_channels_that_share_edges_come_back_better_together() -> None:
    edges = torch.zeros(32, 32)
    edges[8:24, 6:20] = 1
    truth = torch.stack([edges, 0.6 * edges, 1 - 0.8 * edges])
    y = truth + 0.3 * random(3, 32, 32, dtype=torch.float32)
    error = {}
    for coupling in ("separate", "joint", "nuclear"):
        images = [
            recon.solve(recon.Identity(truth.shape), VectorialTV(weight, coupling), y).image
            for weight in (0.1, 0.2, 0.3, 0.45, 0.7)
        ]
        error[coupling] = min(float((image - truth).norm()) for image in images)
    assert error["nuclear"] < error["joint"] < 0.95 * error["separate"]


def test_an_operator_on_every_channel_keeps_its_closed_form_and_its_file(tmp_path) -> None:
    blur = recon.Channelwise(Blur((8, 9), random(3, 3).abs()), 3)
    b, rho = random(2, 3, 8, 9), torch.tensor([0.2, 0.9], dtype=torch.float64).reshape(2, 1, 1, 1)
    K = VectorialTV(boundary="periodic").K((3, 8, 9))
    x = blur.solve_gram(b, [rho], [K])
    assert x is not None
    torch.testing.assert_close(blur.gram(x) + rho * K.gram(x), b, rtol=0, atol=1e-10)
    for axis in (0, 1, -1):
        check_operator(recon.Channelwise(Blur((4, 5), random(3, 3)), 2, axis))
    known = recon.Channelwise(Mask(mask=torch.ones(4, 5)), 2, -1)
    loaded = recon.Problem.load(recon.Problem(known, random(2, 4, 5)).save(tmp_path / "p.h5")).operator
    assert isinstance(loaded, recon.Channelwise) and (loaded.channels, loaded.axis) == (2, 2)


def test_huber_is_quadratic_below_the_width_and_total_variation_above() -> None:
    x = random(2, 6, 7)
    torch.testing.assert_close(HuberTV(1e-9, 0.3)(x), TV(0.3)(x), rtol=1e-6, atol=0)
    squares = recon.prior("tikhonov", of="gradient", weight=0.3)
    torch.testing.assert_close(HuberTV(100.0, 0.3)(x), squares(x) / 100)


def test_wrong_input_is_refused() -> None:
    for wrong in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="width must be > 0"):
            HuberTV(wrong)
    with pytest.raises(ValueError, match="coupling must be 'nuclear'"):
        VectorialTV(0.1, "spectral")
    with pytest.raises(ValueError, match="needs a channel axis"):
        VectorialTV(0.1).K((7,))
    with pytest.raises(ValueError, match="channels must be a whole number >= 1, got 0"):
        recon.Channelwise(recon.Identity((3, 3)), 0)
    with pytest.raises(ValueError, match="axis must lie in"):
        recon.Channelwise(recon.Identity((3, 3)), 2, axis=3)


@pytest.mark.filterwarnings("ignore::recon.ConvergenceWarning")
def test_channels_apart_are_solved_as_images_of_their_own_by_the_preconditioned_step() -> None:
    """A blur without a closed form: its preconditioner meets one penalty for all channels, and one an image."""
    blur = recon.operator("blur", kernel=torch.ones(3, 3) / 9, shape=(16, 16))
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    y = blur(images.repeat_interleave(4, -1).repeat_interleave(4, -2))
    prior, stop = (
        "vectorial_tv:weight=0.01,coupling=separate",
        recon.SmallResiduals(1e-5) | recon.MaxIterations(2000),
    )
    apart = recon.solve(blur, "tv:weight=0.01", y, solver="admm", stop=stop).image
    together = recon.Channelwise(blur, 3)
    for data, expected in ((y, apart), (y[1], apart[1])):
        image = recon.solve(together, prior, data, solver="admm", stop=stop).image
        torch.testing.assert_close(image, expected, rtol=0, atol=2e-3)  # residuals of 1e-5
