"""Checks of generators: an image of the right shape, differentiable with respect to every weight."""

from __future__ import annotations

import torch
from torch import Tensor

from recon.priors import Generator
from recon.testing.measuring import Check, Checks, bound, require, twins


def generator_checks(prior: Generator) -> Checks:
    """The checks of a generator by name."""
    return bound(CHECKS, prior)


def check_image(prior: Generator) -> None:
    """The image is ``(B, channels, *shape)`` or ``(B, *shape)`` with the batch of the fixed input; finite."""
    image = prior()
    require(isinstance(image, Tensor), f"the network gives a {type(image).__name__}, not a tensor")
    items = prior.fixed_input.shape[0]
    fine = image.ndim >= 2 and image.shape[0] == items
    require(fine, f"the image has shape {tuple(image.shape)}, expected ({items}, ...) as the fixed input")
    bad = int((~torch.isfinite(image)).sum())
    require(bad == 0, f"the image holds {bad} NaN or infinite of {image.numel()} values")


@torch.enable_grad()
def check_differentiable(prior: Generator) -> None:
    """The gradient of the image's energy reaches every weight that is learnt, and is finite."""
    learnt = {name: weight for name, weight in prior.named_parameters() if weight.requires_grad}
    require(bool(learnt), "no parameter requires a gradient: there is nothing to fit to the data")
    energy = prior().abs().square().sum()
    require(energy.requires_grad, "the image is cut from the graph: a .detach(), .data or no_grad inside?")
    gradients = torch.autograd.grad(energy, list(learnt.values()), allow_unused=True)
    for name, gradient in zip(learnt, gradients, strict=True):
        require(
            gradient is not None, f"the image does not depend on the parameter {name}: freeze or remove it"
        )
        assert gradient is not None
        require(bool(torch.isfinite(gradient).all()), f"the gradient with respect to {name} is not finite")


def check_deterministic(prior: Generator) -> None:
    """The same weights give the same image."""
    require(
        torch.equal(prior(), prior()), "two calls give two images: is there dropout, or noise without a seed?"
    )


def check_input_unchanged(prior: Generator) -> None:
    """The fixed input stays."""
    before = prior.fixed_input.clone()
    prior()
    require(
        torch.equal(prior.fixed_input, before),
        "the fixed input changes: an in-place operation in the network?",
    )


def check_pickle_and_state_dict(prior: Generator) -> None:
    """A pickled copy, a deep copy, and a copy with the state loaded give the same image."""
    wanted = prior()
    for what, same in twins(prior, lambda twin: twin()).items():
        require(torch.equal(same(), wanted), f"{what} gives another image than the generator")


CHECKS: tuple[Check, ...] = (
    check_image,
    check_differentiable,
    check_deterministic,
    check_input_unchanged,
    check_pickle_and_state_dict,
)
