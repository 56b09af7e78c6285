"""The checks of priors pass faultless ones and catch the fault that each is there for, in words."""

import re

import pytest
import torch

import recon
from recon.priors import Prior
from recon.testing import check_prior, prior_checks
from recon.testing.closed_forms import Magnitudes, Positive, Shrinking, Squares
from recon.testing.running import judge


class L1(recon.Functional):
    """weight |x|_1: a faultless functional to spoil."""

    def __init__(self, weight=0.7):
        super().__init__(weight)

    def _penalty(self, z):
        return z.abs()

    def _prox(self, z, threshold):
        size = z.abs()
        return z * (1 - threshold / size.clamp_min(torch.finfo(size.dtype).tiny)).clamp_min(0)


class GroupL1(L1):
    """Pairs of neighbours share their threshold; even widths only."""

    def K(self, shape):
        if shape[-1] % 2:
            raise ValueError(f"the width must be even, got {shape}")
        return recon.Identity(shape)

    def _size(self, z):
        pairs = z.abs().square().unflatten(-1, (-1, 2)).sum(-1, keepdim=True).expand(*z.shape[:-1], -1, 2)
        return pairs.flatten(-2).clamp_min(torch.finfo(z.real.dtype).tiny).sqrt()

    def _penalty(self, z):
        return self._size(z)[..., ::2]

    def _prox(self, z, threshold):
        return z * (1 - threshold / self._size(z)).clamp_min(0)


class L0(L1):
    """The number of values that are not zero: not convex, its prox is the hard threshold."""

    convex = False

    def _penalty(self, z):
        return (z != 0).to(z.real.dtype)

    def _prox(self, z, threshold):
        return torch.where(z.abs() > (2 * torch.as_tensor(threshold)) ** 0.5, z, 0)


class Ball(recon.Functional):
    """|x| <= 1 for each image: a constraint that sees the whole item."""

    constraint = True

    def __init__(self):
        super().__init__(1.0)

    def _penalty(self, z):
        norm = torch.linalg.vector_norm(z.flatten(1), dim=1)
        return torch.where(norm > 1 + 1e-6, torch.inf, 0.0)

    def _prox(self, z, threshold):
        norm = torch.linalg.vector_norm(z.flatten(1), dim=1).reshape(-1, *(1,) * (z.ndim - 1))
        return z / norm.clamp_min(1)


class TwiceTheThreshold(L1):
    def _prox(self, z, threshold):
        return super()._prox(z, 2 * threshold)


class ProxOfSquares(L1):
    def _prox(self, z, threshold):
        return z / (1 + threshold)


class WeightTwice(L1):
    def _prox(self, z, threshold):
        return super()._prox(z, threshold * self.strength)


class ShrinksAlways(L1):
    def _prox(self, z, threshold):
        return super()._prox(z, threshold + 0.01)


class HardButConvex(L0):
    convex = True


class SaysSeparable(Ball):
    separable = True

    def _prox(self, z, threshold):
        return z / (1 + threshold * torch.arange(z[0].numel()).reshape(z[0].shape).to(z.real))


class NotIdempotent(Ball):
    def _prox(self, z, threshold):
        return super()._prox(z, threshold) * 0.9


class OutsideItsSet(Ball):
    def _prox(self, z, threshold):
        return super()._prox(z, threshold) * 1.1


class DependsOnStep(Positive):
    def _prox(self, z, threshold):
        return z.clamp_min(0) + (0.1 if isinstance(threshold, float) and threshold == 0 else 0)


class IgnoresWeight(L1):
    def prox(self, z, step):
        return self._prox(z, step)


class StepOfFirstItem(L1):
    def _prox(self, z, threshold):
        return super()._prox(z, threshold[:1] if isinstance(threshold, torch.Tensor) else threshold)


class MixesItems(L1):
    def _prox(self, z, threshold):
        return super()._prox(z - (z.mean(0) if len(z) > 1 else 0), threshold)


class ValueOfBatch(L1):
    def value(self, z):
        return self.strength * z.abs().sum().reshape(1).expand(len(z))


class SingleValue(L1):
    def value(self, z):
        return self.strength * z.abs().sum()


class EmptyFails(L1):
    def _prox(self, z, threshold):
        return super()._prox(z, threshold) + 0 * z.abs().max()


class Downcasts(L1):
    def _prox(self, z, threshold):
        return super()._prox(z.to(torch.complex64 if z.is_complex() else torch.float32), threshold)


