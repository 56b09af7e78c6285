"""What a prior is: a functional with a proximal map, a denoiser, or a generator; and sums of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from recon.linear import Field, Identity, LinearOperator, Step, real_dtype

Weight = float | Literal["auto"]


class Prior(nn.Module):
    """Knowledge about images; priors add: ``TotalVariation(1e-3) + NonNegative()``.

    Attributes:
        domain: the images it is defined on: ``"real"``, ``"complex"`` or ``"any"``.
        weight: its strength in the objective, or ``"auto"``: chosen by `recon.solve` from the noise level.
    """

    domain: Field = "any"

    def __init__(self, weight: Weight = "auto") -> None:
        super().__init__()
        self.weight: Weight = checked_weight(weight, f"the weight of {type(self).__name__}")

    @property
    def members(self) -> list[Prior]:
        """The priors that a sum is made of; itself for a single one."""
        return [self]

    def __add__(self, other: Prior) -> Prior:
        if not isinstance(other, Prior):
            return NotImplemented
        return SumOfPriors([*self.members, *other.members])

    def extra_repr(self) -> str:
        """Weight for `repr`."""
        return f"weight={self.weight}"


def checked_weight(weight: object, name: str) -> Weight:
    """The weight as a float, or ``"auto"``.

    Raises:
        ValueError: anything but a finite number >= 0 and ``"auto"``.
    """
    if isinstance(weight, str) and weight == "auto":
        return "auto"
    try:
        value = math.nan if isinstance(weight, str) else float(weight)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number >= 0 or 'auto', got {weight!r}")
    return value


class Functional(Prior):
    """A function g(K x) with a proximal map: what ADMM and primal-dual algorithms split off.

    An author writes `_penalty` and `_prox`, and `K` if the functional looks at x through a linear map. All
    three see exactly one batch axis: ``z`` is ``(B, *K.range_shape)``.

    Attributes:
        convex: whether g is convex (its prox is then firmly non-expansive).
        constraint: g is the indicator of a set: no weight, and its prox is the projection.
        quadratic: g(z) = weight/2 |z|^2, which linear solvers absorb.
        separable: g is a sum of one function of every pixel. On real images its proximal map followed by the
            projection onto bounds is then the proximal map of both.
    """

    convex: bool = True
    constraint: bool = False
    quadratic: bool = False
    separable: bool = False

    def K(self, shape: Sequence[int]) -> LinearOperator:
        """The linear map inside, for images of this shape; the identity by default."""
        return Identity(shape)

    def fields(self, shape: Sequence[int]) -> int:
        """How many auxiliary fields of this image shape the penalty is minimised over; none by default.

        With fields, `K` is a `recon.lifting.JointMap` and takes ``(1 + fields, *shape)``, the image first.
        """
        return 0

    def _penalty(self, z: Tensor) -> Tensor:
        """Unweighted penalty, ``(B, ...)``: whatever axes are left are summed."""
        raise TypeError(f"{type(self).__name__} has no _penalty: write the unweighted g(z)")

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        """argmin_u threshold * penalty(u) + 1/2 |u - z|^2."""
        raise TypeError(f"{type(self).__name__} has no _prox: write its proximal map")

    @property
    def strength(self) -> float:
        """The weight as a number: 1 while it is ``"auto"``, and for constraints."""
        return 1.0 if self.weight == "auto" or self.constraint else float(self.weight)

    def value(self, z: Tensor) -> Tensor:
        """weight * penalty of each item of ``z`` (B, *K.range_shape); ``(B,)``."""
        penalty = self._penalty(z)
        sums = penalty.unsqueeze(-1).flatten(1).sum(1)
        # an indicator made of torch.where(..., torch.inf, 0.0) is single precision whatever z is
        return self.strength * (sums if sums.is_complex() else sums.to(real_dtype(z.dtype)))

    def prox(self, z: Tensor, step: Step) -> Tensor:
        """argmin_u step * g(u) + 1/2 |u - z|^2; ``step`` is a number or broadcasts against ``z``."""
        return self._prox(z, step * self.strength)

    def forward(self, x: Tensor) -> Tensor:
        """g(K x) of each image of ``x`` (B, *shape)."""
        return self.value(self.K(x.shape[1:])(x))


class Denoiser(Prior):
    """A map that removes Gaussian noise of a given level: plug-and-play.

    Its proximal map at step s is ``denoise(z, sqrt(weight * s))``. A learned artefact remover ignores sigma.

    Attributes:
        value_range: the range of image values it was made for; solvers map images to it and back. None: any.
        image_range: the range of the images that is mapped to it where the problem says none. None: it must say.
        end_to_end: made for the images of one kind of scan, whose range is `image_range` whatever a problem says.
        conditioned: trained to remove noise of any level up to most of the range, which it is told: solvers may start
            from strong noise and let the level fall.
    """

    value_range: tuple[float, float] | None = None
    image_range: tuple[float, float] | None = None
    end_to_end: bool = False
    conditioned: bool = False

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Denoise ``x`` (B, *shape) with noise level ``sigma``: a number, or ``(B,)``."""
        raise TypeError(f"{type(self).__name__} has no denoise: write one")

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The same as `denoise`."""
        return self.denoise(x, sigma)


class Generator(Prior):
    """Images of the form x = G(theta): a network with a fixed input, fitted to the data (deep image prior).

    A solver works on a copy: every item of a batch gets a network of its own, which starts from the weights that
    `for_images` gives, and the generator that the user holds stays as it is.

    Args:
        network: maps the fixed input to ``(B, channels, *shape)`` or ``(B, *shape)``; for complex images twice the
            channels, all real parts first, or complex values.
        fixed_input: the input that stays; its first axis is the batch: 1, or one an item.

    Attributes:
        value_range: the range of the network's values, as (0, 1) of a sigmoid; solvers map it to that of the image
            (of a complex image's real and imaginary part). None: the values are those of the image.
        advice: settings that suit the generator, by the solver's name for them (``lr``, ``reg_noise``,
            ``iterations``); a solver takes them where its own are "auto".
    """

    value_range: tuple[float, float] | None = None

    def __init__(self, network: nn.Module, fixed_input: Tensor) -> None:
        super().__init__(weight=1.0)
        self.network = network
        self.fixed_input: Tensor
        self.register_buffer("fixed_input", fixed_input)
        self.advice: dict[str, float] = {}

    def forward(self) -> Tensor:
        """The image that the present weights generate."""
        image: Tensor = self.network(self.fixed_input)
        return image

    def for_images(self, shape: Sequence[int], *, is_complex: bool, seed: int, like: Tensor) -> Generator:
        """The generator to fit to one problem: here a copy of itself, with its present weights.

        A generator that is made for the shape of the images, with weights drawn anew, overrides this.

        Args:
            shape: of one image.
            is_complex: whether the image is complex.
            seed: of weights and input.
            like: device and precision to be on.
        """
        twin = copy.deepcopy(self)
        return twin.to(like.device, real_dtype(like.dtype))


class SumOfPriors(Prior):
    """Several priors at once."""

    def __init__(self, priors: Sequence[Prior]) -> None:
        super().__init__()
        if not priors:
            raise ValueError("a sum of priors needs at least one prior, got an empty list")
        for prior in priors:
            if not isinstance(prior, Prior):
                raise TypeError(f"only priors can be added, got {type(prior).__name__}")
        flat = [member for prior in priors for member in prior.members]
        self.priors = nn.ModuleList(flat)
        fields = {prior.domain for prior in flat} - {"any"}
        if len(fields) > 1:
            names = ", ".join(f"{type(prior).__name__} ({prior.domain})" for prior in flat)
            raise TypeError(f"cannot add priors on real images to priors on complex images: {names}")
        self.domain = fields.pop() if fields else "any"

    @property
    def members(self) -> list[Prior]:
        """The priors that are added; a sum of sums is flat."""
        return list(self.priors)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        """The members have weights, the sum has none."""
        return ""

    def forward(self, x: Tensor) -> Tensor:
        """Sum of the functionals' values for each image of ``x`` (B, *shape)."""
        total = x.new_zeros(x.shape[0], dtype=torch.zeros((), dtype=x.dtype).abs().dtype)
        for prior in self.members:
            if not isinstance(prior, Functional):
                raise TypeError(f"{type(prior).__name__} has no value: only functionals do")
            total = total + prior(x)
        return total


