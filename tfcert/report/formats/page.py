"""One self-contained page: tables, charts, witnesses and the specification with its answers, by jinja2."""

from __future__ import annotations

import base64
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from tfcert.catalog import DISTANCES
from tfcert.report import figures
from tfcert.report.formats.markdown import numbers_of
from tfcert.report.formats.template import template
from tfcert.report.gallery import charts_of
from tfcert.report.records import Json, Record
from tfcert.report.result import Report
from tfcert.report.runs import SpecRun
from tfcert.report.summary import (
    MeasureSummary,
    PropertySummary,
    by_question,
    summarize_measure,
    summarize_property,
)
from tfcert.report.table import columns, figure, known_median, percent
from tfcert.showing import counted
from tfcert.verdict import PROMISES, Guarantee, Outcome, Reason

MOST_ANSWERS = 20_000
"""Answers that a page lists; of more, those that are refuted or open come first."""
MOST_PICTURES = 4 << 20
"""Bytes of pictures that a page takes in; it names those for which there is no room left."""
_DECIDED = {"pass": "good", "fail": "bad"}


def page_text(runs: Sequence[SpecRun], refresh: int = 0) -> str:
    """The page. It loads nothing: styles, scripts, charts and pictures are in it, and answers as JSON.

    Args:
        runs: what it tells of.
        refresh: seconds after which a browser loads it anew; 0 for never.
    """
    shown = [_run(run) for run in runs]
    levels = {r.verdict.guarantee for run in runs if run.report is not None for r in run.report.records}
    levels -= {Guarantee.ESTIMATE}
    return template("tfcert.report.formats").render(
        title=", ".join(dict.fromkeys(Path(run.path).name for run in runs)) or "nothing",
        runs=shown,
        refresh=refresh,
        answers=json.dumps(_answers(runs), allow_nan=False, separators=(",", ":")).replace("</", "<\\/"),
        several=len(runs) > 1,
        left_out=max(0, sum(len(run.report.records) for run in runs if run.report is not None) - MOST_ANSWERS),
        most=MOST_ANSWERS,
        guarantees=[(str(level), words) for level, words in PROMISES.items() if level in levels],
        outcomes=list(map(str, Outcome)),
    )


def _run(run: SpecRun) -> Json:
    """What the page says of one specification."""
    kind = _DECIDED.get(run.outcome, "open")
    about: Json = {"name": str(run.path), "outcome": run.outcome, "kind": kind, "error": run.error}
    report = run.report
    if report is None:
        return about | {"report": False}
    mine = by_question(report.records)
    properties = [summarize_property(name, mine.get(name, ())) for name in report.properties]
    measures = [summarize_measure(name, mine.get(name, ())) for name in report.measures]
    pictures, left_out = _pictures(report)
    return about | {
        "report": True,
        "judged": [(j.text, j.judgement, _DECIDED.get(j.judgement, "open")) for j in report.judged],
        "source": _source(report, properties, measures),
        "properties": [_property(s, report) for s in properties],
        "measures": [row for s in measures for row in _measure(s, report)],
        "charts": _charts(report),
        "reasons": _reasons(report.records),
        "pictures": pictures,
        "left_out": left_out,
        "notes": [note for note in report.notes if not note.startswith("drawn: ")],
        "facts": _facts(report),
        "complete": bool(report.header.get("complete", True)),
    }


def _property(s: PropertySummary, report: Report) -> Json:
    return {
        "name": s.name,
        "total": s.total,
        "asked": max(s.total, report.asked.get(s.name, 0)),
        "counts": [(str(outcome), s.outcomes[outcome], s.rate(s.outcomes[outcome])) for outcome in Outcome],
        "shares": [percent(s.nominal_accuracy), percent(s.verified_accuracy), percent(s.attack_accuracy)]
        if s.labelled and not s.existential
        else ["-"] * 3,
        "guarantees": s.guarantees,
        "seconds": s.seconds,
    }


def _measure(s: MeasureSummary, report: Report) -> Iterator[Json]:
    promise = DISTANCES.find(s.distance).promise if s.distance else ", ".join(s.guarantees) or "-"
    for number, values in numbers_of(s).items():
        finite = values[np.isfinite(values)]
        spread = [figure(f(finite)) if finite.size else "-" for f in (np.median, np.mean, np.min, np.max)]
        if number == "refuted":
            spread = [figure(known_median(values)), "-", *spread[2:]]
        asked = max(s.total, report.asked.get(s.name, 0))
        yield {"name": s.name, "unit": s.unit, "number": number, "total": s.total, "asked": asked,
               "known": int(finite.size), "spread": spread, "guarantee": promise}  # fmt: skip


def _source(report: Report, properties: Sequence[PropertySummary], measures: Sequence[MeasureSummary]) -> list[Json]:
    """The lines of the specification, each with what came of what stands there; empty where the text is not known."""
    text, lines = str(report.header.get("spec_text") or ""), report.header.get("lines", {})
    said: dict[int, list[tuple[str, str]]] = {}
    for judged in report.judged:
        if judged.line:
            said.setdefault(judged.line, []).append((judged.judgement, _DECIDED.get(judged.judgement, "open")))
    for s in properties:
        kinds = {Outcome.VERIFIED: "good", Outcome.FALSIFIED: "bad"}
        chips = [(f"{n} {outcome}", kinds.get(outcome, "open")) for outcome, n in s.outcomes.items() if n]
        said.setdefault(lines.get(s.name, 0), []).extend(chips)
    for m in measures:
        for number, values in numbers_of(m).items():
            median = figure(known_median(values)) if values.size else "-"
            said.setdefault(lines.get(m.name, 0), []).append((f"{number}: median {median}", "plain"))
    return [
        {"number": number, "text": line, "said": said.get(number, [])}
        for number, line in enumerate(text.splitlines(), start=1)
    ]


