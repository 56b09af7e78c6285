"""Deep image prior: the weights of a network are fitted to one set of data, and stopped before they fit the noise."""

from __future__ import annotations

import dataclasses
import math
import numbers
import warnings
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from recon.early_stopping import MovingVariance
from recon.linear import real_dtype
from recon.parameters import Param
from recon.priors import Denoiser, Generator
from recon.problem import Problem
from recon.solvers.algorithm import norm, per_item
from recon.solvers.parallel_networks import ParallelNetworks
from recon.stopping import MaxIterations, StoppingRule

ITERATIONS = 3000
"""Limit where neither solver nor generator has one: that of the paper's denoising."""
RATE = 0.01
"""Learning rate where neither solver nor generator has one."""
SEEDS = 2**31
MARGIN = 0.1
"""By how much of its width the range of the direct reconstruction is widened at each end."""
CLOSE = 1e-2
"""Relative error at which the network is close enough to the first image."""


@dataclasses.dataclass
class DIPState:
    """Weights of every item's network, the moments of Adam, and the images.

    Attributes:
        theta: weights ``(B, P)``.
        mean, square: Adam's moments of the gradient ``(B, P)``.
        steps: Adam's steps since the moments were zero ``(B,)``.
        iteration: iterations done ``(B,)``; it counts the random numbers too.
        rate: what the learning rate is multiplied by ``(B,)``: halved where the fit broke down.
        kept: weights to go back to ``(B, P)``; kept_loss: the loss there ``(B,)``.
        low, high: range that the network's values are mapped to ``(B,)``.
        loss: objective relative to that of a blank image ``(B,)``.
        iterate: image of the latest pass ``(B, *shape)``.
        average: weighted average of the iterates ``(B, *shape)``.
        best: iterate of the lowest loss ``(B, *shape)``; lowest: that loss ``(B,)``.
        validation: mean squared error on samples kept back, relative to the data ``(B,)``; NaN where none are.
        inputs: the fixed input of each item, where they differ; else none.
    """

    theta: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor
    iteration: Tensor
    rate: Tensor
    kept: Tensor
    kept_loss: Tensor
    low: Tensor
    high: Tensor
    loss: Tensor
    iterate: Tensor
    average: Tensor
    best: Tensor
    lowest: Tensor
    validation: Tensor
    inputs: list[Tensor]


