"""Claims that every prior of the package makes: its proximal map is the one of its value, and behaves like one."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from recon_priors import L1, TV, Box, NonNegative, Tikhonov, WaveletSparsity
from scipy.optimize import minimize
from torch import Tensor

import recon

SHAPE = (4, 5)

PRIORS: dict[str, tuple[recon.Functional, torch.dtype]] = {
    "l1": (L1(0.7), torch.float64),
    "l1 complex": (L1(0.7), torch.complex128),
    "tikhonov": (Tikhonov(0.7), torch.float64),
    "tikhonov complex": (Tikhonov(0.7), torch.complex128),
    "tikhonov gradient": (Tikhonov(0.7, of="gradient"), torch.float64),
    "tv": (TV(0.7), torch.float64),
    "tv complex": (TV(0.7), torch.complex128),
    "tv anisotropic": (TV(0.7, isotropic=False), torch.float64),
    "tv anisotropic complex": (TV(0.7, isotropic=False), torch.complex128),
    "tv periodic": (TV(0.7, boundary="periodic"), torch.float64),
    "wavelet": (WaveletSparsity(0.7, levels=2), torch.float64),
    "wavelet complex": (WaveletSparsity(0.7, wavelet="haar", levels=2), torch.complex128),
    "nonnegative": (NonNegative(), torch.float64),
    "box": (Box(-0.3, 0.6), torch.float64),
    "l1 of magnitude": (recon.Magnitude(L1(0.7)), torch.complex128),
    "box of magnitude": (recon.Magnitude(Box(0.0, 0.6)), torch.complex128),
    "nonnegative parts": (recon.RealAndImaginary(NonNegative()), torch.complex128),
    "tv of parts": (recon.RealAndImaginary(TV(0.7)), torch.complex128),
}
EVERY = pytest.mark.parametrize(("prior", "dtype"), PRIORS.values(), ids=PRIORS)
CONSTRAINTS = {name: (prior, dtype) for name, (prior, dtype) in PRIORS.items() if prior.constraint}


def split_of(prior: recon.Functional, dtype: torch.dtype, items: int = 2, seed: int = 0) -> Tensor:
    """A random z = K x of an image of SHAPE."""
    shape = prior.K(SHAPE).range_shape
    return torch.randn(items, *shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def projected(prior: recon.Functional, z: Tensor, step: float) -> Tensor:
    """The prox; a modulus on the rim of a set is moved inside by its rounding."""
    solved = prior.prox(z, step)
    return solved * (1 - 1e-14) if isinstance(prior, recon.Magnitude) else solved


def moreau(prior: recon.Functional, u: Tensor, z: Tensor, step: float) -> Tensor:
    """step g(u) + |u - z|^2 / 2, which the prox minimises."""
    return step * prior.value(u) + 0.5 * (u - z).abs().square().flatten(1).sum(1)


@EVERY
@pytest.mark.parametrize("step", [0.05, 0.8, 4.0])
def test_the_prox_minimises_its_own_definition(
    prior: recon.Functional, dtype: torch.dtype, step: float
) -> None:
    """Against a simplex search over one pixel (all components): no point is lower, and the search ends there."""
    components = prior.K(SHAPE).range_shape[:-2]
    for seed in range(2):
        z = torch.randn(1, *components, 1, 1, dtype=dtype, generator=torch.Generator().manual_seed(seed))
        solved = projected(prior, z, step)

        def tensor(values: np.ndarray, z: Tensor = z) -> Tensor:
            parts = torch.from_numpy(np.ascontiguousarray(values))
            return (
                torch.view_as_complex(parts.reshape(*z.shape, 2))
                if z.is_complex()
                else parts.reshape(z.shape)
            )

        def objective(values: np.ndarray, z: Tensor = z) -> float:
            return float(moreau(prior, tensor(values), z, step))

        start = (torch.view_as_real(solved) if solved.is_complex() else solved).flatten().numpy() + 0.01
        if prior.constraint:
            start = np.clip(start, 0.0, 0.4)  # the search needs a point inside to begin with
        found = minimize(
            objective, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14, "maxiter": 500}
        )
        assert float(moreau(prior, solved, z, step)) <= found.fun + 1e-12
        if found.fun < float(moreau(prior, solved, z, step)) + 1e-9:
            torch.testing.assert_close(tensor(found.x), solved, rtol=0, atol=1e-4)  # flat to 1e-9 within 1e-4


@EVERY
@settings(deadline=None, max_examples=15)
@given(step=st.floats(1e-3, 1e3), seed=st.integers(0, 1000), scale=st.sampled_from([0.01, 1.0, 100.0]))
def test_no_point_nearby_is_lower_than_the_prox(
    prior: recon.Functional, dtype: torch.dtype, step: float, seed: int, scale: float
) -> None:
    """On whole images; the objective is convex, so nearby is enough."""
    z = scale * split_of(prior, dtype, seed=seed)
    solved = projected(prior, z, step)
    lowest = moreau(prior, solved, z, step)
    assert bool(torch.isfinite(lowest).all())
    for size in (1e-4, 1e-2, 1.0):
        moved = solved + size * scale * split_of(prior, dtype, seed=seed + 1)
        assert bool((moreau(prior, moved, z, step) >= lowest * (1 - 1e-12)).all())


@EVERY
@settings(deadline=None, max_examples=15)
@given(step=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_the_prox_of_a_convex_prior_is_firmly_non_expansive(
    prior: recon.Functional, dtype: torch.dtype, step: float, seed: int
) -> None:
    """|P a - P b|^2 <= Re <P a - P b, a - b>."""
    assert prior.convex
    a, b = split_of(prior, dtype, seed=seed), split_of(prior, dtype, seed=seed + 1)
    difference = prior.prox(a, step) - prior.prox(b, step)
    assert float(difference.abs().square().sum()) <= float((difference.conj() * (a - b)).real.sum()) + 1e-10


@EVERY
def test_a_step_of_zero_changes_nothing_but_violations(prior: recon.Functional, dtype: torch.dtype) -> None:
    z = split_of(prior, dtype)
    if prior.constraint:
        z = prior.prox(z, 1.0)
    # the modulus and the phase of a complex number are rounded once each
    tolerance = 1e-15 if isinstance(prior, recon.Magnitude) else 0
    torch.testing.assert_close(prior.prox(z, 0.0), z, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(
        prior.prox(z, torch.zeros(2, *(1,) * (z.ndim - 1))), z, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize(("prior", "dtype"), CONSTRAINTS.values(), ids=CONSTRAINTS)
def test_a_constraint_is_a_projection_whatever_the_step(prior: recon.Functional, dtype: torch.dtype) -> None:
    z = split_of(prior, dtype)
    once = projected(prior, z, 0.3)
    torch.testing.assert_close(prior.prox(once, 7.0), once, rtol=0, atol=1e-15)
    torch.testing.assert_close(prior.prox(z, 1e6), once)
    assert float(prior.value(once).max()) == 0
    assert bool(torch.isinf(prior.value(z)).all())


@EVERY
def test_items_of_a_batch_do_not_meet(prior: recon.Functional, dtype: torch.dtype) -> None:
    z = split_of(prior, dtype, items=3)
    step = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64).reshape(3, *(1,) * (z.ndim - 1))
    together, values = prior.prox(z, step), prior.value(z)
    assert values.shape == (3,) and not values.is_complex()
    for item in range(3):
        alone = z[item : item + 1]
        torch.testing.assert_close(prior.prox(alone, float(step[item])), together[item : item + 1])
        torch.testing.assert_close(prior.value(alone), values[item : item + 1])


@EVERY
def test_the_input_and_the_precision_are_kept(prior: recon.Functional, dtype: torch.dtype) -> None:
    for precise in (dtype, torch.complex64 if dtype.is_complex else torch.float32):
        z = split_of(prior, dtype).to(precise)
        before = z.clone()
        assert prior.prox(z, 0.3).dtype == precise
        prior.value(z)
        assert torch.equal(z, before)


@EVERY
def test_extreme_steps_and_images_stay_finite(prior: recon.Functional, dtype: torch.dtype) -> None:
    z = split_of(prior, dtype).to(torch.complex64 if dtype.is_complex else torch.float32)
    for image in (z, torch.zeros_like(z), 1e-30 * z, 1e30 * z):
        for step in (0.0, 1e-30, 1.0, 1e30):
            assert bool(torch.isfinite(prior.prox(image, step).abs()).all()), (float(image.abs().max()), step)


@EVERY
def test_gradients_through_the_prox_are_finite_where_the_image_is_flat(
    prior: recon.Functional, dtype: torch.dtype
) -> None:
    """Differentiable: a flat region has gradient zero, and the root of zero must not spoil the rest."""
    z = split_of(prior, dtype)
    z[:, ..., :2] = 0
    z.requires_grad_()
    step = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    moved = prior.prox(z, step)
    gradients = torch.autograd.grad(moved.abs().square().sum(), (z, step), allow_unused=True)
    for gradient in gradients:
        assert gradient is None or bool(torch.isfinite(gradient.abs()).all())
    if not prior.constraint:
        (gradient,) = torch.autograd.grad(prior.value(z).sum(), z)
        assert bool(torch.isfinite(gradient.abs()).all())


@EVERY
def test_the_gradient_of_the_prox_is_right(prior: recon.Functional, dtype: torch.dtype) -> None:
    z = split_of(prior, dtype, items=1, seed=3).requires_grad_()
    step = torch.tensor(0.3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: prior.prox(z, step), (z,))


@EVERY
def test_the_value_of_an_image_is_convex_and_scales(prior: recon.Functional, dtype: torch.dtype) -> None:
    x = torch.randn(2, *SHAPE, dtype=dtype, generator=torch.Generator().manual_seed(0))
    y = torch.randn(2, *SHAPE, dtype=dtype, generator=torch.Generator().manual_seed(1))
    if prior.constraint:
        x, y = projected(prior, x, 1.0), projected(prior, y, 1.0)
    assert bool((prior(0.3 * x + 0.7 * y) <= 0.3 * prior(x) + 0.7 * prior(y) + 1e-12).all())
    if prior.constraint:
        return
    degree = 2 if isinstance(prior, Tikhonov) else 1
    torch.testing.assert_close(prior(3 * x), 3**degree * prior(x))


# Parameters


@pytest.mark.parametrize("make", [L1, TV, Tikhonov])
def test_weights_are_checked(make: type[recon.Functional]) -> None:
    assert make().weight == "auto" and make(weight="auto").weight == "auto"
    assert make(2).weight == 2.0
    for wrong in (-0.1, math.nan, math.inf, "strong", None):
        with pytest.raises(
            ValueError, match=f"the weight of {make.__name__} must be a number >= 0 or 'auto'"
        ):
            make(wrong)


def test_other_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match=r"low < high, got low=1, high=0"):
        Box(1, 0)
    with pytest.raises(ValueError, match="low < high, got low=0.5, high=0.5"):
        Box(0.5, 0.5)
    with pytest.raises(ValueError, match="low < high"):
        Box(math.nan, 1.0)
    with pytest.raises(ValueError, match="of must be 'image' or 'gradient', got 'edges'"):
        Tikhonov(1.0, of="edges")
    with pytest.raises(ValueError, match="boundary must be 'neumann' or 'periodic', got 'mirror'"):
        TV(1.0, boundary="mirror")


def test_priors_are_made_by_name() -> None:
    assert isinstance(recon.prior("tv", weight=0.1, isotropic=False), TV)
    assert recon.prior("tv:weight=0.1").weight == 0.1
    assert isinstance(recon.prior("nonnegative"), NonNegative)
    assert recon.prior("box", low=-1, high=2).high == 2.0
    assert recon.prior("tikhonov", of="gradient").of == "gradient"
    assert recon.prior("l1").weight == "auto"


def test_texts_say_the_parameters() -> None:
    assert repr(Box(0, 2)) == "Box(low=0.0, high=2.0)"
    assert repr(NonNegative()) == "NonNegative()"
    assert repr(L1(0.5)) == "L1(weight=0.5)"
    assert "isotropic=False" in repr(TV(0.5, isotropic=False))
    assert "periodic" in repr(TV(0.5, boundary="periodic"))
    assert "gradient" in repr(Tikhonov(0.5, of="gradient"))