def _reasons(records: Sequence[Record]) -> list[Json]:
    """Why answers are open: how many for each reason, one of the sentences, and what to do about it."""
    open_ = [r for r in records if r.outcome in (Outcome.UNKNOWN, Outcome.TIMEOUT)]
    count = Counter((r.property, getattr(r.verdict.reason, "reason", None)) for r in open_)
    firsts = {(r.property, getattr(r.verdict.reason, "reason", None)): r for r in reversed(open_)}
    found = []
    for (name, reason), number in sorted(count.items(), key=lambda item: (-item[1], item[0][0])):
        first = firsts[name, reason]
        advice = reason.advice if isinstance(reason, Reason) else ""
        said = str(first.verdict.reason) or "nothing is said"
        found.append({"property": name, "number": counted(number, "sample"), "sample": first.sample,
                      "said": said, "advice": advice})  # fmt: skip
    return found


def _charts(report: Report) -> list[Json]:
    """The charts of a run as pieces of SVG; none without matplotlib."""
    if not figures.available():
        return []
    drawn = []
    with tempfile.TemporaryDirectory() as folder:
        for chart in charts_of(report):
            path = Path(folder) / f"{chart.name}.svg"
            figures.draw(path, chart.draw)
            drawn.append({"svg": _svg(path), "about": chart.about})
    return drawn


def _svg(path: Path) -> Markup:
    """The element of an SVG file, without what stands before it."""
    text = path.read_text(encoding="utf-8")
    return Markup(text[text.index("<svg") :])


def _pictures(report: Report) -> tuple[list[Json], list[str]]:
    """Pictures of witnesses that the run has drawn, as far as there is room, and the names of the others."""
    taken, left_out, room = [], [], MOST_PICTURES
    folder = report.folder
    paths = [] if folder is None else sorted((folder / "figures").glob("*-witnesses.png"))
    for path in paths:
        data = path.read_bytes()
        if len(data) > room:
            left_out.append(path.name)
            continue
        room -= len(data)
        taken.append({"name": path.stem.removesuffix("-witnesses"), "data": base64.b64encode(data).decode()})
    return taken, left_out


def _facts(report: Report) -> list[tuple[str, str]]:
    """Versions, times and hashes, by what they are of."""
    header = report.header
    facts = [("tfcert", header.get("tfcert")), *header.get("versions", {}).items()]
    facts += [("begun", header.get("started")), ("seconds", header.get("seconds"))]
    facts += [("rounding", header.get("rounding")), ("specification, SHA-256", header.get("spec_sha256"))]
    facts += [(f"parameter {name}", value) for name, value in header.get("params", {}).items()]
    for kind, key in (("what {} computes, SHA-256", "weights_sha256"), ("samples of {}, SHA-256", "data_sha256")):
        found = header.get(key) or {}
        facts += [(kind.format(name), value) for name, value in found.items()] if isinstance(found, dict) else []
    facts += [(f"strategy of {name}", value) for name, value in header.get("strategies", {}).items()]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _answers(runs: Sequence[SpecRun]) -> Json:
    """The answers as columns and rows, for the script of the page."""
    names = ["specification", "question", "sample", "outcome", "label", "predicted", "margin", "proven", "refuted",
             "stage", "guarantee", "seconds", "why"]  # fmt: skip
    found = [(str(run.path), record) for run in runs if run.report is not None for record in run.report.records]
    if len(found) > MOST_ANSWERS:
        found = sorted(found, key=lambda pair: pair[1].outcome is Outcome.VERIFIED)[:MOST_ANSWERS]
    rows = [[path, *_answer(record)] for path, record in found]
    if len(runs) < 2:
        names, rows = names[1:], [row[1:] for row in rows]
    kept = [i for i, name in enumerate(names) if name in ("question", "sample", "outcome") or _any(rows, i)]
    return {"columns": [names[i] for i in kept], "rows": [[row[i] for i in kept] for row in rows]}


def _any(rows: Sequence[Sequence[Any]], column: int) -> bool:
    return any(row[column] not in (None, "") for row in rows)


def _answer(record: Record) -> list[Any]:
    flat = record.as_json()
    proven, refuted = flat.get("lower"), flat.get("upper")
    if record.asked.distance and columns(DISTANCES.find(record.asked.distance)) == {"score": "estimate"}:
        proven = refuted = None
    numbers = [flat["margin"], proven, refuted]
    rounded = [None if number is None else float(f"{number:.6g}") for number in numbers]
    label = None if record.label is None else float(f"{record.label:.6g}")
    return [
        record.property, record.sample, str(record.outcome), label, record.prediction, *rounded,
        record.verdict.stage, "" if record.verdict.guarantee is None else str(record.verdict.guarantee),
        round(record.verdict.seconds, 3), str(record.verdict.reason),
    ]  # fmt: skip
