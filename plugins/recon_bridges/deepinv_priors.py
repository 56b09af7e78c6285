"""DeepInverse's denoisers and priors as priors of ours, and ours as its priors."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from recon_operators.circulant import circulant_inverse
from torch import Tensor, nn

from recon.linear import Identity, LinearOperator, Step, solve_in_fourier
from recon.priors import Denoiser, Functional, Generator, Prior, SumOfPriors, Weight
from recon.problem import Problem
from recon.runner import run
from recon.solvers.admm import ADMM
from recon.stopping import MaxIterations, SmallResiduals
from recon_bridges.libraries import library
from recon_bridges.modules import Channels, ComplexAs, ModuleDenoiser, Sigma, by_number, denoiser

PriorChannels = Literal["add", "first"]


class PotentialFunctional(Functional):
    """A prior of DeepInverse with a value and a proximal map; see `from_potential`."""

    domain = "real"

    def __init__(self, prior: Any, channels: PriorChannels, convex: bool, weight: Weight) -> None:
        super().__init__(weight)
        self.potential = _Fresh(prior)
        self.channels = channels
        self.convex = convex

    def _penalty(self, z: Tensor) -> Tensor:
        if z.shape[0] == 0:
            return z.flatten(1)
        value: Tensor = self.potential.module.fn(self._with_channels(z))
        return value

    def _prox(self, z: Tensor, threshold: Step) -> Tensor:
        steps = torch.as_tensor(threshold, dtype=z.dtype, device=z.device)
        if steps.numel() not in (1, z.shape[0]):
            raise ValueError(
                f"{type(self.potential.module).__name__} takes one step an item, got {tuple(steps.shape)}"
            )
        result = by_number(self._proximal, self._with_channels(z), steps.reshape(-1).expand(z.shape[0]))
        return result.reshape(z.shape)

    def _proximal(self, x: Tensor, step: float) -> Tensor:
        if step == 0:
            return x.clone()
        return self.potential.each(lambda prior, items: prior.prox(items, gamma=step), x)

    def _with_channels(self, z: Tensor) -> Tensor:
        return z.unsqueeze(1) if self.channels == "add" else z

    def extra_repr(self) -> str:
        """Settings for `repr`."""
        return f"channels={self.channels!r}, weight={self.weight}"


class _Fresh(nn.Module):
    """A module of DeepInverse without its memory.

    Its iterative denoisers (total variation) go on from their state of the last call, and stop for a whole
    batch at once. Here every call starts anew and every item is called alone, so that a result depends on its
    image only.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module: Any = module

    def each(self, apply: Any, x: Tensor) -> Tensor:
        """``apply(module, items)``, item by item where the module iterates."""
        iterative: list[Any] = [part for part in self.module.modules() if hasattr(part, "restart")]
        if not iterative:
            return apply(self.module, x)
        results = []
        for item in x.split(1):
            for part in iterative:
                part.restart = True
            results.append(apply(self.module, item))
        return torch.cat(results)

    def forward(self, x: Tensor, sigma: Any) -> Tensor:
        """The denoiser."""
        return self.each(lambda module, items: module(items, sigma), x)


def from_denoiser(
    module: Any,
    *,
    value_range: tuple[float, float] | None = (0.0, 1.0),
    sigma: Sigma = "number",
    channels: Channels = "add",
    complex_as: ComplexAs | None = None,
    multiple_of: int = 1,
    weight: Weight | None = None,
) -> ModuleDenoiser:
    """A `deepinv.models.Denoiser`, or a `deepinv.optim.PnP` prior, as a plug-and-play prior of ours.

    Arguments as in `denoiser`; DeepInverse's networks take images in [0, 1]. Those that accept one noise level
    an item are called once for a batch of different levels with ``sigma="batch"``.
    """
    return denoiser(
        _Fresh(module),
        value_range,
        sigma=sigma,
        channels=channels,
        complex_as=complex_as,
        multiple_of=multiple_of,
        weight=weight,
    )


