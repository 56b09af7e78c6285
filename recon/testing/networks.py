"""Checks of network architectures: any image size, every weight learnt, weights that survive a file.

In a test::

    from recon.testing import check_network

    def test_my_network_conforms():
        check_network(UNet(width=4), channels=1)
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from recon.channels import is_conditioned, needs_operator
from recon.testing.dense import Differences
from recon.testing.devices import Call, require_device_kept
from recon.testing.measuring import CLOSE, Check, Checks, bound, random, require, require_close, twins
from recon.testing.running import require_all

SHAPES = {
    1: ((32,), (33,)),
    2: ((32, 32), (33, 32), (32, 35), (31, 33)),
    3: ((16, 16, 16), (17, 16, 19)),
}
"""Even and odd sides, by the number of spatial axes."""


def check_network(
    network: nn.Module,
    *,
    channels: int | None = None,
    shape: Sequence[int] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[str]:
    """Run every check on a network and return their names.

    Args:
        network: a small instance. ``conditioned = True`` says that it is called with a noise level,
            ``needs_operator = True`` that it takes an operator and its data (the images are ``(B, *shape)`` then), and
            ``critic = True`` that it judges images rather than making them, ``latent = True`` that its input is no
            image, so that the result may have another size. One that takes images of one size only says so by the
            attribute `size`, one of volumes by ``dimensions = 3``.
        channels: channels of the images that it takes; by default its attribute `in_channels`, else those of its
            first convolution.
        shape: the only image shape to try it on; by default several, with even and odd sides.
        expected_failures: name of a check to the reason why it is known to fail. Such a check must fail.

    Raises:
        AssertionError: naming every check that failed, or that passed although it was expected to fail.
        ValueError: an expected failure names no check.
    """
    checks = network_checks(network, channels=channels, shape=shape)
    return require_all(type(network).__name__, checks, expected_failures)


def network_checks(
    network: nn.Module, *, channels: int | None = None, shape: Sequence[int] | None = None
) -> Checks:
    """The checks of a network by name; `channels` and `shape` as in `check_network`."""
    return bound(CHECKS, Trial(network, channels, shape))


class Trial:
    """A network with the images that it takes."""

    def __init__(self, network: nn.Module, channels: int | None, shape: Sequence[int] | None) -> None:
        self.network = _awake(network)
        self.channels = _in_channels(network) if channels is None else channels
        self.latent = bool(getattr(network, "latent", False))
        self.unrolled = needs_operator(network)
        self.critic = bool(getattr(network, "critic", False))
        size, dimensions = getattr(network, "size", None), _dimensions(network)
        if shape is not None:
            self.shapes: tuple[tuple[int, ...], ...] = (tuple(shape),)
        elif isinstance(size, int):
            self.shapes = ((size,) * dimensions,)
        else:
            self.shapes = SHAPES[dimensions]

    def draw(
        self, items: int, dtype: torch.dtype = torch.float32, shape: Sequence[int] | None = None
    ) -> Tensor:
        """Random images of unit variance."""
        channels = () if self.unrolled else (self.channels,)
        return random((items, *channels, *(self.shapes[-1] if shape is None else shape)), dtype)

    def call(self, x: Tensor, network: nn.Module | None = None) -> Tensor:
        """The network's result: of the differences of an unrolled one's image, at a noise level of a tenth."""
        network = self.network if network is None else network
        result: Tensor
        if self.unrolled:
            operator = Differences(x.shape[1:], periodic=True).to(x.device)
            result = network(operator, operator(x))
        elif is_conditioned(network):
            result = network(x, torch.full((len(x),), 0.1, dtype=x.dtype, device=x.device))
        else:
            result = network(x)
        return result

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The network in evaluation mode; every part goes back to the mode that it had."""
        modes = {module: module.training for module in self.network.modules()}
        self.network.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training


