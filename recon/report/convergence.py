"""How methods converged: their histories as curves against the iteration and against seconds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from recon.report.figures import ITEMS_SHOWN, Curve, curves_png
from recon.report.html import Figure, Section
from recon.report.methods import Method

__all__ = ["convergence", "weight_search"]

_NAMES = {
    "objective": "Objective",
    "residual": "Residual",
    "psnr": "PSNR [dB]",
    "change": "Relative change of the image",
    "primal": "Primal residual",
    "dual": "Dual residual",
}
_IN_TIME = ("objective", "residual", "psnr")


def convergence(methods: Sequence[Method]) -> Section:
    """One plot a quantity with a curve a method; what matters most against seconds, too.

    The two residuals of one image share a plot. Of a batch each item is a curve, the first eight of them; of
    several methods' batches the first item.

    Raises:
        ValueError: a history whose columns differ in length.
    """
    curves = {method.name: _curves_of(method) for method in methods}
    if not any(curves.values()):
        one = "The history holds no curve: the image was computed in one step."
        several = "No method has a history with a curve: the images were computed in one step."
        return Section(title="Convergence", text=one if len(methods) == 1 else several)
    figures = []
    if len(methods) == 1:
        figures += _both_residuals(curves[methods[0].name], len(methods[0].items))
    known = [name for name in _NAMES if any(name in own for own in curves.values())]
    others = dict.fromkeys(name for own in curves.values() for name in own if name not in _NAMES)
    for quantity in [*known, *(name for name in others if name != "seconds")]:
        figures += _quantity(quantity, curves, alone=len(methods) == 1)
    text = []
    if len(methods) > 1:
        text.append(
            "Objectives with different priors or weights are different functions: compare where they become "
            "flat, not how high they are."
        )
        if any(method.solved is not None and method.solved.weight_search for method in methods):
            text.append("Seconds count the search for a weight.")
        if any(len(method.items) > 1 for method in methods):
            text.append("The curves are those of the first item.")
        missing = [name for name, own in curves.items() if not own]
        if missing:
            text.append(f"Without iterations, and so without a curve: {', '.join(missing)}.")
    return Section(title="Convergence", text=" ".join(text), figures=figures, figures_per_row=2)


def _curves_of(method: Method) -> dict[str, list[list[float]]]:
    """Column of the history -> one list of values an item; {} where there is no curve."""
    history = {} if method.solved is None else method.solved.history
    steps = list(history.get("iteration", ()))
    if len(steps) < 2 or steps[-1] <= 1:
        return {}
    return {name: _per_item(name, column, len(steps)) for name, column in history.items()}


def _both_residuals(own: dict[str, list[list[float]]], items: int) -> list[Figure]:
    """The primal and the dual residual of one image, which then need no plot of their own."""
    if items != 1 or "primal" not in own or "dual" not in own:
        return []
    steps = own["iteration"][0]
    both = {name: (steps, own.pop(name)[0]) for name in ("primal", "dual")}
    return [_plot("Primal and dual residual", both)]


def _quantity(
    quantity: str, curves: Mapping[str, dict[str, list[list[float]]]], *, alone: bool
) -> list[Figure]:
    if quantity == "iteration":
        return []
    title = _NAMES.get(quantity, quantity)
    axes = {"iteration": "iteration"} | ({"seconds": "seconds"} if quantity in _IN_TIME else {})
    figures = []
    for axis, label in axes.items():
        drawn: dict[str, Curve] = {}
        colours = []
        for number, (name, own) in enumerate(curves.items()):
            if quantity not in own or axis not in own:
                continue
            items = own[quantity][: ITEMS_SHOWN if alone else 1]
            for index, values in enumerate(items):
                key = f"item {index}" if len(items) > 1 else title if alone else name
                drawn[key] = (own[axis][min(index, len(own[axis]) - 1)], values)
                colours.append(index if alone else number)
        if any(math.isfinite(value) for _, values in drawn.values() for value in values):
            figures.append(_plot(title, drawn, label, colours))
    return figures


def weight_search(name: str, looks: Sequence[Mapping[str, Any]], items: int) -> Section:
    """How a method's weight was found: its course, and for one image what the rule went by."""
    steps = [float(look) for look in range(1, len(looks) + 1)]
    columns = {column: _per_item(column, [look[column] for look in looks], len(looks)) for column in looks[0]}
    shown = columns["weight"][:ITEMS_SHOWN]
    weights = {
        "weight" if items == 1 else f"item {index}": (steps, curve) for index, curve in enumerate(shown)
    }
    figures = [_plot("Weight of the prior", weights, "look")]
    rule = "risk" if "risk" in columns else "curvature" if "curvature" in columns else "residual"
    if items == 1:
        one = {column: curves[0] for column, curves in columns.items()}
        figures.append({"risk": _risk, "curvature": _lcurve, "residual": _discrepancy}[rule](one, steps))
    return Section(
        title="Search for the weight" + (f": {name}" if name else ""),
        text=_RULES[rule],
        figures=figures,
        figures_per_row=2,
    )


