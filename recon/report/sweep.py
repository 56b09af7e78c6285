"""What a sweep found: the table, the curves, a picture for each variable, and one page."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from recon.files import written_whole
from recon.metrics import PSNR
from recon.problem import Problem
from recon.report.figures import display_window
from recon.report.html import Figure, Record, Report, Section, Table, grey_figure, write_report
from recon.report.sweep_figures import QUANTITIES, Line, chart, picture
from recon.solution import Solution

if TYPE_CHECKING:
    from recon.sweeps.naming import Variable
    from recon.sweeps.plan import Configuration
    from recon.sweeps.running import Sweep

DASH = "\N{EN DASH}"
SCORES = ("psnr", "best_psnr", "best_iteration", "mse", "psnr_data", "mse_data")
HEADINGS = {
    "psnr": "PSNR [dB]",
    "best_psnr": "best on the way [dB]",
    "best_iteration": "at iteration",
    "mse": "MSE",
    "psnr_data": "PSNR of the data [dB]",
    "mse_data": "MSE of the data",
}
FORMATS = {"psnr": ".2f", "best_psnr": ".2f", "best_iteration": ".0f", "psnr_data": ".2f"}


def write_sweep(sweep: Sweep) -> Path:
    """Write ``table.md``, ``table.csv``, ``curves.csv``, ``index.html`` and a picture for each variable."""
    titles = titles_of(sweep)
    rows = summary(sweep)
    problem = Problem.load(sweep.problem)
    with written_whole(sweep.output / "table.md") as temporary:
        temporary.write_text(_markdown(sweep, problem, rows, titles), "utf-8")
    _write_table(sweep, rows)
    _write_curves(sweep)
    sections = [Section(title="Configurations", tables=[_table(rows, titles, notes_of(sweep))])]
    shown = []
    for variable in sweep.variables:
        parts, drawn = _variable(sweep, variable, titles, problem)
        sections += parts
        if drawn is not None:
            name = f"{variable.key}.png"
            with written_whole(sweep.output / name) as temporary:
                temporary.write_bytes(drawn)
            shown.append(name)
    remarks = [
        (cell.configuration, str(cell.seed), text)
        for cell in sweep.cells
        for text in (cell.error, *cell.warnings)
        if text
    ]
    if remarks:
        columns, caption = ("configuration", "seed", "what was said"), "Errors and warnings"
        sections.append(
            Section(title=caption, tables=[Table(columns=columns, rows=remarks, caption=caption)])
        )
    open_ones = sum(cell.status != "finished" for cell in sweep.cells)
    warning = (
        f"{open_ones} of {len(sweep.cells)} runs have no result: run the sweep again to go on."
        if open_ones
        else ""
    )
    page = Report(
        title=sweep.title + (f", size {sweep.size}" if sweep.size else ""),
        summary=_summary(sweep, problem),
        warning=warning,
        sections=sections,
        provenance=[Record(title="What all runs share", values=sweep.facts)],
    )
    return write_report(sweep.output / "index.html", page)


def summary(sweep: Sweep) -> list[dict[str, Any]]:
    """One row a configuration: mean of each score, and its standard deviation over the seeds where there are more."""
    rows = []
    for configuration in sweep.configurations:
        cells = sweep.of(configuration)
        row: dict[str, Any] = {
            "configuration": configuration.label,
            "settings": configuration.settings,
            "runs": len(cells),
        }
        for name in SCORES:
            values = [cell.scores[name] for cell in cells if name in cell.scores]
            row[name] = statistics.fmean(values) if values else None
            row[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else None
        seconds = [cell.seconds for cell in cells if cell.seconds is not None]
        row["seconds"] = statistics.fmean(seconds) if seconds else None
        rows.append(row)
    return rows


def titles_of(sweep: Sweep) -> dict[str, str]:
    """What each quantity is called for this measurement: PSNR(LR) and PSNR(HR) where it takes pixels away."""
    titles = dict(QUANTITIES)
    if sweep.facts.get("operator", {}).get("name") == "downsample":
        titles |= {
            "psnr": "PSNR(HR), of the large image [dB]",
            "psnr_data": "PSNR(LR), of the small image [dB]",
            "mse": "MSE(HR), of the large image",
            "mse_data": "MSE(LR), of the small image",
        }
    return titles


def notes_of(sweep: Sweep) -> list[str]:
    """What the figures mean: images, peak, units, seeds."""
    peak = sweep.facts["peak"]
    unit = sweep.facts["notes"].get("unit")
    squares = f"squares of {unit}" if unit else "squares of the image's and of the data's values"
    against = (
        "the largest magnitude of the true image, and of the data for theirs" if peak is None else f"{peak:g}"
    )
    return [
        "PSNR and MSE of the image are against the true image, the image that was measured; those of the data compare "
        "what the image predicts with what was measured. They are of the image that a run returns; the best PSNR is "
        "the largest on the way, which nobody knows without the true image.",
        f"The peak of PSNR is {against}; MSE is in {squares}, the same in every row.",
        f"Seeds: {', '.join(map(str, sweep.facts['seeds']))}; every run begins with fresh weights and input, the "
        "measurement is the same for all. After a mean stands the standard deviation over the seeds.",
    ]


def cell_text(row: Mapping[str, Any], name: str) -> str:
    """A score with its spread, as it is printed."""
    if row[name] is None:
        return DASH
    form = FORMATS.get(name, ".3g")
    text, spread = f"{row[name]:{form}}", row[f"{name}_std"]
    return text if spread is None else f"{text} \N{PLUS-MINUS SIGN} {spread:{FORMATS.get(name, '.2g')}}"


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The scores that any configuration has."""
    return [name for name in SCORES if any(row[name] is not None for row in rows)]


