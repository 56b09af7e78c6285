"""Image quality metrics that carry their convention and print it next to the number.

The same four CT slices score between 26.6 and 45.8 dB depending on peak, clipping and region alone, so a
metric here is a frozen object of all these choices. Called on images `(*batch, *item)` it returns one float64
value per item; `evaluate` returns the values together with the convention, with a range taken from the
reference printed as the number it became.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from recon.parameters import Param

if TYPE_CHECKING:
    from recon.metric_presets import PRESETS as PRESETS
    from recon.metric_presets import Preset as Preset
    from recon.metric_presets import preset as preset

__all__ = [
    "MSE",
    "NMSE",
    "PRESETS",
    "PSNR",
    "RMSE",
    "RMSEHU",
    "SSIM",
    "Metric",
    "Preset",
    "Score",
    "as_metric",
    "evaluate",
    "preset",
]

DataRange = float | Literal["max", "max-min"]

_SLICES_AT_ONCE = 16  # bounds the memory of SSIM: five float64 maps per slice


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric evaluated: `value` holds one float64 number per item, in `unit`, under `convention`."""

    name: str
    value: Tensor
    convention: str
    unit: str = ""
    higher_is_better: bool = True

    def __str__(self) -> str:
        numbers = ", ".join(f"{number:.4g}" for number in self.value.reshape(-1).tolist())
        return f"{self.name} {numbers}{' ' + self.unit if self.unit else ''} ({self.convention})"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What every metric does before it compares: magnitude, HU, clipping, region; all in float64.

    If either image is complex, both are compared by magnitude, or as complex numbers by |x - r| with
    `complex_images="difference"`. `water` converts attenuation in 1/mm to HU = 1000 (mu - water) / water;
    `clip` then limits both images to (low, high), in HU if `water` is given; `shift` is added last. `region` is
    None (whole image), "circle" (the largest circle inside height x width) or a 0/1 tensor of the item's shape (or
    of its last axes); a data range taken from the reference is taken inside the region too.
    """

    name: ClassVar[str]
    higher_is_better: ClassVar[bool] = False

    clip: Annotated[
        tuple[float, float] | None, Param("limit both images to (low, high) first; in HU if water is given")
    ] = None
    region: Annotated[
        Tensor | Literal["circle"] | None,
        Param('where to compare: "circle" (largest circle inside the image) or a 0/1 tensor'),
    ] = dataclasses.field(default=None, compare=False)
    water: Annotated[
        float | None, Param("attenuation of water; if given, images are converted to HU", unit="1/mm", gt=0)
    ] = None
    shift: Annotated[
        float, Param("added to both images after clipping, such as 1000 to HU: ranges count from there")
    ] = 0.0

    complex_images: Annotated[
        Literal["magnitude", "difference"],
        Param("complex images: compare their magnitudes, or take the magnitude of their difference"),
    ] = "magnitude"

    def __post_init__(self) -> None:
        if self.complex_images not in ("magnitude", "difference"):
            raise ValueError(
                f'{self.name}: complex_images is "magnitude" or "difference", got {self.complex_images!r}'
            )
        if self.complex_images == "difference" and (self.clip or self.water is not None or self.shift):
            raise ValueError(
                f"{self.name}: clip, water and shift are for real values; complex_images must be magnitude"
            )
        if not math.isfinite(self.shift):
            raise ValueError(f"{self.name}: shift must be a finite number, got {self.shift}")
        if self.clip is not None:
            if len(self.clip) != 2 or not self.clip[0] < self.clip[1]:
                raise ValueError(f"{self.name}: clip is (low, high) with low < high, got {self.clip}")
            object.__setattr__(self, "clip", (float(self.clip[0]), float(self.clip[1])))
        if self.water is not None and not (math.isfinite(self.water) and self.water > 0):
            raise ValueError(
                f"{self.name}: water is the attenuation of water in 1/mm (about 0.02), got {self.water}"
            )
        if isinstance(self.region, str) and self.region != "circle":
            raise ValueError(f'{self.name}: region is "circle", a 0/1 tensor or None, got {self.region!r}')

    def __call__(self, image: Tensor, reference: Tensor, *, item_ndim: int = 2) -> Tensor:
        """One value per item.

        Args:
            image: `(*batch, *item)`, real or complex.
            reference: of the same shape, or one item that every item of the batch is compared with.
            item_ndim: number of trailing axes that make one item: 2 for images, 3 for volumes.

        Returns:
            float64 tensor of the batch shape.

        Raises:
            ValueError: shapes or devices differ, NaN or infinity, a region of another size or with no pixel.
        """
        image, reference, batch = self._prepare(image, reference, item_ndim)
        if image.shape[0] == 0:
            return torch.zeros(batch, dtype=torch.float64, device=image.device)
        region = self._mask(image)
        return self._compare(image, reference, region).reshape(batch)

    def score(self, image: Tensor, reference: Tensor, *, item_ndim: int = 2) -> Score:
        """The value with its convention; a range taken from the reference is printed as a number."""
        value = self(image, reference, item_ndim=item_ndim)
        return Score(
            name=self.name,
            value=value,
            convention=self._convention(self._resolved(image, reference, item_ndim)),
            unit=self.unit,
            higher_is_better=self.higher_is_better,
        )

    @property
    def convention(self) -> str:
        """One line: everything that has to be known to compare this number with another."""
        return self._convention("")

    @property
    def unit(self) -> str:
        """Unit of the value; empty for a plain number or the image's own unit."""
        return ""

    def _compare(self, image: Tensor, reference: Tensor, region: Tensor | None) -> Tensor:
        """`(B, *item)` twice and the region, `(*item)` bool or None, to `(B,)`.

        Images are float64, or complex128 if they are and `complex_images` is "difference".
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it compares two images (_compare)")

    def _terms(self, resolved: str) -> list[str]:
        """The metric's own part of the convention."""
        raise NotImplementedError(f"{type(self).__name__} does not state its convention (_terms)")

    def _resolved(self, image: Tensor, reference: Tensor, item_ndim: int) -> str:
        """The part of the convention that is known only with the images at hand."""
        return ""

    def _convention(self, resolved: str) -> str:
        terms = self._terms(resolved)
        if self.water is not None:
            terms.append(f"in HU with water at {self.water:g} 1/mm")
        if self.clip is not None:
            terms.append(f"clipped to [{self.clip[0]:g}, {self.clip[1]:g}]")
        if self.shift:
            terms.append(f"shifted by {self.shift:g}")
        if self.region is None:
            terms.append("whole image")
        elif isinstance(self.region, str):
            terms.append("inside the largest circle")
        else:
            terms.append(f"region of {int((self.region != 0).sum())} pixels")
        terms.append("magnitude if complex" if self.complex_images == "magnitude" else "complex difference")
        return ", ".join(terms)

    def _prepare(self, image: Tensor, reference: Tensor, item_ndim: int) -> tuple[Tensor, Tensor, torch.Size]:
        """Check, then both images as `(B, *item)` in double precision, converted and clipped."""
        if item_ndim < 1 or image.ndim < item_ndim:
            raise ValueError(
                f"{self.name}: an item has {item_ndim} axes (item_ndim), "
                f"but the image has shape {tuple(image.shape)}"
            )
        item = image.shape[image.ndim - item_ndim :]
        if reference.shape not in (image.shape, item):
            raise ValueError(
                f"{self.name}: the image has shape {tuple(image.shape)}, the reference "
                f"{tuple(reference.shape)}; give a reference of the image's shape, "
                f"or one item {tuple(item)} for the whole batch"
            )
        if image.device != reference.device:
            raise ValueError(
                f"{self.name}: the image is on {image.device}, the reference on {reference.device}; "
                "move one with .to(device)"
            )
        if item.numel() == 0:
            raise ValueError(f"{self.name}: an item of shape {tuple(item)} has no pixel to compare")
        for what, tensor in (("image", image), ("reference", reference)):
            bad = tensor.numel() - int(torch.isfinite(tensor).sum())
            if bad:
                raise ValueError(
                    f"{self.name}: the {what} has {bad} NaN or infinite values of {tensor.numel()}; "
                    "a score of them would mean nothing: cut out the part that is finite, or replace them"
                )
        precise = torch.float64
        if image.is_complex() or reference.is_complex():
            if self.complex_images == "magnitude":
                image, reference = image.abs(), reference.abs()
            else:
                precise = torch.complex128
        batch = image.shape[: image.ndim - item_ndim]
        items = batch.numel()
        references = items if reference.shape[: reference.ndim - item_ndim] == batch else 1
        image = image.to(precise).reshape(items, *item)
        reference = reference.to(precise).reshape(references, *item)
        return self._in_window(image), self._in_window(reference).expand_as(image), batch

    def _in_window(self, image: Tensor) -> Tensor:
        if self.water is not None:
            image = 1000.0 * (image - self.water) / self.water
        image = image if self.clip is None else image.clamp(*self.clip)
        return image + self.shift if self.shift else image

    def _mask(self, image: Tensor) -> Tensor | None:
        """The region as a bool tensor of one item's shape, or None for the whole item."""
        item = image.shape[1:]
        if self.region is None:
            return None
        if isinstance(self.region, str):
            if len(item) < 2:
                raise ValueError(
                    f'{self.name}: region="circle" needs images, got items of shape {tuple(item)}'
                )
            return _circle(item[-2], item[-1], image.device).expand(item)
        region = self.region.to(image.device)
        if region.ndim > len(item) or region.shape != item[len(item) - region.ndim :]:
            raise ValueError(
                f"{self.name}: the region has shape {tuple(region.shape)}, an item {tuple(item)}; "
                "they must agree"
            )
        mask = region != 0
        if not bool((region == mask.to(region.dtype)).all()):
            raise ValueError(f"{self.name}: a region is 0 or 1 everywhere, this one has other values")
        if not bool(mask.any()):
            raise ValueError(f"{self.name}: the region holds no pixel")
        return mask.expand(item)


