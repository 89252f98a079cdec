"""Records, tables, JSON and pictures of runs."""

from tfcert.errors import ExitCode
from tfcert.report.difference import Change, Difference, QuestionChange, diff
from tfcert.report.records import Asked, Measured, Record
from tfcert.report.result import Judged, Report
from tfcert.report.summary import MeasureSummary, PropertySummary, summarize_measure, summarize_property

__all__ = [
    "Asked",
    "Change",
    "Difference",
    "ExitCode",
    "Judged",
    "MeasureSummary",
    "Measured",
    "PropertySummary",
    "QuestionChange",
    "Record",
    "Report",
    "diff",
    "summarize_measure",
    "summarize_property",
]  # fmt: skip
