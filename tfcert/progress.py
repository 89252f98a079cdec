"""What a run says while it works: a bar on a terminal, plain lines elsewhere; everything on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tfcert.report.records import Record
from tfcert.report.table import record_line

PLAIN_SECONDS = 10.0
"""Where there is no bar, a line of progress at most this often."""

Verbosity = str | int | bool


class Narrator:
    """Tells how far a run is. ``verbose``: "auto" or True; 0 or False for silence; 2 for a line a sample."""

    def __init__(self, verbose: Verbosity = "auto"):
        self._level = 1 if verbose == "auto" else int(verbose)
        self._console = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        if self._level and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
        self._name, self._done, self._total, self._said = "", 0, 0, time.monotonic()

    def __enter__(self) -> Narrator:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, sentence: str) -> None:
        """One line, unless silent."""
        if self._level:
            self._console.print(sentence, markup=False, soft_wrap=True)

    def begin(self, name: str, total: int, done: int = 0) -> None:
        """A property or measure begins; ``done`` samples are known from an earlier run."""
        self._name, self._done, self._total = name, done, total
        if self._bar is not None:
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._bar.add_task(name, total=total, completed=done)
        elif done:
            self.say(f"{name}: {done} of {total} taken from the journal")

    def advance(self, record: Record) -> None:
        """One more sample is decided."""
        self._done += 1
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])
        if self._level > 1:
            self.say(record_line(record))
        elif self._bar is None and (self._done == self._total or time.monotonic() - self._said > PLAIN_SECONDS):
            self._said = time.monotonic()
            self.say(f"{self._name}: {self._done} of {self._total}")
