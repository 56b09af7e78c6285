"""What every prior is: weights, sums, adapters to complex images, proximal maps and denoisers as solvers see them."""

from __future__ import annotations

import math

import pytest
import torch
from small_models import L1, TV, NonNegative, Ridge, Smoother
from torch import Tensor

import recon
from recon.priors import SumOfPriors
from recon.terms import Term


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


class Box(recon.Functional):
    """low <= x <= high."""

    domain = "real"
    constraint = True

    def __init__(self, low: float, high: float) -> None:
        super().__init__(1.0)
        self.low, self.high = low, high

    def _penalty(self, z: Tensor) -> Tensor:
        return torch.where((z < self.low) | (z > self.high), torch.inf, 0.0)

    def _prox(self, z: Tensor, threshold: float | Tensor) -> Tensor:
        return z.clamp(self.low, self.high)


# Weights


@pytest.mark.parametrize("weight", [0, 0.5, 3, torch.tensor(2.0)])
def test_a_weight_is_a_number_from_zero_on(weight: float) -> None:
    prior = L1(weight)
    assert (
        isinstance(prior.weight, float) and prior.weight == float(weight) and prior.strength == float(weight)
    )


def test_an_automatic_weight_counts_as_one_until_it_is_chosen() -> None:
    assert L1().weight == "auto" and L1().strength == 1.0


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf, "much", None, [1.0]])
def test_other_weights_are_refused(weight: object) -> None:
    with pytest.raises(ValueError, match="the weight of L1 must be a number >= 0 or 'auto', got"):
        L1(weight)  # type: ignore[arg-type]


def test_weight_multiplies_value_and_step() -> None:
    z = random(3, 4)
    torch.testing.assert_close(L1(0.7).value(z), 0.7 * z.abs().sum(1))
    torch.testing.assert_close(L1(0.7).prox(z, 0.5), L1(1.0).prox(z, 0.35))


def test_a_constraint_has_no_weight() -> None:
    prior = NonNegative()
    prior.weight = 5.0
    assert prior.strength == 1.0


# Sums


def test_sums_are_flat_and_their_values_add() -> None:
    a, b, c = L1(0.1), TV(0.2), Ridge(0.3)
    for total in (a + b + c, a + (b + c), SumOfPriors([SumOfPriors([a, b]), c])):
        assert total.members == [a, b, c]
    x = random(2, 5, 6)
    torch.testing.assert_close((a + b + c)(x), a(x) + b(x) + c(x))
    assert a.members == [a]


def test_sums_take_the_field_of_their_members() -> None:
    assert (L1(1.0) + TV(1.0)).domain == "any"
    assert (L1(1.0) + NonNegative()).domain == "real"
    with pytest.raises(TypeError, match=r"NonNegative \(real\), Magnitude \(complex\)"):
        NonNegative() + recon.Magnitude(L1(1.0))
    with pytest.raises(TypeError, match=r"cannot add priors on real images to priors on complex"):
        NonNegative() + L1(1.0) + recon.Magnitude(L1(1.0))


