"""Checks of training objectives: a step moves every player, tells finite numbers, and can be taken up again.

In a test::

    from recon.testing import check_objective

    def test_my_objective_conforms():
        check_objective(MyObjective)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recon.channels import channels_of
from recon.linear import LinearOperator
from recon.subsets import Subset
from recon.testing.measuring import Check, Checks, bound, random, require
from recon.testing.running import require_all
from recon.training.objective import Batch, Objective, Setting

SIDE = 32
"""Side of the images [pixels]."""


class Plain:
    """A `recon.training.objective.Fit` that makes a step of Adam at each loss, and counts them.

    Attributes:
        moves: steps of each player so far.
    """

    def __init__(self, objective: Objective, lr: float = 1e-3) -> None:
        self.epoch, self.epochs, self.steps = 0, 10, 0
        self.moves = dict.fromkeys(objective.players(), 0)
        self.parameters = objective.players()
        self.optimisers = {name: torch.optim.Adam(each, lr) for name, each in self.parameters.items()}

    def minimise(self, player: str, loss: Tensor) -> None:
        """One step of a player; only its own parameters get a gradient."""
        gradients = torch.autograd.grad(loss, self.parameters[player], allow_unused=True)
        for parameter, gradient in zip(self.parameters[player], gradients, strict=True):
            parameter.grad = gradient
        self.optimisers[player].step()
        self.moves[player] += 1
        self.steps += player == "network"


def check_objective(
    objective: Objective,
    *,
    network: nn.Module | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[str]:
    """Run every check on an objective and return their names; it is used on copies.

    Args:
        objective: as its constructor makes it.
        network: what it trains; by default one of two convolutions.
        expected_failures: name of a check to the reason why it is known to fail. Such a check must fail.

    Raises:
        AssertionError: naming every check that failed, or that passed although it was expected to fail.
        ValueError: an expected failure names no check.
    """
    return require_all(
        type(objective).__name__, objective_checks(objective, network=network), expected_failures
    )


def objective_checks(objective: Objective, *, network: nn.Module | None = None) -> Checks:
    """The checks of an objective by name; `network` as in `check_objective`."""
    return bound(CHECKS, Trial(objective, network))


class Exposures(LinearOperator):
    """The same image `count` times, each moved along the rows by one pixel more, around the border.

    ``(H, W)`` to ``(count, H, W)``; it has what objectives ask of operators: views to split, and a mask of its samples.
    """

    def __init__(self, shape: Sequence[int], count: int = 4, first: int = 0, step: int = 1) -> None:
        super().__init__(shape, (count, *shape))
        self.shifts = range(first, first + count * step, step)

    def _forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.roll(shift, -1) for shift in self.shifts], -3)

    def _adjoint(self, y: Tensor) -> Tensor:
        views = y.unbind(-3)
        return torch.stack(
            [view.roll(-shift, -1) for view, shift in zip(views, self.shifts, strict=True)]
        ).sum(0)

    def _pinv(self, y: Tensor, **options: Any) -> Tensor:
        return self._adjoint(y) / len(self.shifts)

    def fourier_symbol(self) -> Tensor:
        """The number of exposures, at every frequency."""
        return torch.full(self.domain_shape, float(len(self.shifts)))

    def subsets(self, count: int) -> list[Subset]:
        """Every `count`-th exposure."""
        found = []
        for first in range(count):
            views = self.shifts[first::count]
            part = Exposures(self.domain_shape, len(views), views.start, views.step)
            found.append(Subset(part, (slice(first, None, count), slice(None), slice(None))))
        return found

    @property
    def sample_mask(self) -> Tensor:
        """Ones: every pixel is measured."""
        return torch.ones(self.domain_shape)


class Trial:
    """An objective with a small network and a batch of what it needs."""

    def __init__(self, objective: Objective, network: nn.Module | None) -> None:
        self.objective, self.network = objective, network

    def prepared(self) -> Objective:
        """A copy that has taken its network, the same each time."""
        objective = copy.deepcopy(self.objective)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = _small() if self.network is None else copy.deepcopy(self.network)
            objective.prepare(Setting(network, channels_of(network), (SIDE, SIDE), op=self.operator, seed=0))
        return objective

    @property
    def operator(self) -> LinearOperator | None:
        """Exposures of a shaken camera, for an objective that needs data."""
        return Exposures((SIDE, SIDE)) if "data" in self.objective.needs else None

    def batch(self, seed: int = 0) -> Batch:
        """Three smooth images in [0, 1], and the same with noise."""
        coarse = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
        target = nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear")[:, 0]
        noisy = target + 0.1 * random(target.shape, target.dtype, seed)
        op = self.operator
        data = None if op is None else op(noisy)
        return Batch(noisy, target, data, op, torch.arange(3), seed=seed)


@torch.enable_grad()
def check_step(trial: Trial) -> None:
    """A few steps move every player's weights and no others; what they log is finite numbers."""
    objective = trial.prepared()
    fit = Plain(objective)
    require("network" in fit.moves, f"the players are {', '.join(fit.moves)}, expected 'network' among them")
    before = {name: [weight.clone() for weight in each] for name, each in fit.parameters.items()}
    numbers = objective.step(trial.batch(), fit)
    for _ in range(5):  # one that moves only now and then
        numbers |= objective.step(trial.batch(), fit)
    require(bool(numbers), "a step logs nothing, expected its losses")
    for name, value in numbers.items():
        fine = value.numel() == 1 and bool(torch.isfinite(value)) and not value.requires_grad
        require(fine, f"a step logs {name}={value}, expected one finite number, detached")
    for name, each in fit.parameters.items():
        moved = any(not torch.equal(new, old) for new, old in zip(each, before[name], strict=True))
        require(moved, f"six steps do not move the player {name}: is fit.minimise({name!r}, ...) called?")


