"""Distances to another class added up, as ``tfcert estimate`` and ``tfcert minimum`` show them: with what they promise.

An estimate, an upper bound and a proof are never shown under one name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from tfcert.catalog import DISTANCES, DistanceInfo
from tfcert.report.radii import against, radius_statistics, statistics_table
from tfcert.report.records import Json, Record
from tfcert.report.result import Report
from tfcert.report.summary import clean_holds
from tfcert.report.table import PLAIN_WIDTH, columns, figure, percent
from tfcert.showing import counted
from tfcert.verdict import Reason, reason_of


@dataclass(frozen=True)
class DistanceSummary:
    """Distances of some samples by one way.

    Attributes:
        info: the way.
        values: by column ``[samples]``; NaN where there is no such number, and 0 where nothing is proven.
        correct: bool ``[samples]``: the unperturbed sample gets its label; the others are at distance 0.
        optimal: samples of which lower and upper are as near each other as was asked.
        cut: samples whose estimate was cut at the radius of the ball sampled.
        seconds: of all of them.
        width: of the valid range of an input, NaN where it is not known.
    """

    info: DistanceInfo
    values: dict[str, np.ndarray]
    correct: np.ndarray
    optimal: int
    cut: int
    seconds: float
    width: float = math.nan

    def groups(self) -> dict[str, np.ndarray]:
        """The finite numbers to describe, by column; also those of correctly classified samples where others are."""
        found = {}
        for name, values in self.values.items():
            finite = np.isfinite(values)
            found[f"{name}, all" if not self.correct.all() else name] = values[finite]
            if not self.correct.all():
                found[f"{name}, correct"] = values[finite & self.correct]
        return found

    @property
    def known(self) -> int:
        """The correctly classified samples with a number above 0: a score, a witness or a radius."""
        last = list(self.values.values())[-1]
        return int(((last > 0) & np.isfinite(last) & self.correct).sum())

    def as_json(self) -> Json:
        """Statistics for the header of the JSON; null where there are no samples."""
        described = {name: radius_statistics(values) for name, values in self.groups().items()}
        return {name: {k: _finite(v) for k, v in each.items()} for name, each in described.items()} | {
            "samples": len(self.correct),
            "correct": int(self.correct.sum()),
            "known": self.known,
            "optimal": self.optimal,
            "at_cap": self.cut,
        }


@dataclass(frozen=True, repr=False)
class DistanceReport(Report):
    """A report of one set of distances."""

    def parts(self, width: int = PLAIN_WIDTH) -> list[RenderableType]:
        """What was measured and what that promises, the statistics, and what they rest on."""
        if not self.records:
            return [Text("no samples")]
        summary, asked = summarize_distances(self.records), self.records[0].asked
        count, total = len(self.records), next(iter(self.asked.values()), 0)
        what = f"{summary.info.title} ({summary.info.promise}) in {asked.norm}, {asked.space} space"
        shown: list[RenderableType] = [Text(f"{what}, {against(asked.targets)}")]
        if count < total:
            shown.append(Text(f"of {count} of {total} samples: the run was interrupted"))
        shown.append(statistics_table(summary.info.name, summary.groups()))
        shown += [Text(line) for line in _lines(summary, self.records)]
        return [*shown, *(Text(f"note: {note}", "dim") for note in self.notes)]


def summarize_distances(records: Iterable[Record]) -> DistanceSummary:
    """Adds up the records of one way to measure; there must be some."""
    mine = [(r, r.measured) for r in records if r.measured is not None]
    info = DISTANCES.find(mine[0][0].asked.distance)
    values = {}
    for name, field in columns(info).items():
        values[name] = np.array([getattr(measured, field) for _, measured in mine], float)
        if field == "lower":
            values[name] = np.nan_to_num(values[name], nan=0.0, posinf=np.inf)
    return DistanceSummary(
        info,
        values,
        np.array([clean_holds(r) for r, _ in mine], bool),
        optimal=sum(bool(measured.optimal) and clean_holds(r) for r, measured in mine),
        cut=sum(reason_of(r.verdict.reason) is Reason.AT_CAP for r, _ in mine),
        seconds=sum(r.verdict.seconds for r, _ in mine),
        width=mine[0][0].asked.width,
    )


def conclusion(records: Iterable[Record]) -> str:
    """What was found, in a sentence; "" without records."""
    records = tuple(records)
    if not records:
        return ""
    summary = summarize_distances(records)
    some = f"of {counted(int(summary.correct.sum()), 'correctly classified sample')}"
    if summary.info.estimates:
        return f"{summary.known} {some} have a {summary.info.title}: {summary.info.promise}"
    if not summary.info.proves:
        return f"inputs of another class were found for {summary.known} {some}; where none was, nothing is proven"
    if not summary.info.refutes:
        return f"{summary.known} {some} have a {summary.info.title}"
    return f"the {summary.info.title} of {summary.optimal} {some} is settled"


def _lines(summary: DistanceSummary, records: tuple[Record, ...]) -> list[str]:
    count, correct, info = len(summary.correct), int(summary.correct.sum()), summary.info
    lines = [
        f"correct    {correct} of {count} ({percent(correct / count)}); the others are at distance 0"
        if correct < count
        else f"correct    all {count}"
    ]
    if info.refutes:
        found = sum(r.measured is not None and math.isfinite(r.measured.upper) and clean_holds(r) for r in records)
        lines.append(f"witnesses  of {found} of {correct} correct samples, replayed on the original model")
    if info.refutes and info.proves:
        lines.append(f"optimal    {summary.optimal} of {correct}: lower and upper differ by at most 1e-5, relative")
        lines += _open_because(records)
    if summary.cut:
        lines.append(
            f"doubt      {summary.cut} of {correct} scores are cut at the radius of the ball sampled: give a larger one"
        )
    levels = {str(r.verdict.guarantee) for r in records if clean_holds(r) and r.verdict.guarantee is not None}
    lines.append(f"guarantee  {', '.join(sorted(levels)) or 'none'}: {info.promise}")
    if not math.isnan(summary.width):
        name, values = next(iter(summary.groups().items()))
        share = percent(radius_statistics(values)["p50"] / summary.width)
        lines.append(
            f"range      the median ({name}) is {share} of the valid range of an input, {figure(summary.width)}"
        )
    lines.append(f"time       {figure(summary.seconds / count)} s a sample, {figure(summary.seconds)} s in all")
    return lines


def _open_because(records: tuple[Record, ...]) -> list[str]:
    """Why samples are not settled, each reason with what to do about it, the most frequent first."""
    unsettled = [r.verdict.reason for r in records if clean_holds(r) and r.measured and not r.measured.optimal]
    reasons = Counter(reason_of(said) or said for said in unsettled if said)
    lines = []
    for reason, count in reasons.most_common():
        advice = f"; {reason.advice}" if isinstance(reason, Reason) and reason.advice else ""
        lines.append(f"open       {count} of {len(unsettled)}: {reason}{advice}")
    return lines


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value