_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def _in_channels(network: nn.Module) -> int:
    """Channels of the images that a network takes: what it says, else what its first convolution takes."""
    said = (getattr(module, "in_channels", None) for module in network.modules())
    return next((number for number in said if isinstance(number, int)), 1)


def _dimensions(network: nn.Module) -> int:
    """Spatial axes of the images that a network takes: what it says, else what its first convolution takes."""
    if isinstance(said := getattr(network, "dimensions", None), int):
        return said
    kinds = (
        axes
        for module in network.modules()
        for axes, kind in _CONVOLUTIONS.items()
        if isinstance(module, kind)
    )
    return next(kinds, 2)


def _awake(network: nn.Module) -> nn.Module:
    """A copy without weights that are zero throughout: a network that begins as the identity would pass anything."""
    copied = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    for weight in copied.parameters():
        if weight.numel() and not bool(weight.detach().any()):
            weight.data.copy_(0.1 * torch.randn(weight.shape, generator=generator))
    return copied


def check_shapes(trial: Trial) -> None:
    """Images of even and odd sizes come back in their own size; a critic gives one result an image."""
    out = () if trial.unrolled else (int(getattr(trial.network, "out_channels", trial.channels)),)
    with trial.evaluating():
        for shape in trial.shapes:
            x = trial.draw(2, shape=shape)
            try:
                result = trial.call(x)
            except RuntimeError as error:
                raise AssertionError(
                    f"the network fails for images of shape {tuple(x.shape)}: {error}. Pad to what it needs, then "
                    "crop; the attribute in_channels says how many channels it takes"
                ) from error
            if trial.critic:
                require(
                    result.ndim >= 2 and len(result) == 2 and result.numel() >= 2,
                    f"the critic gives {tuple(result.shape)} for two images, expected (2, ...)",
                )
            elif trial.latent:
                require(
                    result.ndim == x.ndim and result.shape[:2] == (2, *out),
                    f"{tuple(x.shape)} gives {tuple(result.shape)}, expected {(2, *out)} and the spatial axes",
                )
            else:
                require(
                    result.shape == (2, *out, *shape),
                    f"images {tuple(x.shape)} give {tuple(result.shape)}, expected {(2, *out, *shape)}: "
                    "(B, channels, *shape) to (B, out_channels, *shape)",
                )
            bad = int((~torch.isfinite(result)).sum())
            require(bad == 0, f"{bad} of {result.numel()} values are NaN or infinite")


@torch.enable_grad()
def check_gradients(trial: Trial) -> None:
    """In training mode the gradient reaches every weight that is learnt, and the image; all are finite."""
    network = copy.deepcopy(trial.network).train()
    learnt = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    require(bool(learnt), "no parameter requires a gradient: there is nothing to train")
    x = trial.draw(2).requires_grad_()
    result = trial.call(x, network)
    require(result.requires_grad, "the result is cut from the graph: a .detach(), .data or no_grad inside?")
    # random signs: the sum of a normalised image does not depend on it
    energy = (result * random(result.shape, result.dtype, seed=1)).sum()
    gradients = torch.autograd.grad(energy, [*learnt.values(), x], allow_unused=True)
    for name, gradient in zip([*learnt, "the image"], gradients, strict=True):
        require(gradient is not None, f"the result does not depend on {name}: freeze or remove it")
        assert gradient is not None
        require(bool(torch.isfinite(gradient).all()), f"the gradient with respect to {name} is not finite")


def check_batch_equals_loop(trial: Trial) -> None:
    """In evaluation mode an image's result does not depend on its mates."""
    x = trial.draw(3) * torch.tensor([0.3, 1.0, 3.0]).reshape(3, *(1,) * (trial.draw(1).ndim - 1))
    with trial.evaluating():
        batch = trial.call(x)
        for place in range(3):
            alone = trial.call(x[place : place + 1])[0]
            require_close(
                batch[place],
                alone,
                "a batch differs from a loop over its items: is a normalisation taken over the batch?",
                10 * CLOSE,
            )


