"""Annotations as commands of GitHub's runners: a line ``::error file=...::message`` each, on the standard output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfcert.report.formats.sarif import Annotation, annotations_of
from tfcert.report.runs import SpecRun

_LEVELS = {"error": "error", "warning": "warning", "note": "notice"}


def github_text(runs: Sequence[SpecRun]) -> str:
    """What SARIF says of the runs, for a pull request: it needs no service that reads SARIF."""
    return commands([annotation for run in runs for annotation in annotations_of(run)])


def commands(found: Sequence[Annotation]) -> str:
    """A line for each annotation. What would end a command early is written as its runners read it."""
    return "".join(f"::{_LEVELS[a.level]} {_place(a)}::{_escaped(a.message)}\n" for a in found)


def _place(annotation: Annotation) -> str:
    place = {
        "file": Path(annotation.path).as_posix(),
        "line": annotation.line,
        "endLine": annotation.end_line,
        "col": annotation.column if annotation.line == annotation.end_line else 0,
        "endColumn": annotation.end_column if annotation.line == annotation.end_line else 0,
        "title": f"tfcert {annotation.rule}",
    }
    return ",".join(f"{name}={_escaped(str(value), ':,')}" for name, value in place.items() if value)


def _escaped(text: str, more: str = "") -> str:
    for sign in "%\r\n" + more:
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text