def heading(name: str, titles: Mapping[str, str]) -> str:
    """A score's name at the head of a column: what comes before the comma, if a title has one."""
    title, comma, _ = titles.get(name, "").partition(",")
    if comma:
        return f"{title} [dB]" if name.startswith("psnr") else title
    return HEADINGS[name]


def _table(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str], notes: Sequence[str]) -> Table:
    scores = columns_of(rows)
    cells = [
        [
            row["configuration"],
            str(row["runs"]),
            *(cell_text(row, name) for name in scores),
            DASH if row["seconds"] is None else f"{row['seconds']:.3g} s",
        ]
        for row in rows
    ]
    best = _best(rows, scores)
    return Table(
        columns=("configuration", "runs", *(heading(name, titles) for name in scores), "time"),
        rows=cells,
        caption="Every configuration",
        notes=notes,
        best=best,
    )


def _best(rows: Sequence[Mapping[str, Any]], scores: Sequence[str]) -> frozenset[tuple[int, int]]:
    marks = set()
    for column, name in enumerate(scores, 2):
        if name not in ("psnr", "mse", "best_psnr"):
            continue
        known = [(row[name], line) for line, row in enumerate(rows) if row[name] is not None]
        if known:
            marks.add(((min if name == "mse" else max)(known)[1], column))
    return frozenset(marks)