class DIP:
    """Fit x = G(theta) to the data: minimise f(A G(theta); y) + sum_i g_i(K_i G(theta)) over theta.

    Deep image prior (Ulyanov, Vedaldi and Lempitsky 2018): any forward operator, data term, and sum of functionals
    beside the generator; constraints are projected onto, their gradient passes. Every item has a network of its own
    and all start from the same weights and input, drawn from the seed of the solve, so that an item's image does not
    depend on its mates. The loss is the objective relative to that of a blank image: a learning rate means the same
    in any unit.

    A network with a sigmoid is mapped to the range of the image: `image_range` where the problem has one, else that
    of the direct reconstruction widened by a tenth at each end; for complex images the largest magnitude, so
    widened, bounds the real and the imaginary part.

    Given a first image, the network is fitted to it before the first iteration (`warm_start` passes at most, or to
    1 % of it): that of a learned reconstruction, or a classical one.

    The fit may break down: a loss that rises by more than `backtrack` dB above that of the last weights kept (every
    50 iterations), or that is not finite, brings those weights back, with moments of zero and half the
    learning rate where it was not finite.

    Args:
        lr: learning rate; "auto": the generator's advice, else 0.01.
        reg_noise: standard deviation of the noise added to the input at each iteration; "auto": the generator's
            advice, else 0.
        iterations: limit of the default stopping rule; "auto": the generator's advice, else 3000.
        average: weight of the past in the running average of the images, which is returned; 0 returns the
            latest. It grows from 0 with the iterations, so that the beginning is forgotten.
        output: ``"average"``, ``"latest"``, or ``"best"``: the iterate of the lowest loss.
        clip: largest norm of an item's gradient; 0 for none.
        backtrack: rise of the loss in dB that brings kept weights back; 0 for never.
        held_out: share of the samples kept back from the fit, for the stopping rule `HeldOut`.
        warm_start: most iterations that fit the network to the first image.
        together: whether the networks of a batch run as one; "auto": on a GPU.
    """

    def __init__(
        self,
        lr: Annotated[float | Literal["auto"], Param("learning rate; auto: the generator's", gt=0)] = "auto",
        reg_noise: Annotated[
            float | Literal["auto"], Param("deviation of the noise on the input; auto: the generator's", ge=0)
        ] = "auto",
        iterations: Annotated[
            int | Literal["auto"], Param("limit of the default stopping rule; auto: the generator's", ge=1)
        ] = "auto",
        average: Annotated[float, Param("weight of the past in the average of images", ge=0, lt=1)] = 0.99,
        output: Annotated[
            Literal["average", "latest", "best"], Param("the image: average, latest, or of the lowest loss")
        ] = "average",
        clip: Annotated[float, Param("largest norm of an item's gradient; 0: any", ge=0)] = 1.0,
        backtrack: Annotated[
            float, Param("rise of the loss that brings back kept weights; 0: never", unit="dB", ge=0)
        ] = 5.0,
        held_out: Annotated[float, Param("share of the samples kept back from the fit", ge=0, lt=1)] = 0.0,
        warm_start: Annotated[int, Param("most iterations that fit the first image", ge=0)] = 1000,
        together: Annotated[
            bool | Literal["auto"], Param("networks of a batch run as one; auto: on a GPU")
        ] = "auto",
    ) -> None:
        self.lr = lr if lr == "auto" else _number("lr", lr, 0, math.inf, above=True)
        self.reg_noise = reg_noise if reg_noise == "auto" else _number("reg_noise", reg_noise, 0, math.inf)
        self.iterations = iterations if iterations == "auto" else MaxIterations(iterations).iterations
        self.average = _number("average", average, 0, 1)
        self.clip = _number("clip", clip, 0, math.inf)
        self.backtrack = _number("backtrack", backtrack, 0, math.inf)
        self.held_out = _number("held_out", held_out, 0, 1)
        self.warm_start = int(_number("warm_start", warm_start, 0, math.inf))
        if output not in ("average", "latest", "best"):
            raise ValueError(f"output must be 'average', 'latest' or 'best', got {output!r}")
        self.output = output
        if together not in (True, False, "auto"):
            raise ValueError(f"together must be True, False or 'auto', got {together!r}")
        self.together = together

    # The algorithm

    def start(self, problem: Problem) -> DIPState:
        """Fresh weights; fitted to x0 where there is one."""
        _check(problem)
        networks = self._networks(problem)
        items, like = problem.items, problem.y
        low, high = _value_range(problem)
        theta = networks.first.expand(items, -1).clone()
        generator = problem.fitted_generator
        assert generator is not None
        inputs = [generator.fixed_input] if len(generator.fixed_input) > 1 else []
        with torch.no_grad():
            image = self._image(problem, theta, low, high, self._input(problem, inputs, -1))
        none = torch.zeros(items, device=like.device, dtype=torch.float64)
        empty = torch.zeros_like(theta)
        state = DIPState(
            theta, empty, empty, none, none.long(), none + 1, theta, none + math.inf, low, high, none + math.nan,
            image, image, image, none + math.inf, none + math.nan, inputs,
        )  # fmt: skip
        return state if problem.x0 is None else self._warmed(problem, state)

    def step(self, problem: Problem, state: DIPState) -> DIPState:
        """One gradient step of every item's weights."""
        iteration = int(state.iteration[0])
        image, loss, validation, gradient = self._gradients(problem, state, iteration)
        fine = torch.isfinite(loss) & torch.isfinite(gradient).all(1)
        risen = loss > state.kept_loss * 10 ** (self.backtrack / 10) if self.backtrack else ~fine
        back = ~fine | risen
        due = ~back & (iteration % 50 == 0)
        kept, kept_loss = _where(due, state.theta, state.kept), torch.where(due, loss, state.kept_loss)
        if bool((~fine).any()):
            _tell_broken(iteration + 1, ~fine)
        theta, mean, square, steps = self._adam(problem, state, gradient)
        image = _where(
            state.rate < 1e-3, torch.full_like(image, math.nan), image
        )  # given up: the runner says so
        average = self.average if self.output == "average" else 0.0
        past = min(average, (iteration + 1) / (iteration + 10)) if iteration else 0.0
        blend = torch.lerp(image, state.average, past)
        better = fine & (loss < state.lowest)
        return dataclasses.replace(
            state,
            theta=_where(back, kept, theta),
            mean=_where(back, torch.zeros_like(mean), mean),
            square=_where(back, torch.zeros_like(square), square),
            steps=torch.where(back, 0, steps),
            iteration=state.iteration + 1,
            rate=torch.where(fine, state.rate, state.rate / 2),
            kept=kept,
            kept_loss=kept_loss,
            loss=torch.where(fine, loss, state.loss),
            iterate=_where(back & (state.rate >= 1e-3), state.iterate, image),
            average=_where(back & (state.rate >= 1e-3), state.average, blend),
            best=_where(better, image, state.best),
            lowest=torch.where(better, loss, state.lowest),
            validation=torch.where(fine, validation, state.validation),
        )

    def image(self, state: DIPState) -> Tensor:
        """The average of the iterates, the latest, or that of the lowest loss."""
        return {"average": state.average, "latest": state.iterate, "best": state.best}[self.output]

    def iterate(self, state: DIPState) -> Tensor:
        """The latest image, which rules that measure the variance watch."""
        return state.iterate

    def measures(self, problem: Problem, state: DIPState, predicted: Tensor) -> dict[str, Tensor]:
        """For the history: the loss, and of the data the mean squared error and the PSNR (peak: their largest)."""
        squares = (predicted - problem.y).abs().square().flatten(1).mean(1).double()
        peak = problem.y.abs().flatten(1).amax(1).double()
        values = {"loss": state.loss, "mse": squares}
        values["psnr_data"] = 10 * torch.log10(peak.square() / squares.clamp_min(1e-300))
        return values if not self.held_out else values | {"validation": state.validation}

    def default_stop(self) -> StoppingRule:
        """The least variance of the images, or the limit."""
        return MovingVariance() | MaxIterations(ITERATIONS if self.iterations == "auto" else self.iterations)

    def stop_for(self, problem: Problem) -> StoppingRule:
        """The same with the generator's own limit."""
        advised = {} if problem.generator is None else problem.generator.advice
        if self.iterations != "auto" or "iterations" not in advised:
            return self.default_stop()
        return MovingVariance() | MaxIterations(int(advised["iterations"]))

    # Its parts

    def _networks(self, problem: Problem) -> ParallelNetworks:
        """The networks' structure, built once a problem; parts of a problem share it."""
        made = problem.__dict__.get("_parallel_networks")
        if made is None:
            generator = problem.fitted_generator
            assert generator is not None
            on_gpu = problem.y.device.type == "cuda"
            together = on_gpu if self.together == "auto" else bool(self.together)
            made = ParallelNetworks(
                generator, problem.operator.domain_shape, is_complex=problem.is_complex, together=together
            )
            problem.__dict__["_parallel_networks"] = made
        return made  # type: ignore[no-any-return]

    def _image(self, problem: Problem, theta: Tensor, low: Tensor, high: Tensor, inputs: Tensor) -> Tensor:
        """The networks' images in the problem's units."""
        image = self._networks(problem)(theta, inputs)
        generator = problem.fitted_generator
        assert generator is not None
        if generator.value_range is None:
            return image
        bottom, top = generator.value_range
        real = real_dtype(image.dtype)
        factor = ((high - low) / (top - bottom)).to(real)
        offset = per_item(low.to(real) - factor * bottom, image)
        if image.is_complex():
            offset = torch.complex(offset, offset)
        return per_item(factor, image) * image + offset

    def _input(self, problem: Problem, inputs: list[Tensor], iteration: int) -> Tensor:
        """The fixed input, with this iteration's noise; the same noise for every item."""
        generator = problem.fitted_generator
        assert generator is not None
        fixed = inputs[0] if inputs else generator.fixed_input
        level = self._setting(problem, "reg_noise", 0.0)
        if level == 0 or iteration < 0:
            return fixed
        stream = torch.Generator(fixed.device).manual_seed((problem.seed * 1_000_003 + iteration) % SEEDS)
        noise = torch.randn(
            fixed[:1].shape, generator=stream, device=fixed.device, dtype=real_dtype(fixed.dtype)
        )
        return fixed + level * noise

    def _setting(self, problem: Problem, name: str, otherwise: float) -> float:
        own = getattr(self, name)
        if own != "auto":
            return float(own)
        assert problem.generator is not None
        return float(problem.generator.advice.get(name, otherwise))

    def _gradients(
        self, problem: Problem, state: DIPState, iteration: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Image, loss, error on what is held out, and gradient of the loss, of every item."""
        with torch.enable_grad():
            theta = state.theta.detach().requires_grad_()
            image = self._image(
                problem, theta, state.low, state.high, self._input(problem, state.inputs, iteration)
            )
            # onto the constraints, with the gradient of the image itself: a clipped pixel must find its way back
            inside = image + (problem.project(image) - image).detach()
            predicted = problem.operator(inside)
            fitted, validation = self._held_out(problem, predicted)
            objective = problem.item_fidelity.value(fitted, problem.y) + problem.penalty(inside)
            loss = objective.double() / _scale(problem)
            (gradient,) = torch.autograd.grad(loss.sum(), theta)
        return image.detach(), loss.detach(), validation.detach(), gradient

    def _held_out(self, problem: Problem, predicted: Tensor) -> tuple[Tensor, Tensor]:
        """What is fitted, with samples kept back in the place of their data; and the error on these."""
        if not self.held_out:
            return predicted, torch.full_like(problem.strength, math.nan, dtype=torch.float64)
        mask = problem.__dict__.get("_held_out")
        if mask is None:
            stream = torch.Generator().manual_seed(problem.seed)
            mask = torch.rand(problem.operator.range_shape, generator=stream) < self.held_out
            mask = mask.to(problem.y.device) & (problem._counted.expand(mask.shape) > 0)
            if not bool(mask.any()):
                raise ValueError(
                    f"held_out={self.held_out} keeps none of the samples back: give a larger share"
                )
            problem.__dict__["_held_out"] = mask
        squares = torch.where(mask, (predicted - problem.y).abs().square(), 0).flatten(1).sum(1)
        energy = torch.where(mask, problem.y.abs().square(), 0).flatten(1).sum(1).clamp_min(1e-30)
        return torch.where(mask, problem.y, predicted), squares.double() / energy.double()

    def _adam(
        self, problem: Problem, state: DIPState, gradient: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights, moments and count after a step (Kingma and Ba 2015), each item's gradient clipped."""
        if self.clip:
            size = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            gradient = gradient * (self.clip / size.clamp_min(self.clip))
        steps = state.steps + 1
        mean = torch.lerp(gradient, state.mean, 0.9)
        square = torch.lerp(gradient.square(), state.square, 0.999)
        corrected = (square / (1 - 0.999**steps).to(square).unsqueeze(1)).sqrt().add_(1e-8)
        rate = self._setting(problem, "lr", RATE) * state.rate / (1 - 0.9**steps)
        return state.theta - rate.to(mean).unsqueeze(1) * mean / corrected, mean, square, steps

    def _warmed(self, problem: Problem, state: DIPState) -> DIPState:
        """The state with weights that make the first image, as nearly as `warm_start` steps can."""
        target = problem.x0
        assert target is not None
        size = norm(target)
        if not bool((size > 0).any()):
            return state  # a blank image says nothing
        size = torch.where(size > 0, size, torch.ones_like(size))
        first, inputs = state, self._input(problem, state.inputs, -1)
        for _ in range(self.warm_start):
            with torch.enable_grad():
                theta = state.theta.detach().requires_grad_()
                image = self._image(problem, theta, state.low, state.high, inputs)
                error = norm(image - target) / size
                (gradient,) = torch.autograd.grad(error.square().sum(), theta)
            state = dataclasses.replace(state, iterate=image.detach())
            if bool((error <= CLOSE).all()):
                break
            theta, mean, square, steps = self._adam(problem, state, gradient)
            state = dataclasses.replace(state, theta=theta, mean=mean, square=square, steps=steps)
        image = state.iterate
        return dataclasses.replace(
            first,
            theta=state.theta.detach(),
            kept=state.theta.detach(),
            iterate=image,
            average=image,
            best=image,
        )

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"DIP({settings})"


def _check(problem: Problem) -> None:
    """Raise ValueError for priors that the solver does not take."""
    members = [] if problem.prior is None else problem.prior.members
    generators = [member for member in members if isinstance(member, Generator)]
    if len(generators) != 1:
        raise ValueError(
            f"solver='dip' fits one generator as prior, got {len(generators)}: use the prior 'dip', alone or in a "
            "sum such as 'dip' + 'tv'"
        )
    for member in members:
        if isinstance(member, Denoiser):
            raise ValueError(
                f"solver='dip' differentiates what is beside the generator, but the prior {type(member).__name__} is a "
                "denoiser, which has no value: use functionals such as 'tv', or solver='admm' without the generator"
            )
    generator = problem.fitted_generator
    assert generator is not None
    count = generator.fixed_input.shape[0]
    if count not in (1, problem.items):
        raise ValueError(
            f"the fixed input of the generator, a prior, has {count} items, expected 1, or {problem.items} as the data"
        )


def _scale(problem: Problem) -> Tensor:
    """The objective of a blank image, 1/2 |y|_w^2, of each item."""
    size = 0.5 * problem.item_fidelity.weighted_norm(problem.y).double().square()
    return torch.where(size > 0, size, torch.ones_like(size))


def _value_range(problem: Problem) -> tuple[Tensor, Tensor]:
    """The range of each item's values: given, or that of the direct reconstruction widened at each end."""
    given = problem.image_range
    like = torch.zeros(problem.items, device=problem.y.device, dtype=torch.float64)
    if given is not None:
        return like + (-given[1] if problem.is_complex else given[0]), like + given[1]
    direct = problem.operator.pinv(problem.usable_data)
    if problem.x0 is not None:
        direct = torch.stack([direct, problem.x0], 1)
    values = direct.abs() if problem.is_complex else direct
    high = values.flatten(1).amax(1).double()
    low = -high if problem.is_complex else values.flatten(1).amin(1).double()
    width = torch.where(high > low, high - low, torch.ones_like(high))
    return low - MARGIN * width, high + MARGIN * width


def _where(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """``new`` where an item's mask is set."""
    return torch.where(per_item(mask, new), new, old)


def _tell_broken(iteration: int, broken: Tensor) -> None:
    count = int(broken.sum())
    warnings.warn(
        f"the loss or its gradient became NaN or infinite at iteration {iteration}"
        + (f" for {count} of {len(broken)} items" if len(broken) > 1 else "")
        + ": the weights of the last good iteration are restored and the learning rate is halved",
        RuntimeWarning,
        stacklevel=4,
    )


def _number(name: str, value: Any, least: float, limit: float, *, above: bool = False) -> float:
    fine = isinstance(value, numbers.Real) and least <= value < limit and not (above and value == least)
    if not fine:
        sign = ">" if above else ">="
        beyond = "" if limit == math.inf else f" and < {limit:g}"
        raise ValueError(f"{name} must be a number {sign} {least:g}{beyond}, got {value!r}")
    return float(value)