@dataclass(frozen=True, kw_only=True)
class MSE(Metric):
    """Mean squared error, mean over pixels of |x - r|^2, in the square of the image's unit."""

    name: ClassVar[str] = "mse"

    @property
    def unit(self) -> str:
        """HU^2 if the images are converted, else empty: the square of the image's own unit."""
        return "HU^2" if self.water is not None else ""

    def _compare(self, image: Tensor, reference: Tensor, region: Tensor | None) -> Tensor:
        return _mean_square(image - reference, region)

    def _terms(self, resolved: str) -> list[str]:
        return ["mean of squares"]


@dataclass(frozen=True, kw_only=True)
class RMSE(MSE):
    """Root of the mean squared error, in the image's unit (HU if `water` is given)."""

    name: ClassVar[str] = "rmse"

    @property
    def unit(self) -> str:
        """HU if the images are converted, else empty: the image's own unit."""
        return "HU" if self.water is not None else ""

    def _compare(self, image: Tensor, reference: Tensor, region: Tensor | None) -> Tensor:
        return _mean_square(image - reference, region).sqrt()

    def _terms(self, resolved: str) -> list[str]:
        return ["root of the mean of squares"]


@dataclass(frozen=True, kw_only=True)
class RMSEHU(RMSE):
    """Root mean squared error in HU of attenuation maps in 1/mm: HU = 1000 (mu - water) / water."""

    name: ClassVar[str] = "rmse_hu"

    water: Annotated[float | None, Param("attenuation of water", unit="1/mm", gt=0)] = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.water is None:
            raise ValueError(
                "rmse_hu: give the attenuation of water in 1/mm, e.g. water=0.02; "
                "for images already in HU use rmse"
            )


