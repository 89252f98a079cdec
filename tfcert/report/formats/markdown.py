"""Tables in Markdown, for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfcert.catalog import DISTANCES
from tfcert.report.result import Report
from tfcert.report.runs import SpecRun
from tfcert.report.summary import MeasureSummary, PropertySummary, summarize_measure, summarize_property
from tfcert.report.table import distance_numbers, figure, known_median, percent
from tfcert.verdict import Outcome

_SIGNS = {"pass": "✅", "fail": "❌"}
_OPEN = "⚠️"


def markdown_text(runs: Sequence[SpecRun]) -> str:
    """A heading for each specification, what is judged, and tables of its properties and measures."""
    return "\n".join(line for run in runs for line in _run(run))


def _run(run: SpecRun) -> list[str]:
    lines = [f"### {_SIGNS.get(run.outcome, _OPEN)} tfcert: {_escaped(str(run.path))}: {run.outcome}", ""]
    if run.report is None:
        return [*lines, *(f"> {_escaped(line)}" for line in run.error.splitlines()), ""]
    for judged in run.judged:
        lines.append(f"- {_SIGNS.get(judged.judgement, _OPEN)} {judged.judgement}: `{judged.text}`")
    lines += [""] * bool(run.judged)
    lines += _table(_property_rows(run.report)) + _table(_measure_rows(run.report))
    return lines


def _property_rows(report: Report) -> list[list[str]]:
    rows = [["property", "N", *map(str, Outcome), "verified accuracy", "attack accuracy", "guarantee"]]
    for name in report.properties:
        s: PropertySummary = summarize_property(name, report.records)
        shares = [percent(s.verified_accuracy), percent(s.attack_accuracy)] if s.labelled else ["-", "-"]
        counts = [str(s.outcomes[outcome]) for outcome in Outcome]
        rows.append([f"`{name}`", _done(s, report), *counts, *shares, ", ".join(s.guarantees) or "-"])
    return rows


def _measure_rows(report: Report) -> list[list[str]]:
    rows = [["measure", "of", "number", "N", "known", "median", "min", "max", "guarantee"]]
    for name in report.measures:
        s = summarize_measure(name, report.records)
        guarantee = ", ".join(s.guarantees) or "-"
        if s.distance:
            guarantee = DISTANCES.find(s.distance).promise
        for number, values in numbers_of(s).items():
            finite = values[np.isfinite(values)]
            spread = [figure(f(finite)) if finite.size else "-" for f in (np.median, np.min, np.max)]
            if number in ("refuted", "upper end"):
                spread[0] = figure(known_median(values))
            rows.append([f"`{name}`", s.unit or "-", number, _done(s, report), str(finite.size), *spread, guarantee])
    return rows


def numbers_of(s: MeasureSummary) -> dict[str, np.ndarray]:
    """The numbers of a measure, by what they are called: ends of what is known, or what a way of distances finds.

    Of a radius for which nothing is proven the proven number is 0. NaN where nothing is known.
    """
    if s.distance:
        return distance_numbers(s)
    if s.measures == "value":
        return {"lower end": s.proven, "upper end": s.refuted}
    proven = np.nan_to_num(s.proven, nan=0.0, posinf=np.inf)
    if s.measures == "share":
        return {"proven": proven, "refuted": 1 - np.where(np.isnan(s.refuted), 1.0, s.refuted)}
    return {"proven lower bound": proven, "witness at": s.refuted} if s.existential else {
        "proven": proven,
        "refuted": s.refuted,
    }  # fmt: skip


def _done(s: PropertySummary | MeasureSummary, report: Report) -> str:
    asked = report.asked.get(s.name, 0)
    return f"{s.total} of {asked}" if asked > s.total else str(s.total)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of a heading and rows; nothing without rows."""
    if len(rows) < 2:
        return []
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:], ""]


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "\\`*_<>[]#|" else c for c in text)
