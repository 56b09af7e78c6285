"""The report on one solution: pictures, scores, convergence, why it stopped, what produced it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from recon.metrics import NMSE, PSNR, RMSE, RMSEHU, SSIM, Metric, Score, evaluate
from recon.problem import Problem
from recon.report.figures import ITEMS_SHOWN, Window, convergence_png, display_window
from recon.report.html import Figure, Report, Section, Table, difference_figure, grey_figure, write_report

__all__ = ["Solved", "default_metrics", "score_table", "solution_report"]

_CURVES = {
    "objective": "Objective",
    "residual": "Residual",
    "change": "Relative change of the image",
    "primal": "Primal residual",
    "dual": "Dual residual",
    "psnr": "PSNR [dB]",
}


class Solved(Protocol):
    """What a report reads of a solution; see `recon.Solution`."""

    @property
    def image(self) -> Tensor:
        """`(*batch, *item)`."""

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

    @property
    def problem(self) -> Problem | None:
        """What was solved, if it is at hand."""


def default_metrics(item_shape: Sequence[int], unit: str = "") -> tuple[Metric, ...]:
    """What images are judged by unless the caller says: PSNR and SSIM on the reference's range, NMSE, RMSE.

    SSIM is left out where an image does not hold one of its windows. Attenuation in 1/mm gets its RMSE in
    HU, since a PSNR of CT says little without it.
    """
    error = RMSEHU() if unit == "1/mm" else RMSE()
    ssim = SSIM(data_range="max-min")
    holds_window = len(item_shape) > 1 and min(item_shape[-2:]) > 2 * ssim.radius
    return (PSNR(data_range="max-min"), *([ssim] if holds_window else []), NMSE(), error)


def solution_report(
    solution: Solved,
    path: str | Path,
    reference: Tensor | None = None,
    *,
    item_ndim: int | None = None,
    metrics: Iterable[Any] | None = None,
    window: Window | None = None,
    unit: str = "",
    title: str = "Reconstruction",
    summary: str = "",
) -> Path:
    """Write one self-contained HTML page about a solution and return its path.

    Args:
        solution: image, history, why it stopped, what produced it; eight items of a batch are shown.
        path: file to write; its folder is created, and nothing half-written is left on an error.
        reference: ground truth of the shape of the image, or one item for the whole batch.
        item_ndim: number of axes of one image; else the problem's, or 2 if the solution holds no problem.
        metrics: what to score with, as `recon.metrics.evaluate` takes them; else `default_metrics`.
        window: (black, white) of the pictures; else from the percentiles of the reference or the image.
        unit: of the image's values, e.g. "1/mm".
        title: of the page.
        summary: a sentence about the job; what the solver did is added.

    Raises:
        ValueError: image and reference do not fit, metrics without reference, an image that cannot be shown.
    """
    if metrics is not None and reference is None:
        raise ValueError("metrics compare with a reference: give reference=, or leave metrics out")
    image = solution.image.detach()
    if item_ndim is None:
        item_ndim = 2 if solution.problem is None else len(solution.problem.operator.domain_shape)
    if image.ndim < item_ndim:
        raise ValueError(f"the image has shape {tuple(image.shape)}, an item {item_ndim} axes (item_ndim)")
    item = image.shape[image.ndim - item_ndim :]
    images = image.reshape(-1, *item)
    references = None
    sections = []
    if reference is not None:
        reference = reference.detach().to(image.device)
        chosen = default_metrics(item, unit) if metrics is None else metrics
        scores = evaluate(image, reference, chosen, item_ndim=item_ndim)
        references = reference.expand_as(image).reshape(-1, *item)
        sections.append(Section(title="Scores", tables=[score_table(scores, images.shape[0])]))
    sections.insert(0, _images(images, references, window, unit))
    sections += [_run(solution), _convergence(solution.history, images.shape[0])]
    if solution.weight_search:
        sections.append(_search(solution.weight_search, images.shape[0]))
    report = Report(
        title=title,
        summary=f"{summary}\n\n{_outcome(solution)}" if summary else _outcome(solution),
        warning="" if solution.converged else "Not converged: the image may still change.",
        sections=sections,
        provenance=solution.provenance,
    )
    return write_report(path, report)


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


def _images(images: Tensor, references: Tensor | None, window: Window | None, unit: str) -> Section:
    count = images.shape[0]
    if count == 0:
        return Section(title="Images", text="The batch is empty: there is no image to show.")
    shown = min(count, ITEMS_SHOWN)
    figures = []
    for index in range(shown):
        image, truth = images[index], None if references is None else references[index]
        grey = window or display_window(image if truth is None else truth)
        which = f", item {index}" if count > 1 else ""
        figures.append(grey_figure(image, f"Reconstruction{which}", window=grey, unit=unit))
        if truth is not None:
            figures.append(grey_figure(truth, f"Reference{which}", window=grey, unit=unit))
            name = f"Reconstruction \N{MINUS SIGN} reference{which}"
            figures.append(difference_figure(image, truth, name, unit=unit))
    text = f"The first {shown} of {count} items are shown." if shown < count else ""
    alone = references is None
    return Section(
        title="Images",
        text=text,
        figures=figures,
        figures_per_row=min(count, 4) if alone and count > 1 else 2 if alone else 3,
    )


def _run(solution: Solved) -> Section:
    """Facts of the run."""
    rows = [
        ("stopped because", _per_item_fact(solution.reasons)),
        ("converged", "yes" if solution.converged else "no"),
        ("iterations", str(solution.iterations)),
        ("time", _with_unit(f"{solution.seconds:.3g}", "s")),
    ]
    if solution.weight is not None:
        weights = solution.weight if isinstance(solution.weight, Sequence) else [solution.weight]
        rows.append(("weight of the prior", _per_item_fact([f"{weight:.4g}" for weight in weights])))
    return Section(title="Run", tables=[Table(columns=("", ""), rows=rows, caption="How the solver ended")])


def _convergence(history: Mapping[str, Sequence[Any]], items: int) -> Section:
    """One plot a quantity of the history; the two residuals of one image share theirs."""
    steps = [float(step) for step in history.get("iteration", ())]
    if len(steps) < 2 or steps[-1] <= 1:
        return Section(
            title="Convergence", text="The history holds no curve: the image was computed in one step."
        )
    columns = {
        name: _per_item(name, column, len(steps))
        for name, column in history.items()
        if name not in ("iteration", "seconds")
    }
    figures = []
    if items == 1 and "primal" in columns and "dual" in columns:
        both = {"primal": columns.pop("primal")[0], "dual": columns.pop("dual")[0]}
        figures.append(_plot(steps, "Primal and dual residual", both))
    for name, curves in columns.items():
        shown = curves[: min(items, ITEMS_SHOWN)]
        label = _CURVES.get(name, name)
        if any(math.isfinite(value) for curve in shown for value in curve):
            named = {
                label if len(curves) == 1 else f"item {index}": curve for index, curve in enumerate(shown)
            }
            figures.append(_plot(steps, label, named))
    return Section(title="Convergence", figures=figures, figures_per_row=2)


def _search(looks: Sequence[Mapping[str, Any]], items: int) -> Section:
    """How the weight was found: its course, and for one image how the residual met its target."""
    steps = [float(look) for look in range(1, len(looks) + 1)]
    columns = {
        name: _per_item(name, [look[name] for look in looks], len(looks))
        for name in ("weight", "residual", "target")
    }
    shown = columns["weight"][:ITEMS_SHOWN]
    weights = {"weight" if items == 1 else f"item {index}": curve for index, curve in enumerate(shown)}
    figures = [_plot(steps, "Weight of the prior", weights, "look")]
    if items == 1:
        residual = {"residual": columns["residual"][0], "target": columns["target"][0]}
        figures.append(_plot(steps, "Residual relative to the noise", residual, "look"))
    return Section(
        title="Search for the weight",
        text="The weight is chosen so that the residual is what the noise explains.",
        figures=figures,
        figures_per_row=2,
    )


def _per_item(name: str, column: Sequence[Any], records: int) -> list[list[float]]:
    """One column of the history as one curve an item."""
    entries = [list(entry) if isinstance(entry, Sequence) else [entry] for entry in column]
    if len(entries) != records or len({len(entry) for entry in entries}) != 1:
        raise ValueError(f"the history of {name!r} does not have one entry per record of 'iteration'")
    return [[float(value) for value in curve] for curve in zip(*entries, strict=True)]


def _plot(
    steps: Sequence[float], title: str, curves: Mapping[str, Sequence[float]], step: str = "iteration"
) -> Figure:
    ends = "; ".join(
        f"{'' if len(curves) == 1 else label + ' '}from {first:.3g} to {last:.3g}"
        for label, (first, last) in ((label, _ends(curve)) for label, curve in curves.items())
    )
    return Figure(
        png=convergence_png(steps, curves, x_label=step),
        dark_png=convergence_png(steps, curves, x_label=step, theme="dark"),
        alt=f"{title} up to {step} {steps[-1]:g}: {ends}",
        caption=title,
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)] or [math.nan]
    return finite[0], finite[-1]


def _outcome(solution: Solved) -> str:
    steps = f"{solution.iterations} iteration{'' if solution.iterations == 1 else 's'}"
    seconds = _with_unit(f"{solution.seconds:.3g}", "s")
    if solution.converged:
        return f"Converged after {steps} in {seconds}: {solution.reason}."
    return f"Stopped after {steps} in {seconds} without converging: {solution.reason}."


def _per_item_fact(words: Sequence[str]) -> str:
    """One text if all items agree, else the first eight in a list."""
    if len(set(words)) <= 1:
        return words[0] if words else "none"
    listed = "; ".join(f"item {index}: {word}" for index, word in enumerate(words[:ITEMS_SHOWN]))
    return listed + (f"; … ({len(words)} items)" if len(words) > ITEMS_SHOWN else "")


def _metric_name(score: Score) -> str:
    arrow = "\N{UPWARDS ARROW}" if score.higher_is_better else "\N{DOWNWARDS ARROW}"
    return f"{score.name} {arrow}"


def _value(score: Score, value: float) -> str:
    return _with_unit(f"{value:.2f}" if score.unit == "dB" else f"{value:.4g}", score.unit)


def _with_unit(number: str, unit: str) -> str:
    return f"{number}\N{NO-BREAK SPACE}{unit}" if unit else number
