"""Terminal tables: one line a property, one line a measure, and what the assertions say."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from tfcert.catalog import DISTANCES, DistanceInfo
from tfcert.report.records import Record
from tfcert.report.summary import MeasureSummary, PropertySummary
from tfcert.showing import counted
from tfcert.verdict import Outcome

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


class _Columns(NamedTuple):
    """Some columns: their headings, and their cells for one property."""

    names: tuple[str, ...]
    cells: Callable[[PropertySummary], list[str | Text]]


def property_tables(summaries: Sequence[PropertySummary], width: int = PLAIN_WIDTH) -> list[Table]:
    """Tables of properties, one for each kind of question: about labels, about outputs alone, about some input.

    The first kind has accuracies, and takes two tables where the terminal is too narrow: counts, then shares.
    """
    labelled = [s for s in summaries if s.labelled and not s.existential]
    plain = [s for s in summaries if not s.labelled and not s.existential]
    some = [s for s in summaries if s.existential]
    counts, shares = _Columns(("N", "correct", *map(str, Outcome)), _counts), _Columns(_ACCURACIES, _shares)
    guarantee = _Columns(("guarantee",), lambda s: [_guarantees(s)])
    tables = [[counts, shares, guarantee]] if width >= WIDE else [[counts], [shares, guarantee]]
    shown = [_property_table("property", labelled, columns) for columns in tables if labelled]
    if plain:
        shown.append(_property_table("property", plain, [_Columns(("N", *map(str, Outcome)), _outcomes), guarantee]))
    if some:
        shown.append(_property_table("property\n(exists)", some, [_Columns(_WITNESSES, _outcomes), guarantee]))
    return shown


_ACCURACIES = ("nominal\naccuracy", "verified\naccuracy", "attack\naccuracy")
_WITNESSES = ("N", "witness\nfound", "proven\nnone", "open", "timeout")
"""Of a question about some input: what verified, falsified and unknown mean there."""


def _property_table(first: str, summaries: Sequence[PropertySummary], columns: Sequence[_Columns]) -> Table:
    table = _table(first)
    for name in (name for part in columns for name in part.names):
        if name == "guarantee":
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="right", no_wrap=True)
    for s in summaries:
        table.add_row(Text(_named(s)), *(cell for part in columns for cell in part.cells(s)))
    return table


def attack_table(s: PropertySummary) -> Table:
    """The table of an attack: it finds witnesses, and proves nothing where it finds none."""
    clean, falsified = s.total - s.correct, s.outcomes[Outcome.FALSIFIED]

    def cells(_: PropertySummary) -> list[str | Text]:
        rates = [percent(s.nominal_accuracy), percent(s.attack_accuracy)]
        return [_done(s), str(clean), str(falsified - clean), str(s.total - falsified), *rates]

    names = ("N", "wrong\nas they are", "witness\nfound", "none\nfound", "nominal\naccuracy", "attack\naccuracy")
    return _property_table("", [s], [_Columns(names, cells)])


def _named(s: PropertySummary | MeasureSummary) -> str:
    """A question's name, and what its classifier stands behind."""
    return f"{s.name} (behind {s.abstraction})" if s.abstraction else s.name


def _guarantees(s: PropertySummary | MeasureSummary) -> str:
    """The guarantees of a question's answers, a line each."""
    return "\n".join(s.guarantees) or "-"


def _done(s: PropertySummary | MeasureSummary) -> str:
    """The number of samples with an answer, and of how many where some have none yet."""
    return f"{s.total} of {s.asked}" if s.asked > s.total else str(s.total)


def _counts(s: PropertySummary) -> list[str | Text]:
    total, *outcomes = _outcomes(s)
    return [total, str(s.correct), *outcomes]


def _outcomes(s: PropertySummary) -> list[str | Text]:
    return [_done(s), *(Text(str(s.outcomes[o]), _STYLES[o] if s.outcomes[o] else "dim") for o in Outcome)]


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
    radii = [s for s in summaries if not s.distance and not s.measures]
    parts = [(some, [s for s in radii if s.existential == some]) for some in (False, True)]
    found = [_measure_table(some, part) for some, part in parts if part]
    values = [s for s in summaries if s.measures == "value"]
    shares = [s for s in summaries if s.measures == "share"]
    ways = [s for s in summaries if s.distance]
    others = ((_value_table, values), (_share_table, shares), (_distance_table, ways))
    return [*found, *(table(some) for table, some in others if some)]


