"""What a solve did, in plain words, made of what was recorded while it did it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from recon.learned import LearnedPrior
from recon.linear import Identity, LinearOperator
from recon.priors import Denoiser, Functional, Prior
from recon.problem import Problem
from recon.solvers.algorithm import looks_at
from recon.stopping import RelativeChange, SmallResiduals, StoppingRule
from recon.terms import Term
from recon.weight import MISSED, ROUNDS, distances

if TYPE_CHECKING:
    from recon.choosing import SolverChoice
    from recon.runner import Outcome
    from recon.solution import Solution

ITEMS = 8  # of a batch that are named one by one

Account = list[tuple[str, list[str]]]
"""Headings, each with its sentences."""


def facts_of(
    problem: Problem, choice: SolverChoice, rule: StoppingRule, outcome: Outcome, weight_rule: str | None
) -> dict[str, Any]:
    """What `explanation` needs to know and a `Solution` does not hold otherwise, as JSON can hold it.

    Args:
        problem: as it was solved, its strength the chosen one.
        choice: the algorithm and why.
        rule: when it was to stop.
        outcome: what the run gave.
        weight_rule: how an automatic weight was chosen; None where none was.
    """
    return {
        "operator": {
            "name": type(problem.operator).__name__,
            "text": problem.operator.extra_repr(),
            "image": list(problem.operator.domain_shape),
            "data": list(problem.operator.range_shape),
            "complex": problem.is_complex,
            "adjoint": problem.operator.adjoint_kind,
        },
        "items": problem.items,
        "measured": [int(count) for count in problem.measured_values.tolist()],
        "fidelity": {
            "name": problem.item_fidelity.name,
            "weighted": problem.item_fidelity.weights is not None,
        },
        "noise": _noise(problem),
        "priors": _priors(problem, looks_at(choice.algorithm, "weight")),
        "start": _start(problem),
        "solver": {"asked": choice.asked, "why": choice.why, "account": _told(choice, outcome)},
        "weight_rule": weight_rule,
        "tolerances": [
            [type(member).__name__, member.tolerance]
            for member in rule.members
            if isinstance(member, RelativeChange | SmallResiduals)
        ],
        "converged": outcome.converged,
        "iterations": outcome.iterations,
    }


def _told(choice: SolverChoice, outcome: Outcome) -> list[str]:
    """What the algorithm says of itself; its failure must not cost the image."""
    account = getattr(choice.algorithm, "account", None)
    if account is None:
        return []
    try:
        with torch.no_grad():
            return list(account(outcome.part, outcome.state))
    except Exception as error:
        return [f"Its account of itself failed: {type(error).__name__}: {error}"]


def _noise(problem: Problem) -> dict[str, Any] | None:
    """The noise level and where it comes from; None where nobody asked for it."""
    if not problem.item_fidelity.noise_residual:
        return {"levels": [], "source": "none", "how": ""}
    if problem.item_fidelity.noise_level is None and "noise_level" not in problem.__dict__:
        return None
    levels = problem.noise_level.tolist()
    if problem.fidelity.noise_level is not None:
        return {"levels": levels, "source": "given", "how": ""}
    if problem.item_fidelity.noise_level is not None:  # the data term's own
        return {"levels": levels, "source": "counts", "how": ""}
    return {"levels": levels, "source": "estimated", "how": _estimator(problem.operator)}


def _estimator(operator: LinearOperator) -> str:
    """The first sentence of what documents the operator's estimate."""
    text = " ".join((inspect.getdoc(type(operator).noise_level) or "").split("\n\n")[0].split())
    return (
        f"{type(operator).__name__}.noise_level: {text}" if text else f"{type(operator).__name__}.noise_level"
    )


def _start(problem: Problem) -> str:
    if problem.x0 is not None:
        return "the x0 that was given"
    if problem.generator is not None:
        return "fresh weights of the network"
    return "the operator's direct reconstruction"


def _priors(problem: Problem, weighted: bool) -> list[dict[str, Any]]:
    """What is said of each prior; `weighted`: whether the algorithm looks at their weights."""
    members = [] if problem.prior is None else problem.prior.members
    terms = {id(term.prior): term for term in problem.terms}
    return [_prior(member, terms.get(id(member)), weighted) for member in members]


