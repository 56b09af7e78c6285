"""The weight of a prior from the noise level: the residual that is left should be what noise can explain."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recon.linear import real_dtype
from recon.priors import Denoiser, Functional
from recon.problem import Problem
from recon.runner import INTERRUPTED, DivergenceError
from recon.solvers.algorithm import Algorithm, inner, map_tensors, per_item, put, reweighted, select
from recon.solvers.steps import column_energy
from recon.terms import Term

if TYPE_CHECKING:
    from recon.checkpoint import SearchCheckpoint

Watch = Callable[[Tensor, Callable[[], Tensor]], str]  # places of items, their images; why to end, or ""

ROUNDS = 14
FIRST_STEPS = 24  # iterations before the first look
STEPS = 8  # iterations between two looks
CLOSE = 0.02  # relative distance from the target that ends the search
MISSED = 0.05  # relative distance from which a weight counts as a guess where the looks are used up
FLOOR = 1e-4  # of the first guess: the least weight tried; a prior that weak changes nothing
CEILING = 1e4  # of the first guess: the largest; of the data only what the prior likes is left


@dataclasses.dataclass
class WeightChoice:
    """What the search found.

    Attributes:
        strength: weight of each item, ``(B,)``.
        state: the algorithm's state at that weight, to go on from.
        rounds: one record a look: lists of weight, residual (relative to the noise) and target, a value an
            item; an item that was done before keeps its last.
        ended: why it ended before it was done: by Ctrl-C, or what the watch said; "" if it was done.
    """

    strength: Tensor
    state: Any
    rounds: list[dict[str, list[float]]]
    ended: str


def choose_weight(
    problem: Problem,
    algorithm: Algorithm,
    seed: int = 0,
    watch: Watch | None = None,
    store: SearchCheckpoint | None = None,
) -> WeightChoice:
    """Choose the weight of the automatic priors by a discrepancy principle that counts degrees of freedom.

    Morozov's principle asks |A x - y|^2 = m sigma^2. But a reconstruction with df effective degrees of freedom
    has absorbed df of the m noise values, so at the right weight E|A x - y|^2 = (m - df) sigma^2; asking for m
    smooths too much. Here df = trace of the map y -> A x, estimated from a twin of every item whose data are
    perturbed (Ramani, Blu and Unser 2008), which runs beside it. The algorithm is never restarted: between
    two looks it goes on from where it is, and the weight moves by a bracketed secant step in the logarithm.
    Where the data term has weights w, all this is meant for the whitened data sqrt(w) y, sqrt(w) A.
    An item that is done leaves the batch: its weight and its image do not depend on its mates.

    The weight of a denoiser needs no search. With s^2 log p(x) for the logarithm of the images' density, s the noise
    level, the most likely image minimises |A x - y|^2 / 2 - s^2 log p(x), and the proximal map of -log p at step v is
    what a denoiser of noise of variance v approximates: its weight is s^2 (Venkatakrishnan et al. 2013).

    Args:
        problem: with at least one prior of automatic weight.
        algorithm: what will solve it.
        seed: of the perturbation.
        watch: asked after every iteration whether to end; told the places of the items that are searched for and a
            function that gives their images.
        store: where the search is kept at intervals, and found again.

    Raises:
        DivergenceError: the iteration left the finite numbers.
        ValueError: a denoiser and a functional are to have automatic weights, which mean different things.
    """
    automatic = [term for term in problem.terms if term.automatic]
    plugged = [term for term in automatic if isinstance(term.prior, Denoiser)]
    if plugged:
        return _noise_variance(problem, algorithm, automatic, plugged)
    items, device = problem.items, problem.y.device
    size = problem.item_fidelity.weighted_norm(problem.y).to(problem.strength)
    # blank data give a blank image at any weight; elsewhere the noise is at least the rounding of the data
    places = torch.nonzero(size > 0).squeeze(1)
    sigma = torch.maximum(problem.noise_level, 1e-6 * size / problem.y[0].numel() ** 0.5)
    probe = probe_of(problem, seed)
    change = per_item(0.3 * sigma, probe).to(real_dtype(problem.y.dtype)) * spread(problem)
    twins = problem.beside(problem.y + change * probe)
    strength = torch.where(size > 0, first_guess(problem, sigma), torch.ones_like(size))
    twins.strength = strength.repeat(2)
    found = map_tensors(algorithm.start(twins), torch.clone)
    search = _Search(twins, found, strength, places, items)
    if store is not None:
        store.resume(search)
    rounds, record, ended = search.rounds, search.record, ""
    try:
        for look in range(search.look, ROUNDS):
            if not search.places.numel():
                break
            ended = search.advance(algorithm, STEPS if look else FIRST_STEPS, watch)
            if ended:
                break
            here = search.places
            predicted = problem.operator(search.part.project(algorithm.image(search.state)))
            own, shifted = predicted.tensor_split(2)
            noise = sigma[here] * problem.measured_values[here].sqrt()
            part = problem.select(here)
            residual = part.item_fidelity.residual(own, part.y).to(noise) / noise
            moved = part.item_fidelity.weighted((shifted - own) * spread(part))
            freedom = inner(probe[here], moved).to(noise) / (0.3 * sigma[here])
            target = torch.sqrt(1 - (freedom / problem.measured_values[here]).clamp(0, 0.99))
            gap = torch.log(residual.clamp_min(1e-6) / target)
            if not bool(torch.isfinite(gap).all()):
                raise DivergenceError(
                    f"{algorithm!r} diverged in the search for the weight: the residual became NaN or infinite. Check "
                    "the data's scale and the operator's adjoint (recon check), or give a weight",
                    problem.unflatten(problem.project(problem.start)),
                    FIRST_STEPS + look * STEPS,
                )
            search.whole = False
            for name, value in (
                ("weight", search.bracket.position.exp()),
                ("residual", residual),
                ("target", target),
            ):
                record[name][here] = value
            rounds.append({name: values.tolist() for name, values in record.items()})
            search.move(algorithm, gap)
            search.begin(look + 1)
            if store is not None:
                store.save_if_due(search)
    except KeyboardInterrupt:
        ended = INTERRUPTED
    if store is not None and search.whole:
        store.save(search)
    search.settle(torch.ones_like(search.places, dtype=torch.bool))
    everything = torch.arange(items, device=device)
    chosen = problem.select(everything)
    strength = chosen.strength = search.strength
    state = reweighted(algorithm, chosen, select(search.found, everything))
    # data said to be free of noise are fitted as far as the weight goes: that is what was asked
    above = [place for place in search.above_noise if problem.noise_level[place] >= sigma[place]]
    for count, what in (
        (len(above), _ABOVE),
        (len(search.below_noise), _BELOW),
    ):
        if count:
            which = "" if items == 1 else f" of {count} of {items} items"
            warnings.warn(f"the automatic weight{which} {what}", stacklevel=3)
    return WeightChoice(strength, state, rounds, ended)


def distances(rounds: Sequence[dict[str, Any]]) -> list[float]:
    """How far the residual of each item lay from its target at its last look, as a fraction; 0 where there was none."""
    pairs = zip(rounds[-1]["residual"], rounds[-1]["target"], strict=True)
    return [abs(math.log(max(r, 1e-6) / t)) if math.isfinite(r) else 0.0 for r, t in pairs]


def _noise_variance(
    problem: Problem, algorithm: Algorithm, automatic: list[Term], plugged: list[Term]
) -> WeightChoice:
    """The weight of denoisers: the variance of the noise, at least that of the data's rounding."""
    names = " + ".join(type(term.prior).__name__ for term in automatic)
    if len(automatic) > len(plugged):
        raise ValueError(
            "the automatic weight of a denoiser is the noise variance, that of other priors is searched for: got "
            f"{names}, all 'auto'; give the others a weight"
        )
    size = problem.item_fidelity.weighted_norm(problem.y).to(problem.strength)
    sigma = torch.maximum(problem.noise_level, 1e-6 * size / problem.y[0].numel() ** 0.5)
    chosen = problem.select(torch.arange(problem.items, device=problem.y.device))
    chosen.strength = sigma.square().clamp_min(1e-30)
    return WeightChoice(chosen.strength, algorithm.start(chosen), [], "")


