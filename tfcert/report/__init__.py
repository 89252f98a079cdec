"""What a run shows and writes: records, tables, JSON and pictures."""

from tfcert.report.records import Asked, Measured, Record
from tfcert.report.result import ExitCode, Judged, Report
from tfcert.report.summary import MeasureSummary, PropertySummary, summarize_measure, summarize_property

__all__ = [
    "Asked",
    "ExitCode",
    "Judged",
    "MeasureSummary",
    "Measured",
    "PropertySummary",
    "Record",
    "Report",
    "summarize_measure",
    "summarize_property",
]  # fmt: skip