def _prior(member: Prior, term: Term | None, weighted: bool) -> dict[str, Any]:
    if isinstance(member, Functional):
        kind = "constraint" if member.constraint else "functional"
    else:
        kind = "denoiser" if isinstance(member, Denoiser) else "generator"
    automatic = (term is not None and term.automatic) or not weighted
    through = term.K if term is not None and isinstance(member, Functional) else None
    return {
        "name": type(member.network if isinstance(member, LearnedPrior) else member).__name__,
        "kind": kind,
        "through": "" if through is None or isinstance(through, Identity) else type(through).__name__,
        "weight": None if automatic or kind in ("constraint", "generator") else float(member.weight),
        "automatic": automatic,
        "convex": isinstance(member, Functional) and member.convex,
    }


def explanation(solution: Solution) -> Account:
    """What was solved, how, with which weight, why it stopped, and what to try, from the record.

    Raises:
        ValueError: a solution of an earlier version, which recorded less.
    """
    facts = solution.facts
    if not facts:
        raise ValueError("this solution holds no record of its choices: an earlier version saved it")
    parts = [
        ("What was solved", _problem_in_words(facts)),
        ("Noise level", _noise_in_words(facts)),
        ("Solver", _solver_in_words(solution, facts)),
        ("Weight", _weight_in_words(solution, facts)),
        ("Why it stopped", _stop_in_words(solution, facts)),
        ("Uncertainty", [] if solution.error_bars is None else solution.error_bars.in_words()),
        ("What to try", _advice(solution, facts)),
    ]
    return [(heading, sentences) for heading, sentences in parts if sentences]


def text_of(account: Account) -> str:
    """Headings with their sentences indented below."""
    return "\n".join(
        line for heading, sentences in account for line in (heading, *(f"  {text}" for text in sentences))
    )


def _problem_in_words(facts: Mapping[str, Any]) -> list[str]:
    operator, items = facts["operator"], facts["items"]
    image, data = (" x ".join(map(str, operator[name])) or "1" for name in ("image", "data"))
    kind = "complex" if operator["complex"] else "real"
    count = _each([f"{count}" for count in facts["measured"]])
    batch = f" {items} images at once, each for itself." if items > 1 else ""
    sentences = [
        f"A {kind} image of {image} from data of {data}, {count} real numbers measured, through "
        f"{operator['name']}.{batch}",
        _FIDELITIES.get(facts["fidelity"]["name"], f"Data term: {facts['fidelity']['name']}.")
        + (" Samples have weights." if facts["fidelity"]["weighted"] and not _counts(facts) else ""),
    ]
    if operator["adjoint"] != "exact":
        sentences.append("The operator's adjoint is approximate: what it converges to is a little off.")
    for prior in facts["priors"]:
        through = f" of the image's {prior['through']}" if prior["through"] else ""
        chosen = "the weight that was chosen" if facts["weight_rule"] else "whose weight plays no part"
        weight = chosen if prior["automatic"] else f"weight {prior['weight'] or 0:g}"
        sentences.append(
            {
                "functional": f"Prior: {prior['name']}{through}, {weight}.",
                "constraint": f"Constraint: {prior['name']}{through}.",
                "denoiser": f"Prior: the denoiser {prior['name']}, {weight}; it stands for no known function, so there "
                "is no objective to watch.",
                "generator": f"Prior: the image is made by {prior['name']}.",
            }[prior["kind"]]
        )
        if prior["kind"] == "functional" and not prior["convex"]:
            sentences.append(f"{prior['name']} is not convex: another start may end elsewhere.")
    if not facts["priors"]:
        sentences.append("No prior.")
    return sentences


_FIDELITIES = {
    "gaussian": "Data term: half the squared distance between predicted and measured data.",
    "pwls": "Data term: half the squared distance, each ray weighted by its counts.",
    "poisson": "Data term: the likelihood of the counted photons.",
    "features": "Data term: the squared distance between what a network sees in predicted and in measured data.",
}


def _counts(facts: Mapping[str, Any]) -> bool:
    return bool(facts["fidelity"]["name"] in ("pwls", "poisson"))


def _noise_in_words(facts: Mapping[str, Any]) -> list[str]:
    noise = facts["noise"]
    if noise is None:
        return ["It was not needed: nothing that was asked for depends on it."]
    if noise["source"] == "none":
        return ["Nothing was compared with it: what noise leaves of this data term's residual is not known."]
    levels = _each([f"{level:.4g}" for level in noise["levels"]])
    if noise["source"] == "counts":
        return ["Known from the counts of every ray."]
    if noise["source"] == "given":
        return [f"{levels}, as given."]
    return [
        f"{levels}, estimated from the data ({noise['how']})",
        'An estimate may be off: if you know the level, give it, fidelity=("gaussian", {"noise_level": ...}).',
    ]


