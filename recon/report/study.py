"""The page of a study: every scan in a table, its picture, and the way to its results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from recon.memory import in_words
from recon.report.html import Figure, Report, Section, Table, write_report
from recon.report.methods import with_unit

if TYPE_CHECKING:
    from recon.study import Scan, Study

PICTURES = 24  # a page of more is slow to open
DASH = "\N{EN DASH}"


def study_report(study: Study, path: Path) -> Path:
    """Write the page of a study and return its path; pictures and links are of the results beside it."""
    rows, links = [], {}
    metrics = list(dict.fromkeys(name for scan in study.scans for name in scan.scores))
    for line, scan in enumerate(study.scans):
        rows.append([scan.name, _status(scan), *(_score(scan, name) for name in metrics), *_facts(scan)])
        target = _target(scan)
        if target is not None:
            links[line, 0] = quote(target.relative_to(path.parent).as_posix())
    table = Table(
        columns=("scan", "status", *metrics, "iterations", "time", "stopped because", "memory", "worker"),
        rows=rows,
        links=links,
        caption="Every scan of the study",
        notes=["Scores are means over a scan's images, against the reference in its problem file."]
        if metrics
        else (),
    )
    sections = [Section(title="Scans", tables=[table])]
    remarks = [(scan.name, text) for scan in study.scans for text in (scan.error, *scan.warnings) if text]
    if remarks:
        columns, caption = ("scan", "what was said"), "Errors and warnings"
        sections.append(
            Section(title=caption, tables=[Table(columns=columns, rows=remarks, caption=caption)])
        )
    pictures = _pictures(study.scans)
    if pictures:
        shown = f"The first {len(pictures)} are shown." if len(pictures) == PICTURES else ""
        sections.append(Section(title="Images", text=shown, figures=pictures, figures_per_row=4))
    unfinished = len(study.scans) - sum(scan.status == "finished" for scan in study.scans)
    warning = (
        f"{unfinished} of {len(study.scans)} scans have no result: run the study again to go on."
        if unfinished
        else ""
    )
    return write_report(
        path, Report(title="Study", summary=_summary(study), warning=warning, sections=sections)
    )


def _summary(study: Study) -> str:
    finished = [scan for scan in study.scans if scan.status == "finished"]
    solved = sum(scan.seconds or 0.0 for scan in finished)
    return f"{len(finished)} of {len(study.scans)} scans are finished, {solved:.3g} s of solving in all."


def _status(scan: Scan) -> str:
    if scan.status != "finished":
        return scan.status
    return "finished" if scan.converged else "finished, not converged"


def _score(scan: Scan, name: str) -> str:
    return f"{scan.scores[name]:.4g}" if name in scan.scores else DASH


def _facts(scan: Scan) -> list[str]:
    if scan.status != "finished":
        return [DASH] * 5
    return [
        str(scan.iterations),
        with_unit(f"{scan.seconds:.3g}", "s"),
        scan.reason,
        DASH if scan.peak_memory is None else in_words(scan.peak_memory),
        scan.worker,
    ]


def _target(scan: Scan) -> Path | None:
    """The scan's own page, else its picture, else nothing."""
    if scan.status != "finished":
        return None
    places = [Path(scan.folder) / name for name in ("report.html", "image.png", "solution.h5")]
    return next((place for place in places if place.is_file()), None)


def _pictures(scans: Sequence[Scan]) -> list[Figure]:
    figures: list[Figure] = []
    for scan in scans:
        picture = Path(scan.folder) / "image.png"
        if scan.status == "finished" and picture.is_file() and len(figures) < PICTURES:
            figures.append(
                Figure(png=picture.read_bytes(), alt=f"the reconstruction of {scan.name}", caption=scan.name)
            )
    return figures
