"""Progress of a run: bars and a table on a terminal or in a notebook, plain lines elsewhere, on standard error.

What they say of rates, remaining time and workers is the tally of the run's journal, as ``tfcert status`` reads it.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
from rich.progress import Task as Bar
from rich.table import Table
from rich.text import Text

from tfcert.driver.tally import Tally
from tfcert.report.records import Record
from tfcert.report.table import as_html, record_line

NOTEBOOK_SECONDS = 0.3
"""A notebook's bar is drawn at most this often."""
PLAIN_SECONDS, PLAIN_SHARE, PLAIN_MOST = 10.0, 1 / 30, 300.0
"""Where there is no bar, a line of progress at most this often; of a long run, after this share of its time."""
MOST_BARS = 8
"""Questions that have a bar: those that began last."""
MOST_ROWS = 6
"""Samples that the table shows: the current one and the last ones before it."""

Verbosity = str | int | bool


@dataclass(frozen=True)
class Standing:
    """The state of a solver's search about one sample.

    Attributes:
        sample: its index in the data set.
        lower: what is proven so far: a measure's value, a property's margin; NaN or infinite: nothing.
        upper: what the nearest witness reaches, the same way.
        seconds: what the sample has taken so far.
        outcome: the verdict's; "" while the search goes on.
    """

    sample: int
    lower: float
    upper: float
    seconds: float
    outcome: str = ""

    @property
    def gap(self) -> float:
        """The distance of the two, as a share of ``upper``; NaN where one is missing."""
        known = math.isfinite(self.lower) and math.isfinite(self.upper) and self.upper > 0
        return max(0.0, 1 - self.lower / self.upper) if known else math.nan

    def cells(self) -> tuple[str, ...]:
        """Sample, bound, incumbent, gap, seconds and outcome, as the table shows them."""
        gap = "-" if math.isnan(self.gap) else f"{100 * self.gap:.2g}%"
        ends = (f"{end:.6g}" if math.isfinite(end) else "-" for end in (self.lower, self.upper))
        return (str(self.sample), *ends, gap, f"{self.seconds:.1f}", self.outcome or "...")


Watch = Callable[[Standing], None]
"""Is told whenever a solver begins with a sample or knows more about it."""


class NotebookLive:
    """What ``rich.live.Live`` is to a terminal, for a notebook: one output of the cell, which is drawn over.

    It needs no widgets, and leaves nothing behind.
    """

    def __init__(self, get_renderable: Callable[[], RenderableType]):
        self._shown, self._handle, self._drawn = get_renderable, None, 0.0

    def start(self) -> None:
        from IPython.display import HTML, display

        self._handle = display(HTML(""), display_id=True)

    def stop(self) -> None:
        self._draw("")

    def refresh(self) -> None:
        """Draws what there is to show, at most so often that it costs nothing."""
        if time.monotonic() - self._drawn > NOTEBOOK_SECONDS:
            self._drawn = time.monotonic()
            self._draw(as_html([self._shown()], 100))

    def _draw(self, text: str) -> None:
        from IPython.display import HTML

        if self._handle is not None:
            self._handle.update(HTML(text))


