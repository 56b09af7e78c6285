"""Methods that are compared: their images, scores, runs and provenance as tables."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from recon.memory import in_words
from recon.metrics import NMSE, PSNR, RMSE, RMSEHU, SSIM, Metric, Score
from recon.report.figures import ITEMS_SHOWN, Image
from recon.report.html import Record, Section, Table

__all__ = [
    "Method",
    "Solved",
    "accounts",
    "comparison_table",
    "default_metrics",
    "methods_of",
    "outcome",
    "record_of",
    "run_table",
    "score_table",
    "with_unit",
]


class Solved(Protocol):
    """What a report reads of a solution; see `recon.Solution`."""

    @property
    def image(self) -> Tensor:
        """`(*batch, *item)`."""

    @property
    def item_ndim(self) -> int:
        """How many trailing axes make one image."""

    @property
    def history(self) -> Mapping[str, Sequence[Any]]:
        """Name -> one entry per record, each a number or one number per item."""

    @property
    def reason(self) -> str:
        """Why it stopped; of a batch, each different reason once."""

    @property
    def reasons(self) -> Sequence[str]:
        """Why each item of the flattened batch stopped."""

    @property
    def converged(self) -> bool:
        """Whether every item converged."""

    @property
    def iterations(self) -> int:
        """Iterations of the item that took longest."""

    @property
    def seconds(self) -> float:
        """Wall time."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What produced it."""

    @property
    def weight(self) -> float | Sequence[float] | None:
        """The weight chosen for the prior: a number, one per item, or None if none was chosen."""

    @property
    def weight_search(self) -> Sequence[Mapping[str, Any]]:
        """What the search for the weight saw at each look: weight, residual and target of every item."""


_FACTS = ("iterations", "time", "converged", "stopped because", "weight of the prior", "memory at most")


@dataclass(frozen=True, kw_only=True)
class Method:
    """One of the methods on a page.

    Attributes:
        name: as the reader sees it.
        image: `(*batch, *item)`.
        items: the same with one batch axis, `(items, *item)`.
        solved: how it came about; None for an image without a record.
    """

    name: str
    image: Tensor
    items: Tensor
    solved: Solved | None


def methods_of(
    results: Mapping[str, Image | Solved], item_ndim: int | None = None, *, arrays: int | None = 2
) -> list[Method]:
    """The methods of these names, all of one shape.

    Args:
        results: name -> solution or image.
        item_ndim: how many trailing axes make one image; None takes what the first solution says.
        arrays: the same where there is no solution to say it; None for all axes.

    Raises:
        ValueError: none, images of different shapes, or of fewer axes than an item has.
    """
    if not results:
        raise ValueError("a report needs an image or a solution, got none")
    solved = {name: None if isinstance(r, Tensor | np.ndarray) else r for name, r in results.items()}
    images = {
        name: torch.as_tensor(result if isinstance(result, Tensor | np.ndarray) else result.image)
        for name, result in results.items()
    }
    shapes = {name: tuple(image.shape) for name, image in images.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"images that are compared need one shape: {listed}")
    if item_ndim is None:
        said = [run.item_ndim for run in solved.values() if run is not None]
        item_ndim = said[0] if said else len(next(iter(shapes.values()))) if arrays is None else arrays
    methods = []
    for name, given in images.items():
        image = given.detach().cpu().resolve_conj()
        if image.ndim < item_ndim:
            raise ValueError(
                f"the image has shape {tuple(image.shape)}, an item {item_ndim} axes (item_ndim)"
            )
        items = image.reshape(-1, *image.shape[image.ndim - item_ndim :])
        methods.append(Method(name=name, image=image, items=items, solved=solved[name]))
    return methods


def default_metrics(item_shape: Sequence[int], unit: str = "") -> tuple[Metric, ...]:
    """What images are judged by unless the caller says: PSNR and SSIM on the reference's range, NMSE, RMSE.

    SSIM is left out where an image does not hold one of its windows. Attenuation in 1/mm gets its RMSE in
    HU, since a PSNR of CT says little without it.
    """
    error = RMSEHU() if unit == "1/mm" else RMSE()
    ssim = SSIM(data_range="max-min")
    holds_window = len(item_shape) > 1 and min(item_shape[-2:]) > 2 * ssim.radius
    return (PSNR(data_range="max-min"), *([ssim] if holds_window else []), NMSE(), error)


