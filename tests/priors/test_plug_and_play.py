"""Denoisers by themselves and inside solvers: against closed forms, and against the direct reconstruction."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from recon_data import samples
from recon_operators import Blur, CartesianMRI
from recon_priors import L1, TV, NonLocalMeans, NonNegative, Tikhonov, WaveletDenoiser
from torch import Tensor

import recon

SHAPE = (12, 13)


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


class ProxOf(recon.Denoiser):
    """The proximal map of a functional of the image as a denoiser: at noise level sigma its step is sigma^2."""

    def __init__(self, functional: recon.Functional, weight: float | str = "auto") -> None:
        super().__init__(weight)
        self.functional = functional

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        level = torch.as_tensor(sigma, dtype=x.real.dtype).reshape(-1, *(1,) * (x.ndim - 1))
        return self.functional.prox(x, level.square())


DENOISERS = {
    "wavelet": WaveletDenoiser(),
    "nlm": NonLocalMeans(),
    "bm3d": None,
}


def denoiser(name: str) -> recon.Denoiser:
    if name == "bm3d" and importlib.util.find_spec("bm3d") is None:
        pytest.skip("the library bm3d is not installed: its licence is non-commercial")
    return recon.prior("bm3d", stages="first") if name == "bm3d" else DENOISERS[name]


@pytest.mark.parametrize("name", DENOISERS)
def test_noise_goes_away_in_any_unit_and_in_complex_images(name: str) -> None:
    prior, truth = denoiser(name), samples.camera().data[::10, ::10].double()
    truth = truth / truth.max()
    y = truth + 0.1 * random(*truth.shape)
    image = prior.denoise(y[None], 0.1)[0]
    assert float((image - truth).norm()) < 0.75 * float((y - truth).norm())
    scaled = prior.denoise(1e-3 * y[None], 1e-4)[0]
    torch.testing.assert_close(1e3 * scaled, image, rtol=0, atol=1e-5)
    turned = torch.complex(0.6 * truth, 0.8 * truth)
    noisy = turned + 0.1 * random(*truth.shape, dtype=torch.complex128) * 2**0.5  # 0.1 in either part
    assert float((prior.denoise(noisy[None], 0.1)[0] - turned).norm()) < 0.75 * float((noisy - turned).norm())


@pytest.mark.parametrize("prior", [WaveletDenoiser(), NonLocalMeans(distance=2, patch=3)])
def test_volumes_are_denoised_too(prior: recon.Denoiser) -> None:
    truth = torch.zeros(10, 11, 12)
    truth[3:8, 2:8, 4:9] = 1
    y = truth + 0.2 * random(10, 11, 12, dtype=torch.float32)
    assert float((prior.denoise(y[None], 0.2)[0] - truth).norm()) < 0.7 * float((y - truth).norm())


@pytest.mark.parametrize("solver", [recon.ADMM(), recon.HQS(), recon.FISTA()])
@pytest.mark.parametrize("functional", [L1(1.0), Tikhonov(1.0)])
def test_a_denoiser_that_is_a_prox_gives_what_its_functional_gives(solver, functional) -> None:
    """Deblurring, against ADMM with the functional itself at high precision."""
    blur = Blur(SHAPE, ("gaussian", 0.5))
    y = blur(random(*SHAPE))
    weighted = type(functional)(0.05)
    exact = recon.solve(blur, weighted, y, solver="admm", stop=recon.MaxIterations(400)).image
    image = recon.solve(blur, ProxOf(functional, 0.05), y, solver=solver, stop=recon.MaxIterations(800)).image
    assert float((image - exact).norm() / exact.norm()) < 5e-3  # the schedule of HQS tends to it as 1/k


def test_red_solves_its_equation() -> None:
    """D(x) = x / (1 + s^2): (A^H A + rho s^2/(1 + s^2)) x = A^H y, rho s^2 the weight."""
    blur, level = Blur(SHAPE, ("gaussian", 0.7)), 0.5
    y = blur(random(*SHAPE))
    solver = recon.RED(level=level)
    energy = float(solver.start(recon.Problem(blur, y, prior=ProxOf(Tikhonov(1.0), 0.05))).energy)
    variance = level**2 * 0.05 / energy
    image = recon.solve(
        blur,
        ProxOf(Tikhonov(1.0), 0.05),
        y,
        solver=solver,
        stop=recon.RelativeChange(1e-12) | recon.MaxIterations(5000),
    ).image
    exact = blur.solve_gram(blur.adjoint(y)[None], [0.05 / (1 + variance)], [recon.Identity(SHAPE)])
    assert exact is not None
    torch.testing.assert_close(image, exact[0], rtol=0, atol=1e-6)


def small_ct() -> tuple[recon.LinearOperator, Tensor, Tensor]:
    chest = samples.ct_chest()
    mu = chest.attenuation()[::8, ::8].contiguous()
    ct = recon.operator("ct_parallel", shape=mu.shape, pixel_size=8 * chest.pixel_size[0], angles=24)
    return ct, mu, ct.measure(mu, noise=recon.noise("poisson", photons=3e4), seed=0)


def small_mri() -> tuple[recon.LinearOperator, Tensor, Tensor]:
    kspace = samples.kspace_brain().data.to(torch.complex64)[64:192, 64:192]
    truth = CartesianMRI(torch.ones(128, 128)).pinv(kspace)
    mri = CartesianMRI(("random_1d", {"acceleration": 3, "density": "gaussian", "seed": 1}), shape=(128, 128))
    return mri, truth, kspace * mri.mask


@pytest.mark.parametrize("solver", ["admm", "hqs", "red"])
@pytest.mark.parametrize("scan", [small_ct, small_mri])
def test_nothing_needs_to_be_tuned(solver: str, scan) -> None:
    operator, truth, y = scan()
    solution = recon.solve(operator, WaveletDenoiser(), y, solver=solver)
    direct = float((operator.pinv(y) - truth).norm())
    assert float((solution.image - truth).norm()) < 0.85 * direct
    assert solution.weight == pytest.approx(float(recon.Problem(operator, y).noise_level) ** 2, rel=1e-5)
    if solver == "admm":
        assert solution.converged and solution.iterations < 150


class Conditioned(WaveletDenoiser):
    """One that says that it knows any noise level."""

    conditioned = True


def test_a_denoiser_of_any_level_is_annealed() -> None:
    operator, truth, y = small_mri()
    solution = recon.solve(operator, Conditioned(), y)
    assert isinstance(solution.algorithm, recon.HQS)
    assert solution.reason in ("Discrepancy(tau=0.98)", "end of the schedule (28 iterations)")
    assert solution.converged
    assert float((solution.image - truth).norm()) < 0.85 * float((operator.pinv(y) - truth).norm())
    problem = recon.Problem(operator, y, prior=Conditioned())
    problem.strength = problem.noise_level.square()
    solver = recon.HQS()
    state = solver.start(problem)
    rms = float(problem.start.abs().square().mean().sqrt())
    first = solver._noise_level(problem, state, problem.strength, torch.zeros(1))
    last = solver._noise_level(problem, state, problem.strength, torch.full((1,), 28.0))
    assert float(first) == pytest.approx(0.8 * rms, rel=1e-4)
    assert float(last) == pytest.approx(0.25 * float(problem.noise_level / state.energy.sqrt()), rel=1e-4)
    assert isinstance(recon.solve(operator, WaveletDenoiser(), y).algorithm, recon.ADMM)


def test_the_settings_of_the_user_hold() -> None:
    operator, _, y = small_ct()
    solution = recon.solve(operator, Conditioned(), y, solver=recon.HQS(5, last=3.0, pull=2.0))
    assert solution.iterations <= 5 and "2 times the weight" in str(solution.explain())
    whole = recon.solve(operator, WaveletDenoiser(), y, solver="hqs")
    said = recon.HQS(16, 0.3, 0.5, 1.0)
    assert torch.equal(recon.solve(operator, WaveletDenoiser(), y, solver=said).image, whole.image)


def test_denoisers_and_functionals_add() -> None:
    operator, truth, y = small_ct()
    image = recon.solve(operator, WaveletDenoiser() + TV(1e-2) + NonNegative(), y).image
    assert float(image.min()) >= 0
    assert float((image - truth).norm()) < 0.85 * float((operator.pinv(y) - truth).norm())


def test_an_item_of_a_batch_is_what_it_is_alone() -> None:
    blur = Blur(SHAPE, ("gaussian", 0.7))
    y = torch.stack([random(*SHAPE), 5 * random(*SHAPE, seed=1)])
    for solver in ("admm", "hqs", "red"):
        both = recon.solve(
            blur, WaveletDenoiser(levels=2), y, solver=solver, stop=recon.MaxIterations(12)
        ).image
        for item in range(2):
            alone = recon.solve(
                blur, WaveletDenoiser(levels=2), y[item], solver=solver, stop=recon.MaxIterations(12)
            ).image
            torch.testing.assert_close(both[item], alone, rtol=0, atol=1e-9)


def test_what_does_not_fit_is_refused_in_words() -> None:
    y, identity = random(*SHAPE), recon.Identity(SHAPE)
    with pytest.raises(ValueError, match="'hqs' needs one denoiser among the priors, got TotalVariation"):
        recon.solve(identity, TV(0.1), y, solver="hqs")
    with pytest.raises(ValueError, match="'red' takes one denoiser and no other prior"):
        recon.solve(identity, WaveletDenoiser() + NonNegative(), y, solver="red")
    with pytest.raises(ValueError, match="automatic weight of a denoiser is the noise variance"):
        recon.solve(identity, WaveletDenoiser() + TV(), y)
    for make in (
        lambda: recon.HQS(iterations=1),
        lambda: recon.HQS(last=0),
        lambda: recon.HQS(pull="much"),
        lambda: recon.RED(level=-1),
    ):
        with pytest.raises(ValueError, match="must be"):
            make()
    with pytest.raises(ValueError, match="patch must be an odd number of pixels, got 4"):
        NonLocalMeans(patch=4)
    with pytest.raises(ValueError, match="of two or three axes"):
        NonLocalMeans().denoise(random(1, 9), 0.1)