class RoundsInside(L1):
    domain = "real"

    def _prox(self, z, threshold):
        return super()._prox(z.float(), threshold).to(z.dtype)


class InPlace(L1):
    def _prox(self, z, threshold):
        return z.mul_((1 - threshold / z.abs().clamp_min(1e-30)).clamp_min(0))


class DividesByZero(L1):
    def _prox(self, z, threshold):
        return z * (1 - threshold / z.abs()).clamp_min(0)


class OnCPU(L1):
    def _prox(self, z, threshold):
        return super()._prox(z, threshold * torch.ones(z.shape[1:], device="cpu"))


class Random(L1):
    def _prox(self, z, threshold):
        return super()._prox(z, threshold) * (1 + 1e-9 * torch.rand((), dtype=torch.float64))


class Unpicklable(L1):
    def __init__(self):
        super().__init__()
        self.scale = lambda z: z


class WrongAdjointInside(L1):
    def K(self, shape):
        class Shift(recon.LinearOperator):
            def _forward(self, x):
                return x.roll(1, -1)

            def _adjoint(self, y):
                return y.roll(1, -1)

        return Shift(shape, shape)


class NaNAtZero(L1):
    def _penalty(self, z):
        return z.abs().square() / z.abs()


class ValueOfOtherMap(L1):
    def forward(self, x):
        return 2 * super().forward(x)


class NotOfThisKind(Prior):
    pass


FAULTS = [
    (
        TwiceTheThreshold,
        "prox_minimises",
        r"prox\(z, 0\.05\) does minimise it: the prox must take half the threshold",
    ),
    (
        ProxOfSquares,
        "prox_minimises",
        "does not minimise .* Do `_penalty` and `_prox` belong to the same function",
    ),
    (
        WeightTwice,
        "prox_minimises",
        r"does minimise it: the prox uses the weight \(0\.7\) twice",
    ),
    (WeightTwice, "weight", "the prox with twice the weight is not the prox of twice the step"),
    (IgnoresWeight, "prox_minimises", r"does minimise it: the prox leaves the weight \(0\.7\) out"),
    (IgnoresWeight, "weight", "the prox with twice the weight is not the prox of twice the step"),
    (ShrinksAlways, "prox_of_step_zero", r"prox\(z, 0\) is not z in torch.float64: relative error"),
    (DependsOnStep, "prox_of_step_zero", "the projection depends on the step"),
    (HardButConvex, "firmly_nonexpansive", "not firmly non-expansive.* Declare convex = False"),
    (SaysSeparable, "separable", "declared separable, but prox at step 0.1 of pixels in another order"),
    (NotIdempotent, "projection", "not idempotent: relative error 1.0e-01"),
    (OutsideItsSet, "projection", r"g\(prox\(z, 1\)\) is inf, expected 0: the prox is not inside the set"),
    (OutsideItsSet, "value", r"the constraint is inf at prox\(z, 1\), expected 0"),
    (NaNAtZero, "value", "value is NaN at zeros"),
    (SingleValue, "value", r"value has shape \(\) for 3 items, expected \(3,\)"),
    (StepOfFirstItem, "step_per_item", "prox with a step for each item differs from a loop"),
    (MixesItems, "batch_equals_loop", "prox of a batch differs from a loop over its items"),
    (ValueOfBatch, "batch_equals_loop", "value of a batch differs from a loop over its items"),
    (EmptyFails, "empty_batch", "max"),
    (Downcasts, "dtypes", "prox of torch.float64 gives torch.float32: the type must stay"),
    (RoundsInside, "dtypes", "prox in torch.float64 does not see what single precision does not see"),
    (OnCPU, "device", "prox on meta mixes devices: .*ones made a tensor of shape"),
    (InPlace, "input_unchanged", "prox in torch.float32 changes its input"),
    (DividesByZero, "finite", r"prox\(z, 0\) in torch.float32 is not finite for \|z\| of the order 0"),
    (Random, "deterministic", "prox gives two different results"),
    (Unpicklable, "pickle_and_state_dict", "local object|pickle"),
    (WrongAdjointInside, "linear_map", "B equals A itself"),
    (ValueOfOtherMap, "image_value", r"prior\(x\) is not g\(K x\): relative error 1"),
    (NotOfThisKind, "class", "is a bare Prior: derive from recon.Functional"),
]


