"""What a prior is: a functional with a proximal map, a denoiser, or a generator; and sums of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from recon.linear import Field, Identity, LinearOperator, Step

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
        if weight != "auto":
            if isinstance(weight, str) or not float(weight) >= 0:
                raise ValueError(
                    f"the weight of {type(self).__name__} must be a number >= 0 or 'auto', got {weight!r}"
                )
            weight = float(weight)
        self.weight: Weight = weight

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


class Functional(Prior):
    """A function g(K x) with a proximal map: what ADMM and primal-dual algorithms split off.

    An author writes `_penalty` and `_prox`, and `K` if the functional looks at x through a linear map. All
    three see exactly one batch axis: ``z`` is ``(B, *K.range_shape)``.

    Attributes:
        convex: whether g is convex (its prox is then firmly non-expansive).
        constraint: g is the indicator of a set: no weight, and its prox is the projection.
        quadratic: g(z) = weight/2 |z|^2, which linear solvers absorb.
    """

    convex: bool = True
    constraint: bool = False
    quadratic: bool = False

    def K(self, shape: Sequence[int]) -> LinearOperator:
        """The linear map inside, for images of this shape; the identity by default."""
        return Identity(shape)

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
        return self.strength * penalty.reshape(penalty.shape[0], -1).sum(1)

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
    """

    value_range: tuple[float, float] | None = None

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Denoise ``x`` (B, *shape) with noise level ``sigma``: a number, or ``(B,)``."""
        raise TypeError(f"{type(self).__name__} has no denoise: write one")

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The same as `denoise`."""
        return self.denoise(x, sigma)


class Generator(Prior):
    """Images of the form x = G(theta): a network with a fixed input, fitted to the data (deep image prior).

    Args:
        network: maps the fixed input to ``(B, channels, *shape)`` or ``(B, *shape)``.
        fixed_input: the input that stays; its first axis is the batch.
    """

    def __init__(self, network: nn.Module, fixed_input: Tensor) -> None:
        super().__init__(weight=1.0)
        self.network = network
        self.fixed_input: Tensor
        self.register_buffer("fixed_input", fixed_input)

    def forward(self) -> Tensor:
        """The image that the present weights generate."""
        image: Tensor = self.network(self.fixed_input)
        return image


class SumOfPriors(Prior):
    """Several priors at once."""

    def __init__(self, priors: Sequence[Prior]) -> None:
        super().__init__()
        if not priors:
            raise ValueError("a sum of priors needs at least one prior, got an empty list")
        self.priors = nn.ModuleList(priors)
        fields = {prior.domain for prior in priors} - {"any"}
        if len(fields) > 1:
            names = ", ".join(f"{type(prior).__name__} ({prior.domain})" for prior in priors)
            raise TypeError(f"cannot add priors on real images to priors on complex images: {names}")
        self.domain = fields.pop() if fields else "any"

    @property
    def members(self) -> list[Prior]:  # a sum of sums is flat
        return list(self.priors)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Sum of the functionals' values for each image of ``x`` (B, *shape)."""
        total = x.new_zeros(x.shape[0], dtype=torch.zeros((), dtype=x.dtype).abs().dtype)
        for prior in self.members:
            if not isinstance(prior, Functional):
                raise TypeError(f"{type(prior).__name__} has no value: only functionals do")
            total = total + prior(x)
        return total


class Magnitude(Functional):
    """A prior on real images applied to the magnitude of complex ones; the phase is kept.

    For a functional g with identity K this is the prox of g(|x|) where g is non-decreasing on x >= 0.
    """

    domain: Field = "complex"

    def __init__(self, prior: Functional) -> None:
        super().__init__(prior.weight)
        self.prior = prior
        self.convex, self.constraint = prior.convex, prior.constraint

    def _penalty(self, z: Tensor) -> Tensor:
        return self.prior._penalty(z.abs())

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        magnitude = z.abs()
        phase = torch.where(magnitude > 0, z / magnitude.clamp_min(1e-30), torch.ones_like(z))
        return self.prior._prox(magnitude, threshold).clamp_min(0) * phase


class RealAndImaginary(Functional):
    """A prior on real images applied to the real and to the imaginary part of complex ones, separately."""

    domain: Field = "complex"

    def __init__(self, prior: Functional) -> None:
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
