"""The report of ``tfcert attack``: witnesses, and that an attack without one proves nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rich.console import RenderableType
from rich.text import Text

from tfcert.report.result import Report
from tfcert.report.summary import summarize_property
from tfcert.report.table import PLAIN_WIDTH, attack_table


@dataclass(frozen=True, repr=False)
class AttackReport(Report):
    """A report of one attack on each sample; its only property is ``attack``."""

    def parts(self, width: int = PLAIN_WIDTH) -> list[RenderableType]:
        """Witnesses and accuracies; no column of proofs."""
        if not self.records:
            return [Text("no samples")]
        summary = summarize_property("attack", self.records)
        table = attack_table(replace(summary, asked=self.asked.get("attack", 0)))
        return [table, *(Text(f"note: {note}", "dim") for note in self.notes)]
