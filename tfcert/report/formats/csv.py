"""A line for each answer, as spreadsheets read them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from tfcert.report.flat import flat_records
from tfcert.report.runs import SpecRun


def csv_text(runs: Sequence[SpecRun]) -> str:
    """All records; ``specification`` names theirs. What is not known is empty."""
    lines = [
        {"specification": str(run.path)} | flat
        for run in runs
        if run.report is not None
        for flat in flat_records(run.report.records)
    ]
    stream = io.StringIO()
    columns = dict.fromkeys(name for line in lines for name in line)
    writer = csv.DictWriter(stream, list(columns) or ["specification"], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()
