"""The report on solutions: images under a divider, scores, convergence, why they stopped, what made them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recon.metrics import Score, evaluate
from recon.report.convergence import convergence, weight_search
from recon.report.figures import ITEMS_SHOWN, Image, Window, checked_window, display_window
from recon.report.gallery import TRUTH, common_differences, grey_figures, viewer_of
from recon.report.html import Figure, Report, Section, write_report
from recon.report.methods import (
    Method,
    Solved,
    accounts,
    comparison_table,
    default_metrics,
    methods_of,
    outcome,
    record_of,
    run_table,
    score_table,
)
from recon.report.uncertainty import uncertainties

__all__ = ["comparison_report", "solution_report"]


def solution_report(
    solution: Solved,
    path: str | Path,
    reference: Image | None = None,
    *,
    compare: Mapping[str, Image | Solved] | None = None,
    name: str = "Reconstruction",
    **options: Any,
) -> Path:
    """Write one self-contained HTML page about a solution and return its path.

    Args:
        solution: image, history, why it stopped, what produced it; eight items of a batch are shown.
        path: file to write; its folder is created, and nothing half-written is left on an error.
        reference: ground truth of the shape of the image, or one item for the whole batch.
        compare: name -> another solution or image of the same shape, set beside it.
        name: of the solution, as the page calls it.
        options: of `comparison_report`.

    Raises:
        ValueError: as `comparison_report`; one name for two methods.
    """
    if name in (compare or {}):
        raise ValueError(
            f"{name!r} is the name of the solution itself: give another name= or rename it in compare"
        )
    options.setdefault("title", "Reconstruction")
    return comparison_report({**(compare or {}), name: solution}, path, reference, **options)


def comparison_report(
    results: Mapping[str, Image | Solved],
    path: str | Path,
    reference: Image | None = None,
    *,
    item_ndim: int | None = None,
    metrics: Iterable[Any] | None = None,
    window: Window | None = None,
    unit: str = "",
    title: str = "Comparison of reconstructions",
    summary: str = "",
) -> Path:
    """Write one self-contained HTML page about results of one or several methods and return its path.

    Args:
        results: name -> solution or image `(*batch, *item)`, all of one shape.
        path: file to write; its folder is created, and nothing half-written is left on an error.
        reference: ground truth of the shape of the images, or one item for the whole batch.
        item_ndim: number of axes of one image; else what the solutions say, or 2.
        metrics: what to score with, as `recon.metrics.evaluate` takes them; else `default_metrics`.
        window: (black, white) of the pictures; else from the percentiles of the reference or the last image.
        unit: of the images' values, e.g. "1/mm".
        title: of the page.
        summary: a sentence about the job; what the solvers did is added.

    Raises:
        ValueError: shapes do not fit, metrics without reference, an image that cannot be shown.
    """
    if metrics is not None and reference is None:
        raise ValueError("metrics compare with a reference: give reference=, or leave metrics out")
    if TRUTH in results:
        raise ValueError(f"{TRUTH!r} is what the page calls the reference: give the method another name")
    methods = methods_of(results, item_ndim)
    first = methods[0]
    item = first.items.shape[1:]
    truths = None
    scores: dict[str, Sequence[Score]] = {}
    if reference is not None:
        truth = torch.as_tensor(reference).detach().cpu()
        chosen = default_metrics(item, unit) if metrics is None else list(metrics)
        for method in methods:
            scores[method.name] = evaluate(method.image, truth, chosen, item_ndim=len(item))
        truths = truth.expand_as(first.image).reshape(-1, *item)
    sections = [*_images(methods, truths, None if window is None else checked_window(window), unit)]
    if scores:
        alone = len(methods) == 1
        table = score_table(scores[first.name], len(first.items)) if alone else comparison_table(scores, unit)
        sections.append(Section(title="Scores", tables=[table]))
    sections += uncertainties(methods, unit)
    solved = [(method, method.solved) for method in methods if method.solved is not None]
    if solved:
        sections += [Section(title="Run", tables=[run_table(methods)]), *accounts(methods)]
        sections.append(convergence(methods))
    for method, run in solved:
        if run.weight_search:
            of = method.name if len(methods) > 1 else ""
            sections.append(weight_search(of, run.weight_search, len(method.items)))
    report = Report(
        title=title,
        summary=_summary(summary, solved),
        warning=_warning(methods),
        sections=sections,
        provenance=[record_of(method) for method in methods],
    )
    return write_report(path, report)


def _summary(summary: str, solved: Sequence[tuple[Method, Solved]]) -> str:
    sentences = [outcome(run) if len(solved) == 1 else f"{m.name}: {outcome(run)}" for m, run in solved]
    return "\n\n".join(filter(None, [summary, *sentences]))


def _warning(methods: Sequence[Method]) -> str:
    unfinished = [m.name for m in methods if m.solved is not None and not m.solved.converged]
    if not unfinished:
        return ""
    if len(methods) == 1:
        return "Not converged: the image may still change."
    return f"Not converged: {', '.join(unfinished)}. An image that has not converged may still change."


def _images(
    methods: Sequence[Method], truths: Tensor | None, window: Window | None, unit: str
) -> list[Section]:
    """Pictures of every method and the reference, the viewer over them, and the difference maps."""
    count = len(methods[0].items)
    if count == 0:
        return [Section(title="Images", text="The batch is empty: there is no image to show.")]
    shown = min(count, ITEMS_SHOWN)
    figures: list[Figure] = []
    differences: list[Figure] = []
    stacks = {}
    for index in range(shown):
        images: dict[str, Tensor] = {method.name: method.items[index] for method in methods}
        layers = images if truths is None else {**images, TRUTH: truths[index]}
        grey = window or display_window([*layers.values()][-1])
        which = f", item {index}" if count > 1 else ""
        pictures = grey_figures(layers, grey, unit, {name: f"{name}{which}" for name in layers})
        stacks[f"item {index}"] = (layers, pictures, grey)
        figures += pictures.values()
        if truths is not None:
            maps = common_differences(images, truths[index], unit, which)
            (figures if len(methods) == 1 else differences).extend(maps)
    layered = len(methods) + (truths is not None)
    last = len(methods) - 1
    viewer = viewer_of(
        stacks,
        unit=unit,
        reference=TRUTH if truths is not None else "",
        left=0,
        right=last or layered - 1,  # a method alone is compared with the reference
    )
    text = f"The first {shown} of {count} items are shown." if shown < count else ""
    together = layered + (len(methods) == 1 and truths is not None)
    alone = layered == 1
    sections = [
        Section(
            title="Images",
            text=text,
            figures=figures,
            figures_per_row=min(count, 4) if alone and count > 1 else 2 if alone else min(together, 4),
            viewer=viewer,
        )
    ]
    if differences:
        sections.append(
            Section(
                title="Differences to the reference",
                text="All on one scale." if count == 1 else "The maps of one item are on one scale.",
                figures=differences,
                figures_per_row=min(together, 4) if count == 1 else max(2, min(len(methods), 4)),
            )
        )
    return sections