class _Search:
    """The items whose weight is not found yet, each beside its twin.

    Args:
        twins: all items, then all twins.
        found: their states; written to when an item is done.
        strength: weight of each item; likewise.
        places: of the items to search for.
        items: how many there are.

    Attributes:
        look: how many looks there were.
        whole: whether all of this belongs together, so that it may be kept in a file.
    """

    def __init__(self, twins: Problem, found: Any, strength: Tensor, places: Tensor, items: int) -> None:
        self.twins = twins
        self.found, self.strength, self.places, self.items = found, strength, places, items
        both = torch.cat([places, places + items])
        self.part = twins.select(both)
        self.now = (
            select(found, both),
            0,
        )  # the state, and its iterations since the last look: one assignment
        self.bracket = _Bracket(torch.log(strength[places]))
        self.above_noise: list[int] = []
        self.below_noise: list[int] = []
        self.settled = torch.zeros_like(places, dtype=torch.bool)
        self.look, self.whole = 0, True
        self.rounds: list[dict[str, list[float]]] = []
        self.record = {
            name: torch.full_like(strength, torch.nan) for name in ("weight", "residual", "target")
        }

    @property
    def state(self) -> Any:
        """The algorithm's state of the items, then of their twins."""
        return self.now[0]

    @state.setter
    def state(self, state: Any) -> None:
        self.now = (state, self.now[1])

    def begin(self, look: int) -> None:
        """On to this look."""
        self.look, self.now, self.whole = look, (self.state, 0), True

    def advance(self, algorithm: Algorithm, steps: int, watch: Watch | None = None) -> str:
        """Iterate items and twins at their present weights; why the watch wants to end, or ""."""
        while self.now[1] < steps:
            self.now = (algorithm.step(self.part, self.state), self.now[1] + 1)
            ended = "" if watch is None else watch(self.places, lambda: self.images(algorithm))
            if ended:
                return ended
        return ""

    def images(self, algorithm: Algorithm) -> Tensor:
        """The images of the items, without the twins."""
        return self.part.project(algorithm.image(self.state))[: len(self.places)]

    def remembered(self) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Any]]:
        """What a file keeps: plain values, tensors, and states of the algorithm."""
        before = self.bracket.before
        values = {"look": self.look, "steps": self.now[1], "rounds": self.rounds}
        values |= {"above_noise": self.above_noise, "below_noise": self.below_noise}
        tensors = {"strength": self.strength, "places": self.places, "settled": self.settled}
        tensors |= {f"record.{name}": tensor for name, tensor in self.record.items()}
        tensors |= {f"bracket.{name}": getattr(self.bracket, name) for name in _Bracket.TENSORS}
        if before is not None:
            tensors |= {"before.0": before[0], "before.1": before[1]}
        return values, tensors | {"weights": self.part.strength}, {"found": self.found, "state": self.state}

    def recall(self, values: dict[str, Any], tensors: dict[str, Tensor], states: dict[str, Any]) -> None:
        """Go on where `remembered` was."""
        self.look, self.rounds = values["look"], values["rounds"]
        self.above_noise, self.below_noise = values["above_noise"], values["below_noise"]
        self.strength, self.places, self.settled = (
            tensors[name] for name in ("strength", "places", "settled")
        )
        self.record = {name: tensors[f"record.{name}"] for name in self.record}
        for name in _Bracket.TENSORS:
            setattr(self.bracket, name, tensors[f"bracket.{name}"])
        self.bracket.before = (tensors["before.0"], tensors["before.1"]) if "before.0" in tensors else None
        self.part = self.twins.select(torch.cat([self.places, self.places + self.items]))
        self.part.strength = tensors["weights"]
        self.found, self.now = states["found"], (states["state"], values["steps"])

    def move(self, algorithm: Algorithm, gap: Tensor) -> None:
        """Let go of the items that have met their target, give the others their next weight."""
        close = gap.abs() <= CLOSE
        too_weak, too_strong = (gap > 0) & self.bracket.at_floor, (gap < 0) & self.bracket.at_ceiling
        close = close | too_weak | too_strong
        done = close & self.settled
        self.above_noise += self.places[too_weak & done].tolist()
        self.below_noise += self.places[too_strong & done].tolist()
        self.settled = close  # the iterate is still moving: a target must be met twice
        before = self.bracket.position
        self.bracket.move(gap)
        self.bracket.position = torch.where(done, before, self.bracket.position)
        if bool(done.any()):
            self.settle(done)
        if self.places.numel():
            self.part.strength = self.bracket.position.exp().repeat(2)
            self.state = reweighted(algorithm, self.part, self.state)

    def settle(self, done: Tensor) -> None:
        """Keep weight and state of these items, and go on without them."""
        here = self.places[done]
        self.strength[here] = self.bracket.position[done].exp()
        count = len(self.places)
        put(
            self.found,
            torch.cat([here, here + self.items]),
            select(self.state, done.repeat(2).nonzero().squeeze(1)),
        )
        rest = (~done).nonzero().squeeze(1)
        self.places, self.settled = self.places[rest], self.settled[rest]
        self.bracket.select(rest)
        if rest.numel():
            both = torch.cat([rest, rest + count])
            self.part, self.state = self.part.select(both), select(self.state, both)


