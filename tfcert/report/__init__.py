"""Records, tables, JSON and pictures of runs."""

from tfcert.errors import ExitCode
from tfcert.report.changes import Change, QuestionChange
from tfcert.report.difference import RunDifference, diff
from tfcert.report.records import Asked, Measured, Record
from tfcert.report.result import Judged, Report
from tfcert.report.summary import MeasureSummary, PropertySummary, summarize_measure, summarize_property

__all__ = [
    "Asked",
    "Change",
    "ExitCode",
    "Judged",
    "MeasureSummary",
    "Measured",
    "PropertySummary",
    "QuestionChange",
    "Record",
    "Report",
    "RunDifference",
    "diff",
    "summarize_measure",
    "summarize_property",
]  # fmt: skip