def _solver_in_words(solution: Solution, facts: Mapping[str, Any]) -> list[str]:
    solver = facts["solver"]
    name = str(solution.provenance["solver"].get("settings", solution.provenance["solver"]["name"]))
    link = ", chosen because" if solver["asked"] == "auto" else ":"
    first = f"{name}{link} {solver['why']}."
    start = [f"Started from {facts['start']}."] if facts["priors"] else []
    return [first, *start, *solver["account"]]


def _weight_in_words(solution: Solution, facts: Mapping[str, Any]) -> list[str]:
    if solution.weight is None:
        given = [f"{p['weight']:g} for {p['name']}" for p in facts["priors"] if p["weight"] is not None]
        return [f"Given: {', '.join(given)}."] if given else []
    weights = solution.weight if isinstance(solution.weight, list) else [solution.weight]
    rule = facts["weight_rule"] or "discrepancy"
    sentences = [f"{_each([f'{weight:.4g}' for weight in weights])}, chosen {_RULES[rule]}."]
    looks = solution.weight_search
    if any(p["automatic"] and p["kind"] == "denoiser" for p in facts["priors"]) and not looks:
        values = _each([f"{weight:.4g}" for weight in weights])
        return [f"{values}, the variance of the noise: a denoiser's needs no search."]
    if not looks:
        return [*sentences, "The search is part of an earlier run, which the checkpoint held."]
    first, last = looks[0], looks[-1]
    tried = [value for look in looks for value in look["weight"] if math.isfinite(value)]
    if tried:
        sentences.append(f"{len(looks)} looks, at weights from {min(tried):.3g} to {max(tried):.3g}.")
    describe = {"discrepancy": _discrepancy, "sure": _risk, "lcurve": _corner}[rule]
    return [*sentences, *describe(first, last, looks)]


_RULES = {
    "discrepancy": "so that the residual is what the noise explains (discrepancy principle with degrees of freedom)",
    "sure": "where the estimated error of the predicted data is smallest (Monte-Carlo SURE)",
    "lcurve": "at the corner of the L-curve, residual against penalty; the noise level is not used",
}


def _discrepancy(first: Mapping[str, Any], last: Mapping[str, Any], looks: Sequence[Any]) -> list[str]:
    met = [f"{r:.3g} against {t:.3g}" for r, t in zip(last["residual"], last["target"], strict=True)]
    said = [f"At the last look the residual, relative to the noise, was {_each(met)} asked for."]
    unmet = sum(off > MISSED for off in distances(looks))
    if unmet and len(looks) >= ROUNDS:
        which = "" if len(met) == 1 else f" of {unmet} of {len(met)} images"
        said.append(
            f"The {ROUNDS} looks were used up before the search had settled: the weight{which} is a guess. The image "
            "follows a change of the weight too slowly, or the noise level is not that of the data: compare with "
            "weight='sure', or give a weight."
        )
    return said


def _risk(first: Mapping[str, Any], last: Mapping[str, Any], looks: Sequence[Any]) -> list[str]:
    lowest = [_lowest([look["risk"][item] for look in looks]) for item in range(len(last["risk"]))]
    return [
        f"The lowest estimated error of the predicted data was {_each([f'{r:.3g}' for r in lowest])} of the noise's "
        "own variance."
    ]


def _corner(first: Mapping[str, Any], last: Mapping[str, Any], looks: Sequence[Any]) -> list[str]:
    top = [-_lowest([-look["curvature"][item] for look in looks]) for item in range(len(last["curvature"]))]
    return [f"The curvature there was {_each([f'{value:.3g}' for value in top])}."]


def _lowest(values: Sequence[float]) -> float:
    return min((value for value in values if math.isfinite(value)), default=math.nan)


