"""The report on one solution: pictures, scores, convergence, why it stopped, what produced it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from recon.metrics import NMSE, PSNR, RMSE, RMSEHU, SSIM, Metric, Score, evaluate
from recon.report.figures import Window, convergence_png, difference_limit, display_window
from recon.report.html import Figure, Report, Section, Table, difference_figure, grey_figure, write_report

__all__ = ["ITEMS_SHOWN", "Solved", "default_metrics", "score_table", "solution_report"]

ITEMS_SHOWN = 8

_CURVES = {
    "objective": "Objective",
    "residual": "Residual",
    "change": "Relative change of the image",
    "primal": "Primal residual",
    "dual": "Dual residual",
    "weight": "Weight of the prior",
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
    def reason(self) -> Any:
        """Why it stopped: a text, or one per item."""

    @property
    def converged(self) -> Any:
        """Whether it converged: yes or no, or one per item."""

    @property
    def iterations(self) -> Any:
        """Iterations: a number, or one per item."""

    @property
    def seconds(self) -> float:
        """Wall time."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What produced it."""

    @property
    def weight(self) -> Any:
        """The prior's weight: a number, one per item, or None."""


def default_metrics(unit: str = "") -> tuple[Metric, ...]:
    """What images are judged by unless the caller says: PSNR and SSIM on the reference's range, NMSE, RMSE.

    Attenuation in 1/mm gets its RMSE in HU, since a PSNR of CT says little without it.
    """
    error = RMSEHU() if unit == "1/mm" else RMSE()
    return (PSNR(data_range="max-min"), SSIM(data_range="max-min"), NMSE(), error)


def solution_report(
    solution: Solved,
    path: str | Path,
    reference: Tensor | None = None,
    *,
    item_ndim: int = 2,
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
        item_ndim: number of axes of one image.
        metrics: what to score with, as `recon.metrics.evaluate` takes them; else `default_metrics(unit)`.
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
    if image.ndim < item_ndim:
        raise ValueError(f"the image has shape {tuple(image.shape)}, an item {item_ndim} axes (item_ndim)")
    item = image.shape[image.ndim - item_ndim :]
    images = image.reshape(-1, *item)
    references = None
    sections = []
    if reference is not None:
        reference = reference.detach().to(image.device)
        chosen = default_metrics(unit) if metrics is None else metrics
        scores = evaluate(image, reference, chosen, item_ndim=item_ndim)
        references = reference.expand_as(image).reshape(-1, *item)
        sections.append(Section(title="Scores", tables=[score_table(scores, images.shape[0])]))
    sections.insert(0, _images(images, references, window, unit))
    sections += [_run(solution), _convergence(solution.history, images.shape[0])]
    report = Report(
        title=title,
        summary=f"{summary}\n\n{_outcome(solution)}" if summary else _outcome(solution),
        warning="" if _all(solution.converged) else "Not converged: the image may still change.",
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
            limit = difference_limit(image, truth)
            name = f"Reconstruction \N{MINUS SIGN} reference{which}"
            figures.append(difference_figure(image, truth, name, limit=limit, unit=unit))
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
        ("stopped because", _fact(solution.reason)),
        ("converged", _fact(solution.converged)),
        ("iterations", _fact(solution.iterations)),
        ("time", _with_unit(f"{solution.seconds:.3g}", "s")),
    ]
    if solution.weight is not None:
        rows.append(("weight of the prior", _fact(solution.weight)))
    return Section(title="Run", tables=[Table(columns=("", ""), rows=rows, caption="How the solver ended")])


def _convergence(history: Mapping[str, Sequence[Any]], items: int) -> Section:
    """One plot a quantity of the history; the two residuals of one image share theirs."""
    steps = [float(step) for step in history.get("iteration", ())]
    if len(steps) < 2:
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


def _per_item(name: str, column: Sequence[Any], records: int) -> list[list[float]]:
    """One column of the history as one curve an item."""
    entries = [list(entry) if isinstance(entry, Sequence) else [entry] for entry in column]
    if len(entries) != records or len({len(entry) for entry in entries}) != 1:
        raise ValueError(f"the history of {name!r} does not have one entry per record of 'iteration'")
    return [[float(value) for value in curve] for curve in zip(*entries, strict=True)]


def _plot(steps: Sequence[float], title: str, curves: Mapping[str, Sequence[float]]) -> Figure:
    ends = "; ".join(
        f"{'' if len(curves) == 1 else label + ' '}from {first:.3g} to {last:.3g}"
        for label, (first, last) in ((label, _ends(curve)) for label, curve in curves.items())
    )
    return Figure(
        png=convergence_png(steps, curves),
        dark_png=convergence_png(steps, curves, theme="dark"),
        alt=f"{title} over {steps[-1]:g} iterations: {ends}",
        caption=title,
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)] or [math.nan]
    return finite[0], finite[-1]


def _outcome(solution: Solved) -> str:
    count = _fact(solution.iterations)
    steps = f"{count} iteration{'' if count == '1' else 's'}" if count.isdigit() else count
    seconds = _with_unit(f"{solution.seconds:.3g}", "s")
    if _all(solution.converged):
        return f"Converged after {steps} in {seconds}: {_fact(solution.reason)}."
    return f"Stopped after {steps} in {seconds} without converging: {_fact(solution.reason)}."


def _all(values: Any) -> bool:
    return all(values) if isinstance(values, Sequence) and not isinstance(values, str) else bool(values)


def _fact(value: Any) -> str:
    """A value for all items, or one per item, in words."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        words = [_fact(item) for item in value]
        if len(set(words)) == 1:
            return words[0]
        listed = "; ".join(f"item {index}: {word}" for index, word in enumerate(words[:ITEMS_SHOWN]))
        return listed + (f"; … ({len(words)} items)" if len(words) > ITEMS_SHOWN else "")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _metric_name(score: Score) -> str:
    arrow = "\N{UPWARDS ARROW}" if score.higher_is_better else "\N{DOWNWARDS ARROW}"
    return f"{score.name} {arrow}"


def _value(score: Score, value: float) -> str:
    return _with_unit(f"{value:.2f}" if score.unit == "dB" else f"{value:.4g}", score.unit)


def _with_unit(number: str, unit: str) -> str:
    return f"{number}\N{NO-BREAK SPACE}{unit}" if unit else number