def check_empty_batch(trial: Trial) -> None:
    """A batch of no images gives no images."""
    x = trial.draw(0)
    with trial.evaluating():
        try:
            result = trial.call(x)
        except (RuntimeError, ValueError) as error:
            raise AssertionError(f"the network fails for a batch of no images: {error}") from error
    require(len(result) == 0, f"a batch of no images gives {tuple(result.shape)}")


def check_dtypes(trial: Trial) -> None:
    """Single precision gives single precision; after `.double()`, double precision gives the same image."""
    x = trial.draw(2)
    with trial.evaluating():
        single = trial.call(x)
        require(single.dtype == torch.float32, f"float32 images give {single.dtype}: make tensors like x")
        double = trial.call(x.double(), copy.deepcopy(trial.network).double())
    require(double.dtype == torch.float64, f"float64 images give {double.dtype}: make tensors like x")
    require_close(single.double(), double, "single precision differs from double", 100 * CLOSE)


def check_device(trial: Trial) -> None:
    """The result lies on the device of the image; see `recon.testing.devices`."""

    def calls(moved: nn.Module, device: torch.device) -> list[Call]:
        x = trial.draw(2).to(device)
        return [("the network", lambda: trial.call(x, moved))]

    with trial.evaluating():
        require_device_kept(trial.network, calls)


def check_input_unchanged(trial: Trial) -> None:
    """The network does not write into the image."""
    x = trial.draw(2)
    before = x.clone()
    with trial.evaluating():
        trial.call(x)
    require(torch.equal(x, before), "the network changes its input: an in-place operation on x?")


def check_deterministic(trial: Trial) -> None:
    """In evaluation mode the same image gives the same result (no dropout left on, no unseeded noise)."""
    x = trial.draw(2)
    with trial.evaluating():
        fine = torch.equal(trial.call(x), trial.call(x))
    require(fine, "two calls give two results in evaluation mode: is dropout left on?")


def check_evaluation_keeps_state(trial: Trial) -> None:
    """A call in evaluation mode leaves weights and statistics as they were."""
    with trial.evaluating():
        before = {name: value.clone() for name, value in trial.network.state_dict().items()}
        trial.call(trial.draw(2))
        changed = [
            name for name, value in trial.network.state_dict().items() if not torch.equal(value, before[name])
        ]
    require(not changed, f"a call in evaluation mode changes {', '.join(changed)}")


def check_pickle_and_state_dict(trial: Trial) -> None:
    """A pickled copy, a deep copy, and a copy with the state loaded give the same result."""
    x = trial.draw(1)
    with trial.evaluating():
        wanted = trial.call(x)
        for what, same in twins(trial.network, lambda twin: trial.call(x, twin)).items():
            require(torch.equal(trial.call(x, same), wanted), f"{what} gives another result than the network")


def check_safetensors(trial: Trial) -> None:
    """Weights written to safetensors and read into a copy with other weights give the same result."""
    from safetensors.torch import load_model, save_model

    other = copy.deepcopy(trial.network)
    for name, value in other.state_dict().items():
        require(
            isinstance(value, Tensor),
            f"the state {name} is a {type(value).__name__}, expected tensors only: nothing else can be stored",
        )
        if value.is_floating_point():
            value.mul_(0.5)
    x = trial.draw(1)
    with tempfile.TemporaryDirectory() as folder, trial.evaluating():
        path = Path(folder) / "weights.safetensors"
        save_model(trial.network, str(path))
        load_model(other, str(path))
        other.eval()
        require(
            torch.equal(trial.call(x, other), trial.call(x)),
            "weights read from a file give another result than those that were written",
        )


CHECKS: tuple[Check, ...] = (
    check_shapes,
    check_gradients,
    check_batch_equals_loop,
    check_empty_batch,
    check_dtypes,
    check_device,
    check_input_unchanged,
    check_deterministic,
    check_evaluation_keeps_state,
    check_pickle_and_state_dict,
    check_safetensors,
)
