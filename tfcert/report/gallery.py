"""The charts that a run's records have something for, each with a name and a drawing function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.report import charts, figures, robustness
from tfcert.report.records import Record
from tfcert.report.result import Report
from tfcert.report.summary import summarize_measure
from tfcert.verdict import Outcome


@dataclass(frozen=True)
class Chart:
    """A chart of a run: ``draw`` takes axes; ``about`` says what it shows, and ``name`` is that of a file."""

    name: str
    about: str
    draw: Callable[[Any], None]


def charts_of(report: Report) -> Iterator[Chart]:
    """Accuracy over the radius, each measure's values, radii by class, and what was decided within which time."""
    for number, curve in enumerate(robustness.curves_of_records(report.records)):
        if len(curve.eps) > 1:
            draw = functools.partial(robustness.plot_accuracy, curves=[curve])
            yield Chart(f"accuracy-{number}", f"accuracy over the radius, {curve.name}", draw)
    for number, name in enumerate(report.measures):
        summary = summarize_measure(name, report.records)
        if summary.total and np.isfinite([*summary.proven, *summary.refuted]).any():
            one = charts.plot_at_least if summary.measures else charts.plot_histogram
            yield Chart(f"values-{number}", name, functools.partial(one, summary=summary))
        by_class = robustness.radii_of_records(name, report.records)
        if by_class is not None and len(np.unique(by_class.label)) > 1:
            draw = functools.partial(robustness.plot_radii_by_class, found=by_class)
            yield Chart(f"classes-{number}", f"{name} by class", draw)
    seconds, totals = decided_seconds(report)
    if any(seconds.values()):
        draw = functools.partial(charts.plot_effort, seconds=seconds, totals=totals)
        yield Chart("seconds", "time of answers", draw)


def decided_seconds(report: Report) -> tuple[dict[str, list[float]], dict[str, int]]:
    """The seconds of decided answers by property, and how many answers each property has."""
    seconds: dict[str, list[float]] = {name: [] for name in report.properties}
    totals = dict.fromkeys(report.properties, 0)
    for record in report.records:
        if record.property in totals:
            totals[record.property] += 1
            if _decided(record):
                seconds[record.property].append(record.verdict.seconds)
    return seconds, totals


def _decided(record: Record) -> bool:
    return record.outcome in (Outcome.VERIFIED, Outcome.FALSIFIED)


def write_charts(report: Report, folder: Path, kind: str = "svg") -> list[Path]:
    """Writes the charts of a run, as ``svg``, ``pdf`` or ``png``; returns where they are."""
    figures.require_matplotlib()
    drawn = []
    for chart in charts_of(report):
        drawn.append(folder / f"{chart.name}.{kind}")
        figures.draw(drawn[-1], chart.draw)
    return drawn