class Wiener(recon.Denoiser):
    """Shrink the Fourier coefficients: a faultless denoiser to spoil, any size, real or complex."""

    value_range = (0.0, 1.0)

    def __init__(self):
        super().__init__(1.0)
        self.register_buffer("gain", torch.ones(()))

    def denoise(self, x, sigma):
        sigma = torch.as_tensor(sigma, dtype=x.real.dtype, device=x.device).reshape(-1, *(1,) * (x.ndim - 1))
        return self.gain.to(x.real.dtype) * x / (1 + sigma**2)


class FailsWithoutNoise(Wiener):
    def denoise(self, x, sigma):
        return super().denoise(x, sigma) * torch.as_tensor(sigma).max() / torch.as_tensor(sigma).max()


class OverflowsWithNoise(Wiener):
    def denoise(self, x, sigma):
        return (
            super().denoise(x, sigma)
            * torch.exp(torch.as_tensor(sigma).max())
            / torch.exp(torch.as_tensor(sigma).max())
        )


class EvenSizesOnly(Wiener):
    def denoise(self, x, sigma):
        return super().denoise(x, sigma).unflatten(-1, (-1, 2)).flatten(-2)


class CropsOddSizes(Wiener):
    def denoise(self, x, sigma):
        return super().denoise(x, sigma)[..., : x.shape[-1] // 2 * 2]


class BatchStatistics(Wiener):
    def denoise(self, x, sigma):
        return super().denoise(x, sigma) * x.abs().mean()


class SigmaOfFirstItem(Wiener):
    def denoise(self, x, sigma):
        return super().denoise(x, sigma if isinstance(sigma, float) else sigma[:1])


class SigmaAsNumber(Wiener):
    def denoise(self, x, sigma):
        return x / (1 + sigma**2)


class AlwaysSingle(Wiener):
    def denoise(self, x, sigma):
        return super().denoise(x.to(torch.complex64 if x.is_complex() else torch.float32), sigma)


class WithChannel(Wiener):
    def denoise(self, x, sigma):
        return super().denoise(x, sigma).unsqueeze(1)


class ChangesImage(Wiener):
    def denoise(self, x, sigma):
        return super().denoise(x.clamp_(0.4, 0.6) if not x.is_complex() else x.mul_(0.5), sigma)


class Dropout(Wiener):
    def denoise(self, x, sigma):
        return super().denoise(x, sigma) * (torch.rand(x.shape) > 0.1)


class RangeTheWrongWay(Wiener):
    value_range = (1.0, 0.0)


class NoiseOnCPU(Wiener):
    def denoise(self, x, sigma):
        return super().denoise(x, sigma) + torch.zeros(x.shape[1:])


class NoEmptyBatch(Wiener):
    def denoise(self, x, sigma):
        return torch.stack([super(NoEmptyBatch, self).denoise(item[None], sigma)[0] for item in x])


class LosesState(Wiener):
    def __deepcopy__(self, memo):
        return type(self)()

    def denoise(self, x, sigma):
        self.kept = getattr(self, "kept", self.gain.clone())
        return self.kept * super().denoise(x, sigma)


DENOISER_FAULTS = [
    (FailsWithoutNoise, "noise_zero", "denoise with sigma=0 gives 512 NaN or infinite of 512 values"),
    (OverflowsWithNoise, "noise_extreme", "denoise with sigma=1000 gives"),
    (
        EvenSizesOnly,
        "odd_sizes",
        r"denoise fails for images of shape \(15, 17\): .*Pad to what the network needs",
    ),
    (CropsOddSizes, "odd_sizes", r"denoise of \(1, 15, 17\) gives \(1, 15, 16\), expected the same"),
    (BatchStatistics, "batch_equals_loop", "is a normalisation taken over the batch"),
    (SigmaOfFirstItem, "sigma_per_item", "denoise with a sigma for each item differs from a loop"),
    (
        SigmaAsNumber,
        "sigma_per_item",
        r"denoise fails for sigma of shape \(3,\), one level an item: .* Reshape it",
    ),
    (AlwaysSingle, "dtypes", "denoise of torch.float64 gives torch.float32: convert back"),
    (WithChannel, "shapes", r"denoise of \(1, 16, 16\) gives \(1, 1, 16, 16\), expected the same"),
    (ChangesImage, "input_unchanged", "denoise changes its input"),
    (Dropout, "deterministic", "two different results: is the network in training mode"),
    (RangeTheWrongWay, "value_range", r"value_range is \(1.0, 0.0\), expected \(low, high\) with low < high"),
    (NoiseOnCPU, "device", "denoise on meta mixes devices: .*zeros made a tensor of shape"),
    (NoEmptyBatch, "empty_batch", "stack expects a non-empty"),
    (LosesState, "pickle_and_state_dict", "a copy with the state loaded gives another result"),
]


class Net(torch.nn.Module):
    """Two layers from a fixed input to an image."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Linear(3, 5), torch.nn.Linear(5, 12)

    def forward(self, z):
        return self.second(torch.tanh(self.first(z))).reshape(-1, 1, 3, 4)


class Unused(Net):
    def __init__(self):
        super().__init__()
        self.spare = torch.nn.Parameter(torch.ones(2))


class Detached(Net):
    def forward(self, z):
        return super().forward(z).detach()


class Frozen(Net):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


class Noisy(Net):
    def forward(self, z):
        return super().forward(z + torch.rand(z.shape))


class Explodes(Net):
    def forward(self, z):
        return super().forward(z) / 0


class OneImage(Net):
    def forward(self, z):
        return super().forward(z)[:1].expand(3, -1, -1, -1)


class WritesInput(Net):
    def forward(self, z):
        return super().forward(z.add_(1))


class Memory(Net):
    def __deepcopy__(self, memo):
        twin = type(self)()
        twin.kept = None
        return twin

    def forward(self, z):
        self.kept = (
            getattr(self, "kept", None) if getattr(self, "kept", None) is not None else super().forward(z)
        )
        return self.kept + 0 * super().forward(z)


GENERATOR_FAULTS = [
    (Unused, "differentiable", "the image does not depend on the parameter network.spare"),
    (Detached, "differentiable", "the image is cut from the graph"),
    (Frozen, "differentiable", "no parameter requires a gradient"),
    (Noisy, "deterministic", "two calls give two images"),
    (Explodes, "image", "the image holds 12 NaN or infinite of 12 values"),
    (OneImage, "image", r"the image has shape \(3, 1, 3, 4\), expected \(1, ...\)"),
    (WritesInput, "input_unchanged", "the fixed input changes"),
    (Memory, "pickle_and_state_dict", "a copy with the state loaded gives another image"),
]


def generator(network=Net):
    return recon.Generator(network(), torch.ones(1, 3))


@pytest.mark.parametrize(
    "prior",
    [
        L1(), L1("auto"), GroupL1(), L0(), Ball(), Positive(), Squares(0.3), Squares(0.3, differences=True),
        Magnitudes(2.0), recon.Magnitude(L1()), recon.RealAndImaginary(Squares(0.1)), Wiener(), Shrinking(1.0),
        generator(), L1() + Positive(),
    ],
    ids=lambda prior: type(prior).__name__,
)  # fmt: skip
def test_a_faultless_prior_passes_every_check(prior):
    assert check_prior(prior) == list(prior_checks(prior))


def test_a_shape_that_the_prior_does_not_take_is_left_for_the_next():
    with pytest.raises(AssertionError, match=r"linear_map: ValueError: the width must be even, got \(5, 5\)"):
        check_prior(GroupL1(), shape=(5, 5))


@pytest.mark.parametrize(("fault", "check", "said"), FAULTS + DENOISER_FAULTS)
def test_a_fault_is_caught_by_its_check(fault, check, said):
    assert re.search(said, judge(prior_checks(fault())[check]).message)


@pytest.mark.parametrize(("fault", "check", "said"), GENERATOR_FAULTS)
def test_a_fault_of_a_generator_is_caught_by_its_check(fault, check, said):
    assert re.search(said, judge(prior_checks(generator(fault))[check]).message)


@pytest.mark.parametrize(
    ("faultless", "faults"), [(L1(), FAULTS), (Wiener(), DENOISER_FAULTS), (generator(), GENERATOR_FAULTS)]
)
def test_every_check_has_a_fault_that_it_catches(faultless, faults):
    assert {check for _, check, _ in faults} - {"class"} == set(prior_checks(faultless))


def test_the_members_of_a_sum_are_checked_each():
    with pytest.raises(
        AssertionError, match=r"(?s)SumOfPriors fails 1 check\nTwiceTheThreshold\[1\]\.prox_min"
    ):
        check_prior(L1() + TwiceTheThreshold())