@torch.enable_grad()
def check_same_again(trial: Trial) -> None:
    """The same seed gives the same weights, bit for bit."""
    first, second = _trained(trial), _trained(trial)
    for name, value in first.setting.network.state_dict().items():
        same = torch.equal(value, second.setting.network.state_dict()[name])
        require(
            same, f"two runs with one seed differ in {name}: draw from batch.generators, not from torch's own"
        )


@torch.enable_grad()
def check_resume(trial: Trial) -> None:
    """A copy that takes up the weights and `state_dict` goes on as the objective itself does."""
    objective = _trained(trial)
    other = trial.prepared()
    for name, module in objective.modules().items():
        other.modules()[name].load_state_dict(module.state_dict())
    other.load_state_dict(copy.deepcopy(objective.state_dict()))
    numbers = [each.step(trial.batch(1), Plain(each)) for each in (objective, other)]
    for name, value in numbers[0].items():
        require(
            torch.equal(value, numbers[1][name]),
            f"after a resume {name} is {float(numbers[1][name]):.6g}, without it {float(value):.6g}: "
            "what else changes from step to step belongs into state_dict",
        )


def check_reconstruct(trial: Trial) -> None:
    """The image of a batch has the shape of its target."""
    batch = trial.batch()
    image = trial.prepared().reconstruct(batch)
    assert batch.target is not None
    require(
        image.shape == batch.target.shape,
        f"reconstruct gives {tuple(image.shape)}, expected {tuple(batch.target.shape)}",
    )


def check_description(trial: Trial) -> None:
    """What the model card says is plain values (JSON holds them)."""
    import json

    try:
        json.dumps(trial.prepared().describe())
    except (TypeError, ValueError) as error:
        raise AssertionError(f"describe holds what JSON cannot: {error}") from error


def _trained(trial: Trial) -> Objective:
    objective = trial.prepared()
    fit = Plain(objective)
    for _ in range(2):
        objective.step(trial.batch(), fit)
    return objective


def _small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 3, padding=1))


CHECKS: tuple[Check, ...] = (
    check_step,
    check_same_again,
    check_resume,
    check_reconstruct,
    check_description,
)
