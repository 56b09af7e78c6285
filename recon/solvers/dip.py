"""Deep image prior: the weights of a network are fitted to one set of data, and stopped before they fit the noise."""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from recon.early_stopping import MovingVariance
from recon.parameters import Param
from recon.priors import Generator, SumOfPriors
from recon.problem import Problem
from recon.solvers.admm import ADMM, ADMMState
from recon.solvers.algorithm import norm, per_item
from recon.solvers.generator_fit import GeneratorFit, check_priors, value_range
from recon.solvers.lbfgs import direction, line_search, remembered
from recon.stopping import MaxIterations, StoppingRule

ITERATIONS = 3000
"""Limit where neither solver nor generator has one: that of the paper's denoising."""
RATE = 0.01
"""Learning rate where neither solver nor generator has one."""
ADAM_FIRST = 100
"""Steps of Adam before those of L-BFGS."""
HOPELESS = 1e-3
"""Of the learning rate: what is not finite even there will not be."""
MEMORY = 10
"""Pairs of differences that L-BFGS keeps."""
SHARED = 0.4
"""Of the weight that fits the noise without a generator, what suits beside one: Baguer et al. 2020 found by grids
3.2e-4 in place of 7.7e-4 on the Ellipses, and 7.0 in place of 20.6 on LoDoPaB."""
CLOSE = 1e-2
"""Relative error at which the network is close enough to the first image."""


