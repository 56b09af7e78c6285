"""Noise models: what a measurement adds to the data that an operator predicts."""

import math
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recon.parameters import Param

__all__ = ["ComplexGaussianNoise", "GaussianNoise", "LowerDoseNoise", "Noise", "PoissonNoise", "as_noise"]


class Noise:
    """Noise that is a function of the seed and of the item's index in the batch, and of nothing else.

    Every item draws in float64 from its own CPU generator, so its noise depends neither on its batch mates,
    nor on the device, nor (beyond rounding) on the dtype of the data.

    A noise model overrides `_draw` and `description`, and `domain` where its data are complex.
    """

    domain: ClassVar[str] = "real"

    @property
    def description(self) -> str:
        """One line for the provenance of simulated data: the model, its parameters, their units."""
        raise NotImplementedError(f"{type(self).__name__} does not describe itself (description)")

    def _draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Noisy data of one item; `clean` is float64 or complex128 on the CPU and must not be changed."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it draws (_draw)")

    def _check(self, clean: Tensor) -> None:
        """Refuse data that this noise does not apply to; real or complex and finite are checked already."""

    def __call__(
        self,
        clean: Tensor,
        *,
        item_ndim: int,
        seed: int = 0,
        sample_mask: Tensor | None = None,
        first_item: int = 0,
    ) -> Tensor:
        """Noisy copy of `clean`, cut from its autograd graph.

        Args:
            clean: `(*batch, *item)`, what the operator predicts.
            item_ndim: number of trailing axes of one item.
            seed: non-negative; the same seed gives the same noise.
            sample_mask: broadcastable to an item, 1 where data exist; elsewhere `clean` stays as it is.
            first_item: index of the first item, for a data set simulated in pieces: the pieces get the noise
                that the whole would have got.

        Returns:
            Tensor of the shape, dtype and device of `clean`.

        Raises:
            ValueError: NaN or infinity, data outside the model, a mask that is not 0/1 or of another size.
            TypeError: integer data; complex data into real noise or the reverse.
        """
        name = type(self).__name__
        if not (clean.is_floating_point() or clean.is_complex()):
            raise TypeError(
                f"{name}: the data are {clean.dtype}, noise needs floating point; convert with .float()"
            )
        if not 0 <= item_ndim <= clean.ndim:
            raise ValueError(f"{name}: item_ndim={item_ndim}, but the data have shape {tuple(clean.shape)}")
        for what, number in (("seed", seed), ("first_item", first_item)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise ValueError(f"{name}: {what} is a whole number from 0 on, got {number!r}")
        self._check_domain(clean)
        bad = clean.numel() - int(torch.isfinite(clean).sum())
        if bad:
            raise ValueError(
                f"{name}: {bad} of {clean.numel()} values are NaN or infinite; check the operator's input"
            )
        self._check(clean)

        item = clean.shape[clean.ndim - item_ndim :]
        batch = clean.shape[: clean.ndim - item_ndim]
        exact = clean.detach().to("cpu", torch.complex128 if clean.is_complex() else torch.float64)
        noisy = torch.empty_like(exact, memory_format=torch.contiguous_format)
        for index, (before, after) in enumerate(
            zip(exact.reshape(batch.numel(), *item), noisy.view(batch.numel(), *item), strict=True)
        ):
            after.copy_(self._draw(before, _item_generator(seed, first_item + index)))
        result = noisy.to(clean.device, clean.dtype)
        if sample_mask is None:
            return result
        measured = _checked_mask(name, sample_mask, item).to(clean.device)
        return torch.where(measured, result, clean.detach())

    def _check_domain(self, clean: Tensor) -> None:
        if clean.is_complex():
            raise TypeError(
                f"{type(self).__name__}: the data are {clean.dtype}, this noise is for real data; "
                "use complex_gaussian for complex data"
            )


class GaussianNoise(Noise):
    """White Gaussian noise on real data: y + std n with n ~ N(0, 1).

    Args:
        std: standard deviation (not the variance), in the unit of the data.
    """

    def __init__(
        self, std: Annotated[float, Param("standard deviation, not variance", unit="unit of the data", ge=0)]
    ) -> None:
        self.std = _checked_std(type(self).__name__, std)

    def __repr__(self) -> str:
        return f"GaussianNoise(std={self.std:g} in the unit of the data)"

    @property
    def description(self) -> str:
        """One line for the provenance of simulated data."""
        return f"white Gaussian noise, standard deviation {self.std:g} in the unit of the data"

    def _draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        return clean + self.std * torch.randn(clean.shape, generator=generator, dtype=torch.float64)


class ComplexGaussianNoise(Noise):
    """White circular Gaussian noise on complex data (k-space): y + std (n1 + i n2) with n1, n2 ~ N(0, 1).

    Args:
        std: standard deviation (not the variance) of the real part and of the imaginary part each, in the
            unit of the data; the expected |noise|^2 is 2 std^2.
    """

    domain: ClassVar[str] = "complex"

    def __init__(
        self,
        std: Annotated[
            float,
            Param(
                "standard deviation, not variance, of the real and of the imaginary part each",
                unit="unit of the data",
                ge=0,
            ),
        ],
    ) -> None:
        self.std = _checked_std(type(self).__name__, std)

    def __repr__(self) -> str:
        return f"ComplexGaussianNoise(std={self.std:g} in the unit of the data, real and imaginary part each)"

    @property
    def description(self) -> str:
        """One line for the provenance of simulated data."""
        return (
            f"white complex Gaussian noise, standard deviation {self.std:g} of the real and of the imaginary "
            "part each, in the unit of the data"
        )

    def _draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        real_and_imaginary = torch.randn((*clean.shape, 2), generator=generator, dtype=torch.float64)
        return clean + self.std * torch.view_as_complex(real_and_imaginary)

    def _check_domain(self, clean: Tensor) -> None:
        if not clean.is_complex():
            raise TypeError(
                f"ComplexGaussianNoise: the data are {clean.dtype}, this noise is for complex data; "
                "use gaussian for real data"
            )


class PoissonNoise(Noise):
    """Photon noise of a transmission measurement, on line integrals p of the attenuation (no unit).

    Counts N ~ Poisson(photons exp(-p)) + electronic n with n ~ N(0, 1), and y = -log(N / photons). A ray that no
    photon passed, and any count below, is counted as 0.1, as in LoDoPaB-CT (Leuschner et al. 2021, Scientific
    Data 8, 109).

    Args:
        photons: mean number of photons that reach a detector pixel without an object in the way.
        electronic: standard deviation of the detector's own noise [counts].
    """

    ZERO_COUNT: ClassVar[float] = 0.1

    def __init__(
        self,
        photons: Annotated[float, Param("mean photons per ray without an object", unit="photons", gt=0)],
        electronic: Annotated[
            float, Param("standard deviation of the detector's own noise", unit="counts", ge=0)
        ] = 0.0,
    ) -> None:
        self.photons, self.electronic = _checked_detector(type(self).__name__, photons, electronic)

    def __repr__(self) -> str:
        electronic = f", electronic={self.electronic:g}" if self.electronic else ""
        return f"PoissonNoise(photons={self.photons:g} per ray{electronic})"

    @property
    def description(self) -> str:
        """One line for the provenance of simulated data."""
        if self.electronic:
            lowest = (
                f"electronic noise of standard deviation {self.electronic:g} counts, counts below "
                f"{self.ZERO_COUNT:g} counted as that"
            )
        else:
            lowest = f"zero counts counted as {self.ZERO_COUNT:g}"
        return (
            f"Poisson noise of a transmission measurement, {self.photons:g} photons per ray without object, "
            f"{lowest}"
        )

    def _check(self, clean: Tensor) -> None:
        _check_line_integrals(self, clean, self.photons)

    def _draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        counts = torch.poisson(self.photons * torch.exp(-clean), generator=generator)
        if self.electronic:
            counts += self.electronic * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
        return -torch.log(counts.clamp(min=self.ZERO_COUNT) / self.photons)


class LowerDoseNoise(Noise):
    """What a scan of lower dose has more noise: line integrals y of a full dose become those of a part of it.

    y holds the noise of the full dose already, so only the difference is added. With m = photons exp(-y) photons
    on a ray at full dose, of which a part d = `dose` is used, the variance

        (1 - d) / (d m) + (1 - d^2) electronic^2 / (d m)^2

    is added to 1 / m + electronic^2 / m^2, and the sum is that of the lower dose (Yu et al. 2012, J. Comput.
    Assist. Tomogr. 36, 477). It is drawn from counts: of K ~ Poisson(m) photons, d on average are kept, and the
    data gain log(K / m) - log(kept / (d m)), with electronic noise in both counts, correlated by d; counts below
    0.1 are counted as that.

    Args:
        photons: mean number of photons that reach a detector pixel at full dose without an object in the way.
        dose: the part of it that is used.
        electronic: standard deviation of the detector's own noise [counts], the same at both doses.
    """

    def __init__(
        self,
        photons: Annotated[
            float, Param("mean photons per ray at full dose without an object", unit="photons", gt=0)
        ],
        dose: Annotated[float, Param("part of the full dose that is used", gt=0, le=1)] = 0.25,
        electronic: Annotated[
            float, Param("standard deviation of the detector's own noise", unit="counts", ge=0)
        ] = 0.0,
    ) -> None:
        self.photons, self.electronic = _checked_detector(type(self).__name__, photons, electronic)
        if not 0 < dose <= 1:
            raise ValueError(
                f"LowerDoseNoise: dose is the part of the full dose, above 0 up to 1, got {dose}"
            )
        self.dose = float(dose)

    def __repr__(self) -> str:
        return (
            f"LowerDoseNoise(photons={self.photons:g} per ray at full dose, dose={self.dose:g}, "
            f"electronic={self.electronic:g})"
        )

    @property
    def description(self) -> str:
        """One line for the provenance of simulated data."""
        return (
            f"noise from {self.photons:g} photons per ray without object down to {self.dose:g} of the dose, "
            f"electronic noise of standard deviation {self.electronic:g} counts"
        )

    def variance(self, y: Tensor) -> Tensor:
        """The variance that is added to each line integral, to first order in 1 / counts."""
        kept = self.dose * self.photons * torch.exp(-y)
        return (1 - self.dose) / kept + (1 - self.dose**2) * (self.electronic / kept).square()

    def _check(self, clean: Tensor) -> None:
        _check_line_integrals(self, clean, self.photons)

    def _draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        mean, dose = self.photons * torch.exp(-clean), self.dose
        kept = torch.poisson(dose * mean, generator=generator)
        counted = kept + torch.poisson((1 - dose) * mean, generator=generator)
        if self.electronic:
            shared, other = self.electronic * torch.randn(
                (2, *clean.shape), generator=generator, dtype=torch.float64
            )
            kept, counted = kept + shared, counted + dose * shared + math.sqrt(1 - dose**2) * other
        least = PoissonNoise.ZERO_COUNT
        return clean + torch.log(dose * counted.clamp(min=least) / kept.clamp(min=least))


def as_noise(noise: Any) -> Noise:
    """A noise model from itself, from ``"poisson:photons=1e4"`` or from ``("poisson", {"photons": 1e4})``.

    Raises:
        TypeError: `noise` is none of the three, or what the name stands for is no noise model.
        recon.registry.UnknownNameError: no plugin registers that name.
    """
    if isinstance(noise, Noise):
        return noise
    from recon import registry

    model = registry.make("noise", noise)
    if not isinstance(model, Noise):
        raise TypeError(f"the noise {noise!r} is a {type(model).__name__}, not a recon.simulate.Noise")
    return model


def _item_generator(seed: int, index: int) -> torch.Generator:
    """A CPU generator for one item; SeedSequence keeps the streams of neighbouring seeds and items apart."""
    state = np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)
    return torch.Generator(device="cpu").manual_seed(int(state[0] >> np.uint64(1)))