def score_table(scores: Sequence[Score], items: int, labels: Sequence[str] = ()) -> Table:
    """Scores as a table with the conventions: one row a metric for one image, one row an image for several.

    `labels` name the items; "item 0", "item 1", ... if not given. Eight items are listed, the mean is of all.
    """
    if items == 1:
        return Table(
            columns=("metric", "value", "convention"),
            rows=[(_metric_name(s), _value(s, float(s.value.reshape(-1)[0])), s.convention) for s in scores],
            caption="Compared with the reference",
        )
    shown = min(items, ITEMS_SHOWN)
    names = list(labels) or [f"item {index}" for index in range(items)]
    rows = [
        (names[index], *(_value(s, float(s.value.reshape(-1)[index])) for s in scores))
        for index in range(shown)
    ]
    rows.append((f"mean of all {items}", *(_value(s, float(s.value.mean())) for s in scores)))
    return Table(
        columns=("image", *(_metric_name(s) for s in scores)),
        rows=rows,
        caption="Compared with the reference" + (f", the first {shown} of {items}" if shown < items else ""),
        notes=[f"{s.name}: {s.convention}" for s in scores],
    )


def comparison_table(scores: Mapping[str, Sequence[Score]], unit: str = "") -> Table:
    """One row a method, one column a metric, the best value of each marked; a batch by its mean.

    Args:
        scores: name -> the same metrics in the same order.
        unit: of the images, and so of their RMSE.
    """
    first = next(iter(scores.values()))
    means = [[float(score.value.mean()) for score in row] for row in scores.values()]
    printed = [
        [
            with_unit(_value(score, mean), unit if score.name == "rmse" else "")
            for score, mean in zip(row, values, strict=True)
        ]
        for row, values in zip(scores.values(), means, strict=True)
    ]
    best = set()
    for column, score in enumerate(first):
        known = [row[column] for row in means if not math.isnan(row[column])]
        if len(known) < 2:
            continue
        winner = (max if score.higher_is_better else min)(known)
        text = printed[[row[column] for row in means].index(winner)][column]
        best |= {(index, column + 1) for index, row in enumerate(printed) if row[column] == text}
    items = first[0].value.numel() if first else 1
    return Table(
        columns=("method", *(_metric_name(score) for score in first)),
        rows=[(name, *row) for name, row in zip(scores, printed, strict=True)],
        caption="Compared with the reference" + (f", mean of {items} items" if items > 1 else ""),
        notes=_conventions(scores),
        best=frozenset(best),
    )


def _conventions(scores: Mapping[str, Sequence[Score]]) -> list[str]:
    """A line for each metric and convention; where methods differ in it, it names the methods."""
    among: dict[tuple[str, str], list[str]] = {}
    for name, row in scores.items():
        for score in row:
            among.setdefault((score.name, score.convention), []).append(name)
    return [
        f"{metric}{'' if len(names) == len(scores) else ' of ' + ', '.join(names)}: {convention}"
        for (metric, convention), names in among.items()
    ]


def run_table(methods: Sequence[Method]) -> Table:
    """How each method ended: facts in rows for one, a row a method for several."""
    if len(methods) == 1:
        rows = list(_facts(methods[0]).items())
        return Table(columns=("", ""), rows=rows, caption="How the solver ended")
    names = [fact for fact in _FACTS if any(fact in _facts(method) for method in methods)]
    return Table(
        columns=("method", *names),
        rows=[
            (method.name, *(_facts(method).get(name, "\N{EN DASH}") for name in names)) for method in methods
        ],
        caption="How each method ended",
        notes=[f"{m.name}: an image without a record of its making" for m in methods if m.solved is None],
    )


def accounts(methods: Sequence[Method]) -> list[Section]:
    """One section that says what each method chose and why, a table each; none where nothing is recorded."""
    from recon.explanation import explanation

    tables = []
    for method in methods:
        facts = getattr(method.solved, "facts", None)
        if not facts or facts["items"] != len(method.items):  # a part of the batch has no account of its own
            continue
        rows = [
            (heading if place == 0 else "", sentence)
            for heading, sentences in explanation(method.solved)  # type: ignore[arg-type]
            for place, sentence in enumerate(sentences)
        ]
        tables.append(Table(columns=("", ""), rows=rows, caption=f"{method.name}: what was chosen, and why"))
    return [Section(title="What was chosen, and why", tables=tables)] if tables else []


