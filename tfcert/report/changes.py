"""What changed between two results, and its tables: a line a question, and the answers that changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from tfcert.report.records import Json, number
from tfcert.report.table import figure

DIRECTIONS = ("worse", "gone", "changed", "new", "better")
MOST_CHANGES = 40
"""Answers that are told one by one."""
_STYLES = {"worse": "red", "gone": "red", "changed": "yellow", "new": "cyan", "better": "green"}


@dataclass(frozen=True)
class Change:
    """The answer of one question about one sample, which is another one now.

    Attributes:
        property, sample: the question.
        direction: ``worse``, ``better``, ``new``, ``gone`` (there is no answer any more), or ``changed``: neither.
        what: what changed: ``outcome``, ``guarantee``, ``radius``, ``share``, or another quantity.
        old, new: what was and is said; "" where there is nothing.
    """

    property: str
    sample: int
    direction: str
    what: str
    old: str
    new: str

    def as_json(self) -> Json:
        """The flat form."""
        return {name: getattr(self, name) for name in ("property", "sample", "direction", "what", "old", "new")}


@dataclass(frozen=True)
class QuestionChange:
    """One property or measure, over all samples.

    Attributes:
        name: of the question.
        compared: samples that both runs have an answer for.
        counts: changes by direction.
        outcomes: how many went from one outcome to another: ``{"verified -> unknown": 2}``.
        margins: the median of the margins that were proven before and are now, of samples with both; None without any.
        lowest: the largest fall of one of them (0: none fell).
        radii: the same two medians of what is proven of a measure, NaN counting as 0; None of a property.
    """

    name: str
    compared: int
    counts: Mapping[str, int]
    outcomes: Mapping[str, int]
    margins: tuple[float, float] | None = None
    lowest: float = 0.0
    radii: tuple[float, float] | None = None

    @property
    def same(self) -> int:
        """Samples of both runs whose answer did not change."""
        return self.compared - sum(self.counts[key] for key in ("worse", "changed", "better"))

    def as_json(self) -> Json:
        """The flat form."""
        medians = {
            name: None if pair is None else {"old": number(pair[0]), "new": number(pair[1])}
            for name, pair in (("median_margin", self.margins), ("median_proven", self.radii))
        }
        said = {"name": self.name, "compared": self.compared, "same": self.same, **self.counts}
        return said | {"outcomes": dict(self.outcomes), **medians, "largest_fall_of_a_margin": number(self.lowest)}


def questions_table(questions: Sequence[QuestionChange]) -> Table:
    """A line a question."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("question", overflow="fold")
    for name in ("compared", "same", *DIRECTIONS, "median\nbefore", "median\nnow"):
        table.add_column(name, justify="right", no_wrap=True)
    for question in questions:
        counts = question.counts
        cells = [Text(str(counts[d]), _STYLES[d] if counts[d] else "dim") for d in DIRECTIONS]
        table.add_row(Text(question.name), str(question.compared), str(question.same), *cells, *_medians(question))
    return table


def _medians(question: QuestionChange) -> list[str]:
    """Of what is proven of a measure, or of proven margins."""
    pair = question.radii or question.margins
    return ["-", "-"] if pair is None else [figure(value) for value in pair]


def changes_table(changes: Sequence[Change]) -> Table:
    """A line an answer."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("question", "sample", "", "what", "before", "now"):
        table.add_column(name, overflow="fold", justify="right" if name == "sample" else "left")
    for change in changes:
        table.add_row(
            Text(change.property),
            str(change.sample),
            Text(change.direction, _STYLES[change.direction]),
            change.what,
            change.old or "-",
            change.new or "-",
        )
    return table