@dataclass(frozen=True, kw_only=True)
class NMSE(Metric):
    """Normalised error |x - r|^2 / |r|^2 (fastMRI), or |x - r| / |r| with `squared=False` (ADMM-Net)."""

    name: ClassVar[str] = "nmse"

    squared: Annotated[bool, Param("ratio of squared norms; False: ratio of norms")] = True

    def _compare(self, image: Tensor, reference: Tensor, region: Tensor | None) -> Tensor:
        norm = _mean_square(reference, region)
        if bool((norm == 0).any()):
            raise ValueError(f"{self.name}: the reference is zero everywhere; use mse or rmse instead")
        ratio = _mean_square(image - reference, region) / norm
        return ratio if self.squared else ratio.sqrt()

    def _terms(self, resolved: str) -> list[str]:
        return [f"ratio of {'squared ' if self.squared else ''}norms"]


@dataclass(frozen=True, kw_only=True)
class PSNR(Metric):
    """Peak signal-to-noise ratio 10 log10(peak^2 / MSE) in dB; infinite for equal images.

    `data_range` is the peak: a number, "max" or "max-min" of each item's reference. The default, "max-min",
    is never above "max" on images that are nowhere negative, so it does not flatter.
    """

    name: ClassVar[str] = "psnr"
    higher_is_better: ClassVar[bool] = True

    data_range: Annotated[
        DataRange, Param('peak: a number, or "max" or "max-min" of each reference', gt=0)
    ] = "max-min"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_data_range(self.name, self.data_range)

    @property
    def unit(self) -> str:
        """Decibel."""
        return "dB"

    def _compare(self, image: Tensor, reference: Tensor, region: Tensor | None) -> Tensor:
        peak = _data_range(self.name, self.data_range, reference, region)
        return 10.0 * torch.log10(peak.square() / _mean_square(image - reference, region))

    def _resolved(self, image: Tensor, reference: Tensor, item_ndim: int) -> str:
        return _resolved_range(self, self.data_range, image, reference, item_ndim)

    def _terms(self, resolved: str) -> list[str]:
        return [f"peak {_range_in_words(self.data_range, resolved)}"]


