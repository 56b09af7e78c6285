"""Deep image prior: the weights of a network are fitted to one set of data, and stopped before they fit the noise."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from recon.early_stopping import MovingVariance
from recon.parameters import Param
from recon.problem import Problem
from recon.solvers.algorithm import norm
from recon.solvers.beside_generator import WithoutGenerator
from recon.solvers.dip_state import DIPState
from recon.solvers.generator_fit import GeneratorFit, check_priors, value_range
from recon.solvers.weight_steps import adam_step, lbfgs_step, no_curvature, where, with_latest
from recon.stopping import MaxIterations, StoppingRule

ITERATIONS = 3000
"""Limit where neither solver nor generator has one: that of the paper's denoising."""
RATE = 0.01
"""Learning rate where neither solver nor generator has one."""
ADAM_FIRST, FIRST_RATE = 100, 1e-3
"""Steps of Adam before those of L-BFGS, and their learning rate."""
HOPELESS = 1e-3
"""Of the learning rate: what is not finite even there will not be."""
NEAR = 1.15
"""Of the expected noise: residuals above say that a fit is not yet near the image (benchmarks/dip_stopping.py)."""
CLOSE = 1e-2
"""Relative error at which the network is close enough to the first image."""


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
    1 % of it, with the generator's learning rate): that of a learned reconstruction, or a classical one. A smaller
    `lr` keeps close to it.

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

    def searching(self) -> WithoutGenerator:
        """What finds an automatic weight: the priors beside the generator alone, whose weight it then shares."""
        return WithoutGenerator()

    def check(self, problem: Problem) -> None:
        """Refuse priors without one generator, denoisers, and a weight to be found with a data term of no noise."""
        check_priors(problem)
        automatic = [type(term.prior).__name__ for term in problem.terms if term.automatic]
        if automatic and not problem.item_fidelity.noise_residual:
            raise ValueError(
                f"the weight of {' + '.join(automatic)} beside a generator cannot be found with fidelity "
                f"{problem.item_fidelity.name!r}, whose residual is not compared with the noise: give a weight"
            )

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
        curvature = no_curvature(theta) if self.optimiser == "lbfgs" else []
        state = DIPState(
            theta, empty, empty, none, first, none + 1, theta, none + math.inf, low, high, none + math.inf,
            image, image, image, none + math.inf, [none] if self.held_out else [], inputs, curvature,
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
        kept, kept_loss = where(due, state.theta, state.kept), torch.where(due, loss, state.kept_loss)
        if bool((~fine).any()):
            _tell_broken(iteration, ~fine)
        lr = self._setting(problem, "lr", RATE) if self.optimiser == "adam" else FIRST_RATE
        theta, mean, square, steps = self._adam(lr, state, gradient)
        curvature = state.curvature
        if self.optimiser == "lbfgs":
            curvature = with_latest(state.curvature, state.theta, gradient)
            if iteration >= ADAM_FIRST:
                theta = self._lbfgs(problem, state, curvature, loss, iteration)
        hopeless = ~fine & (state.rate < HOPELESS)
        if bool(hopeless.any()):  # given up: the runner says so
            image = where(hopeless, torch.full_like(image, math.nan), image)
        average = self.average if self.output == "average" else 0.0
        past = min(average, iteration / (iteration + 9))
        blend = torch.lerp(image, state.average, past)
        better = fine & (loss < state.lowest)
        return dataclasses.replace(
            state,
            theta=where(back, kept, theta),
            mean=where(back, torch.zeros_like(mean), mean),
            square=where(back, torch.zeros_like(square), square),
            steps=torch.where(back, 0, steps),
            iteration=state.iteration + 1,
            # without a smaller step the same step would be tried for ever; it grows again, twofold in 70 iterations
            rate=torch.where(back, state.rate / 2, (1.01 * state.rate).clamp_max(1)),
            kept=kept,
            kept_loss=kept_loss,
            loss=torch.where(fine, loss, state.loss),
            iterate=where(back & ~hopeless, state.iterate, image),
            average=where(back & ~hopeless, state.average, blend),
            best=where(better, image, state.best),
            lowest=torch.where(better, loss, state.lowest),
            errors=[torch.where(fine, new, old) for new, old in zip(errors, state.errors, strict=True)],
            curvature=[where(back, torch.zeros_like(now), now) for now in curvature],
        )

    def image(self, state: DIPState) -> Tensor:
        """The average of the iterates, the latest, or that of the lowest loss."""
        return {"average": state.average, "latest": state.iterate, "best": state.best}[self.output]

    def account(self, problem: Problem, state: DIPState) -> list[str]:
        """Optimiser, range of the images, averaging and breakdowns."""
        generator = problem.fitted_generator
        assert generator is not None
        advised = "advised by the generator" if "lr" in generator.advice else "the default"
        lr = self._setting(problem, "lr", RATE)
        optimiser = (
            f"Adam with learning rate {lr:.3g} ({'as given' if self.lr != 'auto' else advised})"
            if self.optimiser == "adam"
            else f"{ADAM_FIRST} steps of Adam with learning rate 0.001, then L-BFGS with a line search"
        )
        noise = self._setting(problem, "reg_noise", 0.0)
        low, high = float(state.low[0]), float(state.high[0])
        said = [
            f"{state.theta.shape[1]} weights are fitted by {optimiser}; noise on the input {noise:g}.",
            {
                "average": f"The image is the running average of the iterates, {self.average:g} of it the past.",
                "latest": "The image is the latest iterate.",
                "best": "The image is the iterate of the lowest loss.",
            }[self.output],
        ]
        if generator.value_range is not None:
            origin = (
                "as given" if problem.image_range is not None else "of the direct reconstruction, widened"
            )
            said.append(f"Its values span {low:.3g} to {high:.3g}, {origin}.")
        if bool((state.rate < 1).any()):
            said.append(
                "Near the end the fit broke down: weights were brought back and the learning rate was halved."
            )
        return said

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
        return _early(ITERATIONS if self.iterations == "auto" else self.iterations, None)

    def stop_for(self, problem: Problem) -> StoppingRule:
        """The same, with the limit that the generator advises, and near the noise only where its level is known."""
        limit = int(self._setting(problem, "iterations", ITERATIONS))
        try:
            _ = problem.noise_norm
        except ValueError:  # neither given nor to be estimated, or not what the data term's residual tends to
            return _early(limit, None)
        return _early(limit, NEAR)

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
        return _advised(problem, name, otherwise) if own == "auto" else float(own)

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

    def _adam(self, lr: float, state: DIPState, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights, moments and count after a step of Adam."""
        moments = (state.mean, state.square, state.steps)
        return adam_step(state.theta, moments, gradient, lr * state.rate, self.clip)

    def _lbfgs(
        self, problem: Problem, state: DIPState, curvature: list[Tensor], loss: Tensor, iteration: int
    ) -> Tensor:
        """Weights after a step of L-BFGS, under this iteration's input noise."""
        fit = self._fit(problem)
        inputs = fit.inputs(state.inputs, iteration)

        def loss_at(theta: Tensor) -> Tensor:
            return fit.objective(problem, fit.images(theta, state.low, state.high, inputs))[0]

        return lbfgs_step(state.theta, curvature, loss, loss_at)

    def _warmed(self, problem: Problem, state: DIPState) -> DIPState:
        """The state with weights that make the first image, as nearly as `warm_start` steps can."""
        target = problem.x0
        assert target is not None
        size = norm(target)
        told = size > 0  # a blank image says nothing, whatever its mates say
        if not bool(told.any()):
            return state
        size = torch.where(told, size, torch.ones_like(size))
        first, fit = state, self._fit(problem)
        inputs, lr = fit.inputs(state.inputs, None), _advised(problem, "lr", RATE)
        for _ in range(self.warm_start):
            with torch.enable_grad():
                theta = state.theta.detach().requires_grad_()
                image = fit.images(theta, state.low, state.high, inputs)
                error = norm(image - target) / size
                (gradient,) = torch.autograd.grad(error.square().sum(), theta)
            far = told & (error > CLOSE)  # an item that is close stays: its mates may need longer
            state = dataclasses.replace(state, iterate=image.detach())
            if not bool(far.any()):
                break
            theta, mean, square, steps = self._adam(lr, state, gradient)
            state = dataclasses.replace(
                state, theta=where(far, theta, state.theta), mean=mean, square=square, steps=steps
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
        own = {name: value for name, value in vars(self).items() if name != "recon_origin"}
        return f"DIP({', '.join(f'{name}={value!r}' for name, value in own.items())})"


def _advised(problem: Problem, name: str, otherwise: float) -> float:
    """The generator's setting of a solver."""
    generator = problem.fitted_generator
    return otherwise if generator is None else float(generator.advice.get(name, otherwise))


def _early(limit: int, tau: float | None) -> StoppingRule:
    patience = min(1000, max(100, limit // 5))
    # forgetting and tolerance were chosen on one draw of noise of 15 and of 50 / 255, measured on others
    return MovingVariance(patience, forgetting=0.05, tolerance=0.15, tau=tau) | MaxIterations(limit)


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
