"""What the lines of a journal add up to: how far each question is, how fast it goes, who is at work.

One count for all who tell of it: the bars and lines of a run, and ``tfcert status`` of one that is going on elsewhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tfcert.showing import counted
from tfcert.verdict import Outcome

OPEN = (str(Outcome.UNKNOWN), str(Outcome.TIMEOUT))
"""Outcomes that decide nothing."""


@dataclass
class QuestionTally:
    """A property or measure on its way.

    Attributes:
        name: its name.
        asked: its samples; 0 where that is not known.
        outcomes: how many samples have which outcome.
        seconds: what its samples took, all together.
        slowest: the sample that took longest, and its seconds; -1 for none.
        here: the samples since the run was begun or resumed; ``began`` and ``last`` are when the first of them was
            begun and the last one told, in seconds of the clock; NaN for never.
    """

    name: str
    asked: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    slowest: tuple[int, float] = (-1, 0.0)
    here: int = 0
    began: float = math.nan
    last: float = math.nan

    @property
    def done(self) -> int:
        """Samples with an answer."""
        return self.outcomes.total()

    @property
    def undecided(self) -> int:
        """Samples whose answer decides nothing."""
        return sum(self.outcomes[outcome] for outcome in OPEN)

    @property
    def over(self) -> bool:
        """Tells whether all samples have an answer."""
        return 0 < self.asked <= self.done

    def rate(self, now: float) -> float:
        """Samples a second since the run was begun or resumed; NaN as long as there is none."""
        seconds = (self.last if self.over else max(now, self.last)) - self.began
        return self.here / seconds if self.here and seconds > 0 else math.nan

    def remaining(self, now: float) -> float:
        """The seconds that the other samples take at this rate; NaN where it is not known."""
        return (self.asked - self.done) / self.rate(now) if self.asked else math.nan

    def words(self, now: float) -> str:
        """Its rate, the remaining time and the slowest sample, as far as they are known."""
        rate, remaining = self.rate(now), self.remaining(now)
        parts = [] if math.isnan(rate) else [speed(rate)]
        parts += [f"{duration(remaining)} left"] if remaining > 0 else []
        parts += [f"slowest {self.slowest[0]}: {duration(self.slowest[1])}"] if self.slowest[1] >= 1 else []
        return ", ".join(parts)


@dataclass
class Tally:
    """The questions of a run by name, and its workers.

    Attributes:
        workers: what each worker that records name has told: how many samples, and when the last.
        alive: how many workers there are; 0 where nothing says so.
        writer: the process that writes: ``pid``, ``host`` and ``at``, when it began.
        last: when the last record was written, in seconds of the clock; NaN for never.
        finished: whether the run has come to its end.
    """

    questions: dict[str, QuestionTally] = field(default_factory=dict)
    workers: dict[str, tuple[int, float]] = field(default_factory=dict)
    alive: int = 0
    writer: Mapping[str, Any] = field(default_factory=dict)
    last: float = math.nan
    finished: bool = False
    _free: float = math.nan  # when the question before ended, or the run was begun: then the next one begins

    def ask(self, name: str, asked: int) -> QuestionTally:
        """The question of a name, which is asked about so many samples."""
        found = self.questions.setdefault(name, QuestionTally(name))
        found.asked = max(found.asked, asked)
        return found

    def take(self, line: Mapping[str, Any]) -> None:
        """Adds one line of a journal."""
        if "record" in line:
            self.answer(line["record"], line.get("at", math.nan), line.get("worker", ""))
        elif "header" in line:
            asked = line["header"].get("asked")
            for name, count in (asked if isinstance(asked, dict) else {}).items():
                self.ask(name, count)
            self._written_by(line.get("writer") or {})
        elif "resumed" in line:
            self._written_by(line["resumed"])
        elif "workers" in line:
            self.alive = line["workers"]
        elif "finished" in line:
            self.finished, self.alive = True, 0

    def _written_by(self, writer: Mapping[str, Any]) -> None:
        """A run begins, or goes on after a break: what was done before says nothing of its speed."""
        self.writer, self.finished, self.alive, self._free = writer, False, 0, writer.get("at", math.nan)
        self.workers.clear()
        for question in self.questions.values():
            question.here, question.began = 0, math.nan

    def answer(self, flat: Mapping[str, Any], at: float = math.nan, worker: str = "") -> None:
        """Adds one record, as JSON holds it."""
        question = self.ask(flat["property"], 0)
        if not question.here:
            question.began = self._free
        question.outcomes[flat["outcome"]] += 1
        question.seconds += flat["seconds"]
        question.slowest = max(question.slowest, (flat["sample"], flat["seconds"]), key=lambda pair: pair[1])
        question.here, question.last = question.here + 1, at
        self.last = at
        if question.over:
            self._free = at
        if worker:
            self.workers[worker] = self.workers.get(worker, (0, at))[0] + 1, at

    def words(self) -> str:
        """How many workers there are; "" where nothing says so."""
        return counted(self.alive, "worker") if self.alive else ""


def speed(rate: float) -> str:
    """Samples a second, a minute or an hour, whichever is a number above 1."""
    for unit, seconds in (("s", 1), ("min", 60)):
        if rate * seconds >= 1:
            return f"{rate * seconds:{',.0f' if rate >= 100 else '.3g'}}/{unit}"
    return f"{rate * 3600:.2g}/h"


def duration(seconds: float) -> str:
    """A time in words, in its two largest units."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for size, unit, below, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {unit}" + (f" {rest} {part}" if rest else "")
    raise AssertionError(seconds)