class Magnitude(Functional):
    """A prior on real images applied to the magnitude of complex ones: g(|x|); the phase is kept.

    For a convex function of every pixel alone, its proximal map changes the magnitude: max(prox_g(|z|), 0).
    """

    domain: Field = "complex"

    def __init__(self, prior: Functional) -> None:
        _check_adaptable(self, prior)
        super().__init__(prior.weight)
        self.prior = prior
        self.constraint = prior.constraint
        # g(|x|) is convex where g does not fall on x >= 0, which is where its prox leaves zero alone
        rising = float(prior._prox(torch.zeros(1, 1), 1.0)) <= 0 if prior.convex else False
        self.convex = prior.convex and rising

    def K(self, shape: Sequence[int]) -> LinearOperator:
        """The identity: a magnitude has no gradient or wavelet transform that is linear in the image."""
        inside = self.prior.K(shape)
        if not isinstance(inside, Identity):
            raise TypeError(
                f"Magnitude adapts priors on the image itself, but {type(self.prior).__name__} looks at the image "
                f"through {type(inside).__name__}: use it directly if it takes complex images, or RealAndImaginary"
            )
        return inside

    def _penalty(self, z: Tensor) -> Tensor:
        return self.prior._penalty(z.abs())

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        magnitude = z.abs()
        tiny = torch.finfo(magnitude.dtype).tiny
        phase = torch.where(magnitude > tiny, z / magnitude.clamp_min(tiny), torch.ones_like(z))
        return self.prior._prox(magnitude, threshold).clamp_min(0) * phase


class RealAndImaginary(Functional):
    """A prior on real images applied to the real and to the imaginary part of complex ones, separately."""

    domain: Field = "complex"

    def __init__(self, prior: Functional) -> None:
        _check_adaptable(self, prior)
        super().__init__(prior.weight)
        self.prior = prior
        self.convex, self.constraint, self.quadratic = prior.convex, prior.constraint, prior.quadratic

    def K(self, shape: Sequence[int]) -> LinearOperator:
        """The linear map of the prior inside."""
        return self.prior.K(shape)

    def _penalty(self, z: Tensor) -> Tensor:
        real, imaginary = self.prior._penalty(z.real), self.prior._penalty(z.imag)
        return real.flatten(1).sum(1) + imaginary.flatten(1).sum(1)

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        return torch.complex(self.prior._prox(z.real, threshold), self.prior._prox(z.imag, threshold))


def _check_adaptable(adapter: Prior, prior: object) -> None:
    name = type(adapter).__name__
    if not isinstance(prior, Functional):
        raise TypeError(f"{name} adapts a functional such as L1, got {type(prior).__name__}")
    if prior.domain == "complex":
        raise TypeError(f"{name} is not needed: {type(prior).__name__} is defined on complex images already")