_RULES = {
    "residual": "The weight is chosen so that the residual is what the noise explains.",
    "risk": "The weight is chosen where the estimated error of the predicted data is least.",
    "curvature": "The weight is chosen at the corner of the L-curve, where misfit turns into penalty.",
}


def _discrepancy(columns: Mapping[str, list[float]], steps: list[float]) -> Figure:
    residual = {name: (steps, columns[name]) for name in ("residual", "target")}
    return _plot("Residual relative to the noise", residual, "look")


def _risk(columns: Mapping[str, list[float]], steps: list[float]) -> Figure:
    pairs = sorted(zip(map(math.log10, columns["weight"]), columns["risk"], strict=True))
    curve = ([weight for weight, _ in pairs], [risk for _, risk in pairs])
    return _plot(
        "Estimated error of the prediction, in noise variances", {"risk": curve}, "log10 of the weight"
    )


def _lcurve(columns: Mapping[str, list[float]], steps: list[float]) -> Figure:
    pairs = [
        (math.log10(residual), penalty)
        for residual, penalty in zip(columns["residual"], columns["penalty"], strict=True)
        if residual > 0
    ]
    curve = ([residual for residual, _ in pairs], [penalty for _, penalty in pairs])
    return _plot("L-curve: penalty against misfit", {"penalty": curve}, "log10 of the misfit")


def _per_item(name: str, column: Sequence[Any], records: int) -> list[list[float]]:
    """One column of the history as one curve an item."""
    entries = [list(entry) if isinstance(entry, Sequence) else [entry] for entry in column]
    if len(entries) != records or len({len(entry) for entry in entries}) != 1:
        raise ValueError(f"the history of {name!r} does not have one entry per record of 'iteration'")
    return [[float(value) for value in curve] for curve in zip(*entries, strict=True)]


def _plot(
    title: str, curves: Mapping[str, Curve], step: str = "iteration", colours: Sequence[int] | None = None
) -> Figure:
    ends = "; ".join(
        f"{'' if len(curves) == 1 else label + ' '}from {first:.3g} to {last:.3g}"
        for label, (first, last) in ((label, _ends(values)) for label, (_, values) in curves.items())
    )
    last = max(steps[-1] for steps, _ in curves.values())
    light, dark = (
        curves_png(curves, x_label=step, theme=theme, colours=colours) for theme in ("light", "dark")
    )
    until = f"{last:.3g} seconds" if step == "seconds" else f"{step} {last:g}"
    caption = f"{title} against seconds" if step == "seconds" else title
    return Figure(png=light, dark_png=dark, alt=f"{title} up to {until}: {ends}", caption=caption)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)] or [math.nan]
    return finite[0], finite[-1]