def _stop_in_words(solution: Solution, facts: Mapping[str, Any]) -> list[str]:
    reasons = [
        f"{reason} after {steps} iteration{'' if steps == 1 else 's'}"
        for reason, steps in zip(solution.reasons, facts["iterations"], strict=True)
    ]
    search = ", not counting those of the search for the weight" if solution.weight_search else ""
    sentences = [f"{_each(reasons)}{search}; {solution.seconds:.3g} s in all."]
    values = [
        f"{label} {_each([f'{value:.2g}' for value in _last(solution, name)])}"
        for name, label in _MEASURES.items()
        if name in solution.history
        and any(_last(solution, name))  # conjugate gradients have no dual residual
    ]
    if values:
        sentences.append(f"At the end: {', '.join(values)}.")
    done = sum(facts["converged"])
    if facts["items"] > 1:
        sentences.append(f"{done} of {facts['items']} images converged.")
    else:
        sentences.append("That counts as converged." if done else "That does not count as converged.")
    return sentences


_MEASURES = {
    "change": "relative change of the image",
    "primal": "primal residual",
    "dual": "dual residual",
}


def _last(solution: Solution, name: str, back: int = 1) -> list[float]:
    """The values of a column of the history, one an item, in its last record or one before it."""
    entry = solution.history[name][-back]
    return [float(value) for value in (entry if isinstance(entry, list) else [entry])]


def _advice(solution: Solution, facts: Mapping[str, Any]) -> list[str]:
    advice = []
    if not all(facts["converged"]):
        advice += _more_iterations(solution, facts)
    noise = facts["noise"]
    if noise is not None and noise["source"] == "estimated" and solution.weight is not None:
        advice.append(
            "Too smooth or too grainy: the weight follows the noise level; give the level, or a weight of half or "
            "twice this one."
        )
    return advice


def _more_iterations(solution: Solution, facts: Mapping[str, Any]) -> list[str]:
    """How far from its tolerance a limited run was, and what its course says about going on."""
    open_items = [item for item, fine in enumerate(facts["converged"]) if not fine]
    sentences = []
    tolerance = min((value for _, value in facts["tolerances"]), default=None)
    residuals: list[str] = [name for name in ("primal", "dual") if name in solution.history]
    names = residuals or (["change"] if "change" in solution.history else [])
    if tolerance is not None and names and len(solution.history["iteration"]) > 1:
        worst = max(_finite(_last(solution, name)[item]) for name in names for item in open_items)
        sentences.append(
            f"The largest {'residual' if residuals else 'change'} was {worst:.2g} where {tolerance:g} was asked for."
        )
        sentences += _course(solution, names, open_items, tolerance, worst)
    sentences.append(
        "To go on: more iterations (stop=recon.MaxIterations(...) | ...), or from this image (x0=solution.image)."
    )
    return sentences


def _course(
    solution: Solution, names: Sequence[str], items: Sequence[int], tolerance: float, now: float
) -> list[str]:
    """What the last half of the run says, by a straight line through the logarithms: falling, or standing."""
    steps = solution.history["iteration"]
    places = [place for place, step in enumerate(steps) if step >= max(steps[-1] / 2, 1)]
    if len(places) < 2 or not now > tolerance:
        return []
    worst = [
        max(_finite(_last(solution, name, len(steps) - place)[item]) for name in names for item in items)
        for place in places
    ]
    x = torch.tensor([float(steps[place]) for place in places], dtype=torch.float64)
    logarithms = torch.tensor(worst, dtype=torch.float64).clamp_min(1e-300).log()
    x = x - x.mean()
    rate = -float(x @ logarithms / (x @ x))
    scatter = logarithms - logarithms.mean() + rate * x
    uncertain = float((scatter @ scatter / max(len(places) - 2, 1) / (x @ x)).sqrt())
    if rate <= max(2 * uncertain, 0.05 / (steps[-1] / 2)):
        return [
            "It has not fallen over the last half of the run: more iterations will hardly help; try another solver, "
            "or a looser tolerance."
        ]
    more = math.ceil(math.log(now / tolerance) / rate)
    return [f"At the pace of the last half of the run it takes some {_rounded(more)} iterations more."]


def _rounded(count: int) -> int:
    """One significant digit, upwards."""
    unit = 10 ** max(len(str(count)) - 1, 0)
    return math.ceil(count / unit) * unit


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _each(texts: Sequence[str]) -> str:
    """One text where all images agree, else one an image; the first few of many."""
    if len(set(texts)) <= 1:
        return texts[0] if texts else "none"
    listed = ", ".join(f"{text} (image {index})" for index, text in enumerate(texts[:ITEMS]))
    return listed + (f", ... ({len(texts)} images)" if len(texts) > ITEMS else "")