def test_sums_of_other_things_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one prior"):
        SumOfPriors([])
    with pytest.raises(TypeError, match="unsupported operand"):
        L1(1.0) + 3  # type: ignore[operator]
    with pytest.raises(TypeError, match="only priors can be added, got int"):
        SumOfPriors([L1(1.0), 3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="Smoother has no value: only functionals do"):
        (L1(1.0) + Smoother())(random(1, 4, 4))


def test_the_value_of_an_image_goes_through_the_map_inside() -> None:
    x = torch.zeros(1, 3, 4)
    x[0, 1, 1] = 1.0
    # one pixel: differences -1 and -1 from it, 1 into it from above and from the left
    assert float(TV(1.0)(x)) == pytest.approx(math.sqrt(2) + 1 + 1)
    assert float(TV(0.5)(x)) == pytest.approx(0.5 * (math.sqrt(2) + 2))


# Incomplete priors say what is missing


def test_what_an_author_has_not_written_is_named() -> None:
    class Empty(recon.Functional):
        pass

    with pytest.raises(TypeError, match="Empty has no _prox"):
        Empty(1.0).prox(random(1, 3), 1.0)
    with pytest.raises(TypeError, match="Empty has no _penalty"):
        Empty(1.0)(random(1, 3))
    with pytest.raises(TypeError, match="Denoiser has no denoise"):
        recon.Denoiser(1.0)(random(1, 3), 0.1)


def test_a_generator_is_a_network_and_its_fixed_input() -> None:
    network = torch.nn.Linear(3, 4)
    prior = recon.Generator(network, torch.ones(2, 3))
    torch.testing.assert_close(prior(), network(torch.ones(2, 3)))
    assert "fixed_input" in prior.state_dict()


# Adapters to complex images


def test_magnitude_acts_on_the_modulus_and_keeps_the_phase() -> None:
    z = random(3, 5, dtype=torch.complex128)
    prior = recon.Magnitude(L1(0.5))
    assert prior.domain == "complex" and prior.weight == 0.5
    torch.testing.assert_close(prior(z), 0.5 * z.abs().sum(1))
    torch.testing.assert_close(
        prior.prox(z, 0.8), L1(0.5).prox(z, 0.8), msg="l1 is a function of the modulus"
    )
    boxed = recon.Magnitude(Box(0.5, 1.0)).prox(z, 1.0)
    torch.testing.assert_close(boxed.abs(), z.abs().clamp(0.5, 1.0))
    torch.testing.assert_close(boxed.angle(), z.angle())


def test_magnitude_of_zero_is_finite() -> None:
    z = torch.zeros(1, 3, dtype=torch.complex64)
    for prior in (L1(0.5), Box(0.5, 1.0)):
        result = recon.Magnitude(prior).prox(z, 1.0)
        assert bool(torch.isfinite(result.abs()).all())
        assert float(prior.prox(torch.zeros(1, 3), 1.0)[0, 0]) == pytest.approx(float(result.abs()[0, 0]))


def test_magnitude_knows_that_an_annulus_is_not_convex() -> None:
    assert recon.Magnitude(Box(0.0, 1.0)).convex and recon.Magnitude(L1(1.0)).convex
    assert not recon.Magnitude(Box(0.5, 1.0)).convex


def test_magnitude_of_a_gradient_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"Magnitude.*TV looks at the image through Gradient.*RealAndImaginary"
    ):
        recon.Magnitude(TV(1.0)).K((4, 4))


@pytest.mark.parametrize("prior", [L1(0.5), Ridge(0.5), TV(0.5), Box(-0.3, 0.4)], ids=repr)
def test_real_and_imaginary_acts_on_both_parts_separately(prior: recon.Functional) -> None:
    adapted = recon.RealAndImaginary(prior)
    assert adapted.domain == "complex"
    assert (adapted.convex, adapted.constraint, adapted.quadratic) == (
        prior.convex,
        prior.constraint,
        prior.quadratic,
    )
    x = random(2, 4, 5, dtype=torch.complex128)
    torch.testing.assert_close(adapted(x), prior(x.real) + prior(x.imag))
    z = prior.K((4, 5))(x)
    result = adapted.prox(z, 0.7)
    torch.testing.assert_close(result.real, prior.prox(z.real, 0.7))
    torch.testing.assert_close(result.imag, prior.prox(z.imag, 0.7))
    assert result.dtype == torch.complex128


@pytest.mark.parametrize("adapter", [recon.Magnitude, recon.RealAndImaginary])
def test_adapters_take_functionals_on_real_images_only(adapter: type) -> None:
    with pytest.raises(TypeError, match=r"adapts a functional such as L1, got Smoother"):
        adapter(Smoother())
    with pytest.raises(TypeError, match="is defined on complex images already"):
        adapter(recon.Magnitude(L1(1.0)))