def _checked_detector(name: str, photons: float, electronic: float) -> tuple[float, float]:
    if not (math.isfinite(photons) and photons > 0):
        raise ValueError(f"{name}: photons is the mean count per ray and must be positive, got {photons}")
    if not (math.isfinite(electronic) and electronic >= 0):
        raise ValueError(
            f"{name}: electronic is a standard deviation in counts and cannot be {electronic}; give a number "
            "from 0 on"
        )
    return float(photons), float(electronic)


def _check_line_integrals(noise: Noise, clean: Tensor, photons: float) -> None:
    if clean.numel() == 0:
        return
    most = photons * math.exp(min(-float(clean.min()), 700.0))
    if most > 2.0**53:
        raise ValueError(
            f"{type(noise).__name__}: a line integral of {float(clean.min()):g} would be {most:g} photons on one "
            "ray; the data must be line integrals of the attenuation (no unit, about 0 to 10)"
        )


def _checked_std(name: str, std: float) -> float:
    if not (math.isfinite(std) and std >= 0):
        raise ValueError(f"{name}: std is a standard deviation and cannot be {std}; give a number from 0 on")
    return float(std)


def _checked_mask(name: str, mask: Tensor, item: torch.Size) -> Tensor:
    if mask.ndim > len(item) or any(
        m not in (1, n) for m, n in zip(mask.shape[::-1], item[::-1], strict=False)
    ):
        raise ValueError(
            f"{name}: sample_mask has shape {tuple(mask.shape)}, "
            f"which does not broadcast to an item {tuple(item)}"
        )
    measured = mask != 0
    if not bool((mask == measured.to(mask.dtype)).all()):
        raise ValueError(
            f"{name}: sample_mask is 1 where data exist and 0 elsewhere, this one has other values"
        )
    return measured