def _markdown(
    sweep: Sweep, problem: Problem, rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]
) -> str:
    scores = columns_of(rows)
    lines = [
        f"# {sweep.title}" + (f" (size {sweep.size})" if sweep.size else ""),
        "",
        _summary(sweep, problem),
        "",
        "| configuration | runs | " + " | ".join(heading(name, titles) for name in scores) + " | seconds |",
        "|---" * (len(scores) + 3) + "|",
    ]
    for row in rows:
        seconds = DASH if row["seconds"] is None else f"{row['seconds']:.3g}"
        cells = " | ".join(cell_text(row, name) for name in scores)
        lines.append(f"| {row['configuration']} | {row['runs']} | {cells} | {seconds} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes_of(sweep))]) + "\n"


def _write_table(sweep: Sweep, rows: Sequence[Mapping[str, Any]]) -> None:
    names = [variable.key for variable in sweep.variables]
    scores = [column for name in columns_of(rows) for column in (name, f"{name}_std")]
    with (
        written_whole(sweep.output / "table.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(["configuration", *names, "runs", *scores, "seconds"])
        for row in rows:
            own = [row["settings"][name] for name in names]
            values = [
                row["configuration"],
                *own,
                row["runs"],
                *(row[name] for name in scores),
                row["seconds"],
            ]
            table.writerow(["" if value is None else value for value in values])


def _write_curves(sweep: Sweep) -> None:
    """Every recorded value of every run, a line an iteration."""
    with (
        written_whole(sweep.output / "curves.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(["configuration", "seed", "iteration", *QUANTITIES])
        for cell in sweep.cells:
            for index, step in enumerate(cell.curves.get("iteration", ())):
                values = [cell.curves[name][index] if name in cell.curves else "" for name in QUANTITIES]
                table.writerow([cell.configuration, cell.seed, int(step), *values])


def lines_of(sweep: Sweep, variable: Variable) -> list[Line]:
    """A curve for every value of a variable: the other variables at their base, or in a grid where they are best."""
    from recon.sweeps.naming import shown

    base = {other.key: other.base for other in sweep.variables}
    lines = []
    values = list(variable.values)
    if not sweep.grid and variable.base not in values:
        values.insert(0, variable.base)
    for number, value in enumerate(values):
        having = [one for one in sweep.configurations if one.settings[variable.key] == value]
        label = f"{variable.name}={shown(value)}"
        if sweep.grid:
            chosen = _best_of(sweep, having)
            others = {
                key: own for key, own in (chosen.settings if chosen else {}).items() if key != variable.key
            }
            if others:
                label += (
                    " ("
                    + ", ".join(f"{key.rpartition('.')[2]}={shown(own)}" for key, own in others.items())
                    + ")"
                )
        else:
            chosen = next((one for one in having if one.settings == base | {variable.key: value}), None)
            label += " (base)" if value == variable.base else ""
        cells = [] if chosen is None else sweep.of(chosen)
        if cells:
            lines.append(Line(label, cells, number))
    return lines


def _best_of(sweep: Sweep, among: Sequence[Configuration]) -> Configuration | None:
    """The configuration of the best mean PSNR, or where there is none, of the least loss."""
    scored = []
    for place, one in enumerate(among):
        cells = sweep.of(one)
        if cells:
            value = statistics.fmean(cell.scores.get("psnr", -cell.scores["loss"]) for cell in cells)
            scored.append((value, -place, one))
    return max(scored, key=lambda item: item[:2])[2] if scored else None


def _variable(
    sweep: Sweep, variable: Variable, titles: Mapping[str, str], problem: Problem
) -> tuple[list[Section], bytes | None]:
    """Charts and images of one variable, and both as one picture."""
    lines = lines_of(sweep, variable)
    title = f"{variable.key}: {variable.parameter.about.description}".rstrip(": ")
    if not lines:
        return [Section(title=title, text="No run of this variable is finished.")], None
    charts = {name: chart(lines, name, variable.name, titles[name]) for name in QUANTITIES}
    drawn = {name: figure for name, figure in charts.items() if figure is not None}
    images = _images(lines, problem, measured_alike(sweep, lines))
    notes = _image_notes(lines, direct_psnr(sweep, problem))
    window = problem.image_range or display_window(next(iter(images.values())))
    panels = [_panel(label, image, window, notes, problem) for label, image in images.items()]
    text = (
        "Each value with the best values of the other variables."
        if sweep.grid
        else "The other variables are at their base."
    )
    if max(len(line.cells) for line in lines) > 1:
        text += " Curves are means over the seeds, shaded by one standard deviation either way."
    seen = f"Of seed {lines[0].cells[0].seed}."
    sections = [
        Section(title=title, text=text, figures=list(drawn.values()), figures_per_row=2),
        Section(title=f"{variable.key}: images", text=seen, figures=panels, figures_per_row=4),
    ]
    beside = [drawn[name] for name in ("psnr", "mse", "psnr_data", "mse_data", "loss") if name in drawn][:2]
    if "downsample" in str(sweep.facts.get("operator", {}).get("name")):
        beside = [drawn[name] for name in ("psnr_data", "psnr") if name in drawn] or beside
    colours = {line.label: line.colour for line in lines}
    whole = picture(f"{sweep.title}: {variable.name}", beside, images, window, notes, colours)
    return sections, whole


def _panel(
    label: str, image: torch.Tensor, window: tuple[float, float], notes: Mapping[str, str], problem: Problem
) -> Figure:
    said = f"{label}, {notes[label]}" if label in notes else label
    return grey_figure(image, said, window=window, unit=str(problem.notes.get("unit") or ""))


def measured_alike(sweep: Sweep, lines: Sequence[Line]) -> bool:
    """Whether all lines are of the measurement that the first configuration is of."""
    keys = [variable.key for variable in sweep.variables if variable.key.startswith(("operator.", "noise."))]
    first = sweep.configurations[0].settings
    return all(line.cells[0].settings[key] == first[key] for line in lines for key in keys)


def _images(lines: Sequence[Line], problem: Problem, with_data: bool) -> dict[str, torch.Tensor]:
    """The true image, the data, or where they are no such image what is directly made of them, and each line's."""
    images: dict[str, torch.Tensor] = {}
    if problem.reference is not None:
        images["true image"] = problem.unflatten(problem.reference)
    if with_data and problem.data.shape == problem.operator.domain_shape and not problem.data.is_complex():
        images["data"] = problem.data
    elif with_data:
        images["direct"] = problem.operator.pinv(problem.data)
    for line in lines:
        images[line.label] = Solution.load(line.cells[0].folder).image
    return {label: image.detach().cpu() for label, image in images.items()}


def _image_notes(lines: Sequence[Line], direct: float | None) -> dict[str, str]:
    notes = {
        line.label: f"{line.cells[0].scores['psnr']:.2f} dB"
        for line in lines
        if "psnr" in line.cells[0].scores
    }
    return (
        notes if direct is None else notes | {"data": f"direct {direct:.2f} dB", "direct": f"{direct:.2f} dB"}
    )


def direct_psnr(sweep: Sweep, problem: Problem) -> float | None:
    """PSNR of the direct reconstruction, which every run should beat; None: no true image, or several measurements."""
    truth = problem.reference
    if truth is None or any(one.key.startswith(("operator.", "noise.")) for one in sweep.variables):
        return None
    peak = sweep.facts["peak"] or float(truth.abs().max())
    direct = problem.operator.pinv(problem.y)
    return float(PSNR(data_range=peak)(direct, truth, item_ndim=truth.ndim)) if peak > 0 else None


def _summary(sweep: Sweep, problem: Problem) -> str:
    count = sum(cell.status == "finished" for cell in sweep.cells)
    names = ", ".join(variable.key for variable in sweep.variables)
    way = "every combination" if sweep.grid else "one variable at a time around the base"
    parts = [f"{count} of {len(sweep.cells)} runs are finished. Varied: {names}; {way}."]
    base = sweep.facts["base"]
    if base and not sweep.grid:
        parts.append("Base: " + ", ".join(f"{key}={value}" for key, value in base.items()) + ".")
    best = max(
        (row for row in summary(sweep) if row["psnr"] is not None), key=lambda row: row["psnr"], default=None
    )
    if best is not None:
        parts.append(f"Best at the end: {best['configuration']}, {cell_text(best, 'psnr')} dB.")
    direct = direct_psnr(sweep, problem)
    if direct is not None:
        parts.append(f"The direct reconstruction has {direct:.2f} dB.")
    return " ".join(parts)
