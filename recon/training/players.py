"""The networks that an objective trains beside its own: made to fit the images, and drawn anew."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recon import registry
from recon.channels import is_conditioned, needs_operator
from recon.parameters import parse_spec
from recon.training.objective import Setting, seeded


def made_critic(critic: Any, setting: Setting, place: int = 0) -> nn.Module:
    """A critic from a module or a network's name, made for the images of a setting.

    Of a name, the arguments `in_channels` and `size` (the side of square images) are filled in where the network has
    them and the name gives none.

    Args:
        critic: a module, ``"patchgan"``, ``"patchgan:layers=2"`` or ``("patchgan", {"layers": 2})``.
        setting: what it is made for.
        place: which of several critics it is; each draws its own weights.

    Raises:
        ValueError: images that are not square, for a critic of one size.
        LookupError: no such network.
    """
    if isinstance(critic, nn.Module):
        return critic
    name, given = parse_spec(critic) if isinstance(critic, str) else critic
    arguments = dict(given)
    taken = {parameter.name for parameter in registry.find("network", name).parameters()}
    if "in_channels" in taken:
        arguments.setdefault("in_channels", setting.channels.channels)
    if "size" in taken and "size" not in arguments:
        sides = setting.shape[-setting.channels.dimensions :]
        if len(set(sides)) > 1:
            raise ValueError(
                f"the critic {name!r} judges square images of one size, those of the batches are {sides}: train on "
                "square patches (patch=64), or take a critic of any size such as 'patchgan'"
            )
        arguments["size"] = sides[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(setting.seed + 7919 * (place + 1))
        made: nn.Module = registry.make("network", (name, arguments))
    return made


def redraw(network: nn.Module, seed: int) -> None:
    """New start values of everything that has `reset_parameters`, parts before the whole."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in reversed(list(network.modules())):
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()


def redraw_until_alive(network: nn.Module, setting: Setting, tries: int = 50) -> int:
    """Draw start values anew until the network's image is not zero everywhere; returns how often.

    A network that ends in a ReLU may begin with no positive value and then never learns (WGAN-VGG).

    Raises:
        ValueError: it stays zero.
    """
    if needs_operator(network) or is_conditioned(network):
        return 0  # they begin from the data, or from a noise level
    probe = _probe(network, setting)
    for drawn in range(tries + 1):
        with torch.no_grad():
            if bool((setting.channels.apply(network, probe) != 0).any()):
                return drawn
        redraw(network, setting.seed + drawn + 1)
    raise ValueError(
        f"the image of {type(network).__name__} is zero everywhere after {tries} draws of its start values: does it "
        "end in a ReLU that nothing passes? Leave the last ReLU out, or add the input to the result"
    )


def _probe(network: nn.Module, setting: Setting) -> Tensor:
    """An image of uniform noise in [0, 1], the same for the same seed."""
    weight = next(network.parameters())
    draw = torch.rand((1, *setting.shape), generator=seeded(setting.seed, 0x5EED)).to(weight)
    return torch.complex(draw, draw) if setting.complex_images else draw