def from_potential(
    prior: Any, *, channels: PriorChannels = "add", convex: bool = True, weight: Weight = "auto"
) -> PotentialFunctional:
    """A `deepinv.optim.Prior` with a value and a proximal map of its own as a functional of ours.

    Its ``prox(x, gamma)`` is the proximal map at our step times weight. The linear map inside is the identity:
    where DeepInverse computes the proximal map of a composed functional by iterations (total variation), every
    step runs them anew; a prior of ours, which splits the map off, is many times faster.

    Args:
        prior: the prior.
        channels: ``"add"``, images have no channel axis and the prior sees one channel; ``"first"``, the
            images' first axis is the channels.
        convex: whether it is convex.
        weight: strength, or ``"auto"``; DeepInverse's own ``lambda_reg`` belongs to its algorithms.

    Raises:
        TypeError: a prior without a value, or without a proximal map of its own.
    """
    base = library("deepinv").optim.potential.Potential
    name = type(prior).__name__
    if not getattr(prior, "explicit_prior", False):
        raise TypeError(
            f"{name} has a gradient but no value and no proximal map: bridge the denoiser inside, "
            "from_deepinv(prior.denoiser)"
        )
    if type(prior).prox is base.prox:
        raise TypeError(
            f"{name} has no proximal map of its own (DeepInverse would take 50 gradient steps of fixed size): "
            "write one, or use a prior of ours"
        )
    if channels not in ("add", "first"):
        raise ValueError(f"channels must be 'add' or 'first', got {channels!r}")
    return PotentialFunctional(prior, channels, convex, weight)


def to_prior(
    prior: Prior,
    *,
    channels: PriorChannels = "add",
    value_range: tuple[float, float] = (0.0, 1.0),
    iterations: int = 500,
) -> Any:
    """A prior of ours as a `deepinv.optim.Prior`, for images ``(B, channels, *shape)``.

    A functional becomes an explicit prior with value and ``prox(x, gamma)``, weighted by its own weight
    (1 if that is ``"auto"``: DeepInverse's ``lambda_reg`` multiplies it). Where a linear map stands inside
    (total variation), and for sums, the proximal map is a denoising problem that our ADMM solves to relative
    residuals of 1e-4. A denoiser becomes `deepinv.optim.PnP`.

    Args:
        prior: functional, sum of functionals, or denoiser.
        channels: ``"add"``, every channel is an image of its own; ``"first"``, the first axis of our image is
            the channels.
        value_range: of DeepInverse's images, mapped to the range a denoiser was made for.
        iterations: most iterations of a proximal map that is solved for.

    Raises:
        TypeError: no prior of ours, a generator, or a sum with a denoiser.
    """
    if not isinstance(prior, Prior):
        raise TypeError(f"to_deepinv takes a recon prior, got {type(prior).__name__}")
    if channels not in ("add", "first"):
        raise ValueError(f"channels must be 'add' or 'first', got {channels!r}")
    if isinstance(prior, Denoiser):
        adapter = _OurDenoiser(prior, channels, value_range)
        return library("deepinv").optim.PnP(denoiser=adapter)
    if isinstance(prior, Generator) or not all(isinstance(member, Functional) for member in prior.members):
        names = " + ".join(type(member).__name__ for member in prior.members)
        raise TypeError(f"{names} has no proximal map: only functionals, their sums, and single denoisers do")
    return _prior_class()(prior, channels, iterations)


def proximal_map(prior: Prior, z: Tensor, gamma: float, iterations: int) -> Tensor:
    """argmin_u gamma g(u) + 1/2 |u - z|^2 for functionals with linear maps inside, and sums; ``z`` (B, *shape).

    Solved as 1/2 |A u - A z|^2 + g(u) with A = 1/sqrt(gamma).
    """
    operator = _Multiple(z.shape[1:], 1 / math.sqrt(gamma))
    with torch.no_grad():
        problem = Problem(operator, operator(z), prior=prior, x0=z)
        return run(problem, ADMM(), stop=SmallResiduals(1e-4) | MaxIterations(iterations)).image