def in_notebook() -> bool:
    """Tells whether this runs in a kernel, whose standard error is no terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class _Pace(ProgressColumn):
    """How fast a question goes, and when it will be done."""

    def __init__(self, narrator: Narrator):
        super().__init__()
        self._narrator = narrator

    def render(self, task: Bar) -> Text:
        """The words of its tally."""
        question = self._narrator.tally.questions.get(task.fields["question"])
        return Text("" if question is None else question.words(time.time()), "dim")


class Narrator:
    """Tells how far a run is. ``verbose``: "auto" or True; 0 or False for silence; 2 for a line a sample and change.

    Attributes:
        tally: what the run's records add up to: that of its journal, where it follows one.
    """

    def __init__(self, verbose: Verbosity = "auto"):
        self._level = 1 if verbose == "auto" else int(verbose)
        self._console = Console(stderr=True, highlight=False, force_jupyter=False)
        self._name, self._what = "", ""
        self.tally, self._follows = Tally(), False
        self._began = self._said = self._told = time.monotonic()
        self._rows: tuple[Standing, ...] = ()
        self._bar: Progress | None = None
        self._live: Live | NotebookLive | None = None
        if self._level and (sys.stderr.isatty() or in_notebook()):
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Pace(self))
            self._bar = Progress(*columns, console=self._console)
            if in_notebook():
                self._live = NotebookLive(self._shown)
            else:
                self._live = Live(get_renderable=self._shown, console=self._console, transient=True)

    def __enter__(self) -> Narrator:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def _changed(self) -> None:
        """There is something new to show, which a terminal's thread sees by itself."""
        if isinstance(self._live, NotebookLive):
            self._live.refresh()

    def follow(self, tally: Tally) -> None:
        """Tells what a journal adds up to, from now on."""
        self.tally, self._follows = tally, True

    def say(self, sentence: str) -> None:
        """One line, unless silent."""
        if self._level:
            self._console.print(sentence, markup=False, soft_wrap=True)

    def begin(self, name: str, total: int, done: int = 0, what: str = "") -> None:
        """A property or measure begins.

        Args:
            name: its name.
            total: its samples, ``done`` of which are known from an earlier run.
            what: the values that a solver narrows, and their space.
        """
        self._name, self._what, self._rows = name, what, ()
        self.tally.ask(name, total)
        if self._bar is not None:
            for old in self._bar.task_ids[: 1 - MOST_BARS]:
                self._bar.remove_task(old)
            self._bar.add_task(name, total=total, completed=done, question=name)
            self._changed()
        elif done:
            self.say(f"{name}: {done} of {total} taken from the journal")

    @contextlib.contextmanager
    def preparing(self, stage: str) -> Iterator[None]:
        """Shows, within the context, that a stage is prepared."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[-1], description=f"{self._name}: preparing {stage}")
            self._changed()
        elif self._level > 1:
            self.say(f"{self._name}: preparing {stage}")
        try:
            yield
        finally:
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[-1], description=self._name)

    def watch(self, standing: Standing) -> None:
        """A solver begins with a sample, or knows more about it."""
        before, self._told = self._row(standing.sample), time.monotonic()
        self._put(standing)
        self._changed()
        if self._level > 1 and (before is None or before.cells()[1:3] != standing.cells()[1:3]):
            self.say(self._line(standing))
        elif self._level == 1 and self._bar is None and self._told - self._said > self._patience():
            self._said = self._told
            self.say(self._line(standing))

    def advance(self, record: Record) -> None:
        """One more sample is decided."""
        if not self._follows:
            self.tally.answer(record.as_json(), time.time())
        if self._row(record.sample) is not None:
            self._put(_settled(record))
        if self._bar is not None:
            for bar in self._bar.tasks:
                if bar.fields["question"] == record.property:
                    self._bar.advance(bar.id)
            self._changed()
        question = self.tally.ask(record.property, 0)
        if self._level > 1:
            self.say(record_line(record))
        elif self._bar is None and (question.over or time.monotonic() - self._said > self._patience()):
            self._said = time.monotonic()
            more = ", ".join(filter(None, (question.words(time.time()), self.tally.words())))
            self.say(f"{record.property}: {question.done} of {question.asked}{more and f' ({more})'}")

    def _patience(self) -> float:
        """The seconds between two lines of progress: a day's log has few hundred of them."""
        return min(max(PLAIN_SECONDS, PLAIN_SHARE * (time.monotonic() - self._began)), PLAIN_MOST)

    def _row(self, sample: int) -> Standing | None:
        return next((row for row in self._rows if row.sample == sample), None)

    def _put(self, standing: Standing) -> None:
        """Replaces the sample's row, or appends one; the rows are a new tuple, since another thread draws them."""
        others = tuple(row for row in self._rows if row.sample != standing.sample)
        self._rows = (*others, standing)[-MOST_ROWS:]

    def _line(self, standing: Standing) -> str:
        _, lower, upper, gap, seconds, _ = standing.cells()
        return f"{self._name}[{standing.sample}]: bound {lower}, incumbent {upper}, gap {gap}, {seconds} s"

    def _shown(self) -> RenderableType:
        """The bar and, once a solver works, the table above it; the current sample's seconds go on."""
        assert self._bar is not None
        workers = [Text(self.tally.words(), "dim")] if self.tally.alive else []
        if not self._rows:
            return Group(self._bar, *workers) if workers else self._bar
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"{self._name}: {self._what}", title_justify="left")
        for name in ("sample", "bound", "incumbent", "gap", "seconds", "outcome"):
            table.add_column(name, justify="left" if name == "outcome" else "right", no_wrap=True)
        for row in self._rows:
            waited = 0.0 if row.outcome else time.monotonic() - self._told
            table.add_row(*replace(row, seconds=row.seconds + waited).cells())
        return Group(table, self._bar, *workers)


def _settled(record: Record) -> Standing:
    """The last row of a sample: of a property its margin, proven or reached by the witness."""
    lower, upper = math.nan, math.nan
    if record.measured is not None:
        lower, upper = record.measured.lower, record.measured.upper
    elif record.witness is None:
        lower = record.verdict.margin
    else:
        upper = record.verdict.margin
    return Standing(record.sample, lower, upper, record.verdict.seconds, str(record.outcome))
