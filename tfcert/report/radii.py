"""Certified radii added up, as ``tfcert radius`` shows them: statistics, what they rest on, what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tfcert.report.records import Json, Record
from tfcert.report.result import Report
from tfcert.report.summary import clean_holds
from tfcert.report.table import PLAIN_WIDTH, figure, percent

PERCENTS = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class RadiusSummary:
    """Radii of all samples, and of those that are classified correctly; a sample without a proof has radius 0.

    Attributes:
        radii: ``[samples]``.
        correct: bool ``[samples]``: the unperturbed sample gets its label.
        evaluations: bound evaluations of each sample on which any were spent.
        seconds: ``[samples]``, the time of its batch shared out evenly.
        width: of the valid range of an input, NaN where it is not known.
    """

    radii: np.ndarray
    correct: np.ndarray
    evaluations: np.ndarray
    seconds: np.ndarray
    width: float = math.nan

    @property
    def certified(self) -> int:
        """The number of samples with a radius above 0."""
        return int((self.radii > 0).sum())

    def groups(self) -> dict[str, np.ndarray]:
        """The radii to describe: those of correctly classified samples alone where there are others."""
        groups = {"all samples": self.radii}
        return groups if self.correct.all() else {**groups, "correct ones": self.radii[self.correct]}

    def as_json(self) -> Json:
        """Statistics for the header of the JSON; null where there are no samples."""
        groups = {"all": self.radii, "correct": self.radii[self.correct]}
        described = {name: radius_statistics(radii) for name, radii in groups.items()}
        described |= {f"{name}_share_of_range": radius_statistics(radii / self.width) for name, radii in groups.items()}
        return {name: {k: _finite(v) for k, v in figures.items()} for name, figures in described.items()} | {
            "samples": len(self.radii),
            "correct": int(self.correct.sum()),
            "certified": self.certified,
            "evaluations": _finite(_mean(self.evaluations)),
            "seconds_per_image": _finite(_mean(self.seconds)),
        }


@dataclass(frozen=True, repr=False)
class RadiusReport(Report):
    """A report of one set of radii."""

    def parts(self, width: int = PLAIN_WIDTH) -> list[RenderableType]:
        """The question, the statistics, and what they rest on."""
        if not self.records:
            return [Text("no samples")]
        summary = summarize_radii(self.records)
        count, asked = len(self.records), self.asked.get("radius", 0)
        shown: list[RenderableType] = [Text(_asked(self.records)), radius_table(summary)]
        if count < asked:
            shown.insert(1, Text(f"of {count} of {asked} samples: the run was interrupted"))
        shown += [Text(line) for line in _lines(summary, self.records)]
        return [*shown, *(Text(f"note: {note}", "dim") for note in self.notes)]


def summarize_radii(records: Iterable[Record]) -> RadiusSummary:
    """Adds up the records of ``tfcert radius``."""
    mine = [r for r in records if r.measured is not None]
    evaluations = [r.measured.evaluations for r in mine if r.measured and r.measured.evaluations is not None]
    return RadiusSummary(
        radii=np.nan_to_num(np.array([r.measured.lower for r in mine if r.measured], float), nan=0.0),
        correct=np.array([clean_holds(r) for r in mine], bool),
        evaluations=np.array(evaluations, float),
        seconds=np.array([r.verdict.seconds for r in mine], float),
        width=next((r.asked.width for r in mine), math.nan),
    )


def radius_statistics(radii: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation (of the population), extremes and percentiles; NaN without samples."""
    if not len(radii):
        return dict.fromkeys(("mean", "std", "min", *(f"p{q}" for q in PERCENTS), "max"), math.nan)
    percentiles = np.percentile(radii, PERCENTS)
    return {
        "mean": float(radii.mean()),
        "std": float(radii.std()),
        "min": float(radii.min()),
        **{f"p{q}": float(v) for q, v in zip(PERCENTS, percentiles, strict=True)},
        "max": float(radii.max()),
    }


def radius_table(summary: RadiusSummary) -> Table:
    """One line a statistic, one column a group of samples."""
    return statistics_table("radius", summary.groups())


def statistics_table(title: str, groups: Mapping[str, np.ndarray]) -> Table:
    """One line a statistic, one column a group of numbers."""
    described = {name: radius_statistics(values) for name, values in groups.items()}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(title)
    for name in described:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("N", *(str(len(values)) for values in groups.values()))
    for key in next(iter(described.values())):
        label = {"p50": "median", "std": "standard deviation"}.get(key, key)
        label = f"{label[1:]}th percentile" if label.startswith("p") else label
        table.add_row(label, *(figure(values[key]) for values in described.values()))
    return table


def against(targets: str) -> str:
    """The classes that are not to be reached, in words."""
    words = {
        "all": "all other classes",
        "runner-up": "the runner-up class alone",
        "least": "the least likely class",
        "random": "one random class, neither the runner-up nor the least likely",
    }
    return f"against {words[targets]}"


def _asked(records: tuple[Record, ...]) -> str:
    asked = records[0].asked
    return f"certified radii in {asked.norm}, {asked.space} space, {against(asked.targets)}"


def _lines(summary: RadiusSummary, records: tuple[Record, ...]) -> list[str]:
    count, correct = len(summary.radii), int(summary.correct.sum())
    bounded = next((r.verdict for r in records if clean_holds(r)), None)
    lines = [
        f"correct    {correct} of {count} ({percent(correct / count)}); the others have radius 0"
        if correct < count
        else f"correct    all {count}",
        f"certified  {summary.certified} of {count} ({percent(summary.certified / count)})",
    ]
    if not math.isnan(summary.width):
        shares = percent(radius_statistics(summary.radii)["p50"] / summary.width)
        lines.append(
            f"range      the median radius is {shares} of the valid range of an input, {figure(summary.width)}"
        )
    if bounded is not None:
        how = f"{bounded.method}" + (f" with relaxation {bounded.relaxation}" if bounded.relaxation else "")
        most = f", {_mean(summary.evaluations):.3g} evaluations a sample" if len(summary.evaluations) else ""
        levels = {str(r.verdict.guarantee) for r in records if r.measured and r.measured.lower > 0}
        lines.append(f"bounds     {how}{most}; guarantee: {', '.join(sorted(levels)) or 'none'}")
    total = float(summary.seconds.sum())
    lines.append(f"time       {figure(total / count)} s an image, {figure(total)} s in all, compilation included")
    return lines


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value