class _Multiple(LinearOperator):
    """A multiple of the identity, with what makes ADMM's steps cheap beside a gradient."""

    def __init__(self, shape: Sequence[int], factor: float) -> None:
        super().__init__(shape, shape)
        self.factor = factor

    def _forward(self, x: Tensor) -> Tensor:
        return self.factor * x

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.factor * y

    def fourier_symbol(self) -> Tensor:
        return torch.full(self.domain_shape, self.factor**2)

    def solve_gram(self, b: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator]) -> Tensor | None:
        return solve_in_fourier(self.fourier_symbol().to(b.device), b, rho, terms)

    def preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator]
    ) -> Callable[[Tensor], Tensor] | None:
        place = next((weight.device for weight in rho if isinstance(weight, Tensor)), self.device)
        return circulant_inverse(self.fourier_symbol().to(place), rho, terms)


class _OurDenoiser(nn.Module):
    """A denoiser of ours as DeepInverse calls it."""

    def __init__(self, prior: Denoiser, channels: PriorChannels, value_range: Sequence[float]) -> None:
        super().__init__()
        self.prior, self.channels = prior, channels
        wanted = prior.value_range or (value_range[0], value_range[1])
        self.factor = (wanted[1] - wanted[0]) / (value_range[1] - value_range[0])
        self.offset = wanted[0] - self.factor * value_range[0]

    def forward(self, x: Tensor, sigma: float | Tensor, *args: Any, **kwargs: Any) -> Tensor:
        images = _joined(x, self.channels)
        levels = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1)
        levels = levels.expand(x.shape[0]) if levels.numel() == 1 else levels
        levels = levels.repeat_interleave(len(images) // x.shape[0])
        clean = self.prior.denoise(self.factor * images + self.offset, self.factor * levels)
        return ((clean - self.offset) / self.factor).reshape(x.shape)


@functools.cache
def _prior_class() -> Any:
    class OurPrior(library("deepinv").optim.Prior):  # type: ignore[misc]
        """A functional of ours, or a sum, that DeepInverse calls."""

        def __init__(self, prior: Prior, channels: PriorChannels, iterations: int) -> None:
            super().__init__()
            self.explicit_prior = True
            self.prior, self.channels, self.iterations = prior, channels, iterations

        def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return self.prior(_joined(x, self.channels)).reshape(x.shape[0], -1).sum(1)

        def prox(self, x: Tensor, *args: Any, gamma: float | Tensor = 1.0, **kwargs: Any) -> Tensor:
            images = _joined(x, self.channels)
            steps = torch.as_tensor(gamma, dtype=x.dtype, device=x.device).reshape(-1)
            steps = steps.expand(x.shape[0]) if steps.numel() == 1 else steps
            steps = steps.repeat_interleave(len(images) // x.shape[0])
            return by_number(self._proximal, images, steps).reshape(x.shape)

        def _proximal(self, z: Tensor, gamma: float) -> Tensor:
            if gamma == 0:
                return z.clone()
            single = self.prior if isinstance(self.prior, Functional) else None
            if single is not None and isinstance(single.K(z.shape[1:]), Identity):
                return single.prox(z, gamma)
            return proximal_map(self.prior, z, gamma, self.iterations)

        def __reduce__(self) -> Any:
            return _rebuilt, (self.prior, self.channels, self.iterations)

    return OurPrior


def _rebuilt(prior: Functional | SumOfPriors, channels: PriorChannels, iterations: int) -> Any:
    return to_prior(prior, channels=channels, iterations=iterations)


def _joined(x: Tensor, channels: PriorChannels) -> Tensor:
    """Images (N, *shape) of DeepInverse's (B, channels, *shape)."""
    return x.flatten(0, 1) if channels == "add" else x
