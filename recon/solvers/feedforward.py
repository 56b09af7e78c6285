"""One application of a learned prior: the network's image of the direct reconstruction."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from recon.channels import is_conditioned, needs_operator
from recon.learned import LearnedPrior, consistent_with
from recon.linear import Identity
from recon.parameters import Param
from recon.priors import Denoiser, Functional, Prior
from recon.problem import Problem
from recon.range_checks import check_trained_range
from recon.solvers.algorithm import refuse_generator, refuse_unseen_data_term
from recon.solvers.direct import DirectState, Done
from recon.stopping import StoppingRule
from recon.terms import Term


class Feedforward:
    """x = N(A^+ y): a network trained end to end, or a denoiser, applied once; N(A, y) if it is unrolled.

    A network that was trained by Noise2Inverse sees the splits of its training, and its images are averaged.

    The image is mapped to the range that the network was trained on and back; the direct reconstruction A^+ y is made
    with the options of ``op.pinv`` that it was trained with. Constraints beside the network project its image.

    Args:
        sigma: noise level of the direct reconstruction, in the unit of the image, for a denoiser that asks for it;
            ``"auto"`` estimates it from the direct reconstruction.
        consistent: correct the network's image by what the data say, x + A^+ (y - A x): in MRI, the measured lines of
            k-space take their places again (Hyun et al. 2018, Phys. Med. Biol. 63, 135007).
    """

    unused = {  # noqa: RUF012
        "weight": "applies a network once, whose image no weight changes (the noise level that a denoiser is told is "
        "'feedforward:sigma=...')",
        "stop": "takes one step",
        "x0": "starts from the direct reconstruction or the data, as the network was trained",
    }

    def __init__(
        self,
        sigma: Annotated[
            float | str,
            Param("noise level of the direct reconstruction, or 'auto'", unit="unit of the image"),
        ] = "auto",
        consistent: Annotated[bool, Param("correct the network's image by what the data say")] = False,
    ) -> None:
        try:
            value = math.nan if sigma == "auto" else float(sigma)
        except ValueError:
            value = -1.0
        if sigma != "auto" and not 0 <= value < math.inf:
            raise ValueError(f"sigma must be a number >= 0 or 'auto', got {sigma!r}")
        self.sigma: float | str = "auto" if sigma == "auto" else value
        self.consistent = consistent

    def start(self, problem: Problem) -> DirectState:
        """The image: everything is done here.

        Raises:
            ValueError: no denoiser or network, or more than one; another range or operator than it was trained with; a
                data term that does not compare the data.
        """
        refuse_generator(problem, "feedforward")
        refuse_unseen_data_term(problem, "feedforward")
        networks = [term for term in problem.terms if isinstance(term.prior, Denoiser)]
        others = [
            term
            for term in problem.terms
            if isinstance(term.prior, Functional) and not (term.constraint and isinstance(term.K, Identity))
        ]
        if len(networks) != 1 or others:
            named = ", ".join(type(term.prior).__name__ for term in problem.terms) or "none"
            raise ValueError(
                "solver='feedforward' applies one network or denoiser (beside constraints on the image), got the "
                f"priors {named}: choose solver='admm' for sums of functionals"
            )
        image = self._applied(problem, networks[0])
        if self.consistent:
            image = consistent_with(problem.operator, problem.usable_data, image)
        return DirectState(problem.project(image))

    def _applied(self, problem: Problem, term: Term) -> Tensor:
        prior, scaling = term.prior, term.scaling
        assert isinstance(prior, Denoiser)
        if isinstance(prior, LearnedPrior) and prior.end_to_end:
            prior.check_operator(problem.operator)
            check_trained_range(prior, problem.image_range)
            if prior.sees_data:
                data = scaling.factor * problem.usable_data
                if scaling.offset:
                    ones = torch.full(problem.operator.domain_shape, scaling.offset, device=data.device)
                    data = data + problem.operator(ones.to(problem.start.dtype))
                learned = prior.reconstruct(problem.operator, data)
                return _as(problem.start, (learned - scaling.offset) / scaling.factor)
        options = prior.pinv_options if isinstance(prior, LearnedPrior) else {}
        direct = problem.operator.pinv(problem.usable_data, **options)
        mapped = scaling.factor * direct + scaling.offset
        learned = prior.denoise(mapped, scaling.factor * self._levels(problem, direct, prior))
        return _as(direct, (learned - scaling.offset) / scaling.factor)

    def _levels(self, problem: Problem, direct: Tensor, prior: Denoiser) -> Tensor:
        """Noise level of each direct reconstruction, ``(B,)``."""
        if self.sigma != "auto":
            return torch.full_like(problem.strength, float(self.sigma))
        if isinstance(prior, LearnedPrior) and not is_conditioned(prior.network):
            return torch.zeros_like(problem.strength)  # nothing depends on it
        try:
            return Identity(problem.operator.domain_shape).noise_level(direct).to(problem.strength)
        except ValueError as error:
            raise ValueError(
                f"the prior {type(prior).__name__} asks for the noise level of the direct reconstruction, which "
                f"cannot be estimated ({error}): say it, solver='feedforward:sigma=0.01'"
            ) from None

    def step(self, problem: Problem, state: DirectState) -> DirectState:
        """Nothing is left to do."""
        return state

    def image(self, state: DirectState) -> Tensor:
        """The image."""
        return state.x

    def account(self, problem: Problem, state: DirectState) -> list[str]:
        """What was applied to what, and on which values."""
        term = next(term for term in problem.terms if isinstance(term.prior, Denoiser))
        prior, scaling = term.prior, term.scaling
        name = type(prior.network if isinstance(prior, LearnedPrior) else prior).__name__
        said = [f"{name}, applied once to {_seen(prior)}."]
        if scaling.factor != 1 or scaling.offset:
            said.append(f"It saw {scaling.factor:.4g} x + {scaling.offset:.4g}, its own range of values.")
        if self.consistent:
            said.append("Its image was corrected by what the data say.")
        return said

    def default_stop(self) -> StoppingRule:
        """At once."""
        return Done("network applied once")

    def __repr__(self) -> str:
        return f"Feedforward(sigma={self.sigma!r}, consistent={self.consistent})"


def _seen(prior: Prior) -> str:
    """What a network was applied to, in words."""
    if isinstance(prior, LearnedPrior) and prior.end_to_end and prior.view_splits is not None:
        views = prior.view_splits
        return f"{views.count} sections of the split views ({views.strategy}), whose images were averaged"
    unrolled = isinstance(prior, LearnedPrior) and needs_operator(prior.network)
    corrected = isinstance(prior, LearnedPrior) and prior.is_corrected
    seen = "operator and data" if unrolled else "the direct reconstruction"
    return seen + (", and corrected by what the data say" if corrected else "")


def _as(like: Tensor, image: Tensor) -> Tensor:
    """The image as real or complex as another."""
    if image.is_complex() and not like.is_complex():
        return image.real.to(like.dtype)
    return image.to(like.dtype)