def _value_table(summaries: Sequence[MeasureSummary]) -> Table:
    """Values of formulas: what is known of both ends, and which of them rests on a proof, the other on a witness."""
    table = _table("measure\n(value)")
    for name in ("of", "proven\nend"):
        table.add_column(name, no_wrap=True)
    names = ("N", "median\nlower", "median\nupper", "min\nlower", "max\nupper", "open\nends")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("guarantee", overflow="fold")
    for s in summaries:
        lower, upper = np.where(np.isnan(s.proven), -np.inf, s.proven), np.where(np.isnan(s.refuted), np.inf, s.refuted)
        ends = [np.median(lower), np.median(upper), lower.min(), upper.max()] if s.total else []
        cells = [_end(float(end)) for end in ends] or ["-"] * 4
        open_ = str(int(np.isnan(s.proven).sum() + np.isnan(s.refuted).sum()))
        guarantees = _guarantees(s)
        table.add_row(Text(_named(s)), s.extremum, s.proof, _done(s), *cells, open_, guarantees)
    return table


def _share_table(summaries: Sequence[MeasureSummary]) -> Table:
    """Shares of volume: surely in, surely out, and open."""
    table = _table("measure\n(share of volume)")
    for name in ("N", "mean\nproven", "mean\nrefuted", "mean\nopen"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("guarantee", overflow="fold")
    for s in summaries:
        proven = np.nan_to_num(s.proven, nan=0.0)
        refuted = 1 - np.where(np.isnan(s.refuted), 1.0, s.refuted)
        means = [float(v.mean()) if s.total else math.nan for v in (proven, refuted, 1 - proven - refuted)]
        table.add_row(Text(_named(s)), _done(s), *map(percent, means), _guarantees(s))
    return table


def _end(value: float) -> str:
    """An end of an interval; a dash where nothing is known of it."""
    return "-" if math.isinf(value) else figure(value)


def _distance_table(summaries: Sequence[MeasureSummary]) -> Table:
    """Measures of distances to another class, a line for each kind of number, with what it promises.

    Where nothing is proven the distance counts as 0; samples without a witness are left out of its numbers.
    """
    table = _table("measure\n(distance)")
    table.add_column("of", overflow="fold")
    table.add_column("number", no_wrap=True)
    for name in ("N", "known", "median", "mean", "min", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("promise", overflow="fold")
    for s in summaries:
        info = DISTANCES.find(s.distance)
        for name, values in distance_numbers(s).items():
            finite = values[np.isfinite(values)]
            spread = [figure(f(finite)) if finite.size else "-" for f in (np.median, np.mean, np.min, np.max)]
            cells = s.unit, name, _done(s), str(len(finite)), *spread
            table.add_row(Text(_named(s)), *cells, f"{info.title}: {info.promise}")
    return table


def distance_numbers(s: MeasureSummary) -> dict[str, np.ndarray]:
    """The numbers that a way to measure distances finds, by what they are called; 0 where nothing is proven."""
    info = DISTANCES.find(s.distance)
    found = {}
    for name, end in columns(info).items():
        values = {"lower": s.proven, "upper": s.refuted, "estimate": s.estimated}[end]
        assert values is not None
        found[name] = np.nan_to_num(values, nan=0.0, posinf=np.inf) if end == "lower" else values
    return found


def columns(info: DistanceInfo) -> dict[str, str]:
    """The numbers that a way to measure distances finds, by what they are called, as fields of ``Measured``."""
    if info.estimates:
        return {"score": "estimate"}
    if info.proves and info.refutes:
        return {"lower": "lower", "upper": "upper"}
    return {"radius": "lower"} if info.proves else {"distance": "upper"}


def _measure_table(smallest: bool, summaries: Sequence[MeasureSummary]) -> Table:
    table = _table("measure\n(smallest)" if smallest else "measure")
    table.add_column("of", overflow="fold")
    lower, upper = ("proven\nlower\nbound", "witness\nat") if smallest else ("proven", "refuted")
    spreads = [f"{statistic}\n{lower}" for statistic in ("median", "mean", "min", "max")]
    for name in ("N", *spreads, f"median\n{upper}"):
        table.add_column(name, justify="right", no_wrap=True)
    shares = any(not math.isnan(s.width) for s in summaries)
    if shares:
        table.add_column("median\n% of\nrange", justify="right", no_wrap=True)
    table.add_column("guarantee", overflow="fold")
    for s in summaries:
        proven = np.nan_to_num(s.proven, nan=0.0)
        spread = [figure(f(proven)) if s.total else "-" for f in (np.median, np.mean, np.min, np.max)]
        table.add_row(
            Text(_named(s)),
            s.unit.replace(", ", ",\n"),
            _done(s),
            *spread,
            figure(known_median(s.refuted)),
            *([percent(float(np.median(proven)) / s.width) if s.total else "-"] if shares else []),
            _guarantees(s),
        )
    return table


def effort_line(s: PropertySummary | MeasureSummary, setup: Mapping[str, float]) -> str:
    """The time of a question in one line, its stages' preparation apart, and what stages did; "" where nothing is said.

    Args:
        setup: seconds of preparation by stage.
    """
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in setup.items())
    parts = [f"{s.seconds:.1f} s for samples"] if setup else []
    parts += [f"{sum(setup.values()):.1f} s before for preparation ({stages})"] if setup else []
    work = s.work
    counts = ((work.pieces, "piece"), (work.gradients, "gradient"))
    parts += [counted(number, thing) for number, thing in counts if number]
    parts += [f"programs of up to {counted(work.binaries, 'binary', 'binaries')}"] if work.binaries else []
    parts += [f"{work.solver_seconds:.1f} s of solvers"] if work.solver_seconds else []
    return f"{s.name}: {'; '.join(parts)}" if parts else ""


def record_line(record: Record) -> str:
    """One record in one line, as ``-v`` prints it."""
    verdict = record.verdict
    what = f"{record.property}[{record.sample}] {verdict.outcome}"
    if record.measured is not None and record.asked.distance:
        ends = columns(DISTANCES.find(record.asked.distance))
        what += "".join(f" {name} {figure(getattr(record.measured, end))}" for name, end in ends.items())
    elif record.measured is not None and record.asked.measures:
        known = (record.measured.lower, record.measured.upper)
        what += f" between {' and '.join('?' if math.isnan(end) else figure(end) for end in known)}"
    elif record.measured is not None:
        lower, upper = figure(record.measured.lower), figure(record.measured.upper)
        witness = "no witness found" if math.isnan(record.measured.upper) else f"witness at {upper}"
        what += f" at least {lower}, {witness}" if record.asked.existential else f" {lower} proven, {upper} refuted"
    by = f" by {verdict.stage}" if verdict.stage else ""
    margin = "" if math.isnan(verdict.margin) else f", margin {verdict.margin:.4g}"
    reason = f": {verdict.reason}" if verdict.reason else ""
    return f"{what}{by}{margin} ({verdict.guarantee or 'no guarantee'}, {verdict.seconds:.2f} s){reason}"


def render(parts: Iterable[RenderableType], width: int = PLAIN_WIDTH) -> str:
    """The parts as plain text, without blanks at the ends of lines and with one empty line between tables."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, force_jupyter=False)
    for part in parts:
        console.print(part)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    return "\n".join(line for i, line in enumerate(lines) if line or (i and lines[i - 1]))


def as_html(parts: Iterable[RenderableType], width: int = PLAIN_WIDTH) -> str:
    """The parts as a piece of HTML, with their colours and blanks."""
    console = Console(
        file=io.StringIO(), width=width, record=True, color_system="truecolor", force_terminal=True, force_jupyter=False
    )
    for part in parts:
        console.print(part)
    return console.export_html(inline_styles=True, code_format='<pre style="line-height: 1.25">{code}</pre>')


def percent(rate: float) -> str:
    return "-" if math.isnan(rate) else f"{100 * rate:.1f}%"


def figure(value: float) -> str:
    """A number with four figures; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.4g}"


def known_median(values: np.ndarray) -> float:
    """The median, NaN standing for a value beyond all others; NaN if the median is one of those."""
    middle = float(np.median(np.where(np.isnan(values), np.inf, values))) if values.size else math.nan
    return middle if math.isfinite(middle) else math.nan