def _facts(method: Method) -> dict[str, str]:
    solved = method.solved
    if solved is None:
        return {}
    facts = {
        "iterations": str(solved.iterations),
        "time": with_unit(f"{solved.seconds:.3g}", "s"),
        "converged": "yes" if solved.converged else "no",
        "stopped because": per_item_fact(solved.reasons),
    }
    if solved.weight is not None:
        weights = solved.weight if isinstance(solved.weight, Sequence) else [solved.weight]
        facts["weight of the prior"] = per_item_fact([f"{weight:.4g}" for weight in weights])
    peak = getattr(solved, "peak_memory", None)
    if peak is not None:
        facts["memory at most"] = in_words(peak)
    return facts


def record_of(method: Method) -> Record:
    """The provenance of a method, with the call that makes it again; of files only the names are shown."""
    solved = method.solved
    if solved is None:
        return Record(title=method.name, values={"origin": "an image without a record of its making"})
    values = {name: _without_folders(value) for name, value in solved.provenance.items()}
    return Record(title=method.name, values={"call": _call(values), **values})


def _without_folders(value: Any) -> Any:
    """Absolute paths, which tell of a home folder, reduced to the name of the file; nested values too."""
    if isinstance(value, Mapping):
        return {name: _without_folders(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(item) for item in value]
    for kind in (PurePosixPath, PureWindowsPath):
        if isinstance(value, str) and kind(value).is_absolute():
            return kind(value).name
    return value


def _call(provenance: Mapping[str, Any]) -> str:
    """The Python call that solves the same problem, as far as a text can hold it."""
    priors = [_made(prior) for prior in provenance.get("prior", ())]
    arguments = {
        "solver": provenance.get("solver", {}).get("settings"),
        "fidelity": provenance.get("fidelity"),
        "stop": provenance.get("stop"),
        "seed": provenance.get("seed"),
    }
    given = [
        f"{name}={value}"
        for name, value in arguments.items()
        if value is not None and (name != "stop" or "(" in str(value))  # one step has no rule, only a reason
    ]
    operator = _made(provenance.get("operator", {"name": "op"}))
    return f"recon.solve({', '.join([operator, ' + '.join(priors) or 'None', 'y', *given])})"


def _made(record: Mapping[str, Any]) -> str:
    """The specification of an operator or prior: its name with its arguments, or its own text."""
    if "text" in record:
        return str(record["text"])
    arguments = {key: value for key, value in record.get("arguments", {}).items() if value is not None}
    name = json.dumps(record["name"])
    return f"({name}, {arguments})" if arguments else name


def outcome(solved: Solved) -> str:
    """In a sentence: whether it converged, after how long, and why it stopped."""
    steps = f"{solved.iterations} iteration{'' if solved.iterations == 1 else 's'}"
    seconds = with_unit(f"{solved.seconds:.3g}", "s")
    if solved.converged:
        return f"Converged after {steps} in {seconds}: {solved.reason}."
    return f"Stopped after {steps} in {seconds} without converging: {solved.reason}."


def per_item_fact(words: Sequence[str]) -> str:
    """One text if all items agree, else the first eight in a list."""
    if len(set(words)) <= 1:
        return words[0] if words else "none"
    listed = "; ".join(f"item {index}: {word}" for index, word in enumerate(words[:ITEMS_SHOWN]))
    return listed + (f"; … ({len(words)} items)" if len(words) > ITEMS_SHOWN else "")


def _metric_name(score: Score) -> str:
    arrow = "\N{UPWARDS ARROW}" if score.higher_is_better else "\N{DOWNWARDS ARROW}"
    return f"{score.name} {arrow}"


def _value(score: Score, value: float) -> str:
    return with_unit(f"{value:.2f}" if score.unit == "dB" else f"{value:.4g}", score.unit)


def with_unit(number: str, unit: str) -> str:
    """A number and its unit, which no line break parts."""
    return f"{number}\N{NO-BREAK SPACE}{unit}" if unit else number
