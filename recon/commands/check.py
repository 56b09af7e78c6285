"""`recon check`: the conformance kit in a terminal."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext, redirect_stdout
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.entries import KINDS
from recon.terminal import FAILED, AsJson, console, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from recon.testing.generation import Case
    from recon.testing.running import Verdict

    Result = tuple[Case, Verdict, float]

_WORDS = {"passed": "passed", "failed": "failed", "expected": "failed as declared", "skipped": "skipped"}


def check_command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="An item (mask, recon/mask), a distribution (recon-acme), or a class in a file with its arguments: "
            "blur.py:MotionBlur:shape=(8,8).",
        ),
    ],
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help=f"Only items of this kind: {', '.join(KINDS)}.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that an operator, a prior, a solver, ... keeps every promise of its kind.

    The exit code is 0 if every check passes, 1 if one fails.
    """
    with redirect_stdout(sys.stderr):  # what a plugin prints is no part of the answer
        from recon.testing.generation import cases
        from recon.testing.targets import TargetError

        found = list(cases(target, kind))
        if not found:
            raise TargetError(
                f"{target} registers nothing" + (f" of the kind {kind}" if kind else "") + " to check"
            )
    results: list[Result] = []
    began = time.perf_counter()
    for _, group in groupby(found, key=lambda case: case.item):
        results += _run(list(group), None if as_json else console())
    failed = any(verdict.status == "failed" for _, verdict, _ in results)
    if as_json:
        print_json(_as_dict(target, results))
    else:
        typer.echo(_summary(results, time.perf_counter() - began))
    if failed:
        raise typer.Exit(FAILED)


def _run(group: list[Case], out: Console | None) -> list[Result]:
    """Run the cases of one item; print its line, and its failures in full, as soon as it is done."""
    results = []
    item = group[0].item
    live = out.status(item) if out is not None and out.is_terminal else nullcontext()
    with live as status:
        for case in group:
            if status is not None:
                status.update(f"{item}  {case.check}")
            began = time.perf_counter()
            with redirect_stdout(sys.stderr):
                verdict = case.judge()
            results.append((case, verdict, time.perf_counter() - began))
    if out is not None:
        _print_item(out, item, results)
    return results


def _print_item(out: Console, item: str, results: list[Result]) -> None:
    from rich.text import Text

    counts = Counter(verdict.status for _, verdict, _ in results)
    word, colour = ("FAIL", "bold red") if counts["failed"] else ("ok", "green")
    if counts["skipped"] == len(results):
        word, colour = "skip", "yellow"
    seconds = sum(seconds for *_, seconds in results)
    line = Text.assemble((f"{word:<5}", colour), f"{item:<34} {_counted(counts)} ({seconds:.2f} s)")
    out.print(line, soft_wrap=True)
    for case, verdict, _ in results:
        if verdict.status == "failed":
            out.print(Text.assemble("     ", (f"{case.check}: ", "red"), verdict.message), soft_wrap=True)
        elif verdict.status == "expected":
            out.print(
                Text(f"     {case.check}: fails as declared: {verdict.message}", "yellow"), soft_wrap=True
            )
    for reason in dict.fromkeys(verdict.message for _, verdict, _ in results if verdict.status == "skipped"):
        checks = [case.check for case, verdict, _ in results if verdict.message == reason]
        out.print(Text(f"     {', '.join(checks)}: skipped, {reason}", "yellow"), soft_wrap=True)


def _counted(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{counts[status]} {words}" for status, words in _WORDS.items() if counts[status])


def _summary(results: list[Result], seconds: float) -> str:
    counts = Counter(verdict.status for _, verdict, _ in results)
    items = len({case.item for case, *_ in results})
    return f"{len(results)} checks of {items} subjects: {_counted(counts)}, in {seconds:.1f} s"


def _as_dict(target: str, results: list[Result]) -> dict[str, Any]:
    return {
        "target": target,
        "fine": all(verdict.status != "failed" for _, verdict, _ in results),
        "counts": dict(Counter(verdict.status for _, verdict, _ in results)),
        "cases": [
            {
                "id": case.id,
                "item": case.item,
                "check": case.check,
                "kind": case.kind,
                "status": verdict.status,
                "message": verdict.message,
                "seconds": round(seconds, 4),
            }
            for case, verdict, seconds in results
        ],
    }
