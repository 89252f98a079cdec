"""A line for each answer, as spreadsheets read them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from tfcert.report.flat import flat_record
from tfcert.report.records import Json
from tfcert.report.runs import SpecRun


def csv_text(runs: Sequence[SpecRun]) -> str:
    """All records; ``specification`` names theirs. What is not known is empty."""
    stream = io.StringIO()
    columns = dict.fromkeys(name for line in _lines(runs) for name in line)
    writer = csv.DictWriter(stream, list(columns) or ["specification"], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_lines(runs))
    return stream.getvalue()


def _lines(runs: Sequence[SpecRun]) -> Iterator[Json]:
    """A line a record, one after the other: all of millions would not fit."""
    for run in runs:
        for record in () if run.report is None else run.report.records:
            yield {"specification": str(run.path)} | flat_record(record)
