"""Tables of measured figures, read from `benchmarks/results` when the site is built; none is typed by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recon_docs.markdown import table

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
_MARK = re.compile(r"^\{\{ benchmark: (\w+) \}\}$", re.MULTILINE)


def filled(markdown: str) -> str:
    """A page with ``{{ benchmark: NAME }}`` replaced by the table of ``benchmarks/results/NAME.json``."""
    return _MARK.sub(lambda match: measured(match[1]), markdown)


def measured(name: str) -> str:
    """The table of one result file, with the command that made it, the versions and the machine."""
    file = RESULTS / f"{name}.json"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in RESULTS.glob("*.json")))
        raise LookupError(f"there is no {file.name} in benchmarks/results; there are {known}")
    record = json.loads(file.read_text("utf-8"))
    rows = record["rows"] if "rows" in record else [_flat(row) for row in record["cpu"]]
    return f"{_rows(rows)}\n{_source(record)}\n"


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    numbers = [place for place, key in enumerate(columns) if all(_is_number(row.get(key, 0)) for row in rows)]
    return table(columns, [[_shown(row.get(key, "")) for key in columns] for row in rows], right=numbers)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose groups of numbers have become columns: ``milliseconds_per_image: astra``."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        name = key.replace("_", " ")
        if isinstance(value, Mapping):
            flat |= {f"{name}: {inner}": number for inner, number in value.items()}
        else:
            flat[name] = value
    return flat


def _source(record: Mapping[str, Any]) -> str:
    about = record.get("environment", record)
    command = str(about["command"]).removeprefix("benchmarks/")
    versions = about.get("versions") or {
        key: value for key, value in about.items() if key not in ("command", "date", "machine")
    }
    facts = ", ".join(f"{key} {value}" for key, value in versions.items())
    where = about.get("machine") or f"{record['threads']} threads, no GPU"
    date = f", {about['date']}" if "date" in about else ""
    return f"*`benchmarks/{command}`{date}; {where}; {facts}.*"


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 10 else f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