@dataclass(frozen=True, kw_only=True)
class SSIM(Metric):
    """Structural similarity (Wang et al. 2004, IEEE TIP 13, 600-612): the mean of the SSIM map over one item.

    The defaults are scikit-image's: a uniform 7 x 7 window with sample covariance, windows wholly inside the
    image. `weights="gaussian"` is Wang's 11 x 11 window with sigma 1.5 and population covariance. Items with
    more than two axes are compared slice by slice along the leading axes, with one data range, and averaged
    (fastMRI).

    `data_range` has no default: SSIM without one means nothing. Give the width of the values' range (1 for
    images in [0, 1]), or "max" or "max-min" of each item's reference.
    """

    name: ClassVar[str] = "ssim"
    higher_is_better: ClassVar[bool] = True

    data_range: Annotated[
        DataRange | None,
        Param('width of the values\' range: a number, or "max" or "max-min" of each reference', gt=0),
    ] = None
    weights: Annotated[Literal["uniform", "gaussian"], Param("weights inside the window")] = "uniform"
    size: Annotated[
        int | None, Param("side of the uniform window, odd; 7 unless given", unit="pixels", ge=3)
    ] = None
    sigma: Annotated[float, Param("width of the gaussian window, cut at 3.5 sigma", unit="pixels", gt=0)] = (
        1.5
    )
    sample_covariance: Annotated[
        bool | None, Param("divide by N - 1 (unless given: yes for the uniform window, no for the gaussian)")
    ] = None
    padding: Annotated[
        Literal["none", "zero", "mirror"],
        Param("at the border: windows wholly inside only, or the image padded"),
    ] = "none"
    K1: Annotated[float, Param("stabilises the luminance term: C1 = (K1 data_range)^2", gt=0)] = 0.01
    K2: Annotated[float, Param("stabilises the contrast term: C2 = (K2 data_range)^2", gt=0)] = 0.03

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data_range is None:
            raise ValueError(
                "ssim needs a data range, without one its number cannot be compared with any other: "
                'data_range=1 for images in [0, 1], or data_range="max-min" (or "max") of the reference'
            )
        _check_data_range(self.name, self.data_range)
        if self.complex_images != "magnitude":
            raise ValueError("ssim compares magnitudes; it has no meaning for complex differences")
        if self.weights not in ("uniform", "gaussian"):
            raise ValueError(f'ssim: weights are "uniform" or "gaussian", got {self.weights!r}')
        if self.padding not in ("none", "zero", "mirror"):
            raise ValueError(f'ssim: padding is "none", "zero" or "mirror", got {self.padding!r}')
        if self.size is not None and self.weights == "gaussian":
            raise ValueError(
                "ssim: the gaussian window's size follows from sigma (11 for 1.5); leave size out"
            )
        if self.size is not None and (self.size < 3 or self.size % 2 == 0):
            raise ValueError(f"ssim: size is an odd number of pixels from 3 on, got {self.size}")
        for what in ("sigma", "K1", "K2"):
            if not getattr(self, what) > 0:
                raise ValueError(f"ssim: {what} must be positive, got {getattr(self, what)}")

    @property
    def radius(self) -> int:
        """Half the window's side, rounded down [pixels]."""
        if self.weights == "gaussian":
            return int(3.5 * self.sigma + 0.5)
        return (7 if self.size is None else self.size) // 2

    def _compare(self, image: Tensor, reference: Tensor, region: Tensor | None) -> Tensor:
        if image.ndim < 3:
            raise ValueError(f"ssim compares images; items of shape {tuple(image.shape[1:])} have one axis")
        side = 2 * self.radius + 1
        if self.padding == "none" and min(image.shape[-2:]) < side:
            raise ValueError(
                f"ssim: an image of {image.shape[-2]} x {image.shape[-1]} pixels does not hold one "
                f'{side} x {side} window; take a smaller window or padding="mirror"'
            )
        if self.padding == "mirror" and min(image.shape[-2:]) <= self.radius:
            raise ValueError(
                f"ssim: an image of {image.shape[-2]} x {image.shape[-1]} pixels cannot be mirrored by "
                f"{self.radius} pixels; take a smaller window"
            )
        width = _data_range(self.name, _given(self.data_range), reference, region)
        width = width.reshape(-1, *(1,) * (image.ndim - 1))
        similarity = self._map(image / width, reference / width)
        if region is not None:
            lost = 0 if self.padding != "none" else self.radius
            region = region[..., lost : region.shape[-2] - lost, lost : region.shape[-1] - lost]
            if not bool(region.any()):
                raise ValueError("ssim: no window that lies inside the image has its centre in the region")
        return _mean(similarity, region)

    def _map(self, image: Tensor, reference: Tensor) -> Tensor:
        """SSIM at every window centre, of images `(B, ..., H, W)` whose data range is 1."""
        # Not torchmetrics': it lacks sample covariances and unpadded borders, takes 4 to 10 times as long in
        # float64 (2-D windows), and cannot be imported where torchvision does not fit torch.
        lead, plane = image.shape[:-2], image.shape[-2:]
        x_blocks = image.reshape(-1, *plane).split(_SLICES_AT_ONCE)
        y_blocks = reference.reshape(-1, *plane).split(_SLICES_AT_ONCE)
        similarity = torch.cat([self._map_of_slices(x, y) for x, y in zip(x_blocks, y_blocks, strict=True)])
        return similarity.reshape(*lead, *similarity.shape[-2:])

    def _map_of_slices(self, x: Tensor, y: Tensor) -> Tensor:
        """Equation 13 of Wang et al. at every window centre, of slices `(N, H, W)` whose data range is 1."""
        r, n = self.radius, (2 * self.radius + 1) ** 2
        if self.padding != "none":
            mode = {"zero": "constant", "mirror": "reflect"}[self.padding]
            x, y = torch.nn.functional.pad(torch.stack((x, y)), (r, r, r, r), mode=mode)
        C1, C2 = self.K1**2, self.K2**2
        bias = n / (n - 1) if self._by_sample else 1.0
        mean_x, mean_y = self._windowed(x), self._windowed(y)
        product, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
        covariance = bias * (self._windowed(x * y) - product)
        variances = bias * (self._windowed(x.square() + y.square()) - squares)
        return (2 * product + C1) * (2 * covariance + C2) / ((squares + C1) * (variances + C2))

    def _windowed(self, values: Tensor) -> Tensor:
        """Weighted mean in every window that lies inside `(N, H, W)`; the weights are separable."""
        offsets = torch.arange(-self.radius, self.radius + 1, dtype=torch.float64)
        weights = torch.ones_like(offsets)
        if self.weights == "gaussian":
            weights = torch.exp(-0.5 * (offsets / self.sigma).square())
        for axis in (-2, -1):
            centres = values.shape[axis] - 2 * self.radius
            total = torch.zeros_like(values.narrow(axis, 0, centres))
            for shift, weight in enumerate((weights / weights.sum()).tolist()):
                total = total.add(values.narrow(axis, shift, centres), alpha=weight)
            values = total
        return values

    @property
    def _by_sample(self) -> bool:
        return self.weights == "uniform" if self.sample_covariance is None else self.sample_covariance

    def _resolved(self, image: Tensor, reference: Tensor, item_ndim: int) -> str:
        return _resolved_range(self, _given(self.data_range), image, reference, item_ndim)

    def _terms(self, resolved: str) -> list[str]:
        side = 2 * self.radius + 1
        window = f"uniform {side}x{side}"
        if self.weights == "gaussian":
            window = f"gaussian {side}x{side} sigma {self.sigma:g}"
        border = {"none": "no padding", "zero": "zero padding", "mirror": "mirror padding"}[self.padding]
        return [
            f"data range {_range_in_words(_given(self.data_range), resolved)}",
            f"{window} window",
            f"{'sample' if self._by_sample else 'population'} covariance",
            border,
            f"K1 {self.K1:g} K2 {self.K2:g}",
        ]