class _Bracket:
    """Root of an increasing function of the log weight, one item each, from noisy evaluations."""

    TENSORS = ("position", "floor", "ceiling", "low", "high")

    def __init__(self, start: Tensor) -> None:
        self.position = start
        self.floor, self.ceiling = start + math.log(FLOOR), start + math.log(CEILING)
        self.low = torch.full_like(start, -torch.inf)
        self.high = torch.full_like(start, torch.inf)
        self.before: tuple[Tensor, Tensor] | None = None

    def select(self, items: Tensor) -> None:
        """Go on with some of the items."""
        self.position = self.position[items]
        self.floor, self.ceiling = self.floor[items], self.ceiling[items]
        self.low, self.high = self.low[items], self.high[items]
        if self.before is not None:
            self.before = (self.before[0][items], self.before[1][items])

    def move(self, gap: Tensor) -> None:
        """One step: secant where two evaluations give a sane slope, else 2 gap; inside the bracket, at most 10x."""
        here = self.position
        self.low = torch.where(gap < 0, torch.maximum(self.low, here), self.low)
        self.high = torch.where(gap > 0, torch.minimum(self.high, here), self.high)
        slope = torch.full_like(gap, 0.5)
        if self.before is not None:
            position, value = self.before
            distance = here - position
            measured = (gap - value) / torch.where(distance.abs() > 1e-4, distance, torch.inf)
            slope = torch.where(measured > 0, measured.clamp(0.15, 3.0), slope)
        step = (-gap / slope).clamp(-2.3, 2.3)
        target = here + torch.where(gap.abs() <= CLOSE, torch.zeros_like(step), step)
        # evaluations are of a moving iterate: the bracket is a guide, widened a little, not a wall
        self.before = (here, gap)
        self.position = torch.minimum(torch.maximum(target, self.low - 0.7), self.high + 0.7)
        self.position = torch.minimum(torch.maximum(self.position, self.floor), self.ceiling)

    @property
    def at_floor(self) -> Tensor:
        """Whether the weight cannot fall further."""
        return self.position <= self.floor

    @property
    def at_ceiling(self) -> Tensor:
        """Whether the weight cannot rise further."""
        return self.position >= self.ceiling


