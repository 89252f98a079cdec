"""The runs of one or several specifications, as reports for other programs tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfcert.errors import ExitCode
from tfcert.report.result import Judged, Report

WORST = (
    ExitCode.INTERNAL_ERROR, ExitCode.USAGE_ERROR, ExitCode.INTERRUPTED, ExitCode.FAIL, ExitCode.INCONCLUSIVE,
    ExitCode.NOTHING_TO_CHECK, ExitCode.PASS,
)  # fmt: skip
"""Exit codes, the worst first: that of several runs is the first of these that one of them has."""


@dataclass(frozen=True)
class SpecRun:
    """One of several specifications, and what came of it: a report, or the sentences that say why there is none."""

    path: Path
    report: Report | None
    error: str = ""

    @property
    def exit_code(self) -> ExitCode:
        """The run's own exit code; that of a usage error without a report."""
        return ExitCode.USAGE_ERROR if self.report is None else self.report.exit_code

    @property
    def judged(self) -> tuple[Judged, ...]:
        """Its assertions and properties, with what came of them."""
        return () if self.report is None else self.report.judged

    @property
    def outcome(self) -> str:
        """The exit code in words."""
        return self.exit_code.words


def worst(codes: Sequence[ExitCode]) -> ExitCode:
    """The exit code of several runs: the worst of theirs."""
    return min(codes, key=WORST.index, default=ExitCode.NOTHING_TO_CHECK)
