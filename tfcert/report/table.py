"""Terminal tables: one line a property, one line a measure, and what the assertions say."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from tfcert.query import Outcome
from tfcert.report.records import Record
from tfcert.report.summary import MeasureSummary, PropertySummary

PLAIN_WIDTH = 120
"""Columns where the output is no terminal."""
WIDE = 110
"""Columns from which on one table holds all there is to say about a property."""
_STYLES = {
    Outcome.VERIFIED: "green",
    Outcome.FALSIFIED: "red",
    Outcome.UNKNOWN: "yellow",
    Outcome.TIMEOUT: "magenta",
}


def property_tables(summaries: Sequence[PropertySummary], width: int = PLAIN_WIDTH) -> list[Table]:
    """N, correct, the four outcomes, the three accuracies and the guarantee of each property.

    One table, or two where the terminal is too narrow for it: counts, then shares.
    """
    counts = _Columns(("N", "correct", *map(str, Outcome)), _counts)
    shares = _Columns(("nominal\naccuracy", "verified\naccuracy", "attack\naccuracy"), _shares)
    parts = [[counts, shares]] if width >= WIDE else [[counts], [shares]]
    return [_property_table(summaries, columns) for columns in parts]


class _Columns(NamedTuple):
    """Some columns of numbers: their headings, and their cells for one property."""

    names: tuple[str, ...]
    cells: Callable[[PropertySummary], list[str | Text]]


def _property_table(summaries: Sequence[PropertySummary], columns: Sequence[_Columns]) -> Table:
    table = _table("property")
    for part in columns:
        for name in part.names:
            table.add_column(name, justify="right", no_wrap=True)
    guaranteed = any("accuracy" in name for part in columns for name in part.names)
    if guaranteed:
        table.add_column("guarantee", overflow="fold")
    for s in summaries:
        last = [", ".join(s.guarantees) or "-"] if guaranteed else []
        table.add_row(
            Text(_named(s, exists=s.existential)), *(cell for part in columns for cell in part.cells(s)), *last
        )
    return table


def _named(s: PropertySummary | MeasureSummary, exists: bool = False) -> str:
    """A question's name, and in brackets what is special about it."""
    special = [*(["exists"] if exists else []), *([f"behind {s.abstraction}"] if s.abstraction else [])]
    return f"{s.name} ({', '.join(special)})" if special else s.name


def _counts(s: PropertySummary) -> list[str | Text]:
    outcomes = [Text(str(s.outcomes[o]), _STYLES[o] if s.outcomes[o] else "dim") for o in Outcome]
    return [str(s.total), str(s.correct), *outcomes]


def _shares(s: PropertySummary) -> list[str | Text]:
    return [percent(rate) for rate in (s.nominal_accuracy, s.verified_accuracy, s.attack_accuracy)]


def _table(first: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    return table


def measure_tables(summaries: Sequence[MeasureSummary]) -> list[Table]:
    """N and the spread of what is proven, and the median of what is refuted, of each measure.

    Smallest radii have a table of their own: for these that is a lower bound, and the distance of a witness.
    """
    parts = [(some, [s for s in summaries if s.existential == some]) for some in (False, True)]
    return [_measure_table(some, part) for some, part in parts if part]


def _measure_table(smallest: bool, summaries: Sequence[MeasureSummary]) -> Table:
    table = _table("measure\n(smallest)" if smallest else "measure")
    table.add_column("of", overflow="fold")
    lower, upper = ("proven\nlower\nbound", "witness\nat") if smallest else ("proven", "refuted")
    spreads = [f"{statistic}\n{lower}" for statistic in ("median", "mean", "min", "max")]
    for name in ("N", *spreads, f"median\n{upper}"):
        table.add_column(name, justify="right", no_wrap=True)
    shares = any(not math.isnan(s.width) for s in summaries)
    if shares:
        table.add_column("median\nshare\nof range", justify="right", no_wrap=True)
    table.add_column("guarantee", overflow="fold")
    for s in summaries:
        proven = np.nan_to_num(s.proven, nan=0.0)
        spread = [figure(f(proven)) if s.total else "-" for f in (np.median, np.mean, np.min, np.max)]
        table.add_row(
            Text(_named(s)),
            s.unit,
            str(s.total),
            *spread,
            figure(known_median(s.refuted)),
            *([percent(float(np.median(proven)) / s.width) if s.total else "-"] if shares else []),
            ", ".join(s.guarantees) or "-",
        )
    return table


def record_line(record: Record) -> str:
    """One record in one line, as ``-v`` prints it."""
    verdict = record.verdict
    what = f"{record.property}[{record.sample}] {verdict.outcome}"
    if record.measured is not None:
        lower, upper = figure(record.measured.lower), figure(record.measured.upper)
        found = "no witness found" if math.isnan(record.measured.upper) else f"witness at {upper}"
        what += f" at least {lower}, {found}" if record.asked.existential else f" {lower} proven, {upper} refuted"
    by = f" by {verdict.stage}" if verdict.stage else ""
    margin = "" if math.isnan(verdict.margin) else f", margin {verdict.margin:.4g}"
    reason = f": {verdict.reason}" if verdict.reason else ""
    return f"{what}{by}{margin} ({verdict.guarantee or 'no guarantee'}, {verdict.seconds:.2f} s){reason}"


def render(parts: Iterable[RenderableType], width: int = PLAIN_WIDTH) -> str:
    """The parts as plain text."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None)
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def percent(rate: float) -> str:
    return "-" if math.isnan(rate) else f"{100 * rate:.1f}%"


def figure(value: float) -> str:
    """A number with four figures; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.4g}"


def known_median(values: np.ndarray) -> float:
    """The median, NaN standing for a value beyond all others; NaN if the median is one of those."""
    middle = float(np.median(np.where(np.isnan(values), np.inf, values))) if values.size else math.nan
    return middle if math.isfinite(middle) else math.nan
