"""Training of a network that is split from the inversion: weights and inputs of the network in turn."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from recon.channels import is_conditioned, needs_operator
from recon.parameters import Param
from recon.priors import Prior
from recon.problem import Problem
from recon.solvers.algorithm import map_tensors, select
from recon.solvers.splitting import Splitting, SplittingState
from recon.training.objective import Batch, Fit, Objective, Setting

InputStep = Literal["truth", "inference"]


@dataclasses.dataclass
class Place:
    """Where one training sample stands: its outer loop and its variables ``(1, *shape)``, on the CPU."""

    loop: int
    state: SplittingState


class SplitTraining(Objective):
    """Train a network f inside the splitting iterations (Liu, Kuang and Zhang 2018, equations 10 and 12).

    The epochs are divided into outer loops. Of every training sample, with true image t and data y:

        z     = argmin_z J(z) + rho/2 |x - z + b|^2,   J(z) = eta |A z - y|^2 + sum_i g_i(K_i z)
        theta = argmin |f(x; theta) - t|^2, the epochs of the loop
        x     = argmin_x |f(x; theta) - t|^2 + rho/2 |x - z + b|^2, by gradient steps on the input
        b     = b + x - z

    from the x that minimises J and b = 0. The x-step sees the true image, which it cannot at inference: the
    inputs drift to what is easy for the network. With ``input_step="inference"`` it is that of inference,
    x = (f(x) + rho (z - b)) / (1 + rho), and training and inference agree.

    With a critic (`adversarial` > 0) the network's loss is content |f(x) - t|^2 - adversarial log D(f(x)), and
    D learns to tell f(x) from t. A network with a method ``at(loop)`` gets own weights in each outer loop.
    Losses are means over pixels but for the x-step, whose terms are sums, as written.

    Args:
        rho: penalty of the split.
        eta: weight of the data, A divided by its norm.
        loops: outer loops.
        prior: functionals g_i in J, a name or an object; None for none.
        decay: factor of their weights from one outer loop to the next.
        input_step: how x moves: ``"truth"`` as published, or ``"inference"``.
        input_steps: gradient steps of an x-step.
        input_rate: their length, as a part of the range of the images (Adam).
        content: weight of the squared distance from the true image.
        adversarial: weight of the critic; 0 for none.
        critic: the critic, a network by name or an object.
    """

    needs: ClassVar[tuple[str, ...]] = ("input", "target", "data")
    remembers: ClassVar[bool] = True
    depends_on_epochs: ClassVar[bool] = True

    def __init__(
        self,
        rho: Annotated[float, Param("penalty of the split", gt=0)] = 0.5,
        eta: Annotated[float, Param("weight of the data, A divided by its norm", gt=0)] = 5.0,
        loops: Annotated[int, Param("outer loops", ge=1)] = 5,
        prior: Annotated[
            str | tuple[str, dict[str, Any]] | Prior | None,
            Param("functionals in the data step, such as tv:weight=1e-3"),
        ] = None,
        decay: Annotated[float, Param("factor of their weights a loop", gt=0, le=1)] = 1.0,
        input_step: Annotated[
            InputStep, Param("how the input moves: truth (as published) or inference")
        ] = "truth",
        input_steps: Annotated[int, Param("gradient steps of an input step", ge=1)] = 10,
        input_rate: Annotated[float, Param("length of those steps", unit="of the range", gt=0)] = 0.01,
        content: Annotated[float, Param("weight of the distance from the true image", ge=0)] = 1.0,
        adversarial: Annotated[float, Param("weight of the critic; 0: none", ge=0)] = 0.0,
        critic: Annotated[
            str | tuple[str, dict[str, Any]] | nn.Module, Param("the critic: a network by name")
        ] = "splitting_discriminator",
    ) -> None:
        self.solver = Splitting(rho, eta, decay=decay, loops=loops)
        if input_step not in ("truth", "inference"):
            raise ValueError(f"input_step must be 'truth' or 'inference', got {input_step!r}")
        if not (content > 0 or adversarial > 0):
            raise ValueError("content and adversarial are both 0: there is nothing to train on")
        self.loops, self.prior_name = loops, prior
        self.prior: Prior | None = None
        self.input_step, self.input_steps, self.input_rate = input_step, input_steps, input_rate
        self.content, self.adversarial, self.critic_name = content, adversarial, critic
        self.critic: nn.Module | None = None
        self.places: dict[int, Place] = {}
        self.epoch_loop = 0

    def check(self, *, epochs: int, processes: int) -> None:
        """Every sample must be seen in every outer loop."""
        if epochs < self.loops:
            raise ValueError(
                f"objective='splitting' has {self.loops} outer loops of at least one epoch each: say epochs="
                f"{self.loops} or more, or loops={epochs} or fewer"
            )

    def prepare(self, setting: Setting) -> None:
        """Take the network; make the critic and the functionals by their names.

        Raises:
            ValueError: there is no operator: nothing to invert; or a network that takes more than an image.
        """
        from recon import registry

        super().prepare(setting)
        if setting.op is None:
            raise ValueError("objective='splitting' inverts an operator: give op=...")
        if needs_operator(setting.network) or is_conditioned(setting.network):
            raise ValueError(
                "objective='splitting' trains a network from images to images, but "
                f"{type(setting.network).__name__} takes the operator or the noise level too: train it with "
                "objective='supervised' or 'denoising'"
            )
        named = self.prior_name
        self.prior = registry.make("prior", named) if isinstance(named, str | tuple) else named
        if self.adversarial > 0:
            made = self.critic_name
            self.critic = registry.make("network", made) if isinstance(made, str | tuple) else made
        self.before = copy.deepcopy(setting.network).requires_grad_(False)

    def modules(self) -> dict[str, nn.Module]:
        """The network, the critic, and the network as it was at the end of the last outer loop."""
        found = {"network": self.setting.network, "before": self.before}
        return found if self.critic is None else {**found, "critic": self.critic}

    def step(self, batch: Batch, fit: Fit) -> dict[str, Tensor]:
        """Bring the batch's samples to the present outer loop, then one step of the network on their x."""
        self._begin(min(fit.epoch * self.loops // max(fit.epochs, 1), self.loops - 1))
        states = self._states(batch)
        assert batch.target is not None
        x, target = states.x, batch.target
        image = self._network(x, self.epoch_loop)
        losses = {}
        if self.critic is not None:
            real, fake = self._judged(target), self._judged(image.detach())
            losses["critic"] = _entropy(real, True) + _entropy(fake, False)
            fit.minimise("critic", losses["critic"])
        losses["mse"] = (image - target).abs().square().mean()
        loss = self.content * losses["mse"]
        if self.critic is not None:
            losses["adversarial"] = _entropy(self._judged(image), True)
            loss = loss + self.adversarial * losses["adversarial"]
        fit.minimise("network", loss)
        return {**{name: value.detach() for name, value in losses.items()}, "loss": loss.detach()}

    def reconstruct(self, batch: Batch) -> Tensor:
        """Inference by equation 13 with the present network, in as many outer loops as were trained."""
        problem = self._problem(batch)
        with torch.no_grad():
            state = self.solver.first(problem, self._network)
            for _ in range(self.epoch_loop + 1):
                state = self.solver.loop(problem, state, self._network)
        return state.network

    def _network(self, x: Tensor, loop: int) -> Tensor:
        return self.setting.apply(_at(self.setting.network, min(loop, self.epoch_loop)), x)

    def _judged(self, image: Tensor) -> Tensor:
        assert self.critic is not None
        with self.setting.autocast():
            verdict: Tensor = self.critic(self.setting.to_channels(image))
        return verdict.float()

    def _problem(self, batch: Batch) -> Problem:
        if batch.op is None or batch.data is None:
            raise ValueError(
                "objective='splitting' needs operator and data: train on whole images (patch=None)"
            )
        return Problem(batch.op, batch.data, prior=self.prior)

    def _begin(self, loop: int) -> None:
        """At the first batch of an outer loop, keep the network of the last one: inputs move by it."""
        if loop == self.epoch_loop:
            return
        self.before.load_state_dict(self.setting.network.state_dict())
        self.epoch_loop = loop
        follow = getattr(self.setting.network, "follow", None)
        if follow is not None:
            follow(loop)

    def _states(self, batch: Batch) -> SplittingState:
        """The samples' variables in the present loop, side by side."""
        problem = self._problem(batch)
        found = []
        for item, index in enumerate(batch.index.tolist()):
            one = problem.select(torch.tensor([item]))
            target = None if batch.target is None else batch.target[item : item + 1]
            found.append(self._brought_up(index, one, target))
        return _joined(found)

    def _brought_up(self, index: int, problem: Problem, target: Tensor | None) -> SplittingState:
        """One sample at the present loop; it moves once a loop, by the network of the loop before."""
        place = self.places.get(index)
        if place is None:
            if self.epoch_loop:
                raise RuntimeError(
                    f"sample {index} was not seen in the outer loops before, whose variables it needs"
                )
            with torch.no_grad():
                place = Place(0, self.solver.first(problem, lambda x, _loop: x))
        device = problem.y.device
        state = _moved_to(place.state, device)
        if place.loop < self.epoch_loop:
            if place.loop + 1 != self.epoch_loop:
                raise RuntimeError(
                    f"sample {index} was last seen in outer loop {place.loop} and now in {self.epoch_loop}: every "
                    "sample must be seen in every loop"
                )
            assert target is not None
            state = self._advanced(problem, state, target, place.loop)
            place = Place(self.epoch_loop, state)
        self.places[index] = Place(place.loop, _moved_to(place.state, torch.device("cpu")))
        return state

    def _advanced(self, problem: Problem, state: SplittingState, target: Tensor, loop: int) -> SplittingState:
        """z, x and b of the next loop, by the network that the last one trained."""
        network = _at(self.before, loop)
        with torch.no_grad():
            new = self.solver.fit_data(problem, state)
        centre = new.z - state.b
        if self.input_step == "inference":
            with torch.no_grad():
                image = self.setting.apply(network, state.x)
                x = (image + self.solver.rho * centre) / (1 + self.solver.rho)
        else:
            x = self._input_step(network, state.x, centre, target)
        return self.solver.moved(new, state.z, x, state.b + x - new.z, x)

    def _input_step(self, network: nn.Module, x: Tensor, centre: Tensor, target: Tensor) -> Tensor:
        """Gradient steps on L(f(x)) + rho/2 |x - centre|^2, sums over pixels; the network stays."""
        moving = x.detach().clone().requires_grad_()
        optimiser = torch.optim.Adam([moving], lr=self.input_rate)
        pixels = math.prod(x.shape[1:])
        with torch.enable_grad():
            for _ in range(self.input_steps):
                optimiser.zero_grad()
                image = self.setting.apply(network, moving)
                loss = self.content * (image - target).abs().square().sum()
                if self.critic is not None:
                    loss = loss + pixels * self.adversarial * _entropy(self._judged(image), True)
                loss = loss + self.solver.rho / 2 * (moving - centre).abs().square().sum()
                moving.grad = torch.autograd.grad(loss, moving)[0]
                optimiser.step()
        return moving.detach()

    def state_dict(self) -> dict[str, Any]:
        """The present loop and the variables of every sample."""
        indices = sorted(self.places)
        if not indices:
            return {"loop": self.epoch_loop}
        joined = _joined([self.places[index].state for index in indices])
        return {
            "loop": self.epoch_loop,
            "index": torch.tensor(indices),
            "loops": torch.tensor([self.places[index].loop for index in indices]),
            "state": {field.name: getattr(joined, field.name) for field in dataclasses.fields(joined)},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.epoch_loop, self.places = int(state["loop"]), {}
        if "index" not in state:
            return
        joined = SplittingState(**state["state"])
        for row, (index, loop) in enumerate(
            zip(state["index"].tolist(), state["loops"].tolist(), strict=True)
        ):
            self.places[index] = Place(loop, _row(joined, row))

    def describe(self) -> dict[str, Any]:
        """What the card says."""
        return {
            "name": "splitting",
            "rho": self.solver.rho,
            "eta": self.solver.eta,
            "loops": self.loops,
            "decay": self.solver.decay,
            "input_step": self.input_step,
            "content": self.content,
            "adversarial": self.adversarial,
            "prior": None if self.prior is None else repr(self.prior),
        }


def _at(network: nn.Module, loop: int) -> nn.Module:
    """The network of an outer loop, where it has one for each."""
    at = getattr(network, "at", None)
    found: nn.Module = network if at is None else at(loop)
    return found


def _entropy(verdict: Tensor, real: bool) -> Tensor:
    """-log D or -log(1 - D), the mean over verdicts."""
    return nn.functional.softplus(-verdict if real else verdict).mean()


def _joined(states: list[SplittingState]) -> SplittingState:
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(SplittingState):
        values = [getattr(state, field.name) for state in states]
        fields[field.name] = (
            [torch.cat(parts) for parts in zip(*values, strict=True)]
            if isinstance(values[0], list)
            else torch.cat(values)
        )
    return SplittingState(**fields)


def _row(state: SplittingState, row: int) -> SplittingState:
    found: SplittingState = select(state, torch.tensor([row]))
    return found


def _moved_to(state: SplittingState, device: torch.device) -> SplittingState:
    found: SplittingState = map_tensors(state, lambda tensor: tensor.to(device))
    return found
