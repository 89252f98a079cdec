"""What ``tfcert diff`` prints: a line a question, and the answers that changed."""

from __future__ import annotations

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tfcert.report.difference import DIRECTIONS, QuestionChange, RunDifference
from tfcert.report.table import figure
from tfcert.showing import counted

MOST_CHANGES = 40
"""Answers that are told one by one."""
_STYLES = {"worse": "red", "gone": "red", "changed": "yellow", "new": "cyan", "better": "green"}


def difference_parts(found: RunDifference, most: int = MOST_CHANGES) -> list[RenderableType]:
    """The parts that a terminal shows: questions, answers that changed, assertions, notes."""
    parts: list[RenderableType] = [_questions(found)]
    if found.changes and most:
        parts.append(_changes(found, most))
    left = len(found.changes) - min(most, len(found.changes))
    if left:
        parts.append(Text(f"and {left} more: --all shows them", "dim"))
    parts += [Text(f"{text}: {old} -> {new}", "bold") for text, old, new in found.judged]
    parts += [Text(f"note: {note}", "dim") for note in found.notes]
    return parts


def difference_line(found: RunDifference) -> str:
    """The conclusion in one sentence."""
    counts = {d: sum(c.direction == d for c in found.changes) for d in DIRECTIONS}
    said = ", ".join(f"{n} {d}" for d, n in counts.items() if n) or "no answer changed"
    word = "something got worse" if found.worse else "nothing got worse"
    compared = counted(sum(q.compared for q in found.questions), "answer")
    return f"{word} (exit code {int(found.exit_code)}): {said}; {compared} compared"


def _questions(found: RunDifference) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("question", overflow="fold")
    for name in ("compared", "same", *DIRECTIONS, "median\nbefore", "median\nnow"):
        table.add_column(name, justify="right", no_wrap=True)
    for question in found.questions:
        counts = question.counts
        cells = [Text(str(counts[d]), _STYLES[d] if counts[d] else "dim") for d in DIRECTIONS]
        table.add_row(Text(question.name), str(question.compared), str(question.same), *cells, *_medians(question))
    return table


def _medians(question: QuestionChange) -> list[str]:
    """Of what is proven of a measure, or of proven margins."""
    pair = question.radii or question.margins
    return ["-", "-"] if pair is None else [figure(value) for value in pair]


def _changes(found: RunDifference, most: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("question", "sample", "", "what", "before", "now"):
        table.add_column(name, overflow="fold", justify="right" if name == "sample" else "left")
    for change in found.changes[:most]:
        table.add_row(
            Text(change.property),
            str(change.sample),
            Text(change.direction, _STYLES[change.direction]),
            change.what,
            change.old or "-",
            change.new or "-",
        )
    return table