@dataclasses.dataclass
class DIPState:
    """Weights of every item's network, the moments of Adam, and the images.

    Attributes:
        theta: weights that the next step looks at ``(B, P)``.
        mean, square: Adam's moments of the gradient ``(B, P)``.
        steps: Adam's steps since the moments were zero ``(B,)``.
        iteration: iterations done ``(B,)``; it counts the random numbers too.
        rate: what the learning rate is multiplied by ``(B,)``: halved where the fit broke down, at most 1.
        kept: weights to go back to ``(B, P)``; kept_loss: the loss there ``(B,)``.
        low, high: range that the network's values are mapped to ``(B,)``.
        loss: objective relative to that of a blank image ``(B,)``.
        iterate: image of the latest pass ``(B, *shape)``.
        average: weighted average of the iterates ``(B, *shape)``.
        best: iterate of the lowest loss ``(B, *shape)``; lowest: that loss ``(B,)``.
        errors: of samples kept back, their squared error relative to their data ``(B,)``; none where none are.
        inputs: the fixed input of each item, where they differ; else none.
        curvature: for L-BFGS the latest differences of weights and of gradients ``(B, memory, P)``, and the gradient
            and weights before; else none.
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
    errors: list[Tensor]
    inputs: list[Tensor]
    curvature: list[Tensor]


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

    An automatic weight of a prior beside the generator is 0.4 of the weight at which that prior alone fits the noise:
    the two share the work.

    The fit may break down: a loss that rises by more than `backtrack` dB above that of the last weights kept (every
    50 iterations), or that is not finite, brings those weights back, with moments of zero and half the learning rate,
    which grows again by 1 % an iteration.

    Args:
        optimiser: ``"adam"``, or ``"lbfgs"``: 100 steps of Adam with a learning rate of 0.001, then L-BFGS with a
            memory of 10 steps and a line search that halves.
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
        together: whether the networks of a batch run as one; "auto": on a GPU. On a CPU they are faster in turn
            (benchmarks/deep_image_prior.py).
    """

    def __init__(
        self,
        optimiser: Annotated[
            Literal["adam", "lbfgs"], Param("Adam, or L-BFGS after 100 steps of it")
        ] = "adam",
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
        if optimiser not in ("adam", "lbfgs"):
            raise ValueError(f"optimiser must be 'adam' or 'lbfgs', got {optimiser!r}")
        self.optimiser = optimiser
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

    def searching(self) -> _WithoutGenerator:
        """What finds an automatic weight: the priors beside the generator alone, whose weight it then shares."""
        return _WithoutGenerator()

    def start(self, problem: Problem) -> DIPState:
        """Fresh weights, fitted to x0 where there is one; their image, and the step to the weights of the next."""
        fit = self._fit(problem)
        low, high = value_range(problem)
        theta = fit.networks.first.expand(problem.items, -1).clone()
        inputs = [fit.fixed] if len(fit.fixed) > 1 else []
        with torch.no_grad():
            image = fit.images(theta, low, high, fit.inputs(inputs, None))
        none = torch.zeros(problem.items, device=theta.device, dtype=torch.float64)
        empty, first = torch.zeros_like(theta), none.long() - 1
        state = DIPState(
            theta, empty, empty, none, first, none + 1, theta, none + math.inf, low, high, none + math.inf,
            image, image, image, none + math.inf, [none] if self.held_out else [], inputs, self._no_curvature(theta),
        )  # fmt: skip
        return self.step(problem, state if problem.x0 is None else self._warmed(problem, state))

    def step(self, problem: Problem, state: DIPState) -> DIPState:
        """One gradient step of every item's weights."""
        iteration = int(state.iteration[0]) + 1  # of the image that is made now
        image, loss, errors, gradient = self._gradients(problem, state, iteration)
        fine = torch.isfinite(loss) & torch.isfinite(gradient).all(1)
        risen = loss > state.kept_loss * 10 ** (self.backtrack / 10) if self.backtrack else ~fine
        back = ~fine | risen
        due = ~back & (iteration % 50 == 0)
        kept, kept_loss = _where(due, state.theta, state.kept), torch.where(due, loss, state.kept_loss)
        if bool((~fine).any()):
            _tell_broken(iteration, ~fine)
        theta, mean, square, steps = self._adam(problem, state, gradient)
        curvature = state.curvature
        if self.optimiser == "lbfgs":
            curvature = self._curvature(state, gradient)
            if iteration >= ADAM_FIRST:
                theta = self._lbfgs(problem, state, curvature, loss, iteration)
        hopeless = ~fine & (state.rate < HOPELESS)
        if bool(hopeless.any()):  # given up: the runner says so
            image = _where(hopeless, torch.full_like(image, math.nan), image)
        average = self.average if self.output == "average" else 0.0
        past = min(average, iteration / (iteration + 9))
        blend = torch.lerp(image, state.average, past)
        better = fine & (loss < state.lowest)
        return dataclasses.replace(
            state,
            theta=_where(back, kept, theta),
            mean=_where(back, torch.zeros_like(mean), mean),
            square=_where(back, torch.zeros_like(square), square),
            steps=torch.where(back, 0, steps),
            iteration=state.iteration + 1,
            # without a smaller step the same step would be tried for ever; it grows again, twofold in 70 iterations
            rate=torch.where(back, state.rate / 2, (1.01 * state.rate).clamp_max(1)),
            kept=kept,
            kept_loss=kept_loss,
            loss=torch.where(fine, loss, state.loss),
            iterate=_where(back & ~hopeless, state.iterate, image),
            average=_where(back & ~hopeless, state.average, blend),
            best=_where(better, image, state.best),
            lowest=torch.where(better, loss, state.lowest),
            errors=[torch.where(fine, new, old) for new, old in zip(errors, state.errors, strict=True)],
            curvature=[_where(back, torch.zeros_like(now), now) for now in curvature],
        )

    def image(self, state: DIPState) -> Tensor:
        """The average of the iterates, the latest, or that of the lowest loss."""
        return {"average": state.average, "latest": state.iterate, "best": state.best}[self.output]

    def iterate(self, state: DIPState) -> Tensor:
        """The latest image, which rules that measure the variance watch."""
        return state.iterate

    def validation(self, state: DIPState) -> Tensor | None:
        """The error on samples kept back, for the rule `HeldOut`."""
        return state.errors[0] if state.errors else None

    def measures(self, problem: Problem, state: DIPState, predicted: Tensor) -> dict[str, Tensor]:
        """For the history: the loss, and of the data the mean squared error and the PSNR (peak: their largest)."""
        squares = (predicted - problem.y).abs().square().flatten(1).mean(1).double()
        peak = problem.y.abs().flatten(1).amax(1).double()
        values = {"loss": state.loss, "mse": squares}
        values["psnr_data"] = 10 * torch.log10(peak.square() / squares.clamp_min(1e-300))
        return values | ({"validation": state.errors[0]} if state.errors else {})

    def default_stop(self) -> StoppingRule:
        """The least variance of the images, within 15 %, with a fifth of the limit as patience; or the limit."""
        return _early(ITERATIONS if self.iterations == "auto" else self.iterations)

    def stop_for(self, problem: Problem) -> StoppingRule:
        """The same, with the limit that the generator advises."""
        generator = problem.fitted_generator
        advised = {} if generator is None else generator.advice
        if self.iterations != "auto" or "iterations" not in advised:
            return self.default_stop()
        return _early(int(advised["iterations"]))

    # Its parts

    def _fit(self, problem: Problem) -> GeneratorFit:
        """The generator, made once a problem; parts of a problem share it."""
        fits: dict[str, GeneratorFit] = problem.__dict__.setdefault("_generator_fits", {})
        if repr(self) not in fits:
            on_gpu = problem.y.device.type == "cuda"
            together = on_gpu if self.together == "auto" else bool(self.together)
            fits[repr(self)] = GeneratorFit(
                problem,
                together=together,
                reg_noise=self._setting(problem, "reg_noise", 0.0),
                held_out=self.held_out,
            )
        return fits[repr(self)]

    def _setting(self, problem: Problem, name: str, otherwise: float) -> float:
        own = getattr(self, name)
        if own != "auto":
            return float(own)
        generator = problem.fitted_generator
        return otherwise if generator is None else float(generator.advice.get(name, otherwise))

    def _gradients(
        self, problem: Problem, state: DIPState, iteration: int
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor]:
        """Image, loss, error on what is held out, and gradient of the loss, of every item."""
        fit = self._fit(problem)
        try:
            with torch.enable_grad():
                theta = state.theta.detach().requires_grad_()
                image = fit.images(theta, state.low, state.high, fit.inputs(state.inputs, iteration))
                loss, errors = fit.objective(problem, image)
                (gradient,) = torch.autograd.grad(loss.sum(), theta)
        except torch.OutOfMemoryError as error:
            raise fit.too_large(problem) from error
        return image.detach(), loss.detach(), [error.detach() for error in errors], gradient

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
        lr = self._setting(problem, "lr", RATE) if self.optimiser == "adam" else 1e-3
        rate = lr * state.rate / (1 - 0.9**steps)
        return state.theta - rate.to(mean).unsqueeze(1) * mean / corrected, mean, square, steps

    def _no_curvature(self, theta: Tensor) -> list[Tensor]:
        if self.optimiser == "adam":
            return []
        pairs = theta.new_zeros(len(theta), MEMORY, theta.shape[1])
        return [pairs, pairs.clone(), torch.zeros_like(theta), torch.zeros_like(theta)]

    def _curvature(self, state: DIPState, gradient: Tensor) -> list[Tensor]:
        """The memory of L-BFGS with this iteration's step and change of the gradient."""
        moves, changes, before, theta = state.curvature
        known = before.any(1)
        move = _where(known, state.theta - theta, torch.zeros_like(theta))
        moves, changes = remembered(moves, changes, move, gradient - before)
        return [moves, changes, gradient, state.theta]

    def _lbfgs(
        self, problem: Problem, state: DIPState, curvature: list[Tensor], loss: Tensor, iteration: int
    ) -> Tensor:
        """Weights after a step of L-BFGS, under this iteration's input noise."""
        moves, changes, gradient, _ = curvature
        step = direction(gradient, moves, changes)
        slope = torch.linalg.vecdot(gradient, step).double()
        fit = self._fit(problem)
        inputs = fit.inputs(state.inputs, iteration)

        def loss_at(theta: Tensor) -> Tensor:
            return fit.objective(problem, fit.images(theta, state.low, state.high, inputs))[0]

        length = line_search(loss_at, state.theta, step, loss, slope)
        return state.theta + length.to(step).unsqueeze(1) * step

    def _warmed(self, problem: Problem, state: DIPState) -> DIPState:
        """The state with weights that make the first image, as nearly as `warm_start` steps can."""
        target = problem.x0
        assert target is not None
        size = norm(target)
        if not bool((size > 0).any()):
            return state  # a blank image says nothing
        size = torch.where(size > 0, size, torch.ones_like(size))
        first, fit = state, self._fit(problem)
        inputs = fit.inputs(state.inputs, None)
        for _ in range(self.warm_start):
            with torch.enable_grad():
                theta = state.theta.detach().requires_grad_()
                image = fit.images(theta, state.low, state.high, inputs)
                error = norm(image - target) / size
                (gradient,) = torch.autograd.grad(error.square().sum(), theta)
            far = error > CLOSE  # an item that is close stays: its mates may need longer
            state = dataclasses.replace(state, iterate=image.detach())
            if not bool(far.any()):
                break
            theta, mean, square, steps = self._adam(problem, state, gradient)
            state = dataclasses.replace(
                state, theta=_where(far, theta, state.theta), mean=mean, square=square, steps=steps
            )
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


class _WithoutGenerator(ADMM):
    """ADMM on the problem without its generator, at 1/SHARED of the weight that the search believes in."""

    def start(self, problem: Problem) -> ADMMState:
        check_priors(problem)
        return super().start(_without_generator(problem))

    def step(self, problem: Problem, state: ADMMState) -> ADMMState:
        return super().step(_without_generator(problem), state)


def _without_generator(problem: Problem) -> Problem:
    part = copy.copy(problem)
    assert problem.prior is not None
    part.prior = SumOfPriors([one for one in problem.prior.members if not isinstance(one, Generator)])
    part.strength = problem.strength / SHARED
    return part


def _early(limit: int) -> StoppingRule:
    patience = min(1000, max(100, limit // 5))
    # chosen on one draw of noise of 15 and of 50 / 255, measured on another (benchmarks/dip_stopping.py)
    return MovingVariance(patience, forgetting=0.05, tolerance=0.15) | MaxIterations(limit)


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
    fine = isinstance(value, (int, float)) and least <= value < limit and not (above and value == least)
    if not fine:
        sign = ">" if above else ">="
        beyond = "" if limit == math.inf else f" and < {limit:g}"
        raise ValueError(f"{name} must be a number {sign} {least:g}{beyond}, got {value!r}")
    return float(value)