def as_metric(metric: Any) -> Metric:
    """A metric from itself, from ``"ssim:data_range=1"`` or from ``("ssim", {"data_range": 1})``.

    Raises:
        TypeError: `metric` is none of the three, or what the name stands for is no metric.
        recon.registry.UnknownNameError: no plugin registers that name.
    """
    if isinstance(metric, Metric):
        return metric
    from recon import registry

    made = registry.make("metric", metric)
    if not isinstance(made, Metric):
        raise TypeError(f"the metric {metric!r} is a {type(made).__name__}, not a recon.metrics.Metric")
    return made


def evaluate(
    image: Tensor, reference: Tensor, metrics: Iterable[Any] | Metric | str, *, item_ndim: int = 2
) -> list[Score]:
    """Score `image` against `reference` under every metric, conventions attached.

    Args:
        image: `(*batch, *item)`, real or complex.
        reference: of the same shape, or one item for the whole batch.
        metrics: one metric or several, as objects or as `as_metric` reads them.
        item_ndim: number of trailing axes that make one item.
    """
    chosen = [metrics] if isinstance(metrics, Metric | str) else list(metrics)
    return [as_metric(metric).score(image, reference, item_ndim=item_ndim) for metric in chosen]


def _mean(values: Tensor, region: Tensor | None) -> Tensor:
    """Mean over each item's pixels, inside the region if there is one: `(B, *item)` to `(B,)`."""
    return values.flatten(1).mean(1) if region is None else values[:, region].mean(1)