_ABOVE = (
    "has no value that fits the data to within their noise: the prior was all but left out. The model explains the "
    "data less well than their noise level says; give the level that it should reach, "
    'fidelity=("gaussian", {"noise_level": ...}), or a weight'
)
_BELOW = (
    "rose as far as it goes: even an image made of little but the prior fits the data to within their noise. The noise "
    "level is too high for these data, or they hold nothing else; give the level, "
    'fidelity=("gaussian", {"noise_level": ...}), or a weight'
)


def probe_of(problem: Problem, seed: int) -> Tensor:
    """Random signs where data exist (their trace estimate varies least: Hutchinson 1990).

    The same for every item: an item's weight does not depend on its mates. Signs from a stream of their own,
    for a probe that equals the noise of the data, drawn from the same seed, would measure the noise instead.
    """
    generator = torch.Generator().manual_seed(0x5164F + seed)
    y, shape = problem.y, problem.operator.range_shape
    probe = _signs(shape, generator).to(y.device, real_dtype(y.dtype))
    if y.is_complex():
        probe = torch.complex(probe, _signs(shape, generator).to(probe))
    mask = problem.operator.sample_mask
    if mask is not None:
        probe = probe * mask.to(probe.device)
    return probe.expand_as(y)


def spread(problem: Problem) -> Tensor | float:
    """1 / sqrt(w), the noise of every sample over the noise level; 0 where w = 0 and nothing is fitted."""
    weights = problem.item_fidelity.weights
    return 1.0 if weights is None else torch.where(weights > 0, weights.rsqrt(), 0)


def _signs(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, tuple(shape), generator=generator).mul(2).sub(1)


def first_guess(problem: Problem, sigma: Tensor) -> Tensor:
    """Noise level times the mean column norm of sqrt(w) A: what the gradient of the data term holds of noise.

    The gradient of a quadratic prior is its weight times the image: there it is divided by the image's RMS. The weight
    of a denoiser is near the variance of the noise (see `choose_weight`).
    """
    if any(term.automatic and isinstance(term.prior, Denoiser) for term in problem.terms):
        return sigma.square().clamp_min(1e-30)
    guess = sigma * column_energy(problem).sqrt().to(sigma)
    automatic = [term.prior for term in problem.terms if term.automatic]
    if automatic and all(isinstance(p, Functional) and p.quadratic for p in automatic):
        rms = (problem.image_norm / problem.start[0].numel() ** 0.5).to(guess)
        guess = guess / torch.where(rms > 0, rms, torch.ones_like(rms))
    return guess.clamp_min(1e-30)