def test_a_step_per_item_broadcasts_in_adapters_too() -> None:
    z = random(2, 4, dtype=torch.complex128)
    step = torch.tensor([[0.1], [2.0]], dtype=torch.float64)
    for prior in (recon.Magnitude(L1(1.0)), recon.RealAndImaginary(L1(1.0))):
        both = prior.prox(z, step)
        for item in range(2):
            torch.testing.assert_close(
                both[item : item + 1], prior.prox(z[item : item + 1], float(step[item]))
            )


# Terms: what solvers see


def test_a_term_multiplies_the_strength_of_automatic_weights_only() -> None:
    z, strength = random(2, 4), torch.tensor([0.5, 2.0])
    automatic, fixed = Term(L1(), (4,), None), Term(L1(0.3), (4,), None)
    assert automatic.automatic and not fixed.automatic
    per_item = strength.double().reshape(2, 1)
    torch.testing.assert_close(automatic.prox(z, 0.7, strength), L1(1.0).prox(z, 0.7 * per_item))
    torch.testing.assert_close(fixed.prox(z, 0.7, strength), L1(0.3).prox(z, 0.7))
    torch.testing.assert_close(automatic.value(z, strength.double()), strength.double() * z.abs().sum(1))
    torch.testing.assert_close(fixed.value(z, strength.double()), 0.3 * z.abs().sum(1))


def test_a_constraint_is_no_automatic_term_and_adds_no_value() -> None:
    class Careless(NonNegative):
        """An author who leaves the weight at its default."""

        def __init__(self) -> None:
            recon.Functional.__init__(self)

    term = Term(Careless(), (4,), None)
    assert term.constraint and not term.automatic
    assert torch.equal(term.value(-torch.ones(2, 4), torch.ones(2)), torch.zeros(2))


def test_the_prox_of_a_denoiser_is_the_denoiser_at_the_matching_level() -> None:
    """denoise(z, sqrt(weight step)); this one is the prox of weight/2 |x - mean(x)|^2."""
    z = random(3, 4, 5)
    mean = z.mean((1, 2), keepdim=True)
    for step in (0.7, torch.tensor([0.1, 0.7, 3.0], dtype=torch.float64).reshape(3, 1, 1)):
        result = Term(Smoother(0.4), (4, 5), None).prox(z, step, torch.ones(3))
        torch.testing.assert_close(result, (z + 0.4 * step * mean) / (1 + 0.4 * step))
    strength = torch.tensor([0.1, 1.0, 2.0])
    result = Term(Smoother("auto"), (4, 5), None).prox(z, 0.5, strength)
    shrink = 0.5 * strength.double().reshape(3, 1, 1)
    torch.testing.assert_close(result, (z + shrink * mean) / (1 + shrink))


def test_a_denoiser_is_given_images_in_the_range_it_was_made_for() -> None:
    seen = []

    class Watching(Smoother):
        def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
            seen.append((x, sigma))
            return super().denoise(x, sigma)

    low, high = -1000.0, 3000.0
    term = Term(Watching(25.0, value_range=(0.0, 1.0)), (2, 2), (low, high))
    z = torch.tensor([[[low, high], [1000.0, 0.0]]], dtype=torch.float64)
    result = term.prox(z, 100.0, torch.ones(1))
    image, sigma = seen[0]
    torch.testing.assert_close(image, torch.tensor([[[0.0, 1.0], [0.5, 0.25]]], dtype=torch.float64))
    expected = math.sqrt(25.0 * 100.0) / (high - low)
    assert float(sigma) == pytest.approx(expected)
    mean = z.mean()
    torch.testing.assert_close(result, (z + expected**2 * mean) / (1 + expected**2))


def test_a_denoiser_with_a_value_range_needs_the_range_of_the_image() -> None:
    with pytest.raises(
        ValueError, match=r"Smoother was made for images in \(0.0, 1.0\).*image_range=\(low, high\)"
    ):
        Term(Smoother(value_range=(0.0, 1.0)), (2, 2), None)