def _mean_square(values: Tensor, region: Tensor | None) -> Tensor:
    return _mean((values.abs() if values.is_complex() else values).square(), region)


def _circle(height: int, width: int, device: torch.device) -> Tensor:
    y = torch.arange(height, device=device, dtype=torch.float64) - (height - 1) / 2
    x = torch.arange(width, device=device, dtype=torch.float64) - (width - 1) / 2
    return y.square()[:, None] + x.square()[None, :] <= (min(height, width) / 2) ** 2


def _check_data_range(name: str, data_range: DataRange) -> None:
    if isinstance(data_range, str):
        if data_range not in ("max", "max-min"):
            raise ValueError(f'{name}: data_range is a number, "max" or "max-min", got {data_range!r}')
    elif not (math.isfinite(data_range) and data_range > 0):
        raise ValueError(f"{name}: data_range must be a positive number, got {data_range}")


def _given(data_range: DataRange | None) -> DataRange:
    assert data_range is not None, "SSIM refuses to be built without a data range"
    return data_range


def _data_range(name: str, data_range: DataRange, reference: Tensor, region: Tensor | None) -> Tensor:
    """The range as one number per item, `(B,)` float64; references are `(B, *item)`, at least one."""
    if not isinstance(data_range, str):
        return torch.full(
            (reference.shape[0],), float(data_range), dtype=torch.float64, device=reference.device
        )
    values = reference.abs() if reference.is_complex() else reference
    values = values.flatten(1) if region is None else values[:, region]
    found = values.amax(1) if data_range == "max" else values.amax(1) - values.amin(1)
    if not bool((found > 0).all()):
        raise ValueError(
            f"{name}: the {data_range} of a reference is {float(found.min()):g}, which is no data range; "
            "give it as a number, e.g. data_range=1"
        )
    return found


def _resolved_range(
    metric: Metric, data_range: DataRange, image: Tensor, reference: Tensor, item_ndim: int
) -> str:
    if not isinstance(data_range, str) or image.numel() == 0:
        return ""
    prepared, truth, _ = metric._prepare(image, reference, item_ndim)
    found = _data_range(metric.name, data_range, truth, metric._mask(prepared))
    low, high = f"{float(found.min()):.4g}", f"{float(found.max()):.4g}"
    return low if low == high else f"{low} to {high}"


def _range_in_words(data_range: DataRange, resolved: str) -> str:
    if not isinstance(data_range, str):
        return f"{data_range:g}"
    words = f"{data_range} of each reference"
    return f"{resolved} ({words})" if resolved else words


def __getattr__(name: str) -> Any:
    if name in ("PRESETS", "Preset", "preset"):  # they are made of these metrics and others
        from recon import metric_presets

        return getattr(metric_presets, name)
    raise AttributeError(f"module 'recon.metrics' has no attribute {name!r}")
