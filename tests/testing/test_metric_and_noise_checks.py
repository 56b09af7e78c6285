"""The checks of metrics and noise models catch the fault that each is there for, in words."""

import re
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from recon.metrics import MSE, PSNR, SSIM, Metric
from recon.simulate import ComplexGaussianNoise, GaussianNoise, PoissonNoise
from recon.testing.metrics import metric_checks
from recon.testing.noise import noise_checks
from recon.testing.running import judge


@dataclass(frozen=True, kw_only=True)
class MAE(Metric):
    """Mean absolute error: a faultless metric to spoil."""

    name: ClassVar[str] = "mae"

    def _compare(self, image, reference, region):
        return (image - reference).abs().flatten(1).mean(1)

    def _terms(self, resolved):
        return ["mean of magnitudes"]


class NaNForEqual(MAE):
    def _compare(self, image, reference, region):
        error = super()._compare(image, reference, region)
        return error * error / error


class BestForBrighter(MAE):
    def _compare(self, image, reference, region):
        return -image.flatten(1).mean(1)


class OverTheBatch(MAE):
    def _compare(self, image, reference, region):
        return super()._compare(image, reference, region).mean().expand(len(image))


class SinglePrecision(MAE):
    def __call__(self, image, reference, *, item_ndim=2):
        return super().__call__(image, reference, item_ndim=item_ndim).float()


class NoConvention(MAE):
    def _convention(self, resolved):
        return ""


class ChangesImage(MAE):
    def __call__(self, image, reference, *, item_ndim=2):
        return super().__call__(image.mul_(0.5), reference, item_ndim=item_ndim)


class Random(MAE):
    def _compare(self, image, reference, region):
        return super()._compare(image, reference, region) + torch.rand(len(image))


class EmptyFails(MAE):
    def __call__(self, image, reference, *, item_ndim=2):
        return super().__call__(image, reference, item_ndim=item_ndim) + image.max()


METRIC_FAULTS = [
    (NaNForEqual, "identity", "the score of equal images is NaN"),
    (BestForBrighter, "identity", "scores .*, the reference itself .*, although lower is better"),
    (BestForBrighter, "direction", "not worse and worse, although lower is better"),
    (OverTheBatch, "batch_equals_loop", "the scores of a batch differ from a loop over its items"),
    (SinglePrecision, "batch_equals_loop", "the scores are torch.float32, expected torch.float64"),
    (NoConvention, "convention", "the convention is empty"),
    (ChangesImage, "input_unchanged", "the metric changes its images"),
    (Random, "deterministic", "two calls give two scores"),
    (EmptyFails, "empty_batch", "max"),
]


class GlobalGenerator(GaussianNoise):
    def _draw(self, clean, generator):
        return clean + self.std * torch.randn(clean.shape, dtype=torch.float64)


class IgnoresSeed(GaussianNoise):
    def __call__(self, clean, **options):
        return super().__call__(clean, **{**options, "seed": 0})


class OneForAll(GaussianNoise):
    def __call__(self, clean, *, item_ndim, seed=0, sample_mask=None, first_item=0):
        generator = torch.Generator().manual_seed(seed)
        return clean + self.std * torch.randn(clean.shape, generator=generator, dtype=torch.float64).to(clean)


class Repeats(GaussianNoise):
    def __call__(self, clean, *, item_ndim, seed=0, sample_mask=None, first_item=0):
        return (
            super().__call__(clean, item_ndim=item_ndim, seed=seed)
            if clean.ndim == item_ndim
            else torch.stack([self(item, item_ndim=item_ndim, seed=seed) for item in clean])
        )


class Widens(GaussianNoise):
    def __call__(self, clean, **options):
        return super().__call__(clean, **options).double()


class Nothing(GaussianNoise):
    def _draw(self, clean, generator):
        return clean.clone()


class DrawsInThePrecisionOfTheData(GaussianNoise):
    def __call__(self, clean, *, item_ndim, seed=0, sample_mask=None, first_item=0):
        generator = torch.Generator().manual_seed(seed)
        return clean + self.std * torch.randn(clean.shape, generator=generator, dtype=clean.dtype)


class IgnoresMask(GaussianNoise):
    def __call__(self, clean, **options):
        return super().__call__(clean, **{**options, "sample_mask": None})


class InPlace(GaussianNoise):
    def __call__(self, clean, **options):
        return clean.add_(super().__call__(clean, **options) - clean)


class Silent(GaussianNoise):
    description = ""


class Biased(GaussianNoise):
    def _draw(self, clean, generator):
        return super()._draw(clean, generator) + 0.1 * self.std


NOISE_FAULTS = [
    (GlobalGenerator, "seeded", "the same seed gives other noise: draw from the generator that is given"),
    (IgnoresSeed, "seeded", "another seed gives the same noise"),
    (OneForAll, "items_independent", "item 0 has other noise in a batch than alone"),
    (Repeats, "items_independent", "two equal items get the same noise"),
    (Widens, "shape_and_dtype", "noisy data of torch.float32 are torch.float64"),
    (Nothing, "shape_and_dtype", "the noisy data are the clean ones"),
    (DrawsInThePrecisionOfTheData, "precision", "noise in single precision differs from double"),
    (IgnoresMask, "sample_mask", "noise is added where the sample mask is 0"),
    (InPlace, "input_unchanged", "the clean data are changed"),
    (Silent, "description", "the description is '', expected one line"),
    (Biased, "zero_mean", "standard errors from zero, although the entry has the tag"),
]


@pytest.mark.parametrize(
    "metric", [MAE(), MSE(), PSNR(), SSIM(data_range=1.0)], ids=lambda metric: metric.name
)
def test_a_faultless_metric_passes_every_check(metric):
    for check in metric_checks(metric, higher_is_better=metric.higher_is_better).values():
        check()


@pytest.mark.parametrize(("fault", "check", "said"), METRIC_FAULTS)
def test_a_fault_of_a_metric_is_caught(fault, check, said):
    verdict = judge(metric_checks(fault(), higher_is_better=False)[check])
    assert re.search(said, verdict.message)


def test_a_direction_stated_the_wrong_way_round_is_caught():
    verdict = judge(metric_checks(PSNR(), higher_is_better=False)["direction"])
    assert "Is higher_is_better the wrong way round?" in verdict.message


@pytest.mark.parametrize(
    "noise", [GaussianNoise(0.1), ComplexGaussianNoise(0.1), PoissonNoise(1e4)], ids=repr
)
def test_a_faultless_noise_model_passes_every_check(noise):
    for check in noise_checks(noise, zero_mean=not isinstance(noise, PoissonNoise)).values():
        check()


@pytest.mark.parametrize(("fault", "check", "said"), NOISE_FAULTS)
def test_a_fault_of_a_noise_model_is_caught(fault, check, said):
    verdict = judge(noise_checks(fault(0.1), zero_mean=True)[check])
    assert re.search(said, verdict.message)


def test_every_check_has_a_fault_that_it_catches():
    assert {check for _, check, _ in METRIC_FAULTS} == set(metric_checks(MAE(), higher_is_better=False))
    assert {check for _, check, _ in NOISE_FAULTS} == set(noise_checks(GaussianNoise(0.1), zero_mean=True))
