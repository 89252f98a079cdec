"""The result that a run hands back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from rich.console import RenderableType
from rich.text import Text

from tfcert.errors import ExitCode
from tfcert.report.flat import data_frame
from tfcert.report.json import result_text, write_result
from tfcert.report.records import Json, Record
from tfcert.report.summary import (
    MeasureSummary,
    PropertySummary,
    by_question,
    summarize_measure,
    summarize_property,
)
from tfcert.report.table import PLAIN_WIDTH, as_html, effort_line, measure_tables, property_tables, render
from tfcert.showing import counted

Summary = TypeVar("Summary", PropertySummary, MeasureSummary)


@dataclass(frozen=True)
class Judged:
    """One assertion, or one property that no assertion names, and what came of it (pass, fail, inconclusive).

    ``line`` is where it stands in the specification, from 1; 0 where that is not known.
    """

    text: str
    judgement: str
    line: int = 0


@dataclass(frozen=True)
class Report:
    """The records of a run, what they amount to, and where they were written.

    Attributes:
        header: versions, hashes and parameters, as in the JSON.
        records: one a property and sample, property by property in the order of the specification.
        exit_code: what the command line exits with.
        properties, measures: names in the order of the specification.
        judged: assertions and unasserted properties.
        notes: sentences for the reader (a softmax that was peeled off, pictures that were skipped).
        folder: where journal, witnesses and pictures are; None if nothing was written.
        asked: how many samples each property and measure asks about; after Ctrl-C there may be fewer records.
        conclusion: what was found, where the run judges nothing and so neither passes nor fails.
    """

    header: Json
    records: tuple[Record, ...]
    exit_code: ExitCode
    properties: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()
    judged: tuple[Judged, ...] = ()
    notes: tuple[str, ...] = ()
    folder: Path | None = field(default=None, compare=False)
    asked: Mapping[str, int] = field(default_factory=dict, compare=False)
    conclusion: str = ""

    def save_json(self, path: str | Path) -> None:
        """Writes ``{"header": ..., "records": ...}``."""
        write_result(path, self.header, self.records)

    def json_text(self) -> str:
        """What :meth:`save_json` writes."""
        return result_text(self.header, self.records)

    def to_dataframe(self) -> Any:
        """The records as a ``pandas.DataFrame``: a row each, with the columns of ``tfcert report --csv``.

        Raises:
            UsageError: pandas is not installed.
        """
        return data_frame(self.records)

    def summary(self, name: str) -> PropertySummary | MeasureSummary:
        """The counts of a property or the radii of a measure.

        Raises:
            KeyError: the specification has neither of that name.
        """
        if name in self.properties:
            return summarize_property(name, self.records)
        if name in self.measures:
            return summarize_measure(name, self.records)
        raise KeyError(f"there is no property or measure {name!r}; there are {[*self.properties, *self.measures]}")

    def parts(self, width: int = PLAIN_WIDTH) -> list[RenderableType]:
        """The parts that a terminal of so many columns shows: tables, judgements, notes."""
        shown: list[RenderableType] = []
        mine = by_question(self.records)
        properties = [self._of_all(summarize_property(n, mine.get(n, ()))) for n in self.properties]
        measures = [self._of_all(summarize_measure(n, mine.get(n, ()))) for n in self.measures]
        shown += property_tables(properties, width) if properties else []
        shown += measure_tables(measures) if measures else []
        setup = self.header.get("setup_seconds", {})
        summaries: list[PropertySummary | MeasureSummary] = [*properties, *measures]
        efforts = [effort_line(summary, setup.get(summary.name, {})) for summary in summaries]
        shown += [Text(effort, "dim") for effort in efforts if effort]
        styles = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}
        shown += [Text.assemble((f"{j.judgement:<13}", styles[j.judgement]), j.text) for j in self.judged]
        shown += [Text(f"note: {note}", "dim") for note in self.notes]
        return shown

    def _of_all(self, summary: Summary) -> Summary:
        """A summary that knows how many samples were asked about, where an interrupted run has fewer."""
        return replace(summary, asked=self.asked.get(summary.name, 0))

    def last_line(self) -> str:
        """The outcome of the run in one sentence."""
        where = f"; results in {self.folder}" if self.folder is not None else ""
        if self.conclusion and self.exit_code is ExitCode.PASS:
            return f"{self.conclusion}{where}"
        conclusion = self.conclusion or counted(len(self.records), "verdict")
        return f"{self.exit_code.words} (exit code {int(self.exit_code)}), {conclusion}{where}"

    def __repr__(self) -> str:
        """One line; ``print`` shows the tables."""
        asked = ", ".join([*self.properties, *self.measures])
        return f"{type(self).__name__} of {asked or 'nothing'}: {self.last_line()}"

    def __str__(self) -> str:
        return "\n".join(filter(None, [render(self.parts()), self.last_line()]))

    def _repr_html_(self) -> str:
        """What notebooks show: the tables that ``print`` shows, in colour."""
        return as_html([*self.parts(), Text(self.last_line())])
