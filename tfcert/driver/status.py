"""``tfcert status``: how far a run is that is going on elsewhere, read from its journal alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tfcert.driver.folder import being_written
from tfcert.driver.journal import FILE_NAME, JournalTail
from tfcert.driver.tally import QuestionTally, Tally, duration, speed
from tfcert.errors import JournalError
from tfcert.report.records import Json, Record, number
from tfcert.report.table import render
from tfcert.showing import counted

GOING_ON, INTERRUPTED, FINISHED = "going on", "interrupted", "finished"


class Follower:
    """Follows the journal of a run; each look reads what was added since the last one.

    Args:
        folder: of the run.

    Attributes:
        header: of the run.
        tally: what its lines add up to.

    Raises:
        JournalError: no run was begun there, or its journal is damaged; from :meth:`records`, too.
    """

    def __init__(self, folder: str | Path):
        self.path = Path(folder) / FILE_NAME
        if not self.path.is_file():
            there = Path(folder).is_dir()
            raise JournalError(f"{folder} has no {FILE_NAME}" if there else f"there is no folder {folder}")
        self._tail, self._inode = JournalTail(self.path), self.path.stat().st_ino
        self.header, self.tally = self._tail.header, Tally()

    def look(self) -> None:
        """Adds what was written since the last look."""
        for line in self._tail.more():
            self.tally.take(line)

    def records(self) -> Iterator[Record]:
        """Does the same, and gives the records that are new."""
        for record, line in self._tail.records():
            self.tally.take(line)
            if record is not None:
                yield record

    @property
    def current(self) -> bool:
        """Tells whether the journal is still the one that was begun with: another run may have taken the folder."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return False
        return stat.st_ino == self._inode and stat.st_size >= self._tail.offset

    @property
    def state(self) -> str:
        """Whether the run goes on, was interrupted, or came to its end."""
        if being_written(self.path):
            return GOING_ON
        return FINISHED if self.tally.finished else INTERRUPTED


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Attributes:
        folder: of the run.
        state: ``going on``, ``interrupted`` or ``finished``.
        tally: what its journal adds up to.
        now: the time that it is told for, in seconds of the clock.
    """

    folder: Path
    state: str
    tally: Tally
    now: float

    @property
    def time(self) -> float:
        """The time up to which rates count: now, or the last record of a run that does not go on."""
        return self.now if self.state == GOING_ON else self.tally.last

    @property
    def remaining(self) -> float:
        """The seconds that all begun questions still take at their rates, one after the other; NaN: not known."""
        return sum(q.remaining(self.time) for q in self._open if q.here) if self._open else 0.0

    @property
    def _open(self) -> list[QuestionTally]:
        return [q for q in self.tally.questions.values() if not q.over]

    @property
    def slowest(self) -> QuestionTally | None:
        """The question whose slowest sample took longest."""
        return max(self.tally.questions.values(), key=lambda q: q.slowest[1], default=None)

    def as_json(self) -> Json:
        """All of it as JSON holds it; null where something is not known."""
        slowest = self.slowest
        return {
            "folder": str(self.folder),
            "state": self.state,
            "writer": dict(self.tally.writer),
            "age": number(self.now - self.tally.last),
            "remaining": number(self.remaining) if self.state == GOING_ON else None,
            "slowest": None if slowest is None or slowest.slowest[0] < 0
            else {"property": slowest.name, "sample": slowest.slowest[0], "seconds": slowest.slowest[1]},
            "questions": [
                {
                    "property": q.name,
                    "asked": q.asked or None,
                    "done": q.done,
                    "undecided": q.undecided,
                    "outcomes": dict(sorted(q.outcomes.items())),
                    "rate": number(q.rate(self.time)),
                    "remaining": number(q.remaining(self.time)),
                    "seconds": round(q.seconds, 6),
                }
                for q in self.tally.questions.values()
            ],
            "alive": self.tally.alive or None,
            "workers": [
                {"worker": name, "done": done, "age": number(self.now - last)}
                for name, (done, last) in sorted(self.tally.workers.items())
            ],
        }  # fmt: skip

    def tables(self) -> list[RenderableType]:
        """A line a question, and one a worker."""
        table = _table("question", "done", "decided", "undecided", "rate", "left", "slowest sample")
        for q in self.tally.questions.values():
            rate, left = q.rate(self.time), q.remaining(self.time)
            slowest = f"{q.slowest[0]}: {duration(q.slowest[1])}" if q.done else "-"
            table.add_row(
                Text(q.name), f"{q.done} of {q.asked}" if q.asked else str(q.done), str(q.done - q.undecided),
                str(q.undecided), _known(rate, speed), "-" if q.over else _known(left, duration), slowest,
            )  # fmt: skip
        tables: list[RenderableType] = [table]
        if self.tally.workers:
            workers = _table("worker", "done", "last answer")
            for name, (done, last) in sorted(self.tally.workers.items()):
                workers.add_row(Text(name), str(done), f"{duration(max(0.0, self.now - last))} ago")
            tables.append(workers)
        return tables

    def sentence(self) -> str:
        """The state of the run, who writes it, and how old its last answer is."""
        writer = self.tally.writer
        said = f"{self.folder}: {self.state}"
        if self.state == GOING_ON and writer:
            said += f", by process {writer['pid']} on {writer['host']}"
            said += f" with {self.tally.words()}" if self.tally.alive else ""
        if not math.isnan(self.tally.last):
            said += f"; the last answer is {duration(max(0.0, self.now - self.tally.last))} old"
        waiting = sum(not q.done for q in self._open)
        if self.state == GOING_ON and self.remaining > 0:
            said += f"; about {duration(self.remaining)} left"
            said += f", and {counted(waiting, 'question')} not begun" if waiting else ""
        return f"{said}; --resume {self.folder} goes on with it" if self.state == INTERRUPTED else said

    def __str__(self) -> str:
        return f"{render(self.tables())}\n{self.sentence()}"


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _known(value: float, words: Callable[[float], str]) -> str:
    return words(value) if math.isfinite(value) else "-"
